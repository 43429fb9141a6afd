//! One direction under load: connections that move bytes, one that measures latency beside them,
//! and a look at the count five times a second.
//!
//! I/O: runs connections, sleeps between looks.

use super::estimate::Estimate;
use super::estimate::Latency;
use super::estimate::STEP;
use super::estimate::Verdict;
use super::tell::Shown;
use super::wire::Client;
use super::wire::WireError;
use crate::clock;
use crate::units::BytesPerSecond;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::task::JoinSet;

/// An upload begins with this and grows until one takes about [`UPLOAD_TIME`]: large enough that
/// the pause between two does not show, small enough that many end within an estimate.
const UPLOAD_BYTES_MIN: u64 = 16 * 1024;
const UPLOAD_BYTES_MAX: u64 = 16 * 1024 * 1024;
const UPLOAD_TIME: Duration = Duration::from_millis(300);

/// Latency is measured this often under load.
const PROBE_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Down,
    Up,
}

/// What one direction gave.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) rate: BytesPerSecond,
    /// All that came, the ramp included.
    pub(super) bytes: u64,
    pub(super) time: Duration,
    pub(super) connections: usize,
    /// The estimates agreed before the time was up.
    pub(super) agreed: bool,
    pub(super) latency: Latency,
}

impl Direction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Down => "download",
            Self::Up => "upload",
        }
    }
}

/// Loads the line until estimates agree or the time is up.
pub(super) async fn run(
    client: &Arc<Client>,
    direction: Direction,
    connections: usize,
    most: Duration,
    shown: &Shown,
) -> Result<Measured, WireError> {
    let count = Arc::new(AtomicU64::new(0));
    let latency = Arc::new(Mutex::new(Latency::default()));
    let mut loads = JoinSet::new();
    for _ in 0..connections {
        loads.spawn(load(Arc::clone(client), direction, Arc::clone(&count)));
    }
    let mut probes = JoinSet::new();
    probes.spawn(probe(Arc::clone(client), Arc::clone(&latency)));
    let begun = clock::now();
    let mut estimate = Estimate::new(begun);
    let (mut rate, mut agreed) = (0.0, false);
    let mut look = begun + STEP;
    while !agreed && look <= begun + most {
        tokio::select! {
            Some(ended) = loads.join_next() => {
                // One that is refused leaves the others; the last one's reason is the answer.
                if let Ok(error) = ended && loads.is_empty() {
                    return Err(error);
                }
                continue;
            }
            () = clock::sleep_until(look) => look += STEP,
        }
        let verdict = estimate.step(clock::now(), count.load(Relaxed));
        (rate, agreed) = match verdict {
            Verdict::Ramping => (rate, false),
            Verdict::Measuring(rate) => (rate, false),
            Verdict::Agreed(rate) => (rate, true),
        };
        shown.rate(direction, rounded(rate), loads.len());
    }
    let time = clock::now() - begun;
    let latency = latency.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Measured {
        rate: rounded(rate),
        bytes: count.load(Relaxed),
        time,
        connections: loads.len(),
        agreed,
        latency: latency.clone(),
    })
}

/// No line carries more than fits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(rate: f64) -> BytesPerSecond {
    BytesPerSecond(rate.max(0.0).round() as u64)
}

/// One connection's work, for ever; tells why it ended.
async fn load(client: Arc<Client>, direction: Direction, count: Arc<AtomicU64>) -> WireError {
    let mut wire = match client.connect().await {
        Ok(wire) => wire,
        Err(error) => return error,
    };
    let mut bytes = UPLOAD_BYTES_MIN;
    loop {
        let begun = clock::now();
        let outcome = match direction {
            Direction::Down => wire.download(&count).await,
            Direction::Up => wire.upload(bytes, &count).await,
        };
        if let Err(error) = outcome {
            return error;
        }
        let took = clock::now() - begun;
        if took < UPLOAD_TIME / 2 {
            bytes = (bytes * 2).min(UPLOAD_BYTES_MAX);
        } else if took > UPLOAD_TIME * 2 {
            bytes = (bytes / 2).max(UPLOAD_BYTES_MIN);
        }
    }
}

/// Latency beside the load. That it cannot be measured does not spoil the rate.
async fn probe(client: Arc<Client>, latency: Arc<Mutex<Latency>>) {
    let Ok(mut wire) = client.connect().await else {
        return;
    };
    while let begun = clock::now()
        && wire.probe().await.is_ok()
    {
        let took = clock::now() - begun;
        note(&latency, took);
        clock::sleep(PROBE_EVERY).await;
    }
}

fn note(latency: &Mutex<Latency>, took: Duration) {
    let mut known = latency.lock().unwrap_or_else(PoisonError::into_inner);
    known.add(took);
}
