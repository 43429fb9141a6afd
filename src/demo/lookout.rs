//! Somebody who asks every box how its fill stands, all through the night: for the live line on a
//! terminal, and for what the boxes may not be asked to judge themselves.
//!
//! I/O: asks admin sockets on a task of its own, writes to standard error.

use super::camp::Camp;
use super::child;
use super::filler;
use super::steering;
use crate::clock;
use crate::clock::Instant;
use crate::units::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::task::JoinHandle;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The filler title whose liveness is watched.
pub(super) const LIVE: usize = 3;

/// A line for people.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// How a box's fill stands, as `oca show fill` has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    pub(super) is_open: bool,
    /// Objects that are not there yet.
    pub(super) wanted: u64,
    /// Objects that came since the window opened.
    done: u64,
    /// Bytes that were granted in this life of the process, by class.
    pub(super) night: u64,
    pub(super) urgent: u64,
    /// Transfers that ended because a source sent what is not the object.
    pub(super) wrong: u64,
}

/// All boxes through the night.
#[derive(Debug)]
pub(super) struct Lookout {
    seen: Arc<Mutex<BTreeMap<String, Series>>>,
    live: Arc<Mutex<Liveness>>,
    tasks: [JoinHandle<()>; 2],
}

/// What a back end would have been told of one title.
#[derive(Clone, Debug, Default)]
pub(super) struct Liveness {
    /// Answers by which it was to be hidden, before the first by which it was to be shown.
    pub(super) hidden: usize,
    /// The first by which it was to be shown: clusters that held it whole.
    pub(super) holders: Option<u64>,
}

/// One box's bytes at many moments.
#[derive(Clone, Debug, Default)]
struct Series {
    samples: Vec<(Instant, u64)>,
    last: Standing,
}

impl Standing {
    pub(super) fn of(fill: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        Self {
            is_open: fill["window"]["open"] == true,
            wanted: number(&fill["wanted"]),
            done: number(&fill["done"]),
            night: number(&fill["pace"]["night"]["granted_bytes"]),
            urgent: number(&fill["pace"]["urgent"]["granted_bytes"]),
            wrong: number(&fill["ended"]["wrong-bytes"]),
        }
    }
}

impl Lookout {
    /// `live`: tell people how it goes.
    pub(super) fn start(camp: &Camp, live: bool) -> Self {
        let seen: Arc<Mutex<BTreeMap<String, Series>>> = Arc::default();
        let sockets: Vec<(String, PathBuf)> = camp
            .honest()
            .map(|unit| (unit.id.clone(), unit.appliance.socket()))
            .collect();
        let live_title = Arc::default();
        let asked = ask_for(camp.plane.public, Arc::clone(&live_title));
        let tasks = [
            tokio::spawn(look(sockets, Arc::clone(&seen), live)),
            tokio::spawn(asked),
        ];
        Self {
            seen,
            live: live_title,
            tasks,
        }
    }

    pub(super) fn liveness(&self) -> Liveness {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone()
    }

    /// Most bytes that any box received in any second, and which box.
    pub(super) fn worst_second(&self) -> (f64, String) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let worst = seen.iter().map(|(id, series)| (series.worst(), id.clone()));
        worst
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .unwrap_or_default()
    }

    pub(super) fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Series {
    /// A sample that came late is judged by its own length. A box that was started again counts
    /// from zero.
    fn worst(&self) -> f64 {
        let mut worst: f64 = 0.0;
        for (index, (begun, before)) in self.samples.iter().enumerate() {
            let later = self.samples.get(index + 1..).unwrap_or_default();
            let end = later
                .iter()
                .position(|(at, _)| *at - *begun >= Duration::from_secs(1));
            let Some((at, bytes)) = end.and_then(|end| later.get(end)) else {
                break;
            };
            let carried = u32::try_from(bytes.saturating_sub(*before)).unwrap_or(u32::MAX);
            worst = worst.max(f64::from(carried) / (*at - *begun).as_secs_f64());
        }
        worst
    }
}

async fn look(
    sockets: Vec<(String, PathBuf)>,
    seen: Arc<Mutex<BTreeMap<String, Series>>>,
    live: bool,
) {
    let mut tell = clock::now() + TELL_EVERY;
    loop {
        for (id, socket) in &sockets {
            let Ok(fill) = child::ask(socket, "/v1/fill").await else {
                continue;
            };
            let standing = Standing::of(&fill);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let series = seen.entry(id.clone()).or_default();
            let bytes = standing.night + standing.urgent;
            series.samples.push((clock::now(), bytes));
            series.last = standing;
        }
        if live && clock::now() >= tell {
            tell = clock::now() + TELL_EVERY;
            eprintln!("   {}", line(&seen));
        }
        clock::sleep(LOOK_EVERY).await;
    }
}

/// Asks for one title until it is to be shown.
async fn ask_for(public: SocketAddr, live: Arc<Mutex<Liveness>>) {
    let path = format!("/v1/title/{}", filler::title(LIVE));
    loop {
        if let Ok(told) = steering::get(public, &path).await {
            let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
            if told["live"] == true {
                live.holders = told["regions"][0]["holding"].as_u64();
                return;
            }
            live.hidden += 1;
        }
        clock::sleep(LOOK_EVERY).await;
    }
}

/// `c001 43/51 objects 12.3 MB · c002 …`.
fn line(seen: &Mutex<BTreeMap<String, Series>>) -> String {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let words = seen.iter().map(|(id, series)| {
        let last = &series.last;
        let name: String = id.chars().take(11).collect();
        let all = last.done + last.wanted;
        let bytes = Bytes(last.night + last.urgent);
        format!("{name} {}/{all} objects, {bytes}", last.done)
    });
    words.collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_worst_second_is_found_across_samples_and_lives() {
        let begun = clock::now();
        let at = |ms: u64, bytes: u64| (begun + Duration::from_millis(ms), bytes);
        let mut samples = vec![at(0, 0), at(400, 100), at(800, 900), at(1200, 1000)];
        samples.extend([at(1600, 0), at(2000, 50), at(2700, 60)]);
        let series = Series {
            samples,
            ..Series::default()
        };
        // From 0.0 s to 1.2 s: 1,000 in 1.2 s.
        assert!((series.worst() - 1000.0 / 1.2).abs() < 1.0);
    }
}
