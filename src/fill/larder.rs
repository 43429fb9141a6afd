//! What the task draws on: turns, budget and history of [`super::Pace`], as a [`Ration`]; and whom
//! the control link pays for a manifest.
//!
//! The wiring makes one before the link, and gives it to both.

use super::Account;
use super::BUILT;
use super::Class;
use super::Closed;
use super::Config;
use super::Content;
use super::ContentKeeper;
use super::Limits;
use super::Moment;
use super::NightView;
use super::Note;
use super::Pace;
use super::PaceView;
use super::Ration;
use super::Turns;
use super::overhead;
use crate::clock;
use crate::clock::Wall;
use crate::link::body;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use crate::window::Window;
use futures_util::future::BoxFuture;
use jiff::civil::Date;
use std::sync::Arc;
use std::time::Duration;

/// One box's.
#[derive(Debug)]
pub struct Larder {
    pace: Pace,
    /// Of any 24 h.
    urgent: Bytes,
}

impl Larder {
    /// Goes on from what the last life left. Reads disks: before the runtime is anybody else's.
    pub fn load(config: &Config, content: Arc<dyn Content>) -> Self {
        let urgent = config.urgent_bytes;
        let limits = limits(&config.window, config.rate_limit, urgent);
        let keeper = Arc::new(ContentKeeper::new(content));
        Self::new(Pace::load(limits, keeper, BUILT), urgent)
    }

    /// Over another pace: a world's.
    pub fn new(pace: Pace, urgent: Bytes) -> Self {
        Self { pace, urgent }
    }

    /// See [`Pace::ease`].
    pub fn ease(&self, percent: u32) {
        self.pace.ease(percent);
    }

    /// As it is at this moment, where the fill's own view may be a second old.
    pub fn view(&self) -> PaceView {
        self.pace.view()
    }

    /// The calendar is earlier than it can be: no fill, no deletion.
    pub fn is_below_floor(&self, wall: Wall) -> bool {
        self.pace.is_below_floor(wall)
    }
}

impl Turns for Larder {
    fn take(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        self.pace.take(class, bytes)
    }

    fn lend(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        self.pace.lend(class, bytes)
    }

    fn came(&self, bytes: u64) {
        self.pace.came(bytes);
    }

    fn give_back(&self, class: Class, bytes: u64) {
        self.pace.give_back(class, bytes);
    }
}

impl body::Pay for Larder {
    fn pay(&self, bytes: u64) -> BoxFuture<'_, ()> {
        Box::pin(self.pace.pay(overhead::piece(bytes)))
    }

    fn expect(&self, bytes: u64) {
        self.pace.expect(overhead::piece(bytes));
    }

    fn expect_no_more(&self, bytes: u64) {
        self.pace.expect_no_more(overhead::piece(bytes));
    }
}

impl Ration for Larder {
    fn order(&self, window: &Window, rate: BytesPerSecond) {
        self.pace.set_limits(limits(window, rate, self.urgent));
    }

    fn open(&self, class: Class, until: Option<Wall>) {
        let until = until.map(|until| {
            let left = until.duration_since(clock::wall());
            clock::now() + Duration::try_from(left).unwrap_or_default()
        });
        self.pace.open(class, until);
    }

    fn shut(&self, class: Class) {
        self.pace.shut(class);
    }

    fn cost(&self, content: u64) -> u64 {
        overhead::wire(content)
    }

    fn note(&self, date: Date, note: Note) {
        self.pace.tally(date, |night| match note {
            Note::Received {
                class,
                kind,
                bytes,
                inside,
            } => {
                night.opened = true;
                night.bytes.add(kind, bytes);
                night.outside_bytes += if inside { 0 } else { bytes };
                match class {
                    Class::Urgent => night.urgent_bytes += bytes,
                    Class::Night => {}
                }
            }
            Note::Done { bytes } => {
                night.done += 1;
                night.done_bytes += bytes;
            }
            Note::Refused(word) => night.refused.count(word),
            Note::Planned {
                wanted,
                wanted_bytes,
                carried_over,
                carried_over_bytes,
                no_room,
            } => {
                night.opened = true;
                night.wanted = night.wanted.max(wanted.saturating_add(night.done));
                night.carried_over = carried_over;
                let bytes = wanted_bytes.saturating_add(night.done_bytes);
                night.wanted_bytes = night.wanted_bytes.max(bytes);
                night.carried_over_bytes = carried_over_bytes;
                night.no_room = no_room;
            }
            Note::Traffic {
                egress,
                p95_bps,
                p95_without_bps,
            } => {
                night.egress_bytes += egress;
                night.inbound_p95_bps = p95_bps;
                night.inbound_p95_without_fill_bps = p95_without_bps;
            }
        });
    }

    fn account(&self, _at: Moment) -> Account {
        let view = self.pace.view();
        let nights = self.pace.nights();
        let shown = nights
            .latest_first()
            .map(|(date, night)| NightView::new(date.to_string(), *night));
        Account {
            rate: BytesPerSecond(view.rate_bps / 8),
            cap: BytesPerSecond(view.cap_bps / 8),
            night_left: view
                .night
                .limit_bytes
                .saturating_sub(view.night.counted_bytes),
            urgent_left: view
                .urgent
                .limit_bytes
                .saturating_sub(view.urgent.counted_bytes),
            granted: { view.night.granted_bytes }.saturating_add(view.urgent.granted_bytes),
            nights: shown.collect(),
        }
    }
}

/// The window's length at the full rate, in any 24 h.
fn limits(window: &Window, rate: BytesPerSecond, urgent: Bytes) -> Limits {
    let night = rate.0.saturating_mul(window.length().as_secs());
    Limits {
        rate,
        night: Bytes(night),
        urgent,
    }
}
