//! Pacing and delivery quality in OpenMetrics: totals alone. Networks as labels would be as many
//! time series as there are clients' networks.

use super::metrics::family;
use super::metrics::float;
use super::quality::Tally;
use super::worker::Worker;
use crate::telemetry::Exposition;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A counter: its name, its help, and where it is.
type Counter = (&'static str, &'static str, fn(&Tally) -> &AtomicU64);

const COUNTERS: [Counter; 7] = [
    (
        "pacing_refused",
        "Responses whose rate the kernel would not take",
        |tally| &tally.unpaced,
    ),
    (
        "cmcd_responses",
        "Responses to requests with CMCD",
        |tally| &tally.cmcd,
    ),
    (
        "buffer_starvations",
        "Responses to players whose buffer had run empty (CMCD bs)",
        |tally| &tally.starvations,
    ),
    (
        "tcp_sampled_bytes",
        "TCP bytes sent to viewers, of the connections that were looked at",
        |tally| &tally.sent,
    ),
    (
        "tcp_sampled_retransmitted_bytes",
        "TCP bytes of the same connections that were sent again",
        |tally| &tally.retransmitted,
    ),
    (
        "quality_networks_forgotten",
        "Client networks dropped from the table of delivery quality before their time",
        |tally| &tally.forgotten,
    ),
    (
        "quality_responses_missed",
        "Responses left out of the table of delivery quality because it was being read",
        |tally| &tally.missed,
    ),
];

pub(super) fn collect(workers: &[Arc<Worker>], into: &mut Exposition<'_>) -> fmt::Result {
    let tallies = || workers.iter().map(|worker| &worker.quality.tally);
    let mut paced = BTreeMap::<&str, u64>::new();
    for (bound, count) in tallies().flat_map(Tally::all_paced) {
        *paced.entry(bound).or_default() += count;
    }
    let paced = paced.into_iter();
    let paced = paced.map(|(bound, count)| (bound.to_owned(), count));
    let help = "Responses held to a rate, by whose word it was";
    family(into, "paced_responses", help, "by", paced)?;
    for (name, help, counter) in COUNTERS {
        let sum: u64 = tallies().map(|tally| counter(tally).load(Relaxed)).sum();
        into.counter(name, help, float(sum))?;
    }
    Ok(())
}
