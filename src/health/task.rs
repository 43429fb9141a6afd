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
//! `outcomes` is what becomes of the calls, `shown` what the view says.
//!
//! I/O: reads clocks, sleeps, spawns the calls.

mod outcomes;
mod shown;

use super::calls;
use super::calls::Outcome;
use super::calls::ReportJob;
use super::calls::Shelves;
use super::complaints::Complaints;
use super::handle::Command;
use super::handle::Deps;
use super::lease::Lease;
use super::line::ClientWatch;
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
use crate::clock::Instant;
use crate::link;
use crate::link::client::Client;
use crate::link::identity::Standing;
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
    fill: news::Fill,
    publisher: watch::Sender<Arc<ControlView>>,
    /// For the other rooms.
    clients: ClientWatch,
}

impl Task {
    pub(super) fn new(
        config: link::Config,
        deps: Deps,
        publisher: watch::Sender<Arc<ControlView>>,
        clients: ClientWatch,
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
            fill: news::Fill::default(),
            publisher,
            clients,
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (mut gate, mut store) = (self.deps.gate.clone(), self.deps.store.clone());
        let mut bgp = self.deps.bgp.clone();
        let mut disks = news::Disks::of(&store.borrow_and_update());
        let mut catalogue = news::Catalogue::of(&store.borrow());
        let mut routes = bgp.as_mut().map(|bgp| bgp.borrow_and_update().clone());
        gate.mark_unchanged();
        let view = store.borrow().clone();
        self.held(&view);
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
                    self.held(&view);
                    self.inputs(disks.update(&view));
                    let (orders, usual) = (self.view.fill.as_ref(), self.config.growth_every);
                    let spacing = self.fill.spacing(orders, usual);
                    self.inputs(catalogue.update(&view, spacing));
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
        let fill = (self.deps.fill)();
        let told = self.fill.update(fill.as_ref());
        self.inputs(told);
        if self.client.is_some() {
            let certificate = self.certificate();
            self.input(Input::Certificate(certificate));
        } else if self.open_at.is_some_and(|at| at <= clock::now()) {
            self.open_at = None;
            let (dial, pay) = (Arc::clone(&self.deps.dial), Arc::clone(&self.deps.pay));
            let opening = calls::open(self.config.clone(), dial, pay);
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

    /// Which manifest is in effect. Another one is told at once: the control plane's word that it
    /// knows is what lets the fill delete by it.
    fn held(&mut self, view: &store::View) {
        if !view.manifest_loaded {
            return;
        }
        let held = report::manifest(view);
        let before = std::mem::replace(&mut self.view.manifest_held, held);
        self.input(Input::Held(held));
        if before != held {
            self.input(Input::Changed);
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
                    quality: Arc::clone(&self.deps.quality),
                    interfaces: Arc::clone(&self.deps.interfaces),
                    shelves: Shelves {
                        held: Arc::clone(&self.deps.held),
                        changes: Arc::clone(&self.deps.changes),
                    },
                    fill: Arc::clone(&self.deps.fill),
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
}
