//! The listener in OpenMetrics, read when somebody scrapes.

use super::listener::Shared;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use std::fmt;
use std::sync::Arc;
use std::sync::Weak;

/// The registry outlives the listener and must not hold what it holds.
#[derive(Debug)]
struct Scrape(Weak<Shared>);

pub(super) fn register(shared: &Arc<Shared>) {
    let scrape = Scrape(Arc::downgrade(shared));
    shared.deps.metrics.register(scrape);
}

impl Collector for Scrape {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let Some(view) = self.0.upgrade().map(|shared| shared.view()) else {
            return Ok(());
        };
        let float = |count: u64| count as f64;
        into.gauge(
            "peer_connections_open",
            "Connections of other boxes open at this moment",
            float(view.connections),
        )?;
        into.counter(
            "peer_connections",
            "Connections of other boxes",
            float(view.connections_total),
        )?;
        into.counter(
            "peer_requests",
            "Requests of other boxes",
            float(view.requests),
        )?;
        into.counter(
            "peer_responses",
            "Requests answered with bytes of an object",
            float(view.responses),
        )?;
        into.counter(
            "peer_bytes_sent",
            "Bytes of objects given to other boxes",
            float(view.bytes_sent),
        )?;
        into.counter(
            "peer_kernel_connections",
            "Connections of other boxes whose large bodies the kernel seals",
            float(view.sealed_by_kernel),
        )?;
        let counts = view.refusals.iter();
        let samples: Vec<_> = counts
            .map(|(reason, count)| (vec![("reason", reason.as_str())], float(*count)))
            .collect();
        into.counters("peer_refusals", "Refused or cut, by reason", &samples)
    }
}
