//! A server over real sockets with a directory of objects, and viewers, plain and TLS.
//!
//! I/O: loopback sockets, temporary directories, the server's own threads.

// Support code of tests is a test, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use oca::clock;
use oca::gate::Gate;
use oca::object::Digest;
use oca::serve::Config;
use oca::serve::Content;
use oca::serve::Deps;
use oca::serve::Handle;
use oca::serve::Limits;
use oca::serve::Offload;
use oca::serve::Opening;
use oca::serve::Pacing;
use oca::serve::Seams;
use oca::serve::SpeedtestConfig;
use oca::serve::View;
use oca::serve::socket::TcpBind;
use oca::serve::socket::ThreadWorkers;
use oca::store::Entry;
use oca::store::Finding;
use oca::store::ObjectFile;
use oca::store::OpenError;
use oca::task::PhaseTx;
use oca::task::phase;
use oca::tls;
use oca::units::Bytes;
use oca::units::BytesPerSecond;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::StreamOwned;
use rustls::SupportedCipherSuite;
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Nothing in these tests takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// The defaults of the configuration.
pub(crate) fn limits() -> Limits {
    Limits {
        connections: 100_000,
        connections_per_address: 1000,
        handshakes_per_address: 200,
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

/// Bytes in which a lost or doubled piece shows.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut reader = blake3::Hasher::new()
        .update(&length.to_le_bytes())
        .finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

struct Directory {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Content for Directory {
    fn find(&self, key: &str) -> Finding {
        let entry = self.entries.get(key);
        entry.map_or(Finding::Unknown, |entry| Finding::Found(*entry))
    }

    fn open(&self, digest: Digest) -> Opening<'_> {
        let path = self.path.join(digest.to_string());
        Box::pin(std::future::ready(
            std::fs::File::open(path)
                .and_then(|file| {
                    Ok(Arc::new(ObjectFile {
                        length: file.metadata()?.len(),
                        file,
                        digest,
                        volume: 0,
                    }))
                })
                .map_err(|_| OpenError::NotHeld),
        ))
    }

    fn read_failed(&self, _object: &ObjectFile, _error: &io::Error) {}
}

/// A running server; dropping it stops its workers.
pub(crate) struct Server {
    pub(crate) handle: Handle,
    pub(crate) config: Config,
    pub(crate) plain_address: SocketAddr,
    pub(crate) tls_address: SocketAddr,
    pub(crate) access_log: PathBuf,
    root: CertificateDer<'static>,
    phase: PhaseTx,
    _gate: watch::Sender<Gate>,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(limits: Limits, titles: &[(String, Vec<u8>)]) -> Self {
        Self::start_with(limits, titles, 2)
    }

    pub(crate) fn start_with(limits: Limits, titles: &[(String, Vec<u8>)], workers: usize) -> Self {
        Self::start_changed(limits, titles, workers, |_| {})
    }

    /// With a speed test.
    pub(crate) fn start_measured(
        limits: Limits,
        titles: &[(String, Vec<u8>)],
        workers: usize,
        speedtest: SpeedtestConfig,
    ) -> Self {
        Self::start_changed(limits, titles, workers, |config| {
            config.speedtest = speedtest
        })
    }

    pub(crate) fn start_sealed(
        limits: Limits,
        titles: &[(String, Vec<u8>)],
        workers: usize,
        tls_offload: Offload,
    ) -> Self {
        Self::start_changed(limits, titles, workers, |config| {
            config.tls_offload = tls_offload
        })
    }

    /// Otherwise configured than the others.
    pub(crate) fn start_changed(
        limits: Limits,
        titles: &[(String, Vec<u8>)],
        workers: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut entries = BTreeMap::new();
        for (key, bytes) in titles {
            let digest = Digest::of(bytes);
            std::fs::write(path.join(digest.to_string()), bytes).unwrap();
            let entry = Entry {
                digest,
                length: bytes.len() as u64,
                last_modified: 1_700_000_000,
                rank: 0,
            };
            entries.insert(key.clone(), entry);
        }
        let content = Arc::new(Directory { path, entries });
        Self::over(content, dir, limits, workers, change)
    }

    /// Serves any content; `dir` is for what the server itself writes.
    pub(crate) fn over(
        content: Arc<dyn Content>,
        dir: tempfile::TempDir,
        limits: Limits,
        workers: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let speedtest = SpeedtestConfig {
            enabled: false,
            rate_limit: BytesPerSecond(125_000_000),
            connections: 64,
            upload_max: Bytes(64 << 20),
        };
        let path = dir.path().to_owned();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(path.join("chain.pem"), certificate.pem()).unwrap();
        std::fs::write(path.join("key.pem"), key.serialize_pem()).unwrap();
        let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let access_log = path.join("access.log");
        let mut config = Config {
            listen: vec![any_port],
            plain_listen: vec![any_port],
            workers,
            access_log: Some(access_log.clone()),
            access_log_sample: 1,
            drop_behind: false,
            limits,
            pacing: Pacing {
                rate_limit: None,
                cmcd: true,
            },
            tls: tls::Config {
                certificates: vec![tls::CertificateConfig {
                    chain: path.join("chain.pem"),
                    key: path.join("key.pem"),
                }],
            },
            tokens: oca::serve::TokensConfig::default(),
            speedtest,
            tls_offload: Offload::Auto,
        };
        change(&mut config);
        let (gate, gate_seen) = watch::channel(Gate::Serving);
        let (phase, phase_seen) = phase::channel();
        let deps = Deps {
            speedtest_file: Some(path.join("speedtest.bin")),
            content,
            gate: gate_seen,
            tokens: oca::serve::TokenFeed::default(),
            phase: phase_seen,
        };
        let seams = Seams {
            bind: Arc::new(TcpBind),
            spawn: Arc::new(ThreadWorkers),
        };
        let handle = oca::serve::start(&config, deps, seams).unwrap();
        let listeners = handle.view().listeners;
        let address = |tls| listeners.iter().find(|one| one.tls == tls).unwrap().address;
        Self {
            plain_address: address(false),
            tls_address: address(true),
            handle,
            config,
            access_log,
            root: certificate.der().clone(),
            phase,
            _gate: gate,
            _dir: dir,
        }
    }

    pub(crate) fn plain(&self) -> Viewer {
        Viewer::plain(self.plain_address)
    }

    pub(crate) fn secure(&self, version: &'static SupportedProtocolVersion) -> Viewer {
        self.secure_as(&self.client(version))
    }

    pub(crate) fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        self.client_with(provider, &[version])
    }

    pub(crate) fn secure_with(&self, suite: SupportedCipherSuite) -> Viewer {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![suite];
        let version = match suite.tls13() {
            Some(_) => &rustls::version::TLS13,
            None => &rustls::version::TLS12,
        };
        self.secure_as(&self.client_with(provider, &[version]))
    }

    fn client_with(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(client)
    }

    pub(crate) fn secure_as(&self, client: &Arc<ClientConfig>) -> Viewer {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut stream = StreamOwned::new(tls, connect(self.tls_address));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        Viewer::over(Wire::Tls(Box::new(stream)))
    }

    /// A handshake of this client fails.
    pub(crate) fn refuses(&self, client: &Arc<ClientConfig>) -> bool {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut stream = StreamOwned::new(tls, connect(self.tls_address));
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                return true;
            }
        }
        false
    }

    /// Waits until the view is as it should be.
    pub(crate) fn until(&self, is_so: impl Fn(&View) -> bool) {
        let begun = clock::now();
        while !is_so(&self.handle.view()) {
            assert!(
                begun.elapsed() < PATIENCE,
                "never came: {:?}",
                self.handle.view()
            );
            clock::block_for(Duration::from_millis(5));
        }
    }

    /// Stops and waits for the workers.
    pub(crate) fn stop(&self) {
        self.phase.stop();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let finished = async { clock::within(PATIENCE, self.handle.finished()).await };
        runtime.block_on(finished).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.stop();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Somebody with a connection.
pub(crate) struct Viewer {
    wire: Wire,
    rest: Vec<u8>,
    heard: String,
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Viewer {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self::over(Wire::Plain(connect(address)))
    }

    fn over(wire: Wire) -> Self {
        Self {
            wire,
            rest: Vec::new(),
            heard: String::new(),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Plain(stream) => stream.write_all(bytes).unwrap(),
            Wire::Tls(stream) => stream.write_all(bytes).unwrap(),
        }
    }

    fn more(&mut self) {
        let mut piece = vec![0; 64 * 1024];
        let count = match &mut self.wire {
            Wire::Plain(stream) => stream.read(&mut piece).unwrap(),
            Wire::Tls(stream) => stream.read(&mut piece).unwrap(),
        };
        assert!(count > 0, "the connection ended early");
        self.rest.extend_from_slice(&piece[..count]);
    }

    /// What still comes until the end, which is to be an orderly one.
    pub(crate) fn read_to_end(&mut self) -> Result<Vec<u8>, io::ErrorKind> {
        let mut rest = Vec::new();
        let outcome = match &mut self.wire {
            Wire::Plain(stream) => stream.read_to_end(&mut rest),
            Wire::Tls(stream) => stream.read_to_end(&mut rest),
        };
        if let Err(error) = &outcome {
            self.heard = error.to_string();
        }
        outcome.map(|_| rest).map_err(|error| error.kind())
    }

    /// What the last failure of [`Viewer::read_to_end`] said.
    pub(crate) fn heard(&self) -> &str {
        &self.heard
    }

    /// Bytes beneath TLS.
    pub(crate) fn write_raw(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Plain(stream) => stream.write_all(bytes).unwrap(),
            Wire::Tls(stream) => stream.sock.write_all(bytes).unwrap(),
        }
    }

    /// Sends a request and half the record of the same one again, and the rest of it after the
    /// first response; reads both.
    pub(crate) fn hold_half_back(&mut self, request: &[u8]) {
        let Wire::Tls(stream) = &mut self.wire else {
            return;
        };
        let mut bytes = Vec::new();
        for _ in 0..2 {
            stream.conn.writer().write_all(request).unwrap();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut bytes).unwrap();
            }
        }
        let sent = bytes.len() * 3 / 4;
        stream.sock.write_all(&bytes[..sent]).unwrap();
        self.hear();
        self.write_raw(&bytes[sent..]);
        self.hear();
    }

    pub(crate) fn get(&mut self, path: &str, fields: &str) -> Response {
        self.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
        self.hear()
    }

    fn hear(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            self.more();
        };
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |text| text.parse().unwrap());
        while self.rest.len() < length {
            self.more();
        }
        assert_eq!(self.rest.len(), length, "bytes after the response");
        Response {
            status: head[9..12].parse().unwrap(),
            head,
            body: std::mem::take(&mut self.rest),
        }
    }

    pub(crate) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        match &self.wire {
            Wire::Plain(_) => None,
            Wire::Tls(stream) => stream.conn.handshake_kind(),
        }
    }

    pub(crate) fn refresh_keys(&mut self) {
        if let Wire::Tls(stream) = &mut self.wire {
            stream.conn.refresh_traffic_keys().unwrap();
        }
    }
}
