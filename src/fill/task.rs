//! Runs the machine on the control runtime and shows what it does.
//!
//! One task: orders, the store's view, commands, answers, ends of transfers and the machine's own
//! deadline are its inputs. Calls of the store block, so they run on blocking threads.
//!
//! I/O: spawns tasks, sleeps; reads and writes small state through the store.

mod history;
mod shown;

use super::Class;
use super::Config;
use super::Content;
use super::Deps;
use super::Moment;
use super::Note;
use super::Turns;
use super::View;
use super::deletion;
use super::deletion::Deletion;
use super::machine::Action;
use super::machine::Input;
use super::machine::Inquiry;
use super::machine::Machine;
use super::machine::Now;
use super::machine::StoreSign;
use super::plan::Budget;
use super::plan::Totals;
use super::survey;
use super::survey::Question;
use super::survey::Survey;
use super::transfers::Ended;
use super::transfers::Transfers;
use crate::clock;
use crate::clock::Instant;
use crate::command::Refusal;
use crate::link::message::FillProgress;
use crate::link::message::FillSources;
use crate::link::message::SourceKind;
use crate::object::Digest;
use crate::store;
use history::History;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Commands that wait; an operator gives them one by one.
const COMMANDS_MAX: usize = 8;

/// How often the view follows what runs.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// The name under which an operator's pause outlives a restart.
const PAUSE_NAME: &str = "fill-pause";

/// Everybody's way to the fill. Clones share it; the last one ends it.
#[derive(Clone, Debug)]
pub struct Handle {
    view: watch::Receiver<Arc<View>>,
    commands: mpsc::Sender<Command>,
    _task: Arc<Guard>,
}

#[derive(Debug)]
struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Reply = oneshot::Sender<Result<Value, Refusal>>;

#[derive(Debug)]
enum Command {
    /// With true: without window and cap.
    Start(bool, Reply),
    Pause(bool, Reply),
    Stop(oneshot::Sender<()>),
}

/// Starts the fill. Returns at once; the first look at the store follows.
pub fn start(config: Config, deps: Deps) -> Handle {
    let (shown, view) = watch::channel(Arc::new(View::default()));
    let (commands, orders) = mpsc::channel(COMMANDS_MAX);
    let task = tokio::spawn(run(config, deps, shown, orders));
    Handle {
        view,
        commands,
        _task: Arc::new(Guard(task)),
    }
}

impl Handle {
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// For reports.
    pub fn progress(&self) -> FillProgress {
        self.view.borrow().progress()
    }

    /// Plans and asks at once. Refused while nothing may be received.
    pub async fn start(&self) -> Result<Value, Refusal> {
        self.give(|reply| Command::Start(false, reply)).await
    }

    /// As [`Handle::start`], at any hour and without a cap, until all is there. Refused where the
    /// control plane does not have the box as *prefilling*.
    pub async fn prefill(&self) -> Result<Value, Refusal> {
        self.give(|reply| Command::Start(true, reply)).await
    }

    /// Stops every transfer, until [`Handle::resume`]: a restart does not forget it.
    pub async fn pause(&self) -> Result<Value, Refusal> {
        self.give(|reply| Command::Pause(true, reply)).await
    }

    pub async fn resume(&self) -> Result<Value, Refusal> {
        self.give(|reply| Command::Pause(false, reply)).await
    }

    /// Ends all transfers and the task; what is durable stays staged.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    /// Until the task has ended, which it does by itself only through a fault of ours.
    pub async fn ended(&self) {
        let mut view = self.view.clone();
        while view.changed().await.is_ok() {}
    }

    async fn give(&self, command: impl FnOnce(Reply) -> Command) -> Result<Value, Refusal> {
        let gone = || Refusal::State("the fill has ended; see the log".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// All that the task owns.
struct Task {
    config: Config,
    deps: Deps,
    machine: Machine,
    shown: watch::Sender<Arc<View>>,
    transfers: Transfers,
    /// With the survey that runs, if one does.
    deletion: Option<Deletion>,
    surveying: Option<JoinHandle<(Deletion, Survey)>>,
    /// Ends with none if there were no turns for the answer.
    asking: Option<JoinHandle<Option<Result<FillSources, String>>>>,
    saving: Option<JoinHandle<()>>,
    history: History,
    /// Of the last survey.
    staged: BTreeMap<Digest, u64>,
    tally: Tally,
}

/// Counts for the view.
#[derive(Debug, Default)]
struct Tally {
    totals: Totals,
    has_manifest: bool,
    leaving: (u64, u64),
    done: (u64, u64),
    deleted: (u64, u64),
    ended: BTreeMap<&'static str, u64>,
    received: BTreeMap<(Class, SourceKind), u64>,
    wasted: u64,
    /// Fills without window and cap that ended with all there.
    prefilled: u64,
}

async fn run(
    config: Config,
    deps: Deps,
    shown: watch::Sender<Arc<View>>,
    mut commands: mpsc::Receiver<Command>,
) {
    let content = Arc::clone(&deps.content);
    let kept = tokio::task::spawn_blocking(move || kept(&*content));
    let (paused, history) = kept.await.unwrap_or_default();
    let (mut orders, mut store) = (deps.orders.clone(), deps.store.clone());
    let mut task = Task {
        machine: Machine::new(now(), config.clone(), paused),
        config,
        deps,
        shown,
        transfers: Transfers::default(),
        deletion: None,
        surveying: None,
        asking: None,
        saving: None,
        history,
        staged: BTreeMap::new(),
        tally: Tally::default(),
    };
    task.step(Input::Store(sign(&store.borrow_and_update())));
    let first = orders.borrow_and_update().clone();
    task.step(Input::Orders(first));
    let mut show_at = clock::now();
    loop {
        let deadline = task.machine.deadline(now());
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
                let said = orders.borrow_and_update().clone();
                task.step(Input::Orders(said));
            }
            changed = store.changed() => {
                if changed.is_err() {
                    return;
                }
                let seen = sign(&store.borrow_and_update());
                task.step(Input::Store(seen));
            }
            command = commands.recv() => match command {
                Some(Command::Start(prefill, reply)) => task.begin_now(prefill, reply),
                Some(Command::Pause(paused, reply)) => task.pause(paused, reply),
                Some(Command::Stop(done)) => {
                    task.stop().await;
                    let _ = done.send(());
                    return;
                }
                None => return,
            },
            ended = task.transfers.next() => task.transfer_ended(ended),
            surveyed = finished(&mut task.surveying) => task.surveyed(surveyed),
            answered = finished(&mut task.asking) => {
                let answer = answered.unwrap_or_else(|error| Some(Err(error.to_string())));
                task.asking = None;
                task.step(answer.map_or(Input::Unasked, Input::Answered));
            }
            () = clock::sleep_until(deadline) => task.step(Input::Tick),
            () = clock::sleep_until(show_at), if !task.transfers.is_empty() => {}
        }
        let at = clock::now();
        task.read_traffic(at);
        if at >= show_at || task.transfers.is_empty() {
            task.show(at);
            show_at = at + SHOW_EVERY;
        }
    }
}

impl Task {
    fn step(&mut self, input: Input) {
        let now = now();
        for action in self.machine.step(now, input) {
            self.perform(now.at, action);
        }
    }

    fn perform(&mut self, at: Instant, action: Action) {
        let ration = &self.deps.ration;
        match action {
            Action::Order { window, rate } => ration.order(&window, rate),
            Action::Open { class, until } => {
                ration.open(class, until);
                if class == Class::Night {
                    self.tally.done = (0, 0);
                }
            }
            Action::Shut(class) => ration.shut(class),
            Action::Survey => self.survey(),
            Action::Ask(inquiry) => self.ask(inquiry),
            Action::Transfer { id, job } => {
                let is_free = job.source.kind == SourceKind::Peer && !self.config.count_peers;
                let staged = self.staged.get(&job.want.digest).copied().unwrap_or(0);
                let turns: Arc<dyn Turns> = Arc::clone(ration) as Arc<dyn Turns>;
                let means = (&*self.deps.fetch, turns, !is_free);
                self.transfers.begin(at, id, *job, staged, means);
            }
            Action::Stop(id) => self.transfers.stop(id),
            Action::Prefilled => self.tally.prefilled += 1,
        }
    }

    /// The answer is a part of what the cap counts.
    fn ask(&mut self, inquiry: Inquiry) {
        let (ask, ration) = (Arc::clone(&self.deps.ask), Arc::clone(&self.deps.ration));
        self.asking = Some(tokio::spawn(async move {
            ration.lend(inquiry.class, inquiry.bytes).await.ok()?;
            let answer = ask.ask(inquiry.request).await;
            // SAFETY: cap. What was refused has come all the same.
            ration.came(inquiry.bytes);
            Some(answer)
        }));
    }

    fn survey(&mut self) {
        let about = Question {
            id: self.deps.id.clone(),
            now: now().moment,
            orders: self.machine.orders.clone(),
            budget: self.budget(),
            may_delete: self.machine.may_delete(),
            verifier: Arc::clone(&self.deps.verifier),
        };
        let (content, deletion) = (Arc::clone(&self.deps.content), self.deletion.take());
        let (grace, share) = (self.config.deletion_grace, self.config.deletion_share);
        self.surveying = Some(tokio::task::spawn_blocking(move || {
            let mut deletion = deletion.unwrap_or_else(|| {
                let copies = content.kept(survey::DELETION_NAME);
                Deletion::restore(&copies, grace, share, about.now.boot)
            });
            let found = survey::survey(&*content, &mut deletion, &about);
            (deletion, found)
        }));
    }

    fn surveyed(&mut self, outcome: Result<(Deletion, Survey), tokio::task::JoinError>) {
        self.surveying = None;
        match outcome {
            Ok((deletion, found)) => {
                self.deletion = Some(deletion);
                self.staged.clone_from(&found.staged);
                let tally = &mut self.tally;
                tally.totals = found.plan.totals;
                tally.leaving = found.leaving;
                tally.has_manifest = found.manifest.is_some();
                tally.deleted.0 += found.deleted;
                tally.deleted.1 += found.freed;
                self.planned();
                self.step(Input::Surveyed(found));
            }
            Err(error) => {
                tracing::error!(%error, "the look at the store ended by a panic");
                self.step(Input::SurveyFailed);
            }
        }
    }

    fn transfer_ended(&mut self, ended: Ended) {
        let Ended {
            id,
            class,
            kind,
            bytes,
            outcome,
        } = ended;
        self.received(class, kind, outcome.received);
        let tally = &mut self.tally;
        tally.wasted = tally.wasted.saturating_add(outcome.wasted);
        *tally.received.entry((class, kind)).or_default() += outcome.received;
        let word = shown::word(&outcome.end);
        *tally.ended.entry(word).or_default() += 1;
        let totals = &mut tally.totals;
        totals.wanted_bytes = totals.wanted_bytes.saturating_sub(outcome.verified);
        if outcome.end.is_ok() {
            totals.wanted_objects = totals.wanted_objects.saturating_sub(1);
            tally.done = (tally.done.0 + 1, tally.done.1 + bytes);
            self.note(Note::Done { bytes });
        } else {
            self.note(Note::Refused(word));
        }
        self.step(Input::Ended { id, outcome });
    }

    /// What may be received until the window ends, or in the next one when it is shut.
    fn budget(&self) -> Budget {
        let (now, machine) = (now(), &self.machine);
        let account = self.deps.ration.account(now.moment);
        let open = machine.standing.and_then(|standing| standing.open);
        let left = match open {
            Some(opening) => {
                let left = opening.closes.duration_since(now.moment.wall);
                Duration::try_from(left).unwrap_or_default()
            }
            None => machine.window.length(),
        };
        let by_rate = u128::from(machine.rate.0) * left.as_millis() / 1_000;
        let by_rate = u64::try_from(by_rate).unwrap_or(u64::MAX);
        Budget {
            night_open: machine.is_open(Class::Night),
            night_left: match open {
                Some(_) => by_rate.min(account.night_left),
                None => by_rate,
            },
            urgent_open: machine.is_open(Class::Urgent),
            urgent_left: account.urgent_left,
            cost_of_million: self.deps.ration.cost(1_000_000),
        }
    }

    fn begin_now(&mut self, prefill: bool, reply: Reply) {
        let (refusal, input) = match prefill {
            true => (self.machine.prefill_refusal(), Input::Prefill),
            false => (self.machine.refusal(), Input::Start),
        };
        let answer = match refusal {
            Some(refusal) => Err(Refusal::State(refusal)),
            None => {
                self.step(input);
                self.show(clock::now());
                let wanted = self.tally.totals.wanted_objects;
                Ok(json!({ "started": true, "prefill": prefill, "wanted": wanted }))
            }
        };
        // Whoever asked may have gone; the command was carried out all the same.
        let _ = reply.send(answer);
    }

    /// At once; answered when a restart would not forget it.
    fn pause(&mut self, paused: bool, reply: Reply) {
        self.step(Input::Pause(paused));
        let (content, before) = (Arc::clone(&self.deps.content), self.saving.take());
        self.saving = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let word: &[u8] = if paused { b"paused" } else { b"running" };
            let keep = move || content.keep(PAUSE_NAME, &deletion::seal(word));
            let kept = tokio::task::spawn_blocking(keep).await;
            let kept = match kept {
                Ok(kept) => kept.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let answer = kept.map(|()| json!({ "paused": paused })).map_err(|error| {
                Refusal::Failed(format!("done, but a restart would forget it: {error}"))
            });
            let _ = reply.send(answer);
        }));
    }

    async fn stop(&mut self) {
        self.transfers.stop_all();
        while !self.transfers.is_empty() {
            let ended = self.transfers.next().await;
            self.received(ended.class, ended.kind, ended.outcome.received);
        }
        self.deps.ration.shut(Class::Night);
        self.deps.ration.shut(Class::Urgent);
        // A deletion that has begun ends, and its record with it.
        if let Some(surveying) = self.surveying.take() {
            let _ = surveying.await;
        }
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        self.keep_history().await;
    }
}

fn now() -> Now {
    let (wall, boot) = (clock::wall(), clock::boot());
    Now {
        at: clock::now(),
        moment: Moment { wall, boot },
    }
}

fn sign(view: &store::View) -> StoreSign {
    let manifest = view.manifest.as_ref();
    StoreSign {
        generation: view.generation,
        manifest: manifest.map(|manifest| (manifest.epoch, manifest.generation)),
        disks: view.disks.iter().map(|disk| disk.state).collect(),
    }
}

/// What outlives a restart. Blocks.
fn kept(content: &dyn Content) -> (bool, History) {
    let paused = is_paused(&content.kept(PAUSE_NAME));
    (paused, History::load(content))
}

/// The newest whole copy says it.
fn is_paused(copies: &[Vec<u8>]) -> bool {
    copies.iter().find_map(|copy| deletion::unseal(copy)) == Some(b"paused")
}

/// The end of a task, and never while there is none.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}
