//! What is lent comes when its source likes: the cap's property over what comes, and the rate.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use super::*;
use crate::clock;
use crate::fill::BUILT;
use crate::fill::bucket::DEPTH;
use proptest::collection::vec;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// Streams that hold what they were lent until they are told that it comes.
struct Street {
    queue: Queue,
    start: Instant,
    ns: u64,
    turn: u64,
    hold: u64,
    streams: Vec<Stream>,
    /// When, and how much.
    came: Vec<(u64, u64)>,
}

#[derive(Clone, Default)]
struct Stream {
    held: u64,
    asked: Option<Id>,
}

impl Street {
    /// Each of `count` streams holds at most `hold`, in turns of a quarter.
    fn new(rate: u64, count: usize, hold: u64) -> Self {
        let start = clock::now();
        let limits = Limits {
            rate: BytesPerSecond(rate),
            night: Bytes(1 << 50),
            urgent: Bytes(1 << 50),
        };
        let mut street = Self {
            queue: Queue::new(limits, Ledger::new(None, BUILT), start),
            start,
            ns: 0,
            turn: (hold / 4).max(1),
            hold,
            streams: vec![Stream::default(); count],
            came: Vec::new(),
        };
        street.queue.open(street.at(), Class::Night, None);
        street
    }

    fn at(&self) -> At {
        At::after(self.start, self.ns)
    }

    /// Fetches answers; whoever may hold more asks for it.
    fn turns(&mut self) {
        let at = self.at();
        self.queue.step(at);
        for stream in &mut self.streams {
            let answer = stream.asked.and_then(|id| self.queue.answer(id));
            if answer == Some(Ok(())) {
                (stream.asked, stream.held) = (None, stream.held + self.turn);
            }
            if stream.asked.is_none() && stream.held + self.turn <= self.hold {
                stream.asked = Some(self.queue.ask(at, Class::Night, self.turn, true));
            }
        }
        // The disk answers at once.
        while self.queue.write(at).is_some() {
            self.queue.written(at, true);
        }
    }

    /// Until `to`, waking at each deadline, late by `lag_ns`.
    fn run(&mut self, to: u64, lag_ns: u64) {
        while self.ns < to {
            self.turns();
            let next = self.deadline().unwrap_or(u64::MAX);
            self.ns = next.saturating_add(lag_ns).max(self.ns + 1).min(to);
        }
        self.turns();
    }

    /// In nanoseconds, as `ns`.
    fn deadline(&self) -> Option<u64> {
        let at = self.queue.deadline()?;
        Some((at - self.start).as_nanos() as u64)
    }

    fn comes(&mut self, stream: usize, bytes: u64) {
        let bytes = bytes.min(self.streams[stream].held);
        self.streams[stream].held -= bytes;
        self.came.push((self.ns, bytes));
        self.queue.came(self.at(), bytes);
    }

    /// The most bytes that came in any interval beyond the rate times its length.
    fn excess(&self, rate: u64) -> i128 {
        let (mut sum, mut lowest, mut worst) = (0_i128, i128::MAX, i128::MIN);
        for (ns, bytes) in &self.came {
            let paid = i128::from(*ns) * i128::from(rate) / i128::from(SECOND);
            lowest = lowest.min(sum - paid);
            sum += i128::from(*bytes);
            worst = worst.max(sum - paid - lowest);
        }
        worst
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Nothing, as a source that thinks.
    Silence,
    Some(usize, u64),
    /// As after a silence of the path.
    Everything,
    GiveBack(usize),
    Withdraw(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Silence),
        4 => (0..8_usize, 0..=100_u64).prop_map(|(stream, share)| Event::Some(stream, share)),
        2 => Just(Event::Everything),
        1 => (0..8_usize).prop_map(Event::GiveBack),
        1 => (0..8_usize).prop_map(Event::Withdraw),
    ]
}

proptest! {
    #[test]
    fn whenever_it_comes_it_is_never_more_than_the_cap_and_50_ms(
        rate in 1_000_000_u64..1_000_000_000,
        count in 1_usize..=8,
        events in vec((0_u64..60_000_000, 0_u64..30_000_000, event()), 1..120),
    ) {
        let room = rate * DEPTH.as_millis() as u64 / 1_000;
        let mut street = Street::new(rate, count, room / count as u64);
        for (pause, lag, event) in events {
            street.run(street.ns + pause, lag);
            match event {
                Event::Silence => {}
                Event::Some(stream, share) => {
                    let stream = stream % count;
                    street.comes(stream, street.streams[stream].held * share / 100);
                }
                Event::Everything => {
                    for stream in 0..count {
                        street.comes(stream, u64::MAX);
                    }
                }
                Event::GiveBack(stream) => {
                    let held = std::mem::take(&mut street.streams[stream % count].held);
                    street.queue.give_back(street.at(), Class::Night, held);
                }
                Event::Withdraw(stream) => {
                    if let Some(id) = street.streams[stream % count].asked.take() {
                        let asked = (street.turn, true);
                        street.queue.withdraw(street.at(), Class::Night, id, asked);
                    }
                }
            }
        }
        let excess = street.excess(rate);
        // Each grant is rounded up to a nanosecond.
        prop_assert!(excess <= i128::from(room) + 2, "{excess} of {room}");
    }
}

/// Bytes of one second at 12.5 MB/s when each stream's turns come `late_ns` after they were lent.
fn second_of(hold: u64, late_ns: u64) -> u64 {
    let mut street = Street::new(12_500_000, 8, hold);
    let step = 1_000_000;
    let mut held = Vec::new();
    while street.ns < 2 * SECOND {
        street.run(street.ns + step, 500_000);
        held.push(
            street
                .streams
                .iter()
                .map(|one| one.held)
                .collect::<Vec<_>>(),
        );
        let then = held.len().checked_sub(1 + (late_ns / step) as usize);
        for stream in 0..8 {
            // What was held then, and has not come since.
            let was = then.map_or(0, |then| held[then][stream]);
            street.comes(stream, was);
            held.iter_mut()
                .for_each(|row| row[stream] = row[stream].saturating_sub(was));
        }
    }
    let second = street.came.iter().filter(|(ns, _)| *ns > SECOND);
    second.map(|(_, bytes)| bytes).sum()
}

#[test]
fn the_rate_is_kept_while_what_is_lent_is_on_its_way() {
    for late_ms in [0, 5, 20] {
        let bytes = second_of(70_000, late_ms * 1_000_000);
        assert!(
            (12_250_000..=12_700_000).contains(&bytes),
            "{late_ms} ms: {bytes}"
        );
    }
}

/// Looks in one second at 150 MB/s, and the bytes that it had: eight streams with turns of 128 KiB,
/// of which all comes at once, but for `kept` of each stream.
fn looks_and_bytes(kept: u64) -> (u64, u64) {
    let mut street = Street::new(150_000_000, 8, kept + (256 << 10));
    street.turn = 128 << 10;
    let mut looks = 0;
    while street.ns < SECOND {
        // Who got its turn asks for the next one, until there is none.
        for _ in 0..24 {
            street.turns();
            for stream in 0..8 {
                street.comes(stream, street.streams[stream].held.saturating_sub(kept));
            }
        }
        looks += 1;
        street.ns = street.deadline().unwrap();
    }
    let lent: u64 = street.streams.iter().map(|stream| stream.held).sum();
    let came: u64 = street.came.iter().map(|(_, bytes)| bytes).sum();
    (looks, came + lent)
}

/// A far source and the transfer that reads it, as `fetch::purse` pays and TCP sends.
#[derive(Default)]
struct Far {
    asked: Option<Id>,
    paid: u64,
    read: u64,
    told: u64,
    arrived: u64,
    sent: u64,
    /// When it comes, and where the stream then is: bytes here, the end of the window there.
    bytes: VecDeque<(u64, u64)>,
    windows: VecDeque<(u64, u64)>,
}

impl Far {
    /// What the kernel may hold, of which half is the window.
    const BUFFER: u64 = 512 << 10;
    const LEAD: u64 = 64 << 10;
    const TURN: u64 = 128 << 10;

    fn step(&mut self, queue: &mut Queue, at: At, ns: u64, one_way: u64) {
        if let Some((_, window)) = pop_due(&mut self.windows, ns) {
            self.sent = self.sent.max(window);
            self.bytes.push_back((ns + one_way, self.sent));
        }
        if let Some((_, arrived)) = pop_due(&mut self.bytes, ns) {
            self.arrived = arrived;
        }
        if self.asked.and_then(|id| queue.answer(id)).is_some() {
            (self.asked, self.paid) = (None, self.paid + Self::TURN);
        }
        let allowed = self.arrived.min(self.paid.saturating_sub(Self::BUFFER));
        if allowed > self.read || self.windows.is_empty() && self.sent == 0 {
            self.read = allowed;
            let window = (ns + one_way, self.read + Self::BUFFER / 2);
            self.windows.push_back(window);
            queue.came(at, self.arrived - self.told);
            self.told = self.arrived;
        }
        if self.asked.is_none() && self.paid < self.read + Self::BUFFER + Self::LEAD {
            self.asked = Some(queue.ask(at, Class::Night, Self::TURN, true));
        }
    }
}

/// The last that is due; what came before it is in it.
fn pop_due(line: &mut VecDeque<(u64, u64)>, ns: u64) -> Option<(u64, u64)> {
    let mut due = None;
    while line.front().is_some_and(|(then, _)| *then <= ns) {
        due = line.pop_front();
    }
    due
}

/// Bytes that eight transfers read in a second at 150 MB/s.
fn second_from_afar(round_trip: u64) -> u64 {
    const GRAIN: u64 = 100_000;
    let mut street = Street::new(150_000_000, 0, 4);
    let mut streams: [Far; 8] = Default::default();
    let mut before = 0;
    while street.ns < 2 * SECOND {
        street.turns();
        let (at, ns) = (street.at(), street.ns);
        for stream in &mut streams {
            stream.step(&mut street.queue, at, ns, round_trip / 2);
        }
        let next = ns + GRAIN;
        street.ns = street.deadline().map_or(next, |at| at.clamp(ns + 1, next));
        if ns < SECOND {
            before = streams.iter().map(|stream| stream.read).sum();
        }
    }
    streams.iter().map(|stream| stream.read).sum::<u64>() - before
}

#[test]
fn looks_that_are_late_cost_far_sources_no_rate() {
    // What eight windows of 256 KiB carry, within a turn of each.
    for round_trip_ms in [0, 6, 10, 13] {
        let bytes = second_from_afar(round_trip_ms * 1_000_000);
        assert!(bytes >= 148_900_000, "{bytes} B at {round_trip_ms} ms");
        assert!(bytes <= 156_800_000, "{bytes} B at {round_trip_ms} ms");
    }
}

#[test]
fn one_look_ends_several_turns_if_savings_have_room_for_it() {
    // Late by 4, 4, 2 and 0 ms: one look ends five turns, or three, or one.
    for (kept, least, most) in [
        (0, 180, 260),
        (600 << 10, 180, 260),
        (700 << 10, 300, 480),
        (760 << 10, 1_000, 1_145),
    ] {
        let (looks, bytes) = looks_and_bytes(kept);
        let range = least..=most;
        assert!(
            range.contains(&looks),
            "{looks} looks with {kept} B under way"
        );
        assert!(bytes >= 148_500_000, "{bytes} B with {kept} B under way");
        assert!(bytes <= 150_000_000, "{bytes} B with {kept} B under way");
    }
}

#[test]
fn an_urgent_turn_is_looked_at_as_soon_as_it_is_over() {
    let mut street = Street::new(150_000_000, 1, 128 << 10);
    let at = street.at();
    street.queue.open(at, Class::Urgent, None);
    let urgent = street.queue.ask(at, Class::Urgent, 150_000, true);
    street.queue.ask(at, Class::Night, 150_000, true);
    street.turns();
    assert_eq!(street.deadline(), Some(1_000_000));
    street.ns = SECOND / 1_000;
    street.queue.step(street.at());
    assert_eq!(street.queue.answer(urgent), Some(Ok(())));
    // One for each turn, and four late: one turn is lent, and savings have room.
    assert_eq!(street.deadline(), Some(6_000_000));
}

#[test]
fn streams_that_hold_more_than_the_bucket_lose_savings_and_never_the_rate() {
    let mut street = Street::new(12_500_000, 8, 10_000_000);
    street.turn = 16_384;
    street.run(2 * SECOND, 0);
    let held: u64 = street.streams.iter().map(|stream| stream.held).sum();
    assert!((24_900_000..=25_000_000).contains(&held), "{held}");
    // Nobody waits; an hour later nothing is saved up beside what is lent.
    street.hold = 0;
    street.run(3_600 * SECOND, 0);
    for stream in 0..8 {
        if let Some(id) = street.streams[stream].asked.take() {
            street
                .queue
                .withdraw(street.at(), Class::Night, id, (street.turn, true));
        }
    }
    let at = street.at();
    let id = street.queue.ask(at, Class::Night, 16_384, true);
    assert_eq!(street.queue.answer(id), None);
}

#[test]
fn an_answer_that_nobody_fetched_takes_nothing_from_the_turn_under_way() {
    let mut street = Street::new(1_000_000, 1, 0);
    let ms = |count: u64| count * 1_000_000;
    let first = street.queue.ask(street.at(), Class::Night, 10_000, true);
    street.turns();
    street.run(ms(10), 0);
    let at = street.at();
    let second = street.queue.ask(at, Class::Night, 1_000_000, true);
    street.turns();
    // Half of its second is over.
    street.ns = ms(510);
    let at = street.at();
    let asked = (10_000, true);
    street.queue.withdraw(at, Class::Night, first, asked);
    street.run(ms(1_009), 0);
    assert_eq!(street.queue.answer(second), None);
    street.run(ms(1_011), 0);
    assert_eq!(street.queue.answer(second), Some(Ok(())));
}
