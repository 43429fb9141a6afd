//! The serving side in OpenMetrics. Read from the counters when somebody scrapes, never pushed.

use super::handle::Handle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;

#[derive(Debug)]
struct Scrape(Handle);

impl Handle {
    /// Adds the metrics of serving to what `/metrics` tells.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Scrape(self.clone())));
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = self.0.view();
        let statuses = view
            .statuses
            .iter()
            .map(|(code, count)| (code.to_string(), *count));
        family(
            &mut encoder,
            ("oca_http_requests", "Responses by status"),
            "code",
            statuses,
        )?;
        let refusals = view
            .refusals
            .iter()
            .map(|(reason, count)| (reason.clone(), *count));
        family(
            &mut encoder,
            ("oca_refusals", "Viewers turned away or cut off"),
            "reason",
            refusals,
        )?;
        let handshakes = [
            ("ok", view.handshakes.ok),
            ("failed", view.handshakes.failed),
        ];
        family(
            &mut encoder,
            ("oca_tls_handshakes", "TLS handshakes"),
            "result",
            handshakes
                .into_iter()
                .map(|(result, count)| (result.to_owned(), count)),
        )?;
        for (name, help, value) in [
            (
                "oca_http_response_bytes",
                "Object bytes given to the network",
                view.bytes_sent,
            ),
            (
                "oca_connections",
                "Connections accepted",
                view.connections.total,
            ),
            (
                "oca_connection_panics",
                "Connections that ended in a panic",
                view.panics,
            ),
            (
                "oca_access_log_dropped",
                "Access log lines lost",
                view.access_log.dropped,
            ),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(descriptor)?;
        }
        let open = i64::try_from(view.connections.open).unwrap_or(i64::MAX);
        let descriptor = encoder.encode_descriptor(
            "oca_connections_open",
            "Open connections",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(open).encode(descriptor)
    }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    label: &'static str,
    values: impl Iterator<Item = (String, u64)>,
) -> fmt::Result {
    let mut descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in values {
        let labels = [(label, value)];
        let metric = descriptor.encode_family(&labels)?;
        ConstCounter::new(count).encode(metric)?;
    }
    Ok(())
}
