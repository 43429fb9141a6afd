//! One client connection: a request out, a response checked and forgotten.
//!
//! The bodies of plain responses are discarded inside the kernel (`MSG_TRUNC`), so that the
//! client's core is not what limits the server.
//!
//! I/O: connects over loopback.

use crate::load::Target;
use anyhow::Context as _;
use nix::sys::socket::MsgFlags;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::Interest;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A response head of either server is well below.
const HEAD_BYTES_MAX: usize = 4 << 10;

/// Taken off the socket at a time. Of a plain body no byte is written to it.
const PLAIN_BYTES: usize = 256 << 10;
const TLS_BYTES: usize = 32 << 10;

/// Clients that share an address: fewer than a box admits from one, and than an address has ports.
const CLIENTS_AN_ADDRESS: usize = 500;

#[derive(Debug)]
pub(crate) struct Viewer {
    stream: Stream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Viewer {
    /// Connects as client `number`, from an address that few share.
    pub(crate) async fn connect(target: &Target, number: usize) -> anyhow::Result<Self> {
        let group = u16::try_from(number / CLIENTS_AN_ADDRESS)?.to_be_bytes();
        let source = Ipv4Addr::new(127, 1, group[0], group[1].wrapping_add(1));
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let stream = socket.connect(target.address).await?;
        stream.set_nodelay(true)?;
        // Gone when it is closed: thousands that linger would use up the ports.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let (stream, room) = match &target.tls {
            None => (Stream::Plain(stream), PLAIN_BYTES),
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                let connector = TlsConnector::from(Arc::clone(config));
                let tls = connector.connect(name, stream).await?;
                (Stream::Tls(Box::new(tls)), TLS_BYTES)
            }
        };
        let buffer = vec![0; room];
        Ok(Self { stream, buffer })
    }

    /// Fetches one file; `progress` hears of each part of its body. `false` if the server closes
    /// the connection after it.
    pub(crate) async fn fetch(
        &mut self,
        target: &Target,
        file: u64,
        progress: impl Fn(usize),
    ) -> anyhow::Result<bool> {
        let prefix = target.prefix;
        let request = format!("GET /{prefix}/{file}.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.write(request.as_bytes()).await?;
        let mut filled = 0;
        let (end, open) = loop {
            let room = &mut self.buffer[filled..HEAD_BYTES_MAX];
            let count = self.stream.read(room).await?;
            anyhow::ensure!(count > 0, "closed before a response");
            filled += count;
            if let Some(head) = head(&self.buffer[..filled], target.bytes)? {
                break head;
            }
            anyhow::ensure!(filled < HEAD_BYTES_MAX, "a head without an end");
        };
        progress(filled - end);
        let mut left = target.bytes - (filled - end);
        while left > 0 {
            let most = left.min(self.buffer.len());
            let count = self.stream.discard(&mut self.buffer[..most]).await?;
            anyhow::ensure!(count > 0, "closed in the middle of a response");
            progress(count);
            left -= count;
        }
        Ok(open)
    }

    /// Gives up the room for responses; what is left is a connection that waits.
    pub(crate) fn rest(&mut self) {
        self.buffer = Vec::new();
    }
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
    let length = value("content-length").context("no length")?.parse().ok();
    anyhow::ensure!(length == Some(expected), "{length:?} bytes are announced");
    let closes = value("connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
    Ok(Some((end, !closes)))
}
