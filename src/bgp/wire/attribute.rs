//! The path attributes of an UPDATE, each with the handling that RFC 7606 section 7 gives its
//! errors. Attributes without use here are judged by length and flags alone and dropped, so that
//! what is corrupt in them is nobody's concern.

use super::Negotiated;
use super::fault::FaultKind;
use super::fault::Faults;
use super::fault::Handling;
use super::fault::Malformed;
use super::fault::UpdateFault;
use super::open::AS_TRANS;
use super::path::Path;
use super::path::PathFault;
use super::reader::Reader;
use super::values::Aggregator;
use super::values::Attributes;
use super::values::Origin;
use super::values::Values;
use crate::route::Asn;
use std::net::Ipv4Addr;

pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
pub(super) const MED: u8 = 4;
pub(super) const LOCAL_PREF: u8 = 5;
pub(super) const ATOMIC_AGGREGATE: u8 = 6;
pub(super) const AGGREGATOR: u8 = 7;
pub(super) const COMMUNITIES: u8 = 8;
const ORIGINATOR_ID: u8 = 9;
const CLUSTER_LIST: u8 = 10;
pub(super) const MP_REACH: u8 = 14;
pub(super) const MP_UNREACH: u8 = 15;
pub(super) const EXTENDED_COMMUNITIES: u8 = 16;
pub(super) const AS4_PATH: u8 = 17;
pub(super) const AS4_AGGREGATOR: u8 = 18;
pub(super) const LARGE_COMMUNITIES: u8 = 32;
pub(super) const ONLY_TO_CUSTOMER: u8 = 35;

pub(super) const OPTIONAL: u8 = 0x80;
pub(super) const TRANSITIVE: u8 = 0x40;
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

/// One pass over the attributes, in whatever order they come.
#[derive(Debug, Default)]
pub(super) struct Collected<'a> {
    pub(super) values: Attributes<'a>,
    pub(super) next_hop: Option<Ipv4Addr>,
    as4_path: Option<Path<'a>>,
    as4_aggregator: Option<Aggregator>,
    pub(super) mp_reach: Option<Found<'a>>,
    pub(super) mp_unreach: Option<Found<'a>>,
    /// Anything else than MP_UNREACH_NLRI.
    pub(super) has_others: bool,
    seen: Seen,
    pub(super) faults: Faults,
}

/// Which types of attribute there were.
#[derive(Debug, Default)]
struct Seen([u64; 4]);

/// One attribute as it lies in the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    kind: u8,
    pub(super) flags: u8,
    pub(super) value: Reader<'a>,
    /// With its header, for the data of a NOTIFICATION.
    pub(super) whole: &'a [u8],
}

/// One attribute's error, which costs less than the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Withdraw(FaultKind),
    Discard(FaultKind),
    Reset(FaultKind),
}

use Refusal::Discard;
use Refusal::Reset;
use Refusal::Withdraw;

/// Reads the whole list. `Err` ends the session.
pub(super) fn collect<'a>(
    mut list: Reader<'a>,
    session: &Negotiated,
) -> Result<Collected<'a>, Malformed> {
    let mut all = Collected::default();
    while !list.is_empty() {
        let before = list;
        let found = match next(&mut list) {
            Ok(found) => found,
            Err(cut) => {
                all.cut_off(cut, before)?;
                break;
            }
        };
        if all.seen.again(found.kind) {
            // RFC 7606 section 3 (g): which of two lists of prefixes is meant cannot be known.
            if matches!(found.kind, MP_REACH | MP_UNREACH) {
                return Err(Malformed::update(FaultKind::Repeated, &[]));
            }
            // RFC 7606 section 3 (g): all but the first are discarded, recognised or not.
            all.refused(found.kind, FaultKind::Repeated, Handling::Discard);
            continue;
        }
        all.has_others |= found.kind != MP_UNREACH;
        match all.add(found, session) {
            Ok(()) => {}
            Err(Withdraw(kind)) => all.refused(found.kind, kind, Handling::Withdraw),
            Err(Discard(kind)) => all.refused(found.kind, kind, Handling::Discard),
            Err(Reset(kind)) => return Err(Malformed::update(kind, found.whole)),
        }
    }
    all.merge_as4();
    Ok(all)
}

/// Where a list of attributes ends in the middle of one.
enum CutOff {
    /// Not even a type and a length.
    Stray,
    Overrun {
        kind: u8,
    },
}

fn next<'a>(list: &mut Reader<'a>) -> Result<Found<'a>, CutOff> {
    let start = *list;
    let (Some(flags), Some(kind)) = (list.u8(), list.u8()) else {
        return Err(CutOff::Stray);
    };
    let length = if flags & EXTENDED_LENGTH == 0 {
        list.u8().map(usize::from)
    } else {
        list.u16().map(usize::from)
    };
    let length = length.ok_or(CutOff::Stray)?;
    let value = list.part(length).ok_or(CutOff::Overrun { kind })?;
    let mut whole = start;
    let whole = whole.take(start.len() - list.len()).unwrap_or_default();
    Ok(Found {
        kind,
        flags,
        value,
        whole,
    })
}

impl Found<'_> {
    pub(super) fn kind(&self) -> u8 {
        self.kind
    }
}

impl Seen {
    /// Notes it; true if it was there before.
    fn again(&mut self, kind: u8) -> bool {
        let word = &mut self.0[usize::from(kind >> 6)];
        let bit = 1 << (kind & 63);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    fn contains(&self, kind: u8) -> bool {
        self.0[usize::from(kind >> 6)] & 1 << (kind & 63) != 0
    }
}

impl<'a> Collected<'a> {
    /// RFC 7606 section 4: the list's own length says where it ends; what is in it is not
    /// believed.
    fn cut_off(&mut self, cut: CutOff, at: Reader<'a>) -> Result<(), Malformed> {
        self.has_others = true;
        match cut {
            // RFC 7606 section 4, fewer octets than an attribute's head needs.
            CutOff::Stray => self.refused(0, FaultKind::StrayOctets, Handling::Withdraw),
            // RFC 7606 section 3 (j): a broken MP attribute hides prefixes, and even its family
            // may be another attribute's octets.
            CutOff::Overrun {
                kind: MP_REACH | MP_UNREACH,
            } => return Err(Malformed::update(FaultKind::Overrun, at.bytes())),
            // RFC 7606 section 4, a length beyond the list.
            CutOff::Overrun { kind } => {
                self.seen.again(kind);
                self.refused(kind, FaultKind::Overrun, Handling::Withdraw);
            }
        }
        Ok(())
    }

    pub(super) fn refused(&mut self, attribute: u8, kind: FaultKind, handling: Handling) {
        self.faults.add(UpdateFault {
            kind,
            attribute,
            handling,
        });
    }

    /// Broken or not.
    pub(super) fn has(&self, attribute: u8) -> bool {
        self.seen.contains(attribute)
    }

    fn add(&mut self, found: Found<'a>, session: &Negotiated) -> Result<(), Refusal> {
        let Found { kind, value, .. } = found;
        match kind {
            // RFC 7606 sections 7.5, 7.9 and 7.10: not believed from outside, whatever they hold.
            LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST if session.external => {
                return Err(Discard(FaultKind::InternalFromOutside));
            }
            // RFC 6793 section 4.1: meant for sessions of two octets.
            AS4_PATH | AS4_AGGREGATOR if session.four_octets => {
                return Err(Discard(FaultKind::As4OnFourOctets));
            }
            _ => {}
        }
        check_flags(found)?;
        let values = &mut self.values;
        match kind {
            ORIGIN => values.origin = origin(value)?,
            AS_PATH => values.as_path = as_path(value, session)?,
            // RFC 7606 section 7.3.
            NEXT_HOP => self.next_hop = exactly(value, Reader::ipv4, FaultKind::NextHop)?,
            // RFC 7606 section 7.4.
            MED => values.med = exactly(value, Reader::u32, FaultKind::Med)?,
            // RFC 7606 section 7.5.
            LOCAL_PREF => values.local_pref = exactly(value, Reader::u32, FaultKind::LocalPref)?,
            // RFC 7606 section 7.6.
            ATOMIC_AGGREGATE if value.is_empty() => values.atomic_aggregate = true,
            ATOMIC_AGGREGATE => return Err(Discard(FaultKind::AtomicAggregate)),
            AGGREGATOR => {
                let four_octets = session.four_octets;
                values.aggregator = aggregator(value, four_octets, FaultKind::Aggregator)?;
            }
            // RFC 6793 section 6.
            AS4_AGGREGATOR => {
                self.as4_aggregator = aggregator(value, true, FaultKind::As4Aggregator)?;
            }
            // RFC 7606 section 7.8.
            COMMUNITIES => values.communities = multiple(value, FaultKind::Communities)?,
            // RFC 7606 section 7.9.
            ORIGINATOR_ID => {
                exactly(value, Reader::u32, FaultKind::OriginatorId)?;
            }
            // RFC 7606 section 7.10.
            CLUSTER_LIST => {
                multiple::<4>(value, FaultKind::ClusterList)?;
            }
            // RFC 7606 section 7.14.
            EXTENDED_COMMUNITIES => {
                values.extended_communities = multiple(value, FaultKind::ExtendedCommunities)?;
            }
            // RFC 8092 section 6.
            LARGE_COMMUNITIES => {
                values.large_communities = multiple(value, FaultKind::LargeCommunities)?;
            }
            // RFC 9234 section 5.
            ONLY_TO_CUSTOMER => {
                let kind = FaultKind::OnlyToCustomer;
                values.only_to_customer = exactly(value, Reader::u32, kind)?.map(Asn);
            }
            AS4_PATH => self.as4_path = Some(as4_path(value)?),
            MP_REACH => self.mp_reach = Some(found),
            MP_UNREACH => self.mp_unreach = Some(found),
            // Optional ones without use here: nobody's to judge, and nothing is passed on.
            _ => {}
        }
        Ok(())
    }

    /// RFC 6793 section 4.2.3, whatever the order of the attributes was.
    fn merge_as4(&mut self) {
        let values = &mut self.values;
        let (as4_path, as4_aggregator) = (self.as4_path.take(), self.as4_aggregator.take());
        // A true two-octet AGGREGATOR beside AS4_AGGREGATOR means that the last to aggregate did
        // not know of four octets; what came before it is stale.
        let is_true = values.aggregator.is_some_and(|own| own.asn != AS_TRANS);
        let is_stale = as4_aggregator.is_some() && is_true;
        if is_stale {
            return;
        }
        if values.aggregator.is_some() {
            values.aggregator = as4_aggregator.or(values.aggregator);
        }
        if let Some(as4) = as4_path {
            values.as_path = values.as_path.with_as4(as4);
        }
    }
}

/// RFC 7606 section 3 (c). The flags of MP attributes are looked at where their family is.
fn check_flags(found: Found<'_>) -> Result<(), Refusal> {
    let expected = match found.kind {
        ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => TRANSITIVE,
        MED | ORIGINATOR_ID | CLUSTER_LIST => OPTIONAL,
        AGGREGATOR | COMMUNITIES | EXTENDED_COMMUNITIES | AS4_PATH | AS4_AGGREGATOR
        | LARGE_COMMUNITIES | ONLY_TO_CUSTOMER => OPTIONAL | TRANSITIVE,
        MP_REACH | MP_UNREACH => return Ok(()),
        _ if found.flags & OPTIONAL != 0 => return Ok(()),
        // RFC 4271 section 6.3, which RFC 7606 leaves as it is: well-known, and we do not know it.
        _ => return Err(Reset(FaultKind::UnknownWellKnown)),
    };
    if found.flags & (OPTIONAL | TRANSITIVE) == expected {
        Ok(())
    } else {
        Err(Withdraw(FaultKind::AttributeFlags))
    }
}

/// A value of a fixed length; otherwise RFC 7606 section 3 (e).
fn exactly<'a, T>(
    mut value: Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Option<T>,
    kind: FaultKind,
) -> Result<Option<T>, Refusal> {
    let got = read(&mut value).filter(|_| value.is_empty());
    got.map(Some).ok_or(Withdraw(kind))
}

/// RFC 7606 section 7.1: one octet, and a value that exists.
fn origin(value: Reader<'_>) -> Result<Origin, Refusal> {
    let code = exactly(value, Reader::u8, FaultKind::Origin)?;
    let origin = code.and_then(Origin::from_wire);
    origin.ok_or(Withdraw(FaultKind::Origin))
}

fn as_path<'a>(value: Reader<'a>, session: &Negotiated) -> Result<Path<'a>, Refusal> {
    let path = Path::decode(value, session.four_octets, !session.external);
    path.map_err(|fault| match fault {
        // RFC 7606 section 7.2.
        PathFault::Malformed => Withdraw(FaultKind::AsPath),
        // RFC 5065 section 5, as a malformed AS_PATH.
        PathFault::Confederation => Withdraw(FaultKind::Confederation),
        // RFC 7607 section 2, as a malformed AS_PATH.
        PathFault::Zero => Withdraw(FaultKind::AsZero),
    })
}

fn as4_path(value: Reader<'_>) -> Result<Path<'_>, Refusal> {
    Path::decode(value, true, true).map_err(|fault| match fault {
        // RFC 6793 section 6.
        PathFault::Malformed | PathFault::Confederation => Discard(FaultKind::As4Path),
        // RFC 7607 section 2, which leaves it to RFC 6793 section 6.
        PathFault::Zero => Discard(FaultKind::AsZero),
    })
}

/// RFC 7606 section 7.7: the length depends on what was negotiated.
fn aggregator(
    mut value: Reader<'_>,
    four_octets: bool,
    kind: FaultKind,
) -> Result<Option<Aggregator>, Refusal> {
    let asn = if four_octets {
        value.u32()
    } else {
        value.u16().map(u32::from)
    };
    let (Some(asn), Some(address), true) = (asn, value.ipv4(), value.is_empty()) else {
        return Err(Discard(kind));
    };
    match asn {
        // RFC 7607 section 2: malformed, and handled as such.
        0 => Err(Discard(FaultKind::AsZero)),
        1.. => {
            let asn = Asn(asn);
            Ok(Some(Aggregator { asn, address }))
        }
    }
}

fn multiple<const N: usize>(value: Reader<'_>, kind: FaultKind) -> Result<Values<'_, N>, Refusal> {
    Values::decode(value).ok_or(Withdraw(kind))
}
