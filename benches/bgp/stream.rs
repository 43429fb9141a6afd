//! A table as the internet's: made of a seed, the same bytes every time.
//!
//! 1.0 million IPv4 and 220,000 IPv6 prefixes in the lengths of the default-free zone, some 250,000
//! different sets of attributes, nearly one UPDATE a route, in no order: what a router that was
//! just restarted sends. Autonomous systems and addresses are invented; only lengths and counts are
//! those of the real table.

use fastrand::Rng;
use oca::bgp::wire;
use oca::bgp::wire::Message;
use oca::bgp::wire::Negotiated;
use oca::route::Class;
use std::collections::HashSet;
use std::sync::Arc;

pub(crate) const IPV4: usize = 1_000_000;
pub(crate) const IPV6: usize = 220_000;
const SETS: usize = 250_000;

/// The AS of the router that sends it.
pub(crate) const ASN: u32 = 64500;

/// Lengths, and how many of a thousand prefixes have them.
const LENGTHS_IPV4: [(u8, u32); 13] = [
    (24, 605),
    (23, 100),
    (22, 115),
    (21, 52),
    (20, 46),
    (19, 27),
    (18, 15),
    (17, 9),
    (16, 14),
    (15, 5),
    (14, 5),
    (13, 4),
    (12, 3),
];
const LENGTHS_IPV6: [(u8, u32); 9] = [
    (48, 470),
    (32, 125),
    (44, 110),
    (40, 110),
    (36, 60),
    (46, 50),
    (47, 30),
    (29, 25),
    (45, 20),
];

/// What a router sends, message after message.
#[derive(Debug)]
pub(crate) struct Table {
    routes: Vec<Route>,
    sets: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    /// NLRI: length, and the octets it needs.
    nlri: [u8; 7],
    octets: u8,
    is_ipv6: bool,
    set: u32,
}

impl Table {
    pub(crate) fn new() -> Self {
        let mut rng = Rng::with_seed(4271);
        let sets = (0..SETS).map(|number| set(&mut rng, number)).collect();
        let mut routes = Vec::with_capacity(IPV4 + IPV6);
        let mut seen = HashSet::new();
        while routes.len() < IPV4 + IPV6 {
            let is_ipv6 = routes.len() >= IPV4;
            let nlri = prefix(&mut rng, is_ipv6);
            if !seen.insert((is_ipv6, nlri)) {
                continue;
            }
            // Every set has a route; then few sets have many.
            let share = rng.f64();
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a place in a short list"
            )]
            let many = (share * share * share * SETS as f64) as usize;
            let place = if routes.len() < SETS {
                routes.len()
            } else {
                many
            };
            routes.push(Route {
                nlri,
                octets: 1 + nlri[0].div_ceil(8),
                is_ipv6,
                set: u32::try_from(place).unwrap_or(0),
            });
        }
        rng.shuffle(&mut routes);
        Self { routes, sets }
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// UPDATE messages that announce everything; with another `turn`, other attributes for all.
    pub(crate) fn announced(&self, turn: u32) -> Vec<u8> {
        self.some_announced(self.routes.len(), turn)
    }

    /// The same of the first `count` routes.
    pub(crate) fn some_announced(&self, count: usize, turn: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(90 * count);
        let mut rng = Rng::with_seed(7);
        let mut rest = &self.routes[..count.min(self.routes.len())];
        while let Some(first) = rest.first() {
            // Now and then routes that share everything come together.
            let most = if rng.u32(..8) == 0 { 3 } else { 1 };
            let fits = |route: &&Route| route.is_ipv6 == first.is_ipv6;
            let together = rest.iter().take(most).take_while(fits).count();
            let (now, later) = rest.split_at(together);
            let set = (first.set as usize + turn as usize) % self.sets.len();
            announce(now, &self.sets[set], &mut out);
            rest = later;
        }
        out
    }

    /// The routes as the receiver has them.
    pub(crate) fn routes(&self) -> impl Iterator<Item = oca::route::Route> {
        let session = Negotiated::ORDINARY;
        let bytes = self.announced(0);
        let neighbour: Arc<str> = "router-0".into();
        let (mut rest, mut routes) = (&bytes[..], Vec::with_capacity(self.routes.len()));
        while let Ok(Some(length)) = wire::frame(rest, wire::MESSAGE_BYTES_MAX)
            && let Some((message, after)) = rest.split_at_checked(length)
        {
            if let Ok(Message::Update(update)) = wire::decode(message, Some(&session)) {
                for reach in update.announced() {
                    let attributes = Arc::new(update.attributes().into_owned(reach.next_hop));
                    routes.extend(reach.prefixes.map(|nlri| oca::route::Route {
                        prefix: nlri.prefix,
                        neighbour: Arc::clone(&neighbour),
                        path_id: nlri.path_id,
                        class: Class::Embedded,
                        attributes: Arc::clone(&attributes),
                        filtered: None,
                    }));
                }
            }
            rest = after;
        }
        routes.into_iter()
    }

    /// UPDATE messages that withdraw everything.
    pub(crate) fn withdrawn(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for routes in self.routes.chunks(100) {
            for is_ipv6 in [false, true] {
                let of = routes.iter().filter(|route| route.is_ipv6 == is_ipv6);
                let nlri: Vec<u8> = of.flat_map(Route::bytes).copied().collect();
                match (nlri.is_empty(), is_ipv6) {
                    (true, _) => {}
                    (false, false) => {
                        let body = [&length(&nlri)[..], &nlri, &[0, 0]].concat();
                        message(2, &body, &mut out);
                    }
                    (false, true) => {
                        let value = [&[0, 2, 1][..], &nlri].concat();
                        let mp = [&[0x90, 15][..], &length(&value), &value].concat();
                        let body = [&[0, 0][..], &length(&mp), &mp].concat();
                        message(2, &body, &mut out);
                    }
                }
            }
        }
        out
    }
}

impl Route {
    fn bytes(&self) -> &[u8] {
        &self.nlri[..usize::from(self.octets)]
    }
}

/// Appends a message of this type (RFC 4271 section 4.1).
pub(crate) fn message(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.extend([0xff; 16]);
    out.extend(u16::try_from(19 + body.len()).unwrap_or(0).to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
}

fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes()
}

fn announce(routes: &[Route], set: &[u8], out: &mut Vec<u8>) {
    let nlri: Vec<u8> = routes.iter().flat_map(Route::bytes).copied().collect();
    let mut attributes = Vec::with_capacity(128);
    if routes[0].is_ipv6 {
        let hop: [u8; 16] = 0x2001_0db8_0000_0000_0000_0000_0000_0001_u128.to_be_bytes();
        let value = [&[0, 2, 1, 16][..], &hop, &[0], &nlri].concat();
        attributes.extend([0x90, 14]);
        attributes.extend(length(&value));
        attributes.extend(value);
        attributes.extend_from_slice(set);
        let body = [&[0, 0][..], &length(&attributes), &attributes].concat();
        message(2, &body, out);
    } else {
        // ORIGIN and AS_PATH stand before NEXT_HOP.
        attributes.extend_from_slice(set);
        attributes.extend([0x40, 3, 4, 198, 51, 100, 1]);
        let body = [&[0, 0][..], &length(&attributes), &attributes, &nlri].concat();
        message(2, &body, out);
    }
}

/// ORIGIN, AS_PATH, and on some MED, communities, large communities.
fn set(rng: &mut Rng, number: usize) -> Vec<u8> {
    let mut out = vec![0x40, 1, 1, if rng.u32(..12) == 0 { 2 } else { 0 }];
    let hops = 2 + rng.u8(..4) + rng.u8(..3);
    out.extend([0x40, 2, 2 + 4 * hops, 2, hops]);
    out.extend(ASN.to_be_bytes());
    for hop in 1..hops {
        let asn = match hop {
            // Few carry, many announce.
            1 => 1_000_000 + rng.u32(..40),
            2 => 1_000_000 + rng.u32(..3_000),
            _ => 1_100_000 + rng.u32(..90_000),
        };
        out.extend(asn.to_be_bytes());
    }
    if rng.u32(..5) == 0 {
        out.extend([0x80, 4, 4]);
        out.extend(rng.u32(..500).to_be_bytes());
    }
    // The number makes each set another one.
    let communities = 1 + rng.u8(..6);
    out.extend([0xc0, 8, 4 * communities]);
    out.extend((64500 << 16 | u32::try_from(number & 0xffff).unwrap_or(0)).to_be_bytes());
    for _ in 1..communities {
        out.extend((64501 << 16 | rng.u32(..2_000)).to_be_bytes());
    }
    if rng.u32(..7) == 0 || number > 0xffff {
        out.extend([0xc0, 32, 12]);
        out.extend(64500_u32.to_be_bytes());
        out.extend(u32::try_from(number >> 16).unwrap_or(0).to_be_bytes());
        out.extend(1_u32.to_be_bytes());
    }
    out
}

fn prefix(rng: &mut Rng, is_ipv6: bool) -> [u8; 7] {
    let lengths: &[(u8, u32)] = if is_ipv6 {
        &LENGTHS_IPV6
    } else {
        &LENGTHS_IPV4
    };
    let mut place = rng.u32(..1000);
    let mut length = lengths[0].0;
    for (one, share) in lengths {
        if place < *share {
            length = *one;
            break;
        }
        place -= *share;
    }
    let bits = match is_ipv6 {
        // Some dozens of the registries' blocks.
        true => (0x2400 + u64::from(rng.u32(..48)) * 0x20) << 48 | rng.u64(..) >> 16,
        // Neither what is reserved for ever nor what loops.
        false => loop {
            let bits = rng.u64(..1 << 32);
            if (1..224).contains(&(bits >> 24)) && bits >> 24 != 127 {
                break bits << 32;
            }
        },
    };
    let kept = bits & (u64::MAX << (64 - u32::from(length)));
    let mut nlri = [0; 7];
    nlri[0] = length;
    nlri[1..].copy_from_slice(&kept.to_be_bytes()[..6]);
    nlri
}
