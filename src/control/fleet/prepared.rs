//! A report, checked and with its heavy part done, before the machine's one task sees it.
//!
//! Three million digests take a second to hash and to look up. The listener calls
//! [`Prepared::new`] on a thread that may take its time; what is left for [`super::machine`] is a
//! comparison. Sans-IO.

use super::Refused;
use super::held::Held;
use super::held::HeldError;
use super::routes::RouteSet;
use super::routes::RouteSetError;
use crate::clock::Instant;
use crate::control::model::Library;
use crate::link::message;
use crate::link::message::Ack;
use crate::link::message::BgpSession;
use crate::link::message::Catalogue;
use crate::link::message::Code;
use crate::link::message::Disk;
use crate::link::message::FillProgress;
use crate::link::message::GateState;
use crate::link::message::Load;
use crate::link::message::Position;
use crate::link::message::QUALITY_NETWORKS_MAX;
use crate::link::message::Quality;
use crate::link::message::Report;
use crate::link::message::RouteGroup;
use crate::link::message::Routes;
use crate::link::steps;
use crate::link::steps::Place;
use crate::link::steps::Step;
use crate::link::steps::StepError;
use crate::prefix::Prefix;
use crate::route_table::ROUTES_MAX;
use crate::set_hash::SetHash;
use std::sync::Arc;

/// Objects of one box: the largest tested catalogue is 10 million.
const OBJECTS_MAX: usize = 16_000_000;

/// Items of a step that is not from 0. It is hashed by the machine's one task, 1 µs an item; more
/// than this goes as a whole.
const STEP_ITEMS_MAX: usize = 50_000;

/// AS numbers of a path, or communities of a route. One BGP message of 64 KiB holds 16,000.
const PATH_MAX: usize = 16_384;

/// Names, states, paths, and what a router said when it left.
const TEXT_MAX: usize = 1_024;

/// Networks of the box's own interfaces, neighbours, disks, reasons: what one machine can have.
const LIST_MAX: usize = 1_024;

/// Client networks of one box whose delivery is remembered: 10 KB, and 200 MB for 18,000 boxes.
const NETWORKS_KEPT_MAX: usize = 64;

/// A report that may be applied. Made on any thread.
#[derive(Debug)]
pub struct Prepared {
    pub(super) head: Head,
    pub(super) catalogue: CatalogueStep,
    pub(super) routes: RoutesStep,
}

/// All but the steps.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) arrived: Instant,
    pub(super) boot_id: String,
    pub(super) sequence: u64,
    pub(super) version: String,
    pub(super) gate: GateState,
    pub(super) load: Load,
    pub(super) manifest: Option<Position>,
    pub(super) interfaces: Vec<Prefix>,
    pub(super) fill: Option<FillProgress>,
    pub(super) quality: Option<Arc<Quality>>,
}

#[derive(Debug)]
pub(super) enum CatalogueStep {
    /// From 0: resolved against the library of this revision.
    Whole {
        held: Held,
        revision: u64,
        items: Catalogue,
    },
    /// From a position that only the machine can compare with its own.
    Change(Catalogue),
}

#[derive(Debug)]
pub(super) enum RoutesStep {
    Whole(RouteSet),
    Change(Routes),
}

impl Prepared {
    /// Checks a report's form and limits and does what does not need the record. CPU-bound.
    pub fn new(report: Report, library: &Library, arrived: Instant) -> Result<Self, Refused> {
        check(&report)?;
        let catalogue = prepare_catalogue(report.catalogue, library)?;
        let routes = prepare_routes(report.routes)?;
        let head = Head {
            arrived,
            boot_id: report.boot_id,
            sequence: report.sequence,
            version: report.version,
            gate: report.gate,
            load: report.load,
            manifest: report.manifest,
            interfaces: report.interfaces,
            fill: report.fill,
            quality: report.quality.map(kept),
        };
        Ok(Self {
            head,
            catalogue,
            routes,
        })
    }
}

fn prepare_catalogue(step: Catalogue, library: &Library) -> Result<CatalogueStep, Refused> {
    if step.from > 0 {
        return Ok(CatalogueStep::Change(step));
    }
    let (place, items) = match steps::take_catalogue(None, &step)? {
        Step::Whole { place, items } => (place, items),
        Step::Same => (empty(step.epoch, step.to), Vec::new()),
        Step::Change { .. } => return Err(not_whole()),
    };
    let held = Held::whole(place, &items, library)?;
    Ok(CatalogueStep::Whole {
        held,
        revision: library.revision,
        items: step,
    })
}

fn prepare_routes(step: Routes) -> Result<RoutesStep, Refused> {
    if step.from > 0 {
        return Ok(RoutesStep::Change(step));
    }
    let (place, items) = match steps::take_routes(None, &step)? {
        Step::Whole { place, items } => (place, items),
        Step::Same => (empty(step.epoch, step.to), Vec::new()),
        Step::Change { .. } => return Err(not_whole()),
    };
    Ok(RoutesStep::Whole(RouteSet::whole(place, items)?))
}

fn empty(epoch: u64, position: u64) -> Place {
    Place {
        ack: Ack { epoch, position },
        count: 0,
        hash: SetHash::default(),
    }
}

fn not_whole() -> Refused {
    Refused::new(
        Code::WrongPosition,
        "a step from 0 brings everything; send it so",
    )
}

impl From<StepError> for Refused {
    fn from(error: StepError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<HeldError> for Refused {
    fn from(error: HeldError) -> Self {
        Self::new(Code::WrongDigest, error.to_string())
    }
}

impl From<RouteSetError> for Refused {
    fn from(error: RouteSetError) -> Self {
        Self::new(Code::WrongDigest, error.to_string())
    }
}

/// Form and limits of everything that is kept or walked.
fn check(report: &Report) -> Result<(), Refused> {
    must_be_this_version(report.v)?;
    check_boot(&report.boot_id, report.sequence)?;
    check_gate(&report.gate)?;
    short("version", &report.version)?;
    short("sent_at", &report.sent_at)?;
    few("interfaces", report.interfaces.len())?;
    few("bgp", report.bgp.len())?;
    few("disks", report.disks.len())?;
    check_quality(report.quality.as_ref())?;
    report.bgp.iter().try_for_each(check_session)?;
    report.disks.iter().try_for_each(check_disk)?;
    let Catalogue {
        from,
        added,
        removed,
        ..
    } = &report.catalogue;
    check_step("objects", *from, added.len() + removed.len(), OBJECTS_MAX)?;
    let Routes {
        from,
        added,
        removed,
        ..
    } = &report.routes;
    let groups = || added.iter().chain(removed);
    groups().try_for_each(check_group)?;
    let routes = groups().map(|group| group.prefixes.len()).sum();
    check_step("routes", *from, routes, ROUTES_MAX)
}

pub(super) fn must_be_this_version(v: u64) -> Result<(), Refused> {
    if v == message::VERSION {
        return Ok(());
    }
    Err(bad(format!(
        "version {v} of the link is not spoken here, only {}",
        message::VERSION
    )))
}

/// Random, 32 hexadecimal digits; a sequence counts from 1.
pub(super) fn check_boot(boot_id: &str, sequence: u64) -> Result<(), Refused> {
    let is_hex = boot_id.len() == 32 && boot_id.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex {
        return Err(bad("boot_id must be 32 hexadecimal digits"));
    }
    if sequence == 0 {
        return Err(bad("sequence counts from 1"));
    }
    Ok(())
}

pub(super) fn check_gate(gate: &GateState) -> Result<(), Refused> {
    few("gate.reasons", gate.reasons.len())?;
    match gate.state.as_str() {
        "serving" if gate.reasons.is_empty() => Ok(()),
        "closed" if !gate.reasons.is_empty() => Ok(()),
        _ => Err(bad(
            "gate.state must be `serving` without reasons, or `closed` with at least one",
        )),
    }
}

fn check_session(session: &BgpSession) -> Result<(), Refused> {
    short("bgp.neighbour", &session.neighbour)?;
    short("bgp.state", &session.state)?;
    session
        .last_error
        .iter()
        .try_for_each(|text| short("bgp.last_error", text))
}

fn check_disk(disk: &Disk) -> Result<(), Refused> {
    short("disks.path", &disk.path)?;
    short("disks.class", &disk.class)?;
    short("disks.state", &disk.state)?;
    let optional = disk.uuid.iter().chain(&disk.reason);
    optional
        .map(String::as_str)
        .try_for_each(|text| short("disks", text))
}

fn check_quality(quality: Option<&Quality>) -> Result<(), Refused> {
    match quality.map_or(0, |quality| quality.rows.len()) {
        0..=QUALITY_NETWORKS_MAX => Ok(()),
        _ => Err(too_large("quality.rows", QUALITY_NETWORKS_MAX)),
    }
}

/// The busiest networks come first.
fn kept(mut quality: Quality) -> Arc<Quality> {
    quality.rows.truncate(NETWORKS_KEPT_MAX);
    quality.rows.shrink_to_fit();
    Arc::new(quality)
}

fn check_group(group: &RouteGroup) -> Result<(), Refused> {
    short("routes.neighbour", &group.neighbour)?;
    if !group.path_ids.is_empty() && group.path_ids.len() != group.prefixes.len() {
        return Err(bad("routes.path_ids must be as many as prefixes, or none"));
    }
    let attributes = &group.attributes;
    let longest = [
        attributes.as_path.numbers().count(),
        attributes.communities.len(),
        attributes.extended_communities.len(),
        attributes.large_communities.len(),
    ];
    if longest.into_iter().any(|length| length > PATH_MAX) {
        return Err(too_large("AS numbers or communities of a route", PATH_MAX));
    }
    Ok(())
}

fn check_step(what: &str, from: u64, items: usize, most: usize) -> Result<(), Refused> {
    if items > most {
        return Err(too_large(what, most));
    }
    if from > 0 && items > STEP_ITEMS_MAX {
        return Err(Refused::new(
            Code::WrongPosition,
            format!("a step of {items} {what} is too long to be worth it; send a step from 0"),
        ));
    }
    Ok(())
}

fn short(name: &str, text: &str) -> Result<(), Refused> {
    match text.len() <= TEXT_MAX {
        true => Ok(()),
        false => Err(too_large(name, TEXT_MAX)),
    }
}

fn few(name: &str, count: usize) -> Result<(), Refused> {
    match count <= LIST_MAX {
        true => Ok(()),
        false => Err(too_large(name, LIST_MAX)),
    }
}

fn bad(message: impl Into<String>) -> Refused {
    Refused::new(Code::BadRequest, message)
}

fn too_large(what: &str, most: usize) -> Refused {
    let message = format!("{what}: more than {most} are not taken");
    Refused::new(Code::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Attributes;
    use crate::route::Class;

    fn group(path_ids: Vec<u32>) -> RouteGroup {
        let hop = std::net::Ipv4Addr::new(192, 0, 2, 1).into();
        RouteGroup {
            neighbour: "edge".to_owned(),
            class: Class::Peering,
            attributes: Arc::new(Attributes::new("64500".parse().unwrap(), hop)),
            filtered: None,
            prefixes: vec!["203.0.113.0/24".parse().unwrap(); 2],
            path_ids,
        }
    }

    #[test]
    fn six_full_tables_of_one_box_are_taken_and_no_end_of_them_is_not() {
        let full_table = 1_220_000;
        assert!(check_step("routes", 0, 6 * full_table, ROUTES_MAX).is_ok());
        let refused = check_step("routes", 0, ROUTES_MAX + 1, ROUTES_MAX);
        assert_eq!(refused.unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn path_identifiers_are_as_many_as_prefixes_or_none() {
        for (path_ids, is_good) in [(vec![], true), (vec![1, 2], true), (vec![1], false)] {
            assert_eq!(check_group(&group(path_ids)).is_ok(), is_good);
        }
    }
}
