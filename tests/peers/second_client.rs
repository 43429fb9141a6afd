//! The second client: it reads object after object over many connections, each object once, as
//! fast as the box gives them.
//!
//! I/O: threads and loopback sockets.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Error;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

/// No byte for so long is a failure, which is counted.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct SecondClient {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    /// Of the objects that nobody has asked for.
    paths: Vec<String>,
    next: AtomicUsize,
    bytes: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl SecondClient {
    /// Begins to read `paths` over so many connections.
    pub(crate) fn start(address: SocketAddr, paths: Vec<String>, connections: usize) -> Self {
        let shared = Arc::new(Shared {
            address,
            paths,
            next: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let threads = (0..connections)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.read())
            })
            .collect();
        Self { shared, threads }
    }

    /// Bytes of bodies so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Relaxed)
    }

    /// Answers other than 200, and bodies that were cut.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.failed.load(Relaxed)
    }

    /// There was nothing left to ask for: from then on it read less than it could.
    pub(crate) fn ran_out(&self) -> bool {
        self.shared.next.load(Relaxed) > self.shared.paths.len()
    }
}

impl Drop for SecondClient {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn read(&self) {
        let mut connection = None;
        while !self.stop.load(Relaxed) {
            let Some(path) = self.paths.get(self.next.fetch_add(1, Relaxed)) else {
                return;
            };
            let got = match connection.take() {
                Some(open) => Ok(open),
                None => self.connect(),
            };
            match got.and_then(|open| self.get(open, path)) {
                Ok(open) => connection = Some(open),
                Err(_) if self.stop.load(Relaxed) => {}
                Err(_) => {
                    self.failed.fetch_add(1, Relaxed);
                }
            }
        }
    }

    fn connect(&self) -> std::io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(BufReader::with_capacity(256 * 1024, stream))
    }

    /// One object; its bytes are counted as they come.
    fn get(
        &self,
        mut open: BufReader<TcpStream>,
        path: &str,
    ) -> std::io::Result<BufReader<TcpStream>> {
        let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        open.get_mut().write_all(ask.as_bytes())?;
        let (mut length, mut status, mut line) = (0_u64, String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if open.read_line(&mut line)? == 0 {
                return Err(Error::other("it closed"));
            }
            if status.is_empty() {
                status.clone_from(&line);
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(Error::other)?;
            }
        }
        if !status.contains(" 200 ") {
            return Err(Error::other(status));
        }
        let mut room = vec![0; 64 * 1024];
        while length > 0 && !self.stop.load(Relaxed) {
            let most = usize::try_from(length).map_or(room.len(), |left| left.min(room.len()));
            let count = open.read(&mut room[..most])?;
            if count == 0 {
                return Err(Error::other("it was cut"));
            }
            length -= count as u64;
            self.bytes.fetch_add(count as u64, Relaxed);
        }
        Ok(open)
    }
}
