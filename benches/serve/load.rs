//! The load: clients that ask for one file after another over kept-alive connections.
//!
//! A closed loop. Heads are read and checked; the bodies of plain responses are discarded inside
//! the kernel (`MSG_TRUNC`), so that the client's core is never what limits the server.
//!
//! I/O: connects over loopback.

use anyhow::Context as _;
use nix::sys::socket::MsgFlags;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A response head of either server is well below.
const HEAD_BYTES_MAX: usize = 4 << 10;

/// Taken off the socket at a time.
const READ_BYTES: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

/// What is asked for: any of `count` files of `bytes` each.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
    /// Files are `/PREFIX/N.bin`.
    pub prefix: &'static str,
    pub count: u64,
    pub bytes: usize,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    done: Arc<AtomicU64>,
    clients: JoinSet<anyhow::Result<()>>,
}

impl Load {
    pub(crate) fn start(target: Target, connections: usize) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for number in 0..connections {
            let (target, done) = (target.clone(), Arc::clone(&done));
            clients.spawn(async move { client(&target, number as u64, &done).await });
        }
        Self { done, clients }
    }

    /// Complete responses.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends the clients; a client that had failed is an error.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let ended = self.clients.try_join_next();
        self.clients.shutdown().await;
        match ended {
            Some(outcome) => outcome.context("a client panicked")?,
            None => Ok(()),
        }
    }
}

/// One client's life: connections that the server closes after their last request are replaced.
async fn client(target: &Target, number: u64, done: &AtomicU64) -> anyhow::Result<()> {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let mut stream = match &target.tls {
            None => Stream::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                let connector = TlsConnector::from(Arc::clone(config));
                Stream::Tls(Box::new(connector.connect(name, stream).await?))
            }
        };
        let mut open = true;
        while open {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let file = (random >> 33) % target.count;
            let request = format!(
                "GET /{}/{file}.bin HTTP/1.1\r\nHost: localhost\r\n\r\n",
                target.prefix
            );
            stream.write(request.as_bytes()).await?;
            open = response(&mut stream, target.bytes, &mut buffer).await?;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
        }
    }

    /// Takes up to `buffer.len()` bytes of the body and tells how many.
    async fn discard(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => return stream.read(buffer).await,
        };
        loop {
            stream.readable().await?;
            let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
            let receive = || {
                nix::sys::socket::recv(stream.as_raw_fd(), buffer, flags).map_err(io::Error::from)
            };
            match stream.try_io(Interest::READABLE, receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}

/// Reads one response and checks status and length. `false` if the server closes after it.
async fn response(stream: &mut Stream, bytes: usize, buffer: &mut [u8]) -> anyhow::Result<bool> {
    let mut filled = 0;
    let (end, open) = loop {
        let count = stream.read(&mut buffer[filled..HEAD_BYTES_MAX]).await?;
        anyhow::ensure!(count > 0, "closed before a response");
        filled += count;
        if let Some(head) = head(&buffer[..filled], bytes)? {
            break head;
        }
        anyhow::ensure!(filled < HEAD_BYTES_MAX, "a head without an end");
    };
    let mut left = bytes - (filled - end);
    while left > 0 {
        let most = left.min(buffer.len());
        let count = stream.discard(&mut buffer[..most]).await?;
        anyhow::ensure!(count > 0, "closed in the middle of a response");
        left -= count;
    }
    Ok(open)
}

/// End of the head and whether the connection stays open; `None` if more must be read.
fn head(bytes: &[u8], expected: usize) -> anyhow::Result<Option<(usize, bool)>> {
    let mut headers = [httparse::EMPTY_HEADER; 40];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes)? else {
        return Ok(None);
    };
    anyhow::ensure!(response.code == Some(200), "answered {:?}", response.code);
    let value = |name: &str| {
        let found = response.headers.iter();
        found
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .find_map(|header| std::str::from_utf8(header.value).ok())
    };
    let length = value("content-length").and_then(|text| text.parse().ok());
    anyhow::ensure!(length == Some(expected), "{length:?} bytes are announced");
    let closes = value("connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
    Ok(Some((end, !closes)))
}
