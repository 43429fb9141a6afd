//! The path attributes of an UPDATE, each with the handling that RFC 7606 section 7 gives its
//! errors. Attributes without use here are judged by their length alone and dropped.

use super::Negotiated;
use super::notification::Fault;
use super::notification::Notification;
use super::open::AS_TRANS;
use super::path;
use super::path::Form;
use super::path::PathFault;
use super::reader::Reader;
use crate::route::AsPath;
use crate::route::Asn;
use crate::route::Community;
use std::net::Ipv4Addr;

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const MED: u8 = 4;
const LOCAL_PREF: u8 = 5;
const ATOMIC_AGGREGATE: u8 = 6;
const AGGREGATOR: u8 = 7;
const COMMUNITIES: u8 = 8;
const ORIGINATOR_ID: u8 = 9;
const CLUSTER_LIST: u8 = 10;
pub(super) const MP_REACH: u8 = 14;
pub(super) const MP_UNREACH: u8 = 15;
const EXTENDED_COMMUNITIES: u8 = 16;
const AS4_PATH: u8 = 17;
const AS4_AGGREGATOR: u8 = 18;
const LARGE_COMMUNITIES: u8 = 32;

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED_LENGTH: u8 = 0x10;

/// What was wrong with an UPDATE that did not end the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateFault {
    /// The attribute's type; 0 for the list as a whole.
    pub attribute: u8,
    pub fault: Fault,
    /// All routes of the UPDATE count as withdrawn; otherwise only the attribute was dropped.
    pub withdraws: bool,
}

/// One pass over the attributes, in whatever order they come.
#[derive(Debug, Default)]
pub(super) struct Collected<'a> {
    pub(super) has_origin: bool,
    pub(super) as_path: Option<AsPath>,
    as4_path: Option<AsPath>,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) med: Option<u32>,
    pub(super) communities: Vec<Community>,
    /// Two-octet AGGREGATOR's AS.
    aggregator: Option<Asn>,
    has_as4_aggregator: bool,
    /// With their headers, for the data of a NOTIFICATION.
    pub(super) mp_reach: Option<Found<'a>>,
    pub(super) mp_unreach: Option<Found<'a>>,
    /// Anything else than MP_UNREACH_NLRI.
    pub(super) has_others: bool,
    pub(super) faults: Vec<UpdateFault>,
}

/// One attribute as it lies in the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    kind: u8,
    flags: u8,
    pub(super) value: Reader<'a>,
    pub(super) whole: &'a [u8],
}

/// How one attribute's error is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Withdraw(Fault),
    Discard(Fault),
    Reset(Fault),
}

use Refusal::Discard;
use Refusal::Reset;
use Refusal::Withdraw;

/// Reads the whole list. `Err` ends the session.
pub(super) fn collect<'a>(
    mut list: Reader<'a>,
    session: &Negotiated,
) -> Result<Collected<'a>, Notification> {
    let mut all = Collected::default();
    let mut seen = [false; 256];
    while !list.is_empty() {
        let before = list;
        let found = match next(&mut list) {
            Ok(found) => found,
            Err(kind) => {
                all.overrun(kind, before)?;
                break;
            }
        };
        let repeated = std::mem::replace(&mut seen[usize::from(found.kind)], true);
        if repeated {
            // RFC 7606 section 3 (g).
            if matches!(found.kind, MP_REACH | MP_UNREACH) {
                return Err(Fault::ATTRIBUTE_LIST.into());
            }
            all.refused(found.kind, Fault::ATTRIBUTE_LIST, false);
            continue;
        }
        all.has_others |= found.kind != MP_UNREACH;
        match all.add(found, session) {
            Ok(()) => {}
            Err(Withdraw(fault)) => all.refused(found.kind, fault, true),
            Err(Discard(fault)) => all.refused(found.kind, fault, false),
            Err(Reset(fault)) => return Err(Notification::new(fault, found.whole)),
        }
    }
    all.merge_as4_path();
    Ok(all)
}

/// The next attribute; `Err` with its type (0 if even that is missing) if it does not fit.
fn next<'a>(list: &mut Reader<'a>) -> Result<Found<'a>, u8> {
    let whole = *list;
    let (Some(flags), Some(kind)) = (list.u8(), list.u8()) else {
        return Err(0);
    };
    let length = if flags & EXTENDED_LENGTH == 0 {
        list.u8().map(usize::from)
    } else {
        list.u16().map(usize::from)
    };
    let value = length.and_then(|length| list.part(length)).ok_or(kind)?;
    let mut whole = whole;
    let whole = whole.take(whole.len() - list.len()).unwrap_or_default();
    Ok(Found {
        kind,
        flags,
        value,
        whole,
    })
}

impl<'a> Collected<'a> {
    /// RFC 7606 section 4: the list's own length says where it ends; what is in it is not
    /// believed. A broken MP attribute hides prefixes, and nothing less than a reset will do.
    fn overrun(&mut self, kind: u8, at: Reader<'a>) -> Result<(), Notification> {
        if matches!(kind, MP_REACH | MP_UNREACH) {
            let mut at = at;
            return Err(Notification::new(Fault::ATTRIBUTE_LENGTH, at.rest()));
        }
        self.has_others = true;
        self.refused(kind, Fault::ATTRIBUTE_LENGTH, true);
        Ok(())
    }

    pub(super) fn refused(&mut self, attribute: u8, fault: Fault, withdraws: bool) {
        self.faults.push(UpdateFault {
            attribute,
            fault,
            withdraws,
        });
    }

    fn add(&mut self, found: Found<'a>, session: &Negotiated) -> Result<(), Refusal> {
        let Found { kind, value, .. } = found;
        // Dropped whatever they hold (RFC 7606 sections 7.5, 7.9, 7.10; RFC 6793 section 4.1).
        let is_dropped = match kind {
            LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST => session.external,
            AS4_PATH | AS4_AGGREGATOR => session.four_octets,
            _ => false,
        };
        if is_dropped {
            return Ok(());
        }
        let misflagged = self.check_flags(found)?;
        match kind {
            ORIGIN => self.has_origin = origin(value)?,
            AS_PATH => self.as_path = Some(as_path(value, session)?),
            NEXT_HOP => self.next_hop = Some(exactly(value, Reader::ipv4)?),
            MED => self.med = Some(exactly(value, Reader::u32)?),
            LOCAL_PREF | ORIGINATOR_ID => {
                exactly(value, Reader::u32)?;
            }
            ATOMIC_AGGREGATE if !value.is_empty() => {
                return Err(Discard(Fault::ATTRIBUTE_LENGTH));
            }
            AGGREGATOR => self.aggregator = Some(aggregator(value, session.four_octets)?),
            AS4_AGGREGATOR => {
                aggregator(value, true)?;
                self.has_as4_aggregator = true;
            }
            COMMUNITIES => self.communities = communities(value)?,
            CLUSTER_LIST => multiple(value, 4)?,
            EXTENDED_COMMUNITIES => multiple(value, 8)?,
            LARGE_COMMUNITIES => multiple(value, 12)?,
            AS4_PATH => self.as4_path = as4_path(value)?,
            MP_REACH => self.mp_reach = Some(found),
            MP_UNREACH => self.mp_unreach = Some(found),
            // Unknown optional ones are nobody's to judge; nothing is passed on from here.
            _ => {}
        }
        misflagged.map_or(Ok(()), |fault| Err(Withdraw(fault)))
    }

    /// RFC 7606 section 3 (c). The prefixes of a misflagged MP attribute are still needed, to
    /// withdraw them.
    fn check_flags(&self, found: Found<'_>) -> Result<Option<Fault>, Refusal> {
        let expected = match found.kind {
            ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => TRANSITIVE,
            MED | ORIGINATOR_ID | CLUSTER_LIST | MP_REACH | MP_UNREACH => OPTIONAL,
            AGGREGATOR | COMMUNITIES | EXTENDED_COMMUNITIES | AS4_PATH | AS4_AGGREGATOR
            | LARGE_COMMUNITIES => OPTIONAL | TRANSITIVE,
            _ if found.flags & OPTIONAL != 0 => return Ok(None),
            // RFC 4271 section 6.3: well-known, and we do not know it.
            _ => return Err(Reset(Fault::UNKNOWN_WELL_KNOWN)),
        };
        if found.flags & (OPTIONAL | TRANSITIVE) == expected {
            return Ok(None);
        }
        if matches!(found.kind, MP_REACH | MP_UNREACH) {
            return Ok(Some(Fault::ATTRIBUTE_FLAGS));
        }
        Err(Withdraw(Fault::ATTRIBUTE_FLAGS))
    }

    fn merge_as4_path(&mut self) {
        let Some(as4) = self.as4_path.take() else {
            return;
        };
        // RFC 6793 section 4.2.3: a true two-octet AGGREGATOR beside AS4_AGGREGATOR means that the
        // last to aggregate did not know of four octets; what came before it is stale.
        let is_stale = self.has_as4_aggregator && self.aggregator.is_some_and(|a| a != AS_TRANS);
        if let Some(path) = self.as_path.take() {
            let merged = if is_stale {
                path
            } else {
                path::merge(path, as4)
            };
            self.as_path = Some(merged);
        }
    }
}

/// A value of a fixed length.
fn exactly<'a, T>(
    mut value: Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Option<T>,
) -> Result<T, Refusal> {
    let got = read(&mut value).filter(|_| value.is_empty());
    got.ok_or(Withdraw(Fault::ATTRIBUTE_LENGTH))
}

/// IGP, EGP or INCOMPLETE; which one decides nothing here.
fn origin(value: Reader<'_>) -> Result<bool, Refusal> {
    match exactly(value, Reader::u8)? {
        0..=2 => Ok(true),
        3.. => Err(Withdraw(Fault::BAD_ORIGIN)),
    }
}

fn as_path(value: Reader<'_>, session: &Negotiated) -> Result<AsPath, Refusal> {
    let form = if session.four_octets {
        Form::FourOctets
    } else {
        Form::TwoOctets
    };
    path::decode(value, form).map_err(|_| Withdraw(Fault::BAD_AS_PATH))
}

/// Malformed: as if it were not there (RFC 6793 section 6); with AS 0: RFC 7607.
fn as4_path(value: Reader<'_>) -> Result<Option<AsPath>, Refusal> {
    match path::decode(value, Form::As4Path) {
        Ok(path) => Ok(Some(path)),
        Err(PathFault::Malformed) => Err(Discard(Fault::BAD_AS_PATH)),
        Err(PathFault::Zero) => Err(Withdraw(Fault::BAD_AS_PATH)),
    }
}

fn aggregator(mut value: Reader<'_>, four_octets: bool) -> Result<Asn, Refusal> {
    let asn = if four_octets {
        value.u32()
    } else {
        value.u16().map(u32::from)
    };
    let address = value.ipv4();
    match (asn, address) {
        (Some(asn @ 1..), Some(_)) if value.is_empty() => Ok(Asn(asn)),
        (_, _) => Err(Discard(Fault::ATTRIBUTE_LENGTH)),
    }
}

fn communities(mut value: Reader<'_>) -> Result<Vec<Community>, Refusal> {
    multiple(value, 4)?;
    let mut found = Vec::with_capacity(value.len() / 4);
    while let Some(community) = value.u32() {
        found.push(Community(community));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn multiple(value: Reader<'_>, of: usize) -> Result<(), Refusal> {
    if !value.is_empty() && value.len().is_multiple_of(of) {
        Ok(())
    } else {
        Err(Withdraw(Fault::ATTRIBUTE_LENGTH))
    }
}
