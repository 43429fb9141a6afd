//! What the tests of this room share: a directory as content, and a viewer who reads responses.

use super::Config;
use super::Content;
use super::Deps;
use super::Handle;
use super::Limits;
use super::Opening;
use super::Seams;
use super::memory::MemoryNet;
use super::memory::TaskWorkers;
use crate::gate::Gate;
use crate::object::Digest;
use crate::store::Entry;
use crate::store::Finding;
use crate::store::ObjectFile;
use crate::store::OpenError;
use crate::task::PhaseTx;
use crate::task::phase;
use crate::tls;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::sync::watch;

pub(super) const MODIFIED: u64 = 1_700_000_000;

/// The defaults of the configuration.
pub(super) fn limits() -> Limits {
    Limits {
        connections: 100_000,
        connections_per_address: 1000,
        head: 16 * 1024,
        headers: 64,
        handshake_time: Duration::from_secs(10),
        head_time: Duration::from_secs(10),
        idle_time: Duration::from_secs(60),
        progress_time: Duration::from_secs(20),
        progress: 16 * 1024,
        requests: 10_000,
        linger_time: Duration::from_secs(600),
        linger_limit: Duration::from_secs(7200),
    }
}

/// Objects as files of a directory, named by digest.
pub(super) struct Files {
    dir: tempfile::TempDir,
    entries: BTreeMap<String, Entry>,
    pub(super) read_errors: Mutex<Vec<String>>,
}

impl Files {
    pub(super) fn new(objects: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut entries = BTreeMap::new();
        for (key, bytes) in objects {
            let digest = Digest::of(bytes);
            std::fs::write(dir.path().join(digest.to_string()), bytes).unwrap();
            let entry = Entry {
                digest,
                length: bytes.len() as u64,
                last_modified: MODIFIED,
                rank: 0,
            };
            entries.insert((*key).to_owned(), entry);
        }
        Self {
            dir,
            entries,
            read_errors: Mutex::default(),
        }
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.dir.path().join(self.entries[key].digest.to_string())
    }
}

impl Content for Files {
    fn find(&self, key: &str) -> Finding {
        assert_ne!(key, "panic", "the test asked for it");
        match self.entries.get(key) {
            Some(entry) => Finding::Found(*entry),
            None if key.starts_with("scanning/") => Finding::Unavailable,
            None => Finding::Unknown,
        }
    }

    fn open(&self, digest: Digest) -> Opening<'_> {
        let entry = self.entries.values().find(|entry| entry.digest == digest);
        let file = std::fs::File::open(self.dir.path().join(digest.to_string()));
        let unavailable = |reason: String| OpenError::Unavailable {
            disk: "/secret/disk".to_owned(),
            state: "isolated",
            reason,
        };
        let opened = match (file, entry) {
            (Ok(file), Some(entry)) => Ok(Arc::new(ObjectFile {
                file,
                length: entry.length,
                digest,
                volume: 0,
            })),
            (Err(error), Some(_)) => Err(unavailable(error.to_string())),
            (_, None) => Err(OpenError::NotHeld),
        };
        Box::pin(std::future::ready(opened))
    }

    fn read_failed(&self, object: &ObjectFile, error: &io::Error) {
        let line = format!("{} {error}", object.digest);
        self.read_errors.lock().unwrap().push(line);
    }
}

/// A box in memory: one worker, one plain address.
pub(super) struct World {
    pub(super) net: MemoryNet,
    pub(super) handle: Handle,
    pub(super) gate: watch::Sender<Gate>,
    pub(super) phase: PhaseTx,
    pub(super) files: Arc<Files>,
    pub(super) config: Config,
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl World {
    pub(super) fn new(limits: Limits, objects: &[(&str, &[u8])]) -> Self {
        let net = MemoryNet::default();
        let files = Arc::new(Files::new(objects));
        let (gate, gate_seen) = watch::channel(Gate::Serving);
        let (phase, phase_seen) = phase::channel();
        let config = Config {
            listen: Vec::new(),
            plain_listen: vec![address("192.0.2.80:80")],
            workers: 1,
            access_log: None,
            limits,
            tls: tls::Config {
                certificates: Vec::new(),
            },
            tls_offload: super::Offload::Auto,
        };
        let deps = Deps {
            content: Arc::clone(&files) as Arc<dyn Content>,
            gate: gate_seen,
            phase: phase_seen,
        };
        let seams = Seams {
            bind: Arc::new(net.clone()),
            spawn: Arc::new(TaskWorkers),
        };
        let handle = super::start(&config, deps, seams).unwrap();
        Self {
            net,
            handle,
            gate,
            phase,
            files,
            config,
        }
    }

    pub(super) async fn viewer(&self, from: &str) -> Viewer {
        let peer = address(&format!("{from}:4000"));
        let stream = self.net.connect(peer, address("192.0.2.80:80")).await;
        Viewer {
            stream: stream.unwrap(),
            rest: Vec::new(),
        }
    }

    pub(super) fn refused(&self, reason: &str) -> u64 {
        self.handle.view().refusals[reason]
    }
}

/// Somebody with a connection.
pub(super) struct Viewer {
    pub(super) stream: DuplexStream,
    rest: Vec<u8>,
}

/// A response, read to its end.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

impl Viewer {
    pub(super) async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next response; `None` at the end of the stream. `has_body` is false after HEAD.
    pub(super) async fn hear(&mut self, has_body: bool) -> Option<Response> {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if self.more().await == 0 {
                assert!(self.rest.is_empty(), "cut inside a head: {:?}", self.rest);
                return None;
            }
        };
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
        };
        let length = response
            .field("content-length")
            .map_or(0, |text| text.parse().unwrap());
        if has_body {
            while self.rest.len() < length && self.more().await > 0 {}
            let end = length.min(self.rest.len());
            response.body = self.rest.drain(..end).collect();
        }
        Some(response)
    }

    pub(super) async fn get(&mut self, path: &str, fields: &str) -> Option<Response> {
        self.say(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
            .await;
        self.hear(true).await
    }

    /// True once the server has ended the connection.
    pub(super) async fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && self.more().await == 0
    }

    async fn more(&mut self) -> usize {
        let mut piece = [0; 4096];
        let count = self.stream.read(&mut piece).await.unwrap_or(0);
        self.rest.extend_from_slice(&piece[..count]);
        count
    }
}
