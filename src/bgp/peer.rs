//! One neighbour's task: it owns the session, the Adj-RIB-In and the connections, and moves bytes
//! between them.
//!
//! A panic on hostile bytes ends this neighbour's sessions for a while and nobody else's.
//!
//! I/O: reads, connects, sleeps; writing is left to a task a connection (`pipe`).

use super::Config;
use super::NeighbourConfig;
use super::import::Import;
use super::metrics::Counters;
use super::net::Dial;
use super::net::Guard;
use super::net::Link;
use super::net::Net;
use super::pipe;
use super::pipe::Pipe;
use super::publish::Change;
use super::publish::Event;
use super::publish::Index;
use super::publish::SessionView;
use super::rib::Rib;
use super::session::Action;
use super::session::ConnectionId;
use super::session::Input;
use super::session::Session;
use super::session::Settings;
use super::session::Side;
use super::wire;
use super::wire::Malformed;
use super::wire::Message;
use super::wire::Negotiated;
use super::wire::Update;
use crate::clock;
use crate::help;
use crate::prefix::Family;
use crate::telemetry::LogLimit;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Changes that go to the publisher in one piece.
const BATCH: usize = 1024;

/// Memory of one neighbour's attribute sets. A full table of the internet needs some 50 MB; one
/// whose every route has 4 kB of attributes of its own would need 4 GB.
const ATTRIBUTE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Before a neighbour whose bytes made us panic is listened to again.
const AFTER_PANIC: Duration = Duration::from_secs(30);

/// For connections that are being closed, when the room stops.
const CLOSE_TIME: Duration = Duration::from_secs(3);

const LOG_EVERY: Duration = Duration::from_secs(10);

/// What a neighbour's task is made of; survives a panic.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) index: Index,
    pub(super) config: Config,
    pub(super) neighbour: NeighbourConfig,
    pub(super) net: Arc<dyn Net>,
    pub(super) guard: Guard,
    pub(super) random: fastrand::Rng,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) arrivals: mpsc::Receiver<Link>,
    /// The text of the CEASE, once the room stops.
    pub(super) stop: watch::Receiver<Option<String>>,
    pub(super) counters: Arc<Counters>,
}

/// One life of it, until it stops or panics.
struct Life<'a> {
    peer: &'a mut Peer,
    session: Session,
    rib: Rib,
    import: Import,
    pipes: Vec<Pipe>,
    /// Connections that are closed when their last bytes have left.
    closing: JoinSet<()>,
    dial: Option<BoxFuture<'static, io::Result<Link>>>,
    next_id: u64,
    changes: Vec<Change>,
    inputs: VecDeque<Input<'static>>,
    /// Families that are ignored until the session ends (RFC 4760 section 7).
    disabled: Vec<Family>,
    shown: SessionView,
    limit: LogLimit,
}

enum Woken {
    Stop(String),
    Arrived(Link),
    Dialed(io::Result<Link>),
    Read(ConnectionId, io::Result<usize>),
    Deadline,
}

/// Ends when the room stops.
pub(super) async fn run(mut peer: Peer) {
    loop {
        let life = AssertUnwindSafe(Life::new(&mut peer).run()).catch_unwind();
        if life.await.is_ok() {
            return;
        }
        let name = &peer.neighbour.name;
        tracing::error!(neighbour = %name, "what this neighbour sent made us fail; it must wait");
        let view = SessionView {
            state: "idle",
            since: None,
            last_error: Some("an internal error; please report it".to_owned()),
        };
        let _ = peer.events.send(Event::Gone(peer.index, view)).await;
        let stopped = peer.stop.wait_for(Option::is_some);
        if clock::within(AFTER_PANIC, stopped).await.is_ok() {
            return;
        }
    }
}

impl<'a> Life<'a> {
    fn new(peer: &'a mut Peer) -> Self {
        let settings = Settings {
            asn: peer.config.asn,
            router_id: peer.config.router_id,
            neighbour_asn: peer.neighbour.asn,
            passive: peer.neighbour.passive,
            hold_time: peer.neighbour.hold_time,
            connect_retry: peer.neighbour.connect_retry,
        };
        Self {
            session: Session::new(settings, peer.random.fork()),
            rib: Rib::default(),
            import: Import::new(&peer.config, &peer.neighbour),
            pipes: Vec::new(),
            closing: JoinSet::new(),
            dial: None,
            next_id: 0,
            changes: Vec::new(),
            inputs: VecDeque::from([Input::Start]),
            disabled: Vec::new(),
            shown: SessionView::default(),
            limit: LogLimit::new(LOG_EVERY),
            peer,
        }
    }

    async fn run(mut self) {
        loop {
            self.settle().await;
            match self.woken().await {
                Woken::Stop(text) => {
                    self.inputs.push_back(Input::Stop(text));
                    self.settle().await;
                    break;
                }
                Woken::Arrived(link) => self.connected(Side::Theirs, link),
                Woken::Dialed(result) => {
                    self.dial = None;
                    match result {
                        Ok(link) => self.connected(Side::Ours, link),
                        Err(error) => {
                            let why = help::printable(error.to_string().as_bytes(), 120);
                            let failed = Input::ConnectFailed(format!("connect: {why}"));
                            self.inputs.push_back(failed);
                        }
                    }
                }
                Woken::Read(id, read) => self.read(id, read).await,
                Woken::Deadline => self.inputs.push_back(Input::Tick),
            }
        }
        let closed = async { while self.closing.join_next().await.is_some() {} };
        let _ = clock::within(CLOSE_TIME, closed).await;
    }

    async fn woken(&mut self) -> Woken {
        let deadline = self.session.deadline();
        let wait = async {
            match deadline {
                Some(at) => clock::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let dial = async {
            match &mut self.dial {
                Some(dial) => dial.await,
                None => std::future::pending().await,
            }
        };
        // Time comes first, so that keepalives do not depend on how much there is to read.
        tokio::select! {
            biased;
            Ok(text) = self.peer.stop.wait_for(Option::is_some) => {
                Woken::Stop(text.clone().unwrap_or_default())
            }
            () = wait => Woken::Deadline,
            dialed = dial => Woken::Dialed(dialed),
            Some(link) = self.peer.arrivals.recv() => Woken::Arrived(link),
            (id, read) = pipe::read_any(&mut self.pipes) => Woken::Read(id, read),
            Some(_) = self.closing.join_next() => Woken::Deadline,
        }
    }

    fn connected(&mut self, side: Side, link: Link) {
        self.next_id += 1;
        let id = ConnectionId(self.next_id);
        tracing::debug!(neighbour = %self.peer.neighbour.name, ?side, ?link, "connected");
        self.pipes.push(Pipe::new(id, link.stream));
        self.inputs.push_back(Input::Connected(side, id));
    }

    /// Every whole message of what has come in.
    async fn read(&mut self, id: ConnectionId, read: io::Result<usize>) {
        let why = match read {
            Ok(0) => "the neighbour closed the connection".to_owned(),
            Ok(_) => return self.messages(id).await,
            Err(error) => {
                let why = help::printable(error.to_string().as_bytes(), 120);
                format!("the connection was lost: {why}")
            }
        };
        self.pipes.retain(|pipe| pipe.id() != id);
        self.inputs.push_back(Input::Closed(id, why));
    }

    async fn messages(&mut self, id: ConnectionId) {
        let Some(pipe) = self.pipes.iter_mut().find(|pipe| pipe.id() == id) else {
            return;
        };
        // Lent out, so that messages can borrow from it while they are applied.
        let lent = pipe.lend();
        let mut consumed = 0;
        while self.pipes.iter().any(|pipe| pipe.id() == id) {
            let session = self.session.negotiated(id).map(|session| {
                let without = |session: Negotiated, family: &Family| session.without(*family);
                self.disabled.iter().fold(session, without)
            });
            let most = session.map_or(wire::MESSAGE_BYTES_MAX, |s| s.message_bytes_max());
            let unread = &lent.unread()[consumed..];
            let message = match wire::frame(unread, most) {
                Ok(Some(length)) if length <= unread.len() => {
                    consumed += length;
                    wire::decode(&unread[..length], session.as_ref())
                }
                Ok(_) => break,
                Err(notification) => Err(notification.into()),
            };
            self.message(id, message).await;
            if self.session.deadline().is_some_and(|at| clock::now() >= at) {
                self.inputs.push_back(Input::Tick);
            }
            self.settle().await;
        }
        if let Some(pipe) = self.pipes.iter_mut().find(|pipe| pipe.id() == id) {
            pipe.take_back(lent, consumed);
        }
        self.flush().await;
    }

    async fn message(&mut self, id: ConnectionId, message: Result<Message<'_>, Malformed>) {
        let now = clock::now();
        let message = match message {
            Ok(message) => message,
            Err(malformed) => {
                if let Some(kind) = malformed.kind {
                    self.peer.counters.fault(kind);
                }
                let input = Input::Malformed(id, malformed.notification);
                return self.inputs.push_back(input);
            }
        };
        for action in self.session.step(now, Input::Message(id, &message)) {
            match (action, &message) {
                (Action::Apply(_), Message::Update(update)) => self.update(update).await,
                (action, _) => self.perform(action).await,
            }
        }
    }

    /// Steps the session through everything that waits, and does what it says.
    async fn settle(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            for action in self.session.step(clock::now(), input) {
                self.perform(action).await;
            }
        }
        let view = self.view();
        if view != self.shown {
            self.shown = view.clone();
            let _ = self
                .peer
                .events
                .send(Event::Session(self.peer.index, view))
                .await;
        }
    }

    fn view(&self) -> SessionView {
        SessionView {
            state: self.session.state(),
            since: self.session.established_since(),
            last_error: self.session.last_error(),
        }
    }

    async fn perform(&mut self, action: Action) {
        let (name, counters) = (&self.peer.neighbour.name, &self.peer.counters);
        match action {
            Action::Connect => {
                let neighbour = &self.peer.neighbour;
                let dial = Dial {
                    local: neighbour.local_address,
                    remote: SocketAddr::new(neighbour.address, neighbour.port),
                    guard: self.peer.guard.clone(),
                };
                self.dial = Some(self.peer.net.connect(dial));
            }
            Action::CancelConnect => self.dial = None,
            Action::Send(id, bytes) => {
                let pipe = self.pipes.iter().find(|pipe| pipe.id() == id);
                if pipe.is_some_and(|pipe| !pipe.send(bytes)) {
                    self.pipes.retain(|pipe| pipe.id() != id);
                    let why = "the neighbour does not read what we send".to_owned();
                    self.inputs.push_back(Input::Closed(id, why));
                }
            }
            Action::Close(id) => {
                if let Some(at) = self.pipes.iter().position(|pipe| pipe.id() == id) {
                    self.closing.spawn(self.pipes.swap_remove(at).close());
                }
            }
            Action::Up(_) => {
                counters.established.fetch_add(1, Relaxed);
                tracing::info!(neighbour = %name, "BGP session established");
            }
            // Done where the UPDATE is.
            Action::Apply(_) => {}
            Action::Down => {
                let error = self.session.last_error().unwrap_or_default();
                tracing::warn!(neighbour = %name, error, "BGP session ended");
                self.disabled.clear();
                self.rib = Rib::default();
                self.changes.clear();
                self.shown = self.view();
                let gone = Event::Gone(self.peer.index, self.shown.clone());
                let _ = self.peer.events.send(gone).await;
            }
            Action::Sent(notification) => {
                counters.notifications_sent.fetch_add(1, Relaxed);
                let words = notification.words();
                tracing::info!(neighbour = %name, words, "NOTIFICATION sent");
            }
            Action::Received(notification) => {
                counters.notifications_received.fetch_add(1, Relaxed);
                let words = notification.words();
                tracing::info!(neighbour = %name, words, "NOTIFICATION received");
            }
        }
    }

    async fn update(&mut self, update: &Update<'_>) {
        self.peer.counters.updates.fetch_add(1, Relaxed);
        self.tell_faults(update);
        if let Some(family) = update.disabled {
            self.disabled.push(family);
            let prefixes = self.rib.withdraw_family(family);
            let gone = prefixes
                .into_iter()
                .map(|prefix| Change { prefix, to: None });
            self.changes.extend(gone);
        }
        for wire::Nlri { prefix, .. } in update.withdrawn() {
            if self.rib.withdraw(&prefix) {
                self.changes.push(Change { prefix, to: None });
            }
        }
        for reach in update.announced() {
            let attributes = update.attributes().into_owned(reach.next_hop);
            let shared = self.import.attributes(&attributes);
            let held = self.rib.hold(attributes);
            for wire::Nlri { prefix, .. } in reach.prefixes {
                let filtered = self.import.route(&prefix, shared);
                if self.rib.announce(prefix, &held, filtered) {
                    let to = Some((Arc::clone(&held.attributes), filtered));
                    self.changes.push(Change { prefix, to });
                }
            }
            self.rib.release(held);
        }
        if self.changes.len() >= BATCH {
            self.flush().await;
        }
        if let Some(family) = update.end_of_rib {
            let (name, routes) = (&self.peer.neighbour.name, self.rib.family_len(family));
            tracing::info!(neighbour = %name, ?family, routes, "the neighbour has sent everything");
        }
        let most = self.peer.neighbour.max_prefixes;
        for family in [Family::Ipv4, Family::Ipv6] {
            if self.rib.family_len(family) > most as usize {
                self.inputs.push_back(Input::TooManyPrefixes(family, most));
                return;
            }
        }
        if self.rib.attribute_bytes() > ATTRIBUTE_BYTES_MAX {
            self.inputs.push_back(Input::OutOfResources);
        }
    }

    fn tell_faults(&mut self, update: &Update<'_>) {
        let Some(worst) = update.faults.worst() else {
            return;
        };
        self.peer.counters.malformed.fetch_add(1, Relaxed);
        for kind in update.faults.kinds() {
            self.peer.counters.fault(kind);
        }
        if let Some(left_out) = self.limit.step(clock::now()) {
            let wire::UpdateFault {
                kind,
                attribute,
                handling,
            } = worst;
            let (name, section) = (&self.peer.neighbour.name, kind.section());
            tracing::warn!(neighbour = %name, attribute, error = kind.as_str(), section,
                ?handling, left_out, "malformed UPDATE");
        }
    }

    /// Waits while the publisher is busy; a merge of a whole table takes a fraction of the
    /// shortest keepalive time.
    async fn flush(&mut self) {
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            let _ = self
                .peer
                .events
                .send(Event::Routes(self.peer.index, changes))
                .await;
        }
    }
}
