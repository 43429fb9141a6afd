//! What one worker counts. Each worker has its own, so that counting never waits for another core.

use super::kernel;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Every status this server sends.
pub(super) const STATUSES: [u16; 20] = [
    200, 204, 206, 304, 400, 403, 404, 405, 408, 411, 412, 413, 414, 416, 417, 429, 431, 501, 503,
    505,
];

/// Why a viewer was turned away or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `limits.connections` is reached.
    Connections,
    /// `limits.connections_per_address` is reached.
    ConnectionsPerAddress,
    /// `accept` failed: descriptors or memory ran out.
    Accept,
    /// The gate is closed.
    Gate,
    /// The TLS handshake took longer than `limits.handshake_time`.
    HandshakeTime,
    /// Plain HTTP on a TLS port.
    NotTls,
    /// The head took longer than `limits.head_time`.
    HeadTime,
    /// A response moved less than `limits.progress` in `limits.progress_time`.
    Progress,
    /// A malformed or unacceptable head.
    BadRequest,
    /// A response was cut because its object could not be read to the end.
    Read,
    /// An object's disk could not be asked.
    Unavailable,
    /// A token was needed and not shown.
    TokenMissing,
    TokenMalformed,
    /// The request is for a name that is not this box's.
    TokenHost,
    TokenKeyId,
    TokenExpired,
    TokenEarly,
    TokenClient,
    TokenScope,
    TokenMac,
    /// The clock is not set, so that no token can be judged.
    TokenClock,
    /// As many speed tests as `[serve.speedtest]` allows.
    Speedtest,
    /// `limits.handshakes_per_address` is reached.
    Handshakes,
    /// The kernel did not take a session, and `tls_offload` requires it; or lost it on the way.
    TlsOffload,
}

/// Every refusal, in the order of the array that counts them.
pub(super) const REFUSALS: [Refusal; 24] = [
    Refusal::Connections,
    Refusal::ConnectionsPerAddress,
    Refusal::Accept,
    Refusal::Gate,
    Refusal::HandshakeTime,
    Refusal::NotTls,
    Refusal::HeadTime,
    Refusal::Progress,
    Refusal::BadRequest,
    Refusal::Read,
    Refusal::Unavailable,
    Refusal::TokenMissing,
    Refusal::TokenMalformed,
    Refusal::TokenHost,
    Refusal::TokenKeyId,
    Refusal::TokenExpired,
    Refusal::TokenEarly,
    Refusal::TokenClient,
    Refusal::TokenScope,
    Refusal::TokenMac,
    Refusal::TokenClock,
    Refusal::Speedtest,
    Refusal::Handshakes,
    Refusal::TlsOffload,
];

#[derive(Debug, Default)]
pub(super) struct Counters {
    /// By position in [`STATUSES`].
    statuses: [AtomicU64; STATUSES.len()],
    /// By position in [`REFUSALS`].
    refusals: [AtomicU64; REFUSALS.len()],
    pub(super) connections_total: AtomicU64,
    pub(super) connections_open: AtomicU64,
    pub(super) body_bytes: AtomicU64,
    pub(super) handshakes_ok: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) panics: AtomicU64,
    /// Successful answers, and those of them that the access log leaves out.
    pub(super) successes: AtomicU64,
    pub(super) unlogged: AtomicU64,
    pub(super) offload: kernel::Counts,
    /// Completed handshakes by (version, cipher).
    suites: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Refusal {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections-per-address",
            Self::Accept => "accept",
            Self::Gate => "gate",
            Self::HandshakeTime => "handshake-time",
            Self::NotTls => "not-tls",
            Self::HeadTime => "head-time",
            Self::Progress => "progress",
            Self::BadRequest => "bad-request",
            Self::Read => "read",
            Self::Unavailable => "unavailable",
            Self::TokenMissing => "token-missing",
            Self::TokenMalformed => "token-malformed",
            Self::TokenHost => "token-host",
            Self::TokenKeyId => "token-key-id",
            Self::TokenExpired => "token-expired",
            Self::TokenEarly => "token-early",
            Self::TokenClient => "token-client",
            Self::TokenScope => "token-scope",
            Self::TokenMac => "token-mac",
            Self::TokenClock => "token-clock",
            Self::Speedtest => "speedtest",
            Self::Handshakes => "handshakes-per-address",
            Self::TlsOffload => "tls-offload",
        }
    }
}

impl Counters {
    pub(super) fn status(&self, status: u16) {
        if let Some(at) = STATUSES.iter().position(|known| *known == status) {
            count(&self.statuses[at], 1);
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        if let Some(at) = REFUSALS.iter().position(|known| *known == refusal) {
            count(&self.refusals[at], 1);
        }
    }

    pub(super) fn suite(&self, version: &'static str, cipher: &'static str) {
        let mut suites = self.suites.lock().unwrap_or_else(PoisonError::into_inner);
        *suites.entry((version, cipher)).or_default() += 1;
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counts = self.statuses.iter().map(|count| count.load(Relaxed));
        STATUSES.into_iter().zip(counts)
    }

    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.refusals.iter().map(|count| count.load(Relaxed));
        REFUSALS.into_iter().map(Refusal::as_str).zip(counts)
    }

    pub(super) fn suites(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let suites = self.suites.lock().unwrap_or_else(PoisonError::into_inner);
        suites.clone()
    }
}

/// Adds to what nobody but the worker's own thread ever changes, for others to read: without the
/// locked instruction, of which a request would need half a dozen.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
