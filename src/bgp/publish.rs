//! Many small changes into one immutable [`Snapshot`], not too often and never late.
//!
//! Sans-IO but for [`run`]. Tasks of neighbours send [`Event`]s; nobody else touches the tables.
//! A step applies what changed to the neighbours' tables, which share with the last snapshot what
//! did not; hash and counts come with the changes, so that nothing here costs the whole table.
//!
//! I/O: [`run`] waits for events and deadlines.

use super::Config;
use super::NeighbourView;
use super::SessionFacts;
use super::Snapshot;
use super::rib::Batch;
use crate::clock;
use crate::clock::Instant;
use crate::route_table::Changes;
use crate::route_table::Pages;
use crate::route_table::RouteTable;
use crate::route_table::Source;
use crate::route_table::Table;
use crate::set_hash::SetHash;
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
    Routes(Index, Batch),
    /// The session ended: all its routes go, in the snapshot that says why.
    Gone(Index, SessionView),
    Session(Index, SessionView),
}

/// Place of a neighbour in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index(pub(super) usize);

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
    routes: RouteTable,
    hash: SetHash,
    generation: u64,
    due: Option<Instant>,
    /// No snapshot before then: for announcements, and for what is urgent.
    rest_until: Instant,
    urgent_from: Instant,
}

#[derive(Debug)]
struct Neighbour {
    name: Arc<str>,
    address: IpAddr,
    asn: crate::route::Asn,
    class: crate::route::Class,
    is_internal: bool,
    session: SessionView,
    table: Arc<Table>,
    pending: Option<Pending>,
    routes: usize,
    filtered: usize,
    hash: SetHash,
}

/// What the next snapshot does to a neighbour's table.
#[derive(Debug)]
enum Pending {
    Changed(Changes, Pages),
    /// It is emptied first.
    Renewed(Changes, Pages),
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
        let is_large = publisher.routes.len() + publisher.pending() >= LARGE;
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
        let neighbours = config.neighbours.iter().map(|neighbour| Neighbour {
            name: neighbour.name.as_str().into(),
            address: neighbour.address,
            asn: neighbour.asn,
            class: neighbour.class,
            is_internal: neighbour.asn == config.asn,
            session: SessionView {
                state: "idle",
                ..SessionView::default()
            },
            table: Arc::default(),
            pending: None,
            routes: 0,
            filtered: 0,
            hash: SetHash::default(),
        });
        Self {
            neighbours: neighbours.collect(),
            routes: RouteTable::default(),
            hash: SetHash::default(),
            generation: 0,
            due: None,
            rest_until: now,
            urgent_from: now,
        }
    }

    /// Takes a change; [`Publisher::publish`] is due at `self.due`.
    pub(super) fn apply(&mut self, now: Instant, event: Event) {
        let is_urgent = match event {
            Event::Routes(index, batch) => {
                let withdraws = batch.withdraws;
                self.neighbours[index.0].take(batch);
                withdraws
            }
            Event::Gone(index, view) => {
                self.neighbours[index.0].gone();
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
        if self.neighbours.iter().any(|one| one.pending.is_some()) {
            let mut hash = SetHash::default();
            for neighbour in &mut self.neighbours {
                neighbour.apply();
                hash.merge(neighbour.hash);
            }
            let tables = self.neighbours.iter().map(|one| Arc::clone(&one.table));
            self.routes = RouteTable::new(tables);
            if hash != self.hash {
                self.hash = hash;
                self.generation += 1;
            }
        }
        self.snapshot(now)
    }

    fn snapshot(&self, now: Instant) -> Snapshot {
        let routes: usize = self.neighbours.iter().map(|n| n.table.len()).sum();
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
            routes: self.routes.clone(),
            steerable: routes - filtered,
            neighbours: views.collect(),
        }
    }

    /// Changes that wait.
    fn pending(&self) -> usize {
        let pending = self
            .neighbours
            .iter()
            .filter_map(|one| one.pending.as_ref());
        pending
            .map(|pending| match pending {
                Pending::Changed(changes, _) | Pending::Renewed(changes, _) => changes.len(),
            })
            .sum()
    }
}

impl Neighbour {
    fn take(&mut self, batch: Batch) {
        (self.routes, self.filtered) = (batch.routes, batch.filtered);
        self.hash = batch.hash;
        let later = batch.changes;
        self.pending = Some(match self.pending.take() {
            None => Pending::Changed(later, batch.pages),
            Some(Pending::Changed(mut changes, _)) => {
                changes.append(later);
                Pending::Changed(changes, batch.pages)
            }
            Some(Pending::Renewed(mut changes, _)) => {
                changes.append(later);
                Pending::Renewed(changes, batch.pages)
            }
        });
    }

    fn gone(&mut self) {
        (self.routes, self.filtered) = (0, 0);
        self.hash = SetHash::default();
        self.pending = Some(Pending::Renewed(Changes::default(), Pages::default()));
    }

    fn apply(&mut self) {
        let source = Source {
            neighbour: Arc::clone(&self.name),
            class: self.class,
            is_internal: self.is_internal,
            // Routes that outlive their session keep what it said.
            router_id: self
                .session
                .facts
                .router_id
                .or(self.table.source().router_id),
            address: self.address,
        };
        match self.pending.take() {
            // What a session says of itself goes with the next change of its routes.
            None if self.table.source() == &source || !self.table.is_empty() => {}
            None => self.table = Arc::new(Table::new(source)),
            Some(Pending::Changed(changes, pages)) => {
                self.table = Arc::new(self.table.changed(source, changes, pages));
            }
            Some(Pending::Renewed(changes, pages)) => {
                let empty = Table::new(source.clone());
                self.table = Arc::new(empty.changed(source, changes, pages));
            }
        }
    }
}

fn uptime_s(since: Option<Instant>, now: Instant) -> Option<u64> {
    since.map(|since| now.saturating_duration_since(since).as_secs())
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
