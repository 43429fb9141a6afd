//! A network in memory: routers and boxes on one paused runtime.
//!
//! For the world test and the tests of this room. The daemon never uses it.
//!
//! I/O: in-memory streams.

use super::net::Dial;
use super::net::Expected;
use super::net::Link;
use super::net::Listener;
use super::net::Net;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::mpsc;

/// Connections that wait to be accepted.
const BACKLOG: usize = 16;

/// The "socket buffer" of each direction.
const PIPE_BYTES: usize = 64 * 1024;

/// The first port of outgoing connections.
const EPHEMERAL: u16 = 40_000;

/// Clones share the network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNet(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    doors: BTreeMap<SocketAddr, mpsc::Sender<Link>>,
    connections: u16,
}

#[derive(Debug)]
struct MemoryListener {
    address: SocketAddr,
    queue: mpsc::Receiver<Link>,
}

impl Net for MemoryNet {
    /// Keys and hops are the kernel's: nobody is kept out here.
    fn listen(
        &self,
        address: SocketAddr,
        _expected: &Arc<[Expected]>,
    ) -> io::Result<Box<dyn Listener>> {
        let (sender, queue) = mpsc::channel(BACKLOG);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = state
            .doors
            .get(&address)
            .is_some_and(|door| !door.is_closed());
        if is_taken {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.doors.insert(address, sender);
        Ok(Box::new(MemoryListener { address, queue }))
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, io::Result<Link>> {
        let Dial { local, remote, .. } = dial;
        let (door, local) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.connections = state.connections.wrapping_add(1) % 20_000;
            let ip = local.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let port = EPHEMERAL + state.connections;
            (state.doors.get(&remote).cloned(), SocketAddr::new(ip, port))
        };
        Box::pin(async move {
            let door = door.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            let arrival = Link {
                stream: Box::new(far),
                local: remote,
                remote: local,
            };
            let sent = door.try_send(arrival);
            sent.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Link {
                stream: Box::new(near),
                local,
                remote,
            })
        })
    }
}

impl Listener for MemoryListener {
    fn expect(&mut self, _: &Arc<[Expected]>) -> io::Result<()> {
        Ok(())
    }

    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async move {
            let link = self.queue.recv().await;
            link.ok_or_else(|| io::ErrorKind::NotConnected.into())
        })
    }
}
