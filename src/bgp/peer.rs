//! One neighbour's task: it owns the session, the Adj-RIB-In and the connections, and moves bytes
//! between them.
//!
//! A panic on hostile bytes ends this neighbour's sessions for a while and nobody else's.
//!
//! I/O: reads, connects, sleeps; writing is left to a task a connection (`pipe`).

mod actions;
mod operator;

use super::Config;
use super::NeighbourConfig;
use super::SessionFacts;
use super::budget::Budget;
use super::budget::Share;
use super::desk::Desk;
use super::desk::Ordered;
use super::ingest::Ingest;
use super::metrics::Counters;
use super::net::Expected;
use super::net::Guard;
use super::net::Link;
use super::net::Net;
use super::outbox::Outbox;
use super::pipe;
use super::pipe::Pipe;
use super::publish::Event;
use super::publish::Index;
use super::publish::SessionView;
use super::session::Action;
use super::session::ConnectionId;
use super::session::Input;
use super::session::Session;
use super::session::Settings;
use super::session::Side;
use super::session::family_word;
use super::wire;
use super::wire::Malformed;
use super::wire::Message;
use super::wire::Update;
use crate::clock;
use crate::clock::Instant;
use crate::help;
use crate::telemetry::LogLimit;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Before a neighbour whose bytes made us panic is listened to again.
const AFTER_PANIC: Duration = Duration::from_secs(30);

/// For connections that are being closed, when the room stops.
const CLOSE_TIME: Duration = Duration::from_secs(3);

const LOG_EVERY: Duration = Duration::from_secs(10);

/// Others on this thread, our own writer first, get their turn after so much reading: a keepalive
/// that is due leaves in time however much a neighbour has to say.
const TURN: Duration = Duration::from_millis(5);

/// What a neighbour's task is made of; survives a panic.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) index: Index,
    pub(super) config: Config,
    pub(super) neighbour: NeighbourConfig,
    pub(super) net: Arc<dyn Net>,
    /// Of all neighbours: how this one's packets must look at this moment.
    pub(super) expected: watch::Receiver<Arc<[Expected]>>,
    pub(super) random: fastrand::Rng,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) arrivals: mpsc::Receiver<Link>,
    /// The text of the CEASE, once the room stops.
    pub(super) stop: watch::Receiver<Option<String>>,
    pub(super) counters: Arc<Counters>,
    pub(super) desk: Arc<Desk>,
    pub(super) orders: mpsc::Receiver<Ordered>,
    /// Whether the service addresses are to be announced at this moment.
    pub(super) offer: watch::Receiver<bool>,
    pub(super) budget: Arc<Budget>,
}

/// One life of it, until it stops or panics.
struct Life<'a> {
    peer: &'a mut Peer,
    session: Session,
    ingest: Ingest,
    standing: operator::Standing,
    share: Share,
    pipes: Vec<Pipe>,
    /// Connections that are closed when their last bytes have left.
    closing: JoinSet<()>,
    dial: Option<BoxFuture<'static, io::Result<Link>>>,
    next_id: u64,
    outbox: Outbox,
    inputs: VecDeque<Input<'static>>,
    /// What is shown of the session may have changed.
    has_news: bool,
    /// Of reading without a rest.
    turn_ends: Instant,
    shown: SessionView,
    limit: LogLimit,
    /// Families that were asked for again, with answers that may not have left yet.
    answered: Vec<u16>,
}

enum Woken {
    Stop(String),
    Ordered(Ordered),
    Offer,
    PassedOn,
    Swept,
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
        let why = "an internal error; please report it".to_owned();
        peer.desk.down(Some(why.clone()));
        let view = SessionView {
            state: "idle",
            since: None,
            last_error: Some(why),
            facts: SessionFacts::default(),
        };
        let _ = peer.events.send(Event::Gone(peer.index, view)).await;
        let stopped = peer.stop.wait_for(Option::is_some);
        if clock::within(AFTER_PANIC, stopped).await.is_ok() {
            return;
        }
    }
}

impl Peer {
    fn guard(&self) -> Guard {
        let expected = self.expected.borrow();
        let own = expected.get(self.index.0);
        own.map(|own| own.guard.clone()).unwrap_or_default()
    }
}

impl<'a> Life<'a> {
    fn new(peer: &'a mut Peer) -> Self {
        let policy = &peer.neighbour.policy;
        let settings = Settings {
            asn: peer.config.asn,
            router_id: peer.config.router_id,
            neighbour_asn: peer.neighbour.asn,
            class: peer.neighbour.class,
            passive: peer.neighbour.passive,
            hold_time: peer.neighbour.hold_time,
            connect_retry: peer.neighbour.connect_retry,
            limit_idle: policy.limit_action.idle(policy.limit_idle),
            hint: peer.guard().hint(),
            options: peer.neighbour.session.clone(),
        };
        Self {
            session: Session::new(settings, peer.random.fork()),
            ingest: Ingest::new(&peer.config, &peer.neighbour),
            standing: operator::Standing::default(),
            share: Share::new(Arc::clone(&peer.budget)),
            pipes: Vec::new(),
            closing: JoinSet::new(),
            dial: None,
            next_id: 0,
            outbox: Outbox::new(peer.index, peer.events.clone()),
            // What an operator has taken down stays down.
            inputs: (!peer.desk.is_down())
                .then_some(Input::Start)
                .into_iter()
                .collect(),
            has_news: true,
            turn_ends: clock::now() + TURN,
            shown: SessionView::default(),
            limit: LogLimit::new(LOG_EVERY),
            answered: Vec::new(),
            peer,
        }
    }

    async fn run(mut self) {
        loop {
            self.settle();
            if clock::now() >= self.turn_ends {
                tokio::task::yield_now().await;
                self.turn_ends = clock::now() + TURN;
            }
            match self.woken().await {
                Woken::Stop(text) => {
                    self.withdraw();
                    self.inputs.push_back(Input::Stop(text));
                    self.settle();
                    break;
                }
                Woken::Ordered(ordered) => self.ordered(ordered),
                Woken::Offer => self.offer(),
                Woken::PassedOn => self.flush(),
                Woken::Swept => {
                    self.ingest.sweep_on();
                    self.flush();
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
                Woken::Read(id, read) => self.read(id, read),
                Woken::Deadline => {
                    self.tick();
                    self.flush();
                }
            }
        }
        let last = async {
            while self.outbox.is_waiting() {
                self.outbox.pass_on().await;
            }
            while self.closing.join_next().await.is_some() {}
        };
        let _ = clock::within(CLOSE_TIME, last).await;
    }

    async fn woken(&mut self) -> Woken {
        let (has_room, may_read) = (!self.outbox.is_waiting(), self.may_read());
        let is_sweeping = self.ingest.is_sweeping();
        // What has been gathered goes when there is room for it.
        let due = self.ingest.deadline(clock::now()).filter(|_| has_room);
        let deadline = self.session.deadline().into_iter().chain(due).min();
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
        // Time comes first, so that keepalives do not depend on how much there is to read; and
        // nothing is read while news of what was read wait for the publisher, or a sweep goes on.
        tokio::select! {
            biased;
            Ok(text) = self.peer.stop.wait_for(Option::is_some) => {
                Woken::Stop(text.clone().unwrap_or_default())
            }
            () = wait => Woken::Deadline,
            Some(ordered) = self.peer.orders.recv() => Woken::Ordered(ordered),
            Ok(()) = self.peer.offer.changed() => Woken::Offer,
            dialed = dial => Woken::Dialed(dialed),
            Some(link) = self.peer.arrivals.recv() => Woken::Arrived(link),
            () = self.outbox.pass_on() => Woken::PassedOn,
            () = std::future::ready(()), if is_sweeping => Woken::Swept,
            (id, read) = pipe::read_any(&mut self.pipes), if may_read => Woken::Read(id, read),
            Some(_) = self.closing.join_next() => Woken::Deadline,
        }
    }

    fn may_read(&self) -> bool {
        !self.outbox.is_waiting() && !self.ingest.is_sweeping()
    }

    /// What the neighbour has said by now counts before its silence does.
    fn tick(&mut self) {
        if !self.may_read() {
            let held_up = self.pipes.iter().map(|pipe| Input::HeldUp(pipe.id()));
            self.inputs.extend(held_up);
        } else if let Some((id, read)) = pipe::read_any(&mut self.pipes).now_or_never() {
            self.read(id, read);
        }
        self.inputs.push_back(Input::Tick);
    }

    fn connected(&mut self, side: Side, link: Link) {
        self.next_id += 1;
        let id = ConnectionId(self.next_id);
        tracing::debug!(neighbour = %self.peer.neighbour.name, ?side, ?link, "connected");
        let counters = Arc::clone(&self.peer.counters);
        let local = link.local.ip();
        self.peer.desk.connected(local);
        self.pipes.push(Pipe::new(id, local, link.stream, counters));
        self.inputs.push_back(Input::Connected(side, id));
    }

    /// Every whole message of what has come in, until the turn ends.
    fn read(&mut self, id: ConnectionId, read: io::Result<usize>) {
        let why = match read {
            Ok(0) => "the neighbour closed the connection".to_owned(),
            Ok(_) => return self.messages(id),
            Err(error) => {
                let why = help::printable(error.to_string().as_bytes(), 120);
                format!("the connection was lost: {why}")
            }
        };
        self.pipes.retain(|pipe| pipe.id() != id);
        self.inputs.push_back(Input::Closed(id, why));
    }

    fn messages(&mut self, id: ConnectionId) {
        let Some(pipe) = self.pipes.iter_mut().find(|pipe| pipe.id() == id) else {
            return;
        };
        // Lent out, so that messages can borrow from it while they are applied.
        let lent = pipe.lend();
        let (mut consumed, mut has_more) = (0, false);
        while self.pipes.iter().any(|pipe| pipe.id() == id) {
            let session = self.session.negotiated(id);
            let most = session.map_or(wire::MESSAGE_BYTES_MAX, |s| s.message_bytes_max());
            let unread = &lent.unread()[consumed..];
            let message = match wire::frame(unread, most) {
                Ok(Some(length)) if length <= unread.len() => {
                    consumed += length;
                    self.peer.desk.received(&unread[..length]);
                    wire::decode(&unread[..length], session.as_ref())
                }
                Ok(_) => break,
                Err(notification) => Err(notification.into()),
            };
            let now = clock::now();
            self.message(now, id, message);
            if self.session.deadline().is_some_and(|at| now >= at) {
                self.inputs.push_back(Input::Tick);
            }
            self.settle();
            if now >= self.turn_ends || !self.may_read() {
                has_more = true;
                break;
            }
        }
        if let Some(pipe) = self.pipes.iter_mut().find(|pipe| pipe.id() == id) {
            has_more &= consumed < lent.unread().len();
            pipe.take_back(lent, consumed, has_more);
        }
        self.tell_held();
        self.flush();
    }

    fn message(&mut self, now: Instant, id: ConnectionId, message: Result<Message<'_>, Malformed>) {
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
        if let Message::Update(update) = &message
            && self.session.holds(now, id, update)
        {
            return self.update(update);
        }
        if self.is_answered(id, &message) {
            return;
        }
        for action in self.session.step(now, Input::Message(id, &message)) {
            match (action, &message) {
                (Action::Apply(_), Message::Update(update)) => {
                    self.has_news |= update.end_of_rib.is_some();
                    self.update(update);
                }
                (action, _) => {
                    self.has_news = true;
                    self.perform(action);
                }
            }
        }
    }

    fn update(&mut self, update: &Update<'_>) {
        self.peer.counters.updates.fetch_add(1, Relaxed);
        self.tell_faults(update);
        let is_told = |family| self.shown.facts.end_of_rib.contains(&family_word(family));
        // Once a session: it may come as often as the neighbour likes.
        if let Some(family) = update.end_of_rib.filter(|family| !is_told(*family)) {
            let name = &self.peer.neighbour.name;
            let routes = self.ingest.rib().family_len(family);
            tracing::info!(neighbour = %name, ?family, routes, "the neighbour has sent everything");
            self.peer.desk.end_of_rib(family);
        }
        if let Some(news) = self.ingest.update(update) {
            self.limited(news);
        }
        if !self.settle_share() {
            let name = &self.peer.neighbour.name;
            tracing::error!(neighbour = %name, "all neighbours together send more than this box \
                can report; this one is ended as by a limit of its own");
            self.inputs.push_back(Input::OutOfResources);
        }
    }

    /// False: this neighbour has grown beyond what is left for it.
    fn settle_share(&mut self) -> bool {
        let rib = self.ingest.rib();
        self.share.settle(rib.len(), rib.attribute_bytes())
    }

    /// What has changed goes to the publisher, when it is time and there is room.
    fn flush(&mut self) {
        self.settle_share();
        if !self.outbox.is_waiting()
            && let Some(batch) = self.ingest.take(clock::now())
        {
            self.outbox.routes(batch);
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
}
