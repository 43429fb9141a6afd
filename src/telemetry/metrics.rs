//! The registry of metrics: rooms add collectors, `admin` renders OpenMetrics text.
//!
//! Names carry the prefix `oca_`; rooms leave it away, and leave `_total` away from counters.
//! Collectors only read counters that already exist: they run on the admin thread and must not
//! wait for anything.
//!
//! I/O: reads `/proc/self` when rendered.

use crate::clock;
use crate::clock::Instant;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text;
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// A room's metrics, read at each scrape.
pub trait Collector: fmt::Debug + Send + Sync + 'static {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result;
}

/// Where a collector writes.
#[derive(Debug)]
pub struct Exposition<'a>(DescriptorEncoder<'a>);

/// One series of a metric: its labels and its value.
pub type Sample<'a> = (Vec<(&'a str, &'a str)>, f64);

/// All metrics of the process. Clones share them.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Standard names such as `process_open_fds`, which dashboards expect without a prefix.
    process: prometheus_client::registry::Registry,
    ours: prometheus_client::registry::Registry,
}

#[derive(Debug)]
struct Adapter<C>(C);

#[derive(Debug)]
struct About {
    version: &'static str,
    started: Instant,
}

#[derive(Debug)]
struct Process;

impl<C: Collector> prometheus_client::collector::Collector for Adapter<C> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.collect(&mut Exposition(encoder))
    }
}

impl Exposition<'_> {
    /// A gauge with one value and no labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, &[(Vec::new(), value)])
    }

    /// A gauge with labels; nothing is written when there are no samples.
    pub fn gauges(&mut self, name: &str, help: &str, samples: &[Sample<'_>]) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_gauge(value)?;
            } else {
                metric
                    .encode_family(&labels.as_slice())?
                    .encode_gauge(value)?;
            }
        }
        Ok(())
    }

    /// A counter with one value and no labels; `name` without `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.counters(name, help, &[(Vec::new(), value)])
    }

    /// A counter with labels.
    pub fn counters(&mut self, name: &str, help: &str, samples: &[Sample<'_>]) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        let none: Option<&prometheus_client::metrics::exemplar::Exemplar<Vec<(&str, &str)>, f64>> =
            None;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_counter(value, none)?;
            } else {
                metric
                    .encode_family(&labels.as_slice())?
                    .encode_counter(value, none)?;
            }
        }
        Ok(())
    }
}

impl Registry {
    /// With the build, uptime and process metrics in it.
    pub fn new(version: &'static str, started: Instant) -> Self {
        let mut process = prometheus_client::registry::Registry::default();
        process.register_collector(Box::new(Adapter(Process)));
        let mut ours = prometheus_client::registry::Registry::with_prefix("oca");
        ours.register_collector(Box::new(Adapter(About { version, started })));
        Self(Arc::new(Mutex::new(Inner { process, ours })))
    }

    /// Adds a room's collector.
    pub fn register(&self, collector: impl Collector) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ours
            .register_collector(Box::new(Adapter(collector)));
    }

    /// OpenMetrics text, ending in `# EOF`.
    pub fn render(&self) -> String {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        // Writing into a String fails only if a collector says so; the page then ends early, and a
        // scraper refuses it because `# EOF` is missing.
        let _ = text::encode_registry(&mut page, &inner.process)
            .and_then(|()| text::encode_registry(&mut page, &inner.ours))
            .and_then(|()| text::encode_eof(&mut page));
        page
    }
}

impl Collector for About {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let labels = vec![("version", self.version)];
        into.gauges("build_info", "The running build.", &[(labels, 1.0)])?;
        let uptime = clock::now().saturating_duration_since(self.started);
        let help = "Seconds since the daemon started.";
        into.gauge("uptime_seconds", help, uptime.as_secs_f64())
    }
}

impl Collector for Process {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        if let Some(bytes) = resident_bytes() {
            into.gauge("process_resident_memory_bytes", "Resident memory.", bytes)?;
        }
        if let Some(count) = open_descriptors() {
            into.gauge("process_open_fds", "Open file descriptors.", count)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let help = "User and system CPU time.";
            into.counter("process_cpu_seconds", help, seconds)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// Linux 6.2 and later tell the count as the directory's size; before, the entries are counted.
fn open_descriptors() -> Option<f64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    let count = if size > 0 {
        size
    } else {
        u64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()?
    };
    u32::try_from(count).ok().map(f64::from)
}

fn cpu_seconds() -> Option<f64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    let micros = [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| u64::try_from(nix::sys::time::TimeValLike::num_microseconds(time)).unwrap_or(0))
        .sum();
    Some(std::time::Duration::from_micros(micros).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Disks;

    impl Collector for Disks {
        fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
            let up = |disk, value| (vec![("disk", disk)], value);
            into.gauges("disk_up", "Readable.", &[up("/a", 1.0), up("/\"b\n", 0.0)])?;
            into.counters("reads", "Reads.", &[(vec![("disk", "/a")], 3.0)])?;
            into.gauges("nothing", "No samples.", &[])
        }
    }

    #[test]
    fn the_page_is_open_metrics_text_with_build_uptime_process_and_room() {
        let registry = Registry::new("9.9", clock::now());
        registry.register(Disks);
        let page = registry.render();
        for part in [
            "oca_build_info{version=\"9.9\"} 1.0\n",
            "# TYPE oca_uptime_seconds gauge\n",
            "oca_disk_up{disk=\"/a\"} 1.0\n",
            "oca_disk_up{disk=\"/\\\"b\\n\"} 0.0\n",
            "oca_reads_total{disk=\"/a\"} 3.0\n",
            "\nprocess_resident_memory_bytes ",
            "\nprocess_open_fds ",
            "\nprocess_cpu_seconds_total ",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
        assert!(!page.contains("nothing"));
    }
}
