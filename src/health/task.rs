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
use super::complaints::Complaints;
use super::handle::Command;
use super::handle::Deps;
use super::lease::Lease;
use super::news;
use super::report;
use super::schedule::Call;
use super::schedule::Certificate;
use super::schedule::Input;
use super::schedule::Pace;
use super::schedule::Schedule;
use super::view::ControlView;
use super::view::LinkState;
use crate::clock;
use crate::clock::Boot;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::link;
use crate::link::client::Client;
use crate::link::identity::Standing;
use crate::link::message::GateState;
use crate::link::message::Orders;
use crate::link::steps::Outbox;
use crate::store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::Id;
use tokio::task::JoinSet;

/// Certificate and lease are looked at this often, whatever the schedule says: a machine that was
/// suspended finds its lease ended this soon after it wakes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Numbers that every JSON reader can hold exactly.
const EXACT_MAX: u64 = 1 << 53;

/// Owner of everything.
pub(super) struct Task {
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
    complaints: Complaints,
    publisher: watch::Sender<Arc<ControlView>>,
}

impl Task {
    pub(super) fn new(
        config: link::Config,
        deps: Deps,
        publisher: watch::Sender<Arc<ControlView>>,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(deps.seed);
        let view = ControlView {
            state: LinkState::Connecting,
            since: Some(clock::wall()),
            url: config.url.clone(),
            manifest_held: report::manifest(&deps.store.borrow()),
            ..ControlView::default()
        };
        publisher.send_replace(Arc::new(view.clone()));
        let pace = Pace {
            report_every: config.report_every,
            heartbeat_every: config.heartbeat_every,
        };
        Self {
            config,
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
            complaints: Complaints::default(),
            publisher,
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
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
        let left = lease.map(|ends| now + ends.saturating_since(clock::boot()));
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
        let serve = Arc::clone(&self.deps.serve);
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
                    gate: self.deps.gate.clone(),
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
                let (sequence, gate) = (self.heartbeats, self.deps.gate.borrow().clone());
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
            Outcome::Opened(Ok(client)) => {
                self.complaints.settle("identity");
                self.client = Some(client);
            }
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
        self.complaints.settle(call.as_str());
        self.view.last_error = self.complaints.last().map(str::to_owned);
    }

    fn failed(&mut self, call: Call, error: &CallError) {
        if error.is_silence() {
            self.lease.failed(clock::boot());
        }
        self.banished |= error.is_banishment();
        self.complain(call.as_str(), &error.to_string());
        self.input(Input::Failed(call, error.fault()));
        if error.is_unknown_key() {
            self.input(Input::Orders {
                wanted: self.view.manifest_wanted,
                renew: true,
                report_now: false,
            });
        }
    }

    fn complain(&mut self, what: &'static str, problem: &str) {
        self.complaints.add(clock::now(), what, problem);
        self.view.last_error = self.complaints.last().map(str::to_owned);
    }

    /// Publishes what is different, and says so when the lease ends or the state changes.
    fn publish(&mut self) {
        let fresh = self.lease.is_fresh(clock::boot());
        // One that was taken back with the word to serve is the control plane's wish.
        if self.view.lease_fresh && !fresh && self.view.enabled {
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
