//! Rate, window and budget in their simplest exact form, with a log of every grant.

use super::world::WIRE_PER_BYTE;
use futures_util::future::BoxFuture;
use jiff::civil::Date;
use oca::clock;
use oca::clock::Instant;
use oca::clock::Wall;
use oca::fill::Account;
use oca::fill::Class;
use oca::fill::Closed;
use oca::fill::Moment;
use oca::fill::NightView;
use oca::fill::Note;
use oca::fill::Ration;
use oca::fill::Turns;
use oca::link::message::SourceKind;
use oca::units::BytesPerSecond;
use oca::window::Window;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

const DAY_S: i64 = 86_400;

#[derive(Debug)]
pub(crate) struct SimRation {
    state: Mutex<State>,
    wire: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    rate: BytesPerSecond,
    night_limit: u64,
    urgent_limit: u64,
    open: BTreeMap<Class, Option<Wall>>,
    /// When the wire is free again.
    free_at: Instant,
    /// Every grant: at what wall time (seconds), in which class, how much.
    grants: Vec<(i64, Class, u64)>,
    /// Of the last 24 h, and their sum.
    recent: BTreeMap<Class, (VecDeque<(i64, u64)>, u64)>,
    nights: BTreeMap<Date, NightView>,
}

impl SimRation {
    pub(crate) fn new(urgent_limit: u64) -> Self {
        let state = Mutex::new(State {
            rate: BytesPerSecond(1),
            night_limit: 0,
            urgent_limit,
            open: BTreeMap::new(),
            free_at: clock::now(),
            grants: Vec::new(),
            recent: BTreeMap::new(),
            nights: BTreeMap::new(),
        });
        Self {
            state,
            wire: tokio::sync::Mutex::default(),
        }
    }

    /// Wire bytes granted to a class between two moments of the calendar.
    pub(crate) fn granted(&self, class: Class, from: Wall, to: Wall) -> u64 {
        let state = self.state.lock().unwrap();
        let inside = |at: i64| at >= from.as_second() && at < to.as_second();
        let grants = state.grants.iter();
        let grants = grants.filter(|(at, of, _)| *of == class && inside(*at));
        grants.map(|(_, _, bytes)| bytes).sum()
    }
}

impl State {
    fn left(&mut self, class: Class, at: i64) -> u64 {
        let limit = match class {
            Class::Night => self.night_limit,
            Class::Urgent => self.urgent_limit,
        };
        let (recent, sum) = self.recent.entry(class).or_default();
        while let Some((then, bytes)) = recent.front().copied()
            && at - then >= DAY_S
        {
            *sum -= bytes;
            recent.pop_front();
        }
        limit.saturating_sub(*sum)
    }

    fn grant(&mut self, class: Class, at: i64, bytes: u64) {
        self.grants.push((at, class, bytes));
        let (recent, sum) = self.recent.entry(class).or_default();
        recent.push_back((at, bytes));
        *sum += bytes;
    }

    fn may(&mut self, class: Class, bytes: u64, at: Wall) -> bool {
        let open = self.open.get(&class).copied();
        let is_open = open.is_some_and(|until| until.is_none_or(|until| at < until));
        is_open && bytes <= self.left(class, at.as_second())
    }
}

impl Turns for SimRation {
    fn take(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        Box::pin(async move {
            // First come, first served; one who leaves the queue takes no time of the wire.
            let _first = self.wire.lock().await;
            let (until, time) = {
                let mut state = self.state.lock().unwrap();
                if !state.may(class, bytes, clock::wall()) {
                    return Err(Closed);
                }
                let time = Duration::from_nanos(bytes * 1_000 / (state.rate.0 / 1_000_000));
                (state.free_at.max(clock::now()), time)
            };
            clock::sleep_until(until).await;
            let mut state = self.state.lock().unwrap();
            let wall = clock::wall();
            if !state.may(class, bytes, wall) {
                return Err(Closed);
            }
            state.free_at = until + time;
            state.grant(class, wall.as_second(), bytes);
            Ok(())
        })
    }

    fn give_back(&self, _: Class, _: u64) {}
}

impl Ration for SimRation {
    fn order(&self, window: &Window, rate: BytesPerSecond) {
        let mut state = self.state.lock().unwrap();
        state.rate = rate;
        state.night_limit = rate.0 * window.length().as_secs();
    }

    fn open(&self, class: Class, until: Option<Wall>) {
        self.state.lock().unwrap().open.insert(class, until);
    }

    fn shut(&self, class: Class) {
        self.state.lock().unwrap().open.remove(&class);
    }

    fn cost(&self, content: u64) -> u64 {
        content * WIRE_PER_BYTE
    }

    fn note(&self, date: Date, note: Note) {
        let mut state = self.state.lock().unwrap();
        let night = state.nights.entry(date).or_default();
        night.date = date.to_string();
        match note {
            Note::Received { class, kind, bytes } => {
                let sum = match kind {
                    SourceKind::Peer => &mut night.bytes.peer,
                    SourceKind::Tier => &mut night.bytes.tier,
                    SourceKind::Network => &mut night.bytes.network,
                    SourceKind::Origin => &mut night.bytes.origin,
                };
                *sum += bytes;
                if class == Class::Urgent {
                    night.urgent_bytes += bytes;
                }
            }
            Note::Done => night.done += 1,
            Note::Planned {
                wanted,
                carried_over,
                carried_over_bytes,
            } => {
                (night.wanted, night.carried_over) = (wanted, carried_over);
                night.carried_over_bytes = carried_over_bytes;
            }
        }
    }

    fn account(&self, at: Moment) -> Account {
        let mut state = self.state.lock().unwrap();
        Account {
            rate: BytesPerSecond(0),
            cap: state.rate,
            night_left: state.left(Class::Night, at.wall.as_second()),
            urgent_left: state.left(Class::Urgent, at.wall.as_second()),
            nights: state.nights.values().rev().cloned().collect(),
        }
    }
}
