//! How the box reaches its control plane: TCP in the daemon, something in memory in tests.
//!
//! [`super::client`] asks for a stream whenever it has none. Serving needs no DNS and the link
//! hardly: when a name cannot be resolved, or its addresses do not answer, the addresses that last
//! worked are tried.
//!
//! I/O: resolves names, connects.

use crate::clock;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

/// A resolver that does not answer is as good as none.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(5);

/// For one address, when there are others.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Addresses tried in one go, and remembered.
const ADDRESSES_MAX: usize = 4;

/// What the kernel takes in before it is read. What is read slowly, because the cap is to hold, has
/// come all the same: left to itself the kernel would take megabytes. A round trip of 100 ms lets
/// through 5 Mbit/s, and a report goes the other way. Counted in
/// [`super::connection::AHEAD_BYTES`].
pub(super) const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What [`Dial::dial`] returns.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Makes connections.
pub trait Dial: Send + Sync + fmt::Debug {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a>;
}

/// TCP, as the daemon does it.
#[derive(Debug, Default)]
pub struct TcpDial {
    /// The one that worked first, then those that came with it.
    last_good: Mutex<Vec<SocketAddr>>,
}

impl Dial for TcpDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        Box::pin(async move {
            let looked_up = clock::within(RESOLVE_TIME_MAX, tokio::net::lookup_host((host, port)));
            let resolved = match looked_up.await {
                Ok(Ok(addresses)) => Ok(addresses.collect()),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::Error::other("the resolver did not answer")),
            };
            let stream = self.connect(resolved).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl TcpDial {
    async fn connect(&self, resolved: io::Result<Vec<SocketAddr>>) -> io::Result<TcpStream> {
        let (mut addresses, mut failure) = match resolved {
            Ok(addresses) => (addresses, io::Error::other("the name has no address")),
            Err(error) => (Vec::new(), error),
        };
        addresses.truncate(ADDRESSES_MAX);
        let remembered = self.remembered().clone();
        let known = addresses.clone();
        addresses.extend(remembered.into_iter().filter(|old| !known.contains(old)));
        for address in &addresses {
            match clock::within(CONNECT_TIME_MAX, connect(*address)).await {
                Ok(Ok(stream)) => {
                    let mut good = vec![*address];
                    good.extend(addresses.iter().copied().filter(|other| other != address));
                    good.truncate(ADDRESSES_MAX);
                    *self.remembered() = good;
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = io::Error::new(error.kind(), at(address, &error)),
                Err(error) => failure = io::Error::other(at(address, &error)),
            }
        }
        Err(failure)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Vec<SocketAddr>> {
        self.last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buffer is set first: TCP takes no window back.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn at(address: &SocketAddr, error: &dyn fmt::Display) -> String {
    format!("{address}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_address_that_last_worked_is_used_when_the_name_cannot_be_resolved() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // Bound and released: nobody listens there.
        let dead = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let dial = TcpDial::default();
        let no_dns = || Err(io::Error::other("no such host"));
        let error = dial.connect(no_dns()).await.unwrap_err();
        assert!(error.to_string().contains("no such host"), "{error}");
        dial.connect(Ok(vec![dead, good])).await.unwrap();
        let stream = dial.connect(no_dns()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(stream.nodelay().unwrap());
        // Linux keeps twice of it, for its own book-keeping (socket(7)).
        let kept = socket2::SockRef::from(&stream).recv_buffer_size().unwrap();
        assert_eq!(kept, 2 * RECEIVE_BUFFER_BYTES as usize);
        // A resolver that sends us elsewhere does not make us forget.
        let stream = dial.connect(Ok(vec![dead])).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        drop(listener);
        let error = dial.connect(Ok(vec![dead])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("127.0.0.1:"), "{error}");
    }

    #[tokio::test]
    async fn names_are_resolved() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dial = TcpDial::default();
        assert!(dial.dial("localhost", port).await.is_ok());
    }
}
