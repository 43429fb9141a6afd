//! A box that gives, boxes that ask, and HTTP by hand, so that it can also be asked as nobody
//! should.
//!
//! I/O: loopback sockets, a temporary directory.

use oca::clock;
use oca::clock::Wall;
use oca::control::authority::Authority;
use oca::ids::BoxId;
use oca::link::identity::Identity;
use oca::link::manifest::Verifier;
use oca::link::message::Enrolled;
use oca::link::message::VERSION;
use oca::link::peering::box_client_config;
use oca::link::ticket::SCHEME;
use oca::link::ticket::Ticket;
use oca::object::Digest;
use oca::peer;
use oca::peer::Limits;
use oca::peer::View;
use oca::serve::Offload;
use oca::serve::socket::ThreadWorkers;
use oca::store;
use oca::task::PhaseTx;
use oca::telemetry;
use oca::units::BytesPerSecond;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The box that gives.
pub(crate) const GIVER: &str = "c001-tls001-example-isp";
/// The box that asks.
pub(crate) const ASKER: &str = "c002-tls001-example-isp";
/// Another one with a certificate of its own.
pub(crate) const THIRD: &str = "c003-tls001-example-isp";

/// Nothing here takes so long; a hang ends as a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane's keys.
pub(crate) struct Plane {
    pub(crate) authority: Authority,
    _directory: tempfile::TempDir,
}

pub(crate) struct Lab {
    pub(crate) plane: Plane,
    pub(crate) handle: peer::Handle,
    pub(crate) phase: PhaseTx,
    pub(crate) store: store::Handle,
    pub(crate) metrics: telemetry::Registry,
    /// What the giver is at the moment.
    pub(crate) giver: Arc<Mutex<Option<Identity>>>,
    pub(crate) asker: Identity,
    pub(crate) disk: PathBuf,
    _directory: tempfile::TempDir,
}

/// What to change for one test.
pub(crate) struct Setting {
    pub(crate) limits: Limits,
    pub(crate) connections: usize,
    pub(crate) rate_limit: BytesPerSecond,
    pub(crate) offload: Offload,
    /// The giver's disk, where it is not to be memory.
    pub(crate) disk: Option<PathBuf>,
    /// How long a disk may take for an answer.
    pub(crate) deadline: Duration,
}

/// A connection of a box.
pub(crate) struct Client(TlsStream<TcpStream>);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            connections: 64,
            rate_limit: BytesPerSecond(1 << 40),
            offload: Offload::Auto,
            disk: None,
            deadline: Duration::from_secs(10),
        }
    }
}

impl Plane {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            authority: Authority::open(directory.path(), clock::wall()).unwrap(),
            _directory: directory,
        }
    }

    pub(crate) fn enrol(&self, id: &str) -> Identity {
        self.enrol_at(id, clock::wall())
    }

    /// With a certificate that was issued `now`.
    pub(crate) fn enrol_at(&self, id: &str, now: Wall) -> Identity {
        let mut identity = Identity::transient(&self.authority.fingerprint()).unwrap();
        self.issue(&mut identity, id, now);
        identity
    }

    pub(crate) fn issue(&self, identity: &mut Identity, id: &str, now: Wall) {
        let request = identity.csr().unwrap();
        let issued = self.authority.issue(&name(id), &request, now).unwrap();
        let enrolled = Enrolled {
            v: VERSION,
            id: id.to_owned(),
            certificate: issued.pem,
            ca: self.authority.certificate_pem().to_owned(),
            manifest_keys: self.authority.manifest_keys(),
        };
        identity.accept(&enrolled).unwrap();
    }
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(Setting::default()).await
    }

    pub(crate) async fn with(setting: Setting) -> Self {
        let plane = Plane::new();
        let memory = tempfile::tempdir_in("/dev/shm");
        let directory = memory.or_else(|_| tempfile::tempdir()).unwrap();
        let disk = setting
            .disk
            .unwrap_or_else(|| directory.path().join("disk"));
        std::fs::create_dir_all(&disk).unwrap();
        let store = store::start(&store::Config {
            disks: vec![store::DiskConfig {
                path: disk.clone(),
                class: store::DiskClass::Ssd,
                zone: oca::store::Zone::None,
                plain_directory: true,
            }],
            state_dir: directory.path().join("state"),
            deadline: setting.deadline,
            upkeep: store::Upkeep::default(),
        })
        .unwrap();
        store.ready().await;
        let (phase, watched) = oca::task::phase::channel();
        let giver = Arc::new(Mutex::new(Some(plane.enrol(GIVER))));
        let (current, keys) = (Arc::clone(&giver), plane.authority.manifest_keys());
        let metrics = telemetry::Registry::new("test", clock::now());
        let deps = peer::Deps {
            id: name(GIVER),
            identity: Arc::new(move || {
                let identity = current.lock().unwrap().clone()?;
                Some((identity, Verifier::new(&keys).unwrap()))
            }),
            store: store.clone(),
            bind: Arc::new(peer::net::Tcp),
            spawn: Arc::new(ThreadWorkers),
            offload: setting.offload,
            phase: watched,
            metrics: metrics.clone(),
            limits: setting.limits,
        };
        let config = peer::Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            connections: setting.connections,
            rate_limit: setting.rate_limit,
        };
        let handle = peer::start(&config, deps).unwrap();
        Self {
            asker: plane.enrol(ASKER),
            plane,
            handle,
            phase,
            store,
            metrics,
            giver,
            disk,
            _directory: directory,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.handle.view().listen[0]
    }

    /// Makes an object of `length` bytes that no test can mistake for another.
    pub(crate) fn publish(&self, seed: u64, length: usize) -> (Digest, Vec<u8>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        let name = seed.to_be_bytes();
        let size = u64::try_from(length).unwrap();
        let staged = self.store.stage(&name, size, &BTreeSet::new());
        let mut publication = staged.unwrap();
        for piece in bytes.chunks(1 << 20) {
            publication.write(piece.to_vec()).unwrap();
        }
        let digest = publication.commit(None).unwrap().digest;
        assert_eq!(digest, Digest::of(&bytes));
        (digest, bytes)
    }

    /// Where the bytes are.
    pub(crate) fn file(&self, digest: Digest) -> PathBuf {
        let text = digest.to_string();
        let objects = self.disk.join("objects");
        objects.join(&text[..2]).join(&text[2..4]).join(text)
    }

    /// For the asker, these objects and so many bytes, for a minute.
    pub(crate) fn ticket(&self, digests: &[Digest], bytes: u64) -> Ticket {
        let now = clock::unix_seconds(clock::wall());
        Ticket {
            asker: name(ASKER),
            source: GIVER.to_owned(),
            digests: digests.to_vec(),
            not_before: now,
            expires: now + 60,
            bytes,
            rate_bps: None,
        }
    }

    pub(crate) fn sign(&self, ticket: &Ticket) -> String {
        self.plane.authority.signer().ticket(ticket)
    }

    /// A ticket with more budget than any test needs.
    pub(crate) fn good(&self, digests: &[Digest]) -> String {
        self.sign(&self.ticket(digests, 1 << 40))
    }

    /// The asker's connection.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_as(&self.asker).await.unwrap()
    }

    pub(crate) async fn connect_as(&self, identity: &Identity) -> io::Result<Client> {
        let config = box_client_config(identity, &name(GIVER)).unwrap();
        Client::open(self.tcp(1).await, config).await
    }

    /// From 127.0.0.`last`.
    pub(crate) async fn tcp(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        let from = Ipv4Addr::new(127, 0, 0, last);
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(self.address()).await.unwrap()
    }

    /// Waits until the listener's view is so.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&View) -> bool) -> View {
        let end = clock::now() + PATIENCE;
        loop {
            let view = self.handle.view();
            if holds(&view) {
                return view;
            }
            assert!(clock::now() < end, "waited in vain for {what}: {view:?}");
            clock::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Client {
    /// TLS, and a first sign of life: a server that refuses our certificate says so only after
    /// the client's half of the handshake.
    pub(crate) async fn open(stream: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("ignored.example.net").unwrap();
        let connecting = TlsConnector::from(config).connect(name, stream);
        clock::within(PATIENCE, connecting).await.unwrap().map(Self)
    }

    /// The server's leaf.
    pub(crate) fn presented(&self) -> Vec<u8> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sending = async {
            self.0.write_all(bytes).await?;
            self.0.flush().await
        };
        clock::within(PATIENCE, sending).await.unwrap()
    }

    /// `lines`: header fields, each with its end of line.
    pub(crate) async fn get(&mut self, digest: Digest, ticket: &str, lines: &str) -> Answer {
        let request = get(digest, ticket, lines);
        self.ask(&request).await
    }

    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        self.send(request.as_bytes()).await.unwrap();
        self.answer(request.starts_with("HEAD")).await.unwrap()
    }

    /// One answer, whole.
    pub(crate) async fn answer(&mut self, is_head: bool) -> io::Result<Answer> {
        let mut answer = self.head().await?;
        let length = answer.headers.get("content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        if !is_head {
            answer.body = vec![0; length];
            let reading = self.0.read_exact(&mut answer.body);
            clock::within(PATIENCE, reading).await.unwrap()?;
        }
        Ok(answer)
    }

    pub(crate) async fn head(&mut self) -> io::Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(head.len() < 64 * 1024, "an endless head");
            let reading = self.0.read_u8();
            head.push(clock::within(PATIENCE, reading).await.unwrap()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Ok(Answer {
            status: status.parse().unwrap(),
            headers: fields.collect(),
            body: Vec::new(),
        })
    }

    pub(crate) async fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let reading = self.0.read_exact(&mut bytes);
        clock::within(PATIENCE, reading).await.unwrap()?;
        Ok(bytes)
    }

    /// Everything until the end, clean or not.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let reading = self.0.read_to_end(&mut bytes);
        let outcome = clock::within(PATIENCE, reading).await;
        let outcome = outcome.expect("the connection hangs");
        (bytes, outcome.map(drop))
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The sentence of a refusal.
    pub(crate) fn message(&self) -> String {
        let refusal: oca::link::message::Refusal = serde_json::from_slice(&self.body).unwrap();
        refusal.error.message
    }
}

pub(crate) fn name(id: &str) -> BoxId {
    BoxId::parse(id).unwrap()
}

pub(crate) fn get(digest: Digest, ticket: &str, lines: &str) -> String {
    format!(
        "GET /fill/{digest} HTTP/1.1\r\nHost: giver\r\nAuthorization: {SCHEME} {ticket}\r\n\
         {lines}\r\n"
    )
}
