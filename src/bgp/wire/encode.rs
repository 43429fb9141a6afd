//! Messages as bytes. We send OPEN, KEEPALIVE, NOTIFICATION and ROUTE-REFRESH; UPDATEs are written
//! for the routers of the demo and of tests.

use super::HEADER_BYTES;
use super::KEEPALIVE;
use super::MARKER;
use super::MESSAGE_BYTES_MAX;
use super::NOTIFICATION;
use super::OPEN;
use super::ROUTE_REFRESH;
use super::UPDATE;
use super::capability;
use super::nlri;
use super::notification::Notification;
use super::open::Open;
use super::path;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Asn;
use crate::route::Attributes;
use std::net::IpAddr;

pub fn open(open: &Open) -> Vec<u8> {
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
    let [high, low] = capability::afi(family).to_be_bytes();
    message(ROUTE_REFRESH, |body| {
        body.extend_from_slice(&[high, low, 0, capability::UNICAST]);
    })
}

/// UPDATEs that announce `prefixes`, as many as are needed. `None`: prefixes of two families, or a
/// next hop of another family than theirs, or attributes that leave no room.
pub fn announce(
    attributes: &Attributes,
    prefixes: &[Prefix],
    four_octets: bool,
) -> Option<Vec<Vec<u8>>> {
    let Some(first) = prefixes.first() else {
        return Some(Vec::new());
    };
    let family = first.family();
    if Family::of(attributes.next_hop) != family {
        return None;
    }
    let shared = shared_attributes(attributes, four_octets);
    // Lengths of both fields, and the head of MP_REACH_NLRI with its next hop.
    let overhead = HEADER_BYTES + 4 + shared.len() + 4 + 21;
    let room = MESSAGE_BYTES_MAX.checked_sub(overhead)?;
    let messages = batches(prefixes, family, room)?.map(|batch| {
        let mut list = shared.clone();
        match attributes.next_hop {
            IpAddr::V4(next_hop) => {
                attribute(0x40, 3, &next_hop.octets(), &mut list);
                update(&[], &list, batch)
            }
            IpAddr::V6(next_hop) => {
                let mut value = vec![0, 2, capability::UNICAST, 16];
                value.extend_from_slice(&next_hop.octets());
                value.push(0);
                value.extend_from_slice(&encoded(batch));
                attribute(0x80, 14, &value, &mut list);
                update(&[], &list, &[])
            }
        }
    });
    Some(messages.collect())
}

/// UPDATEs that withdraw `prefixes`, all of one family.
pub fn withdraw(prefixes: &[Prefix]) -> Option<Vec<Vec<u8>>> {
    let Some(first) = prefixes.first() else {
        return Some(Vec::new());
    };
    let family = first.family();
    let room = MESSAGE_BYTES_MAX - HEADER_BYTES - 4 - 7;
    let messages = batches(prefixes, family, room)?.map(|batch| match family {
        Family::Ipv4 => update(batch, &[], &[]),
        Family::Ipv6 => {
            let mut value = vec![0, 2, capability::UNICAST];
            value.extend_from_slice(&encoded(batch));
            let mut list = Vec::new();
            attribute(0x80, 15, &value, &mut list);
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
            attribute(0x80, 15, &[0, 2, capability::UNICAST], &mut list);
            update(&[], &list, &[])
        }
    }
}

/// Everything but the next hop.
fn shared_attributes(attributes: &Attributes, four_octets: bool) -> Vec<u8> {
    let mut list = Vec::new();
    let mut value = Vec::new();
    attribute(0x40, 1, &[0], &mut list);
    path::encode(&attributes.as_path, four_octets, &mut value);
    attribute(0x40, 2, &value, &mut list);
    if let Some(med) = attributes.med {
        attribute(0x80, 4, &med.to_be_bytes(), &mut list);
    }
    if !attributes.communities.is_empty() {
        let octets = attributes
            .communities
            .iter()
            .flat_map(|c| c.0.to_be_bytes());
        let value: Vec<u8> = octets.collect();
        attribute(0xc0, 8, &value, &mut list);
    }
    let is_long = |asn: Asn| asn.0 > u32::from(u16::MAX);
    if !four_octets && attributes.as_path.numbers().any(is_long) {
        value.clear();
        path::encode(&attributes.as_path, true, &mut value);
        attribute(0xc0, 17, &value, &mut list);
    }
    list
}

fn attribute(flags: u8, kind: u8, value: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend_from_slice(&[flags, kind, length]),
        Err(_) => {
            let [high, low] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
            out.extend_from_slice(&[flags | 0x10, kind, high, low]);
        }
    }
    out.extend_from_slice(value);
}

/// Slices that each fit into `room` octets.
fn batches(
    prefixes: &[Prefix],
    family: Family,
    room: usize,
) -> Option<impl Iterator<Item = &[Prefix]>> {
    // The longest prefix must fit, or there would be no progress.
    let is_possible = room >= 17 && prefixes.iter().all(|prefix| prefix.family() == family);
    let mut rest = prefixes;
    is_possible.then(|| {
        std::iter::from_fn(move || {
            let mut used = 0;
            let fits = |prefix: &&Prefix| {
                used += nlri::encoded_bytes(prefix);
                used <= room
            };
            let count = rest.iter().take_while(fits).count();
            let (batch, after) = rest.split_at(count);
            rest = after;
            (!batch.is_empty()).then_some(batch)
        })
    })
}

fn encoded(prefixes: &[Prefix]) -> Vec<u8> {
    let mut out = Vec::new();
    for prefix in prefixes {
        nlri::encode(prefix, &mut out);
    }
    out
}

fn update(withdrawn: &[Prefix], attributes: &[u8], reached: &[Prefix]) -> Vec<u8> {
    message(UPDATE, |body| {
        for field in [&encoded(withdrawn)[..], attributes] {
            let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(field);
        }
        body.extend_from_slice(&encoded(reached));
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
