//! The real pace, with a log of every grant; a byte of content costs a megabyte.

use super::world::RATE;
use super::world::WIRE_PER_BYTE;
use futures_util::future::BoxFuture;
use jiff::civil::Date;
use oca::clock;
use oca::clock::Wall;
use oca::fill::Account;
use oca::fill::BUILT;
use oca::fill::Class;
use oca::fill::Closed;
use oca::fill::Larder;
use oca::fill::Limits;
use oca::fill::MemoryKeeper;
use oca::fill::Moment;
use oca::fill::Note;
use oca::fill::Pace;
use oca::fill::Ration;
use oca::fill::Turns;
use oca::units::Bytes;
use oca::units::BytesPerSecond;
use oca::window::Window;
use std::sync::Arc;
use std::sync::Mutex;

/// What the answers about sources of a night cost is less than a byte of content.
pub(crate) const ANSWERS_MAX: u64 = super::world::WIRE_PER_BYTE;

#[derive(Debug)]
pub(crate) struct SimRation {
    pace: Larder,
    /// Every grant: at what wall time (seconds), in which class, how much.
    grants: Mutex<Vec<(i64, Class, u64)>>,
}

impl SimRation {
    pub(crate) fn new(urgent_limit: u64) -> Self {
        let limits = Limits {
            rate: RATE,
            night: Bytes(0),
            urgent: Bytes(urgent_limit),
        };
        let pace = Pace::load(limits, Arc::new(MemoryKeeper::default()), BUILT);
        Self {
            pace: Larder::new(pace, Bytes(urgent_limit)),
            grants: Mutex::default(),
        }
    }

    /// Wire bytes granted to a class between two moments of the calendar.
    pub(crate) fn granted(&self, class: Class, from: Wall, to: Wall) -> u64 {
        let inside = |at: i64| at >= from.as_second() && at < to.as_second();
        let grants = self.grants.lock().unwrap();
        let grants = grants
            .iter()
            .filter(|(at, of, _)| *of == class && inside(*at));
        grants.map(|(_, _, bytes)| bytes).sum()
    }
}

impl Turns for SimRation {
    fn take(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        Box::pin(async move {
            self.pace.take(class, bytes).await?;
            let entry = (clock::wall().as_second(), class, bytes);
            self.grants.lock().unwrap().push(entry);
            Ok(())
        })
    }

    fn give_back(&self, class: Class, bytes: u64) {
        self.pace.give_back(class, bytes);
    }
}

impl Ration for SimRation {
    fn order(&self, window: &Window, rate: BytesPerSecond) {
        self.pace.order(window, rate);
    }

    fn open(&self, class: Class, until: Option<Wall>) {
        self.pace.open(class, until);
    }

    fn shut(&self, class: Class) {
        self.pace.shut(class);
    }

    fn cost(&self, content: u64) -> u64 {
        content * WIRE_PER_BYTE
    }

    fn note(&self, date: Date, note: Note) {
        self.pace.note(date, note);
    }

    fn account(&self, at: Moment) -> Account {
        self.pace.account(at)
    }
}
