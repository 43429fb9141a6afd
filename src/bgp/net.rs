//! The network as this room sees it: byte streams with two addresses. Real TCP here, a network in
//! memory for tests in `memory`.
//!
//! A [`Guard`] says how the packets of one neighbour must look; the kernel drops all others, on the
//! sockets that connect and on those that listen, before a byte of them is read.
//!
//! I/O: binds, accepts, connects.

use super::options::TransportConfig;
use super::password::Key;
use crate::sys::hops;
use crate::sys::md5;
use crate::sys::tcp_ao;
use futures_util::future::BoxFuture;
use socket2::SockRef;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV6;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

/// Connections that wait to be accepted: routers are few.
const BACKLOG: u32 = 64;

/// Network control traffic (RFC 4594 section 3.2), so that a full link does not end sessions:
/// class selector 6 in the upper six bits.
const CLASS_SELECTOR_6: u32 = 0xc0;

/// What the kernel may hold of a neighbour whose routes we are slower to take than it to send. The
/// system's default bound allows half of it, and grows it for nobody.
const RECEIVE_BYTES: usize = 256 * 1024;

/// We send keepalives.
const SEND_BYTES: usize = 64 * 1024;

/// The most that a packet can be given, and the mark of one that crossed no router.
const HOPS_MAX: u8 = 255;

/// Both directions of a connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// A connection and its ends. IPv4 addresses are never in their IPv6-mapped form.
pub struct Link {
    pub stream: Box<dyn ByteStream>,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// How the packets of one neighbour must look. The default asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    pub(super) key: Option<Key>,
    hops_sent: u8,
    /// Fewer left on arrival: dropped. 0: any.
    hops_least: u8,
    pub(super) interface: Option<String>,
}

/// One neighbour whose connections a listener is to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub address: IpAddr,
    /// Ours, where the neighbour is told apart by it.
    pub local: Option<IpAddr>,
    pub guard: Guard,
}

/// A connection to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    pub local: Option<IpAddr>,
    pub remote: SocketAddr,
    pub guard: Guard,
}

impl Dial {
    /// From `local`, if it is given, without any condition.
    pub fn new(local: Option<IpAddr>, remote: SocketAddr) -> Self {
        Self {
            local,
            remote,
            guard: Guard::default(),
        }
    }
}

/// A bound address.
pub trait Listener: Send {
    fn address(&self) -> io::Result<SocketAddr>;
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>>;

    /// The same neighbours with other keys, for connections from here on.
    fn expect(&mut self, expected: &Arc<[Expected]>) -> io::Result<()>;
}

/// Where connections come from. The daemon uses [`Tcp`].
pub trait Net: fmt::Debug + Send + Sync {
    /// Listens to those who are `expected`; others may come, and it is the caller's to refuse them.
    fn listen(
        &self,
        address: SocketAddr,
        expected: &Arc<[Expected]>,
    ) -> io::Result<Box<dyn Listener>>;

    fn connect(&self, dial: Dial) -> BoxFuture<'static, io::Result<Link>>;
}

/// Sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

/// A bound socket, and whom it takes.
struct Bound {
    socket: TcpListener,
    expected: Arc<[Expected]>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.local, self.remote)
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            key: None,
            hops_sent: HOPS_MAX,
            hops_least: 0,
            interface: None,
        }
    }
}

impl Guard {
    /// RFC 5082: what was sent with the most hops and has crossed `multihop - 1` routers at most
    /// still has so many. Without it a packet dies where the neighbour should have been.
    pub(super) fn new(config: &TransportConfig, key: Option<Key>) -> Self {
        let hops = config.multihop.max(1);
        let (hops_sent, hops_least) = if config.ttl_security {
            (HOPS_MAX, HOPS_MAX - (hops - 1))
        } else {
            (hops, 0)
        };
        Self {
            key,
            hops_sent,
            hops_least,
            interface: config.interface.clone(),
        }
    }

    /// What may be the reason when nothing answers: the kernel drops in silence what does not fit.
    pub(super) fn hint(&self) -> &'static str {
        match (self.hops_least > 0, self.key.is_some()) {
            (false, false) => "",
            (true, false) => "; ttl_security wants the router to send 255 hops",
            (false, true) => "; the password must be the same on the router",
            (true, true) => {
                "; ttl_security wants the router to send 255 hops, and the password must be the \
                 same there"
            }
        }
    }

    /// On a socket that connects, before it does, or on one that was accepted.
    fn put_on(&self, socket: SockRef<'_>, own: SocketAddr) -> io::Result<()> {
        set_hops_sent(&socket, own, self.hops_sent)?;
        hops::set_least(socket.as_fd(), own, self.hops_least)?;
        if let Some(interface) = &self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        Ok(())
    }

    /// Segments to and from `peer` are signed.
    fn sign(&self, socket: SockRef<'_>, own: SocketAddr, peer: IpAddr) -> io::Result<()> {
        let Some(key) = &self.key else {
            return Ok(());
        };
        let peer = md5::as_seen_by(own, peer);
        match key.ao_id {
            Some(id) => tcp_ao::add_key(socket.as_fd(), peer, id, &key.bytes),
            None => md5::set_key(socket.as_fd(), peer, &key.bytes),
        }
    }
}

impl Expected {
    /// Whether a connection between these addresses is this neighbour's.
    pub(super) fn fits(&self, remote: SocketAddr, local: IpAddr) -> bool {
        self.address.to_canonical() == remote.ip()
            && self.local.is_none_or(|own| own.to_canonical() == local)
            && self.is_on_its_link(remote)
    }

    /// A link-local address means another machine on each link.
    fn is_on_its_link(&self, remote: SocketAddr) -> bool {
        match (remote, &self.guard.interface) {
            (SocketAddr::V6(v6), Some(interface)) if v6.ip().is_unicast_link_local() => {
                let index = nix::net::if_::if_nametoindex(interface.as_str());
                index.is_ok_and(|index| index == v6.scope_id())
            }
            (SocketAddr::V4(_) | SocketAddr::V6(_), _) => true,
        }
    }

    /// On a socket that listens at `own`.
    fn sign(&self, socket: SockRef<'_>, own: SocketAddr) -> io::Result<()> {
        // An IPv6 address never comes to a socket of IPv4.
        if own.is_ipv6() || self.address.is_ipv4() {
            self.guard.sign(socket, own, self.address)?;
        }
        Ok(())
    }

    /// A socket bound to `address` may hear of this neighbour.
    fn may_come_to(&self, address: SocketAddr) -> bool {
        let own = address.ip();
        own.is_unspecified() || self.local.is_none_or(|local| local == own)
    }
}

impl Net for Tcp {
    fn listen(
        &self,
        address: SocketAddr,
        expected: &Arc<[Expected]>,
    ) -> io::Result<Box<dyn Listener>> {
        let socket = socket_for(address)?;
        socket.set_reuseaddr(true)?;
        let options = SockRef::from(&socket);
        if address.is_ipv6() {
            // `[::]:179` is for routers of both families, whatever the system's default says.
            options.set_only_v6(!address.ip().is_unspecified())?;
        }
        // A router that asks for the most hops wants them of our very first answer.
        set_hops_sent(&options, address, HOPS_MAX)?;
        let heard = expected.iter().filter(|one| one.may_come_to(address));
        let least = heard.clone().map(|one| one.guard.hops_least).min();
        hops::set_least(options.as_fd(), address, least.unwrap_or(0))?;
        socket.bind(address)?;
        for one in heard {
            one.sign(SockRef::from(&socket), address)?;
        }
        Ok(Box::new(Bound {
            socket: socket.listen(BACKLOG)?,
            expected: Arc::clone(expected),
        }))
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, io::Result<Link>> {
        Box::pin(async move {
            let Dial {
                local,
                remote,
                guard,
            } = dial;
            let remote = with_zone(remote, guard.interface.as_deref())?;
            let socket = socket_for(remote)?;
            guard.put_on(SockRef::from(&socket), remote)?;
            guard.sign(SockRef::from(&socket), remote, remote.ip())?;
            if let Some(local) = local {
                let own = SocketAddr::new(local, 0);
                socket.bind(with_zone(own, guard.interface.as_deref())?)?;
            }
            let stream = socket.connect(remote).await?;
            link(stream, remote)
        })
    }
}

impl Listener for Bound {
    fn expect(&mut self, expected: &Arc<[Expected]>) -> io::Result<()> {
        let own = self.socket.local_addr()?;
        let pairs = expected.iter().zip(&*self.expected);
        let changed = pairs.filter(|(one, before)| one != before && one.may_come_to(own));
        for (one, _) in changed {
            one.sign(SockRef::from(&self.socket), own)?;
        }
        self.expected = Arc::clone(expected);
        Ok(())
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async move {
            let (stream, remote) = self.socket.accept().await?;
            let own = self.socket.local_addr()?;
            let (remote, local) = (canonical(remote), canonical(stream.local_addr()?));
            let mut expected = self.expected.iter();
            if let Some(one) = expected.find(|one| one.fits(remote, local.ip())) {
                one.guard.put_on(SockRef::from(&stream), own)?;
            }
            link(stream, remote)
        })
    }
}

fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    let options = SockRef::from(&socket);
    if address.is_ipv6() {
        options.set_tclass_v6(CLASS_SELECTOR_6)?;
    }
    options.set_tos_v4(CLASS_SELECTOR_6)?;
    // Before the handshake: the window's scale is agreed there.
    options.set_recv_buffer_size(RECEIVE_BYTES)?;
    options.set_send_buffer_size(SEND_BYTES)?;
    Ok(socket)
}

/// A socket of IPv6 may carry IPv4 too.
fn set_hops_sent(socket: &SockRef<'_>, own: SocketAddr, sent: u8) -> io::Result<()> {
    if own.is_ipv6() {
        socket.set_unicast_hops_v6(sent.into())?;
    }
    socket.set_ttl_v4(sent.into())
}

/// A link-local address with the index of its interface.
fn with_zone(address: SocketAddr, interface: Option<&str>) -> io::Result<SocketAddr> {
    let is_local = |ip: &Ipv6Addr| ip.is_unicast_link_local();
    match (address, interface) {
        (SocketAddr::V6(v6), Some(interface)) if is_local(v6.ip()) => {
            let zone = nix::net::if_::if_nametoindex(interface)?;
            Ok(SocketAddrV6::new(*v6.ip(), v6.port(), 0, zone).into())
        }
        (SocketAddr::V4(_) | SocketAddr::V6(_), _) => Ok(address),
    }
}

/// Never mapped; the zone of a link-local address stays.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

fn link(stream: TcpStream, remote: SocketAddr) -> io::Result<Link> {
    stream.set_nodelay(true)?;
    let local = canonical(stream.local_addr()?);
    Ok(Link {
        stream: Box::new(stream),
        local,
        remote: canonical(remote),
    })
}

#[cfg(test)]
mod tests;
