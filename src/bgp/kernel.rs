//! Learned routes for the box itself: the kernel is given what `kernel_routes` names. A route that
//! somebody else has made is never replaced or removed.
//!
//! Every neighbour that announces a wanted prefix has a route with a metric of its own, so the
//! kernel falls back to the next by itself when a session's routes go. Routes are marked with a
//! protocol number of their own: what an earlier run has left is swept at the start, and all of it
//! goes with [`Keeper`].
//!
//! I/O: [`run`] waits for snapshots and talks to the kernel off the runtime's threads.

use super::Config;
use super::Snapshot;
use super::desk::Desk;
use crate::clock;
use crate::prefix::Prefix;
use crate::route::Filtered;
use crate::sys::netlink::FoundRoute;
use crate::sys::netlink::KernelRoute;
use crate::sys::netlink::RouteSocket;
use crate::telemetry::LogLimit;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// `ip route show proto 79`. Not one of those that other routing daemons have taken.
const PROTOCOL: u8 = 79;

/// What the kernel refused (no way to the gateway yet) is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What the kernel has dropped by itself is missed for so long at most.
const LOOK_EVERY: Duration = Duration::from_secs(30);

const LOG_EVERY: Duration = Duration::from_secs(60);

/// The kernel's table, as far as it is ours.
pub(super) trait Table: Send + 'static {
    /// An error where another route has the place.
    fn add(&mut self, route: &KernelRoute) -> io::Result<()>;
    fn replace(&mut self, route: &KernelRoute) -> io::Result<()>;
    fn remove(&mut self, prefix: &Prefix, metric: u32) -> io::Result<()>;
    fn list(&mut self) -> io::Result<Vec<FoundRoute>>;
}

/// One route of the box itself, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelRouteView {
    pub prefix: Prefix,
    pub gateway: IpAddr,
    pub metric: u32,
    /// Why the kernel has not done what is wanted; it is tried again.
    pub problem: Option<String>,
}

/// Makes the kernel's table what is wanted; takes everything out when it is dropped.
#[derive(Debug)]
pub(super) struct Keeper<T: Table> {
    table: T,
    /// By prefix and metric: what the kernel tells routes apart by.
    installed: BTreeMap<(Prefix, u32), KernelRoute>,
    /// What the kernel refused last, and why.
    refused: BTreeMap<(Prefix, u32), (KernelRoute, String)>,
    limit: LogLimit,
}

impl Table for RouteSocket {
    fn add(&mut self, route: &KernelRoute) -> io::Result<()> {
        Self::add(self, route)
    }

    fn replace(&mut self, route: &KernelRoute) -> io::Result<()> {
        Self::replace(self, route)
    }

    fn remove(&mut self, prefix: &Prefix, metric: u32) -> io::Result<()> {
        Self::remove(self, prefix, metric)
    }

    fn list(&mut self) -> io::Result<Vec<FoundRoute>> {
        Self::list(self)
    }
}

/// Asks the kernel whether routes may be changed, and sweeps what an earlier run has left. `None`
/// if no routes are wanted: then the kernel is not even asked.
pub(super) fn open(config: &Config) -> io::Result<Option<Keeper<RouteSocket>>> {
    if config.policy.kernel_routes.is_empty() {
        return Ok(None);
    }
    let mut socket = RouteSocket::open(PROTOCOL)?;
    socket.may_change()?;
    Keeper::sweep(socket).map(Some)
}

/// Until the room stops. Every end of it, the task's abort too, takes the routes out.
pub(super) async fn run<T: Table>(
    mut keeper: Keeper<T>,
    (config, desks): (Config, Vec<Arc<Desk>>),
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    mut stop: watch::Receiver<Option<String>>,
) {
    let mut is_due = false;
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let wanted = wanted(&config, &snapshot);
        let work = move || {
            if is_due {
                keeper.look();
            }
            let whole = keeper.settle(&wanted);
            (keeper, whole)
        };
        let whole;
        (keeper, whole) = match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "kernel routes are not kept any more; restart oca");
                return;
            }
        };
        for (metric, desk) in (config.policy.kernel_metric..).zip(&desks) {
            desk.kernel_routes(keeper.shown(metric));
        }
        let again = clock::sleep(if whole { LOOK_EVERY } else { AGAIN });
        is_due = tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => break,
            changed = snapshots.changed() => match changed {
                Ok(()) => false,
                Err(_) => break,
            },
            () = again => true,
        };
    }
    // Removing waits for the kernel, which is quick and not to be raced by the process's end.
    let _ = tokio::task::spawn_blocking(move || drop(keeper)).await;
}

/// One route for each neighbour that announces a wanted prefix and can be believed.
fn wanted(config: &Config, snapshot: &Snapshot) -> BTreeSet<KernelRoute> {
    let mut wanted = BTreeMap::new();
    for prefix in &config.policy.kernel_routes {
        let routes = snapshot.routes.iter_from(prefix);
        for route in routes.take_while(|route| route.prefix == *prefix) {
            let mut names = config.neighbours.iter().map(|neighbour| &*neighbour.name);
            let place = names.position(|name| *name == **route.neighbour());
            let place = place.and_then(|place| u32::try_from(place).ok());
            let is_believed = !route.filtered().is_some_and(Filtered::is_untrue);
            if let Some(place) = place.filter(|_| is_believed) {
                let metric = config.policy.kernel_metric.saturating_add(place);
                // Of several paths of one neighbour (RFC 7911) the first.
                wanted.entry((*prefix, metric)).or_insert(KernelRoute {
                    prefix: *prefix,
                    metric,
                    gateway: route.packed().fixed().next_hop,
                });
            }
        }
    }
    wanted.into_values().collect()
}

impl<T: Table> Keeper<T> {
    fn sweep(mut table: T) -> io::Result<Self> {
        let left = table.list()?;
        for route in &left {
            table.remove(&route.prefix, route.metric)?;
        }
        if !left.is_empty() {
            let routes = left.len();
            tracing::info!(routes, "kernel routes of an earlier run removed");
        }
        Ok(Self {
            table,
            installed: BTreeMap::new(),
            refused: BTreeMap::new(),
            limit: LogLimit::new(LOG_EVERY),
        })
    }

    /// The kernel drops routes by itself when their interface goes down: those are put in again.
    fn look(&mut self) {
        // What cannot be listed is taken to be there; the next look finds out.
        let Ok(found) = self.table.list() else {
            return;
        };
        let found: BTreeSet<_> = found.iter().map(|r| (r.prefix, r.metric)).collect();
        self.installed.retain(|place, _| found.contains(place));
    }

    /// New ways first, then old ones out: a fallback is never missing in between. True if all of
    /// it was done.
    fn settle(&mut self, wanted: &BTreeSet<KernelRoute>) -> bool {
        let mut whole = true;
        self.refused.clear();
        for route in wanted {
            let key = place(route);
            if self.installed.get(&key) == Some(route) {
                continue;
            }
            // What another has put there stays: it is told, and tried again.
            let done = match self.installed.contains_key(&key) {
                true => self.table.replace(route),
                false => self.table.add(route),
            };
            match done {
                Ok(()) => {
                    log(route, "installed");
                    self.installed.insert(key, *route);
                }
                Err(error) => {
                    whole = false;
                    // The way that it had before leads nowhere any more.
                    if let Some(old) = self.installed.get(&key).copied() {
                        self.take_out(&old);
                    }
                    self.tell(route, "installed", &error);
                }
            }
        }
        let keys: BTreeSet<_> = wanted.iter().map(place).collect();
        let old = self.installed.values().copied();
        let old: Vec<_> = old.filter(|r| !keys.contains(&place(r))).collect();
        for route in old {
            whole &= self.take_out(&route);
        }
        whole
    }

    fn take_out(&mut self, route: &KernelRoute) -> bool {
        match self.table.remove(&route.prefix, route.metric) {
            Ok(()) => {
                log(route, "removed");
                self.installed.remove(&place(route));
                true
            }
            Err(error) => {
                self.tell(route, "removed", &error);
                false
            }
        }
    }

    /// All routes with this metric.
    fn shown(&self, metric: u32) -> Vec<KernelRouteView> {
        let done = self.installed.values();
        let done = done.filter(|route| !self.refused.contains_key(&place(route)));
        let refused = self.refused.values();
        let all = done
            .map(|route| (route, None))
            .chain(refused.map(|(route, problem)| (route, Some(problem.clone()))));
        all.filter(|(route, _)| route.metric == metric)
            .map(|(route, problem)| KernelRouteView {
                prefix: route.prefix,
                gateway: route.gateway,
                metric,
                problem,
            })
            .collect()
    }

    fn tell(&mut self, route: &KernelRoute, what: &str, error: &io::Error) {
        let problem = format!("cannot be {what}: {error}");
        self.refused.insert(place(route), (*route, problem));
        if let Some(left_out) = self.limit.step(clock::now()) {
            let (prefix, gateway) = (route.prefix, route.gateway);
            tracing::warn!(%prefix, %gateway, %error, left_out,
                "a kernel route cannot be {what}; is its gateway on a network of the box?");
        }
    }
}

/// What no two routes of the kernel share.
fn place(route: &KernelRoute) -> (Prefix, u32) {
    (route.prefix, route.metric)
}

fn log(route: &KernelRoute, done: &str) {
    let (prefix, gateway) = (route.prefix, route.gateway);
    tracing::info!(%prefix, %gateway, metric = route.metric, "kernel route {done}");
}

impl<T: Table> Drop for Keeper<T> {
    fn drop(&mut self) {
        for route in std::mem::take(&mut self.installed).into_values() {
            self.take_out(&route);
        }
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
