//! What the serving side tells of itself: to the admin socket, to `health`, to metrics.

use super::access::Counts;
use super::counters::Counters;
use super::kernel;
use super::kernel::TlsOffloadView;
use super::worker::Settings;
use super::worker::Worker;
use crate::clock;
use crate::tls::CertificateView;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Serving at one moment. Counts are since the start of the process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    pub listeners: Vec<ListenerView>,
    pub connections: ConnectionCounts,
    pub workers: Vec<WorkerView>,
    /// Responses by class: `2xx`, `3xx`, `4xx`, `5xx`.
    pub requests: BTreeMap<String, u64>,
    /// Responses by status; statuses never sent are absent.
    pub statuses: BTreeMap<u16, u64>,
    /// Object bytes given to the network.
    pub bytes_sent: u64,
    /// Viewers turned away or cut off, by reason; all reasons are there.
    pub refusals: BTreeMap<String, u64>,
    pub handshakes: Handshakes,
    /// Connections that ended in a panic. Each is a fault to be reported.
    pub panics: u64,
    pub tls: TlsView,
    pub access_log: AccessLogView,
}

/// A bound address; with port 0 in the configuration, the port it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerView {
    pub address: SocketAddr,
    pub tls: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionCounts {
    pub open: u64,
    pub total: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct WorkerView {
    pub name: String,
    pub alive: bool,
    pub connections: ConnectionCounts,
    pub requests: u64,
    pub bytes_sent: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Handshakes {
    pub ok: u64,
    pub failed: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct TlsView {
    /// Where records of large responses are sealed: `kernel`, `kernel and user-space` where it
    /// takes some ciphers only, `user-space`, or `off` without a TLS address.
    pub path: &'static str,
    pub offload: TlsOffloadView,
    pub versions: BTreeMap<String, u64>,
    pub ciphers: BTreeMap<String, u64>,
    pub certificates: Vec<CertificateView>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessLogView {
    pub on: bool,
    pub written: u64,
    /// Lines lost because the log's disk was too slow or full.
    pub dropped: u64,
}

/// One row of `oca show connections`.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionView {
    pub peer: SocketAddr,
    pub worker: String,
    pub tls: bool,
    /// Who seals its records and why; empty without TLS.
    pub tls_path: String,
    pub busy: bool,
    pub age_s: u64,
    pub requests: u64,
    pub bytes_sent: u64,
}

pub(super) fn gather(
    workers: &[Arc<Worker>],
    listeners: Vec<ListenerView>,
    settings: &Settings,
    access: &Counts,
) -> View {
    let mut view = View {
        listeners,
        access_log: AccessLogView {
            on: settings.access.is_some(),
            written: access.written.load(Relaxed),
            dropped: access.dropped.load(Relaxed),
        },
        ..View::default()
    };
    view.tls.path = "off";
    if let Some(material) = &settings.tls {
        view.tls.path = settings.offload.path();
        let counters = workers.iter().map(|worker| &worker.counters);
        view.tls.offload = kernel::gather(&settings.offload, counters);
        view.tls.certificates.clone_from(&material.certificates);
    }
    for worker in workers {
        add_worker(&mut view, worker);
    }
    view
}

fn add_worker(view: &mut View, worker: &Worker) {
    let counters: &Counters = &worker.counters;
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let mut requests = 0;
    for (status, count) in counters.statuses().filter(|(_, count)| *count > 0) {
        requests += count;
        *view.statuses.entry(status).or_default() += count;
        *view
            .requests
            .entry(format!("{}xx", status / 100))
            .or_default() += count;
    }
    for (reason, count) in counters.refusals() {
        *view.refusals.entry(reason.to_owned()).or_default() += count;
    }
    for ((version, cipher), count) in counters.suites() {
        *view.tls.versions.entry(version.to_owned()).or_default() += count;
        *view.tls.ciphers.entry(cipher.to_owned()).or_default() += count;
    }
    let connections = ConnectionCounts {
        open: read(&counters.connections_open),
        total: read(&counters.connections_total),
    };
    view.connections.open += connections.open;
    view.connections.total += connections.total;
    view.handshakes.ok += read(&counters.handshakes_ok);
    view.handshakes.failed += read(&counters.handshakes_failed);
    view.panics += read(&counters.panics);
    view.bytes_sent += read(&counters.body_bytes);
    view.workers.push(WorkerView {
        name: worker.name.clone(),
        alive: worker.alive.load(Relaxed),
        connections,
        requests,
        bytes_sent: read(&counters.body_bytes),
    });
}

pub(super) fn connections(workers: &[Arc<Worker>], most: usize) -> Vec<ConnectionView> {
    let now = clock::now();
    let mut rows = Vec::new();
    for worker in workers {
        for card in worker.cards(most - rows.len()) {
            rows.push(ConnectionView {
                peer: card.peer,
                worker: worker.name.clone(),
                tls: card.tls,
                tls_path: card.path().map(kernel::Path::told).unwrap_or_default(),
                busy: card.busy.load(Relaxed),
                age_s: now.saturating_duration_since(card.since).as_secs(),
                requests: card.requests.load(Relaxed),
                bytes_sent: card.bytes.load(Relaxed),
            });
        }
    }
    rows
}
