//! From names to addresses, and which of them may be connected to.
//!
//! [`super::dial`] resolves a name once a connection, checks every address, and connects to what
//! was checked: a resolver that changes its mind in between changes nothing (SAFETY: fill).
//!
//! I/O: resolves names.

use crate::clock;
use futures_util::future::BoxFuture;
use std::fmt::Debug;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

/// A resolver that does not answer is as good as none.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(5);

/// Turns a name, or an address as text, into addresses.
pub trait Resolve: Send + Sync + Debug {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let looked_up = clock::within(RESOLVE_TIME_MAX, tokio::net::lookup_host((host, port)));
            match looked_up.await {
                Ok(found) => found.map(Iterator::collect),
                Err(_) => Err(io::Error::other("the resolver did not answer")),
            }
        })
    }
}

/// May a source be there? `private`: those that are reachable from inside alone are fine.
pub(super) fn is_allowed(address: IpAddr, private: bool) -> bool {
    let inner = match address {
        IpAddr::V4(four) => Some(four),
        IpAddr::V6(six) => embedded(six),
    };
    let fine_inside = inner.is_none_or(|four| is_allowed_v4(four, private));
    fine_inside
        && match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(six) => is_allowed_v6(six, private),
        }
}

fn is_allowed_v4(address: Ipv4Addr, private: bool) -> bool {
    let [first, second, third, _] = address.octets();
    // RFC 1122 section 3.2.1.3, RFC 1112: nobody's, many's, or reserved.
    if first == 0 || first >= 224 {
        return false;
    }
    let is_inside = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        // RFC 6598: shared address space of providers. RFC 6890: protocol assignments.
        || (first == 100 && second & 0xc0 == 64)
        || (first, second, third) == (192, 0, 0);
    private || !is_inside
}

fn is_allowed_v6(address: Ipv6Addr, private: bool) -> bool {
    if address.is_unspecified() || address.is_multicast() {
        return false;
    }
    // RFC 4193, RFC 4291 section 2.5.6, RFC 3879.
    let is_inside = address.is_loopback()
        || address.segments()[0] & 0xfe00 == 0xfc00
        || address.segments()[0] & 0xff80 == 0xfe80;
    private || !is_inside
}

/// The IPv4 address at which packets to such an IPv6 address end.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // Loopback and the unspecified address are no IPv4 addresses.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // RFC 4291 section 2.5.5: compatible and mapped. RFC 6052: translated.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(from(high, low))
        }
        // RFC 3056.
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_from_inside_are_no_sources_unless_it_is_configured() {
        for inside in [
            "127.0.0.1",
            "127.255.0.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "192.0.0.8",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
        ] {
            let address = inside.parse().unwrap();
            assert!(!is_allowed(address, false), "{inside}");
            assert!(is_allowed(address, true), "{inside}");
        }
    }

    #[test]
    fn nobodys_and_everybodys_addresses_are_never_sources() {
        for never in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
            "64:ff9b::e000:1",
        ] {
            let address = never.parse().unwrap();
            assert!(!is_allowed(address, false), "{never}");
            assert!(!is_allowed(address, true), "{never}");
        }
    }

    #[test]
    fn others_are_sources() {
        for fine in [
            "192.0.2.1",
            "198.51.100.7",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "2001:db8::1",
            "::ffff:192.0.2.1",
            "64:ff9b::c000:201",
        ] {
            assert!(is_allowed(fine.parse().unwrap(), false), "{fine}");
        }
    }
}
