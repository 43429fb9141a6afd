//! The kernel's routes by rtnetlink: put one in, take one out, list those of one protocol number.
//!
//! Only unicast routes of the main table with a gateway, a metric and that number are ever touched.
//!
//! I/O: system calls on a socket to the kernel, which answers at once; bounded by a timeout.

use crate::prefix::Prefix;
use nix::sys::socket;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::NetlinkAddr;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockProtocol;
use nix::sys::socket::SockType;
use nix::sys::socket::sockopt;
use nix::sys::time::TimeVal;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;

const RTA_DST: u16 = 1;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_VIA: u16 = 18;

const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const TYPE_UNSPECIFIED: u8 = 0;
const TYPE_UNICAST: u8 = 1;

const HEADER_BYTES: usize = 16;
const ROUTE_BYTES: usize = 12;

/// Above what the kernel puts into one datagram of a dump (32 KiB).
const BUFFER_BYTES: usize = 64 * 1024;

/// For an answer; the kernel makes it while the question is sent.
const ANSWER_SECONDS: i64 = 2;

/// More routes of our own number than anybody can have made with us.
const LISTED_MAX: usize = 100_000;

/// A route as this file makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRoute {
    pub prefix: Prefix,
    pub metric: u32,
    pub gateway: IpAddr,
}

/// A route that was found; one with several gateways has none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundRoute {
    pub prefix: Prefix,
    pub metric: u32,
    pub gateway: Option<IpAddr>,
}

/// A socket to the kernel of the network namespace in which it was opened.
#[derive(Debug)]
pub struct RouteSocket {
    socket: OwnedFd,
    sequence: u32,
    protocol: u8,
}

/// A message of the kernel.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl RouteSocket {
    /// `protocol` marks every route that is made, and is the only one that is listed.
    pub fn open(protocol: u8) -> io::Result<Self> {
        let socket = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        let time = TimeVal::new(ANSWER_SECONDS, 0);
        socket::setsockopt(&socket, sockopt::ReceiveTimeout, &time)?;
        socket::setsockopt(&socket, sockopt::SendTimeout, &time)?;
        Ok(Self {
            socket,
            sequence: 0,
            protocol,
        })
    }

    /// Puts a route in; `EEXIST` if there is one with the same prefix and metric, whoever made it.
    pub fn add(&mut self, route: &KernelRoute) -> io::Result<()> {
        self.put(route, CREATE | EXCL)
    }

    /// Puts a route in, in the place of the one with the same prefix and metric.
    pub fn replace(&mut self, route: &KernelRoute) -> io::Result<()> {
        self.put(route, CREATE | REPLACE)
    }

    fn put(&mut self, route: &KernelRoute, flags: u16) -> io::Result<()> {
        let mut body = self.route(&route.prefix, route.metric, TYPE_UNICAST);
        let bytes = octets(route.gateway);
        if route.gateway.is_ipv6() == route.prefix.address().is_ipv6() {
            attribute(&mut body, RTA_GATEWAY, &bytes);
        } else {
            // A gateway of the other family (RFC 8950).
            let mut via = family(route.gateway).to_ne_bytes().to_vec();
            via.extend_from_slice(&bytes);
            attribute(&mut body, RTA_VIA, &via);
        }
        self.change(RTM_NEWROUTE, flags, &body)
    }

    /// Takes a route out; one that is not there (its interface went) is out already.
    pub fn remove(&mut self, prefix: &Prefix, metric: u32) -> io::Result<()> {
        let body = self.route(prefix, metric, TYPE_UNSPECIFIED);
        match self.change(RTM_DELROUTE, 0, &body) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Whether this process may change routes: the kernel looks at that before it looks for the
    /// route, and this one is nobody's.
    pub fn may_change(&mut self) -> io::Result<()> {
        let nobody = Prefix::host(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 255)));
        self.remove(&nobody, u32::MAX)
    }

    /// Every route of our number, of both families.
    pub fn list(&mut self) -> io::Result<Vec<FoundRoute>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut body = vec![0; ROUTE_BYTES];
            body[0] = u8::try_from(family).map_err(io::Error::other)?;
            let sequence = self.send(RTM_GETROUTE, DUMP, &body)?;
            while !self.dumped(sequence, &mut found)? {}
        }
        Ok(found)
    }

    /// One datagram of a dump. True if it was the last.
    fn dumped(&mut self, sequence: u32, found: &mut Vec<FoundRoute>) -> io::Result<bool> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let length = self.receive(&mut buffer)?;
        for message in messages(&buffer[..length]) {
            if message.sequence != sequence {
                continue;
            }
            match message.kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => return verdict(message.body).map(|()| true),
                RTM_NEWROUTE if found.len() < LISTED_MAX => {
                    found.extend(listed(message.body, self.protocol));
                }
                _ => {}
            }
        }
        Ok(false)
    }

    fn route(&self, prefix: &Prefix, metric: u32, kind: u8) -> Vec<u8> {
        let family = u8::try_from(family(prefix.address())).unwrap_or(0);
        let mut body = vec![
            family,
            prefix.length(),
            0,
            0,
            TABLE_MAIN,
            self.protocol,
            SCOPE_UNIVERSE,
            kind,
        ];
        body.extend_from_slice(&[0; 4]);
        attribute(&mut body, RTA_DST, &octets(prefix.address()));
        attribute(&mut body, RTA_PRIORITY, &metric.to_ne_bytes());
        body
    }

    fn change(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let sequence = self.send(kind, flags | ACK, body)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]) {
                // An answer to a question that was given up is not ours.
                if message.sequence == sequence && message.kind == NLMSG_ERROR {
                    return verdict(message.body);
                }
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        let kernel = NetlinkAddr::new(0, 0);
        let descriptor = self.socket.as_raw_fd();
        socket::sendto(descriptor, &bytes, &kernel, MsgFlags::empty())?;
        Ok(self.sequence)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(socket::recv(
            self.socket.as_raw_fd(),
            buffer,
            MsgFlags::empty(),
        )?)
    }
}

/// What an `NLMSG_ERROR` says: zero is an acknowledgement.
fn verdict(body: &[u8]) -> io::Result<()> {
    let code = body
        .first_chunk::<4>()
        .map(|code| i32::from_ne_bytes(*code));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let whole = bytes.get(..length).filter(|_| length >= HEADER_BYTES)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes(*whole.get(4..)?.first_chunk()?),
            sequence: u32::from_ne_bytes(*whole.get(8..)?.first_chunk()?),
            body: &whole[HEADER_BYTES..],
        })
    })
}

/// The route of a dump's message, if it is one of ours.
fn listed(body: &[u8], protocol: u8) -> Option<FoundRoute> {
    let (family, length) = (*body.first()?, *body.get(1)?);
    if *body.get(5)? != protocol || *body.get(4)? != TABLE_MAIN {
        return None;
    }
    let is_ipv6 = i32::from(family) == libc::AF_INET6;
    let mut address = if is_ipv6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    let (mut metric, mut gateway) = (0, None);
    let mut rest = body.get(ROUTE_BYTES..)?;
    while let Some(bytes) = rest.first_chunk::<2>() {
        let size = usize::from(u16::from_ne_bytes(*bytes));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..size)?;
        match kind {
            RTA_DST => address = ip(value)?,
            RTA_GATEWAY => gateway = ip(value),
            RTA_VIA => gateway = ip(value.get(2..)?),
            RTA_PRIORITY => metric = u32::from_ne_bytes(*value.first_chunk()?),
            _ => {}
        }
        rest = rest.get(aligned(size)..).unwrap_or_default();
    }
    Some(FoundRoute {
        prefix: Prefix::new(address, length).ok()?,
        metric,
        gateway,
    })
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(*value.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*value.first_chunk::<16>()?)),
        _ => None,
    }
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(aligned(body.len()), 0);
}

/// Netlink aligns to four octets.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u16 {
    let family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    u16::try_from(family).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_a_dump_would_say_and_others_routes_are_passed_over() {
        let socket = RouteSocket::open(79).unwrap();
        for (prefix, gateway) in [("0.0.0.0/0", "192.0.2.1"), ("2001:db8::/32", "2001:db8::1")] {
            let prefix: Prefix = prefix.parse().unwrap();
            let gateway: IpAddr = gateway.parse().unwrap();
            let mut body = socket.route(&prefix, 512, TYPE_UNICAST);
            attribute(&mut body, RTA_GATEWAY, &octets(gateway));
            let found = FoundRoute {
                prefix,
                metric: 512,
                gateway: Some(gateway),
            };
            assert_eq!(listed(&body, 79), Some(found));
            assert_eq!(listed(&body, 80), None);
            body[4] = 255;
            assert_eq!(listed(&body, 79), None, "another table");
            for cut in 0..body.len() {
                let _ = listed(&body[..cut], 79);
            }
        }
    }

    #[test]
    fn the_kernel_lists_and_answers_bytes_that_are_cut_are_no_messages() {
        let mut socket = RouteSocket::open(79).unwrap();
        socket.list().unwrap();
        assert_eq!(messages(&[16, 0, 0, 0, 2]).count(), 0);
        assert_eq!(messages(&[4, 0, 0, 0]).count(), 0);
        assert_eq!(
            verdict(&[]).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let denied = verdict(&(-libc::EPERM).to_ne_bytes()).unwrap_err();
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    }
}
