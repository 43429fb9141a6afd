//! The fleet: a record a box, and what every report and heartbeat does to it.
//!
//! Sans-IO: [`super::task`] gives it `now`, what boxes send, and what the operator changed; it
//! answers each box, tells the store of quarantines in [`Action`]s, and yields a [`View`] that is
//! rebuilt only when something changed. A refused report changes nothing but counters.

use super::BoxView;
use super::Counters;
use super::Prepared;
use super::Refused;
use super::View;
use super::held::Needs;
use super::prepared;
use super::record::Life;
use super::record::Quarantine;
use super::record::Record;
use super::record::rfc_3339;
use super::resync;
use super::resync::Resyncs;
use super::sharing::Sharing;
use super::staleness::Sign;
use super::staleness::Staleness;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::control::StalenessConfig;
use crate::control::model::Appliance;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::control::orders::FillBook;
use crate::control::signing;
use crate::ids::BoxId;
use crate::link::message;
use crate::link::message::Code;
use crate::link::message::Heartbeat;
use crate::link::message::HeartbeatReply;
use crate::link::message::Orders;
use crate::link::message::Position;
use crate::link::message::Report;
use crate::link::message::ReportReply;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A certificate of 14 days is renewed by its box after a third; one that has only this long left
/// belongs to a box that has to be told.
const RENEW_BELOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// Until a quarantine is in the registry, the store is asked again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What of `control::Config` this room needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub lease: Duration,
    pub report_every: Duration,
    pub staleness: StalenessConfig,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keep in the registry that an operator must decide about this box.
    Quarantine { id: BoxId, reason: String },
}

/// Everything the control plane knows of its boxes' state. One owner.
#[derive(Debug)]
pub struct Fleet {
    config: Config,
    registry: Arc<Registry>,
    pub(super) library: Arc<Library>,
    pub(super) needs: Needs,
    manifests: BTreeMap<BoxId, Position>,
    book: Arc<FillBook>,
    signing: signing::Current,
    pub(super) records: BTreeMap<BoxId, Record>,
    pub(super) sharing: Sharing,
    staleness: Staleness,
    resyncs: Resyncs,
    view: Arc<View>,
    /// The view is behind in something that steering could notice.
    pub(super) is_dirty: bool,
    actions: Vec<Action>,
    counters: Arc<Counters>,
}

impl Config {
    pub fn of(config: &crate::control::Config) -> Self {
        Self {
            lease: config.lease,
            report_every: config.report_every,
            staleness: config.staleness.clone(),
        }
    }
}

impl Fleet {
    /// Knows nobody: every box is unknown until it reports.
    pub fn new(now: Instant, config: Config, counters: Arc<Counters>) -> Self {
        Self {
            staleness: Staleness::new(now, &config.staleness, config.report_every),
            config,
            registry: Arc::default(),
            library: Arc::default(),
            needs: Needs::default(),
            manifests: BTreeMap::new(),
            book: Arc::default(),
            signing: None,
            records: BTreeMap::new(),
            sharing: Sharing::default(),
            resyncs: Resyncs::default(),
            view: Arc::default(),
            is_dirty: true,
            actions: Vec::new(),
            counters,
        }
    }

    /// Takes what the operator changed.
    pub fn registry(&mut self, registry: Arc<Registry>) {
        let (records, staleness) = (&mut self.records, &mut self.staleness);
        records.retain(|id, _| {
            let is_kept = registry.appliances.contains_key(id);
            if !is_kept {
                staleness.forget(id);
                self.resyncs.done(id);
            }
            is_kept
        });
        for (id, appliance) in &registry.appliances {
            let record = records.entry(id.clone()).or_insert_with(Record::new);
            let before = self.registry.appliances.get(id);
            if before != Some(appliance) {
                follow(record, before, appliance);
            }
            if !counts(appliance) {
                staleness.forget(id);
            }
        }
        self.registry = registry;
        self.is_dirty = true;
    }

    /// Which manifest each box should have.
    pub fn manifests(&mut self, manifests: BTreeMap<BoxId, Position>) {
        self.manifests = manifests;
    }

    /// What each box is to be told of the fill.
    pub fn fill(&mut self, book: Arc<FillBook>) {
        self.book = book;
    }

    /// Whose keys each box is to be told.
    pub fn signing(&mut self, signing: signing::Current) {
        self.signing = signing;
    }

    /// As [`Fleet::report_prepared`], with the heavy part done here.
    pub fn report(
        &mut self,
        now: Instant,
        wall: Wall,
        id: &BoxId,
        report: Report,
    ) -> Result<ReportReply, Refused> {
        let prepared = Prepared::new(report, &self.library, now);
        let prepared = prepared.map_err(|refused| self.refused(now, id, refused))?;
        self.report_prepared(now, wall, id, prepared)
    }

    /// Takes a report, whole or not at all. A repeated one is answered and changes nothing.
    pub fn report_prepared(
        &mut self,
        now: Instant,
        wall: Wall,
        id: &BoxId,
        report: Prepared,
    ) -> Result<ReportReply, Refused> {
        self.take_report(now, wall, id, report)
            .map_err(|refused| self.refused(now, id, refused))
    }

    /// Takes a heartbeat. A repeated one is answered and changes nothing.
    pub fn heartbeat(
        &mut self,
        now: Instant,
        wall: Wall,
        id: &BoxId,
        heartbeat: Heartbeat,
    ) -> Result<HeartbeatReply, Refused> {
        self.take_heartbeat(now, wall, id, heartbeat)
            .map_err(|refused| self.refused(now, id, refused))
    }

    /// Decides who is silent. To be called at every [`Fleet::deadline`].
    pub fn tick(&mut self, now: Instant) {
        let was_frozen = self.staleness.frozen().map(str::to_owned);
        for id in self.staleness.tick(now) {
            if let Some(record) = self.records.get_mut(&id) {
                record.is_changed = true;
            }
            self.is_dirty = true;
        }
        self.is_dirty |= was_frozen.as_deref() != self.staleness.frozen();
        self.sharing.forget_unused(self.records.len());
        for (id, record) in &mut self.records {
            let Some(quarantine) = &mut record.quarantine else {
                continue;
            };
            let is_due = now.saturating_duration_since(quarantine.told) >= TELL_AGAIN;
            if !quarantine.is_kept && is_due {
                quarantine.told = now;
                let reason = quarantine.reason.clone();
                let id = id.clone();
                self.actions.push(Action::Quarantine { id, reason });
            }
        }
    }

    /// When [`Fleet::tick`] is due: silence is measured by it.
    pub fn deadline(&self) -> Instant {
        self.staleness.deadline()
    }

    /// What is to be done since the last call.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The fleet as steering sees it. The same value until something it could notice changes.
    pub fn view(&mut self) -> Arc<View> {
        if self.is_dirty {
            self.rebuild(Record::steering_view);
        }
        Arc::clone(&self.view)
    }

    /// Would [`Fleet::view`] be another one than last time?
    pub fn has_news(&self) -> bool {
        self.is_dirty
    }

    /// As [`Fleet::view`], with the latest times and loads, under the same generation if nothing
    /// else is news.
    pub fn refreshed_view(&mut self) -> Arc<View> {
        self.rebuild(Record::view);
        Arc::clone(&self.view)
    }

    fn rebuild(
        &mut self,
        look: fn(&mut Record, &Appliance, Option<super::staleness::Lost>) -> Arc<BoxView>,
    ) {
        let mut boxes = BTreeMap::new();
        for (id, appliance) in &self.registry.appliances {
            let Some(record) = self.records.get_mut(id) else {
                continue;
            };
            let view = look(record, appliance, self.staleness.lost(id));
            boxes.insert(id.clone(), view);
        }
        self.view = Arc::new(View {
            generation: self.view.generation + u64::from(self.is_dirty),
            boxes,
            frozen: self.staleness.frozen().map(str::to_owned),
        });
        self.is_dirty = false;
    }

    fn take_report(
        &mut self,
        now: Instant,
        wall: Wall,
        id: &BoxId,
        report: Prepared,
    ) -> Result<ReportReply, Refused> {
        let head = report.head;
        self.admit(now, id, &head.boot_id, head.arrived)?;
        let Some(record) = self.records.get_mut(id) else {
            return Err(unregistered(id));
        };
        if !record.is_new_report(head.sequence) {
            Counters::add(&self.counters.repeated);
            return Ok(self.report_reply(wall, id));
        }
        let (held, routes) = self.apply(now, id, report.catalogue, report.routes)?;
        let Some(record) = self.records.get_mut(id) else {
            return Err(unregistered(id));
        };
        record.is_changed |= record
            .catalogue
            .as_ref()
            .is_none_or(|old| !Arc::ptr_eq(&old.content, &held.content));
        record.is_changed |= record
            .routes
            .as_ref()
            .is_none_or(|old| !Arc::ptr_eq(&old.routes, &routes.routes));
        record.catalogue = Some(held);
        record.routes = Some(routes);
        record.take_report(head, wall);
        self.resyncs.done(id);
        self.heard(now, id, Sign::Report);
        Counters::add(&self.counters.reports);
        Ok(self.report_reply(wall, id))
    }

    fn take_heartbeat(
        &mut self,
        now: Instant,
        wall: Wall,
        id: &BoxId,
        heartbeat: Heartbeat,
    ) -> Result<HeartbeatReply, Refused> {
        prepared::must_be_this_version(heartbeat.v)?;
        prepared::check_boot(&heartbeat.boot_id, heartbeat.sequence)?;
        prepared::check_gate(&heartbeat.gate)?;
        self.admit(now, id, &heartbeat.boot_id, now)?;
        let Some(record) = self.records.get_mut(id) else {
            return Err(unregistered(id));
        };
        let wants_report = record.wants_report();
        if record.is_new_heartbeat(heartbeat.sequence) {
            let Heartbeat {
                sequence,
                gate,
                load,
                ..
            } = heartbeat;
            record.take_heartbeat(sequence, gate, load, (now, wall));
            self.heard(now, id, Sign::Heartbeat);
            Counters::add(&self.counters.heartbeats);
        }
        let report_now = wants_report && self.resyncs.grant(now, id);
        let orders = self.orders(wall, id, report_now);
        let v = message::VERSION;
        Ok(HeartbeatReply { v, orders })
    }

    /// May this box speak, in this life?
    fn admit(
        &mut self,
        now: Instant,
        id: &BoxId,
        boot_id: &str,
        arrived: Instant,
    ) -> Result<(), Refused> {
        let (Some(appliance), Some(record)) =
            (self.registry.appliances.get(id), self.records.get_mut(id))
        else {
            return Err(unregistered(id));
        };
        if appliance.revoked {
            let message = format!(
                "{id} is revoked; give it a token with `oca control appliance replace {id}` and \
                 enrol it again"
            );
            return Err(Refused::new(Code::Identity, message));
        }
        let kept = appliance.quarantined.as_deref();
        let reason = record.quarantine.as_ref().map(|own| own.reason.as_str());
        if let Some(reason) = kept.or(reason) {
            return Err(quarantined(id, reason));
        }
        if record.live(boot_id, arrived)? == Life::Fine {
            self.is_dirty |= record.is_changed;
            return Ok(());
        }
        let reason = "two boxes speak under this name: a boot id that had ended came back";
        record.quarantine = Some(Quarantine {
            reason: reason.to_owned(),
            is_kept: false,
            told: now,
        });
        record.is_changed = true;
        self.is_dirty = true;
        self.actions.push(Action::Quarantine {
            id: id.clone(),
            reason: reason.to_owned(),
        });
        Counters::add(&self.counters.quarantines);
        tracing::error!(%id, "{reason}; both are refused until an operator decides");
        Err(quarantined(id, reason))
    }

    /// Whether one more box may be asked for everything.
    pub(super) fn may_resync(&mut self, now: Instant, id: &BoxId) -> Result<(), Refused> {
        if self.resyncs.grant(now, id) {
            return Ok(());
        }
        Err(Refused::busy(
            "many boxes send everything at the moment; this one is to wait its turn",
            resync::RETRY_AFTER + spread(id, resync::RETRY_AFTER),
        ))
    }

    fn heard(&mut self, now: Instant, id: &BoxId, sign: Sign) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        let appliance = self.registry.appliances.get(id);
        if appliance.is_some_and(counts) && self.staleness.heard(now, id, sign) {
            record.is_changed = true;
        }
        self.is_dirty |= record.is_changed;
    }

    fn report_reply(&self, wall: Wall, id: &BoxId) -> ReportReply {
        let acked = self.records.get(id).map(Record::acked).unwrap_or_default();
        let every = self.config.report_every;
        ReportReply {
            v: message::VERSION,
            acked,
            orders: self.orders(wall, id, false),
            // The box adds its jitter to it; this part keeps those that jitter badly apart.
            next_report_s: (every + spread(id, every / 16)).as_secs(),
            viewer_keys: signing::told(&self.signing, self.registry.appliances.get(id), wall),
        }
    }

    fn orders(&self, wall: Wall, id: &BoxId, report_now: bool) -> Orders {
        let appliance = self.registry.appliances.get(id);
        let enabled = appliance.is_some_and(counts);
        let ends = appliance.and_then(|appliance| appliance.certificate_ends);
        let soon = wall.checked_add(RENEW_BELOW).unwrap_or(wall);
        Orders {
            enabled,
            lease_s: if enabled {
                self.config.lease.as_secs()
            } else {
                0
            },
            manifest: self.manifests.get(id).copied(),
            renew: ends.is_some_and(|ends| ends < soon),
            report_now,
            server_time: rfc_3339(wall),
            fill: appliance.and_then(|one| self.book.orders(id, &one.site)),
        }
    }

    fn refused(&mut self, now: Instant, id: &BoxId, refused: Refused) -> Refused {
        self.counters.refuse(refused.code);
        let left_out = self
            .records
            .get_mut(id)
            .and_then(|record| record.log.step(now));
        if let Some(left_out) = left_out {
            let code = refused.code;
            tracing::warn!(%id, ?code, left_out, "refused: {}", refused.message);
        }
        refused
    }
}

/// Does the box's silence mean anything?
fn counts(appliance: &Appliance) -> bool {
    appliance.enabled && !appliance.revoked && appliance.quarantined.is_none()
}

/// The operator's word about a box.
fn follow(record: &mut Record, before: Option<&Appliance>, appliance: &Appliance) {
    record.is_changed = true;
    let key_before = before.and_then(|before| before.key_fingerprint.as_ref());
    let has_new_key = key_before.is_some() && key_before != appliance.key_fingerprint.as_ref();
    let is_lifted = appliance.quarantined.is_none()
        && record.quarantine.as_ref().is_some_and(|own| own.is_kept);
    if has_new_key || is_lifted {
        record.start_over();
    }
    if let Some(own) = &mut record.quarantine {
        own.is_kept |= appliance.quarantined.is_some();
    }
}

fn unregistered(id: &BoxId) -> Refused {
    let message = format!("{id} is not in the registry; add it with `oca control appliance add`");
    Refused::new(Code::Identity, message)
}

fn quarantined(id: &BoxId, reason: &str) -> Refused {
    let message = format!(
        "{id} is quarantined: {reason}; find the wrong one, then `oca control appliance replace \
         {id}`"
    );
    Refused::new(Code::Quarantined, message)
}

/// Somewhere below `most`, always the same for a box: so that boxes do not come back together.
fn spread(id: &BoxId, most: Duration) -> Duration {
    let hash = blake3::hash(id.as_str().as_bytes());
    most.mul_f64(f64::from(hash.as_bytes()[0]) / 256.0)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
