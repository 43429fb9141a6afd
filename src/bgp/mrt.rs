//! MRT records (RFC 6396): a table as `TABLE_DUMP_V2`, messages as `BGP4MP_ET`.
//!
//! Sans-IO; what support asks for. Read back with `bgpdump` and its like. A table comes in chunks,
//! from one immutable snapshot, so that a million routes need no second copy.

use super::NeighbourView;
use super::Snapshot;
use crate::clock::Wall;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Asn;
use crate::route::Attributes;
use crate::route::Route;
use crate::route::Segment;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

const TABLE_DUMP_V2: u16 = 13;
const PEER_INDEX_TABLE: u16 = 1;
const RIB_IPV4_UNICAST: u16 = 2;
const RIB_IPV6_UNICAST: u16 = 4;

const BGP4MP_ET: u16 = 17;
const MESSAGE: u16 = 1;
const MESSAGE_AS4: u16 = 4;
const STATE_CHANGE_AS4: u16 = 5;
/// What the box itself sent.
const MESSAGE_LOCAL: u16 = 6;
const MESSAGE_AS4_LOCAL: u16 = 7;

/// States of RFC 6396 section 4.4.1.
pub(super) const IDLE: u16 = 1;
pub(super) const OPEN_CONFIRM: u16 = 5;
pub(super) const ESTABLISHED: u16 = 6;

/// A chunk is begun anew beyond this.
const CHUNK_BYTES: usize = 64 * 1024;

/// Stands for the two-octet form of an AS that has none (RFC 6793).
const AS_TRANS: u16 = 23456;

/// Segments of an AS path count their numbers in one octet.
const SEGMENT_NUMBERS_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Sent,
    Received,
}

/// Both ends of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) neighbour: (Asn, IpAddr),
    pub(super) own: (Asn, Option<IpAddr>),
    pub(super) four_octets: bool,
}

/// All routes of one snapshot, as chunks of whole records.
#[derive(Debug)]
pub struct TableDump {
    snapshot: Arc<Snapshot>,
    at: Wall,
    own_id: Ipv4Addr,
    /// In the order of the snapshot's neighbours; unspecified where it is not known.
    ids: Vec<Ipv4Addr>,
    /// The index of peers comes first.
    is_begun: bool,
    /// What is written, up to this prefix.
    done: Option<Prefix>,
    sequence: u32,
}

impl TableDump {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        own_id: Ipv4Addr,
        ids: Vec<Ipv4Addr>,
        at: Wall,
    ) -> Self {
        Self {
            snapshot,
            at,
            own_id,
            ids,
            is_begun: false,
            done: None,
            sequence: 0,
        }
    }

    fn index(&self) -> Vec<u8> {
        let neighbours = &self.snapshot.neighbours;
        let mut body = self.own_id.octets().to_vec();
        put_u16(&mut body, 0);
        put_u16(&mut body, count(neighbours.len()));
        let unknown = Ipv4Addr::UNSPECIFIED;
        let ids = self.ids.iter().copied().chain(std::iter::repeat(unknown));
        for (NeighbourView { address, asn, .. }, id) in neighbours.iter().zip(ids) {
            // Bit 0: an IPv6 address; bit 1: four octets of AS number.
            body.push(2 | u8::from(address.is_ipv6()));
            body.extend_from_slice(&id.octets());
            put_address(&mut body, *address);
            body.extend_from_slice(&asn.0.to_be_bytes());
        }
        record(self.at, TABLE_DUMP_V2, PEER_INDEX_TABLE, &body)
    }

    /// One prefix with everybody who announces it.
    fn entry(&mut self, routes: &[Route]) -> Vec<u8> {
        let Some(first) = routes.first() else {
            return Vec::new();
        };
        let mut body = self.sequence.to_be_bytes().to_vec();
        self.sequence = self.sequence.wrapping_add(1);
        put_prefix(&mut body, &first.prefix);
        put_u16(&mut body, count(routes.len()));
        for route in routes {
            let named = |view: &NeighbourView| *view.name == *route.neighbour;
            let peer = self.snapshot.neighbours.iter().position(named);
            put_u16(&mut body, count(peer.unwrap_or(0)));
            // When a route was heard first is not kept; the dump's own time stands for it.
            put_u32(&mut body, seconds(self.at));
            let attributes = attributes(&route.attributes, first.prefix.family());
            put_u16(&mut body, count(attributes.len()));
            body.extend_from_slice(&attributes);
        }
        let subtype = match first.prefix.family() {
            Family::Ipv4 => RIB_IPV4_UNICAST,
            Family::Ipv6 => RIB_IPV6_UNICAST,
        };
        record(self.at, TABLE_DUMP_V2, subtype, &body)
    }
}

impl Iterator for TableDump {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if !self.is_begun {
            self.is_begun = true;
            return Some(self.index());
        }
        let (snapshot, done) = (Arc::clone(&self.snapshot), self.done);
        let rest = match done {
            Some(done) => snapshot.routes.iter_from(&done),
            None => snapshot.routes.iter(),
        };
        let rest = rest.skip_while(|seen| Some(seen.prefix) == done);
        let (mut rest, mut chunk) = (rest.peekable(), Vec::new());
        while chunk.len() < CHUNK_BYTES
            && let Some(first) = rest.next()
        {
            let mut routes = vec![first.route()];
            while let Some(other) = rest.next_if(|seen| seen.prefix == first.prefix) {
                routes.push(other.route());
            }
            chunk.extend_from_slice(&self.entry(&routes));
            self.done = Some(first.prefix);
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// A message as it was on the wire.
pub(super) fn message(at: Wall, session: &Session, direction: Direction, bytes: &[u8]) -> Vec<u8> {
    let subtype = match (session.four_octets, direction) {
        (true, Direction::Received) => MESSAGE_AS4,
        (true, Direction::Sent) => MESSAGE_AS4_LOCAL,
        (false, Direction::Received) => MESSAGE,
        (false, Direction::Sent) => MESSAGE_LOCAL,
    };
    let mut body = head(at, session, session.four_octets);
    body.extend_from_slice(bytes);
    record(at, BGP4MP_ET, subtype, &body)
}

/// A session that came up or went down.
pub(super) fn state_change(at: Wall, session: &Session, from: u16, to: u16) -> Vec<u8> {
    let mut body = head(at, session, true);
    put_u16(&mut body, from);
    put_u16(&mut body, to);
    record(at, BGP4MP_ET, STATE_CHANGE_AS4, &body)
}

/// Microseconds of the extended timestamp, then the ends. An unknown own address is all zeros, of
/// the neighbour's family.
fn head(at: Wall, session: &Session, four_octets: bool) -> Vec<u8> {
    let micros = at.subsec_nanosecond().unsigned_abs() / 1_000;
    let mut body = micros.to_be_bytes().to_vec();
    let ((theirs, address), (ours, local)) = (session.neighbour, session.own);
    for asn in [theirs, ours] {
        if four_octets {
            put_u32(&mut body, asn.0);
        } else {
            put_u16(&mut body, u16::try_from(asn.0).unwrap_or(AS_TRANS));
        }
    }
    // The interface is not told.
    put_u16(&mut body, 0);
    put_u16(&mut body, if address.is_ipv6() { 2 } else { 1 });
    put_address(&mut body, address);
    let same = local.filter(|local| local.is_ipv6() == address.is_ipv6());
    match (same, address) {
        (Some(local), _) => put_address(&mut body, local),
        (None, IpAddr::V4(_)) => body.extend_from_slice(&[0; 4]),
        (None, IpAddr::V6(_)) => body.extend_from_slice(&[0; 16]),
    }
    body
}

/// Path attributes in the form of RFC 6396 section 4.3.4: numbers of four octets, and of
/// MP_REACH_NLRI the next hop alone.
fn attributes(attributes: &Attributes, family: Family) -> Vec<u8> {
    let mut list = Vec::new();
    attribute(0x40, 1, &[attributes.origin as u8], &mut list);
    let mut path = Vec::new();
    for segment in &attributes.as_path.0 {
        let (kind, numbers) = match segment {
            Segment::Set(numbers) => (1, numbers),
            Segment::Sequence(numbers) => (2, numbers),
        };
        for part in numbers.chunks(SEGMENT_NUMBERS_MAX) {
            path.extend_from_slice(&[kind, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            path.extend(part.iter().flat_map(|asn| asn.0.to_be_bytes()));
        }
    }
    attribute(0x40, 2, &path, &mut list);
    match (family, attributes.next_hop) {
        (Family::Ipv4, IpAddr::V4(hop)) => attribute(0x40, 3, &hop.octets(), &mut list),
        (Family::Ipv4 | Family::Ipv6, hop) => {
            let mut value = vec![if hop.is_ipv6() { 16 } else { 4 }];
            put_address(&mut value, hop);
            attribute(0x80, 14, &value, &mut list);
        }
    }
    if let Some(med) = attributes.med {
        attribute(0x80, 4, &med.to_be_bytes(), &mut list);
    }
    if let Some(local_pref) = attributes.local_pref {
        attribute(0x40, 5, &local_pref.to_be_bytes(), &mut list);
    }
    if attributes.atomic_aggregate {
        attribute(0x40, 6, &[], &mut list);
    }
    if let Some(aggregator) = attributes.aggregator {
        let octets = [aggregator.asn.0.to_be_bytes(), aggregator.address.octets()];
        attribute(0xc0, 7, octets.as_flattened(), &mut list);
    }
    let plain = attributes.communities.iter().map(|one| one.0.to_be_bytes());
    let extended = attributes.extended_communities.iter();
    let large = attributes.large_communities.iter();
    let large = large.flat_map(|one| one.0.map(u32::to_be_bytes));
    for (kind, octets) in [
        (8, plain.flatten().collect::<Vec<u8>>()),
        (16, extended.flat_map(|one| one.0.to_be_bytes()).collect()),
        (32, large.flatten().collect()),
    ] {
        if !octets.is_empty() {
            attribute(0xc0, kind, &octets, &mut list);
        }
    }
    if let Some(otc) = attributes.otc {
        attribute(0xc0, 35, &otc.0.to_be_bytes(), &mut list);
    }
    list
}

fn attribute(flags: u8, kind: u8, value: &[u8], out: &mut Vec<u8>) {
    // Extended length, so that one form does for all.
    out.extend_from_slice(&[flags | 0x10, kind]);
    put_u16(out, count(value.len()));
    out.extend_from_slice(value);
}

fn record(at: Wall, kind: u16, subtype: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + body.len());
    put_u32(&mut out, seconds(at));
    put_u16(&mut out, kind);
    put_u16(&mut out, subtype);
    put_u32(&mut out, u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(body);
    out
}

fn put_prefix(out: &mut Vec<u8>, prefix: &Prefix) {
    out.push(prefix.length());
    let bytes = usize::from(prefix.length().div_ceil(8));
    out.extend_from_slice(&prefix.bits().to_be_bytes()[..bytes]);
}

fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Counts of this file are bounded far below: neighbours by the configuration, attributes by the
/// length of a message.
fn count(items: usize) -> u16 {
    u16::try_from(items).unwrap_or(u16::MAX)
}

/// Seconds since the epoch as MRT has them: until 2106.
fn seconds(at: Wall) -> u32 {
    u32::try_from(at.as_second()).unwrap_or(0)
}
