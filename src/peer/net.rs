//! Where other boxes' connections come from and where they are served: TCP and a thread of its own
//! in the daemon, something in memory in tests.
//!
//! I/O: binds; spawns a thread.

use crate::serve::Verdict;
use crate::serve::listener::Bind;
use crate::serve::listener::Bound;
use crate::serve::listener::SpawnWorker;
use crate::serve::listener::WorkerFuture;
use crate::serve::socket;
use crate::serve::socket::TcpBind;
use crate::serve::socket::ThreadWorkers;
use crate::sys::priority;
use std::io;
use std::net::SocketAddr;

/// Connections that wait to be accepted: boxes of a few clusters, at the start of a night.
const BACKLOG: i32 = 256;

/// What the kernel may hold of a connection and has not sent. The send buffer itself is left to the
/// kernel's tuning: a fixed one would cap what a distant box gets.
const UNSENT_BYTES_MAX: u32 = 512 * 1024;

/// How far behind the data-plane workers the thread stands when the cores are all taken: it gets a
/// tenth of a worker's share, and all that is free.
const NICE: i32 = 10;

/// Sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

/// A thread that lets those of the viewers go first.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadBehind;

impl Bind for Tcp {
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Bound>> {
        Ok(socket::bound(listening(address)?))
    }

    fn tls_offload(&self) -> Verdict {
        TcpBind.tls_offload()
    }
}

impl SpawnWorker for ThreadBehind {
    fn spawn(&self, name: String, worker: WorkerFuture) -> io::Result<()> {
        let behind = async {
            if let Err(error) = priority::stand_back(NICE) {
                tracing::warn!(%error, "boxes that fetch here compete with viewers for the cores");
            }
            worker.await;
        };
        ThreadWorkers.spawn(name, Box::pin(behind))
    }
}

fn listening(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // A restart must not wait for the connections of the last life.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    // Linux hands these down to the accepted sockets.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_have_what_the_listening_one_was_given() {
        let listener = listening(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listener.set_nonblocking(false).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let _asker = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
        // The carrier's patience is what counts while somebody looks; see `serve::socket`.
        assert_eq!(accepted.tcp_user_timeout().unwrap(), None);
        assert!(accepted.tcp_nodelay().unwrap());
    }
}
