//! What any interval sees of what is granted, lent and charged.

use super::*;
use crate::clock;
use proptest::collection::vec;
use proptest::prelude::*;

/// The most bytes that any interval sees beyond `rate * (T + DEPTH)`; times in nanoseconds.
fn excess<T: Copy + Into<i128>>(grants: &[(u64, T)], rate: u64) -> i128 {
    let mut worst = i128::MIN;
    for (first, (from, _)) in grants.iter().enumerate() {
        let mut sum = 0;
        for (to, bytes) in &grants[first..] {
            sum += (*bytes).into();
            let time = i128::from(to - from) + 45_000_000;
            worst = worst.max(sum - time * i128::from(rate) / 1_000_000_000);
        }
    }
    worst
}

proptest! {
    #[test]
    fn no_interval_sees_more_than_rate_times_its_length_and_the_depth(
        rate in 1_000_u64..2_000_000_000,
        asks in vec((0_u64..80_000_000, 0_u32..=100), 1..120),
    ) {
        let start = clock::now();
        let mut bucket = Bucket::new(BytesPerSecond(rate), start);
        let depth = bucket.bytes_in(DEPTH).max(1);
        let (mut at, mut grants) = (0_u64, Vec::new());
        for (pause, share) in asks {
            at += pause;
            let bytes = (depth * u64::from(share) / 100).max(1);
            let now = start + Duration::from_nanos(at);
            if bucket.take(now, bytes).is_none() {
                // Asked again when it is ready: never refused then.
                let ready = bucket.ready_at(bytes);
                at = u64::try_from((ready - start).as_nanos()).unwrap();
                prop_assert!(bucket.take(ready, bytes).is_some());
            }
            grants.push((at, bytes));
        }
        prop_assert!(excess(&grants, rate) <= 1, "{}", excess(&grants, rate));
    }

    /// What was given back was counted, and has not come.
    #[test]
    fn what_is_given_back_is_granted_again_and_never_twice(
        rate in 1_000_u64..2_000_000_000,
        asks in vec((0_u64..80_000_000, 0_u32..=100, any::<bool>()), 1..120),
    ) {
        let start = clock::now();
        let mut bucket = Bucket::new(BytesPerSecond(rate), start);
        let depth = bucket.bytes_in(DEPTH).max(1);
        let (mut at, mut moves) = (0_u64, Vec::new());
        for (pause, share, comes) in asks {
            at += pause;
            let bytes = (depth * u64::from(share) / 100).max(1);
            let ready = bucket.ready_at(bytes).max(start + Duration::from_nanos(at));
            at = u64::try_from((ready - start).as_nanos()).unwrap();
            prop_assert!(bucket.take(ready, bytes).is_some());
            moves.push((at, i64::try_from(bytes).unwrap()));
            if !comes {
                bucket.give_back(ready, bytes, 0);
                moves.push((at, -i64::try_from(bytes).unwrap()));
                prop_assert!(bucket.earned(ready) <= depth);
            }
        }
        prop_assert!(excess(&moves, rate) <= 1, "{}", excess(&moves, rate));
    }

    /// Whoever is charged reads on when he may, others take turns meanwhile.
    #[test]
    fn with_what_comes_without_a_turn_no_interval_sees_more_than_a_piece_beyond(
        rate in 1_000_u64..2_000_000_000,
        asks in vec((0_u64..80_000_000, 0_u32..=100, any::<bool>()), 1..120),
    ) {
        let start = clock::now();
        let mut bucket = Bucket::new(BytesPerSecond(rate), start);
        let depth = bucket.bytes_in(DEPTH).max(1);
        let piece = (depth / 10).max(1);
        let (mut at, mut next, mut comes) = (0_u64, start, Vec::new());
        for (pause, share, is_turn) in asks {
            at += pause;
            let now = start + Duration::from_nanos(at);
            let (ready, bytes) = if is_turn {
                let bytes = (depth * u64::from(share) / 100).max(1);
                (bucket.ready_at(bytes).max(now), bytes)
            } else {
                (next.max(now), piece)
            };
            at = u64::try_from((ready - start).as_nanos()).unwrap();
            if is_turn {
                prop_assert!(bucket.take(ready, bytes).is_some());
            } else {
                next = bucket.charge(ready, line_time(piece, BytesPerSecond(rate)), 0);
                prop_assert!(next + CHARGE_LATE > ready);
            }
            comes.push((at, bytes));
        }
        let late = u64::try_from(CHARGE_LATE.as_nanos()).unwrap() * rate / 1_000_000_000;
        let most = i128::from(piece + late) + 2;
        prop_assert!(excess(&comes, rate) <= most, "{}", excess(&comes, rate));
    }

    /// As above, beside turns that are lent and come all at once, and with somebody waiting.
    #[test]
    fn beside_what_is_lent_it_is_a_piece_and_a_turn_beyond(
        rate in 1_000_u64..2_000_000_000,
        asks in vec((0_u64..80_000_000, 0_u32..=100, 0_u8..5), 1..150),
    ) {
        let start = clock::now();
        let mut bucket = Bucket::new(BytesPerSecond(rate), start);
        let depth = bucket.bytes_in(DEPTH).max(8);
        let (piece, turn_max) = (depth / 8, depth / 4);
        let (mut at, mut next, mut comes) = (0_u64, start, Vec::new());
        let mut lent = Vec::new();
        for (pause, share, kind) in asks {
            at += pause;
            let now = start + Duration::from_nanos(at);
            let turn = (turn_max * u64::from(share) / 100).max(1);
            let moment = match kind {
                0..=2 => bucket.ready_at(turn).max(now),
                3 => next.max(now),
                _ => now,
            };
            at = u64::try_from((moment - start).as_nanos()).unwrap();
            match kind {
                0 => {
                    prop_assert!(bucket.take(moment, turn).is_some());
                    comes.push((at, turn));
                }
                // Borrowers hold no more than the depth.
                1 | 2 if lent.iter().sum::<u64>() + turn <= depth => {
                    prop_assert!(bucket.take(moment, turn).is_some());
                    bucket.lend(turn);
                    lent.push(turn);
                }
                1 | 2 => {}
                3 => {
                    let time = line_time(piece, BytesPerSecond(rate));
                    next = bucket.charge(moment, time, turn * u64::from(share % 2));
                    comes.push((at, piece));
                }
                _ => for bytes in lent.drain(..) {
                    bucket.came(moment, bytes, 0);
                    comes.push((at, bytes));
                }
            }
        }
        let late = u64::try_from(CHARGE_LATE.as_nanos()).unwrap() * rate / 1_000_000_000;
        let most = i128::from(piece + late + turn_max) + 2;
        prop_assert!(excess(&comes, rate) <= most, "{}", excess(&comes, rate));
    }

    #[test]
    fn a_changed_rate_never_gives_more_than_the_faster_one_and_the_depth(
        rates in vec(1_000_u64..1_000_000_000, 2..20),
        pause in 0_u64..60_000_000,
    ) {
        let start = clock::now();
        let fastest = rates.iter().copied().max().unwrap();
        let mut bucket = Bucket::new(BytesPerSecond(rates[0]), start);
        let (mut at, mut grants) = (0, Vec::new());
        for rate in rates {
            at += pause;
            let now = start + Duration::from_nanos(at);
            bucket.set_rate(now, BytesPerSecond(rate));
            let bytes = bucket.earned(now);
            prop_assert!(bytes <= bucket.bytes_in(DEPTH));
            if bytes > 0 && bucket.take(now, bytes).is_some() {
                grants.push((at, bytes));
            }
        }
        prop_assert!(excess(&grants, fastest) <= 1);
    }
}

#[test]
fn it_starts_empty_and_keeps_its_rate_for_ever() {
    let start = clock::now();
    let mut bucket = Bucket::new(BytesPerSecond(150_000_000), start);
    assert!(bucket.take(start, 1).is_none());
    let mut granted = 0;
    let mut now = start;
    while now < start + Duration::from_secs(10) {
        now += Duration::from_millis(1);
        while bucket.take(now, 65_536).is_some() {
            granted += 65_536;
        }
    }
    assert!(
        granted <= 1_500_000_000 && granted > 1_499_900_000,
        "{granted}"
    );
}

#[test]
fn the_time_of_what_never_came_is_another_streams() {
    let start = clock::now();
    let mut bucket = Bucket::new(BytesPerSecond(1_000_000), start);
    let later = start + Duration::from_millis(40);
    assert!(bucket.take(later, 40_000).is_some());
    assert!(bucket.take(later, 30_000).is_none());
    bucket.give_back(later, 30_000, 0);
    assert!(bucket.take(later, 30_000).is_some());
    assert!(bucket.take(later, 1).is_none());
    bucket.give_back(later, u64::MAX, 0);
    assert_eq!(bucket.earned(later), 45_000);
}

#[test]
fn a_lower_rate_saves_nothing_beside_what_is_on_its_way() {
    let start = clock::now();
    let mut bucket = Bucket::new(BytesPerSecond(10_000_000), start);
    let later = start + Duration::from_millis(45);
    assert!(bucket.take(later, 225_000).is_some());
    bucket.lend(225_000);
    bucket.set_rate(later, BytesPerSecond(1_000_000));
    assert_eq!(bucket.earned(later), 0);
    // The rate goes on, and the depth is there again when all of it has come.
    assert!(bucket.take(later, 1_000).is_none());
    let then = later + Duration::from_millis(1);
    assert!(bucket.take(then, 1_000).is_some());
    bucket.came(then, 225_000, 0);
    let hour = then + Duration::from_secs(3_600);
    bucket.rest(hour);
    assert_eq!(bucket.earned(hour), 45_000);
}

/// All savings are lent: a piece that trickles in takes its own time from who waits, no more.
#[test]
fn what_a_waiting_turn_has_earned_stays_when_others_are_charged() {
    let start = clock::now();
    let mut bucket = Bucket::new(BytesPerSecond(1_000_000), start);
    let later = start + DEPTH;
    assert!(bucket.take(later, 45_000).is_some());
    bucket.lend(45_000);
    let turn = 20_000;
    let mut now = later;
    for _ in 0..21 {
        now += Duration::from_millis(1);
        bucket.charge(now, Duration::from_micros(40), turn);
    }
    assert!(bucket.take(now, turn).is_some(), "{:?}", bucket.earned(now));
}

#[test]
fn a_debt_is_as_long_at_any_rate() {
    let start = clock::now();
    let mut bucket = Bucket::new(BytesPerSecond(1_000_000), start);
    let debt = Duration::from_millis(7);
    assert_eq!(bucket.charge(start, debt, 0), start + debt);
    for rate in [1, 2_000_000, 1_000] {
        bucket.set_rate(start, BytesPerSecond(rate));
        assert_eq!(bucket.ready_at(0), start + debt);
        // Nor does what another will not use pay for it.
        bucket.give_back(start, 1_000, 0);
        assert_eq!(bucket.ready_at(0), start + debt);
    }
    // It is paid once: from then on the line earns as ever.
    let later = start + Duration::from_millis(27);
    assert_eq!(bucket.earned(later), 20);
    assert!(bucket.take(later, 20).is_some() && bucket.take(later, 1).is_none());
}

#[test]
fn more_than_the_depth_is_never_saved_up() {
    let start = clock::now();
    let mut bucket = Bucket::new(BytesPerSecond(1_000_000), start);
    let later = start + Duration::from_secs(3_600);
    bucket.rest(later);
    assert_eq!(bucket.earned(later), 45_000);
    assert!(bucket.take(later, 45_000).is_some() && bucket.take(later, 1).is_none());
    // A grant beyond the depth pays its whole length.
    let big = bucket.ready_at(1_000_000);
    assert_eq!(big - later, Duration::from_secs(1));
}

#[test]
fn what_is_expected_takes_the_room_of_savings_until_it_has_come() {
    let start = clock::now();
    let mut bucket = Bucket::new(BytesPerSecond(1_000_000), start);
    let later = start + DEPTH;
    bucket.expect(later, 30_000, 0);
    assert_eq!(bucket.earned(later), 15_000);
    // Never what a waiting turn has earned.
    let then = later + Duration::from_millis(20);
    bucket.expect(then, 15_000, 20_000);
    assert_eq!(bucket.earned(then), 20_000);
    bucket.came(then, 45_000, 0);
    let hour = then + Duration::from_secs(3_600);
    bucket.rest(hour);
    assert_eq!(bucket.earned(hour), 45_000);
}
