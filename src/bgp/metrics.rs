//! What is counted, and how it is shown. Counters belong to a neighbour and outlive its sessions.

use super::publish::Board;
use super::wire::FaultKind;
use crate::clock;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug, Default)]
pub(super) struct Counters {
    /// UPDATE messages.
    pub(super) updates: AtomicU64,
    /// Those with an error that RFC 7606 lets the session survive.
    pub(super) malformed: AtomicU64,
    /// By [`FaultKind::index`], those that ended the session too; each once an UPDATE.
    pub(super) faults: [AtomicU64; FaultKind::COUNT],
    pub(super) notifications_sent: AtomicU64,
    pub(super) notifications_received: AtomicU64,
    /// Sessions that were established.
    pub(super) established: AtomicU64,
    /// Connections closed as they came.
    pub(super) refused: AtomicU64,
}

impl Counters {
    pub(super) fn fault(&self, kind: FaultKind) {
        self.faults[kind.index()].fetch_add(1, Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) board: Arc<Board>,
    /// In the order of the configuration, as the snapshot's neighbours.
    pub(super) counters: Vec<Arc<Counters>>,
}

type Read = fn(&Counters) -> &AtomicU64;

const SHOWN: [(&str, &str, Read); 6] = [
    ("bgp_updates", "UPDATE messages received.", |c| &c.updates),
    (
        "bgp_updates_malformed",
        "UPDATE messages with errors that cost routes or attributes (RFC 7606).",
        |c| &c.malformed,
    ),
    (
        "bgp_notifications_sent",
        "NOTIFICATION messages sent.",
        |c| &c.notifications_sent,
    ),
    (
        "bgp_notifications_received",
        "NOTIFICATION messages received.",
        |c| &c.notifications_received,
    ),
    ("bgp_sessions_established", "Sessions that came up.", |c| {
        &c.established
    }),
    (
        "bgp_connections_refused",
        "Connections of the neighbour closed as they came.",
        |c| &c.refused,
    ),
];

impl Collector for Metrics {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let snapshot = self.board.snapshot(clock::now());
        let named = snapshot.neighbours.iter().zip(&self.counters);
        let (mut up, mut routes) = (Vec::new(), Vec::new());
        for neighbour in &snapshot.neighbours {
            let label = ("neighbour", neighbour.name.as_str());
            let is_up = neighbour.state == "established";
            up.push((vec![label], f64::from(u8::from(is_up))));
            let steerable = neighbour.routes - neighbour.filtered;
            for (state, count) in [("steerable", steerable), ("filtered", neighbour.filtered)] {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                routes.push((vec![label, ("state", state)], f64::from(count)));
            }
        }
        into.gauges("bgp_session_up", "1 while established.", &up)?;
        into.gauges("bgp_routes", "Routes learned.", &routes)?;
        for (name, help, read) in SHOWN {
            let samples: Vec<_> = named
                .clone()
                .map(|(neighbour, counters)| {
                    let label = ("neighbour", neighbour.name.as_str());
                    (vec![label], as_f64(read(counters).load(Relaxed)))
                })
                .collect();
            into.counters(name, help, &samples)?;
        }
        let mut faults = Vec::new();
        for (neighbour, counters) in named {
            for kind in FaultKind::ALL {
                let count = counters.faults[kind.index()].load(Relaxed);
                if count > 0 {
                    let label = ("neighbour", neighbour.name.as_str());
                    faults.push((vec![label, ("kind", kind.as_str())], as_f64(count)));
                }
            }
        }
        let help = "UPDATE messages with an error, by its kind (RFC 7606).";
        into.counters("bgp_update_faults", help, &faults)?;
        Ok(())
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a counter beyond 2^53 may lose its last digit"
)]
fn as_f64(count: u64) -> f64 {
    count as f64
}
