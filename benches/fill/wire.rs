//! What the interface carries, read again and again while something runs.
//!
//! I/O: reads /proc/net/dev on a thread of its own.

use oca::clock;
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Seen>>,
}

/// Bytes received by the loopback interface: requests and acknowledgements are among them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) bytes: f64,
    /// Of any second, whenever it begins.
    pub(crate) worst_second: f64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, worst) = (self.bytes / 1e6, self.worst_second / 1e6);
        write!(f, "{bytes:.0} MB on the wire, worst second {worst:.2} MB")
    }
}

impl Sampler {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut samples = vec![(clock::now(), received()?)];
            while !told.load(Ordering::Acquire) {
                clock::block_for(EVERY);
                samples.push((clock::now(), received()?));
            }
            let mut seen = Seen::default();
            let mut from = 0;
            for (now, bytes) in &samples {
                while *now - samples[from].0 > Duration::from_secs(1) {
                    from += 1;
                }
                seen.worst_second = seen.worst_second.max((bytes - samples[from].1) as f64);
            }
            let (first, last) = (samples.first(), samples.last());
            if let (Some(first), Some(last)) = (first, last) {
                seen.bytes = (last.1 - first.1) as f64;
            }
            Ok(seen)
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the sampler panicked"))?
    }
}

fn received() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let first = line.and_then(|line| line.split_whitespace().next());
    Ok(first.unwrap_or("0").parse()?)
}
