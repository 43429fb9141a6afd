//! How many boxes send everything at once: after a restart of the control plane all of them have
//! to, and it must not drown in it (SAFETY: staying up). Sans-IO.

use crate::clock::Instant;
use crate::ids::BoxId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Boxes that were asked for everything and have not sent it yet. A box with few routes answers
/// within a second, so 18,000 boxes are through in ten minutes; 32 full tables are some 3 GB.
const AT_ONCE_MAX: usize = 32;

/// For a box to follow the request; afterwards its place is another's.
const PLACE_TIME: Duration = Duration::from_secs(60);

/// When a box that found no place is to try again, before the spread of its own.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Resyncs {
    places: BTreeMap<BoxId, Instant>,
}

impl Resyncs {
    /// May `id` be asked for everything now? It keeps its place until it is done or too late.
    pub(super) fn grant(&mut self, now: Instant, id: &BoxId) -> bool {
        if let Some(ends) = self.places.get(id)
            && now < *ends
        {
            return true;
        }
        self.places.retain(|_, ends| now < *ends);
        if self.places.len() >= AT_ONCE_MAX {
            return false;
        }
        self.places.insert(id.clone(), now + PLACE_TIME);
        true
    }

    pub(super) fn done(&mut self, id: &BoxId) {
        self.places.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn id(number: usize) -> BoxId {
        BoxId::parse(&format!("c{number:03}-tls001-isp")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_bounded_kept_and_given_on() {
        let mut resyncs = Resyncs::default();
        let now = clock::now();
        for number in 1..=AT_ONCE_MAX {
            assert!(resyncs.grant(now, &id(number)));
        }
        assert!(!resyncs.grant(now, &id(900)));
        assert!(resyncs.grant(now, &id(1)), "it has its place");
        resyncs.done(&id(2));
        assert!(resyncs.grant(now, &id(900)));
        assert!(!resyncs.grant(now, &id(901)));
        assert!(resyncs.grant(now + PLACE_TIME, &id(901)));
    }
}
