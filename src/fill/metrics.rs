//! The fill in OpenMetrics. Read from the view when somebody scrapes, never pushed.

use super::Handle;
use super::NightView;
use super::View;
use super::view;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use crate::telemetry::Registry;
use std::fmt;

#[derive(Debug)]
struct Scrape(Handle);

impl Handle {
    /// Adds the metrics of the fill to what `/metrics` tells.
    pub fn register(&self, registry: &Registry) {
        registry.register(Scrape(self.clone()));
    }
}

impl Collector for Scrape {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let view = self.0.view();
        let received = view.received.iter().map(|received| {
            let class = ("class", view::class_name(received.class));
            let source = ("source", view::kind_name(received.source));
            (vec![class, source], float(received.bytes))
        });
        let received: Vec<_> = received.collect();
        let help = "Bytes received, as the cap counts them.";
        into.counters("fill_received_bytes", help, &received)?;
        let ended = view.ended.iter();
        let ended: Vec<_> = ended
            .map(|(outcome, count)| (vec![("outcome", *outcome)], float(*count)))
            .collect();
        into.counters("fill_transfers", "Transfers by how they ended.", &ended)?;
        let help = "Bytes of objects that were wrong, or came twice.";
        into.counter("fill_wasted_bytes", help, float(view.wasted_bytes))?;
        let help = "Objects deleted as announced.";
        into.counter("fill_deleted_objects", help, float(view.deleted))?;
        let help = "Bytes deleted as announced.";
        into.counter("fill_deleted_bytes", help, float(view.deleted_bytes))?;
        gauges(&view, into)?;
        last_night(&view, into)
    }
}

fn gauges(view: &View, into: &mut Exposition<'_>) -> fmt::Result {
    let gauges = [
        (
            "fill_window_open",
            "Whether the window is open.",
            u64::from(view.window.open),
        ),
        (
            "fill_paused",
            "Whether an operator paused the fill.",
            u64::from(view.paused),
        ),
        (
            "fill_transfers_running",
            "Transfers under way.",
            count(view.transfers.len()),
        ),
        (
            "fill_rate_bits_per_second",
            "Received at this moment.",
            view.rate_bps,
        ),
        (
            "fill_cap_bits_per_second",
            "The highest rate allowed.",
            view.cap_bps,
        ),
        ("fill_wanted_objects", "Objects to be fetched.", view.wanted),
        (
            "fill_wanted_bytes",
            "Bytes to be fetched.",
            view.wanted_bytes,
        ),
        (
            "fill_carried_over_objects",
            "Objects for a later window.",
            view.carried_over,
        ),
        (
            "fill_carried_over_bytes",
            "Bytes for a later window.",
            view.carried_over_bytes,
        ),
        (
            "fill_no_room_bytes",
            "Bytes that no disk has room for.",
            view.no_room_bytes,
        ),
        (
            "fill_leaving_bytes",
            "Announced for deletion.",
            view.leaving_bytes,
        ),
        (
            "fill_sources_quarantined",
            "Sources that lied.",
            count(view.quarantined.len()),
        ),
    ];
    for (name, help, value) in gauges {
        into.gauge(name, help, float(value))?;
    }
    let left = [
        (vec![("class", "night")], float(view.night_left_bytes)),
        (vec![("class", "urgent")], float(view.urgent_left_bytes)),
    ];
    into.gauges("fill_budget_left_bytes", "Left of 24 h.", &left)
}

/// The latest night, or the one under way: what a graph of ninety days is made of.
fn last_night(view: &View, into: &mut Exposition<'_>) -> fmt::Result {
    let Some(last) = NightView::last(&view.nights) else {
        return Ok(());
    };
    let night = &last.night;
    let single = [
        ("fill_night_bytes", "Received.", night.bytes.total()),
        (
            "fill_night_outside_bytes",
            "Of these, while the window was shut.",
            night.outside_bytes,
        ),
        ("fill_night_done_objects", "Completed.", night.done),
        ("fill_night_wanted_objects", "Wanted.", night.wanted),
        (
            "fill_night_highest_bits_per_second",
            "The most of any second.",
            night.highest_second_bps,
        ),
        (
            "fill_night_egress_bytes",
            "Given on that day.",
            night.egress_bytes,
        ),
    ];
    for (name, help, value) in single {
        into.gauge(name, help, float(value))?;
    }
    let refused = night.refused.words();
    let refused = refused.map(|(word, count)| (vec![("reason", word)], float(count)));
    let help = "Transfers of the night that ended without their object.";
    into.gauges("fill_night_refused_transfers", help, &refused)?;
    let p95 = [
        (vec![("fill", "with")], float(night.inbound_p95_bps)),
        (
            vec![("fill", "without")],
            float(night.inbound_p95_without_fill_bps),
        ),
    ];
    let help = "95th percentile of thirty days of inbound traffic.";
    into.gauges("fill_inbound_p95_bits_per_second", help, &p95)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// OpenMetrics values are floating point; counts are exact up to 2^53.
fn float(value: u64) -> f64 {
    value as f64
}
