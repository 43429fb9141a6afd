//! Turns on a paused clock: whole nights, fairness, closing, budgets, crashes; and the queue by
//! itself against the cap's property.

use super::*;
use crate::fill::BUILT;
use crate::fill::ledger_file::MemoryKeeper;
use crate::fill::queue::Queue;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const MB: u64 = 1_000_000;
const NIGHT: Duration = Duration::from_secs(12 * 3_600);

/// The storage profile's.
const LIMITS: Limits = Limits {
    rate: BytesPerSecond(150 * MB),
    night: Bytes(6_480_000 * MB),
    urgent: Bytes(200_000 * MB),
};

/// A pace whose calendar follows the paused clock.
fn pace(limits: Limits, keeper: &MemoryKeeper) -> Pace {
    Pace::load(limits, Arc::new(keeper.clone()), BUILT)
}

fn pinned(limits: Limits) -> Pace {
    clock::pin_wall("2026-06-01T00:00:00Z".parse().unwrap());
    pace(limits, &MemoryKeeper::default())
}

/// Takes until it is closed; how much it was.
async fn drink(pace: Pace, class: Class, bytes: u64) -> u64 {
    let mut sum = 0;
    while pace.take(class, bytes).await.is_ok() {
        sum += bytes;
    }
    sum
}

async fn drink_all(pace: &Pace, class: Class, streams: usize, bytes: u64) -> Vec<u64> {
    let streams = (0..streams).map(|_| drink(pace.clone(), class, bytes));
    futures_util::future::join_all(streams).await
}

#[tokio::test(start_paused = true)]
async fn a_night_of_twelve_hours_brings_6_48_terabytes_and_the_next_one_as_much() {
    let pace = pinned(LIMITS);
    let start = clock::now();
    // The whole of the first, an hour of the second: 24 h after it, what it used is free again.
    for (night, hours) in [(0, 12), (1, 1)] {
        let opens = start + Duration::from_secs(24 * 3_600) * night;
        clock::sleep_until(opens).await;
        pace.open(
            Class::Night,
            Some(opens + Duration::from_secs(hours * 3_600)),
        );
        let sum: u64 = drink_all(&pace, Class::Night, 8, 100 * MB)
            .await
            .iter()
            .sum();
        let most = hours * 540_000 * MB;
        assert!(
            sum <= most && sum >= most / 1_000 * 995,
            "night {night}: {sum}"
        );
        assert_eq!(clock::now().duration_since(opens).as_secs(), hours * 3_600);
    }
    assert!(pace.view().worst_second_bps <= 1_260_000_000);
}

#[tokio::test(start_paused = true)]
async fn streams_share_alike_whatever_they_ask_for() {
    let pace = pinned(LIMITS);
    pace.open(Class::Night, Some(clock::now() + Duration::from_secs(60)));
    let small = drink_all(&pace, Class::Night, 4, 256 << 10);
    let large = drink_all(&pace, Class::Night, 4, 3 * MB);
    let (small, large) = tokio::join!(small, large);
    let total: u64 = small.iter().chain(&large).sum();
    assert!(
        total > 60 * 149 * MB && total <= 60 * 150 * MB + 7 * MB,
        "{total}"
    );
    let spread = |all: &[u64]| all.iter().max().unwrap() - all.iter().min().unwrap();
    assert!(spread(&small) <= 256 << 10 && spread(&large) <= 3 * MB);
}

#[tokio::test(start_paused = true)]
async fn larger_asks_than_the_quantum_stand_behind_the_others_again() {
    let pace = pinned(LIMITS);
    pace.open(Class::Night, None);
    let start = clock::now();
    let large = pace.take(Class::Night, 600 * MB);
    let small = async {
        clock::sleep(Duration::from_millis(100)).await;
        pace.take(Class::Night, MB).await.unwrap();
        clock::now() - start
    };
    let (large, small) = tokio::join!(large, small);
    assert_eq!(large, Ok(()));
    assert!(small < Duration::from_millis(150), "{small:?}");
    let both = (clock::now() - start).as_millis();
    assert!((4_000..4_020).contains(&both), "{both} ms");
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_comes_before_the_night_and_outside_it() {
    let pace = pinned(LIMITS);
    let until = clock::now() + Duration::from_secs(10);
    pace.open(Class::Night, Some(until));
    pace.open(Class::Urgent, None);
    let night = drink_all(&pace, Class::Night, 4, MB);
    let urgent = async {
        clock::sleep(Duration::from_secs(2)).await;
        let start = clock::now();
        for _ in 0..300 {
            pace.take(Class::Urgent, MB).await.unwrap();
        }
        clock::now() - start
    };
    let (night, urgent) = tokio::join!(night, urgent);
    let (night, urgent): (u64, u128) = (night.iter().sum(), urgent.as_millis());
    assert!((1_950..2_040).contains(&urgent), "300 MB in {urgent} ms");
    assert!((1_150 * MB..=1_210 * MB).contains(&night), "{night}");
    // The window has closed; urgent goes on.
    assert_eq!(pace.take(Class::Night, 1).await, Err(Closed));
    assert_eq!(pace.take(Class::Urgent, 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_shut_class_sends_everybody_away_at_once_and_grants_nothing_at_its_end() {
    let pace = pinned(LIMITS);
    assert_eq!(pace.take(Class::Night, 1).await, Err(Closed));
    pace.open(Class::Night, None);
    let start = clock::now();
    let waiting = async {
        let three = [(); 3].map(|()| pace.take(Class::Night, 1_500 * MB));
        let answers = futures_util::future::join_all(three).await;
        (answers, clock::now() - start)
    };
    let shut = async {
        clock::sleep(Duration::from_millis(700)).await;
        pace.shut(Class::Night);
    };
    let ((answers, time), ()) = tokio::join!(waiting, shut);
    assert_eq!(answers, [Err(Closed); 3]);
    assert!(time.as_millis() <= 701, "{time:?}");
    // Nobody got anything: nothing counts.
    assert_eq!(pace.view().night.counted_bytes, 0);
    // A turn that would end with the window is not granted.
    let until = clock::now() + Duration::from_secs(1);
    pace.open(Class::Night, Some(until));
    assert_eq!(
        pace.take(Class::Night, 150 * MB + 8 * MB).await,
        Err(Closed)
    );
    assert_eq!(clock::now(), until);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_closes_and_moving_the_window_gains_nothing() {
    let limits = Limits {
        night: Bytes(1_000 * MB),
        ..LIMITS
    };
    let pace = pinned(limits);
    pace.open(Class::Night, None);
    let sum: u64 = drink_all(&pace, Class::Night, 4, MB).await.iter().sum();
    assert_eq!(sum, 1_000 * MB);
    for _ in 0..20 {
        pace.shut(Class::Night);
        clock::sleep(Duration::from_secs(3_600)).await;
        pace.open(Class::Night, Some(clock::now() + NIGHT));
        assert_eq!(pace.take(Class::Night, 1).await, Err(Closed));
    }
    clock::sleep(Duration::from_secs(5 * 3_600)).await;
    assert_eq!(pace.take(Class::Night, MB).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_crashes_never_gain_a_byte() {
    clock::pin_wall("2026-06-01T00:00:00Z".parse().unwrap());
    let keeper = MemoryKeeper::default();
    let limits = Limits {
        rate: BytesPerSecond(12_500_000),
        night: Bytes(1_000 * MB),
        urgent: Bytes(1),
    };
    let (start, mut sum) = (clock::now(), 0);
    for crash in 0..100 {
        let pace = pace(limits, &keeper);
        pace.open(Class::Night, None);
        let life = Duration::from_millis(200 + crash * 17);
        let lives = clock::within(life, async {
            while pace.take(Class::Night, 64 << 10).await.is_ok() {
                sum += 64 << 10;
            }
        });
        let _ = lives.await;
        let time = u64::try_from((clock::now() - start).as_millis()).unwrap();
        assert!(
            sum <= time * 12_500 + 625_000 + (64 << 10),
            "{sum} in {time} ms"
        );
    }
    assert!(sum <= 1_000 * MB && sum > 300 * MB, "{sum}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_goes_away_costs_the_others_nothing() {
    let pace = pinned(LIMITS);
    pace.open(Class::Night, None);
    let other = {
        let pace = pace.clone();
        tokio::spawn(async move { pace.take(Class::Night, 150 * MB).await })
    };
    for _ in 0..50 {
        let gone = clock::within(Duration::from_millis(10), pace.take(Class::Night, 900 * MB));
        assert!(gone.await.is_err());
    }
    assert_eq!(other.await.unwrap(), Ok(()));
    pace.give_back(Class::Night, 50 * MB);
    pace.shut(Class::Night);
    assert_eq!(pace.view().night.counted_bytes, 100 * MB);
}

#[tokio::test(start_paused = true)]
async fn a_lower_rate_holds_at_once_for_those_who_wait() {
    let pace = pinned(LIMITS);
    pace.open(Class::Night, None);
    let start = clock::now();
    let take = pace.take(Class::Night, 300 * MB);
    let lower = async {
        clock::sleep(Duration::from_secs(1)).await;
        pace.set_limits(Limits {
            rate: BytesPerSecond(15 * MB),
            ..LIMITS
        });
    };
    let (taken, ()) = tokio::join!(take, lower);
    assert_eq!(taken, Ok(()));
    let time = (clock::now() - start).as_millis();
    assert!((10_990..11_020).contains(&time), "{time} ms");
}

/// A disk that fails until it is mended, on blocking threads.
#[derive(Debug, Default)]
struct SickDisk {
    books: Mutex<Vec<Book>>,
    is_mended: std::sync::atomic::AtomicBool,
}

impl KeepLedger for SickDisk {
    fn keep(&self, book: &Book) -> Result<(), String> {
        if !self.is_mended.load(std::sync::atomic::Ordering::Relaxed) {
            return Err("input/output error".to_owned());
        }
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.push(book.clone());
        Ok(())
    }

    fn kept(&self) -> Option<Book> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.last().cloned()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_granted_while_the_ledger_cannot_be_kept() {
    clock::pin_wall("2026-06-01T00:00:00Z".parse().unwrap());
    let disk = Arc::new(SickDisk::default());
    let pace = Pace::load(LIMITS, Arc::clone(&disk) as Arc<dyn KeepLedger>, BUILT);
    pace.open(Class::Night, None);
    let early = clock::within(Duration::from_secs(60), pace.take(Class::Night, MB));
    assert!(early.await.is_err());
    disk.is_mended
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let start = clock::now();
    assert_eq!(pace.take(Class::Night, MB).await, Ok(()));
    assert!(clock::now() - start <= Duration::from_secs(6));
    let mut sum = MB;
    for _ in 0..2_000 {
        pace.take(Class::Night, MB).await.unwrap();
        sum += MB;
        let book = disk.kept().unwrap();
        let counted = book.night.reserved + book.night.slots().iter().map(|s| s.1).sum::<u64>();
        assert!(sum <= counted, "{sum} granted, {counted} durable");
    }
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_night_outlives_a_restart() {
    clock::pin_wall("2026-06-01T00:00:00Z".parse().unwrap());
    let keeper = MemoryKeeper::default();
    let date = Date::constant(2026, 6, 1);
    let before = pace(LIMITS, &keeper);
    before.tally(date, |night| night.done += 3);
    assert_eq!(pace(LIMITS, &keeper).nights().get(date).unwrap().done, 3);
    before.open(Class::Night, None);
    before.take(Class::Night, MB).await.unwrap();
    before.tally(date, |night| night.done += 1);
    before.shut(Class::Night);
    assert_eq!(pace(LIMITS, &keeper).nights().get(date).unwrap().done, 4);
}

/// Steps a queue whose ledger is always durable, and whose timer is late by up to `lag_ns`.
struct Line {
    queue: Queue,
    start: Instant,
    ns: u64,
    granted: Vec<(u64, u64)>,
    asks: BTreeMap<Id, u64>,
}

impl Line {
    fn at(&self) -> At {
        At::after(self.start, self.ns)
    }

    fn new(limits: Limits) -> Self {
        let start = clock::now();
        let queue = Queue::new(limits, Ledger::new(None, BUILT), start);
        let (granted, asks) = (Vec::new(), BTreeMap::new());
        let mut line = Self {
            queue,
            start,
            ns: 0,
            granted,
            asks,
        };
        for class in [Class::Night, Class::Urgent] {
            line.queue.open(line.at(), class, None);
        }
        line
    }

    fn ask(&mut self, class: Class, bytes: u64) {
        let id = self.queue.ask(self.at(), class, bytes, false);
        self.asks.insert(id, bytes);
    }

    fn collect(&mut self) {
        let at = self.at();
        self.queue.step(at);
        while self.queue.write(at).is_some() {
            self.queue.written(at, true);
        }
        for id in self.queue.answered().collect::<Vec<_>>() {
            let bytes = self.asks.remove(&id).unwrap();
            assert_eq!(self.queue.answer(id), Some(Ok(())));
            self.granted.push((self.ns, bytes));
        }
    }

    /// Until `to`, waking at each deadline, late.
    fn run(&mut self, to: u64, lag_ns: u64) {
        loop {
            self.collect();
            let deadline = self.queue.deadline();
            assert!(
                deadline.is_none_or(|at| at > self.at().now),
                "it would spin"
            );
            let next = deadline.map(|at| at - self.start);
            let next = next.map_or(u64::MAX, |at| u64::try_from(at.as_nanos()).unwrap());
            let next = next.saturating_add(lag_ns).max(self.ns + 1);
            if next > to {
                self.ns = self.ns.max(to);
                return self.collect();
            }
            self.ns = next;
        }
    }
}

#[test]
fn what_comes_back_while_a_spent_budget_is_waited_for_leaves_no_deadline_behind() {
    let mut line = Line::new(Limits {
        rate: BytesPerSecond(MB),
        night: Bytes(100 * MB),
        urgent: Bytes(MB),
    });
    let second = 1_000_000_000;
    line.ask(Class::Night, 100 * MB);
    line.run(200 * second, 0);
    // Less than the patience before the first bytes leave the 24 hours.
    line.run((24 * 3_600 - 10) * second, 0);
    line.ask(Class::Night, 60 * MB);
    line.collect();
    let at = line.at();
    line.queue.give_back(at, Class::Night, 50 * MB);
    line.run(25 * 3_600 * second, 0);
    let sizes: Vec<u64> = line.granted.iter().map(|one| one.1).collect();
    assert_eq!(sizes, [100 * MB, 60 * MB]);
}

proptest! {
    #[test]
    fn streams_that_ask_for_quanta_never_get_more_than_the_cap_and_50_ms(
        rate in 100_000_u64..1_000_000_000,
        asks in vec((0_u64..60_000_000, 1_u64..=100, any::<bool>(), 0_u64..90_000_000), 1..80),
    ) {
        let mut line = Line::new(Limits {
            rate: BytesPerSecond(rate),
            night: Bytes(1 << 50),
            urgent: Bytes(1 << 50),
        });
        let (mut total, mut to) = (0, 0);
        for (pause, share, is_urgent, lag) in asks {
            to += pause;
            line.run(to, lag);
            let bytes = (line.queue.quantum() * share / 100).max(1);
            let class = if is_urgent { Class::Urgent } else { Class::Night };
            line.ask(class, bytes);
            total += bytes;
        }
        line.run(u64::MAX / 4, 0);
        prop_assert_eq!(line.granted.iter().map(|one| one.1).sum::<u64>(), total);
        for (first, (from, _)) in line.granted.iter().enumerate() {
            let mut sum = 0;
            for (to, bytes) in &line.granted[first..] {
                sum += u128::from(*bytes);
                let most = u128::from(to - from + 45_000_000) * u128::from(rate) / 1_000_000_000;
                prop_assert!(sum <= most + 1, "{sum} of {most} from {from} to {to}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_viewers_leave_is_the_rate_and_nothing_of_it_only_waits() {
    let pace = pinned(LIMITS);
    pace.open(Class::Night, None);
    let counted = || pace.view().night.granted_bytes;
    let drinking = tokio::spawn(drink(pace.clone(), Class::Night, MB));
    for (percent, least, most) in [
        (100, 1_490, 1_510),
        (25, 370, 385),
        (0, 0, 10),
        (50, 740, 760),
    ] {
        pace.ease(percent);
        let before = counted();
        clock::sleep(Duration::from_secs(10)).await;
        let brought = (counted() - before) / MB;
        assert!(
            (least..=most).contains(&brought),
            "{percent} %: {brought} MB"
        );
    }
    assert!(!drinking.is_finished(), "who waited was not sent away");
    assert_eq!(
        pace.view().night.limit_bytes,
        LIMITS.night.0,
        "the budget is as it was"
    );
    drinking.abort();
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_no_turn_comes_first_and_all_together_keep_to_the_cap() {
    let pace = pinned(LIMITS);
    let start = clock::now();
    let read = async |until: u64| {
        let mut sum = 0;
        while clock::now() < start + Duration::from_secs(until) {
            sum += 32_768;
            pace.pay(32_768).await;
        }
        sum
    };
    // Outside every window, however little viewers leave, and whatever was saved up.
    clock::sleep(Duration::from_secs(1)).await;
    pace.ease(0);
    let alone = read(3).await;
    pace.ease(100);
    assert!((290 * MB..=301 * MB).contains(&alone), "{alone} B in 2 s");
    pace.open(Class::Night, None);
    let drinking = tokio::spawn(drink(pace.clone(), Class::Night, MB));
    let beside = read(5).await;
    let granted = pace.view().night.granted_bytes;
    // Half of it for those who wait.
    for half in [beside, granted] {
        assert!(
            (140 * MB..=161 * MB).contains(&half),
            "{beside} B and {granted} B in 2 s"
        );
    }
    let both = beside + granted;
    assert!((290 * MB..=308 * MB).contains(&both), "{both} B in 2 s");
    assert_eq!(pace.view().urgent.counted_bytes, 0, "it is nobody's budget");
    drinking.abort();
}
