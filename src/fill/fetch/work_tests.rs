//! Streams of given rates share an object, on a clock that is stepped.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one range is a list of one range"
)]

use super::*;
use crate::clock;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const STEP: Duration = Duration::from_millis(10);
const LOOK_STEPS: u64 = 25;

/// No part of the cap bounds what a source is worth.
const PART: BytesPerSecond = BytesPerSecond(u64::MAX);

/// From a request to its first byte.
const ROUND_TRIP_STEPS: u64 = 3;

/// A source: bytes a second at a step.
type Rate = Box<dyn Fn(u64) -> u64>;

struct Sim {
    work: Work,
    start: Instant,
    step: u64,
    sources: Vec<Source>,
    /// Times that each chunk was claimed.
    claimed: Vec<u32>,
    wasted: u64,
}

struct Source {
    rate: Rate,
    piece: Option<Range<u64>>,
    at: u64,
    /// Of the chunk on its way, and of the answer.
    here: u64,
    read: u64,
    starts: u64,
    is_dropped: bool,
    given: u64,
}

fn steady(rate: u64) -> Rate {
    Box::new(move |_| rate)
}

impl Sim {
    fn new(length: u64, rates: Vec<Rate>) -> Self {
        let missing = 0..length;
        let sources = rates.into_iter().map(|rate| Source {
            rate,
            piece: None,
            at: 0,
            here: 0,
            read: 0,
            starts: 0,
            is_dropped: false,
            given: 0,
        });
        let sources: Vec<Source> = sources.collect();
        Self {
            work: Work::new(length, &[missing], sources.len(), PART),
            start: clock::now(),
            step: 0,
            sources,
            claimed: vec![0; usize::try_from(length.div_ceil(CHUNK_BYTES)).unwrap()],
            wasted: 0,
        }
    }

    fn now(&self) -> Instant {
        self.start + STEP * u32::try_from(self.step).unwrap()
    }

    /// Seconds until all is there; none after an hour.
    fn run(&mut self) -> Option<f64> {
        while !self.work.is_done() {
            self.step += 1;
            if self.step > 360_000 {
                return None;
            }
            for number in 0..self.sources.len() {
                self.stream(number);
            }
        }
        assert!(self.claimed.iter().all(|times| *times == 1));
        Some((self.now() - self.start).as_secs_f64())
    }

    fn stream(&mut self, number: usize) {
        let (now, step) = (self.now(), self.step);
        let source = &mut self.sources[number];
        if source.is_dropped {
            return;
        }
        let Some(piece) = source.piece.clone() else {
            if let Turn::Take(piece) = self.work.take(now, number) {
                source.at = piece.start;
                source.piece = Some(piece);
                (source.here, source.read) = (0, 0);
                source.starts = step + ROUND_TRIP_STEPS;
            }
            return;
        };
        if step < source.starts {
            return;
        }
        let tempo = self.work.tempo(number).unwrap();
        if step == source.starts {
            tempo.flow(now, 0, Duration::ZERO);
        }
        let came = (source.rate)(step) / 100;
        (source.here, source.read) = (source.here + came, source.read + came);
        while source.piece.is_some() {
            let bytes = self.work.bytes(&(source.at..source.at + 1));
            let size = bytes.end - bytes.start;
            if source.here < size {
                break;
            }
            source.here -= size;
            self.work.note(now, number, source.read, Duration::ZERO);
            if self.work.claim(number, source.at) {
                self.claimed[usize::try_from(source.at).unwrap()] += 1;
                source.given += size;
                self.work.written();
            } else {
                self.wasted += size;
            }
            source.at += 1;
            if source.at == piece.end || !self.work.holds(number, source.at) {
                // Nothing comes behind the end of what was asked for.
                if source.at < piece.end {
                    self.wasted += source.here;
                }
                source.here = 0;
                source.piece = None;
                self.work.tempo(number).unwrap().end();
            }
        }
        if step.is_multiple_of(LOOK_STEPS) && source.piece.is_some() {
            self.work.note(now, number, source.read, Duration::ZERO);
            let is_slow = self.work.far_below(number).is_some();
            if !self.work.holds(number, source.at) || is_slow {
                self.wasted += source.here;
                (source.piece, source.here) = (None, 0);
            }
            if is_slow {
                source.is_dropped = true;
                self.work.give_up(number);
            } else if source.piece.is_none() {
                self.work.tempo(number).unwrap().end();
            }
        }
    }
}

#[test]
fn two_quick_sources_and_a_slow_one_take_no_longer_than_the_quick_two() {
    let rates = vec![steady(4 * MIB), steady(4 * MIB), steady(4 * MIB / 10)];
    let mut sim = Sim::new(128 * MIB, rates);
    let took = sim.run().unwrap();
    assert!(took <= 16.0 * 1.1, "{took} s");
    assert!(sim.sources[2].is_dropped);
    assert!(sim.wasted <= 2 * CHUNK_BYTES, "{} bytes twice", sim.wasted);
}

#[test]
fn equal_sources_give_equal_shares_and_nothing_twice() {
    let rates = vec![steady(MIB), steady(MIB), steady(MIB)];
    let mut sim = Sim::new(96 * MIB, rates);
    let took = sim.run().unwrap();
    assert!(took <= 32.0 * 1.1, "{took} s");
    assert_eq!(sim.wasted, 0);
    for source in &sim.sources {
        assert!(
            (28 * MIB..36 * MIB).contains(&source.given),
            "{}",
            source.given
        );
    }
}

#[test]
fn where_all_are_slow_nobody_is_dropped() {
    let rates = vec![steady(30_000), steady(40_000), steady(25_000)];
    let mut sim = Sim::new(32 * MIB, rates);
    let took = sim.run().unwrap();
    let ideal = (32 * MIB) as f64 / 95_000.0;
    assert!(took <= ideal * 1.15, "{took} s of {ideal}");
    assert!(sim.sources.iter().all(|source| !source.is_dropped));
}

#[test]
fn one_that_falls_silent_holds_up_nothing() {
    let silent: Rate = Box::new(|step| if step < 400 { 4 * MIB } else { 0 });
    let mut sim = Sim::new(128 * MIB, vec![silent, steady(4 * MIB), steady(4 * MIB)]);
    let took = sim.run().unwrap();
    // 16 MiB of the first, and the rest of two.
    assert!(took <= 14.0 * 1.1 + 1.0, "{took} s");
    assert!(sim.wasted <= 2 * CHUNK_BYTES, "{} bytes twice", sim.wasted);
}

#[test]
fn those_who_are_done_before_their_rate_is_known_take_over_from_one_that_never_began() {
    let rates = vec![steady(13_107_200), steady(9_532_600), steady(0)];
    let mut sim = Sim::new(32 * CHUNK_BYTES, rates);
    let took = sim.run().expect("it never ends");
    assert!(took < 3.0, "{took} s");
}

#[test]
fn what_a_source_leaves_is_anothers() {
    let mut work = Work::new(10 * CHUNK_BYTES, &[0..10 * CHUNK_BYTES], 2, PART);
    let now = clock::now();
    assert_eq!(work.take(now, 0), Turn::Take(0..4));
    assert_eq!(work.take(now, 1), Turn::Take(4..8));
    assert!(work.claim(0, 0) && !work.claim(0, 0) && !work.claim(0, 5));
    assert!(!work.written());
    work.give_up(0);
    assert!(!work.holds(0, 1) && !work.claim(0, 1));
    assert_eq!(work.take(now, 0), Turn::Take(1..4), "in order");
    assert_eq!(work.take(now, 1), Turn::Take(8..10));
    // The first of the two pieces is nobody's then, which no caller does; it is not lost sight of.
    assert_eq!(work.bytes(&(8..10)), 8 * CHUNK_BYTES..10 * CHUNK_BYTES);
    assert_eq!(work.take(now, 0), Turn::Wait, "nobody's rate is known");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_rates_each_chunk_is_claimed_once_and_in_time(
        rates in proptest::collection::vec(50_000_u64..20_000_000, 1..=4),
        chunks in 32_u64..400,
        odd in 0_u64..CHUNK_BYTES,
        fails in 0_u64..4_000,
    ) {
        let length = chunks * CHUNK_BYTES + odd;
        let all: u64 = rates.iter().sum();
        let best = rates.iter().copied().max().unwrap();
        let mut list: Vec<Rate> = rates.iter().map(|rate| steady(*rate)).collect();
        // One more, which gives nothing from some moment on.
        list.push(Box::new(move |step| if step < fails { best } else { 0 }));
        let mut sim = Sim::new(length, list);
        let took = sim.run();
        prop_assert!(took.is_some(), "it never ends");
        // Those that are dropped would have brought less than a quarter each.
        let alone = length as f64 / best as f64;
        let together = length as f64 / all as f64;
        let took = took.unwrap();
        prop_assert!(took <= alone * 1.25 + 8.0, "{took} s, {alone} s of the best alone");
        prop_assert!(took <= together * 2.5 + 8.0, "{took} s, {together} s of all");
        let most = (rates.len() as u64 + 1) * 3 * CHUNK_BYTES;
        prop_assert!(sim.wasted <= most, "{} bytes twice", sim.wasted);
    }
}

#[test]
fn a_source_that_has_a_part_gives_that_part_and_no_chunk_twice() {
    let mut work = Work::new(20 * CHUNK_BYTES, &[0..20 * CHUNK_BYTES], 2, PART);
    let now = clock::now();
    assert_eq!(work.take(now, 0), Turn::Take(0..4));
    // Half a chunk is none, and what another holds is not free.
    let held = [
        CHUNK_BYTES / 2..6 * CHUNK_BYTES,
        9 * CHUNK_BYTES..12 * CHUNK_BYTES + 7,
    ];
    assert!(!work.limit(1, &held));
    assert_eq!(work.take(now, 1), Turn::Take(4..6));
    assert!(work.claim(1, 4) && work.claim(1, 5));
    assert_eq!(work.take(now, 1), Turn::Take(9..12));
    assert_eq!(work.take(now, 0), Turn::Take(6..9));
    assert_eq!(work.take(now, 1), Turn::Through);
    assert_eq!(work.take(now, 0), Turn::Take(12..16));
    let last = 19 * CHUNK_BYTES..20 * CHUNK_BYTES;
    assert!(!work.limit(1, &[last]));
    assert!(work.limit(1, &[]));
}

#[test]
fn what_comes_back_is_one_piece_with_its_neighbours() {
    let mut work = Work::new(20 * CHUNK_BYTES, &[0..20 * CHUNK_BYTES], 2, PART);
    let now = clock::now();
    for part in [4..6, 9..12, 4..6, 0..3, 18..20] {
        let held = part.start * CHUNK_BYTES..part.end * CHUNK_BYTES;
        assert!(!work.limit(1, &[held]));
        assert_eq!(work.take(now, 1), Turn::Take(part));
    }
    assert_eq!(work.free, [0..18]);
    work.give_up(1);
    assert_eq!(work.free, [0..20]);
    assert_eq!(work.take(now, 0), Turn::Take(0..4));
    assert_eq!(work.take(now, 1), Turn::Take(4..8));
    work.give_up(0);
    assert_eq!(work.free, [0..4, 8..20]);
    work.give_up(1);
    assert_eq!(work.free, [0..20]);
}

#[test]
fn a_piece_that_waits_for_turns_alone_is_not_taken_over() {
    for (blocked, expected) in [(0, true), (990, false)] {
        let length = 64 * CHUNK_BYTES;
        let mut work = Work::new(
            length,
            &[0..4 * CHUNK_BYTES, 4 * CHUNK_BYTES..length],
            2,
            PART,
        );
        let start = clock::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // Both give a quarter of a MiB a second.
        for stream in [0, 1] {
            assert!(matches!(work.take(start, stream), Turn::Take(_)));
            work.tempo(stream).unwrap().flow(start, 0, Duration::ZERO);
        }
        for second in 1..=4 {
            let waited = Duration::from_millis(blocked * second);
            for stream in [0, 1] {
                work.note(at(1_000 * second), stream, second * MIB / 4, waited);
                assert!(work.claim(stream, 4 * stream as u64 + second - 1));
                work.written();
            }
        }
        // The first takes a long piece of what is left, and the other finds nothing.
        let Turn::Take(long) = work.take(at(4_000), 0) else {
            panic!("nothing is free");
        };
        let mut is_taken_over = false;
        while let Turn::Take(piece) = work.take(at(4_000), 1) {
            is_taken_over |= long.contains(&piece.start);
            for chunk in piece {
                assert!(work.claim(1, chunk));
                work.written();
            }
        }
        assert_eq!(
            is_taken_over, expected,
            "{blocked} ms a second without turns"
        );
    }
}
