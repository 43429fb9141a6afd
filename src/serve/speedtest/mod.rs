//! The speed test: bytes that are nobody's, down from disk and up to nowhere.
//!
//! `answer` recognises its paths → [`Speedtest::admit`] lets in as many as the configuration allows
//! → `transfer` moves the bytes at the speed test's own share of the line. The bytes come from a
//! file ([`file`]) on the way of every other object, so that what is measured is what viewers get.
//!
//! I/O: spawns the thread that makes the file.

mod file;
mod piece;
mod transfer;

pub(super) use file::LENGTH as FILE_BYTES;

use super::admit::Population;
use super::admit::Slot;
use super::answer::Refused;
use super::counters::Refusal;
use super::range::Part;
use super::request::Upload;
use crate::clock;
use crate::clock::Instant;
use crate::pacer::Pacer;
use crate::store::ObjectFile;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use serde::Serialize;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The path, without its range. The key grammar keeps objects away from it.
pub(super) const PATH: &[u8] = b"/speedtest";

/// Transfers of one address (IPv6: one /64) at a time: a client's eight connections, and its
/// neighbour's behind the same translator.
const TRANSFERS_PER_ADDRESS: usize = 16;

/// A download of at most this is a probe of latency: it waits for nobody, or it would measure the
/// waiting. It costs no more than an error's text.
const PROBE_BYTES: u64 = 1024;

/// Seconds after which a client may try again: most tests have ended by then.
const BUSY_RETRY_SECONDS: u32 = 15;

/// Seconds after which the file will have been made, on any disk but a sick one.
const MAKING_RETRY_SECONDS: u32 = 5;

/// After the file could not be made or read, it is not made again for this long.
const REMAKE_AFTER: Duration = Duration::from_secs(60);

/// `[serve.speedtest]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Answers `/speedtest` at all. Default true.
    pub enabled: bool,
    /// Of all downloads together, and again of all uploads together. Default 1 Gbit/s.
    pub rate_limit: BytesPerSecond,
    /// Transfers at a time. Default 64.
    pub connections: usize,
    /// The largest upload. Default 64 MiB.
    pub upload_max: Bytes,
}

/// What is asked of the speed test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// What a browser asks before it uploads from another origin.
    Preflight,
    /// The file, or a part of it.
    Download(Option<Part>),
    Upload(Upload),
}

/// Leave for one transfer; dropping it makes room.
#[derive(Debug)]
pub(super) struct Seat {
    /// What a download sends.
    pub(super) file: Option<Arc<ObjectFile>>,
    _slot: Option<Slot>,
}

/// Shared by the workers.
#[derive(Debug)]
pub(super) struct Speedtest {
    path: Option<PathBuf>,
    file: Mutex<State>,
    people: Arc<Population>,
    down: Pacer,
    up: Pacer,
    counts: Counts,
}

#[derive(Debug)]
enum State {
    /// Nobody has asked for it.
    Absent,
    Making,
    Ready(Arc<ObjectFile>),
    Failed {
        at: Instant,
        reason: String,
    },
}

#[derive(Debug, Default)]
struct Counts {
    downloads: AtomicU64,
    uploads: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

/// The speed test at one moment. Counts are since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct View {
    /// `off`, `making`, `ready` or `failed`.
    pub state: &'static str,
    /// Why the file cannot be made or read.
    pub reason: Option<String>,
    /// Transfers under way.
    pub running: u64,
    pub downloads: u64,
    pub uploads: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Speedtest {
    /// `path` is where the file is, or will be; without one there is no speed test.
    pub(super) fn new(path: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            path,
            file: Mutex::new(State::Absent),
            people: Arc::default(),
            down: Pacer::default(),
            up: Pacer::default(),
            counts: Counts::default(),
        })
    }

    /// Makes the file, or checks the one that is there, if nobody has yet. Never waits.
    pub(super) fn prepare(self: &Arc<Self>, config: &Config, now: Instant) {
        if config.enabled {
            let _ = self.file(now);
        }
    }

    /// Lets a transfer in, or says why not. `has_body` is false for HEAD.
    pub(super) fn admit(
        self: &Arc<Self>,
        measure: Measure,
        has_body: bool,
        who: (IpAddr, &Config),
        now: Instant,
    ) -> Result<Seat, Refused> {
        let (address, config) = who;
        if !config.enabled || self.path.is_none() {
            let mut refused = Refused::plain(404, "there is no speed test here");
            // What an upload sends was not read and must not be taken for a request.
            refused.close = matches!(measure, Measure::Upload(_));
            return Err(refused);
        }
        let free = |file| Seat { file, _slot: None };
        match measure {
            Measure::Preflight => Ok(free(None)),
            Measure::Download(part) => {
                let file = self.file(now)?;
                if !has_body || is_probe(part) {
                    return Ok(free(Some(file)));
                }
                let slot = self.slot(address, config)?;
                self.counts.downloads.fetch_add(1, Relaxed);
                Ok(Seat {
                    file: Some(file),
                    _slot: Some(slot),
                })
            }
            Measure::Upload(upload) => {
                if upload.length > config.upload_max.0 {
                    let most = config.upload_max.0;
                    return Err(Refused::plain(
                        413,
                        format!("an upload has at most {most} bytes; send several"),
                    ));
                }
                let slot = self.slot(address, config)?;
                self.counts.uploads.fetch_add(1, Relaxed);
                Ok(Seat {
                    file: None,
                    _slot: Some(slot),
                })
            }
        }
    }

    fn slot(&self, address: IpAddr, config: &Config) -> Result<Slot, Refused> {
        let most = config.connections;
        let entered = self.people.enter(address, most, TRANSFERS_PER_ADDRESS);
        entered.map_err(|reached| {
            if reached == Refusal::ConnectionsPerAddress {
                busy(429, "too many speed tests from this address at a time")
            } else {
                busy(503, "too many speed tests at a time")
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file. Begins to make it where that has not been tried, or long ago.
    fn file(self: &Arc<Self>, now: Instant) -> Result<Arc<ObjectFile>, Refused> {
        let mut state = self.lock();
        match &*state {
            State::Ready(file) => return Ok(Arc::clone(file)),
            State::Making => {}
            State::Failed { at, .. } if now.saturating_duration_since(*at) < REMAKE_AFTER => {
                // Why is the operator's business.
                let refused = Refused::plain(503, "the speed test's file cannot be read");
                return Err(Refused {
                    retry_after: Some(BUSY_RETRY_SECONDS),
                    counted: Some(Refusal::Unavailable),
                    ..refused
                });
            }
            State::Absent | State::Failed { .. } => *state = self.begin(now),
        }
        Err(Refused {
            retry_after: Some(MAKING_RETRY_SECONDS),
            ..Refused::plain(503, "the speed test is being prepared")
        })
    }

    /// Starts the thread that makes the file: a sick disk holds up nobody else.
    fn begin(self: &Arc<Self>, now: Instant) -> State {
        let shared = Arc::clone(self);
        let make = move || {
            let path = shared.path.as_deref();
            let made = path.map(file::obtain).transpose();
            *shared.lock() = match made {
                Ok(Some(file)) => State::Ready(Arc::new(file)),
                Ok(None) => State::Absent,
                Err(error) => failed(clock::now(), &error),
            };
        };
        let thread = std::thread::Builder::new().name("speedtest".to_owned());
        match thread.spawn(make) {
            Ok(_) => State::Making,
            Err(error) => failed(now, &error),
        }
    }

    /// The file could not be read: it is checked and made anew, a while later.
    pub(super) fn damaged(&self, error: &std::io::Error, now: Instant) {
        *self.lock() = failed(now, error);
    }

    pub(super) fn view(&self, config: &Config) -> View {
        let (state, reason) = match &*self.lock() {
            _ if !config.enabled || self.path.is_none() => ("off", None),
            State::Absent | State::Making => ("making", None),
            State::Ready(_) => ("ready", None),
            State::Failed { reason, .. } => ("failed", Some(reason.clone())),
        };
        View {
            state,
            reason,
            running: self.people.count() as u64,
            downloads: self.counts.downloads.load(Relaxed),
            uploads: self.counts.uploads.load(Relaxed),
            bytes_sent: self.counts.bytes_sent.load(Relaxed),
            bytes_received: self.counts.bytes_received.load(Relaxed),
        }
    }
}

/// A download too small to count as a transfer.
fn is_probe(part: Option<Part>) -> bool {
    part.is_some_and(|part| part.length() <= PROBE_BYTES)
}

fn failed(at: Instant, error: &std::io::Error) -> State {
    tracing::warn!(%error, "the file of the speed test cannot be made or read: {error}");
    State::Failed {
        at,
        reason: error.to_string(),
    }
}

fn busy(status: u16, text: &'static str) -> Refused {
    Refused {
        retry_after: Some(BUSY_RETRY_SECONDS),
        counted: Some(Refusal::Speedtest),
        ..Refused::plain(status, text)
    }
}
