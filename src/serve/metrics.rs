//! The serving side in OpenMetrics. Read from the counters when somebody scrapes, never pushed.

use super::handle::Handle;
use super::kernel::TlsOffloadView;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use crate::telemetry::Registry;
use std::fmt;

#[derive(Debug)]
struct Scrape(Handle);

impl Handle {
    /// Adds the metrics of serving to what `/metrics` tells.
    pub fn register(&self, registry: &Registry) {
        registry.register(Scrape(self.clone()));
    }
}

impl Collector for Scrape {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let view = self.0.view();
        let statuses = view.statuses.iter();
        let statuses = statuses.map(|(code, count)| (code.to_string(), *count));
        family(
            into,
            "http_requests",
            "Responses by status",
            "code",
            statuses,
        )?;
        let refusals = view.refusals.iter();
        let refusals = refusals.map(|(reason, count)| (reason.clone(), *count));
        family(
            into,
            "refusals",
            "Viewers turned away or cut off",
            "reason",
            refusals,
        )?;
        let handshakes = [
            ("ok", view.handshakes.ok),
            ("failed", view.handshakes.failed),
        ];
        let handshakes = handshakes.map(|(result, count)| (result.to_owned(), count));
        family(
            into,
            "tls_handshakes",
            "TLS handshakes",
            "result",
            handshakes,
        )?;
        offloaded(into, &view.tls.offload)?;
        let (sent, panics) = (float(view.bytes_sent), float(view.panics));
        into.counter(
            "http_response_bytes",
            "Object bytes given to the network",
            sent,
        )?;
        into.counter("connection_panics", "Connections ended by a panic", panics)?;
        let (total, open) = (view.connections.total, view.connections.open);
        into.counter("connections", "Connections accepted", float(total))?;
        into.gauge(
            "connections_open",
            "Connections open at this moment",
            float(open),
        )?;
        let dropped = float(view.access_log.dropped);
        into.counter("access_log_dropped", "Access log lines lost", dropped)
    }
}

/// TLS connections with a large body by where it was sealed, and the kernel's own counts.
fn offloaded(into: &mut Exposition<'_>, offload: &TlsOffloadView) -> fmt::Result {
    let kernel = ("kernel", "", float(offload.kernel));
    // Those that had no large body yet are not settled, and their number falls again.
    let stayed = offload
        .user_space
        .iter()
        .filter(|(why, _)| **why != "small");
    let stayed = stayed.map(|(why, count)| ("user-space", *why, float(*count)));
    let samples: Vec<_> = std::iter::once(kernel)
        .chain(stayed)
        .map(|(path, reason, count)| (vec![("path", path), ("reason", reason)], count))
        .collect();
    let help = "TLS connections with a large response, by where it was sealed and why";
    into.counters("tls_offload_connections", help, &samples)?;
    let samples: Vec<_> = offload
        .tls_stat
        .iter()
        .map(|(name, value)| (vec![("name", name.as_str())], float(*value)))
        .collect();
    into.gauges("tls_stat", "The host's /proc/net/tls_stat", &samples)
}

/// One counter with one label.
fn family(
    into: &mut Exposition<'_>,
    name: &str,
    help: &str,
    label: &str,
    counts: impl IntoIterator<Item = (String, u64)>,
) -> fmt::Result {
    let counts: Vec<(String, u64)> = counts.into_iter().collect();
    let samples: Vec<_> = counts
        .iter()
        .map(|(value, count)| (vec![(label, value.as_str())], float(*count)))
        .collect();
    into.counters(name, help, &samples)
}

/// OpenMetrics values are floating point; counts are exact up to 2^53.
fn float(count: u64) -> f64 {
    count as f64
}
