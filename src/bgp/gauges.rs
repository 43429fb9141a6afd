//! What the operator's desks count, as metrics: messages, limits, what was not kept.

use super::desk::Desk;
use super::detail::Messages;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use std::fmt;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Gauges {
    /// Each with its neighbour's name.
    pub(super) desks: Vec<(String, Arc<Desk>)>,
}

impl Collector for Gauges {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let (mut messages, mut limits, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        let (mut announced, mut refused) = (Vec::new(), Vec::new());
        let details: Vec<_> = self.desks.iter().map(|(_, desk)| desk.detail()).collect();
        for ((name, _), detail) in self.desks.iter().zip(&details) {
            let label = ("neighbour", name.as_str());
            for (direction, counts) in [("sent", &detail.sent), ("received", &detail.received)] {
                for (kind, count) in by_type(counts) {
                    let labels = vec![label, ("direction", direction), ("type", kind)];
                    messages.push((labels, as_f64(count)));
                }
            }
            for limit in &detail.limits {
                let percent = u32::try_from(limit.percent()).unwrap_or(u32::MAX);
                limits.push((vec![label, ("limit", limit.name())], f64::from(percent)));
            }
            let problems = detail.kernel_routes.iter();
            let problems = problems.filter(|route| route.problem.is_some()).count();
            refused.push((vec![label], as_f64(problems as u64)));
            dropped.push((vec![label], as_f64(detail.dropped)));
            announced.push((vec![label], as_f64(detail.announced.len() as u64)));
        }
        into.counters("bgp_messages", "Messages by type.", &messages)?;
        into.gauges("bgp_limit_percent", "How full each limit is.", &limits)?;
        let help = "Routes beyond a limit that this session did not keep.";
        into.gauges("bgp_routes_dropped", help, &dropped)?;
        let help = "Routes of the box itself that its kernel refuses.";
        into.gauges("bgp_kernel_routes_refused", help, &refused)?;
        into.gauges("bgp_announced", "Service addresses announced.", &announced)
    }
}

fn by_type(counts: &Messages) -> [(&'static str, u64); 5] {
    [
        ("open", counts.open),
        ("update", counts.update),
        ("notification", counts.notification),
        ("keepalive", counts.keepalive),
        ("route_refresh", counts.route_refresh),
    ]
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a counter beyond 2^53 may lose its last digit"
)]
fn as_f64(count: u64) -> f64 {
    count as f64
}
