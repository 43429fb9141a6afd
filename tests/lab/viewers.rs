//! Viewers of every kind, which check each byte they get: polite, slow, rude and hostile.
//!
//! They know what the box holds, so that a wrong byte is found where it arrives. A response that
//! is cut, and a 503, are allowed while a disk is broken; a wrong byte never is.
//!
//! I/O: blocking sockets, a thread for each viewer.

use oca::clock;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A box that answers nothing for so long has failed its viewer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all viewers share.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub plain: SocketAddr,
    pub https: SocketAddr,
    pub tls: Arc<ClientConfig>,
    /// What the box holds.
    pub titles: BTreeMap<String, Vec<u8>>,
    pub stop: AtomicBool,
    /// A disk is broken: what it holds may be cut or answered with 503.
    pub is_faulty: AtomicBool,
    pub counts: Counts,
    /// The first things that went wrong.
    pub wrongs: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub responses: AtomicU64,
    pub bytes: AtomicU64,
    pub cut: AtomicU64,
    pub unavailable: AtomicU64,
    pub rude: AtomicU64,
}

/// How a viewer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// One request after the other, whole objects and ranges.
    Polite,
    /// Several requests before the first answer is read.
    Pipelining,
    /// Reads little at a time, and pauses.
    Slow,
    /// Resets the connection in the middle of a body.
    Leaving,
    /// Sends what is no request, and half of one.
    Hostile,
    /// Connects, shakes hands, and stays silent.
    Idle,
}

/// Trusts one authority; TLS 1.3 and 1.2.
pub(crate) fn client(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// One connection and what it has read ahead.
struct Wire {
    stream: Box<dyn Stream>,
    socket: TcpStream,
    ahead: Vec<u8>,
}

/// How an exchange ended.
enum End {
    Whole,
    Cut,
}

impl Wire {
    fn open(crowd: &Crowd, tls: bool) -> io::Result<Self> {
        let address = if tls { crowd.https } else { crowd.plain };
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let own = socket.try_clone()?;
        let stream: Box<dyn Stream> = if tls {
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let session = ClientConnection::new(Arc::clone(&crowd.tls), name);
            Box::new(StreamOwned::new(session.map_err(io::Error::other)?, own))
        } else {
            Box::new(own)
        };
        Ok(Self {
            stream,
            socket,
            ahead: Vec::new(),
        })
    }

    /// The head of a response: its status and length.
    fn head(&mut self) -> io::Result<(u16, usize)> {
        let mut piece = [0; 4096];
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let count = self.stream.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.ahead.extend_from_slice(&piece[..count]);
        };
        let head = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
        self.ahead.drain(..end);
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            is_it.then(|| value.parse().ok()).flatten()
        });
        status
            .zip(length.or(Some(0)))
            .ok_or_else(|| io::Error::other(format!("no response: {head}")))
    }

    /// Reads a body and compares it while it comes; `pause` after each piece.
    fn body(&mut self, wanted: &[u8], pause: Option<Duration>) -> io::Result<End> {
        let mut piece = vec![0; 64 * 1024];
        let mut at = 0;
        while at < wanted.len() {
            let count = if self.ahead.is_empty() {
                let most = piece.len().min(wanted.len() - at);
                match self.stream.read(&mut piece[..most]) {
                    Ok(0) => return Ok(End::Cut),
                    Ok(count) => count,
                    Err(error) if is_cut(&error) => return Ok(End::Cut),
                    Err(error) => return Err(error),
                }
            } else {
                let count = self.ahead.len().min(piece.len()).min(wanted.len() - at);
                piece[..count].copy_from_slice(&self.ahead[..count]);
                self.ahead.drain(..count);
                count
            };
            if piece[..count] != wanted[at..at + count] {
                let text = format!("WRONG BYTES between {at} and {}", at + count);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            at += count;
            if let Some(pause) = pause {
                clock::block_for(pause);
            }
        }
        Ok(End::Whole)
    }
}

/// The connection ended before the response did: the box, not the network, says so by a reset or
/// an end without close_notify.
fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe
    )
}

/// One request: its path and `Range` lines, and what must come.
fn choose<'a>(crowd: &'a Crowd, random: &mut fastrand::Rng) -> (String, u16, &'a [u8]) {
    let number = random.usize(..crowd.titles.len());
    let (key, bytes) = crowd.titles.iter().nth(number).unwrap();
    let first = random.usize(..bytes.len());
    let last = random.usize(first..bytes.len());
    let get = |path: &str, fields: &str| {
        format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
    };
    match random.u8(..4) {
        0 => {
            let fields = format!("Range: bytes={first}-{last}\r\n");
            (get(key, &fields), 206, &bytes[first..=last])
        }
        1 => {
            let path = format!("{key}/range/{first}-{last}");
            (get(&path, ""), 206, &bytes[first..=last])
        }
        _ => (get(key, ""), 200, bytes),
    }
}

impl Crowd {
    fn wrong(&self, what: String) {
        let mut wrongs = self.wrongs.lock().unwrap();
        if wrongs.len() < 20 {
            wrongs.push(what);
        }
    }

    /// Sends `count` requests at once and checks the answers; `false`: connect anew.
    fn exchange(
        &self,
        wire: &mut Wire,
        random: &mut fastrand::Rng,
        count: usize,
        pause: Option<Duration>,
    ) -> io::Result<bool> {
        let asked: Vec<_> = (0..count).map(|_| choose(self, random)).collect();
        let heads: String = asked.iter().map(|(head, ..)| head.as_str()).collect();
        wire.stream.write_all(heads.as_bytes())?;
        wire.stream.flush()?;
        for (head, status, wanted) in asked {
            let (got, length) = wire.head()?;
            let is_faulty = self.is_faulty.load(Relaxed);
            if got == 503 && is_faulty {
                self.counts.unavailable.fetch_add(1, Relaxed);
                // Its text is not known, only how long it is.
                let mut text = vec![0; length];
                let ahead = wire.ahead.len().min(length);
                wire.ahead.drain(..ahead);
                wire.stream.read_exact(&mut text[ahead..])?;
                continue;
            }
            if got != status || length != wanted.len() {
                let line = head.lines().next().unwrap_or_default();
                self.wrong(format!("{line}: {got} with {length} B, not {status}"));
                return Ok(false);
            }
            match wire.body(wanted, pause)? {
                End::Whole => {}
                End::Cut if self.is_faulty.load(Relaxed) => {
                    self.counts.cut.fetch_add(1, Relaxed);
                    return Ok(false);
                }
                End::Cut => {
                    self.wrong(format!("{head:?} was cut"));
                    return Ok(false);
                }
            }
            self.counts.responses.fetch_add(1, Relaxed);
            self.counts.bytes.fetch_add(wanted.len() as u64, Relaxed);
        }
        Ok(true)
    }

    /// One connection's life.
    fn visit(&self, manner: Manner, tls: bool, random: &mut fastrand::Rng) -> io::Result<()> {
        let mut wire = Wire::open(self, tls)?;
        for _ in 0..50 {
            if self.stop.load(Relaxed) {
                return Ok(());
            }
            let goes_on = match manner {
                Manner::Polite => self.exchange(&mut wire, random, 1, None)?,
                Manner::Pipelining => {
                    let count = random.usize(2..6);
                    self.exchange(&mut wire, random, count, None)?
                }
                Manner::Slow => {
                    self.exchange(&mut wire, random, 1, Some(Duration::from_millis(20)))?
                }
                Manner::Leaving => return self.leave(&mut wire, random),
                Manner::Hostile => return self.attack(&mut wire, random),
                Manner::Idle => {
                    // A handshake, one request, and then nothing.
                    self.exchange(&mut wire, random, 1, None)?;
                    for _ in 0..20 {
                        if self.stop.load(Relaxed) {
                            break;
                        }
                        clock::block_for(Duration::from_millis(100));
                    }
                    return Ok(());
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    fn leave(&self, wire: &mut Wire, random: &mut fastrand::Rng) -> io::Result<()> {
        let (head, ..) = choose(self, random);
        wire.stream.write_all(head.as_bytes())?;
        let mut some = vec![0; random.usize(1..100_000)];
        let _ = wire.stream.read(&mut some);
        self.counts.rude.fetch_add(1, Relaxed);
        // Unread bytes in the receive buffer make closing a reset.
        Ok(())
    }

    fn attack(&self, wire: &mut Wire, random: &mut fastrand::Rng) -> io::Result<()> {
        self.counts.rude.fetch_add(1, Relaxed);
        let noise: Vec<u8> = (0..random.usize(1..5_000)).map(|_| random.u8(..)).collect();
        match random.u8(..4) {
            // Noise below TLS or instead of HTTP.
            0 => wire.socket.write_all(&noise)?,
            1 => wire.stream.write_all(&noise)?,
            // Half a head, then silence and an end.
            2 => wire
                .stream
                .write_all(b"GET /film/part HTTP/1.1\r\nHost: lo")?,
            _ => {
                let head = "POST /film/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
                wire.stream.write_all(head.as_bytes())?;
                wire.stream.write_all(&noise)?;
            }
        }
        let mut answer = [0; 1_000];
        wire.socket
            .set_read_timeout(Some(Duration::from_millis(200)))?;
        let _ = wire.stream.read(&mut answer);
        Ok(())
    }
}

/// Visits again and again until the crowd stops. What goes wrong is kept.
pub(crate) fn run(crowd: &Crowd, manner: Manner, tls: bool, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !crowd.stop.load(Relaxed) {
        let outcome = crowd.visit(manner, tls, &mut random);
        let is_rude = matches!(manner, Manner::Hostile | Manner::Leaving);
        match outcome {
            Ok(()) => {}
            Err(_) if is_rude => {}
            Err(error) if is_cut(&error) && crowd.is_faulty.load(Relaxed) => {
                crowd.counts.cut.fetch_add(1, Relaxed);
            }
            Err(error) => crowd.wrong(format!("{manner:?}, tls {tls}: {error}")),
        }
    }
}
