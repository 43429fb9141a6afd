//! Good messages of every kind of session, and what becomes of them when a few octets change: with
//! lengths kept right, so that errors lie deep, and with lengths wrong.
//!
//! `OCA_BGP_MUTANTS=10000000 cargo test --release --test bgp mutants -- --nocapture` tries that
//! many, and tells the slowest, the memory and the panics.

use super::check;
use super::corpus;
use oca::bgp::wire;
use oca::bgp::wire::Aggregator;
use oca::bgp::wire::Announcement;
use oca::bgp::wire::Negotiated;
use oca::bgp::wire::Nlri;
use oca::bgp::wire::Origin;
use oca::clock;
use oca::prefix::Family;
use oca::prefix::Prefix;
use oca::route::AsPath;
use oca::route::Asn;
use oca::route::Community;
use oca::route::Segment;
use oca::sys::allocations::CountingAllocator;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;

/// Tried by every run of the tests.
const TRIED: u64 = 30_000;

/// No message may take longer: keepalives wait meanwhile.
const SLOWEST: Duration = Duration::from_millis(20);

/// A message has 64 KiB at most, and a table of what it says stays near that.
const HELD_BYTES_MAX: u64 = 4 << 20;

/// Octets that lengths, types and flags like to be.
const TELLING: [u8; 16] = [0, 1, 2, 3, 4, 5, 8, 14, 15, 16, 32, 33, 64, 128, 129, 255];

/// Messages of one session.
pub(crate) struct Mutants {
    pub(crate) session: Negotiated,
    random: fastrand::Rng,
    seeds: Vec<Vec<u8>>,
}

fn asn(random: &mut fastrand::Rng) -> Asn {
    match random.u8(..3) {
        0 => Asn(random.u32(131_073..4_000_000)),
        _ => Asn(random.u32(1..23_456)),
    }
}

fn path(random: &mut fastrand::Rng) -> AsPath {
    let mut numbers = |count: usize| (0..count).map(|_| asn(random)).collect::<Vec<Asn>>();
    let front = Segment::Sequence(numbers(3));
    let back = match numbers(1)[0].0 % 8 {
        0 => Segment::Set(numbers(2)),
        count => Segment::Sequence(numbers(count as usize)),
    };
    match (front, back) {
        (Segment::Sequence(front), Segment::Sequence(back)) => {
            AsPath(vec![Segment::Sequence([front, back].concat())])
        }
        (front, back) => AsPath(vec![front, back]),
    }
}

fn route(random: &mut fastrand::Rng, family: Family, session: &Negotiated) -> Nlri {
    let prefix = match family {
        Family::Ipv4 => {
            let address = Ipv4Addr::from(random.u32(0x0100_0000..0xdfff_ffff));
            Prefix::new(address.into(), random.u8(8..=32))
        }
        Family::Ipv6 => {
            let address = Ipv6Addr::from(0x2000 << 112 | random.u128(..1 << 125));
            Prefix::new(address.into(), random.u8(19..=64))
        }
    };
    let path_id = if session.add_path(family) {
        random.u32(..)
    } else {
        0
    };
    Nlri {
        prefix: prefix.unwrap(),
        path_id,
    }
}

/// UPDATEs that announce and withdraw up to nine routes of `family`.
fn updates(random: &mut fastrand::Rng, session: &Negotiated, family: Family) -> Vec<Vec<u8>> {
    let count = random.usize(1..10);
    let routes: Vec<Nlri> = (0..count).map(|_| route(random, family, session)).collect();
    let path = path(random);
    let communities: Vec<Community> = (0..random.u32(..4))
        .map(|n| Community(n << 16 | 7))
        .collect();
    let maybe = |random: &mut fastrand::Rng, value: u32| random.bool().then_some(value);
    let next_hop: IpAddr = match family {
        Family::Ipv4 if !session.extended_next_hop => Ipv4Addr::new(198, 51, 100, 1).into(),
        Family::Ipv4 | Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let aggregator = Aggregator {
        asn: asn(random),
        address: Ipv4Addr::new(192, 0, 2, 77),
    };
    let announcement = Announcement {
        origin: [Origin::Igp, Origin::Egp, Origin::Incomplete][random.usize(..3)],
        as_path: &path,
        next_hop,
        link_local: None,
        med: maybe(random, 50),
        local_pref: maybe(random, 100).filter(|_| !session.external),
        atomic_aggregate: random.bool(),
        aggregator: random.bool().then_some(aggregator),
        communities: &communities,
        extended_communities: &[[0, 2, 0xfb, 0xf4, 0, 0, 0, 1]][..random.usize(..2)],
        large_communities: &[[0, 0, 0xfb, 0xf4, 0, 0, 0, 1, 0, 0, 0, 2]][..random.usize(..2)],
        only_to_customer: maybe(random, 64500).map(Asn),
    };
    let mut all = wire::announce_on(session, &announcement, &routes).unwrap();
    all.extend(wire::withdraw_on(session, &routes).unwrap());
    all
}

impl Mutants {
    pub(crate) fn new(session: Negotiated, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let families = [Family::Ipv4, Family::Ipv6];
        let mut seeds = Vec::new();
        for _ in 0..20 {
            for family in families.into_iter().filter(|family| session.has(*family)) {
                seeds.extend(updates(&mut random, &session, family));
            }
        }
        seeds.extend(families.map(wire::end_of_rib));
        Self {
            session,
            random,
            seeds,
        }
    }

    pub(crate) fn good(&self) -> &[Vec<u8>] {
        &self.seeds
    }

    /// With what is no UPDATE too.
    fn with_corpus(mut self) -> Self {
        self.seeds
            .extend(corpus::TABLE.iter().map(|(name, _)| corpus::file(name)));
        self
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let at = self.random.usize(..self.seeds.len());
        let mut bytes = self.seeds[at].clone();
        let is_update = bytes.get(18) == Some(&2);
        if let Some(parts) = parts(&bytes).filter(|_| is_update && self.random.u8(..4) > 0) {
            bytes = self.change_parts(parts);
        }
        if self.random.u8(..3) == 0 {
            for _ in 0..self.random.usize(1..4) {
                self.change(&mut bytes, wire::HEADER_BYTES);
            }
            let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            if let Some(field) = bytes.get_mut(16..18) {
                field.copy_from_slice(&length.to_be_bytes());
            }
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, from: usize) {
        if bytes.len() <= from {
            return;
        }
        let random = &mut self.random;
        let at = random.usize(from..bytes.len());
        let to = (at + random.usize(1..12)).min(bytes.len());
        match random.u8(..6) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = TELLING[random.usize(..TELLING.len())],
            2 => bytes[at] = random.u8(..),
            3 => drop(bytes.drain(at..to)),
            4 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.insert(at, random.u8(..)),
        }
    }

    /// Changes fields and attributes, and joins them with lengths that fit.
    fn change_parts(&mut self, mut parts: Parts) -> Vec<u8> {
        let count = parts.attributes.len();
        let donor = self.random.usize(..self.seeds.len());
        let donor = self::parts(&self.seeds[donor]);
        for _ in 0..self.random.usize(1..3) {
            let at = self.random.usize(..count.max(1));
            match (self.random.u8(..8), parts.attributes.get_mut(at)) {
                (0, _) => self.change(&mut parts.withdrawn, 0),
                (1, _) => self.change(&mut parts.reached, 0),
                (2, Some(_)) => drop(parts.attributes.remove(at)),
                (3, Some(attribute)) => {
                    let copy = attribute.clone();
                    parts.attributes.push(copy);
                }
                (4, _) => parts
                    .attributes
                    .extend(donor.iter().flat_map(|d| d.attributes.clone())),
                (5, Some(attribute)) => self.change(attribute, 0),
                (_, Some(attribute)) => {
                    // The value changes and its length with it.
                    self.change(attribute, 3);
                    let length = u8::try_from(attribute.len().saturating_sub(3)).unwrap_or(0);
                    if let Some(field) = attribute.get_mut(2) {
                        *field = length;
                    }
                }
                (_, None) => {}
            }
        }
        let list = parts.attributes.concat();
        let mut body = Vec::new();
        for field in [&parts.withdrawn, &list] {
            let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(field);
        }
        body.extend_from_slice(&parts.reached);
        check::framed(2, &body)
    }
}

/// The fields of an UPDATE, cut at its own lengths.
pub(crate) struct Parts {
    withdrawn: Vec<u8>,
    pub(crate) attributes: Vec<Vec<u8>>,
    reached: Vec<u8>,
}

/// `None`: not all lengths fit.
pub(crate) fn parts(bytes: &[u8]) -> Option<Parts> {
    fn field<'a>(rest: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
        let (head, after) = rest.split_at_checked(width)?;
        let length = head
            .iter()
            .fold(0, |length, octet| length << 8 | usize::from(*octet));
        let (field, after) = after.split_at_checked(length)?;
        *rest = after;
        Some(field)
    }
    let mut rest = bytes.get(wire::HEADER_BYTES..)?;
    let withdrawn = field(&mut rest, 2)?.to_vec();
    let mut list = field(&mut rest, 2)?;
    let mut attributes = Vec::new();
    while let [flags, _, value @ ..] = list {
        let mut after = value;
        field(&mut after, if flags & 0x10 == 0 { 1 } else { 2 })?;
        attributes.push(list[..list.len() - after.len()].to_vec());
        list = after;
    }
    Some(Parts {
        withdrawn,
        attributes,
        reached: rest.to_vec(),
    })
}

/// What became of a number of mutants.
#[derive(Default)]
struct Tally {
    panics: u64,
    understood: u64,
    slowest: Duration,
    octets: u64,
}

fn try_all(kinds: &mut [Mutants], tried: u64) -> Tally {
    let mut tally = Tally::default();
    for turn in 0..tried {
        let at = usize::try_from(turn % kinds.len() as u64).unwrap();
        let session = kinds[at].session;
        let message = kinds[at].next();
        tally.octets += message.len() as u64;
        let start = clock::now();
        let judged = catch_unwind(AssertUnwindSafe(|| check::any(&message, &session)));
        let mut took = clock::now() - start;
        // Who was only interrupted is faster the next time; who hangs is not.
        for _ in 0..if took > SLOWEST / 4 { 3 } else { 0 } {
            let start = clock::now();
            let _ = catch_unwind(AssertUnwindSafe(|| check::any(&message, &session)));
            took = took.min(clock::now() - start);
        }
        tally.slowest = tally.slowest.max(took);
        match judged {
            Ok(was_understood) => tally.understood += u64::from(was_understood),
            Err(_) => tally.panics += 1,
        }
    }
    tally
}

#[test]
fn mutated_messages_neither_panic_nor_hang_nor_gather_memory() {
    let wanted = std::env::var("OCA_BGP_MUTANTS").ok();
    let tried: u64 = wanted.map_or(TRIED, |count| count.parse().unwrap());
    let mut kinds: Vec<Mutants> = (0..16_u64)
        .map(|seed| {
            let bits = u8::try_from(seed * 17 % 256).unwrap();
            Mutants::new(check::session(bits), seed).with_corpus()
        })
        .collect();
    let begun = clock::now();
    // Of this thread alone: what other tests of this process hold meanwhile is theirs.
    let (tally, grown) = CountingAllocator::peak(|| try_all(&mut kinds, tried));
    let took = clock::now() - begun;
    let Tally {
        panics,
        understood,
        slowest,
        octets,
    } = tally;
    println!(
        "{tried} mutated messages, {octets} octets, in {took:?}: {panics} panics, {understood} \
         understood, the slowest {slowest:?}, {grown} B held at most"
    );
    assert_eq!(panics, 0);
    assert!(
        understood > tried / 4,
        "mutants must reach the depth: {understood}"
    );
    assert!(
        understood < tried * 19 / 20,
        "and some must be refused: {understood}"
    );
    assert!(slowest < SLOWEST, "{slowest:?}");
    assert!(grown < HELD_BYTES_MAX, "{grown} B");
}
