//! The views as metrics: gate, catalogue, disks, schedulers, and this room's own counters.

use super::views::Views;
use crate::clock;
use crate::local::Counters;
use crate::task::Heartbeat;
use crate::telemetry;
use crate::telemetry::Exposition;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) views: Views,
    pub(super) heartbeats: Arc<[Heartbeat]>,
    pub(super) counters: Arc<Counters>,
}

impl telemetry::Collector for Gauges {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let gate = self.views.gate.borrow().clone();
        let help = "Whether viewers are served.";
        into.gauge("gate_open", help, flag(gate.is_serving()))?;
        let reasons: Vec<_> = gate
            .reasons()
            .iter()
            .map(|reason| (vec![("reason", reason.as_str())], 1.0))
            .collect();
        into.gauges("gate_closed", "Reasons for being closed.", &reasons)?;
        self.collect_store(into)?;
        self.collect_control(into)?;
        let now = clock::now();
        let alive: Vec<_> = self
            .heartbeats
            .iter()
            .map(|heart| (vec![("scheduler", heart.name())], flag(heart.is_alive(now))))
            .collect();
        into.gauges("scheduler_alive", "Whether a scheduler turns.", &alive)?;
        let read = |counter: &AtomicU64| count(counter.load(Ordering::Relaxed));
        let help = "Requests to the admin sockets.";
        into.counter("admin_requests", help, read(&self.counters.requests))?;
        let help = "Connections refused because too many were open.";
        into.counter("admin_refused", help, read(&self.counters.refused))
    }
}

impl Gauges {
    /// Nothing without a control plane.
    fn collect_control(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let control = (self.views.control)();
        let Some(state) = control["state"].as_str() else {
            return Ok(());
        };
        let help = "Whether the control plane answers and takes this box.";
        into.gauge("control_connected", help, flag(state == "connected"))?;
        let help = "Whether the control plane's last word lets the box serve.";
        let enabled = control["enabled"].as_bool() == Some(true);
        into.gauge("control_enabled", help, flag(enabled))?;
        let help = "Seconds until the lease ends; 0 without one.";
        let left = control["lease"]["ends_in_s"].as_u64().unwrap_or(0);
        into.gauge("control_lease_seconds", help, count(left))?;
        let manifest = &control["manifest"];
        let told = !manifest["held"].is_null() && manifest["held"] == manifest["acknowledged"];
        let help = "Whether the control plane was told of the manifest in effect.";
        into.gauge("control_manifest_acknowledged", help, flag(told))?;
        if let Some(agrees) = control["clock_agrees"].as_bool() {
            let help = "Whether the control plane's clock says the same as the box's.";
            into.gauge("control_clock_agrees", help, flag(agrees))?;
        }
        Ok(())
    }

    fn collect_store(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let store = (self.views.store)();
        let help = "Keys whose objects are held.";
        into.gauge("catalogue_objects", help, count(store.objects))?;
        into.gauge("catalogue_bytes", "Bytes held.", count(store.bytes))?;
        if let Some(manifest) = &store.manifest {
            into.gauge(
                "manifest_keys",
                "Keys of the manifest.",
                count(manifest.keys),
            )?;
            let help = "Keys whose object no readable disk holds.";
            into.gauge("manifest_missing", help, count(manifest.missing))?;
        }
        let paths: Vec<_> = store
            .disks
            .iter()
            .map(|disk| disk.path.display().to_string())
            .collect();
        let mut each = |name, help, value: fn(&crate::store::DiskView) -> f64| {
            let samples: Vec<_> = paths
                .iter()
                .zip(&store.disks)
                .map(|(path, disk)| (vec![("disk", path.as_str())], value(disk)))
                .collect();
            into.gauges(name, help, &samples)
        };
        each("disk_up", "Whether a disk can be read.", |disk| {
            flag(matches!(disk.state, "online" | "read-only"))
        })?;
        each("disk_objects", "Objects on a disk.", |disk| {
            count(disk.objects)
        })?;
        each("disk_bytes", "Bytes of objects on a disk.", |disk| {
            count(disk.bytes)
        })?;
        each("disk_free_bytes", "Free bytes of a disk.", |disk| {
            count(disk.free)
        })?;
        each(
            "disk_quarantined",
            "Objects put aside as corrupt.",
            |disk| count(disk.quarantined),
        )?;
        let help = "Bytes put aside as corrupt.";
        each("disk_quarantined_bytes", help, |disk| {
            count(disk.quarantined_bytes)
        })?;
        let help = "Of a disk's directories, those looked through since the start.";
        each("disk_scanned_percent", help, |disk| {
            f64::from(disk.scan.percent)
        })?;
        let help = "Whether a scrub yields to nobody, because its time runs out.";
        each("disk_scrub_pressing", help, |disk| {
            flag(disk.scrub.pressing)
        })?;
        each("disk_cold_queued", "Chunks wanted of a disk.", |disk| {
            count(disk.cold.queued)
        })?;
        each("disk_cold_reading", "Threads reading a disk.", |disk| {
            count(disk.cold.reading)
        })?;
        retire_gauges(into, &paths, &store.disks)?;
        move_counters(into, &store.moves)?;
        scrub_counters(into, &paths, &store.disks)?;
        cold_counters(into, &paths, &store.disks)
    }
}

/// Of disks that are to leave.
fn retire_gauges(
    into: &mut Exposition<'_>,
    paths: &[String],
    disks: &[crate::store::DiskView],
) -> fmt::Result {
    let mut each = |name, help, value: fn(&crate::store::DiskView) -> f64| {
        let samples: Vec<_> = { paths.iter().zip(disks) }
            .map(|(path, disk)| (vec![("disk", path.as_str())], value(disk)))
            .collect();
        into.gauges(name, help, &samples)
    };
    each("disk_retiring", "Whether a disk is to leave.", |disk| {
        flag(disk.retire.is_some())
    })?;
    let help = "Bytes of a retiring disk that no other disk has yet.";
    each("disk_retire_bytes_left", help, |disk| {
        let left = disk.retire.as_ref().map(|retire| retire.bytes_left);
        count(left.unwrap_or(0))
    })
}

/// Objects that went from disk to disk as their ranks moved.
fn move_counters(into: &mut Exposition<'_>, moves: &crate::store::MovesView) -> fmt::Result {
    let total = &moves.total;
    let kinds = |moved, copied, removed| {
        let kinds = [("move", moved), ("copy", copied), ("remove", removed)];
        kinds.map(|(kind, value)| (vec![("kind", kind)], count(value)))
    };
    let (moved, copied) = (total.moved_bytes, total.copied_bytes);
    let bytes = kinds(moved, copied, total.removed_bytes);
    let help = "Bytes of objects moved between disks, copied, and removed as spare copies";
    into.counters("store_moves_bytes", help, &bytes)?;
    let (moved, copied) = (total.moved_objects, total.copied_objects);
    let objects = kinds(moved, copied, total.removed_objects);
    into.counters("store_moves_objects", "Objects of these", &objects)?;
    let help = "Bytes that the plan of moves has yet to write.";
    into.gauge("store_moves_bytes_left", help, count(moves.bytes_left))?;
    let help = "Bytes of a night's budget that its moves have used.";
    let used = count(moves.budget_used_bytes);
    into.gauge("store_moves_budget_used_bytes", help, used)
}

/// What each disk's scrub has read and found.
fn scrub_counters(
    into: &mut Exposition<'_>,
    paths: &[String],
    disks: &[crate::store::DiskView],
) -> fmt::Result {
    type Count = fn(&crate::store::ScrubView) -> f64;
    let counters: [(&str, &str, Count); 3] = [
        ("objects", "Objects read and found whole", |scrub| {
            count(scrub.objects)
        }),
        ("bytes", "Bytes of these", |scrub| count(scrub.bytes)),
        ("found", "Objects damaged, lost or unreadable", |scrub| {
            count(scrub.found)
        }),
    ];
    for (name, help, value) in counters {
        let samples: Vec<_> = paths
            .iter()
            .zip(disks)
            .map(|(path, disk)| (vec![("disk", path.as_str())], value(&disk.scrub)))
            .collect();
        into.counters(&format!("disk_scrub_{name}"), help, &samples)?;
    }
    Ok(())
}

/// How each disk's reads of absent pages went.
fn cold_counters(
    into: &mut Exposition<'_>,
    paths: &[String],
    disks: &[crate::store::DiskView],
) -> fmt::Result {
    type Count = fn(&crate::store::ColdView) -> f64;
    let counters: [(&str, &str, Count); 9] = [
        ("misses", "Responses that came upon absent pages", |cold| {
            count(cold.misses)
        }),
        ("fills", "Chunks brought into memory", |cold| {
            count(cold.fills)
        }),
        (
            "prefetches",
            "Chunks asked for ahead of their reader",
            |cold| count(cold.prefetches),
        ),
        ("waits", "Waits of responses for a chunk", |cold| {
            count(cold.waits)
        }),
        ("wait_seconds", "Time of these waits together", |cold| {
            count(cold.wait_ms) / 1000.0
        }),
        (
            "retries",
            "Chunks gone again when their reader looked",
            |cold| count(cold.retries),
        ),
        ("errors", "Chunks that could not be read", |cold| {
            count(cold.errors)
        }),
        (
            "refused",
            "Chunks refused because too many were wanted",
            |cold| count(cold.refused),
        ),
        (
            "dropped",
            "Chunks dropped behind their only reader",
            |cold| count(cold.dropped),
        ),
    ];
    for (name, help, value) in counters {
        let samples: Vec<_> = paths
            .iter()
            .zip(disks)
            .map(|(path, disk)| (vec![("disk", path.as_str())], value(&disk.cold)))
            .collect();
        into.counters(&format!("disk_cold_{name}"), help, &samples)?;
    }
    Ok(())
}

fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// Metrics are floating point; counts above 2^53 lose their last digits there.
#[allow(clippy::cast_precision_loss)]
fn count(value: u64) -> f64 {
    value as f64
}
