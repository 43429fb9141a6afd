//! The night: who is asked for what, and when everything stops.
//!
//! Sans-IO: `task` tells [`Machine::step`] what happened, performs the [`Action`]s it gets and
//! comes back at [`Machine::deadline`]. The machine never sees a byte of content.
//!
//! An object goes: planned → queued → asked for → ready → running → done, and back to ready (next
//! source) or waiting (nobody has it at present).

mod begin;
mod exchange;
mod gates;
#[cfg(test)]
mod tests;

use super::Class;
use super::Config;
use super::Job;
use super::Moment;
use super::Orders;
use super::Outcome;
use super::Share;
use super::places::Places;
use super::sources::Pick;
use super::sources::Sources;
use super::survey::Survey;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::link::message::Complaint;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::object::Digest;
use crate::units::BytesPerSecond;
use crate::window::Standing;
use crate::window::Window;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// An object whose next source is farther away than this gives its answer back.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);

/// Looks at the store: at least this far apart; while something runs; while nothing does.
const SURVEY_GAP: Duration = Duration::from_secs(1);
const SURVEY_BUSY: Duration = Duration::from_secs(60);
const SURVEY_IDLE: Duration = Duration::from_secs(300);

/// A jump of the calendar is noticed within this time.
const TICK_MAX: Duration = Duration::from_secs(60);

/// All clocks of one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) moment: Moment,
}

#[derive(Debug)]
pub(super) enum Input {
    Orders(Orders),
    Store(StoreSign),
    Surveyed(Survey),
    /// A look ended by a panic: the plan that there is goes on.
    SurveyFailed,
    Answered(Result<FillSources, String>),
    /// There were no turns to pay for the answer: nobody was asked.
    Unasked,
    Ended {
        id: u64,
        outcome: Outcome,
    },
    Pause(bool),
    /// Plan and ask at once, whatever was to be waited for.
    Start,
    /// Without window and cap, until all is there.
    Prefill,
    Tick,
}

/// What of the store's view says that a plan is old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoreSign {
    pub(super) generation: u64,
    pub(super) manifest: Option<(u64, u64)>,
    pub(super) disks: Vec<&'static str>,
}

#[derive(Debug)]
pub(super) enum Action {
    Order {
        window: Window,
        rate: BytesPerSecond,
    },
    Open {
        class: Class,
        until: Option<Wall>,
    },
    Shut(Class),
    Survey,
    Ask(Inquiry),
    Transfer {
        id: u64,
        job: Box<Job>,
    },
    Stop(u64),
    /// A fill without window and cap has brought what it could.
    Prefilled,
}

/// A question to the control plane.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) request: FillSourcesRequest,
    /// Whose turns pay for the answer, and how many bytes it has, as estimated.
    pub(super) class: Class,
    pub(super) bytes: u64,
}

/// One box's fill.
#[derive(Debug)]
pub(super) struct Machine {
    config: Config,
    pub(super) orders: Orders,
    pub(super) paused: bool,
    /// An operator ordered to fill without window and cap. A restart forgets it.
    pub(super) prefill: bool,
    store: StoreSign,
    pub(super) window: Window,
    pub(super) rate: BytesPerSecond,
    /// Of `rate`: transfers at a time, and what each may hold.
    streams: usize,
    share: Share,
    pub(super) standing: Option<Standing>,
    /// Reckoned with `standing`: before it the calendar was set back.
    standing_at: Wall,
    pub(super) queue: Places,
    sources: Sources,
    /// Of each class that is open: until when, if the calendar says so.
    open: BTreeMap<Class, Option<Wall>>,
    /// A class without turns: its rest, and how often it rested.
    dry: BTreeMap<Class, (Instant, u32)>,
    stopping: BTreeSet<u64>,
    next_id: u64,
    asked: Option<Vec<Digest>>,
    ask_at: Instant,
    ask_failures: u32,
    complaints: Vec<Complaint>,
    /// On their way with the question.
    telling: Vec<Complaint>,
    surveying: bool,
    /// Something changed while a survey looked, which may have missed it.
    look_again: bool,
    survey_at: Instant,
    surveyed_at: Option<Instant>,
    /// Finished while a survey looked, which may have missed it.
    finished: BTreeSet<Digest>,
    more: bool,
    stepped_at: Instant,
    /// Why the last question, or the last object, got nowhere.
    pub(super) problem: Option<String>,
    /// The last answer lets others go first with something.
    pub(super) deferred: bool,
}

impl StoreSign {
    /// Epoch 0 is the box's own manifest, by which nothing is fetched.
    fn has_signed_manifest(&self) -> bool {
        self.manifest.is_some_and(|(epoch, _)| epoch > 0)
    }
}

impl Machine {
    pub(super) fn new(now: Now, config: Config, paused: bool) -> Self {
        let (streams, share) = Share::of(BytesPerSecond(0), config.streams);
        Self {
            orders: Orders::default(),
            paused,
            prefill: false,
            store: StoreSign::default(),
            window: config.window.clone(),
            // Another one than any that is ordered: the first step tells.
            rate: BytesPerSecond(0),
            streams,
            share,
            standing: None,
            standing_at: now.moment.wall,
            queue: Places::default(),
            sources: Sources::default(),
            open: BTreeMap::new(),
            dry: BTreeMap::new(),
            stopping: BTreeSet::new(),
            next_id: 0,
            asked: None,
            ask_at: now.at,
            ask_failures: 0,
            complaints: Vec::new(),
            telling: Vec::new(),
            surveying: false,
            look_again: false,
            survey_at: now.at,
            surveyed_at: None,
            finished: BTreeSet::new(),
            more: false,
            stepped_at: now.at,
            problem: None,
            deferred: false,
            config,
        }
    }

    /// Moves by one input.
    pub(super) fn step(&mut self, now: Now, input: Input) -> Vec<Action> {
        self.stepped_at = now.at;
        let mut actions = Vec::new();
        match input {
            Input::Orders(orders) => self.ordered(now, orders),
            Input::Store(sign) => self.store_changed(now, sign),
            Input::Surveyed(survey) => self.surveyed(now, survey, &mut actions),
            Input::SurveyFailed => {
                self.surveying = false;
                self.survey_at = now.at + SURVEY_BUSY;
            }
            Input::Answered(answer) => self.answered(now, answer),
            Input::Unasked => self.unasked(now),
            Input::Ended { id, outcome } => self.ended(now, id, outcome),
            Input::Pause(paused) => {
                self.paused = paused;
                self.survey_soon(now);
            }
            Input::Start => self.hurry(now),
            Input::Prefill => {
                self.prefill = true;
                self.hurry(now);
            }
            Input::Tick => {}
        }
        self.reckon(now, &mut actions);
        self.gates(&mut actions);
        self.queue.wake(now.at);
        self.begin(now, &mut actions);
        self.ask(now, &mut actions);
        if !self.surveying && now.at >= self.survey_at && !self.is_scanning() {
            self.surveying = true;
            self.finished.clear();
            actions.push(Action::Survey);
        }
        actions
    }

    /// When to come back at the latest, with [`Input::Tick`]; `now` is that of the last step.
    pub(super) fn deadline(&self, now: Now) -> Instant {
        let mut at = self.stepped_at + TICK_MAX;
        let mut sooner = |other: Instant| at = at.min(other);
        if let Some(standing) = self.standing {
            let left = standing.next_edge.duration_since(now.moment.wall);
            sooner(now.at + Duration::try_from(left).unwrap_or_default());
        }
        if !self.surveying && !self.is_scanning() {
            sooner(self.survey_at);
        }
        self.queue.next_wait().into_iter().for_each(&mut sooner);
        for (until, _) in self.dry.values().filter(|(until, _)| *until > now.at) {
            sooner(*until);
        }
        if self.may_ask(now)
            && self
                .queue
                .queued()
                .any(|(_, object)| self.may_pay(object.class, now.at))
        {
            sooner(self.ask_at);
        }
        let open = self
            .queue
            .ready()
            .filter(|(_, object)| self.is_open(object.class));
        for (_, object) in open {
            match object
                .candidates
                .as_ref()
                .map(|list| list.pick(now.at, &self.sources))
            {
                Some(Pick::At(from)) => sooner(from),
                // It waits for a stream, or for its class.
                Some(Pick::Use(_) | Pick::Stale | Pick::Nobody) | None => {}
            }
        }
        at
    }

    pub(super) fn is_open(&self, class: Class) -> bool {
        self.open.contains_key(&class)
    }

    /// Disks that are read at the start hold what would be fetched a second time.
    pub(super) fn is_scanning(&self) -> bool {
        self.store.disks.contains(&"scanning")
    }

    pub(super) fn is_dry(&self, class: Class, now: Instant) -> bool {
        self.dry.get(&class).is_some_and(|(until, _)| *until > now)
    }

    pub(super) fn may_pay(&self, class: Class, now: Instant) -> bool {
        self.is_open(class) && !self.is_dry(class, now)
    }

    pub(super) fn quarantined(&self, now: Instant) -> Vec<String> {
        self.sources.quarantined(now)
    }

    fn hurry(&mut self, now: Now) {
        self.dry.clear();
        self.ask_at = now.at;
        self.queue.wake(now.at + exchange::ASK_AGAIN_MAX);
        self.survey_soon(now);
    }

    fn ordered(&mut self, now: Now, orders: Orders) {
        if orders.connected && !self.orders.connected {
            (self.ask_at, self.ask_failures) = (now.at, 0);
        }
        let plans = |orders: &Orders| {
            let said = (
                orders.urgent.clone(),
                orders.window.clone(),
                orders.rate_limit,
            );
            (
                said,
                orders.acknowledged,
                orders.deletion_override.clone(),
                orders.clock_sane,
            )
        };
        if plans(&orders) != plans(&self.orders) {
            self.survey_soon(now);
        }
        self.prefill &= orders.prefilling;
        self.orders = orders;
    }

    fn store_changed(&mut self, now: Now, sign: StoreSign) {
        let is_still = self.queue.running().next().is_none();
        let another = (&sign.manifest, &sign.disks) != (&self.store.manifest, &self.store.disks);
        // What transfers publish is known without a look.
        if another || (is_still && sign.generation != self.store.generation) {
            self.survey_soon(now);
        }
        self.store = sign;
    }

    fn surveyed(&mut self, now: Now, survey: Survey, actions: &mut Vec<Action>) {
        self.surveying = false;
        self.surveyed_at = Some(now.at);
        let mut download = survey.plan.download;
        download.retain(|(want, _)| !self.finished.contains(&want.digest));
        for id in self.queue.replace(download) {
            self.stop(id, actions);
        }
        self.more = survey.plan.more;
        self.problem = survey.problem;
        let totals = &survey.plan.totals;
        let is_complete = totals.wanted_objects == totals.homeless_objects;
        if self.prefill && is_complete && survey.manifest.is_some_and(|one| one.epoch > 0) {
            self.prefill = false;
            actions.push(Action::Prefilled);
        }
        let is_busy = self.queue.len() > 0 || survey.leaving.0 > 0;
        self.survey_at = now.at + if is_busy { SURVEY_BUSY } else { SURVEY_IDLE };
        // The view of the last scanned disk comes before the store says what is wanted.
        let is_early = survey.manifest.is_none() && self.store.has_signed_manifest();
        if survey.deleted > 0 || self.look_again || is_early {
            self.survey_soon(now);
        }
        self.look_again = false;
    }

    /// As soon as the gap between two looks allows.
    fn survey_soon(&mut self, now: Now) {
        let soon = self
            .surveyed_at
            .map_or(now.at, |last| now.at.max(last + SURVEY_GAP));
        self.look_again |= self.surveying;
        self.survey_at = self.survey_at.min(soon);
    }

    fn stop(&mut self, id: u64, actions: &mut Vec<Action>) {
        if self.stopping.insert(id) {
            actions.push(Action::Stop(id));
        }
    }
}
