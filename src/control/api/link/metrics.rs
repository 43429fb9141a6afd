//! The listener in OpenMetrics, read when somebody scrapes. Refusals by code are in
//! [`crate::control::fleet::Counters`], whoever refused.

use super::listener::Shared;
use crate::control::api::crowd::Crowd;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Connections that found no place.
    pub(super) crowded: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) requests: AtomicU64,
    /// Connections cut because their box was revoked or removed.
    pub(super) cut: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Scrape {
    counters: Arc<Counters>,
    crowd: Arc<Crowd>,
}

pub(super) fn register(shared: &Shared) {
    shared.deps.metrics.register(Scrape {
        counters: Arc::clone(&shared.counters),
        crowd: Arc::clone(&shared.crowd),
    });
}

impl Collector for Scrape {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let Counters {
            crowded,
            handshakes_failed,
            handshakes,
            requests,
            cut,
        } = &*self.counters;
        into.gauge(
            "link_connections_open",
            "Connections of boxes open at this moment",
            self.crowd.total() as f64,
        )?;
        into.counter(
            "link_connections_refused",
            "Connections refused for want of room",
            load(crowded),
        )?;
        let results = [("ok", handshakes), ("failed", handshakes_failed)];
        let results = results.map(|(result, count)| (vec![("result", result)], load(count)));
        into.counters("link_handshakes", "TLS handshakes of boxes", &results)?;
        into.counter("link_requests", "Requests of boxes", load(requests))?;
        into.counter(
            "link_connections_cut",
            "Connections cut because their box was revoked or removed",
            load(cut),
        )
    }
}
