//! A router that sends bytes as fast as they are taken: OPEN, KEEPALIVE, then whatever it is told.
//!
//! I/O: one connection, and a thread that reads it.

use crate::stream;
use anyhow::Context as _;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// For the other side to answer an OPEN.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// An established session.
#[derive(Debug)]
pub(crate) struct Router {
    stream: TcpStream,
    /// When KEEPALIVE messages came.
    heard: Arc<Mutex<Vec<Instant>>>,
}

impl Router {
    /// From this address, as AS 64500. Hold time in seconds; ours are sent with the bytes.
    pub(crate) fn connect(from: Ipv4Addr, to: SocketAddr, hold: u16) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket
            .connect(&to.into())
            .with_context(|| format!("no connection from {from} to {to}"))?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let mut greeting = Vec::new();
        stream::message(1, &open(from, hold), &mut greeting);
        stream::message(4, &[], &mut greeting);
        stream.write_all(&greeting)?;
        stream.set_read_timeout(Some(OPEN_TIME))?;
        let mut kinds = Vec::new();
        while !kinds.ends_with(&[1, 4]) {
            let (kind, body) = read(&mut stream).context("the other side did not open")?;
            anyhow::ensure!(kind != 3, "refused: NOTIFICATION {body:?}");
            kinds.push(kind);
        }
        stream.set_read_timeout(None)?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, noted) = (stream.try_clone()?, Arc::clone(&heard));
        std::thread::spawn(move || {
            while let Ok((kind, _)) = read(&mut reader) {
                if kind == 4 {
                    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    noted.push(oca::clock::now());
                }
            }
        });
        Ok(Self { stream, heard })
    }

    /// Returns when the kernel has taken the last of it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream
            .write_all(bytes)
            .context("the session was ended")
    }

    pub(crate) fn keepalive(&mut self) -> anyhow::Result<()> {
        let mut message = Vec::new();
        stream::message(4, &[], &mut message);
        self.send(&message)
    }

    pub(crate) fn heard(&self) -> Vec<Instant> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

/// Version, AS, hold time, identifier, and capabilities: both families, four-octet AS numbers.
fn open(identifier: Ipv4Addr, hold: u16) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(stream::ASN.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(stream::ASN).unwrap_or(23456).to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(identifier.octets());
    let length = u8::try_from(capabilities.len()).unwrap_or(0);
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    body
}

fn read(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 19];
    stream.read_exact(&mut head)?;
    let length = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let mut body = vec![0; length.saturating_sub(19)];
    stream.read_exact(&mut body)?;
    Ok((head[18], body))
}
