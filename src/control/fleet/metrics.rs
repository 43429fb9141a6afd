//! The fleet in OpenMetrics: read from the counters and the published view when somebody scrapes.

use super::Counters;
use super::Shut;
use super::View;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use crate::telemetry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

#[derive(Debug)]
struct Scrape {
    counters: Arc<Counters>,
    view: watch::Receiver<Arc<View>>,
}

pub(super) fn register(
    registry: &Registry,
    counters: &Arc<Counters>,
    view: &watch::Receiver<Arc<View>>,
) {
    registry.register(Scrape {
        counters: Arc::clone(counters),
        view: view.clone(),
    });
}

impl Collector for Scrape {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let view = Arc::clone(&self.view.borrow());
        let counters = &self.counters;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        into.counter("fleet_reports", "Reports taken", load(&counters.reports))?;
        into.counter(
            "fleet_reports_repeated",
            "Reports answered again, without effect",
            load(&counters.repeated),
        )?;
        into.counter(
            "fleet_heartbeats",
            "Heartbeats taken",
            load(&counters.heartbeats),
        )?;
        into.counter(
            "fleet_quarantines",
            "Boxes quarantined because two spoke under one name",
            load(&counters.quarantines),
        )?;
        let refused: Vec<_> = counters
            .refusals()
            .map(|(code, count)| (vec![("code", code)], count as f64))
            .collect();
        into.counters(
            "link_refusals",
            "Requests of boxes refused, by code",
            &refused,
        )?;
        let mut states = BTreeMap::new();
        for state in STATES {
            states.insert(state, 0_u32);
        }
        for view in view.boxes.values() {
            *states.entry(state(&view.open)).or_default() += 1;
        }
        let states: Vec<_> = states
            .into_iter()
            .map(|(state, count)| (vec![("state", state)], f64::from(count)))
            .collect();
        into.gauges("fleet_boxes", "Boxes by state", &states)?;
        into.gauge(
            "fleet_frozen",
            "1 while the fleet's last state is kept because too many boxes fell silent at once",
            f64::from(u8::from(view.frozen.is_some())),
        )
    }
}

const STATES: [&str; 8] = [
    "open",
    "unknown",
    "closed",
    "not-enabled",
    "quarantined",
    "revoked",
    "silent",
    "stale",
];

fn state(open: &Result<(), Shut>) -> &'static str {
    match open {
        Ok(()) => "open",
        Err(Shut::Unknown) => "unknown",
        Err(Shut::Gate(_)) => "closed",
        Err(Shut::NotEnabled) => "not-enabled",
        Err(Shut::Quarantined) => "quarantined",
        Err(Shut::Revoked) => "revoked",
        Err(Shut::Silent) => "silent",
        Err(Shut::Stale) => "stale",
    }
}
