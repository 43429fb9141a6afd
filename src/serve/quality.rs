//! How content reaches the clients of each network: the figures that steering and operators read.
//!
//! `delivery` records each body that was sent; `handle` reads when somebody asks. Every worker has
//! a table of its own and never waits for a reader: what comes while one looks is counted as
//! missed. Figures are of the last five to ten minutes: two tables, the younger one takes the place
//! of the older when its time is over, or earlier when it is full. So the networks not seen for
//! longest go first, and a flood of addresses costs history, not memory.
//!
//! Sans-IO.

use super::cmcd::Cmcd;
use super::histogram::Histogram;
use super::pacing::BOUNDS;
use super::pacing::Bound;
use super::worker::Worker;
use crate::clock::Instant;
use crate::prefix::Prefix;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::TryLockError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A report goes out every five minutes: each finds at least that much.
const WINDOW: Duration = Duration::from_secs(300);

/// Networks in one table; a worker has two tables, together some 2 MB. A large provider's clients
/// are in a few thousand networks of this size.
const NETWORKS_MAX: usize = 4096;

/// Clients are told apart by networks that routing tells apart: longer prefixes are not announced
/// between networks, and a household's address changes within.
const IPV4_BITS: u8 = 24;
const IPV6_BITS: u8 = 48;

/// One worker's.
#[derive(Debug)]
pub(super) struct Quality {
    tables: Mutex<Tables>,
    pub(super) tally: Tally,
    /// Of viewers' connections; all of a box's have the same.
    pub(super) congestion_control: OnceLock<String>,
}

/// Totals since the start, for metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Responses that were paced, by position in [`BOUNDS`].
    paced: [AtomicU64; BOUNDS.len()],
    /// The kernel refused a rate.
    pub(super) unpaced: AtomicU64,
    /// Responses to requests with CMCD.
    pub(super) cmcd: AtomicU64,
    /// Of these, with an empty buffer.
    pub(super) starvations: AtomicU64,
    /// TCP bytes of the connections that were looked at, and those sent again.
    pub(super) sent: AtomicU64,
    pub(super) retransmitted: AtomicU64,
    /// Networks forgotten before their time, and responses that came while a reader looked.
    pub(super) forgotten: AtomicU64,
    pub(super) missed: AtomicU64,
}

/// One body, sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note<'a> {
    pub(super) bytes: u64,
    pub(super) is_paced: bool,
    pub(super) cmcd: Option<&'a Cmcd>,
    pub(super) sample: Option<Sample>,
}

/// What the kernel saw of a connection since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) acked: u64,
    pub(super) sent: u64,
    pub(super) retransmitted: u64,
    /// With something to send.
    pub(super) busy: Duration,
    pub(super) rtt: Duration,
    pub(super) min_rtt: Option<Duration>,
    /// Throughput, where nobody but the network limited it and there was enough to tell.
    pub(super) kbps: Option<u64>,
}

#[derive(Debug)]
struct Tables {
    young: BTreeMap<Prefix, Sums>,
    old: BTreeMap<Prefix, Sums>,
    young_since: Instant,
    young_until: Instant,
    old_since: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    bytes: u64,
    acked: u64,
    sent: u64,
    retransmitted: u64,
    busy_us: u64,
    rtt_us: u64,
    samples: u32,
    /// 0: none yet.
    min_rtt_us: u32,
    responses: u32,
    paced: u32,
    cmcd: u32,
    starvations: u32,
    rates: Histogram,
    /// What players measured.
    measured: Histogram,
}

/// Delivery over the last minutes, by client network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QualityView {
    /// The figures are of this long, 300 to 600 s once the box has run for that.
    pub window_s: u64,
    /// Networks seen; `rows` may have fewer.
    pub networks: u64,
    /// Of viewers' connections; `None` before the first was looked at.
    pub congestion_control: Option<String>,
    pub total: DeliveryView,
    /// Most bytes first.
    pub rows: Vec<NetworkView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkView {
    /// An IPv4 /24 or an IPv6 /48.
    pub prefix: Prefix,
    #[serde(flatten)]
    pub delivery: DeliveryView,
}

/// Figures of one network, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeliveryView {
    /// With at least one byte of an object.
    pub responses: u64,
    pub bytes: u64,
    /// Responses held to a rate. They are not in the percentiles.
    pub paced: u64,
    /// Responses to requests with CMCD.
    pub cmcd: u64,
    /// Of these, with `bs`: the player's buffer had run empty.
    pub starvations: u64,
    /// Time in which sampled connections had something to send, and what was confirmed in it.
    pub busy_ms: u64,
    pub acked_bytes: u64,
    /// What sampled connections sent, and what of it was sent again.
    pub sent_bytes: u64,
    pub retransmitted_bytes: u64,
    /// Mean of samples, and the least of all.
    pub rtt_us: Option<u64>,
    pub min_rtt_us: Option<u64>,
    /// Throughput while there was something to send: a tenth of the samples, half of them, nine
    /// tenths of them were not faster. Right to a fifth.
    pub p10_kbps: Option<u64>,
    pub p50_kbps: Option<u64>,
    pub p90_kbps: Option<u64>,
    /// What players say that they measured (`mtp`).
    pub mtp_p50_kbps: Option<u64>,
}

/// The network that a client's figures are kept under.
pub(super) fn network(client: IpAddr) -> Prefix {
    let bits = if client.is_ipv4() {
        IPV4_BITS
    } else {
        IPV6_BITS
    };
    Prefix::new(client, bits).unwrap_or_else(|_| Prefix::host(client))
}

impl Quality {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tables: Mutex::new(Tables {
                young: BTreeMap::new(),
                old: BTreeMap::new(),
                young_since: now,
                young_until: now + WINDOW,
                old_since: now,
            }),
            tally: Tally::default(),
            congestion_control: OnceLock::new(),
        }
    }

    pub(super) fn record(&self, network: Prefix, now: Instant, note: &Note<'_>) {
        self.tally.note(note);
        let mut tables = match self.tables.try_lock() {
            Ok(tables) => tables,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.tally.missed.fetch_add(1, Relaxed);
                return;
            }
        };
        let forgotten = tables.make_room(network, now);
        if forgotten > 0 {
            self.tally.forgotten.fetch_add(forgotten, Relaxed);
        }
        tables.young.entry(network).or_default().note(note);
    }

    /// Adds what is known to `into`; says since when.
    fn add_to(&self, into: &mut BTreeMap<Prefix, Sums>, now: Instant) -> Instant {
        let (young, old, since) = {
            let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.turn(now);
            // Copied, so that the worker is kept out as shortly as can be.
            (tables.young.clone(), tables.old.clone(), tables.old_since)
        };
        for (prefix, sums) in young.into_iter().chain(old) {
            into.entry(prefix).or_default().merge(&sums);
        }
        since
    }
}

impl Tables {
    /// Lets the time pass, and makes place for `network`. Networks forgotten before their time.
    fn make_room(&mut self, network: Prefix, now: Instant) -> u64 {
        self.turn(now);
        if self.young.len() < NETWORKS_MAX || self.young.contains_key(&network) {
            return 0;
        }
        let forgotten = self.old.len() as u64;
        self.shift(now);
        forgotten
    }

    fn turn(&mut self, now: Instant) {
        if now < self.young_until {
            return;
        }
        let age = now.saturating_duration_since(self.young_since);
        self.shift(now);
        if age >= 2 * WINDOW {
            // Nothing has come for long: what was young is old by now, and too old.
            self.shift(now);
        }
    }

    fn shift(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.old_since = self.young_since;
        self.young_since = now;
        self.young_until = now + WINDOW;
    }
}

impl Tally {
    pub(super) fn paced(&self, bound: Bound) {
        if let Some(at) = BOUNDS.iter().position(|known| *known == bound) {
            self.paced[at].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn all_paced(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.paced.iter().map(|count| count.load(Relaxed));
        BOUNDS.into_iter().map(Bound::as_str).zip(counts)
    }

    fn note(&self, note: &Note<'_>) {
        if let Some(cmcd) = note.cmcd {
            self.cmcd.fetch_add(1, Relaxed);
            self.starvations.fetch_add(cmcd.bs.into(), Relaxed);
        }
        if let Some(sample) = note.sample {
            self.sent.fetch_add(sample.sent, Relaxed);
            let retransmitted = sample.retransmitted;
            self.retransmitted.fetch_add(retransmitted, Relaxed);
        }
    }
}

impl Sums {
    fn note(&mut self, note: &Note<'_>) {
        self.responses = self.responses.saturating_add(1);
        self.bytes = self.bytes.saturating_add(note.bytes);
        self.paced = self.paced.saturating_add(note.is_paced.into());
        if let Some(cmcd) = note.cmcd {
            self.cmcd = self.cmcd.saturating_add(1);
            self.starvations = self.starvations.saturating_add(cmcd.bs.into());
            if let Some(measured) = cmcd.mtp.filter(|measured| *measured > 0) {
                self.measured.add(measured.into());
            }
        }
        if let Some(sample) = note.sample {
            self.sample(sample);
        }
    }

    fn sample(&mut self, sample: Sample) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.acked = self.acked.saturating_add(sample.acked);
        self.sent = self.sent.saturating_add(sample.sent);
        self.retransmitted = self.retransmitted.saturating_add(sample.retransmitted);
        self.busy_us = self.busy_us.saturating_add(micros(sample.busy));
        self.rtt_us = self.rtt_us.saturating_add(micros(sample.rtt));
        self.samples = self.samples.saturating_add(1);
        if let Some(min) = sample.min_rtt {
            let min = u32::try_from(min.as_micros()).unwrap_or(u32::MAX).max(1);
            self.min_rtt_us = least(self.min_rtt_us, min);
        }
        if let Some(kbps) = sample.kbps {
            self.rates.add(kbps);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.acked = self.acked.saturating_add(other.acked);
        self.sent = self.sent.saturating_add(other.sent);
        self.retransmitted = self.retransmitted.saturating_add(other.retransmitted);
        self.busy_us = self.busy_us.saturating_add(other.busy_us);
        self.rtt_us = self.rtt_us.saturating_add(other.rtt_us);
        self.samples = self.samples.saturating_add(other.samples);
        self.min_rtt_us = least(self.min_rtt_us, other.min_rtt_us);
        self.responses = self.responses.saturating_add(other.responses);
        self.paced = self.paced.saturating_add(other.paced);
        self.cmcd = self.cmcd.saturating_add(other.cmcd);
        self.starvations = self.starvations.saturating_add(other.starvations);
        self.rates.merge(&other.rates);
        self.measured.merge(&other.measured);
    }

    fn view(&self) -> DeliveryView {
        DeliveryView {
            responses: self.responses.into(),
            bytes: self.bytes,
            paced: self.paced.into(),
            cmcd: self.cmcd.into(),
            starvations: self.starvations.into(),
            busy_ms: self.busy_us / 1000,
            acked_bytes: self.acked,
            sent_bytes: self.sent,
            retransmitted_bytes: self.retransmitted,
            rtt_us: self.rtt_us.checked_div(self.samples.into()),
            min_rtt_us: (self.min_rtt_us > 0).then(|| self.min_rtt_us.into()),
            p10_kbps: self.rates.percentile(10),
            p50_kbps: self.rates.percentile(50),
            p90_kbps: self.rates.percentile(90),
            mtp_p50_kbps: self.measured.percentile(50),
        }
    }
}

/// The lesser of two, of which 0 is none.
fn least(one: u32, other: u32) -> u32 {
    match (one, other) {
        (0, some) | (some, 0) => some,
        (one, other) => one.min(other),
    }
}

/// All workers' figures; at most `most` rows, those with most bytes.
pub(super) fn gather(workers: &[Arc<Worker>], most: usize, now: Instant) -> QualityView {
    let mut all = BTreeMap::new();
    let mut since = now;
    for worker in workers {
        since = since.min(worker.quality.add_to(&mut all, now));
    }
    let mut total = Sums::default();
    for sums in all.values() {
        total.merge(sums);
    }
    let mut sorted: Vec<(Prefix, Sums)> = all.into_iter().collect();
    sorted.sort_by_key(|(prefix, sums)| (std::cmp::Reverse(sums.bytes), *prefix));
    let networks = sorted.len() as u64;
    let congestion = |worker: &Arc<Worker>| worker.quality.congestion_control.get().cloned();
    QualityView {
        window_s: now.saturating_duration_since(since).as_secs(),
        networks,
        congestion_control: workers.iter().find_map(congestion),
        total: total.view(),
        rows: sorted
            .iter()
            .take(most)
            .map(|(prefix, sums)| NetworkView {
                prefix: *prefix,
                delivery: sums.view(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
