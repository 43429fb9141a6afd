//! What boxes say of their sources. Sans-IO.
//!
//! Whoever complains is not sent there again for that object for a while. Wrong bytes are worse:
//! the source comes last for everybody. It is never shut out for others on one box's word, and one
//! box's word counts against a few sources only, or one stolen box could shut out the fleet.

use super::ORIGIN;
use super::stage::Who;
use crate::clock::Instant;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

/// The oldest complaint goes first.
const COMPLAINTS_MAX: usize = 100_000;

/// For wrong bytes: as long as somebody may need to look at the source.
pub(super) const WRONG_BYTES: Duration = Duration::from_secs(3_600);

/// Sources that come last on one box's word. Without sources nobody but the origin is left, for
/// every box of a region at once.
const DEMOTED_BY_ONE_MAX: usize = 4;

/// For all else at first: a box that was killed is back after seconds. Twice that with each
/// complaint that follows, up to what a report may take to mend it.
const OTHERS_FIRST: Duration = Duration::from_secs(10);
const OTHERS_MAX: Duration = Duration::from_secs(120);

/// The origin is nobody's to avoid for long: there is only one.
const AT_ORIGIN: Duration = Duration::from_secs(60);

/// Asker, source and object's number.
type Key = (Who, Who, u32);

#[derive(Debug, Default)]
pub(super) struct Complaints {
    avoided: BTreeMap<Key, Avoided>,
    order: VecDeque<(Key, Instant)>,
    demoted: BTreeMap<Who, Demotion>,
}

#[derive(Clone, Copy, Debug)]
struct Avoided {
    until: Instant,
    /// Complaints in a row.
    times: u32,
}

#[derive(Clone, Copy, Debug)]
struct Demotion {
    until: Instant,
    by: Who,
}

/// A complaint's `problem`, as far as it makes a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    WrongBytes,
    /// The origin has another file than was imported.
    Changed,
    Other,
}

impl Problem {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "wrong-bytes" => Self::WrongBytes,
            "changed" => Self::Changed,
            _ => Self::Other,
        }
    }
}

impl Complaints {
    /// Takes a complaint; true if it is the first in a while that concerns everybody.
    pub(super) fn take(&mut self, now: Instant, key: Key, problem: Problem) -> bool {
        let before = self.avoided.get(&key);
        // Long ago is another trouble.
        let row = before.filter(|before| now < before.until + OTHERS_MAX);
        let times = row.map_or(0, |before| before.times).saturating_add(1);
        let time = match problem {
            Problem::WrongBytes | Problem::Changed | Problem::Other if key.1 == ORIGIN => AT_ORIGIN,
            Problem::WrongBytes => WRONG_BYTES,
            Problem::Changed | Problem::Other => doubled(times),
        };
        // A lesser complaint does not shorten what a graver one said.
        let until = before.map_or(now, |before| before.until).max(now + time);
        self.avoided.insert(key, Avoided { until, times });
        self.order.push_back((key, until));
        while self.order.len() > COMPLAINTS_MAX {
            let Some((key, until)) = self.order.pop_front() else {
                break;
            };
            // It may have been renewed since.
            let last = self.avoided.get(&key);
            if last.is_some_and(|avoided| avoided.until == until) {
                self.avoided.remove(&key);
            }
        }
        if problem != Problem::WrongBytes {
            return false;
        }
        self.demoted.retain(|_, demotion| now < demotion.until);
        let (by, source, _) = key;
        let is_news = !self.demoted.contains_key(&source);
        let own = self.demoted.values().filter(|demotion| demotion.by == by);
        if is_news && own.count() >= DEMOTED_BY_ONE_MAX {
            return false;
        }
        let until = now + WRONG_BYTES;
        let demotion = self.demoted.entry(source).or_insert(Demotion { until, by });
        demotion.until = until;
        is_news
    }

    /// Should `asker` not be sent to `source` for this object?
    pub(super) fn is_avoided(&self, now: Instant, key: Key) -> bool {
        let avoided = self.avoided.get(&key);
        avoided.is_some_and(|avoided| now < avoided.until)
    }

    /// Did somebody get wrong bytes from it?
    pub(super) fn is_demoted(&self, now: Instant, source: Who) -> bool {
        let demotion = self.demoted.get(&source);
        demotion.is_some_and(|demotion| now < demotion.until)
    }
}

fn doubled(times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(16);
    OTHERS_FIRST.saturating_mul(1 << doublings).min(OTHERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn who_complains_stays_away_and_wrong_bytes_concern_everybody() {
        let mut complaints = Complaints::default();
        let now = clock::now();
        let (asker, liar, gone) = (Who(1), Who(2), Who(3));
        assert!(complaints.take(now, (asker, liar, 7), Problem::of("wrong-bytes")));
        assert!(
            !complaints.take(now, (asker, liar, 8), Problem::WrongBytes),
            "told"
        );
        assert!(!complaints.take(now, (asker, gone, 7), Problem::of("not-found")));
        let later = now + OTHERS_FIRST;
        assert!(complaints.is_avoided(later, (asker, liar, 7)));
        assert!(!complaints.is_avoided(later, (asker, liar, 9)));
        assert!(
            !complaints.is_avoided(later, (Who(5), liar, 7)),
            "others decide"
        );
        assert!(complaints.is_demoted(later, liar) && !complaints.is_demoted(now, gone));
        assert!(complaints.is_avoided(now, (asker, gone, 7)));
        assert!(!complaints.is_avoided(later, (asker, gone, 7)));
        let end = now + WRONG_BYTES;
        assert!(!complaints.is_demoted(end, liar));
        assert!(!complaints.is_avoided(end, (asker, liar, 7)));
        assert!(
            complaints.take(end, (asker, liar, 7), Problem::WrongBytes),
            "told again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_was_killed_is_asked_again_soon_and_one_that_stays_broken_ever_later() {
        let mut complaints = Complaints::default();
        let key = (Who(1), Who(2), 7);
        let mut now = clock::now();
        for seconds in [10, 20, 40, 80, 120, 120] {
            complaints.take(now, key, Problem::of("broken"));
            let end = now + Duration::from_secs(seconds);
            assert!(complaints.is_avoided(end - Duration::from_millis(1), key));
            assert!(!complaints.is_avoided(end, key), "{seconds}");
            now = end;
        }
        now += OTHERS_MAX;
        complaints.take(now, key, Problem::of("broken"));
        assert!(!complaints.is_avoided(now + OTHERS_FIRST, key), "anew");
        complaints.take(now, key, Problem::WrongBytes);
        complaints.take(now, key, Problem::Other);
        let end = now + WRONG_BYTES;
        assert!(complaints.is_avoided(end - Duration::from_secs(1), key));
    }

    #[tokio::test(start_paused = true)]
    async fn one_box_cannot_demote_the_fleet() {
        let mut complaints = Complaints::default();
        let now = clock::now();
        let (thief, honest) = (Who(1), Who(2));
        for number in 10..30 {
            complaints.take(now, (thief, Who(number), 7), Problem::WrongBytes);
        }
        let demoted = |complaints: &Complaints, now| {
            let all = (10..30).filter(|number| complaints.is_demoted(now, Who(*number)));
            all.count()
        };
        assert_eq!(demoted(&complaints, now), DEMOTED_BY_ONE_MAX);
        assert!(complaints.is_avoided(now, (thief, Who(29), 7)));
        assert!(
            complaints.take(now, (honest, Who(29), 7), Problem::WrongBytes),
            "others are still heard"
        );
        assert_eq!(demoted(&complaints, now), DEMOTED_BY_ONE_MAX + 1);
        let end = now + WRONG_BYTES;
        assert!(complaints.take(end, (thief, Who(25), 7), Problem::WrongBytes));
        assert_eq!(demoted(&complaints, end), 1);
    }
}
