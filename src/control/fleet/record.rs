//! One box's record: which life it is in, what it last said, and how it looks from outside.
//!
//! Owned by [`super::machine`]. Sans-IO.

use super::BoxView;
use super::Refused;
use super::Shut;
use super::held::Held;
use super::prepared::Head;
use super::routes::RouteSet;
use super::staleness::Lost;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::control::model::Appliance;
use crate::link::message::Acked;
use crate::link::message::Code;
use crate::link::message::FillProgress;
use crate::link::message::GateState;
use crate::link::message::Load;
use crate::link::message::Position;
use crate::link::message::Quality;
use crate::prefix::Prefix;
use crate::telemetry::LogLimit;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Boot ids remembered as ended. A box that restarts more often than its clone beats is noticed
/// by its restarts.
const PAST_BOOTS_MAX: usize = 16;

/// Refusals of one box in the log.
const LOG_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Record {
    boot: Option<Boot>,
    past: VecDeque<String>,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) catalogue: Option<Held>,
    pub(super) routes: Option<RouteSet>,
    /// The boot whose report was accepted last.
    reported_boot: Option<String>,
    gate: Option<GateState>,
    gate_at: Option<Instant>,
    load: Load,
    manifest: Option<Position>,
    interfaces: Arc<[Prefix]>,
    fill: Option<FillProgress>,
    quality: Option<Arc<Quality>>,
    version: Option<String>,
    last_report: Option<Wall>,
    last_heartbeat: Option<Wall>,
    view: Option<Arc<BoxView>>,
    /// Something that steering could notice differs from `view`.
    pub(super) is_changed: bool,
    /// Something else does: times, load.
    pub(super) is_touched: bool,
    pub(super) log: LogLimit,
}

#[derive(Debug)]
struct Boot {
    id: String,
    since: Instant,
    /// The last accepted ones.
    report: u64,
    heartbeat: u64,
}

/// Two lives under one name. Holds until an operator decides.
#[derive(Debug)]
pub(super) struct Quarantine {
    pub(super) reason: String,
    /// The registry has it, so its word counts from here on.
    pub(super) is_kept: bool,
    /// When the store was last asked to keep it.
    pub(super) told: Instant,
}

/// What a boot id means for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Fine,
    /// A boot that ended speaks again.
    Cloned,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            boot: None,
            past: VecDeque::new(),
            quarantine: None,
            catalogue: None,
            routes: None,
            reported_boot: None,
            gate: None,
            gate_at: None,
            load: Load::default(),
            manifest: None,
            interfaces: Arc::default(),
            fill: None,
            quality: None,
            version: None,
            last_report: None,
            last_heartbeat: None,
            view: None,
            is_changed: true,
            is_touched: false,
            log: LogLimit::new(LOG_EVERY),
        }
    }

    /// Enters the life of `boot_id`, if it is one that may speak.
    pub(super) fn live(&mut self, boot_id: &str, arrived: Instant) -> Result<Life, Refused> {
        if let Some(boot) = &self.boot {
            if boot.id == boot_id {
                return Ok(Life::Fine);
            }
            // On its way while the box restarted: no sign of a second box.
            if arrived < boot.since {
                let message = "this box has started again since; its last boot is not listened to";
                return Err(Refused::new(Code::BadRequest, message));
            }
            if self.past.iter().any(|past| past == boot_id) {
                return Ok(Life::Cloned);
            }
        }
        let ended = self.boot.replace(Boot {
            id: boot_id.to_owned(),
            since: arrived,
            report: 0,
            heartbeat: 0,
        });
        if let Some(ended) = ended {
            self.past.push_back(ended.id);
            if self.past.len() > PAST_BOOTS_MAX {
                self.past.pop_front();
            }
        }
        self.is_changed = true;
        Ok(Life::Fine)
    }

    /// Is this report one that was not accepted before?
    pub(super) fn is_new_report(&self, sequence: u64) -> bool {
        self.boot.as_ref().is_none_or(|boot| sequence > boot.report)
    }

    pub(super) fn is_new_heartbeat(&self, sequence: u64) -> bool {
        self.boot
            .as_ref()
            .is_none_or(|boot| sequence > boot.heartbeat)
    }

    /// Nothing is known of this life yet.
    pub(super) fn wants_report(&self) -> bool {
        let boot = self.boot.as_ref().map(|boot| &boot.id);
        self.catalogue.is_none() || self.routes.is_none() || self.reported_boot.as_ref() != boot
    }

    pub(super) fn acked(&self) -> Acked {
        Acked {
            catalogue: self.catalogue.as_ref().map(|held| held.place.ack),
            routes: self.routes.as_ref().map(|set| set.place.ack),
        }
    }

    /// Takes a report whose steps were applied.
    pub(super) fn take_report(&mut self, report: Head, wall: Wall) {
        if let Some(boot) = &mut self.boot {
            boot.report = report.sequence;
            if self.reported_boot.as_ref() != Some(&boot.id) {
                self.reported_boot = Some(boot.id.clone());
                self.is_changed = true;
            }
        }
        self.take_gate(report.gate, report.arrived);
        self.load = report.load;
        self.is_changed |= self.manifest != report.manifest;
        self.manifest = report.manifest;
        if *self.interfaces != *report.interfaces {
            self.interfaces = report.interfaces.into();
            self.is_changed = true;
        }
        // Amounts change with every report, and nobody is steered by them.
        self.is_changed |= work(self.fill.as_ref()) != work(report.fill.as_ref());
        self.fill = report.fill;
        self.quality = report.quality;
        self.version = Some(report.version);
        self.is_changed |= self.last_report.is_none();
        self.last_report = Some(wall);
        self.is_touched = true;
    }

    pub(super) fn take_heartbeat(
        &mut self,
        sequence: u64,
        gate: GateState,
        load: Load,
        at: (Instant, Wall),
    ) {
        if let Some(boot) = &mut self.boot {
            boot.heartbeat = sequence;
        }
        self.take_gate(gate, at.0);
        self.load = load;
        self.last_heartbeat = Some(at.1);
        self.is_touched = true;
    }

    /// The word that was sent last counts, whichever way it came.
    fn take_gate(&mut self, gate: GateState, arrived: Instant) {
        if self.gate_at.is_some_and(|at| arrived < at) {
            return;
        }
        self.gate_at = Some(arrived);
        if self.gate.as_ref() != Some(&gate) {
            self.gate = Some(gate);
            self.is_changed = true;
        }
    }

    /// A box that got a new identity is a new box.
    pub(super) fn start_over(&mut self) {
        let log = std::mem::replace(&mut self.log, LogLimit::new(LOG_EVERY));
        *self = Self::new();
        self.log = log;
    }

    /// How it looks from outside; the same value while nothing has changed.
    pub(super) fn view(&mut self, appliance: &Appliance, lost: Option<Lost>) -> Arc<BoxView> {
        let is_fresh = !self.is_changed && !self.is_touched;
        if let Some(view) = self.view.as_ref().filter(|_| is_fresh) {
            return Arc::clone(view);
        }
        let view = Arc::new(BoxView {
            open: self.open(appliance, lost),
            bundles: self
                .catalogue
                .as_ref()
                .map_or_else(Arc::default, |held| Arc::clone(&held.content.bundles)),
            objects: self.catalogue.as_ref().map_or(0, |held| held.place.count),
            known: self
                .catalogue
                .as_ref()
                .map_or_else(Arc::default, |held| Arc::clone(&held.content.known)),
            interfaces: Arc::clone(&self.interfaces),
            fill: self.fill.clone(),
            quality: self.quality.clone(),
            routes: match &self.routes {
                Some(set) => Arc::clone(&set.routes),
                None => Arc::from([]),
            },
            gate: self.gate.clone(),
            load: self.load,
            boot_id: self.boot.as_ref().map(|boot| boot.id.clone()),
            manifest: self.manifest,
            last_report: self.last_report.map(rfc_3339),
            last_heartbeat: self.last_heartbeat.map(rfc_3339),
            version: self.version.clone(),
        });
        self.view = Some(Arc::clone(&view));
        self.is_changed = false;
        self.is_touched = false;
        view
    }

    /// As [`Record::view`], without times and load being news.
    pub(super) fn steering_view(
        &mut self,
        appliance: &Appliance,
        lost: Option<Lost>,
    ) -> Arc<BoxView> {
        match &self.view {
            Some(view) if !self.is_changed => Arc::clone(view),
            Some(_) | None => self.view(appliance, lost),
        }
    }

    fn open(&self, appliance: &Appliance, lost: Option<Lost>) -> Result<(), Shut> {
        if appliance.revoked {
            return Err(Shut::Revoked);
        }
        if appliance.quarantined.is_some() || self.quarantine.is_some() {
            return Err(Shut::Quarantined);
        }
        if !appliance.enabled {
            return Err(Shut::NotEnabled);
        }
        if self.last_report.is_none() {
            return Err(Shut::Unknown);
        }
        match lost {
            Some(Lost::Silent) => return Err(Shut::Silent),
            Some(Lost::Stale) => return Err(Shut::Stale),
            None => {}
        }
        match &self.gate {
            Some(gate) if gate.state != "serving" => {
                let reasons: Vec<&str> =
                    gate.reasons.iter().map(|reason| reason.as_str()).collect();
                Err(Shut::Gate(format!(
                    "{}: {}",
                    gate.state,
                    reasons.join(", ")
                )))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Does it fill at this time, and do others get anything from it?
fn work(fill: Option<&FillProgress>) -> Option<(bool, bool, bool)> {
    fill.map(|fill| (fill.window_open, fill.paused, fill.gives))
}

/// Seconds are enough for people.
pub(super) fn rfc_3339(at: Wall) -> String {
    let whole = Wall::from_second(at.as_second()).unwrap_or(at);
    whole.to_string()
}
