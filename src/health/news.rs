//! What of the other rooms' news the control plane should hear before its next report.
//!
//! Called by `task`. Losses are told at once, growth soon: a viewer who is sent to a box that
//! cannot serve him is worse off than one who is sent to the second best.

use super::schedule::Input;
use crate::bgp;
use crate::link::message::FillOrders;
use crate::link::message::FillProgress;
use crate::store;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two reports that only tell of growth.
const GROWTH_SPACING: Duration = Duration::from_secs(20);

/// The same with so many routes that a report of them is work, and that some always change.
const GROWTH_SPACING_LARGE: Duration = Duration::from_secs(60);
const ROUTES_LARGE: usize = 100_000;

/// Between two reports of urgent objects that came.
const URGENT_SPACING: Duration = Duration::from_secs(5);

/// Refused rows of a manifest that are logged; the count is complete.
const REFUSED_LOGGED_MAX: usize = 10;

/// Disks that could be read, and written, when the store was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disks {
    readable: BTreeSet<PathBuf>,
    writable: BTreeSet<PathBuf>,
}

impl Disks {
    pub(super) fn of(view: &store::View) -> Self {
        let of = |is: fn(&store::DiskView) -> bool| {
            let disks = view.disks.iter().filter(|disk| is(disk));
            disks.map(|disk| disk.path.clone()).collect()
        };
        Self {
            readable: of(is_readable),
            writable: of(|disk| disk.state == "online"),
        }
    }

    /// Takes the next view. A disk that turned read-only is news, too: it takes no fill any more.
    pub(super) fn update(&mut self, view: &store::View) -> Option<Input> {
        let before = std::mem::replace(self, Self::of(view));
        let is_less = !before.readable.is_subset(&self.readable)
            || !before.writable.is_subset(&self.writable);
        if is_less {
            Some(Input::Changed)
        } else if before != *self {
            Some(Input::Grew {
                spacing: GROWTH_SPACING,
            })
        } else {
            None
        }
    }
}

/// What viewers and other boxes could be served when the store was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    objects: u64,
    bytes: u64,
}

impl Catalogue {
    pub(super) fn of(view: &store::View) -> Self {
        Self {
            objects: view.objects,
            bytes: view.bytes,
        }
    }

    /// Takes the next view. `spacing`: between reports of growth.
    pub(super) fn update(&mut self, view: &store::View, spacing: Duration) -> Option<Input> {
        let before = std::mem::replace(self, Self::of(view));
        if self.objects < before.objects {
            Some(Input::Changed)
        } else if *self != before {
            Some(Input::Grew { spacing })
        } else {
            None
        }
    }
}

/// The fill, as far as it is news to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fill {
    /// Paused? Do others fetch from it?
    told: Option<(bool, bool)>,
    window_open: bool,
}

impl Fill {
    /// Takes how it stands.
    pub(super) fn update(&mut self, progress: Option<&FillProgress>) -> Option<Input> {
        let told = progress.map(|fill| (fill.paused, fill.gives));
        self.window_open = progress.is_some_and(|fill| fill.window_open);
        let before = std::mem::replace(&mut self.told, told);
        (before != told).then_some(Input::Changed)
    }

    /// Between two reports of what came: what comes while the window is shut is urgent, and the
    /// other boxes wait for it.
    pub(super) fn spacing(&self, orders: Option<&FillOrders>, usual: Duration) -> Duration {
        let has_urgent = orders.is_some_and(|orders| !orders.urgent.is_empty());
        if has_urgent && self.told.is_some() && !self.window_open {
            usual.min(URGENT_SPACING)
        } else {
            usual
        }
    }
}

fn is_readable(disk: &store::DiskView) -> bool {
    matches!(disk.state, "online" | "read-only")
}

/// What became of the routes.
pub(super) fn routes(
    before: Option<&bgp::Snapshot>,
    after: Option<&bgp::Snapshot>,
) -> Option<Input> {
    let (before, after) = (before?, after?);
    if before.generation == after.generation {
        None
    } else if after.routes.has_lost(&before.routes) {
        Some(Input::Changed)
    } else {
        let large = after.routes.len() > ROUTES_LARGE;
        Some(Input::Grew {
            spacing: if large {
                GROWTH_SPACING_LARGE
            } else {
                GROWTH_SPACING
            },
        })
    }
}

/// Waits for the next snapshot; for ever without BGP or once its task has ended.
pub(super) async fn changed(bgp: &mut Option<watch::Receiver<Arc<bgp::Snapshot>>>) {
    if let Some(receiver) = bgp
        && receiver.changed().await.is_ok()
    {
        return;
    }
    // The last snapshot stays what it is.
    std::future::pending::<()>().await;
}

pub(super) fn log_adopted(adopted: &store::Adopted) {
    let store::Adopted {
        epoch,
        generation,
        listed,
        added,
        kept_unlisted,
        refused_total,
        ..
    } = adopted;
    if adopted.again {
        tracing::info!(
            epoch,
            generation,
            "manifest {epoch}.{generation} is in effect already"
        );
        return;
    }
    tracing::info!(
        epoch,
        generation,
        listed,
        added,
        kept_unlisted,
        refused_total,
        "manifest {epoch}.{generation} adopted: {listed} keys, {added} of them added"
    );
    for row in adopted.refused.iter().take(REFUSED_LOGGED_MAX) {
        let (key, problem) = (&row.key, &row.problem);
        tracing::warn!(
            key,
            "manifest {epoch}.{generation} leaves out `{key}`: {problem}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Attributes;
    use crate::route::Class;
    use crate::route::Filtered;
    use crate::route::Route;
    use crate::route_table::RouteTable;
    use proptest::prelude::*;

    fn route(number: u8, neighbour: &str, med: u32, filtered: bool) -> Route {
        Route {
            prefix: format!("10.{number}.0.0/16").parse().unwrap(),
            neighbour: neighbour.into(),
            path_id: 0,
            class: Class::Embedded,
            attributes: Arc::new(Attributes {
                med: Some(med),
                ..Attributes::new("64500".parse().unwrap(), "198.51.100.1".parse().unwrap())
            }),
            filtered: filtered.then_some(Filtered::Bogon),
        }
    }

    fn routes_of(rows: &BTreeSet<(u8, bool, bool)>) -> Vec<Route> {
        let mut routes: Vec<Route> = rows
            .iter()
            .map(|(number, second, filtered)| {
                route(*number, if *second { "b" } else { "a" }, 1, *filtered)
            })
            .collect();
        routes.sort();
        // One route a prefix and neighbour.
        routes.dedup_by(|one, other| {
            (one.prefix, &one.neighbour) == (other.prefix, &other.neighbour)
        });
        routes
    }

    #[test]
    fn a_better_path_is_growth_and_a_filtered_route_is_a_loss() {
        let snapshot = |generation, routes: Vec<Route>| bgp::Snapshot {
            generation,
            routes: routes.into_iter().collect(),
            ..bgp::Snapshot::default()
        };
        let first = snapshot(1, vec![route(1, "a", 5, false)]);
        let grew = Some(Input::Grew {
            spacing: GROWTH_SPACING,
        });
        let told = |next: &bgp::Snapshot| routes(Some(&first), Some(next));
        assert_eq!(told(&first), None);
        assert_eq!(told(&snapshot(2, vec![route(1, "a", 9, false)])), grew);
        assert_eq!(
            told(&snapshot(2, vec![route(1, "a", 5, true)])),
            Some(Input::Changed)
        );
        assert_eq!(told(&snapshot(2, Vec::new())), Some(Input::Changed));
        let two = vec![route(1, "a", 5, false), route(1, "b", 5, false)];
        assert_eq!(told(&snapshot(2, two)), grew);
    }

    #[test]
    fn a_lost_disk_is_told_at_once_and_one_that_is_ready_soon() {
        let view = |states: [&'static str; 2]| {
            let disk = |(number, state)| store::DiskView {
                writes: None,
                path: format!("/srv/oca/disk{number}").into(),
                uuid: None,
                class: store::DiskClass::Ssd,
                zone: crate::store::Zone::None,
                state,
                reason: None,
                since: String::new(),
                objects: 0,
                bytes: 0,
                free: 0,
                quarantined: 0,
                quarantined_bytes: 0,
                cold: store::ColdView::default(),
                scrub: store::ScrubView::default(),
                scan: store::ScanView::default(),
                retire: None,
            };
            store::View {
                disks: (0..2).zip(states).map(disk).collect(),
                ..store::View::default()
            }
        };
        let mut disks = Disks::of(&view(["online", "scanning"]));
        let grew = Some(Input::Grew {
            spacing: GROWTH_SPACING,
        });
        assert_eq!(disks.update(&view(["online", "scanning"])), None);
        assert_eq!(disks.update(&view(["online", "online"])), grew);
        let changed = Some(Input::Changed);
        assert_eq!(disks.update(&view(["read-only", "online"])), changed);
        assert_eq!(disks.update(&view(["read-only", "online"])), None);
        assert_eq!(disks.update(&view(["online", "online"])), grew);
        assert_eq!(disks.update(&view(["suspect", "online"])), changed);
        // One goes while another comes: the loss is what counts.
        assert_eq!(disks.update(&view(["online", "isolated"])), changed);
    }

    #[test]
    fn objects_that_came_are_told_soon_and_lost_ones_at_once() {
        let view = |objects, bytes| store::View {
            objects,
            bytes,
            ..store::View::default()
        };
        let spacing = Duration::from_secs(60);
        let mut catalogue = Catalogue::of(&view(3, 30));
        let grew = Some(Input::Grew { spacing });
        assert_eq!(catalogue.update(&view(3, 30), spacing), None);
        assert_eq!(catalogue.update(&view(4, 40), spacing), grew);
        // One went and a larger one came.
        assert_eq!(catalogue.update(&view(4, 50), spacing), grew);
        assert_eq!(
            catalogue.update(&view(3, 90), spacing),
            Some(Input::Changed)
        );
    }

    #[test]
    fn a_paused_fill_is_told_at_once_and_urgent_objects_do_not_wait_for_the_usual_spacing() {
        let usual = Duration::from_secs(60);
        let urgent = FillOrders {
            window_start: "02:00".to_owned(),
            window_s: 43_200,
            timezone: "Europe/Paris".to_owned(),
            rate_limit_bps: None,
            urgent: vec!["title".to_owned()],
            deletion_override: None,
            prefilling: false,
        };
        let idle = FillOrders {
            urgent: Vec::new(),
            ..urgent.clone()
        };
        let mut fill = Fill::default();
        assert_eq!(fill.update(None), None);
        assert_eq!(
            fill.spacing(Some(&urgent), usual),
            usual,
            "it fills nothing"
        );
        let mut progress = FillProgress::default();
        assert_eq!(fill.update(Some(&progress)), Some(Input::Changed));
        progress.wanted_objects = 7;
        assert_eq!(fill.update(Some(&progress)), None);
        assert_eq!(fill.spacing(Some(&urgent), usual), URGENT_SPACING);
        assert_eq!(fill.spacing(Some(&idle), usual), usual);
        assert_eq!(fill.spacing(None, usual), usual);
        assert_eq!(
            fill.spacing(Some(&urgent), Duration::from_secs(1)),
            Duration::from_secs(1)
        );
        progress.window_open = true;
        assert_eq!(fill.update(Some(&progress)), None);
        assert_eq!(fill.spacing(Some(&urgent), usual), usual);
        progress.paused = true;
        assert_eq!(fill.update(Some(&progress)), Some(Input::Changed));
        progress.gives = true;
        assert_eq!(fill.update(Some(&progress)), Some(Input::Changed));
    }

    proptest! {
        #[test]
        fn a_loss_is_a_loss_of_the_naive_sets(
            before in prop::collection::btree_set((0..6_u8, any::<bool>(), any::<bool>()), 0..12),
            after in prop::collection::btree_set((0..6_u8, any::<bool>(), any::<bool>()), 0..12),
        ) {
            let (before, after) = (routes_of(&before), routes_of(&after));
            let steerable = |routes: &[Route]| -> BTreeSet<(String, String)> {
                let open = routes.iter().filter(|route| route.is_steerable());
                open.map(|r| (r.prefix.to_string(), r.neighbour.to_string())).collect()
            };
            let naive = !steerable(&before).is_subset(&steerable(&after));
            let table = |routes: Vec<Route>| routes.into_iter().collect::<RouteTable>();
            prop_assert_eq!(table(after).has_lost(&table(before)), naive);
        }
    }
}
