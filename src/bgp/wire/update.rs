//! UPDATE (RFC 4271 section 4.3, RFC 4760) with the revised error handling of RFC 7606.

use super::Negotiated;
use super::attribute;
use super::attribute::Collected;
use super::attribute::Found;
use super::capability;
use super::fault::FaultKind;
use super::fault::Faults;
use super::fault::Handling;
use super::fault::Malformed;
use super::nlri::Nlri;
use super::nlri::Prefixes;
use super::notification::Notification;
use super::reader::Reader;
use super::values::Attributes;
use crate::prefix::Family;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// What an UPDATE means, after its errors have been dealt with. Withdrawals come first: a prefix
/// in both lists is announced (RFC 4271 section 4.3). Borrows from the message, allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    attributes: Attributes<'a>,
    withdrawn: [Prefixes<'a>; 2],
    reached: [Option<Reach<'a>>; 2],
    /// A family whose prefixes could not be read: its routes go, and what else comes of it on this
    /// session is to be ignored (RFC 4760 section 7), by clearing it in [`Negotiated`].
    pub disabled: Option<Family>,
    /// Everything of this family has been sent (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    pub faults: Faults,
}

/// Prefixes that share everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach<'a> {
    pub next_hop: IpAddr,
    /// Beside a global IPv6 next hop (RFC 2545 section 3).
    pub link_local: Option<Ipv6Addr>,
    pub prefixes: Prefixes<'a>,
}

impl Default for Update<'_> {
    fn default() -> Self {
        Self {
            attributes: Attributes::default(),
            withdrawn: [Prefixes::NONE; 2],
            reached: [None; 2],
            disabled: None,
            end_of_rib: None,
            faults: Faults::default(),
        }
    }
}

impl<'a> Update<'a> {
    /// `Err` ends the session: the prefixes cannot be found, or the list of attributes is no list.
    pub(super) fn decode(mut body: Reader<'a>, session: &Negotiated) -> Result<Self, Malformed> {
        let mut field = || {
            let length = body.u16()?;
            body.part(length.into())
        };
        let (Some(withdrawn_field), Some(list)) = (field(), field()) else {
            // RFC 7606 section 3 (b).
            return Err(Malformed::update(FaultKind::FieldLengths, &[]));
        };
        let plain = |field| {
            // RFC 7606 sections 3 (i) and 5.3.
            let prefixes = Prefixes::decode(field, Family::Ipv4, session);
            prefixes.ok_or_else(|| Malformed::update(FaultKind::Prefixes, &[]))
        };
        let (withdrawn, reached) = (plain(withdrawn_field)?, plain(body)?);
        let mut all = attribute::collect(list, session)?;
        let mp = MultiProtocol::decode(&mut all, session)?;
        check_mandatory(&mut all, &mp, !reached.is_empty());
        let reaches_any = mp.reaches_any || !reached.is_empty();
        if let Some(first) = all
            .faults
            .withdrawing()
            .filter(|_| all.has_others && !reaches_any)
        {
            // RFC 7606 section 5.2: without prefixes one cannot be sure that they were found.
            return Err(Malformed {
                kind: Some(FaultKind::NothingReachable),
                notification: Notification::from(first.code()),
            });
        }
        let is_empty = withdrawn.is_empty() && reached.is_empty() && !all.has_others;
        let end_of_rib = match (is_empty, &all.mp_unreach) {
            (false, _) => None,
            (true, None) => session.ipv4.then_some(Family::Ipv4),
            (true, Some(_)) => mp.unreached.filter(Prefixes::is_empty).map(|p| p.family()),
        };
        // Read for its form alone where the family is not spoken.
        let kept = |prefixes: Prefixes<'a>| {
            let family = prefixes.family();
            let is_kept = session.has(family) && mp.disabled != Some(family);
            if is_kept { prefixes } else { Prefixes::NONE }
        };
        let plain = Reach {
            // Where there is none, the routes are withdrawn.
            next_hop: all.next_hop.unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
            link_local: None,
            prefixes: kept(reached),
        };
        let kept_reach = |reach: Reach<'a>| Reach {
            prefixes: kept(reach.prefixes),
            ..reach
        };
        Ok(Self {
            attributes: all.values,
            withdrawn: [kept(withdrawn), mp.unreached.map_or(Prefixes::NONE, kept)],
            reached: [Some(plain), mp.reached.map(kept_reach)],
            disabled: mp.disabled,
            end_of_rib,
            faults: all.faults,
        })
    }

    /// What the announced routes share, whole and believable if there are any.
    pub fn attributes(&self) -> &Attributes<'a> {
        &self.attributes
    }

    /// Routes that are no more, those of a treat-as-withdraw too.
    pub fn withdrawn(&self) -> impl Iterator<Item = Nlri> + use<'a> {
        let [plain, mp] = self.withdrawn;
        let is_lost = self.faults.withdraws();
        let reached = self.reached.into_iter().flatten();
        let lost = reached
            .filter(move |_| is_lost)
            .flat_map(|reach| reach.prefixes);
        plain.chain(mp).chain(lost)
    }

    /// At most two: by NEXT_HOP, and by the next hop of MP_REACH_NLRI.
    pub fn announced(&self) -> impl Iterator<Item = Reach<'a>> + use<'a> {
        let is_lost = self.faults.withdraws();
        let reached = self.reached.into_iter().flatten();
        reached.filter(move |reach| !is_lost && !reach.prefixes.is_empty())
    }

    pub fn is_malformed(&self) -> bool {
        !self.faults.is_empty()
    }
}

/// RFC 7606 section 3 (d): a missing mandatory attribute costs the routes. NEXT_HOP is mandatory
/// for the prefixes of the UPDATE's own field alone (RFC 4760 section 3), LOCAL_PREF nowhere: an
/// internal neighbour that leaves it out has no preference.
fn check_mandatory(all: &mut Collected<'_>, mp: &MultiProtocol<'_>, has_plain: bool) {
    let has_any = has_plain || mp.is_present;
    for (attribute, is_needed) in [
        (attribute::ORIGIN, has_any),
        (attribute::AS_PATH, has_any),
        (attribute::NEXT_HOP, has_plain),
    ] {
        // One that is there and broken has been told already.
        if is_needed && !all.has(attribute) {
            all.refused(attribute, FaultKind::MissingMandatory, Handling::Withdraw);
        }
    }
}

/// MP_REACH_NLRI and MP_UNREACH_NLRI, of families that were negotiated: the contents of others
/// cannot be judged (RFC 4760 section 7).
#[derive(Debug, Default)]
struct MultiProtocol<'a> {
    reached: Option<Reach<'a>>,
    unreached: Option<Prefixes<'a>>,
    disabled: Option<Family>,
    /// MP_REACH_NLRI, of whatever family.
    is_present: bool,
    /// And it has prefixes, as far as one can tell.
    reaches_any: bool,
}

impl<'a> MultiProtocol<'a> {
    fn decode(all: &mut Collected<'a>, session: &Negotiated) -> Result<Self, Malformed> {
        let mut mp = Self::default();
        if let Some(found) = all.mp_unreach {
            match unreach(found, session) {
                Ok(prefixes) => mp.unreached = prefixes,
                Err(broken) => {
                    mp.disable(all, session, found, broken, FaultKind::MpUnreach)?;
                }
            }
        }
        if let Some(found) = all.mp_reach {
            mp.is_present = true;
            match reach(found, session) {
                Ok(Outside { has_prefixes }) => mp.reaches_any = has_prefixes,
                Ok(Inside(reach)) => {
                    mp.reaches_any = !reach.prefixes.is_empty();
                    mp.reached = Some(reach);
                }
                Err(broken) => {
                    mp.reaches_any = true;
                    mp.disable(all, session, found, broken, FaultKind::MpReach)?;
                }
            }
        }
        Ok(mp)
    }

    /// RFC 7606 section 3 (j): prefixes that cannot be read cannot be withdrawn either. Its family
    /// is given up where that is known and another one is left; otherwise the session.
    fn disable(
        &mut self,
        all: &mut Collected<'_>,
        session: &Negotiated,
        found: Found<'_>,
        Broken(family): Broken,
        kind: FaultKind,
    ) -> Result<(), Malformed> {
        let is_alone = !(session.ipv4 && session.ipv6);
        let before = self.disabled;
        match family {
            Some(family) if !is_alone && before.is_none_or(|before| before == family) => {
                self.disabled = Some(family);
                all.refused(found.kind(), kind, Handling::Disable);
                Ok(())
            }
            Some(_) | None => Err(Malformed::update(kind, found.whole)),
        }
    }
}

/// An MP attribute that cannot be read, and its family if at least that could be.
#[derive(Debug)]
struct Broken(Option<Family>);

enum ReachField<'a> {
    Inside(Reach<'a>),
    Outside { has_prefixes: bool },
}

use ReachField::Inside;
use ReachField::Outside;

fn reach<'a>(found: Found<'a>, session: &Negotiated) -> Result<ReachField<'a>, Broken> {
    let mut value = found.value;
    // RFC 7606 section 5.3: five octets at least; of them three name the family.
    let family = afi_safi(&mut value).ok_or(Broken(None))?;
    let Some(family) = family.filter(|family| session.has(*family)) else {
        let has_prefixes = next_hop_field(&mut value).is_some() && !value.is_empty();
        return Ok(Outside { has_prefixes });
    };
    let broken = || Broken(Some(family));
    check_flags(found).ok_or_else(broken)?;
    // RFC 7606 section 7.11: the prefixes come after the next hop, and nobody knows where.
    let hop = next_hop_field(&mut value).ok_or_else(broken)?;
    let (next_hop, link_local) = next_hop(family, hop, session).ok_or_else(broken)?;
    // RFC 7606 section 5.3.
    let prefixes = Prefixes::decode(value, family, session).ok_or_else(broken)?;
    Ok(Inside(Reach {
        next_hop,
        link_local,
        prefixes,
    }))
}

fn unreach<'a>(found: Found<'a>, session: &Negotiated) -> Result<Option<Prefixes<'a>>, Broken> {
    let mut value = found.value;
    // RFC 7606 section 5.3: three octets at least.
    let family = afi_safi(&mut value).ok_or(Broken(None))?;
    let Some(family) = family.filter(|family| session.has(*family)) else {
        return Ok(None);
    };
    let broken = || Broken(Some(family));
    check_flags(found).ok_or_else(broken)?;
    // RFC 7606 sections 5.3 and 7.12.
    let prefixes = Prefixes::decode(value, family, session).ok_or_else(broken)?;
    Ok(Some(prefixes))
}

/// RFC 7606 section 5.3: unlike others, an MP attribute with the wrong flags is no MP attribute.
fn check_flags(found: Found<'_>) -> Option<()> {
    let flags = found.flags & (attribute::OPTIONAL | attribute::TRANSITIVE);
    (flags == attribute::OPTIONAL).then_some(())
}

/// The next hop and the reserved octet behind it.
fn next_hop_field<'a>(value: &mut Reader<'a>) -> Option<Reader<'a>> {
    let length = value.u8()?;
    let hop = value.part(length.into())?;
    let _reserved = value.u8()?;
    Some(hop)
}

/// Of the family's own kind, or IPv6 for IPv4 where that was negotiated (RFC 8950 section 3).
fn next_hop(
    family: Family,
    mut field: Reader<'_>,
    session: &Negotiated,
) -> Option<(IpAddr, Option<Ipv6Addr>)> {
    match (family, field.len()) {
        (Family::Ipv4, 4) => field.ipv4().map(|hop| (hop.into(), None)),
        (Family::Ipv4, 16 | 32) if !session.extended_next_hop => None,
        (Family::Ipv4 | Family::Ipv6, 16 | 32) => {
            let global = field.ipv6()?;
            Some((global.into(), field.ipv6()))
        }
        (Family::Ipv4 | Family::Ipv6, _) => None,
    }
}

/// Outer `None`: cut off. Inner `None`: a family we do not know.
fn afi_safi(value: &mut Reader<'_>) -> Option<Option<Family>> {
    let (afi, safi) = (value.u16()?, value.u8()?);
    Some(capability::family(afi, safi))
}
