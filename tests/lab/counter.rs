//! What a port of the switch has sent to its host, three hundred times a second.
//!
//! A burst that is a tenth of the bound is not hidden by the silence before it. Times are of the
//! clock that nobody sets.
//!
//! I/O: reads the counter of an interface in another namespace.

use crate::harness::PATIENCE;
use crate::harness::until;
use crate::net::Net;
use oca::clock;
use oca::clock::Instant;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(3);

/// [`Counter::course`] tells of steps this long, and of so much before and after.
const STEP_S: f64 = 0.02;
const MARGIN_S: f64 = 0.3;

#[derive(Debug)]
pub(crate) struct Counter {
    start: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    marks: Vec<(f64, String)>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Bytes so far, read at some moment between the two, in seconds after the start: a busy machine
/// comes late, and says so.
#[derive(Clone, Copy, Debug)]
struct Sample {
    from: f64,
    bytes: f64,
    to: f64,
}

impl Counter {
    pub(crate) fn start(net: &Net, host: usize) -> Self {
        let file = open(net.switch(), host);
        let start = clock::now();
        let (samples, is_over) = (Arc::<Mutex<Vec<_>>>::default(), Arc::default());
        let (kept, over) = (Arc::clone(&samples), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !AtomicBool::load(&over, Ordering::Relaxed) {
                let from = start.elapsed().as_secs_f64();
                let bytes = read(&file);
                let to = start.elapsed().as_secs_f64();
                kept.lock().unwrap().push(Sample { from, bytes, to });
                clock::block_for(PAUSE);
            }
        });
        let counter = Self {
            start,
            samples,
            marks: Vec::new(),
            is_over,
            thread: Some(thread),
        };
        let some = || counter.samples.lock().unwrap().len();
        until("the interface's counters", PATIENCE, some, |count| {
            *count > 2
        });
        counter
    }

    /// Something happens at this moment that [`Counter::course`] should tell of.
    pub(crate) fn mark(&mut self, what: impl Into<String>) {
        self.marks
            .push((self.start.elapsed().as_secs_f64(), what.into()));
    }

    /// The most bytes that any interval has carried, of whatever length, beyond `rate` times its
    /// length; and when that interval began and ended, in seconds after the start.
    pub(crate) fn excess(&self, rate: f64) -> (f64, f64, f64) {
        let samples = self.samples.lock().unwrap();
        let above = |sample: &Sample, at: f64| sample.bytes - rate * at;
        let (mut worst, mut lowest) = ((0.0, 0.0, 0.0), samples[0]);
        for sample in samples.iter() {
            let excess = above(sample, sample.to) - above(&lowest, lowest.from);
            if excess > worst.0 {
                worst = (excess, lowest.from, sample.to);
            }
            if above(sample, sample.from) < above(&lowest, lowest.from) {
                lowest = *sample;
            }
        }
        worst
    }

    /// What came around an interval, step by step, and what was marked there.
    pub(crate) fn course(&self, from: f64, to: f64) -> String {
        let samples = self.samples.lock().unwrap();
        let (from, to) = (from - MARGIN_S, to + MARGIN_S);
        let mut told = String::new();
        let mut last: Option<Sample> = None;
        let inside = samples
            .iter()
            .filter(|one| one.from >= from && one.to <= to);
        for sample in inside {
            let before = *last.get_or_insert(*sample);
            if sample.to - before.to < STEP_S {
                continue;
            }
            let bytes = sample.bytes - before.bytes;
            let _ = writeln!(told, "{:.3} s: {bytes:.0} B", sample.to);
            let marks = self.marks.iter();
            for (at, what) in marks.filter(|(at, _)| (before.to..sample.to).contains(at)) {
                let _ = writeln!(told, "{at:.3} s: {what}");
            }
            last = Some(*sample);
        }
        told
    }

    /// The longest time, in seconds, about which the samples do not tell.
    pub(crate) fn gap(&self) -> f64 {
        let samples = self.samples.lock().unwrap();
        let pairs = samples.windows(2);
        let gaps = pairs.map(|pair| pair[1].to - pair[0].from);
        gaps.fold(0.0, f64::max)
    }

    pub(crate) fn total(&self) -> f64 {
        let samples = self.samples.lock().unwrap();
        samples.last().map_or(0.0, |sample| sample.bytes)
    }

    /// Bytes of the worst second, and bytes a second between the first and the last tenth of what
    /// was carried: ramps at either end are not the full rate.
    pub(crate) fn judge(&self) -> (f64, f64) {
        let samples = self.samples.lock().unwrap();
        let mut worst: f64 = 0.0;
        let mut end = 0;
        for sample in samples.iter() {
            while end + 1 < samples.len() && samples[end + 1].to - sample.from <= 1.0 {
                end += 1;
            }
            let last = samples[end.max(1)];
            // A sample that came late is judged by its own length.
            let length = (last.to - sample.from).max(1.0);
            worst = worst.max((last.bytes - sample.bytes) / length);
        }
        let first = samples[0].bytes;
        let all = samples.last().unwrap().bytes - first;
        let at = |share: f64| {
            let level = first + all * share;
            *samples.iter().find(|one| one.bytes >= level).unwrap()
        };
        let (first, last) = (at(0.1), at(0.9));
        (worst, (last.bytes - first.bytes) / (last.to - first.from))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The file is another one in each namespace, and stays what it was when it was opened: a child
/// that lives there for a moment shows the way to it.
fn open(switch: &str, host: usize) -> File {
    let mut command = Command::new("ip");
    let mut guide = command
        .args(["netns", "exec", switch, "sleep", "infinity"])
        .spawn()
        .unwrap();
    let name = format!("sys/class/net/port{host}/statistics/tx_bytes");
    let path = format!("/proc/{}/root/{name}", guide.id());
    let opened = || File::open(&path).ok();
    let file = until("the interface", PATIENCE, opened, Option::is_some);
    let _ = guide.kill();
    let _ = guide.wait();
    file.unwrap()
}

fn read(file: &File) -> f64 {
    let mut text = [0; 32];
    let count = file.read_at(&mut text, 0).unwrap();
    let text = std::str::from_utf8(&text[..count]).unwrap();
    text.trim().parse().unwrap()
}
