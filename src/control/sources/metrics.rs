//! What the room counts, in OpenMetrics.

use crate::link::message::SourceKind;
use crate::object::Digest;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use crate::telemetry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Objects whose bytes are counted one by one; the sum counts all.
const OBJECTS_MAX: usize = 100_000;

const KINDS: [&str; 4] = ["peer", "tier", "network", "origin"];

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) questions: AtomicU64,
    /// By kind: objects for which it was the first to be asked.
    offers: [AtomicU64; KINDS.len()],
    /// Objects for which nothing could be asked at once.
    pub(super) waiting: AtomicU64,
    pub(super) wrong_bytes: AtomicU64,
    pub(super) complaints: AtomicU64,
    pub(super) gateway_bytes: AtomicU64,
    /// Lengths of objects with the first presigned URL that a box got for them.
    pub(super) presigned_bytes: AtomicU64,
    /// Objects for which regions wait.
    pub(super) asked: AtomicU64,
    objects: Mutex<BTreeMap<Digest, u64>>,
}

#[derive(Debug)]
struct Scrape(Arc<Counters>);

pub(super) fn register(registry: &Registry, counters: &Arc<Counters>) {
    registry.register(Scrape(Arc::clone(counters)));
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn offer(&self, kind: SourceKind) {
        let at = match kind {
            SourceKind::Peer => 0,
            SourceKind::Tier => 1,
            SourceKind::Network => 2,
            SourceKind::Origin => 3,
        };
        Self::add(&self.offers[at], 1);
    }

    /// The gateway sent so many bytes of an object.
    pub(super) fn sent(&self, digest: Digest, bytes: u64) {
        Self::add(&self.gateway_bytes, bytes);
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if objects.len() < OBJECTS_MAX || objects.contains_key(&digest) {
            *objects.entry(digest).or_default() += bytes;
        }
    }

    pub(super) fn objects(&self) -> BTreeMap<Digest, u64> {
        let objects = self.objects.lock();
        objects.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Collector for Scrape {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let counters = &self.0;
        into.counter(
            "control_fill_questions",
            "Questions of boxes for fill sources, answered",
            load(&counters.questions),
        )?;
        let offers = KINDS.iter().zip(&counters.offers);
        let offers: Vec<_> = offers
            .map(|(kind, count)| (vec![("kind", *kind)], load(count)))
            .collect();
        into.counters(
            "control_fill_offers",
            "Objects asked for, by the kind of the source named first",
            &offers,
        )?;
        into.counter(
            "control_fill_waiting",
            "Objects asked for that had no source at that time",
            load(&counters.waiting),
        )?;
        let complaints = [
            ("wrong-bytes", &counters.wrong_bytes),
            ("other", &counters.complaints),
        ];
        let complaints = complaints.map(|(problem, n)| (vec![("problem", problem)], load(n)));
        into.counters(
            "control_fill_complaints",
            "Complaints of boxes about their fill sources",
            &complaints,
        )?;
        let ways = [
            ("gateway", &counters.gateway_bytes),
            ("presigned_granted", &counters.presigned_bytes),
        ];
        let ways = ways.map(|(way, bytes)| (vec![("way", way)], load(bytes)));
        into.counters(
            "control_origin_bytes",
            "Bytes of the origin: sent by the gateway, or granted with presigned URLs",
            &ways,
        )?;
        into.gauge(
            "control_fill_asked_objects",
            "Objects that regions have asked for lately",
            load(&counters.asked),
        )
    }
}
