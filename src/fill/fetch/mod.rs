//! One transfer: the missing chunks of an object from one source, verified as they come.
//!
//! `place` reads where the source is → `resolve` turns its name into addresses that are allowed →
//! `dial` connects with a receive buffer of known size, or `pool` has a connection → `purse` pays
//! for bytes before they may reach the wire, `meter` lets no more be read → `answer` checks the
//! head → `gather` makes chunks of the body in `buffers`, while `watch` looks for slowness by the
//! `norm` of all sources → `transfer`, which leads all this, verifies and stages them.
//! Redirects are never followed; nothing that does not verify is ever staged.
//!
//! I/O: resolves names, connects, reads; the files that do say so.

mod answer;
mod buffers;
mod dial;
mod gather;
mod meter;
mod norm;
mod place;
mod pool;
mod purse;
mod resolve;
mod transfer;
mod watch;

use super::Fetch;
use super::Job;
use super::Outcome;
use super::Receive;
use super::Turns;
use super::bucket::DEPTH;
use crate::link::message::FillSource;
use crate::units::BytesPerSecond;
use buffers::Buffers;
use dial::Dialler;
use futures_util::future::BoxFuture;
use norm::Norm;
use pool::Pool;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use resolve::Resolve;
pub use resolve::SystemResolver;

/// How to be a client of another box, or of the control plane's link for a path of it: mutual TLS
/// with the box's certificate, believing the pinned authority and, for a box, only the name
/// `oca://box/<source id>`. `Err`: in words.
pub type TlsFor = Arc<dyn Fn(&FillSource) -> Result<Arc<ClientConfig>, String> + Send + Sync>;

/// What the fill's configuration and the link say of transfers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// May sources have private, loopback or link-local addresses?
    pub private_sources: bool,
    /// May the origin be asked over plain HTTP?
    pub plain_origin: bool,
    /// Certificate authorities of the origin, PEM; none: the system's.
    pub origin_ca: Option<PathBuf>,
    /// Where paths of the link (`/v1/origin/<digest>`) are.
    pub gateway: Option<Gateway>,
    pub limits: Limits,
}

/// The control plane's link, as the box is configured to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub host: String,
    pub port: u16,
    pub server_name: ServerName<'static>,
}

/// Patience and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For name, TCP and TLS together.
    pub connect: Duration,
    /// From the request to the end of the answer's head.
    pub head: Duration,
    /// Without a single byte, while bytes may come.
    pub stall: Duration,
    /// Bytes a second over `rate_time`, below which another source is better in any case.
    pub rate_floor: u64,
    /// Bytes a second of one stream, when all have the same part of the cap: a source may be slow
    /// by it, if others are not.
    pub part: u64,
    pub rate_time: Duration,
    /// `SO_RCVBUF` of each connection, in bytes. The kernel doubles it for its own book-keeping
    /// and never holds more than that.
    pub receive_buffer: u32,
}

/// Fetches objects over HTTPS, for [`super::task`].
pub struct Fetcher {
    parts: Arc<Parts>,
}

/// What transfers share.
struct Parts {
    dialler: Dialler,
    pool: Arc<Pool>,
    receive: Arc<dyn Receive>,
    norm: Arc<Norm>,
    buffers: Buffers,
    limits: Limits,
}

/// Eight streams at 1.2 Gbit/s have this much; see [`Limits::for_rate`].
const RECEIVE_BUFFER_MAX: u32 = 256 << 10;

/// Frames are at most one byte in so many.
const FRAMES_SHARE: u64 = 16;

/// Eleven segments of Ethernet in its window.
const RECEIVE_BUFFER_MIN: u32 = 16 << 10;

impl Limits {
    /// What all streams have paid for and not received is at most what the cap's bucket holds, as
    /// far as buffers can be made small (12.5 Mbit/s a stream): when it comes late, and all
    /// at once, it is still within the cap and 50 ms. Eight streams at 1.2 Gbit/s have
    /// windows that carry it over 14 ms.
    pub fn for_rate(rate: BytesPerSecond, streams: usize) -> Self {
        let streams = u64::try_from(streams.max(1)).unwrap_or(u64::MAX);
        let of_bucket = u128::from(rate.0) * DEPTH.as_millis() / 1_000;
        let of_stream = u64::try_from(of_bucket).unwrap_or(u64::MAX) / streams;
        let ahead = of_stream - of_stream / FRAMES_SHARE;
        let buffer = purse::buffer_for(ahead) / 2;
        let buffer = u32::try_from(buffer).unwrap_or(u32::MAX);
        Self {
            receive_buffer: buffer.clamp(RECEIVE_BUFFER_MIN, RECEIVE_BUFFER_MAX),
            part: rate.0 / streams,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            head: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            rate_floor: 16 << 10,
            part: 0,
            rate_time: Duration::from_secs(30),
            receive_buffer: RECEIVE_BUFFER_MAX,
        }
    }
}

impl Fetcher {
    /// `resolver` is the system's in the daemon. Connects nowhere yet.
    pub fn new(
        config: Config,
        tls: TlsFor,
        resolver: Arc<dyn Resolve>,
        receive: Arc<dyn Receive>,
    ) -> Self {
        let limits = config.limits;
        let parts = Parts {
            dialler: Dialler::new(config, tls, resolver),
            pool: Arc::default(),
            receive,
            norm: Arc::new(Norm::new(limits.part)),
            buffers: Buffers::default(),
            limits,
        };
        Self {
            parts: Arc::new(parts),
        }
    }
}

impl Fetch for Fetcher {
    fn fetch(&self, job: Job, turns: Arc<dyn Turns>) -> BoxFuture<'static, Outcome> {
        let parts = Arc::clone(&self.parts);
        Box::pin(transfer::run(parts, job, turns))
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("limits", &self.parts.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_cap_has_smaller_buffers() {
        let limits = |rate, streams| Limits::for_rate(BytesPerSecond(rate), streams);
        assert_eq!(limits(150_000_000, 8).receive_buffer, RECEIVE_BUFFER_MAX);
        assert_eq!(limits(150_000_000, 16).receive_buffer, 131_836);
        assert_eq!(limits(37_500_000, 8).receive_buffer, 65_918);
        assert_eq!(limits(12_500_000, 8).receive_buffer, 16_536);
        assert_eq!(limits(0, 0).receive_buffer, RECEIVE_BUFFER_MIN);
    }
}
