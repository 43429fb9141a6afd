//! The ledger against a naive model: whatever happens, it never counts less than was received.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const LIMIT: u64 = 500 << 20;

/// A moment by its clocks in milliseconds; the calendar starts in 2026.
fn moment(wall_ms: i64, boot_ms: u64) -> Moment {
    Moment {
        wall: Wall::from_millisecond(1_780_000_000_000 + wall_ms).unwrap(),
        boot: Boot::default() + Duration::from_millis(boot_ms),
    }
}

fn fresh() -> Ledger {
    Ledger::new(None, BUILT)
}

/// Reserves a step and makes it usable.
fn reserve(ledger: &mut Ledger, at: Moment, limit: u64) -> Option<Book> {
    if !ledger.reserve(Class::Night, at, limit) {
        return None;
    }
    let book = ledger.write(at);
    assert!(book.is_some());
    ledger.written(true);
    book
}

/// Grants all that is usable; how much it was.
fn spend(ledger: &mut Ledger, at: Moment) -> u64 {
    let usable = ledger.usable(Class::Night);
    ledger.grant(Class::Night, at, usable);
    usable
}

#[test]
fn nothing_is_usable_before_its_reservation_is_durable() {
    let (mut ledger, at) = (fresh(), moment(0, 0));
    assert!(ledger.reserve(Class::Night, at, LIMIT));
    assert_eq!(ledger.usable(Class::Night), 0);
    let book = ledger.write(at).unwrap();
    assert_eq!(
        (book.night.reserved, ledger.usable(Class::Night)),
        (LIMIT / 100, 0)
    );
    // One that fails is tried again, and is no second reservation.
    ledger.written(false);
    assert_eq!(ledger.usable(Class::Night), 0);
    let again = ledger.write(at).unwrap();
    assert_eq!(again.night.reserved, LIMIT / 100);
    assert!(again.serial > book.serial);
    // What is reserved while a book is written waits for the next one.
    assert!(ledger.reserve(Class::Night, at, LIMIT));
    ledger.written(true);
    assert_eq!(ledger.usable(Class::Night), LIMIT / 100);
    assert_eq!(ledger.counted(Class::Night, at), LIMIT / 100 * 2);
}

#[test]
fn steps_are_256_megabytes_or_a_hundredth_and_never_a_sliver() {
    assert_eq!(step(6_480_000_000_000), 256_000_000);
    assert_eq!(step(540_000_000), 5_400_000);
    assert_eq!(step(1_000), 1 << 20);
    let (mut ledger, at) = (fresh(), moment(0, 0));
    let book = reserve(&mut ledger, at, 1_000).unwrap();
    assert_eq!(book.night.reserved, 1_000);
    assert!(reserve(&mut ledger, at, 1_000).is_none());
}

#[test]
fn a_crash_counts_the_whole_reservation_from_the_restart_on() {
    let mut ledger = fresh();
    let book = reserve(&mut ledger, moment(0, 0), LIMIT).unwrap();
    let at = moment(HOUR_MS as i64, HOUR_MS);
    let mut ledger = Ledger::new(Some(book), BUILT);
    ledger.advance(at);
    assert_eq!(
        (
            ledger.usable(Class::Night),
            ledger.counted(Class::Night, at)
        ),
        (0, LIMIT / 100)
    );
    let later = moment(24 * HOUR_MS as i64 + 60_000, DAY_MS + 60_000);
    assert_eq!(ledger.counted(Class::Night, later), LIMIT / 100);
    let later = moment(25 * HOUR_MS as i64 + 60_000, DAY_MS + HOUR_MS + 60_000);
    assert_eq!(ledger.counted(Class::Night, later), 0);
    assert!(ledger.reserve(Class::Night, later, LIMIT));
}

#[test]
fn what_is_settled_or_given_back_is_free_again() {
    let (mut ledger, at) = (fresh(), moment(0, 0));
    reserve(&mut ledger, at, LIMIT);
    ledger.grant(Class::Night, at, 1_000);
    ledger.give_back(Class::Night, 400);
    assert_eq!(ledger.counted(Class::Night, at), LIMIT / 100);
    ledger.settle(Class::Night);
    assert_eq!(ledger.counted(Class::Night, at), 600);
    let book = ledger.write(at).unwrap();
    let ledger = Ledger::new(Some(book), BUILT);
    assert_eq!(ledger.counted(Class::Night, at), 600);
}

#[test]
fn a_spent_budget_comes_back_after_24_hours_of_both_clocks() {
    for (wall, boot, is_back) in [
        (DAY_MS as i64 + 10_000, DAY_MS + 10_000, true),
        (DAY_MS as i64 - 1, DAY_MS - 1, false),
        // The calendar was set forward, or stands still, or was set back.
        (30 * DAY_MS as i64, HOUR_MS, false),
        (HOUR_MS as i64, 30 * DAY_MS, false),
        (-(DAY_MS as i64), 30 * DAY_MS, false),
    ] {
        let (mut ledger, at) = (fresh(), moment(0, 0));
        while reserve(&mut ledger, at, LIMIT).is_some() {
            spend(&mut ledger, at);
        }
        assert_eq!(ledger.counted(Class::Night, at), LIMIT);
        let later = moment(wall, boot);
        assert_eq!(
            ledger.counted(Class::Night, later) == 0,
            is_back,
            "{wall} {boot}"
        );
        // The same across a restart of the process: the last book is of the start.
        let mut ledger = fresh();
        let book = reserve(&mut ledger, at, LIMIT);
        let ledger = Ledger::new(book, BUILT);
        assert_eq!(ledger.counted(Class::Night, later), LIMIT / 100);
    }
}

#[test]
fn classes_have_budgets_of_their_own() {
    let (mut ledger, at) = (fresh(), moment(0, 0));
    while reserve(&mut ledger, at, LIMIT).is_some() {}
    assert!(ledger.reserve(Class::Urgent, at, LIMIT));
    assert_eq!(ledger.counted(Class::Urgent, at), LIMIT / 100);
}

#[test]
fn the_floor_is_the_build_time_or_what_was_kept_last() {
    let mut ledger = fresh();
    assert!(ledger.is_below_floor(Wall::UNIX_EPOCH));
    assert!(!ledger.is_below_floor(moment(-(DAY_MS as i64), 0).wall));
    let book = reserve(&mut ledger, moment(5_000_000, 5_000_000), LIMIT);
    for ledger in [ledger, Ledger::new(book, BUILT)] {
        assert!(ledger.is_below_floor(moment(0, 0).wall));
        assert!(ledger.is_below_floor(moment(4_980_000, 0).wall));
        // Set right by seconds.
        assert!(!ledger.is_below_floor(moment(4_995_000, 0).wall));
    }
}

#[test]
fn reading_two_clocks_a_hundred_thousand_times_loses_no_time() {
    let mut ledger = fresh();
    for index in 0..100_000_u64 {
        // The calendar is read up to a millisecond early or late.
        let jitter = (index % 3) as i64 - 1;
        let at = moment((index * 10) as i64 + jitter, index * 10);
        ledger.advance(at);
    }
    let time = ledger.time(moment(1_000_000, 1_000_000));
    assert!((999_000..=1_000_000).contains(&time), "{time}");
}

#[derive(Clone, Debug)]
enum Event {
    /// True time passes; the calendar shows so much more or less.
    Pass {
        ms: u64,
        jump_ms: i64,
    },
    Reserve {
        outcome: bool,
    },
    Receive {
        percent: u64,
    },
    GiveBack {
        percent: u64,
    },
    Settle,
    /// The process dies: while a book is written if `is_writing`, and `is_durable` tells if it got
    /// there.
    Crash {
        is_writing: bool,
        is_durable: bool,
    },
    /// The machine is off for a while; when it fills again its calendar is right, or behind.
    Reboot {
        off_ms: u64,
        behind_ms: i64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let jump = prop_oneof![
        6 => Just(0_i64),
        1 => -2_i64 * 86_400_000..2 * 86_400_000,
        1 => -2_000_i64..2_000,
    ];
    prop_oneof![
        4 => (prop_oneof![0_u64..5_000, 0..10 * HOUR_MS], jump)
            .prop_map(|(ms, jump_ms)| Event::Pass { ms, jump_ms }),
        5 => prop::bool::weighted(0.8).prop_map(|outcome| Event::Reserve { outcome }),
        5 => (0_u64..=100).prop_map(|percent| Event::Receive { percent }),
        1 => (0_u64..=100).prop_map(|percent| Event::GiveBack { percent }),
        1 => Just(Event::Settle),
        1 => any::<(bool, bool)>().prop_map(|(is_writing, is_durable)| {
            Event::Crash { is_writing, is_durable }
        }),
        1 => (0_u64..30 * HOUR_MS, prop_oneof![Just(0_i64), 0..86_400_000_i64])
            .prop_map(|(off_ms, behind_ms)| Event::Reboot { off_ms, behind_ms }),
    ]
}

/// The world as it truly is.
struct World {
    ledger: Ledger,
    disk: Option<Book>,
    /// Time that truly passed, and what was truly received when.
    true_ms: u64,
    received: Vec<(u64, u64)>,
    wall_ms: i64,
    boot_ms: u64,
    /// True time and calendar when the book on the disk was written.
    kept_at: (u64, i64),
}

impl World {
    fn at(&self) -> Moment {
        moment(self.wall_ms, self.boot_ms)
    }

    fn truth(&self) -> u64 {
        let recent = |(at, _): &&(u64, u64)| at + DAY_MS > self.true_ms;
        self.received
            .iter()
            .filter(recent)
            .map(|(_, bytes)| bytes)
            .sum()
    }

    fn pass(&mut self, ms: u64, jump_ms: i64) {
        self.true_ms += ms;
        self.boot_ms += ms;
        self.wall_ms += ms as i64 + jump_ms;
    }

    fn reserve(&mut self, outcome: bool, limit: u64) {
        self.ledger.reserve(Class::Night, self.at(), limit);
        if let Some(book) = self.ledger.write(self.at()) {
            // A write that failed may have reached the disk all the same.
            self.disk = Some(book);
            self.kept_at = (self.true_ms, self.wall_ms);
            self.ledger.written(outcome);
        }
    }

    fn receive(&mut self, bytes: u64) {
        self.ledger.grant(Class::Night, self.at(), bytes);
        self.received.push((self.true_ms, bytes));
    }

    /// Only what was granted by this process, and lately, can come back.
    fn give_back(&mut self, percent: u64) {
        if let Some((at, bytes)) = self.received.last_mut()
            && *at + 10_000 > self.true_ms
        {
            let back = *bytes * percent / 100;
            *bytes -= back;
            self.ledger.give_back(Class::Night, back);
        }
    }

    fn restart(&mut self) {
        self.ledger = Ledger::new(self.disk.clone(), BUILT);
        // A process cannot give back what another one was granted.
        self.received.push((self.true_ms, 0));
    }

    fn step(&mut self, event: &Event, limit: u64) {
        match *event {
            Event::Pass { ms, jump_ms } => self.pass(ms, jump_ms),
            Event::Reserve { outcome } => self.reserve(outcome, limit),
            Event::Receive { percent } => {
                self.receive(self.ledger.usable(Class::Night) * percent / 100);
            }
            Event::GiveBack { percent } => self.give_back(percent),
            Event::Settle => self.ledger.settle(Class::Night),
            Event::Crash {
                is_writing,
                is_durable,
            } => {
                if is_writing {
                    self.ledger.reserve(Class::Night, self.at(), limit);
                    let book = self.ledger.write(self.at());
                    if let Some(book) = book.filter(|_| is_durable) {
                        self.disk = Some(book);
                        self.kept_at = (self.true_ms, self.wall_ms);
                    }
                }
                self.restart();
            }
            Event::Reboot { off_ms, behind_ms } => {
                self.true_ms += off_ms;
                // Over a restart of the machine the calendar is all there is: it may not have been
                // wrong before, and right after. That is the clock probe's to prevent.
                let (kept_ms, kept_wall_ms) = self.kept_at;
                let shown = kept_wall_ms.saturating_add_unsigned(self.true_ms - kept_ms);
                self.wall_ms = shown.min(self.true_ms as i64) - behind_ms;
                self.boot_ms = 20_000;
                self.restart();
                // The first use, with a synchronised calendar, is made durable.
                self.ledger.advance(self.at());
                self.disk = self.ledger.write(self.at());
                self.kept_at = (self.true_ms, self.wall_ms);
                self.ledger.written(true);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn whatever_happens_the_ledger_never_counts_less_than_was_received_in_24_hours(
        events in vec(event(), 1..120),
        limit in prop_oneof![Just(LIMIT), 1_u64..4 << 20],
    ) {
        let mut world = World {
            ledger: fresh(),
            disk: None,
            true_ms: 0,
            received: Vec::new(),
            wall_ms: 0,
            boot_ms: 0,
            kept_at: (0, 0),
        };
        for event in events {
            world.step(&event, limit);
            let (truth, counted) = (world.truth(), world.ledger.counted(Class::Night, world.at()));
            prop_assert!(truth <= counted, "{truth} received, {counted} counted at {event:?}");
            prop_assert!(truth <= limit, "{truth} of {limit} at {event:?}");
            prop_assert!(world.ledger.book.night.slots.len() <= SLOTS_MAX);
        }
    }
}
