//! Any stream of events against a small model that knows only what RFC 4271 says of connections:
//! which there are, in which state, and until when they may be silent.

use super::super::wire;
use super::super::wire::Capabilities;
use super::super::wire::Capability;
use super::super::wire::Fault;
use super::super::wire::GracefulRestart;
use super::super::wire::Kept;
use super::super::wire::Open;
use super::super::wire::Update;
use super::tests::CAPABILITIES;
use super::tests::id;
use super::tests::open;
use super::tests::settings;
use super::*;
use crate::clock;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The neighbour's hold time, the smaller one.
const HOLD: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Event {
    Start,
    Stop,
    Connected(Side),
    /// Of the connection at this place among all that ever were.
    Open(usize),
    Keepalive(usize),
    Update(usize),
    Notification(usize),
    Malformed(usize),
    Closed(usize),
    Seconds(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    side: Side,
    phase: Phase,
    until: Instant,
}

#[derive(Debug, Default)]
struct Model {
    is_running: bool,
    all: BTreeMap<u64, Known>,
}

impl Model {
    fn established(&self) -> Option<u64> {
        self.find(|known| known.phase == Phase::Established)
    }

    fn find(&self, wanted: impl Fn(&Known) -> bool) -> Option<u64> {
        let mut all = self.all.iter();
        all.find(|(_, known)| wanted(known)).map(|(id, _)| *id)
    }

    fn is_in(&self, id: u64, phase: Phase) -> bool {
        self.all.get(&id).is_some_and(|known| known.phase == phase)
    }

    fn connected(&mut self, now: Instant, id: u64, side: Side) {
        if !self.is_running || self.established().is_some() {
            return;
        }
        self.all.retain(|_, known| known.side != side);
        let until = now + timers::OPEN_HOLD;
        let phase = Phase::OpenSent;
        self.all.insert(id, Known { side, phase, until });
    }

    /// The neighbour's identifier is the greater one: its own connection stays.
    fn open(&mut self, now: Instant, id: u64) {
        if !self.is_in(id, Phase::OpenSent) {
            self.all.remove(&id);
            return;
        }
        let rival = self.find(|known| known.phase == Phase::OpenConfirm);
        if rival.is_some() {
            self.all.retain(|_, known| known.side == Side::Theirs);
        }
        if let Some(known) = self.all.get_mut(&id) {
            (known.phase, known.until) = (Phase::OpenConfirm, now + HOLD);
        }
    }

    fn keepalive(&mut self, now: Instant, id: u64) {
        if self.is_in(id, Phase::OpenConfirm) {
            self.all.retain(|other, _| *other == id);
        } else if !self.is_in(id, Phase::Established) {
            self.all.remove(&id);
        }
        if let Some(known) = self.all.get_mut(&id) {
            (known.phase, known.until) = (Phase::Established, now + HOLD);
        }
    }

    fn update(&mut self, now: Instant, id: u64) {
        match self.all.get_mut(&id) {
            Some(known) if known.phase == Phase::Established => known.until = now + HOLD,
            Some(_) | None => {
                self.all.remove(&id);
            }
        }
    }

    /// The names that the state may have: whether we are connecting is not modelled.
    fn states(&self) -> &'static [&'static str] {
        let phase = self.all.values().map(|known| known.phase).max();
        match (self.is_running, phase) {
            (false, _) => &["idle"],
            (true, None | Some(Phase::Delayed)) => &["connect", "active"],
            (true, Some(Phase::OpenSent)) => &["open-sent"],
            (true, Some(Phase::OpenConfirm)) => &["open-confirm"],
            (true, Some(Phase::Established)) => &["established"],
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let one = || 0_usize..4;
    let side = prop_oneof![Just(Side::Ours), Just(Side::Theirs)];
    prop_oneof![
        2 => Just(Event::Start),
        1 => Just(Event::Stop),
        6 => side.prop_map(Event::Connected),
        6 => one().prop_map(Event::Open),
        6 => one().prop_map(Event::Keepalive),
        2 => one().prop_map(Event::Update),
        1 => one().prop_map(Event::Notification),
        1 => one().prop_map(Event::Malformed),
        2 => one().prop_map(Event::Closed),
        2 => (0_u64..40).prop_map(Event::Seconds),
    ]
}

/// Both at the same event, and what came out of the session.
struct Run {
    session: Session,
    model: Model,
    now: Instant,
    last: u64,
    /// Said in OPENs beside the usual.
    more: &'static [Capability<'static>],
}

impl Run {
    /// Without a time that a neighbour is kept out, which the model does not know.
    fn new() -> Self {
        Self::with(Duration::ZERO, &[])
    }

    fn with(idle_hold: Duration, more: &'static [Capability<'static>]) -> Self {
        let settings = Settings {
            options: SessionConfig {
                idle_hold,
                ..SessionConfig::default()
            },
            ..settings()
        };
        Self {
            more,
            session: Session::new(settings, fastrand::Rng::with_seed(3)),
            model: Model::default(),
            now: clock::now(),
            last: 0,
        }
    }

    /// Counted from the last: what is spoken of is mostly there still.
    fn id(&self, back: usize) -> u64 {
        self.last.saturating_sub(back as u64)
    }

    fn say(&mut self, at: u64, message: &Message<'_>) -> Vec<Action> {
        self.session.step(self.now, Input::Message(id(at), message))
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let now = self.now;
        match event {
            Event::Start => {
                self.model.is_running = true;
                self.session.step(now, Input::Start)
            }
            Event::Stop => {
                self.model = Model::default();
                self.session.step(now, Input::Stop("bye".to_owned()))
            }
            Event::Connected(side) => {
                self.last += 1;
                self.model.connected(now, self.last, side);
                self.session
                    .step(now, Input::Connected(side, id(self.last)))
            }
            Event::Open(back) => {
                let at = self.id(back);
                self.model.open(now, at);
                let capabilities = [CAPABILITIES, self.more].concat();
                let open = Open {
                    capabilities: Capabilities::of(&capabilities),
                    ..open([192, 0, 2, 9])
                };
                self.say(at, &Message::Open(open))
            }
            Event::Keepalive(back) => {
                let at = self.id(back);
                self.model.keepalive(now, at);
                self.say(at, &Message::Keepalive)
            }
            Event::Update(back) => {
                let at = self.id(back);
                self.model.update(now, at);
                self.say(at, &Message::Update(Update::default()))
            }
            Event::Notification(back) => {
                let at = self.id(back);
                self.model.all.remove(&at);
                let bye = Notification::shutdown("bye");
                self.say(at, &Message::Notification(bye.borrowed()))
            }
            Event::Malformed(back) => {
                let at = self.id(back);
                self.model.all.remove(&at);
                let malformed = Input::Malformed(id(at), Fault::NOT_SYNCHRONISED.into());
                self.session.step(now, malformed)
            }
            Event::Closed(back) => {
                let at = self.id(back);
                self.model.all.remove(&at);
                self.session
                    .step(now, Input::Closed(id(at), "gone".to_owned()))
            }
            Event::Seconds(seconds) => {
                self.now += Duration::from_secs(seconds);
                let now = self.now;
                self.model.all.retain(|_, known| now < known.until);
                self.session.step(now, Input::Tick)
            }
        }
    }
}

/// What must hold of the actions, whatever the model says.
#[derive(Debug, Default)]
struct Seen {
    opened: BTreeSet<ConnectionId>,
    closed: BTreeSet<ConnectionId>,
    up: Option<ConnectionId>,
    may_be_kept: bool,
}

impl Seen {
    fn action(&mut self, action: &Action) -> Result<(), TestCaseError> {
        match action {
            Action::Send(to, bytes) => {
                prop_assert!(!self.closed.contains(to), "{action:?} after its end");
                let said = wire::decode(bytes, Some(&Negotiated::default()));
                if let Ok(Message::Open(_)) = said {
                    prop_assert!(self.opened.insert(*to), "a second OPEN on {to:?}");
                }
            }
            Action::KeepAlive(to, _) => prop_assert!(self.opened.contains(to)),
            Action::Close(to) => prop_assert!(self.closed.insert(*to), "{to:?} closed twice"),
            Action::Up(to) => {
                prop_assert!(self.up.is_none(), "up twice");
                self.up = Some(*to);
            }
            Action::Apply(to) | Action::Again(to, _) => prop_assert_eq!(self.up, Some(*to)),
            Action::Down { kept } => {
                prop_assert!(self.up.take().is_some(), "down without up");
                prop_assert!(self.may_be_kept || *kept == Families::NONE);
            }
            Action::Connect => prop_assert!(self.up.is_none(), "dials beside a session"),
            Action::CancelConnect
            | Action::Sent(_)
            | Action::Received(_)
            | Action::MarkStale(_)
            | Action::Sweep(_)
            | Action::SweepNotLongLived(_)
            | Action::Forget(_) => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_stream_of_events_leaves_the_session_where_the_model_is(
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let (mut run, mut seen) = (Run::new(), Seen::default());
        for event in std::iter::once(Event::Start).chain(events) {
            for action in run.step(event) {
                seen.action(&action)?;
            }
            let states = run.model.states();
            let state = run.session.state();
            prop_assert!(states.contains(&state), "{event:?}: {state}, not {states:?}");
            prop_assert_eq!(seen.up, run.model.established().map(ConnectionId), "{:?}", event);
            prop_assert_eq!(seen.up.is_some(), run.session.established_since().is_some());
            for at in 0..=run.last {
                let is_known = run.session.slot_of(id(at)).is_some();
                prop_assert_eq!(is_known, run.model.all.contains_key(&at), "{} {:?}", at, event);
            }
            if let Some(deadline) = run.session.deadline() {
                let soonest = run.model.all.values().map(|known| known.until).min();
                prop_assert!(soonest.is_none_or(|until| deadline <= until));
            }
        }
    }

    #[test]
    fn a_session_stands_whatever_comes_of_connections_beside_it(
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut run = Run::with(Duration::from_secs(5), RESTARTS);
        let mut seen = Seen { may_be_kept: true, ..Seen::default() };
        let up = [Event::Connected(Side::Theirs), Event::Open(0), Event::Keepalive(0)];
        // As often as makes a neighbour wait, and once more to stay.
        let mut prelude = vec![Event::Start];
        for _ in 0..6 {
            prelude.extend(up);
            prelude.extend([Event::Malformed(0), Event::Seconds(7_200), Event::Seconds(0)]);
        }
        prelude.extend(up);
        prelude.push(Event::Connected(Side::Theirs));
        let begun = prelude.len();
        for (place, event) in prelude.into_iter().chain(events).enumerate() {
            for action in run.step(event) {
                seen.action(&action)?;
            }
            prop_assert_eq!(seen.up.is_some(), run.session.established_since().is_some());
            if place + 1 == begun {
                prop_assert!(seen.up.is_some(), "the prelude leads to a session");
            }
            if seen.up.is_some() {
                let state = run.session.state();
                prop_assert_eq!(state, "established", "{:?}", event);
            }
        }
    }
}

/// A neighbour that may come again before its end was noticed.
const RESTARTS: &[Capability<'static>] = &[Capability::GracefulRestart(GracefulRestart {
    restarted: false,
    notification: true,
    seconds: 90,
    ipv4: Some(Kept { forwarding: true }),
    ipv6: Some(Kept { forwarding: true }),
})];

#[test]
fn a_stray_connection_neither_bars_a_neighbour_that_stands_nor_hides_why_it_fell() {
    let mut run = Run::with(Duration::from_secs(5), RESTARTS);
    run.step(Event::Start);
    let up = [
        Event::Connected(Side::Theirs),
        Event::Open(0),
        Event::Keepalive(0),
    ];
    for _ in 0..5 {
        for event in up {
            run.step(event);
        }
        run.step(Event::Malformed(0));
        run.step(Event::Seconds(7_200));
        run.step(Event::Seconds(0));
    }
    for event in up {
        run.step(event);
    }
    let before = run.session.last_error();
    assert_eq!(run.session.state(), "established");
    run.step(Event::Connected(Side::Theirs));
    run.step(Event::Malformed(0));
    assert_eq!(run.session.state(), "established");
    assert_eq!(run.session.session_error, before);
    for event in up {
        // Another one takes the session over.
        run.step(event);
    }
    assert_eq!(run.session.state(), "established");
}
