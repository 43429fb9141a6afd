//! Many small changes into one immutable [`Snapshot`], not too often and never late.
//!
//! Sans-IO but for [`run`]. Tasks of neighbours send [`Event`]s; nobody else touches the tables.
//! The published list itself is the only copy: a step merges sorted changes into it, and the hash
//! of a neighbour's routes is kept so that its end costs nothing.
//!
//! I/O: [`run`] waits for events and deadlines.

use super::Config;
use super::NeighbourView;
use super::SessionFacts;
use super::Snapshot;
use crate::clock;
use crate::clock::Instant;
use crate::prefix::Prefix;
use crate::route::Attributes;
use crate::route::Class;
use crate::route::Filtered;
use crate::route::Route;
use crate::set_hash::SetHash;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// While updates stream, readers get a snapshot this often.
const SPACING: Duration = Duration::from_millis(250);

/// A first announcement rarely comes alone.
const GATHERING: Duration = Duration::from_millis(50);

/// Share of time that merging announcements into a great table may take: one fifth.
const COST_FACTOR: u32 = 4;

/// However great the table, announcements wait no longer.
const SPACING_MAX: Duration = Duration::from_secs(2);

/// From this many routes and changes on a merge takes milliseconds and leaves the runtime's thread.
const LARGE: usize = 20_000;

/// What a neighbour's task tells.
#[derive(Debug)]
pub(super) enum Event {
    Routes(Index, Vec<Change>),
    /// The session ended: all its routes go, in the snapshot that says why.
    Gone(Index, SessionView),
    Session(Index, SessionView),
}

/// Place of a neighbour in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index(pub(super) usize);

/// `to` is `None` for a withdrawal.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) prefix: Prefix,
    pub(super) to: Option<(Arc<Attributes>, Option<Filtered>)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionView {
    pub(super) state: &'static str,
    pub(super) since: Option<Instant>,
    pub(super) last_error: Option<String>,
    pub(super) facts: SessionFacts,
}

/// Where snapshots appear.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    /// Starts of established sessions: uptime grows without a snapshot.
    since: Mutex<Vec<Option<Instant>>>,
}

#[derive(Debug)]
pub(super) struct Publisher {
    neighbours: Vec<Neighbour>,
    /// By (prefix, rank); what the next merge does to `routes`.
    pending: BTreeMap<(Prefix, Rank), Pending>,
    gone: BTreeSet<Index>,
    routes: Arc<[Route]>,
    hash: SetHash,
    generation: u64,
    lines: Lines,
    due: Option<Instant>,
    /// No snapshot before then: for announcements, and for what is urgent.
    rest_until: Instant,
    urgent_from: Instant,
}

type Pending = Option<(Arc<Attributes>, Option<Filtered>)>;

/// Place of a neighbour's name among all names: routes are sorted by it after their prefix.
type Rank = usize;

#[derive(Debug)]
struct Neighbour {
    name: Arc<str>,
    address: IpAddr,
    asn: crate::route::Asn,
    class: Class,
    rank: Rank,
    session: SessionView,
    routes: usize,
    filtered: usize,
    hash: SetHash,
}

/// Writes canonical lines; routes of one UPDATE share all but their prefix.
#[derive(Debug, Default)]
struct Lines {
    last: Option<(Arc<Attributes>, Option<Filtered>, Arc<str>)>,
    /// From the first separator on.
    tail: String,
    line: String,
}

impl Board {
    pub(super) fn new(publisher: &Publisher, now: Instant) -> Self {
        let first = Arc::new(publisher.snapshot(now));
        Self {
            since: Mutex::new(vec![None; first.neighbours.len()]),
            snapshots: watch::Sender::new(first),
        }
    }

    /// The last snapshot, with uptimes of now.
    pub(super) fn snapshot(&self, now: Instant) -> Arc<Snapshot> {
        let last = Arc::clone(&self.snapshots.borrow());
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.iter().all(Option::is_none) {
            return last;
        }
        let mut fresh = Snapshot::clone(&last);
        for (neighbour, since) in fresh.neighbours.iter_mut().zip(&*since) {
            neighbour.uptime_s = uptime_s(*since, now);
        }
        Arc::new(fresh)
    }

    fn publish(&self, publisher: &Publisher, snapshot: Snapshot) {
        let since = publisher.neighbours.iter().map(|n| n.session.since);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since.collect();
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    /// The publisher has died: there are no routes. Nobody may be steered for ever by routes that
    /// nobody keeps up to date.
    fn fail(&self) {
        tracing::error!("routes cannot be published any more; restart oca, report the panic");
        let last = Arc::clone(&self.snapshots.borrow());
        let mut nothing = Snapshot {
            generation: last.generation + 1,
            neighbours: last.neighbours.clone(),
            ..Snapshot::default()
        };
        for neighbour in &mut nothing.neighbours {
            (neighbour.routes, neighbour.filtered) = (0, 0);
            let why = "an internal error: its routes are lost; restart oca";
            neighbour.last_error = Some(why.to_owned());
        }
        self.snapshots.send_replace(Arc::new(nothing));
    }
}

/// Ends when every sender of events is gone, after a last snapshot.
pub(super) async fn run(
    mut publisher: Publisher,
    mut events: mpsc::Receiver<Event>,
    board: Arc<Board>,
) {
    let _last_word = LastWord(&board);
    let mut is_open = true;
    while is_open {
        let due = publisher.due;
        let wait = async {
            match due {
                Some(at) => clock::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = wait => {}
            event = events.recv() => {
                match event {
                    Some(event) => publisher.apply(clock::now(), event),
                    None => is_open = false,
                }
                if is_open {
                    continue;
                }
            }
        }
        let begun = clock::now();
        let is_large = publisher.routes.len() + publisher.pending.len() >= LARGE;
        let work = move || {
            let snapshot = publisher.publish(begun);
            (publisher, snapshot)
        };
        let snapshot;
        (publisher, snapshot) = if !is_large {
            work()
        } else {
            match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(_) => return board.fail(),
            }
        };
        publisher.rest(begun, clock::now());
        board.publish(&publisher, snapshot);
    }
}

/// Ends with a last word if the publisher panics.
struct LastWord<'a>(&'a Board);

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
    }
}

impl Publisher {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let mut names: Vec<&str> = config.neighbours.iter().map(|n| &*n.name).collect();
        names.sort_unstable();
        let neighbours = config.neighbours.iter().map(|neighbour| Neighbour {
            name: neighbour.name.as_str().into(),
            address: neighbour.address,
            asn: neighbour.asn,
            class: neighbour.class,
            rank: names.partition_point(|name| *name < neighbour.name.as_str()),
            session: SessionView {
                state: "idle",
                ..SessionView::default()
            },
            routes: 0,
            filtered: 0,
            hash: SetHash::default(),
        });
        Self {
            neighbours: neighbours.collect(),
            pending: BTreeMap::new(),
            gone: BTreeSet::new(),
            routes: Arc::new([]),
            hash: SetHash::default(),
            generation: 0,
            lines: Lines::default(),
            due: None,
            rest_until: now,
            urgent_from: now,
        }
    }

    /// Takes a change; [`Publisher::publish`] is due at `self.due`.
    pub(super) fn apply(&mut self, now: Instant, event: Event) {
        let is_urgent = match event {
            Event::Routes(index, changes) => {
                let rank = self.neighbours[index.0].rank;
                let withdraws = changes.iter().any(|change| change.to.is_none());
                for Change { prefix, to } in changes {
                    self.pending.insert((prefix, rank), to);
                }
                withdraws
            }
            Event::Gone(index, view) => {
                let rank = self.neighbours[index.0].rank;
                self.pending.retain(|(_, of), _| *of != rank);
                self.gone.insert(index);
                self.neighbours[index.0].session = view;
                true
            }
            Event::Session(index, view) => {
                self.neighbours[index.0].session = view;
                true
            }
        };
        let due = if is_urgent {
            now.max(self.urgent_from)
        } else {
            self.rest_until.max(now + GATHERING)
        };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    fn rest(&mut self, begun: Instant, now: Instant) {
        let cost = now.saturating_duration_since(begun);
        let rest = cost.saturating_mul(COST_FACTOR);
        self.rest_until = now + rest.clamp(SPACING, SPACING_MAX);
        self.urgent_from = now + SPACING;
    }

    /// Everything that was applied, as one snapshot. Unchanged routes keep their generation.
    pub(super) fn publish(&mut self, now: Instant) -> Snapshot {
        self.due = None;
        if !self.pending.is_empty() || !self.gone.is_empty() {
            let routes = self.merge();
            let mut hash = SetHash::default();
            for neighbour in &self.neighbours {
                hash.merge(neighbour.hash);
            }
            if hash != self.hash {
                self.routes = routes.into();
                self.hash = hash;
                self.generation += 1;
            }
        }
        self.snapshot(now)
    }

    fn snapshot(&self, now: Instant) -> Snapshot {
        let filtered: usize = self.neighbours.iter().map(|n| n.filtered).sum();
        let views = self.neighbours.iter().map(|neighbour| NeighbourView {
            name: neighbour.name.to_string(),
            address: neighbour.address,
            asn: neighbour.asn,
            class: neighbour.class,
            state: neighbour.session.state,
            routes: neighbour.routes,
            filtered: neighbour.filtered,
            uptime_s: uptime_s(neighbour.session.since, now),
            last_error: neighbour.session.last_error.clone(),
            session: neighbour.session.facts.clone(),
        });
        Snapshot {
            generation: self.generation,
            hash: self.hash,
            routes: Arc::clone(&self.routes),
            steerable: self.routes.len() - filtered,
            neighbours: views.collect(),
        }
    }

    fn merge(&mut self) -> Vec<Route> {
        let gone = std::mem::take(&mut self.gone);
        for index in &gone {
            let neighbour = &mut self.neighbours[index.0];
            (neighbour.routes, neighbour.filtered) = (0, 0);
            neighbour.hash = SetHash::default();
        }
        let mut by_rank = vec![Index(0); self.neighbours.len()];
        for (index, neighbour) in self.neighbours.iter().enumerate() {
            by_rank[neighbour.rank] = Index(index);
        }
        let old = Arc::clone(&self.routes);
        let mut pending = std::mem::take(&mut self.pending).into_iter().peekable();
        let mut merged = Vec::with_capacity(old.len() + pending.len());
        for route in old.iter() {
            if gone
                .iter()
                .any(|index| Arc::ptr_eq(&self.neighbours[index.0].name, &route.neighbour))
            {
                continue;
            }
            let mut replaced = false;
            while let Some(((prefix, rank), _)) = pending.peek() {
                let name = &self.neighbours[by_rank[*rank].0].name;
                let order = prefix.cmp(&route.prefix);
                let order = order.then_with(|| name.cmp(&route.neighbour));
                if order == Ordering::Greater {
                    break;
                }
                if order == Ordering::Equal {
                    self.count(by_rank[*rank], route, false);
                    replaced = true;
                }
                if let Some(((prefix, rank), to)) = pending.next() {
                    merged.extend(self.added(by_rank[rank], prefix, to));
                }
            }
            if !replaced {
                merged.push(route.clone());
            }
        }
        for ((prefix, rank), to) in pending {
            merged.extend(self.added(by_rank[rank], prefix, to));
        }
        merged
    }

    fn added(&mut self, index: Index, prefix: Prefix, to: Pending) -> Option<Route> {
        let (attributes, filtered) = to?;
        let neighbour = &self.neighbours[index.0];
        let route = Route {
            prefix,
            neighbour: Arc::clone(&neighbour.name),
            class: neighbour.class,
            attributes,
            filtered,
        };
        self.count(index, &route, true);
        Some(route)
    }

    /// Books a route in or out.
    fn count(&mut self, index: Index, route: &Route, is_in: bool) {
        let line = self.lines.of(route);
        let neighbour = &mut self.neighbours[index.0];
        let filtered = usize::from(route.filtered.is_some());
        if is_in {
            neighbour.hash.add(line);
            neighbour.routes += 1;
            neighbour.filtered += filtered;
        } else {
            neighbour.hash.remove(line);
            neighbour.routes -= 1;
            neighbour.filtered -= filtered;
        }
    }
}

impl Lines {
    /// [`Route::canonical`], with the part behind the prefix written once for many.
    fn of(&mut self, route: &Route) -> &[u8] {
        let is_same = self
            .last
            .as_ref()
            .is_some_and(|(attributes, filtered, neighbour)| {
                Arc::ptr_eq(attributes, &route.attributes)
                    && *filtered == route.filtered
                    && Arc::ptr_eq(neighbour, &route.neighbour)
            });
        if !is_same {
            let line = route.canonical();
            let tail = line.find('|').map_or("", |at| &line[at..]);
            self.tail = tail.to_owned();
            let attributes = Arc::clone(&route.attributes);
            let neighbour = Arc::clone(&route.neighbour);
            self.last = Some((attributes, route.filtered, neighbour));
        }
        self.line.clear();
        let _ = std::fmt::Write::write_fmt(&mut self.line, format_args!("{}", route.prefix));
        self.line.push_str(&self.tail);
        self.line.as_bytes()
    }
}

fn uptime_s(since: Option<Instant>, now: Instant) -> Option<u64> {
    since.map(|since| now.saturating_duration_since(since).as_secs())
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
