//! What of a disk is verified next, and when. Sans-IO: times are arguments.
//!
//! A disk has 256 parts, by the first byte of the digest: as many moments fit into a small file,
//! where one an object would not. The part that was verified longest ago comes first. Parts follow
//! each other at an even pace that is through after three quarters of the time, so that a disk that
//! was busy for days still keeps its promise; what cannot be kept by waiting any longer is
//! *pressing*, and then viewers are not yielded to.

use crate::object::Digest;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// By the first byte of the digest, as the directories of a disk.
pub(super) const PARTS: usize = 256;

/// Parts of the time, of eight: a round takes these where nothing holds it up …
const PACE_EIGHTHS: u64 = 6;
/// … and by these the last object shall be verified, whoever reads besides.
const PRESSING_EIGHTHS: u64 = 7;

/// One disk's. Times are milliseconds since the Unix epoch: they outlive the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    every_ms: u64,
    /// When the last finished reading of each part began.
    verified: Vec<u64>,
    /// As `verified`, for readings with gaps too: the turns go by these, so that an object that
    /// cannot be read keeps no other from being read. Not kept: a restart tries again.
    read: Vec<u64>,
    current: Option<Current>,
}

/// The part that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Current {
    pub(super) part: u8,
    begun_ms: u64,
    /// The last object read: the next one is behind it.
    pub(super) after: Option<Digest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing is due before then.
    Rest { until_ms: u64 },
    /// This is next. `pressing`: viewers cannot be waited for any longer.
    Read { current: Current, pressing: bool },
}

/// As it is kept on the disk.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    v: u64,
    verified_ms: Vec<u64>,
    current: Option<Current>,
}

const VERSION: u64 = 1;

impl Schedule {
    /// Of a disk whose objects were verified at the latest at `now_ms`, as they were written.
    pub(super) fn new(every: Duration, now_ms: u64) -> Self {
        Self {
            every_ms: u64::try_from(every.as_millis())
                .unwrap_or(u64::MAX / 8)
                .max(1),
            verified: vec![now_ms; PARTS],
            read: vec![now_ms; PARTS],
            current: None,
        }
    }

    /// Of a disk all of which is due: at an even pace it would come too late, so it presses.
    pub(super) fn due(every: Duration, now_ms: u64) -> Self {
        let ago = u64::try_from((every * 3 / 4).as_millis()).unwrap_or(0);
        Self::new(every, now_ms.saturating_sub(ago))
    }

    /// Goes on from what was kept; `None` if it is not what [`Schedule::encode`] makes.
    pub(super) fn decode(every: Duration, bytes: &[u8]) -> Option<Self> {
        let kept: Kept = serde_json::from_slice(bytes).ok()?;
        (kept.v == VERSION && kept.verified_ms.len() == PARTS).then_some(Self {
            read: kept.verified_ms.clone(),
            verified: kept.verified_ms,
            current: kept.current,
            ..Self::new(every, 0)
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let kept = Kept {
            v: VERSION,
            verified_ms: self.verified.clone(),
            current: self.current,
        };
        // Numbers and hexadecimal digits: there is nothing that JSON could refuse.
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    /// What to do at this moment. Begins the next part if it is due.
    pub(super) fn step(&mut self, now_ms: u64) -> Turn {
        if self.current.is_none() {
            let (part, due_ms) = self.next(now_ms);
            if due_ms > now_ms {
                return Turn::Rest { until_ms: due_ms };
            }
            self.current = Some(Current {
                part,
                begun_ms: now_ms,
                after: None,
            });
        }
        let pressing = self.is_pressing(now_ms);
        match self.current {
            Some(current) => Turn::Read { current, pressing },
            None => Turn::Rest { until_ms: now_ms },
        }
    }

    /// An object of the current part was read.
    pub(super) fn passed(&mut self, digest: Digest) {
        if let Some(current) = &mut self.current {
            current.after = Some(digest);
        }
    }

    /// Every object of the current part was read.
    pub(super) fn finished(&mut self) {
        self.end(true);
    }

    /// The current part is through, and some object of it could not be read.
    pub(super) fn passed_over(&mut self) {
        self.end(false);
    }

    fn end(&mut self, is_whole: bool) {
        let Some(current) = self.current.take() else {
            return;
        };
        let part = usize::from(current.part);
        for (moments, counts) in [(&mut self.read, true), (&mut self.verified, is_whole)] {
            if let Some(moment) = moments.get_mut(part).filter(|_| counts) {
                *moment = current.begun_ms;
            }
        }
    }

    /// Every object of the disk was verified since.
    pub(super) fn oldest_ms(&self) -> u64 {
        self.verified.iter().copied().min().unwrap_or(0)
    }

    /// The part that was read longest ago, and when it is to be read.
    fn next(&self, now_ms: u64) -> (u8, u64) {
        // A moment that has not come yet is a clock that was wrong: nobody knows when it was.
        let known = |at: &u64| if *at > now_ms { 0 } else { *at };
        let parts = (0..=u8::MAX).zip(self.read.iter().map(known));
        let oldest = parts.min_by_key(|(_, at)| *at);
        let (part, oldest) = oldest.unwrap_or((0, 0));
        let latest = self.read.iter().map(known).max().unwrap_or(0);
        let due = latest.saturating_add(self.slot_ms());
        (
            part,
            due.min(oldest.saturating_add(self.eighths(PACE_EIGHTHS))),
        )
    }

    /// Would some part come too late if each took as long as the even pace gives it?
    fn is_pressing(&self, now_ms: u64) -> bool {
        let mut oldest_first = self.read.clone();
        oldest_first.sort_unstable();
        let slot = self.slot_ms();
        (1_u64..).zip(oldest_first).any(|(count, verified)| {
            let until = verified.saturating_add(self.eighths(PRESSING_EIGHTHS));
            until <= now_ms.saturating_add(slot.saturating_mul(count))
        })
    }

    fn slot_ms(&self) -> u64 {
        self.eighths(PACE_EIGHTHS) / PARTS as u64
    }

    fn eighths(&self, count: u64) -> u64 {
        self.every_ms / 8 * count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 24 * 3600 * 1000;
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Reads one part whole at `now`, if it is due.
    fn read(schedule: &mut Schedule, now: u64) -> Option<u8> {
        let Turn::Read { current, .. } = schedule.step(now) else {
            return None;
        };
        schedule.finished();
        Some(current.part)
    }

    #[test]
    fn a_fresh_disk_is_read_part_by_part_at_an_even_pace() {
        let mut schedule = Schedule::new(MONTH, 5 * DAY);
        let first = schedule.step(5 * DAY);
        let Turn::Rest { until_ms } = first else {
            panic!("{first:?}")
        };
        assert_eq!(until_ms, 5 * DAY + 22 * DAY / 256 + DAY / 2 / 256);
        let mut now = until_ms;
        for part in 0..=255 {
            assert_eq!(read(&mut schedule, now), Some(part));
            now = match schedule.step(now) {
                Turn::Rest { until_ms } => until_ms,
                turn @ Turn::Read { .. } => panic!("{turn:?}"),
            };
        }
        assert!(now < 5 * DAY + 23 * DAY, "{now}");
        assert!(schedule.oldest_ms() > 5 * DAY);
    }

    #[test]
    fn an_interrupted_part_goes_on_behind_its_last_object_and_counts_from_its_beginning() {
        let mut schedule = Schedule::new(MONTH, 0);
        schedule.step(DAY);
        schedule.passed(Digest::of(b"x"));
        let kept = schedule.encode();
        let mut again = Schedule::decode(MONTH, &kept).unwrap();
        assert_eq!(again, schedule);
        let Turn::Read { current, .. } = again.step(3 * DAY) else {
            panic!("it rests");
        };
        assert_eq!((current.part, current.after), (0, Some(Digest::of(b"x"))));
        again.finished();
        assert_eq!(again.verified[0], DAY);
    }

    #[test]
    fn a_part_with_an_object_that_cannot_be_read_is_not_verified_and_gives_way_to_the_others() {
        let mut schedule = Schedule::new(MONTH, 0);
        let mut now = DAY;
        for part in 0..=255 {
            let Turn::Read { current, pressing } = schedule.step(now) else {
                panic!("it rests");
            };
            assert_eq!((current.part, pressing), (part, false));
            match part {
                7 => schedule.passed_over(),
                _ => schedule.finished(),
            }
            now += schedule.slot_ms();
        }
        assert_eq!(schedule.oldest_ms(), 0, "nobody calls the disk verified");
        let again = Schedule::decode(MONTH, &schedule.encode()).unwrap();
        assert_eq!(again.next(now).0, 7, "after a restart it comes first");
        assert_eq!(schedule.next(now).0, 0);
    }

    #[test]
    fn a_clock_that_was_years_ahead_stops_no_scrub() {
        let mut schedule = Schedule::new(MONTH, 9000 * DAY);
        for part in 0..=255 {
            assert_eq!(read(&mut schedule, 100 * DAY), Some(part));
        }
        assert!(matches!(schedule.step(100 * DAY), Turn::Rest { .. }));
    }

    #[test]
    fn what_was_not_kept_by_this_program_is_not_gone_on_with() {
        for bytes in [
            &b""[..],
            b"{}",
            br#"{"v":1,"verified_ms":[1],"current":null}"#,
        ] {
            assert_eq!(Schedule::decode(MONTH, bytes), None);
        }
        let other = Schedule::new(MONTH, 1).encode();
        let other = String::from_utf8(other)
            .unwrap()
            .replace("\"v\":1", "\"v\":2");
        assert_eq!(Schedule::decode(MONTH, other.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Schedule::decode(MONTH, &bytes);
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Viewers read now and then, for days on end or always; a part takes up to a slot's time.
        #[test]
        fn no_object_goes_unread_for_a_month_however_busy_its_disk(
            busy in proptest::collection::vec((1_u64..400, 0_u64..400), 1..30),
            takes in 1_u64..=100,
        ) {
            const HOUR: u64 = DAY / 24;
            let mut schedule = Schedule::new(MONTH, 0);
            let mut last = [0_u64; PARTS];
            let mut now = 0;
            let mut spans = busy.iter().cycle();
            let (mut free_until, mut busy_until) = (0, 0);
            while now < 150 * DAY {
                if now >= busy_until {
                    let (free, long) = spans.next().copied().unwrap_or((1, 1));
                    free_until = now + free * HOUR;
                    busy_until = free_until + long * HOUR;
                }
                match schedule.step(now) {
                    Turn::Rest { until_ms } => now = until_ms.max(now + 1),
                    Turn::Read { pressing, .. } if now >= free_until && !pressing => {
                        now += HOUR;
                    }
                    Turn::Read { current, .. } => {
                        // In permille of what the even pace gives a part.
                        now += schedule.slot_ms() * takes / 100;
                        let since = &mut last[usize::from(current.part)];
                        prop_assert!(now - *since <= 30 * DAY, "{} days", (now - *since) / DAY);
                        *since = current.begun_ms;
                        schedule.finished();
                    }
                }
            }
            prop_assert!(last.iter().all(|at| now - at <= 30 * DAY));
        }
    }
}
