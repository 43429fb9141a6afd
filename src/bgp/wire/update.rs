//! UPDATE (RFC 4271 section 4.3, RFC 4760) with the revised error handling of RFC 7606.

use super::Negotiated;
use super::attribute;
use super::attribute::Collected;
use super::attribute::Found;
use super::capability;
use super::nlri;
use super::notification::Fault;
use super::notification::Notification;
use super::reader::Reader;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Attributes;
use std::net::IpAddr;
use std::net::Ipv6Addr;

pub use super::attribute::UpdateFault;

/// What an UPDATE means, after its errors have been dealt with. Withdrawals come first: a prefix
/// in both lists is announced (RFC 4271 section 4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub withdrawn: Vec<Prefix>,
    pub announced: Vec<Reach>,
    /// Everything of this family has been sent (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    pub faults: Vec<UpdateFault>,
}

/// Prefixes that share everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub attributes: Attributes,
    pub prefixes: Vec<Prefix>,
}

/// MP_REACH_NLRI of a family we speak.
struct MpReach {
    next_hop: IpAddr,
    prefixes: Vec<Prefix>,
}

impl Update {
    /// `Err` ends the session: the prefixes cannot be found, or the list of attributes is no list.
    pub(super) fn decode(mut body: Reader<'_>, session: &Negotiated) -> Result<Self, Notification> {
        let list_error = || Notification::from(Fault::ATTRIBUTE_LIST);
        let mut field = || {
            let length = body.u16()?;
            body.part(length.into())
        };
        let withdrawn_field = field().ok_or_else(list_error)?;
        let attributes_field = field().ok_or_else(list_error)?;
        let reach_field = body;
        let mut update = Self::default();
        let is_empty = withdrawn_field.is_empty() && reach_field.is_empty();
        let mut reached = Vec::new();
        nlri::decode(withdrawn_field, Family::Ipv4, &mut update.withdrawn)
            .and_then(|()| nlri::decode(reach_field, Family::Ipv4, &mut reached))
            .ok_or(Fault::BAD_NETWORK)?;
        let mut all = attribute::collect(attributes_field, session)?;
        // Read for its form alone where it was not negotiated.
        if !session.ipv4 {
            update.withdrawn.clear();
            reached.clear();
        }
        let unreached = match all.mp_unreach {
            Some(found) => mp_unreach(found, session)?,
            None => None,
        };
        let mp_reach = match all.mp_reach {
            Some(found) => mp_reach(found, session)?,
            None => None,
        };
        let has_reach = !reach_field.is_empty() || all.mp_reach.is_some();
        check_mandatory(&mut all, has_reach, !reach_field.is_empty());
        let withdraws = all.faults.iter().find(|fault| fault.withdraws);
        if let Some(first) = withdraws.filter(|_| all.has_others && !has_reach) {
            // RFC 7606 section 5.2: without prefixes one cannot be sure that they were found.
            return Err(first.fault.into());
        }
        if is_empty && !all.has_others {
            update.end_of_rib = match (&all.mp_unreach, &unreached) {
                (None, _) => session.ipv4.then_some(Family::Ipv4),
                (Some(_), Some((family, prefixes))) => prefixes.is_empty().then_some(*family),
                (Some(_), None) => None,
            };
        }
        update
            .withdrawn
            .extend(unreached.into_iter().flat_map(|(_, prefixes)| prefixes));
        if withdraws.is_some() {
            update.withdrawn.append(&mut reached);
            update
                .withdrawn
                .extend(mp_reach.into_iter().flat_map(|mp| mp.prefixes));
        } else {
            update.announced = reaches(&mut all, reached, mp_reach);
        }
        update.faults = all.faults;
        Ok(update)
    }

    pub fn is_malformed(&self) -> bool {
        !self.faults.is_empty()
    }
}

/// RFC 7606 section 3 (d): a missing mandatory attribute costs the routes. NEXT_HOP is mandatory
/// for the prefixes of the UPDATE's own field alone (RFC 4760 section 3).
fn check_mandatory(all: &mut Collected<'_>, has_reach: bool, has_plain_reach: bool) {
    const ORIGIN: u8 = 1;
    const AS_PATH: u8 = 2;
    const NEXT_HOP: u8 = 3;
    let missing = [
        (ORIGIN, has_reach && !all.has_origin),
        (AS_PATH, has_reach && all.as_path.is_none()),
        (NEXT_HOP, has_plain_reach && all.next_hop.is_none()),
    ];
    for (attribute, is_missing) in missing {
        // One that is there and broken has been told already.
        let is_told = all.faults.iter().any(|fault| fault.attribute == attribute);
        if is_missing && !is_told {
            all.refused(attribute, Fault::MISSING_ATTRIBUTE, true);
        }
    }
}

fn reaches(all: &mut Collected<'_>, plain: Vec<Prefix>, mp_reach: Option<MpReach>) -> Vec<Reach> {
    let mut shared = |next_hop: IpAddr, is_last: bool| Attributes {
        med: all.med,
        communities: match is_last {
            true => std::mem::take(&mut all.communities),
            false => all.communities.clone(),
        },
        ..Attributes::new(
            match is_last {
                true => all.as_path.take().unwrap_or_default(),
                false => all.as_path.clone().unwrap_or_default(),
            },
            next_hop,
        )
    };
    let mut reaches = Vec::new();
    let mp_reach = mp_reach.filter(|mp| !mp.prefixes.is_empty());
    if let Some(next_hop) = all.next_hop.filter(|_| !plain.is_empty()) {
        reaches.push(Reach {
            attributes: shared(next_hop.into(), mp_reach.is_none()),
            prefixes: plain,
        });
    }
    if let Some(mp) = mp_reach {
        reaches.push(Reach {
            attributes: shared(mp.next_hop, true),
            prefixes: mp.prefixes,
        });
    }
    reaches
}

/// `None`: a family that was not negotiated, whose contents we cannot judge (RFC 4760 section 7).
fn mp_reach(found: Found<'_>, session: &Negotiated) -> Result<Option<MpReach>, Notification> {
    // RFC 7606 section 7.11: the prefixes come after what is broken.
    let refused = || Notification::new(Fault::OPTIONAL_ATTRIBUTE, found.whole);
    let mut value = found.value;
    let family = afi_safi(&mut value).ok_or_else(refused)?;
    let length = value.u8().ok_or_else(refused)?;
    let hop = value.part(length.into()).ok_or_else(refused)?;
    let _reserved = value.u8().ok_or_else(refused)?;
    let Some(family) = family.filter(|family| session.has(*family)) else {
        return Ok(None);
    };
    let next_hop = next_hop(family, hop).ok_or_else(refused)?;
    let mut prefixes = Vec::new();
    nlri::decode(value, family, &mut prefixes).ok_or_else(refused)?;
    Ok(Some(MpReach { next_hop, prefixes }))
}

/// Of the family's own kind: next hops of RFC 8950 are not negotiated. IPv6 may name a link-local
/// address behind the global one (RFC 2545 section 3).
fn next_hop(family: Family, mut field: Reader<'_>) -> Option<IpAddr> {
    match (family, field.len()) {
        (Family::Ipv4, 4) => field.ipv4().map(IpAddr::V4),
        (Family::Ipv6, 16 | 32) => {
            let octets = field.take(16)?.first_chunk::<16>()?;
            Some(IpAddr::V6(Ipv6Addr::from(*octets)))
        }
        (Family::Ipv4 | Family::Ipv6, _) => None,
    }
}

fn mp_unreach(
    found: Found<'_>,
    session: &Negotiated,
) -> Result<Option<(Family, Vec<Prefix>)>, Notification> {
    // RFC 7606 section 7.12.
    let refused = || Notification::new(Fault::OPTIONAL_ATTRIBUTE, found.whole);
    let mut value = found.value;
    let family = afi_safi(&mut value).ok_or_else(refused)?;
    let Some(family) = family.filter(|family| session.has(*family)) else {
        return Ok(None);
    };
    let mut prefixes = Vec::new();
    nlri::decode(value, family, &mut prefixes).ok_or_else(refused)?;
    Ok(Some((family, prefixes)))
}

/// Outer `None`: cut off. Inner `None`: a family we do not know.
fn afi_safi(value: &mut Reader<'_>) -> Option<Option<Family>> {
    let (afi, safi) = (value.u16()?, value.u8()?);
    Some(capability::family(afi, safi))
}
