//! The lease: how long this box may go on without a word from its control plane.
//!
//! Every reply brings one; when it ends, the gate closes. Sans-IO: `task` grants it and publishes
//! what [`Lease::is_fresh`] says. It runs on the boot-time clock: a box that was suspended for an
//! hour must not come back with fifty minutes left, for its viewers were given to others long ago.

use crate::clock::Boot;
use std::time::Duration;

/// No control plane makes a box independent of it for longer than this by mistake.
pub const LEASE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// One a box, owned by `task`.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    held: Option<Held>,
    last_contact: Option<Boot>,
    outage_since: Option<Boot>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// When the question was sent whose answer granted it.
    asked: Boot,
    ends: Boot,
}

/// The lease at one moment, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Zero once it ended; `None` when none was ever granted.
    pub ends_in: Option<Duration>,
    pub since_contact: Option<Duration>,
    /// How long every call has failed.
    pub outage: Option<Duration>,
}

impl Lease {
    /// A reply came, to a question sent at `asked`. The lease counts from there: a reply that was
    /// long on its way never makes it end later than the control plane thinks. The reply to the
    /// latest question rules, shorter or not; false for one that came too late to rule.
    pub fn grant(&mut self, asked: Boot, time: Duration) -> bool {
        self.last_contact = self.last_contact.max(Some(asked));
        self.outage_since = None;
        if self.held.is_some_and(|held| held.asked > asked) {
            return false;
        }
        let ends = asked + time.min(LEASE_MAX);
        self.held = Some(Held { asked, ends });
        true
    }

    /// A call failed: an outage begins, if none is under way. Tells whether it begins.
    pub fn failed(&mut self, now: Boot) -> bool {
        let begins = self.outage_since.is_none();
        self.outage_since.get_or_insert(now);
        begins
    }

    pub fn is_fresh(&self, now: Boot) -> bool {
        self.held.is_some_and(|held| now < held.ends)
    }

    /// When it ends; `None` when none was granted.
    pub fn deadline(&self) -> Option<Boot> {
        self.held.map(|held| held.ends)
    }

    pub fn is_outage(&self) -> bool {
        self.outage_since.is_some()
    }

    pub fn view(&self, now: Boot) -> View {
        let since = |at: Boot| now.saturating_since(at);
        View {
            ends_in: self.held.map(|held| held.ends.saturating_since(now)),
            since_contact: self.last_contact.map(since),
            outage: self.outage_since.map(since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minutes: u32) -> Boot {
        Boot::default() + MINUTE * minutes
    }

    #[test]
    fn it_ends_on_time_and_a_box_without_one_has_none() {
        let mut lease = Lease::default();
        assert!(!lease.is_fresh(at(0)));
        assert_eq!(lease.deadline(), None);
        assert!(lease.grant(at(1), 30 * MINUTE));
        assert!(lease.is_fresh(at(30)));
        assert!(!lease.is_fresh(at(31)), "the end itself is too late");
        assert_eq!(lease.deadline(), Some(at(31)));
        assert_eq!(lease.view(at(40)).ends_in, Some(Duration::ZERO));
    }

    #[test]
    fn the_reply_to_the_latest_question_rules_even_when_it_is_shorter() {
        let mut lease = Lease::default();
        assert!(lease.grant(at(2), 5 * MINUTE));
        assert!(!lease.grant(at(1), 60 * MINUTE), "an old reply, late");
        assert_eq!(lease.deadline(), Some(at(7)));
        assert!(lease.grant(at(3), Duration::ZERO));
        assert!(!lease.is_fresh(at(3)));
    }

    #[test]
    fn no_lease_is_longer_than_the_bound() {
        let mut lease = Lease::default();
        lease.grant(at(0), Duration::MAX);
        assert!(lease.is_fresh(at(0) + (LEASE_MAX - MINUTE)));
        assert!(!lease.is_fresh(at(0) + LEASE_MAX));
    }

    #[test]
    fn an_outage_lasts_from_the_first_failure_to_the_next_reply() {
        let mut lease = Lease::default();
        lease.grant(at(0), 30 * MINUTE);
        assert!(lease.failed(at(2)));
        assert!(!lease.failed(at(5)), "still the same outage");
        let view = lease.view(at(9));
        assert_eq!(view.outage, Some(7 * MINUTE));
        assert_eq!(view.since_contact, Some(9 * MINUTE));
        assert_eq!(view.ends_in, Some(21 * MINUTE));
        lease.grant(at(10), 30 * MINUTE);
        assert_eq!(lease.view(at(10)).outage, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_wakes_without_its_lease() {
        use crate::clock;
        clock::pin_boot(at(5));
        let mut lease = Lease::default();
        lease.grant(clock::boot(), 30 * MINUTE);
        tokio::time::advance(MINUTE).await;
        assert!(lease.is_fresh(clock::boot()));
        clock::pin_boot(clock::boot() + 60 * MINUTE);
        assert!(!lease.is_fresh(clock::boot()));
    }
}
