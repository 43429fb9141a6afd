//! The I/O shell of the control link: one task on the control runtime.
//!
//! ```text
//! gate, store, bgp ─ watch ─→ ┌──────────────────┐ ─ Input ─→ schedule ─ Call ─→ calls (JoinSet)
//! commands ────────── mpsc ─→ │ task, owns state │ ←───────────────── Outcome ───────┘
//!                             └──────────────────┘ ─ watch ─→ ControlView
//! ```
//! `appliance` starts it with what it needs ([`Deps`]) and reads [`ControlView`] for the gate. It
//! never decides the gate, and nothing here is waited for by serving.
//!
//! I/O: reads clocks, sleeps, spawns the calls.

use super::calls;
use super::calls::CallError;
use super::calls::Outcome;
use super::calls::ReportJob;
use super::lease::Lease;
use super::news;
use super::report;
use super::schedule::Call;
use super::schedule::Certificate;
use super::schedule::Input;
use super::schedule::Pace;
use super::schedule::Schedule;
use super::view;
use super::view::ControlView;
use super::view::LinkState;
use crate::bgp;
use crate::clock;
use crate::clock::Boot;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::gate::Gate;
use crate::ids::BoxId;
use crate::key::Key;
use crate::link;
use crate::link::client::Client;
use crate::link::dial::Dial;
use crate::link::identity::Standing;
use crate::link::manifest::Verified;
use crate::link::message::GateState;
use crate::link::message::Orders;
use crate::link::message::Position;
use crate::link::steps::Outbox;
use crate::prefix::Prefix;
use crate::serve;
use crate::store;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::Id;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

/// Certificate and lease are looked at this often, whatever the schedule says: a machine that was
/// suspended finds its lease ended this soon after it wakes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Commands waiting; there is one kind, and a second one means the same as the first.
const COMMANDS_MAX: usize = 4;

/// Numbers that every JSON reader can hold exactly.
const EXACT_MAX: u64 = 1 << 53;

/// The same failure is logged again after so long.
const LOG_AGAIN: Duration = Duration::from_secs(600);

/// `store::Handle::held`.
pub type HeldFn = Arc<dyn Fn() -> store::Held + Send + Sync>;

/// `serve::Handle::view`.
pub type ServeFn = Arc<dyn Fn() -> serve::View + Send + Sync>;

/// [`report::interfaces`], or a fixed list.
pub type InterfacesFn = Arc<dyn Fn() -> Vec<Prefix> + Send + Sync>;

/// `store::Handle::adopt`; called on a blocking thread.
pub type AdoptFn =
    Arc<dyn Fn(SignedManifest) -> Result<store::Adopted, store::AdoptError> + Send + Sync>;

/// A manifest that was verified for this box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    pub position: Position,
    pub rows: Vec<(Key, store::Binding)>,
}

/// What the task needs from the wiring.
#[derive(Clone)]
pub struct Deps {
    /// The box of the configuration: a certificate for another one is not used.
    pub id: BoxId,
    pub gate: watch::Receiver<Gate>,
    pub store: watch::Receiver<Arc<store::View>>,
    pub held: HeldFn,
    pub adopt: AdoptFn,
    /// `None` without BGP.
    pub bgp: Option<watch::Receiver<Arc<bgp::Snapshot>>>,
    pub serve: ServeFn,
    pub interfaces: InterfacesFn,
    pub dial: Arc<dyn Dial>,
    /// Of boot id and jitter: [`entropy`] in the daemon.
    pub seed: u64,
}

/// The link's control side, from outside. Stops with its last handle's drop or [`Handle::stop`].
#[derive(Debug)]
pub struct Handle {
    view: watch::Receiver<Arc<ControlView>>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    ReportNow,
}

/// Owner of everything.
struct Task {
    config: link::Config,
    deps: Deps,
    client: Option<Arc<Client>>,
    /// When to try again to open the identity.
    open_at: Option<Instant>,
    schedule: Schedule,
    lease: Lease,
    /// At the box while no report is under way.
    outbox: Option<Outbox>,
    random: fastrand::Rng,
    boot_id: String,
    reports: u64,
    heartbeats: u64,
    running: JoinSet<Outcome>,
    /// What each running task is; `None` opens the identity.
    kinds: Vec<(Id, Option<Call>)>,
    view: ControlView,
    /// Some call's refusal that only an operator can end.
    banished: bool,
    logged: Vec<(&'static str, Instant, String)>,
    publisher: watch::Sender<Arc<ControlView>>,
}

/// A seed that no other box has.
pub fn entropy() -> u64 {
    let mut bytes = [0; 8];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        // Better a seed that two boxes might share than none: it makes jitter and a boot id.
        return clock::unix_seconds(clock::wall());
    }
    u64::from_le_bytes(bytes)
}

/// Starts the task on this runtime. Cannot fail: what is wrong with identity, token or control
/// plane shows in the view, and is tried again.
pub fn start(config: &link::Config, deps: Deps) -> Handle {
    let mut random = fastrand::Rng::with_seed(deps.seed);
    let view = ControlView {
        state: LinkState::Connecting,
        since: Some(clock::wall()),
        url: config.url.clone(),
        manifest_held: report::manifest(&deps.store.borrow()),
        ..ControlView::default()
    };
    let publisher = watch::Sender::new(Arc::new(view.clone()));
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let pace = Pace {
        report_every: config.report_every,
        heartbeat_every: config.heartbeat_every,
    };
    let task = Task {
        config: config.clone(),
        client: None,
        open_at: Some(clock::now()),
        schedule: Schedule::new(pace, random.u64(..)),
        lease: Lease::default(),
        outbox: Some(Outbox::new(random.u64(1..EXACT_MAX))),
        boot_id: format!("{:016x}{:016x}", random.u64(..), random.u64(..)),
        random,
        deps,
        reports: 0,
        heartbeats: 0,
        running: JoinSet::new(),
        kinds: Vec::new(),
        view,
        banished: false,
        logged: Vec::new(),
        publisher,
    };
    let view = task.publisher.subscribe();
    Handle {
        view,
        commands: sender,
        task: tokio::spawn(task.run(commands)),
    }
}

impl Handle {
    pub fn view(&self) -> Arc<ControlView> {
        self.view.borrow().clone()
    }

    /// Told of each change: a lease that ends is one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ControlView>> {
        self.view.clone()
    }

    /// A report at once, spaced as the schedule allows.
    pub fn report_now(&self) {
        // A full queue holds the same wish already.
        let _ = self.commands.try_send(Command::ReportNow);
    }

    /// Until the control plane has taken `gate` in a report or heartbeat: for a box that stops.
    /// May wait for ever.
    pub async fn told(&self, gate: &Gate) {
        let wanted = report::gate_state(gate);
        let mut view = self.view.clone();
        let told = |view: &Arc<ControlView>| view.told.as_ref() == Some(&wanted);
        if view.wait_for(told).await.is_err() {
            // The task is gone and will tell nobody.
            std::future::pending::<()>().await;
        }
    }

    /// Ends the task; calls under way are dropped.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (mut gate, mut store) = (self.deps.gate.clone(), self.deps.store.clone());
        let mut bgp = self.deps.bgp.clone();
        let mut disks = news::Disks::of(&store.borrow_and_update());
        let mut routes = bgp.as_mut().map(|bgp| bgp.borrow_and_update().clone());
        gate.mark_unchanged();
        let held = self.view.manifest_held;
        self.input(Input::Held(held));
        loop {
            self.look();
            let wake = self.wake();
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                changed = gate.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.input(Input::Changed);
                }
                changed = store.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let view = store.borrow_and_update().clone();
                    self.view.manifest_held = report::manifest(&view);
                    self.input(Input::Held(self.view.manifest_held));
                    self.inputs(disks.update(&view));
                }
                () = news::changed(&mut bgp) => {
                    let snapshot = bgp.as_mut().map(|bgp| bgp.borrow_and_update().clone());
                    self.inputs(news::routes(routes.as_deref(), snapshot.as_deref()));
                    routes = snapshot;
                }
                Some(Command::ReportNow) = commands.recv() => self.input(Input::Changed),
                () = clock::sleep_until(wake) => self.input(Input::Tick),
            }
        }
    }

    /// What time alone changes.
    fn look(&mut self) {
        if self.client.is_some() {
            let certificate = self.certificate();
            self.input(Input::Certificate(certificate));
        } else if self.open_at.is_some_and(|at| at <= clock::now()) {
            self.open_at = None;
            let opening = calls::open(self.config.clone(), Arc::clone(&self.deps.dial));
            self.spawn(None, opening);
        }
        self.publish();
    }

    fn wake(&self) -> Instant {
        let now = clock::now();
        let lease = self.lease.deadline();
        let left = lease.map(|ends| now + ends.saturating_since(clock::boot()).min(LOOK_EVERY));
        // One that has ended is news only once.
        let left = left.filter(|_| self.view.lease_fresh);
        [self.schedule.deadline(), left, self.open_at]
            .into_iter()
            .flatten()
            .fold(now + LOOK_EVERY, Instant::min)
    }

    fn certificate(&mut self) -> Certificate {
        let credentials = self.client.as_ref().and_then(|client| {
            let identity = client.identity();
            identity.credentials().cloned()
        });
        let Some(credentials) = credentials else {
            self.view.certificate_ends = None;
            return Certificate::Missing;
        };
        self.view.certificate_ends = Some(credentials.not_after);
        if credentials.id != self.deps.id {
            let problem = format!(
                "the certificate in {} is of box {}, and [appliance] id says {}; correct the id, \
                 or remove that directory and enrol with this box's own token",
                self.config.identity.display(),
                credentials.id,
                self.deps.id,
            );
            self.banished = true;
            self.complain("identity", &problem);
            return Certificate::Foreign;
        }
        match credentials.standing(clock::wall()) {
            Standing::Fine => Certificate::Fine,
            Standing::RenewalDue => Certificate::RenewalDue,
            Standing::Ended => Certificate::Ended,
            Standing::Lapsed => Certificate::Missing,
        }
    }

    fn inputs(&mut self, inputs: Option<Input>) {
        if let Some(input) = inputs {
            self.input(input);
        }
    }

    fn input(&mut self, input: Input) {
        for call in self.schedule.step(clock::now(), input) {
            self.begin(call);
        }
    }

    fn begin(&mut self, call: Call) {
        let Some(client) = self.client.clone() else {
            // No certificate was told of, so nothing can be due.
            return;
        };
        let boot_id = self.boot_id.clone();
        let (gate, serve) = (
            self.deps.gate.borrow().clone(),
            Arc::clone(&self.deps.serve),
        );
        match call {
            Call::Enrol => {
                let token_file = self.config.token_file.clone();
                self.spawn(Some(call), calls::enrol(client, token_file));
            }
            Call::Renew => self.spawn(Some(call), calls::renew(client)),
            Call::Report => {
                self.reports += 1;
                let job = ReportJob {
                    client,
                    outbox: self.take_outbox(),
                    boot_id,
                    sequence: self.reports,
                    sent_at: clock::wall(),
                    gate,
                    store: self.deps.store.borrow().clone(),
                    bgp: self.deps.bgp.as_ref().map(|bgp| bgp.borrow().clone()),
                    serve,
                    interfaces: Arc::clone(&self.deps.interfaces),
                    held: Arc::clone(&self.deps.held),
                };
                self.spawn(Some(call), job.run());
            }
            Call::Heartbeat => {
                self.heartbeats += 1;
                let sequence = self.heartbeats;
                let beat = calls::heartbeat(client, boot_id, sequence, gate, serve);
                self.spawn(Some(call), beat);
            }
            Call::Manifest => {
                let (id, adopt) = (self.deps.id.clone(), Arc::clone(&self.deps.adopt));
                let fetch = calls::manifest(client, id, self.view.manifest_held, adopt);
                self.spawn(Some(call), fetch);
            }
        }
    }

    fn spawn(&mut self, call: Option<Call>, work: impl Future<Output = Outcome> + Send + 'static) {
        let id = self.running.spawn(work).id();
        self.kinds.push((id, call));
    }

    /// The outbox, or one of a fresh epoch where a panic has taken it.
    fn take_outbox(&mut self) -> Outbox {
        let lost = || Outbox::new(self.random.u64(1..EXACT_MAX));
        self.outbox.take().unwrap_or_else(lost)
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), tokio::task::JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let at = self.kinds.iter().position(|(known, _)| *known == id);
        let call = at.and_then(|at| self.kinds.swap_remove(at).1);
        let outcome = outcome.unwrap_or_else(|problem| {
            let outbox = self.take_outbox();
            Outcome::panicked(call, clock::boot(), outbox, &problem)
        });
        match outcome {
            Outcome::Opened(Ok(client)) => self.client = Some(Arc::new(client)),
            Outcome::Opened(Err(error)) => {
                self.open_at = Some(clock::now() + calls::OPEN_AGAIN);
                self.complain("identity", &error.to_string());
            }
            Outcome::Enrolled(result) => self.simple(Call::Enrol, result),
            Outcome::Renewed(result) => self.simple(Call::Renew, result),
            Outcome::Reported {
                asked,
                outbox,
                gate,
                result,
            } => self.reported(asked, outbox, gate, result),
            Outcome::Beaten {
                asked,
                gate,
                result,
            } => match result {
                Ok(reply) => {
                    self.view.last_heartbeat = Some(clock::wall());
                    self.view.told = Some(gate);
                    self.succeeded(Call::Heartbeat);
                    self.orders(asked, reply.orders);
                    self.input(Input::Done(Call::Heartbeat));
                }
                Err(error) => self.failed(Call::Heartbeat, &error),
            },
            Outcome::Manifest(result) => self.adopted(result),
        }
    }

    fn simple(&mut self, call: Call, result: Result<(), CallError>) {
        match result {
            Ok(()) => {
                tracing::info!(
                    call = call.as_str(),
                    "control plane: {} done",
                    call.as_str()
                );
                self.succeeded(call);
                let certificate = self.certificate();
                self.input(Input::Done(call));
                self.input(Input::Certificate(certificate));
            }
            Err(error) => self.failed(call, &error),
        }
    }

    fn reported(
        &mut self,
        asked: Boot,
        mut outbox: Outbox,
        gate: GateState,
        result: Result<link::message::ReportReply, CallError>,
    ) {
        match result {
            Ok(reply) => {
                outbox.acknowledge(reply.acked);
                self.outbox = Some(outbox);
                self.view.last_report = Some(clock::wall());
                self.view.told = Some(gate);
                self.succeeded(Call::Report);
                let next = Duration::from_secs(reply.next_report_s);
                self.input(Input::Reported { next });
                self.orders(asked, reply.orders);
            }
            Err(error) => {
                if error.is_out_of_step() {
                    outbox.forget();
                }
                self.outbox = Some(outbox);
                self.failed(Call::Report, &error);
            }
        }
    }

    fn adopted(&mut self, result: Result<Option<store::Adopted>, CallError>) {
        match result {
            Ok(adopted) => {
                if let Some(adopted) = adopted {
                    news::log_adopted(&adopted);
                }
                self.succeeded(Call::Manifest);
                // The store shows it before it says that it is done.
                self.view.manifest_held = report::manifest(&self.deps.store.borrow());
                self.input(Input::Held(self.view.manifest_held));
                self.input(Input::Done(Call::Manifest));
            }
            Err(error) => self.failed(Call::Manifest, &error),
        }
    }

    /// What a reply tells the box, unless a later question's reply has ruled already.
    fn orders(&mut self, asked: Boot, orders: Orders) {
        self.view.last_contact = Some(clock::wall());
        if !self.lease.grant(asked, Duration::from_secs(orders.lease_s)) {
            return;
        }
        if self.view.enabled != orders.enabled {
            let word = if orders.enabled {
                "enables"
            } else {
                "disables"
            };
            tracing::info!(
                enabled = orders.enabled,
                "the control plane {word} this box"
            );
        }
        self.view.enabled = orders.enabled;
        self.view.manifest_wanted = orders.manifest;
        self.input(Input::Orders {
            wanted: orders.manifest,
            renew: orders.renew,
            report_now: orders.report_now,
        });
    }

    fn succeeded(&mut self, call: Call) {
        if matches!(call, Call::Report | Call::Heartbeat | Call::Enrol) {
            self.banished = false;
        }
        let name = call.as_str();
        if let Some(at) = self.logged.iter().position(|(known, _, _)| *known == name) {
            self.logged.swap_remove(at);
            tracing::info!(call = name, "control plane: {name} works again");
            self.view.last_error = self.logged.last().map(|(_, _, text)| text.clone());
        }
    }

    fn failed(&mut self, call: Call, error: &CallError) {
        if error.is_silence() {
            self.lease.failed(clock::boot());
        }
        self.banished |= error.is_banishment();
        self.complain(call.as_str(), &error.to_string());
        self.input(Input::Failed(call, error.fault()));
    }

    /// Shows a failure, and logs it when it is another one or a long time has passed.
    fn complain(&mut self, what: &'static str, problem: &str) {
        let (now, text) = (clock::now(), view::bounded(&format!("{what}: {problem}")));
        let known = self.logged.iter().position(|(known, _, _)| *known == what);
        let known = known.map(|at| self.logged.swap_remove(at));
        let repeated = known.filter(|(_, at, known)| {
            *known == text && now.saturating_duration_since(*at) < LOG_AGAIN
        });
        let at = repeated.map_or(now, |(_, at, _)| at);
        if at == now {
            tracing::warn!(call = what, "control plane: {text}");
        }
        self.view.last_error = Some(text.clone());
        self.logged.push((what, at, text));
    }

    /// Publishes what is different, and says so when the lease ends or the state changes.
    fn publish(&mut self) {
        let fresh = self.lease.is_fresh(clock::boot());
        if self.view.lease_fresh && !fresh {
            tracing::error!("the lease of the control plane has ended");
        }
        self.view.lease_fresh = fresh;
        self.view.lease_ends = self.lease.deadline();
        let state = self.state();
        if state != self.view.state {
            self.view.state = state;
            self.view.since = Some(self.entered(state));
            tracing::info!(
                state = state.as_str(),
                "control plane: {}",
                self.view.summary(clock::boot())
            );
        }
        let view = &self.view;
        self.publisher.send_if_modified(|shown| {
            let differs = **shown != *view;
            if differs {
                *shown = Arc::new(view.clone());
            }
            differs
        });
    }

    /// An outage began with the last word that was heard.
    fn entered(&self, state: LinkState) -> Wall {
        let heard = self
            .view
            .last_contact
            .filter(|_| state == LinkState::Outage);
        heard.unwrap_or_else(clock::wall)
    }

    fn state(&self) -> LinkState {
        let enrolled = self.view.certificate_ends.is_some();
        if self.banished {
            LinkState::Refused
        } else if self.client.is_some() && !enrolled {
            LinkState::Unenrolled
        } else if self.lease.is_outage() {
            LinkState::Outage
        } else if self.view.last_contact.is_some() {
            LinkState::Connected
        } else {
            LinkState::Connecting
        }
    }
}

impl From<Verified> for SignedManifest {
    fn from(verified: Verified) -> Self {
        let rows = verified.keys.into_iter().map(|row| {
            let binding = store::Binding {
                digest: row.digest,
                length: row.length,
                last_modified: row.last_modified,
                rank: row.rank,
            };
            (row.key, binding)
        });
        Self {
            position: verified.position,
            rows: rows.collect(),
        }
    }
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps")
            .field("id", &self.id)
            .field("dial", &self.dial)
            .finish_non_exhaustive()
    }
}
