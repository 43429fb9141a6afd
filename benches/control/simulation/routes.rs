//! What a simulated box learned over BGP: some hundred routes of its site's provider.
//!
//! Provider `p` has 2001:db8:p::/48 and, while they last, 198.18.0.0/15 has a /24 for it (RFC
//! 2544). Both boxes of its site learn the aggregate and 200 /56s; each box alone learns one /56
//! more, which it loses and learns again.

use oca::prefix::Prefix;
use oca::route::AsPath;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Class;
use oca::route::Route;
use oca::route::Segment;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// /56s that the boxes of a site share.
const SHARED: u32 = 200;

/// /24s of the benchmarking network.
const IPV4_PROVIDERS: u32 = 512;

/// The provider's own AS.
pub(super) fn asn(provider: u32) -> Asn {
    Asn(65_536 + provider % 16)
}

/// What the provider may announce.
pub(super) fn approved(provider: u32) -> Vec<Prefix> {
    let ipv4 = (provider < IPV4_PROVIDERS).then(|| {
        let bits = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (provider << 8);
        (IpAddr::V4(Ipv4Addr::from(bits)), 24)
    });
    std::iter::once((part(provider, 0), 48))
        .chain(ipv4)
        .filter_map(|(address, length)| Prefix::new(address, length).ok())
        .collect()
}

/// A client behind the provider, in one of the shared parts.
pub(super) fn client(provider: u32, random: u32) -> IpAddr {
    within(part(provider, random % SHARED), 9)
}

/// A client that only the box of this place in its site hears of.
pub(super) fn own_client(provider: u32, place: u32) -> IpAddr {
    within(part(provider, SHARED + place), 9)
}

/// Everything learned, sorted; with the box's own part or without it.
pub(super) fn learned(provider: u32, place: u32, with_own: bool) -> Vec<Route> {
    let attributes = Arc::new(Attributes::new(
        AsPath(vec![Segment::Sequence(vec![asn(provider)])]),
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    ));
    let neighbour: Arc<str> = "edge-1".into();
    let own = with_own.then_some(SHARED + place);
    let parts = (0..SHARED).chain(own);
    let parts = parts.filter_map(|number| Prefix::new(part(provider, number), 56).ok());
    let mut routes: Vec<Route> = approved(provider)
        .into_iter()
        .chain(parts)
        .map(|prefix| Route {
            prefix,
            neighbour: Arc::clone(&neighbour),
            path_id: 0,
            class: Class::Embedded,
            attributes: Arc::clone(&attributes),
            filtered: None,
        })
        .collect();
    routes.sort();
    routes
}

/// The /56 of this number, of the provider's /48.
fn part(provider: u32, number: u32) -> IpAddr {
    let bits = 0x2001_0db8 << 96 | u128::from(provider) << 80 | u128::from(number) << 72;
    IpAddr::V6(Ipv6Addr::from(bits))
}

fn within(network: IpAddr, host: u128) -> IpAddr {
    match network {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) | host)),
        IpAddr::V4(_) => network,
    }
}
