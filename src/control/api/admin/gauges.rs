//! What is registered, what is known of the fleet, and this door's own counters, as metrics.

use super::FleetFn;
use crate::control::books::Books;
use crate::local::Counters;
use crate::telemetry;
use crate::telemetry::Exposition;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

pub(super) struct Gauges {
    pub(super) books: Books,
    pub(super) fleet: FleetFn,
    pub(super) counters: Arc<Counters>,
}

impl telemetry::Collector for Gauges {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let (registry, library) = (self.books.registry(), self.books.library());
        let of = |count: usize| number(count as u64);
        let help = "Registered partners.";
        into.gauge("control_partners", help, of(registry.partners.len()))?;
        let help = "Registered sites.";
        into.gauge("control_sites", help, of(registry.sites.len()))?;
        let help = "Registered boxes.";
        into.gauge("control_boxes", help, of(registry.appliances.len()))?;
        let fleet = (self.fleet)();
        let open = fleet.boxes.values().filter(|one| one.open.is_ok()).count();
        let help = "Boxes that viewers may be sent to.";
        into.gauge("control_boxes_open", help, of(open))?;
        let help = "Objects of the library.";
        into.gauge("control_objects", help, of(library.objects.len()))?;
        let help = "Bundles of the library.";
        into.gauge("control_bundles", help, of(library.bundle_numbers.len()))?;
        let read = |counter: &AtomicU64| number(counter.load(Ordering::Relaxed));
        let help = "Requests to the admin sockets.";
        into.counter("admin_requests", help, read(&self.counters.requests))?;
        let help = "Connections refused because too many were open.";
        into.counter("admin_refused", help, read(&self.counters.refused))
    }
}

/// Metrics are floating point; counts above 2^53 lose their last digits there.
#[allow(clippy::cast_precision_loss)]
fn number(value: u64) -> f64 {
    value as f64
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges")
            .field("books", &self.books)
            .finish_non_exhaustive()
    }
}
