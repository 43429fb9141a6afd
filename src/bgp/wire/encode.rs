//! Messages as bytes. We send OPEN, KEEPALIVE, NOTIFICATION and ROUTE-REFRESH; UPDATEs are written
//! for the routers of the demo and of tests.

use super::HEADER_BYTES;
use super::KEEPALIVE;
use super::MARKER;
use super::MESSAGE_BYTES_MAX;
use super::NOTIFICATION;
use super::Negotiated;
use super::OPEN;
use super::ROUTE_REFRESH;
use super::Refresh;
use super::UPDATE;
use super::attribute;
use super::attribute::EXTENDED_LENGTH;
use super::attribute::OPTIONAL;
use super::attribute::TRANSITIVE;
use super::capability;
use super::nlri;
use super::nlri::Nlri;
use super::notification::Notification;
use super::open::Open;
use super::path;
use super::values::Aggregator;
use super::values::Origin;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::AsPath;
use crate::route::Asn;
use crate::route::Attributes;
use crate::route::Community;
use std::net::IpAddr;
use std::net::Ipv6Addr;

/// [`super::AS_TRANS`] in two octets.
const AS_TRANS_SHORT: u16 = 23456;

pub fn open(open: &Open<'_>) -> Vec<u8> {
    message(OPEN, |body| open.encode(body))
}

pub fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, |_| {})
}

/// Data that would not fit into the message is cut.
pub fn notification(notification: &Notification) -> Vec<u8> {
    message(NOTIFICATION, |body| {
        body.extend_from_slice(&[notification.fault.0, notification.fault.1]);
        let room = MESSAGE_BYTES_MAX - HEADER_BYTES - 2;
        let data = &notification.data;
        body.extend_from_slice(&data[..data.len().min(room)]);
    })
}

/// Asks a neighbour to send a family's routes again (RFC 2918).
pub fn route_refresh(family: Family) -> Vec<u8> {
    refresh(family, Refresh::Request)
}

/// The beginning and the end of what a request brought (RFC 7313).
pub fn refresh(family: Family, subtype: Refresh) -> Vec<u8> {
    let [high, low] = capability::afi(family).to_be_bytes();
    message(ROUTE_REFRESH, |body| {
        body.extend_from_slice(&[high, low, subtype.into(), capability::UNICAST]);
    })
}

/// What an announcement says; the counterpart of [`super::Attributes`].
#[derive(Clone, Copy, Debug)]
pub struct Announcement<'a> {
    pub origin: Origin,
    pub as_path: &'a AsPath,
    pub next_hop: IpAddr,
    pub link_local: Option<Ipv6Addr>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub atomic_aggregate: bool,
    pub aggregator: Option<Aggregator>,
    pub communities: &'a [Community],
    pub extended_communities: &'a [[u8; 8]],
    pub large_communities: &'a [[u8; 12]],
    pub only_to_customer: Option<Asn>,
}

impl<'a> From<&'a Attributes> for Announcement<'a> {
    fn from(attributes: &'a Attributes) -> Self {
        Self {
            origin: Origin::Igp,
            as_path: &attributes.as_path,
            next_hop: attributes.next_hop,
            link_local: None,
            med: attributes.med,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: &attributes.communities,
            extended_communities: &[],
            large_communities: &[],
            only_to_customer: None,
        }
    }
}

/// [`announce_on`] a session without extensions.
pub fn announce(
    attributes: &Attributes,
    prefixes: &[Prefix],
    four_octets: bool,
) -> Option<Vec<Vec<u8>>> {
    let routes: Vec<Nlri> = prefixes.iter().copied().map(Nlri::from).collect();
    let session = Negotiated {
        four_octets,
        ..Negotiated::default()
    };
    announce_on(&session, &attributes.into(), &routes)
}

/// UPDATEs that announce `routes` as the session wants them, as many as are needed. `None`: routes
/// of two families, or a next hop of a family that theirs may not have, or attributes that leave
/// no room.
pub fn announce_on(
    session: &Negotiated,
    announcement: &Announcement<'_>,
    routes: &[Nlri],
) -> Option<Vec<Vec<u8>>> {
    let Some(first) = routes.first() else {
        return Some(Vec::new());
    };
    let family = first.prefix.family();
    let mut hop = Vec::new();
    match (family, announcement.next_hop) {
        (Family::Ipv4, IpAddr::V4(next_hop)) => hop.extend_from_slice(&next_hop.octets()),
        (Family::Ipv4, IpAddr::V6(_)) if !session.extended_next_hop => return None,
        (Family::Ipv6, IpAddr::V4(_)) => return None,
        (Family::Ipv4 | Family::Ipv6, IpAddr::V6(next_hop)) => {
            hop.extend_from_slice(&next_hop.octets());
            hop.extend(
                announcement
                    .link_local
                    .into_iter()
                    .flat_map(|local| local.octets()),
            );
        }
    }
    let shared = shared_attributes(announcement, session.four_octets);
    // Lengths of both fields, and the head of MP_REACH_NLRI with its next hop.
    let overhead = HEADER_BYTES + 4 + shared.len() + 4 + 5 + hop.len();
    let room = session.message_bytes_max().checked_sub(overhead)?;
    let add_path = session.add_path(family);
    let messages = batches(routes, family, add_path, room)?.map(|batch| {
        let mut list = shared.clone();
        if hop.len() == 4 {
            attribute(TRANSITIVE, attribute::NEXT_HOP, &hop, &mut list);
            return update(&[], &list, &encoded(batch, add_path));
        }
        let [high, low] = capability::afi(family).to_be_bytes();
        let length = u8::try_from(hop.len()).unwrap_or(0);
        let mut value = vec![high, low, capability::UNICAST, length];
        value.extend_from_slice(&hop);
        value.push(0);
        value.extend_from_slice(&encoded(batch, add_path));
        attribute(OPTIONAL, attribute::MP_REACH, &value, &mut list);
        update(&[], &list, &[])
    });
    Some(messages.collect())
}

/// [`withdraw_on`] a session without extensions.
pub fn withdraw(prefixes: &[Prefix]) -> Option<Vec<Vec<u8>>> {
    let routes: Vec<Nlri> = prefixes.iter().copied().map(Nlri::from).collect();
    withdraw_on(&Negotiated::default(), &routes)
}

/// UPDATEs that withdraw `routes`, all of one family.
pub fn withdraw_on(session: &Negotiated, routes: &[Nlri]) -> Option<Vec<Vec<u8>>> {
    let Some(first) = routes.first() else {
        return Some(Vec::new());
    };
    let family = first.prefix.family();
    let room = session.message_bytes_max() - HEADER_BYTES - 4 - 7;
    let add_path = session.add_path(family);
    let messages = batches(routes, family, add_path, room)?.map(|batch| match family {
        Family::Ipv4 => update(&encoded(batch, add_path), &[], &[]),
        Family::Ipv6 => {
            let mut value = vec![0, 2, capability::UNICAST];
            value.extend_from_slice(&encoded(batch, add_path));
            let mut list = Vec::new();
            attribute(OPTIONAL, attribute::MP_UNREACH, &value, &mut list);
            update(&[], &list, &[])
        }
    });
    Some(messages.collect())
}

/// RFC 4724 section 2.
pub fn end_of_rib(family: Family) -> Vec<u8> {
    match family {
        Family::Ipv4 => update(&[], &[], &[]),
        Family::Ipv6 => {
            let mut list = Vec::new();
            let value = [0, 2, capability::UNICAST];
            attribute(OPTIONAL, attribute::MP_UNREACH, &value, &mut list);
            update(&[], &list, &[])
        }
    }
}

/// Everything but the next hop, by the numbers of the types (RFC 4271 section 5).
fn shared_attributes(said: &Announcement<'_>, four_octets: bool) -> Vec<u8> {
    const BOTH: u8 = OPTIONAL | TRANSITIVE;
    let mut list = Vec::new();
    let mut path = Vec::new();
    path::encode(said.as_path, four_octets, &mut path);
    attribute(
        TRANSITIVE,
        attribute::ORIGIN,
        &[said.origin.code()],
        &mut list,
    );
    attribute(TRANSITIVE, attribute::AS_PATH, &path, &mut list);
    if let Some(med) = said.med {
        attribute(OPTIONAL, attribute::MED, &med.to_be_bytes(), &mut list);
    }
    if let Some(preference) = said.local_pref {
        let value = preference.to_be_bytes();
        attribute(TRANSITIVE, attribute::LOCAL_PREF, &value, &mut list);
    }
    if said.atomic_aggregate {
        attribute(TRANSITIVE, attribute::ATOMIC_AGGREGATE, &[], &mut list);
    }
    let aggregator = said.aggregator.map(|by| (by.asn, by.address.octets()));
    if let Some((asn, address)) = aggregator {
        let short = u16::try_from(asn.0).unwrap_or(AS_TRANS_SHORT).to_be_bytes();
        let long = asn.0.to_be_bytes();
        let asn = if four_octets { &long[..] } else { &short[..] };
        attribute(
            BOTH,
            attribute::AGGREGATOR,
            &[asn, &address].concat(),
            &mut list,
        );
    }
    let communities = said.communities.iter().flat_map(|c| c.0.to_be_bytes());
    let communities: Vec<u8> = communities.collect();
    for (kind, value) in [
        (attribute::COMMUNITIES, &communities[..]),
        (
            attribute::EXTENDED_COMMUNITIES,
            said.extended_communities.as_flattened(),
        ),
        (
            attribute::LARGE_COMMUNITIES,
            said.large_communities.as_flattened(),
        ),
    ] {
        if !value.is_empty() {
            attribute(BOTH, kind, value, &mut list);
        }
    }
    if let Some(asn) = said.only_to_customer {
        let value = asn.0.to_be_bytes();
        attribute(BOTH, attribute::ONLY_TO_CUSTOMER, &value, &mut list);
    }
    // RFC 6793 section 4.2.2.
    let is_long = |asn: &Asn| asn.0 > u32::from(u16::MAX);
    if !four_octets && said.as_path.numbers().any(|asn| is_long(&asn)) {
        path.clear();
        path::encode(said.as_path, true, &mut path);
        attribute(BOTH, attribute::AS4_PATH, &path, &mut list);
    }
    if let Some((asn, address)) = aggregator.filter(|(asn, _)| !four_octets && is_long(asn)) {
        let value = [asn.0.to_be_bytes(), address].concat();
        attribute(BOTH, attribute::AS4_AGGREGATOR, &value, &mut list);
    }
    list
}

fn attribute(flags: u8, kind: u8, value: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend_from_slice(&[flags, kind, length]),
        Err(_) => {
            let [high, low] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
            out.extend_from_slice(&[flags | EXTENDED_LENGTH, kind, high, low]);
        }
    }
    out.extend_from_slice(value);
}

/// Slices that each fit into `room` octets.
fn batches(
    routes: &[Nlri],
    family: Family,
    add_path: bool,
    room: usize,
) -> Option<impl Iterator<Item = &[Nlri]>> {
    // The longest prefix must fit, or there would be no progress.
    let is_possible = room >= 21 && routes.iter().all(|route| route.prefix.family() == family);
    let mut rest = routes;
    is_possible.then(|| {
        std::iter::from_fn(move || {
            let mut used = 0;
            let fits = |route: &&Nlri| {
                used += nlri::encoded_bytes(route, add_path);
                used <= room
            };
            let count = rest.iter().take_while(fits).count();
            let (batch, after) = rest.split_at(count);
            rest = after;
            (!batch.is_empty()).then_some(batch)
        })
    })
}

fn encoded(routes: &[Nlri], add_path: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for route in routes {
        nlri::encode(route, add_path, &mut out);
    }
    out
}

fn update(withdrawn: &[u8], attributes: &[u8], reached: &[u8]) -> Vec<u8> {
    message(UPDATE, |body| {
        for field in [withdrawn, attributes] {
            let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(field);
        }
        body.extend_from_slice(reached);
    })
}

fn message(kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&MARKER);
    bytes.extend_from_slice(&[0, 0, kind]);
    write(&mut bytes);
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    bytes[16..18].copy_from_slice(&length.to_be_bytes());
    bytes
}
