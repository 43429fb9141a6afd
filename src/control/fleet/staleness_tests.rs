//! Staleness: tables of who falls silent when, and what must not follow from it.

use super::*;
use crate::clock;
use proptest::prelude::*;

const REPORT_EVERY: Duration = Duration::from_secs(300);

struct Sky {
    staleness: Staleness,
    now: Instant,
    second: u64,
    boxes: usize,
}

fn id(number: usize) -> BoxId {
    BoxId::parse(&format!("c{:03}-tls001-isp", number + 1)).unwrap()
}

impl Sky {
    fn of(boxes: usize) -> Self {
        let config = StalenessConfig {
            heartbeat: Duration::from_secs(25),
            reports: 3,
            share: 30,
            always: 3,
        };
        let now = clock::now();
        let mut staleness = Staleness::new(now, &config, REPORT_EVERY);
        for number in 0..boxes {
            staleness.heard(now, &id(number), Sign::Report);
        }
        Self {
            staleness,
            now,
            second: 0,
            boxes,
        }
    }

    /// Every box beats at its own second of ten and reports every 5 min, if it may.
    fn pass(
        &mut self,
        seconds: u64,
        beats: impl Fn(usize) -> bool,
        reports: impl Fn(usize) -> bool,
    ) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.second += 1;
            for number in 0..self.boxes {
                let turn = self.second + number as u64;
                if turn.is_multiple_of(10) && beats(number) {
                    self.staleness.heard(self.now, &id(number), Sign::Heartbeat);
                }
                if turn.is_multiple_of(REPORT_EVERY.as_secs()) && reports(number) {
                    self.staleness.heard(self.now, &id(number), Sign::Report);
                }
            }
            self.staleness.tick(self.now);
        }
    }

    fn lost(&self) -> Vec<usize> {
        let numbers = 0..self.boxes;
        numbers
            .filter(|number| self.staleness.lost(&id(*number)).is_some())
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_three_boxes_dies_and_leaves_within_thirty_seconds_of_its_last_word() {
    let mut sky = Sky::of(3);
    sky.pass(100, |_| true, |_| true);
    assert_eq!(sky.lost(), [0_usize; 0]);
    sky.pass(26, |number| number != 1, |_| false);
    assert_eq!(sky.staleness.lost(&id(1)), Some(Lost::Silent));
    assert_eq!(sky.lost(), [1]);
    assert_eq!(sky.staleness.frozen(), None);
    sky.pass(10, |_| true, |_| true);
    assert_eq!(
        sky.lost(),
        [0_usize; 0],
        "it comes back with its first beat"
    );
}

#[tokio::test(start_paused = true)]
async fn a_partition_of_half_the_fleet_freezes_it_and_the_return_thaws_it() {
    let mut sky = Sky::of(40);
    sky.pass(60, |_| true, |_| true);
    let near = |number: usize| number < 20;
    sky.pass(60, near, near);
    assert_eq!(
        sky.lost(),
        [0_usize; 0],
        "those that went first are back as well"
    );
    let text = sky.staleness.frozen().unwrap().to_owned();
    assert!(text.contains("own network"), "{text}");
    sky.pass(3_600, near, near);
    assert_eq!(sky.lost(), [0_usize; 0], "for as long as it takes");
    // Their reports were missed as well; the next ones come within 5 min.
    sky.pass(300, |_| true, |_| true);
    assert_eq!(sky.staleness.frozen(), None);
    assert_eq!(sky.lost(), [0_usize; 0]);
    sky.pass(60, |number| number != 7, |number| number != 7);
    assert_eq!(sky.lost(), [7], "staleness works as before");
}

#[tokio::test(start_paused = true)]
async fn when_enough_return_the_few_that_do_not_are_let_go() {
    let mut sky = Sky::of(40);
    sky.pass(60, |_| true, |_| true);
    sky.pass(60, |number| number < 20, |_| false);
    assert!(sky.staleness.frozen().is_some());
    sky.pass(20, |number| number < 35, |_| false);
    assert_eq!(sky.staleness.frozen(), None);
    assert_eq!(sky.lost(), [35, 36, 37, 38, 39]);
}

#[tokio::test(start_paused = true)]
async fn boxes_that_are_given_up_by_the_operator_thaw_the_fleet() {
    let mut sky = Sky::of(10);
    sky.pass(60, |number| number < 5, |_| false);
    assert!(sky.staleness.frozen().is_some());
    for number in 5..10 {
        sky.staleness.forget(&id(number));
    }
    sky.pass(2, |number| number < 5, |_| false);
    assert_eq!(sky.staleness.frozen(), None);
    assert_eq!(
        sky.lost(),
        [5, 6, 7, 8, 9],
        "who does not count is not here"
    );
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_slept_for_two_hours_holds_it_against_nobody() {
    let mut sky = Sky::of(10);
    sky.pass(100, |_| true, |_| true);
    sky.now += Duration::from_secs(2 * 3600);
    sky.staleness.tick(sky.now);
    assert_eq!(sky.lost(), [0_usize; 0]);
    // The first word after the sleep may come before the first tick.
    sky.now += Duration::from_secs(2 * 3600);
    sky.staleness.heard(sky.now, &id(3), Sign::Heartbeat);
    sky.staleness.tick(sky.now);
    assert_eq!(sky.lost(), [0_usize; 0]);
    sky.pass(60, |_| true, |_| true);
    assert_eq!(sky.lost(), [0_usize; 0]);
    assert_eq!(sky.staleness.frozen(), None);
}

#[tokio::test(start_paused = true)]
async fn three_missed_reports_make_a_box_stale_though_it_beats() {
    let mut sky = Sky::of(5);
    sky.pass(900, |_| true, |number| number != 2);
    assert_eq!(sky.lost(), [0_usize; 0], "the third may still come");
    sky.pass(300, |_| true, |number| number != 2);
    assert_eq!(sky.staleness.lost(&id(2)), Some(Lost::Stale));
    assert_eq!(sky.lost(), [2]);
    sky.staleness.heard(sky.now, &id(2), Sign::Heartbeat);
    assert_eq!(sky.lost(), [2], "a heartbeat is no report");
    assert!(sky.staleness.heard(sky.now, &id(2), Sign::Report));
    assert_eq!(sky.lost(), [0_usize; 0]);
}

#[tokio::test(start_paused = true)]
async fn reports_are_not_missed_while_nobody_is_received() {
    let mut sky = Sky::of(10);
    sky.pass(100, |_| true, |_| true);
    sky.pass(2 * 3600, |_| false, |_| false);
    assert!(sky.staleness.frozen().is_some());
    assert_eq!(sky.lost(), [0_usize; 0]);
    // They beat again; their reports come in the course of 5 min.
    sky.pass(30, |_| true, |_| false);
    assert_eq!(sky.lost(), [0_usize; 0]);
    assert_eq!(sky.staleness.frozen(), None);
}

#[tokio::test(start_paused = true)]
async fn a_whole_small_fleet_may_go() {
    let mut sky = Sky::of(3);
    sky.pass(60, |_| false, |_| false);
    assert_eq!(sky.lost(), [0, 1, 2]);
}

proptest! {
    /// Whoever beats is never lost; and never do more go at once than may.
    #[test]
    fn who_beats_stays_and_many_never_go_at_once(
        boxes in 1_usize..40,
        phases in proptest::collection::vec((any::<u64>(), 1_u64..90, any::<bool>()), 1..6),
    ) {
        let mut sky = Sky::of(boxes);
        let mut beating = u64::MAX;
        for (mask, seconds, sleeps) in phases {
            if sleeps {
                sky.now += Duration::from_secs(seconds * 60);
            }
            let before = sky.lost().len();
            let (was, is) = (beating, mask);
            sky.pass(seconds, |number| is & (1 << number) != 0, |_| true);
            beating = mask;
            let most = (boxes * 30 / 100).max(3);
            // Within a window of 60 s and the silence before it; longer phases have two windows.
            let windows = usize::try_from(seconds / 60).unwrap() + 2;
            prop_assert!(sky.lost().len() <= before + most * windows);
            for number in sky.lost() {
                let spoke = was & is & (1 << number) != 0 && seconds >= 10;
                prop_assert!(!spoke, "box {} beats and is lost", number);
            }
        }
    }
}
