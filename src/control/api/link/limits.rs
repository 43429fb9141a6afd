//! How much of everything: connections, handshakes, heavy bodies, requests of one box. Never waits.

use crate::clock::Instant;
use crate::control::api::crowd::Room;
use crate::control::fleet::Refused;
use crate::ids::BoxId;
use crate::lock::lock;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// The listener's bounds. The defaults suit 18,000 boxes; tests lower them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// 18,000 boxes, each with a connection that ends and one that begins.
    pub connections: usize,
    /// Boxes of one site may share an address; a /64 counts as one.
    pub connections_per_address: usize,
    /// At once. More than one address may begin, so that one cannot hold up the others.
    pub handshakes: usize,
    /// From the connection to the end of the handshake, its turn included.
    pub handshake_time: Duration,
    /// Without a request for so long a connection ends; heartbeats come every 10 s.
    pub idle: Duration,
    /// Large bodies at once, one a box; each may become half a gigabyte while it is read.
    pub large_bodies: usize,
    /// Enrolments at once: the only thing that strangers may ask.
    pub enrolments: usize,
    /// Reports of one box in a burst; one more every [`REPORT_EVERY`].
    pub reports: u32,
    /// Questions of one box for fill sources in a burst; one more every [`FILL_EVERY`].
    pub fills: u32,
    /// Files of the origin in a burst; one more every [`ORIGIN_EVERY`].
    pub origins: u32,
    /// Other requests of one box in a burst; one more every [`OTHER_EVERY`].
    pub others: u32,
}

/// A box has a report to make every 5 min, and at once when something happens.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// A box asks for sources when it has finished with what it was told, or something failed.
const FILL_EVERY: Duration = Duration::from_millis(200);

/// A box fetches small objects as fast as its cap lets it: 1.2 Gbit/s of 150 KB each.
const ORIGIN_EVERY: Duration = Duration::from_millis(1);

/// Heartbeats come every 10 s, renewals and manifests seldom.
const OTHER_EVERY: Duration = Duration::from_secs(1);

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 40_000,
            connections_per_address: 2_048,
            handshakes: 4_096,
            handshake_time: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            large_bodies: 4,
            enrolments: 8,
            reports: 20,
            fills: 20,
            origins: 2_000,
            others: 30,
        }
    }
}

/// Large bodies that are under way. Leaving is dropping the [`HeavyPlace`].
#[derive(Debug, Default)]
pub(super) struct Heavy(Mutex<HashSet<BoxId>>);

#[derive(Debug)]
pub(super) struct HeavyPlace {
    heavy: Arc<Heavy>,
    id: BoxId,
}

/// What each box asked lately. Only boxes of the registry get here, so its size is theirs.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<(BoxId, Kind), Bucket>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Report,
    Fill,
    Origin,
    Other,
}

#[derive(Debug)]
struct Bucket {
    /// Everything before this is paid for.
    paid_until: Instant,
}

impl Limits {
    pub(super) fn room(&self) -> Room {
        Room {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
        }
    }
}

impl Heavy {
    /// `None`: full, or this box has one under way. One each, so that a box which sends slowly, or
    /// means harm, does not keep all the others from reporting.
    pub(super) fn enter(self: &Arc<Self>, id: &BoxId, limits: &Limits) -> Option<HeavyPlace> {
        let mut inside = lock(&self.0);
        if inside.len() >= limits.large_bodies || !inside.insert(id.clone()) {
            return None;
        }
        Some(HeavyPlace {
            heavy: Arc::clone(self),
            id: id.clone(),
        })
    }
}

impl Drop for HeavyPlace {
    fn drop(&mut self) {
        lock(&self.heavy.0).remove(&self.id);
    }
}

impl Rates {
    /// Counts a request, or says when the next one is welcome.
    pub(super) fn admit(
        &self,
        now: Instant,
        id: &BoxId,
        kind: Kind,
        limits: &Limits,
    ) -> Result<(), Refused> {
        let (every, burst) = match kind {
            Kind::Report => (REPORT_EVERY, limits.reports),
            Kind::Fill => (FILL_EVERY, limits.fills),
            Kind::Origin => (ORIGIN_EVERY, limits.origins),
            Kind::Other => (OTHER_EVERY, limits.others),
        };
        let mut buckets = lock(&self.0);
        let bucket = buckets
            .entry((id.clone(), kind))
            .or_insert(Bucket { paid_until: now });
        let start = bucket.paid_until.max(now);
        let ahead = start.saturating_duration_since(now);
        if ahead + every > every * burst {
            let message = format!("{id} asks too often");
            return Err(Refused::busy(message, every));
        }
        bucket.paid_until = start + every;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_box_has_one_large_body_at_a_time_and_leaves_room_for_others() {
        let heavy = Arc::<Heavy>::default();
        let limits = Limits {
            large_bodies: 2,
            ..Limits::default()
        };
        let enter = |number: u32| {
            let id = BoxId::parse(&format!("c{number:03}-tls001-isp")).unwrap();
            heavy.enter(&id, &limits)
        };
        let first = enter(1);
        assert!(first.is_some() && enter(1).is_none(), "one each");
        let second = enter(2);
        assert!(second.is_some() && enter(3).is_none(), "full");
        drop(first);
        assert!(enter(3).is_some() && enter(2).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_has_a_burst_and_then_its_rate() {
        let (rates, limits) = (Rates::default(), Limits::default());
        let id = BoxId::parse("c001-tls001-isp").unwrap();
        let now = clock::now();
        for _ in 0..limits.reports {
            assert!(rates.admit(now, &id, Kind::Report, &limits).is_ok());
        }
        let refused = rates.admit(now, &id, Kind::Report, &limits).unwrap_err();
        assert_eq!(refused.retry_after, Some(REPORT_EVERY));
        assert!(
            rates.admit(now, &id, Kind::Other, &limits).is_ok(),
            "its own bucket"
        );
        let later = now + REPORT_EVERY;
        assert!(rates.admit(later, &id, Kind::Report, &limits).is_ok());
        assert!(rates.admit(later, &id, Kind::Report, &limits).is_err());
    }
}
