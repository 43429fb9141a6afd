//! What is wrong with the control link at present: one sentence a kind of call.
//!
//! Owned by `task`. A failure that goes on is logged once and then seldom; that it is over is
//! logged once. Sans-IO but for the log.

use super::view;
use crate::clock::Instant;
use std::time::Duration;

/// The same failure is logged again after so long.
const LOG_AGAIN: Duration = Duration::from_secs(600);

/// The latest last; at most one a kind of call.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<Complaint>);

#[derive(Debug)]
struct Complaint {
    what: &'static str,
    logged: Instant,
    text: String,
}

impl Complaints {
    /// Takes a failure of `what`; true when it was logged.
    pub(super) fn add(&mut self, now: Instant, what: &'static str, problem: &str) -> bool {
        let text = view::bounded(&format!("{what}: {problem}"));
        let known = self.take(what).filter(|known| {
            known.text == text && now.saturating_duration_since(known.logged) < LOG_AGAIN
        });
        let is_logged = known.is_none();
        if is_logged {
            tracing::warn!(call = what, "control plane: {text}");
        }
        let logged = known.map_or(now, |known| known.logged);
        self.0.push(Complaint { what, logged, text });
        is_logged
    }

    /// `what` works; true when it did not before.
    pub(super) fn settle(&mut self, what: &'static str) -> bool {
        let known = self.take(what).is_some();
        if known {
            tracing::info!(call = what, "control plane: {what} works again");
        }
        known
    }

    /// The latest that is not settled.
    pub(super) fn last(&self) -> Option<&str> {
        self.0.last().map(|complaint| complaint.text.as_str())
    }

    fn take(&mut self, what: &'static str) -> Option<Complaint> {
        let at = self.0.iter().position(|known| known.what == what)?;
        Some(self.0.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_failure_is_logged_once_and_then_seldom_and_the_latest_is_shown() {
        let (mut complaints, now) = (Complaints::default(), clock::now());
        assert!(complaints.add(now, "report", "no answer"));
        assert!(complaints.add(now, "heartbeat", "no answer"));
        for second in 1..600 {
            let at = now + Duration::from_secs(second);
            assert!(!complaints.add(at, "report", "no answer"));
        }
        assert_eq!(complaints.last(), Some("report: no answer"));
        assert!(complaints.add(now + LOG_AGAIN, "report", "no answer"));
        assert!(
            complaints.add(now + LOG_AGAIN, "report", "refused"),
            "another one"
        );
        assert!(complaints.settle("report"));
        assert!(!complaints.settle("report"));
        assert_eq!(complaints.last(), Some("heartbeat: no answer"));
        assert!(complaints.settle("heartbeat"));
        assert_eq!(complaints.last(), None);
    }
}
