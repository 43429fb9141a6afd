//! A control plane's link side with an authority of its own, and simulated boxes.

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use oca::clock;
use oca::clock::Wall;
use oca::control::LinkConfig;
use oca::control::StalenessConfig;
use oca::control::api::link;
use oca::control::fleet;
use oca::control::fleet::BoxView;
use oca::control::model::Appliance;
use oca::control::model::Library;
use oca::control::model::Registry;
use oca::gate::Reason;
use oca::ids::BoxId;
use oca::ids::Profile;
use oca::link::body;
use oca::link::identity;
use oca::link::message::Catalogue;
use oca::link::message::Code;
use oca::link::message::Enrol;
use oca::link::message::Enrolled;
use oca::link::message::GateState;
use oca::link::message::Heartbeat;
use oca::link::message::Load;
use oca::link::message::Position;
use oca::link::message::Refusal;
use oca::link::message::Renew;
use oca::link::message::Report;
use oca::link::message::Routes;
use oca::object::Digest;
use oca::set_hash::SetHash;
use oca::telemetry;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::sync::watch;

pub(crate) const BOOT: &str = "0123456789abcdef0123456789abcdef";

/// Small enough to be exceeded quickly.
pub(crate) const BODIES: body::Limits = body::Limits {
    compressed: 1024 * 1024,
    decompressed: 8 * 1024 * 1024,
};

/// A certificate authority: ours, or a false one.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    /// Of every box: the registry binds their names to it.
    boxes: rcgen::KeyPair,
    pub(crate) certificate: CertificateDer<'static>,
}

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Pass {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

pub(crate) struct Lab {
    pub(crate) authority: Authority,
    pub(crate) registry: watch::Sender<Arc<Registry>>,
    pub(crate) signing: watch::Sender<oca::control::signing::Current>,
    pub(crate) fleet: fleet::Handle,
    pub(crate) metrics: telemetry::Registry,
    pub(crate) renewed: Arc<Mutex<Vec<BoxId>>>,
    pub(crate) deps: link::Deps,
    pub(crate) actions: mpsc::Receiver<fleet::Action>,
    listener: Option<link::Handle>,
    _library: watch::Sender<Arc<Library>>,
    _manifests: watch::Sender<Arc<BTreeMap<BoxId, Position>>>,
}

/// A box's connection.
pub(crate) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    pub(crate) ended: tokio::task::JoinHandle<hyper::Result<()>>,
}

#[derive(Debug)]
struct Office {
    renewed: Arc<Mutex<Vec<BoxId>>>,
}

#[derive(Debug)]
pub(crate) struct Shelf;

pub(crate) fn id(number: usize) -> BoxId {
    BoxId::parse(&format!("c{number:03}-tls001-example-isp")).unwrap()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            issuer: rcgen::Issuer::new(params, key),
            boxes: rcgen::KeyPair::generate().unwrap(),
        }
    }

    /// For a box, ending `days` from today.
    pub(crate) fn pass(&self, id: &BoxId, days: i64) -> Pass {
        let uri = format!("oca://box/{id}");
        self.issue_for(
            rcgen::SanType::URI(uri.try_into().unwrap()),
            days,
            &self.boxes,
        )
    }

    /// What the registry knows boxes by.
    pub(crate) fn key_of_boxes(&self) -> String {
        let pass = self.pass(&id(1), 1);
        identity::key_fingerprint_of_certificate(&pass.chain[0]).unwrap()
    }

    pub(crate) fn issue(&self, name: rcgen::SanType, days: i64) -> Pass {
        self.issue_for(name, days, &rcgen::KeyPair::generate().unwrap())
    }

    fn issue_for(&self, name: rcgen::SanType, days: i64, key: &rcgen::KeyPair) -> Pass {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let ends = clock::wall().as_second() + days * 86_400;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let whole_days = u64::try_from((ends - 1_577_836_800) / 86_400).unwrap();
        params.not_after = params.not_before + Duration::from_secs(whole_days * 86_400);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Pass {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }

    fn server(&self) -> Arc<rustls::sign::SingleCertAndKey> {
        let localhost = rcgen::SanType::DnsName("localhost".try_into().unwrap());
        let Pass { chain, key } = self.issue(localhost, 30);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
        Arc::new(rustls::sign::SingleCertAndKey::from(certified))
    }

    /// How a box connects that trusts this authority.
    pub(crate) fn client(&self, pass: Option<Pass>) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match pass {
            None => builder.with_no_client_auth(),
            Some(Pass { chain, key }) => builder.with_client_auth_cert(chain, key).unwrap(),
        })
    }
}

impl Lab {
    pub(crate) fn new(boxes: usize) -> Self {
        Self::with(boxes, link::Limits::default())
    }

    pub(crate) fn with(boxes: usize, limits: link::Limits) -> Self {
        let authority = Authority::new();
        let metrics = telemetry::Registry::new("0", clock::now());
        let mut registry = registry(boxes);
        for appliance in registry.appliances.values_mut() {
            appliance.key_fingerprint = Some(authority.key_of_boxes());
        }
        let (registry, registry_rx) = watch::channel(Arc::new(registry));
        let (library, library_rx) = watch::channel(Arc::<Library>::default());
        let (manifests, manifests_rx) = watch::channel(Arc::default());
        let (actions_tx, actions) = mpsc::channel(8);
        let (signing, signing_rx) = watch::channel(None);
        let fleet = fleet::start(
            fleet_config(),
            fleet::Deps {
                registry: registry_rx.clone(),
                library: library_rx.clone(),
                manifests: manifests_rx,
                fill: watch::Sender::default().subscribe(),
                signing: signing_rx,
                actions: actions_tx,
                metrics: metrics.clone(),
            },
        );
        let renewed = Arc::<Mutex<Vec<BoxId>>>::default();
        let tls = link::server_config(
            std::slice::from_ref(&authority.certificate),
            authority.server(),
        );
        let deps = link::Deps {
            tls: tls.unwrap(),
            fleet: fleet.inbox(),
            registry: registry_rx,
            library: library_rx,
            enrolment: Arc::new(Office {
                renewed: renewed.clone(),
            }),
            manifests: Arc::new(Shelf),
            sources: Arc::new(Shelf),
            origin: Arc::new(Shelf),
            bodies: BODIES,
            limits,
            metrics: metrics.clone(),
        };
        Self {
            authority,
            registry,
            signing,
            fleet,
            metrics,
            renewed,
            deps,
            actions,
            listener: None,
            _library: library,
            _manifests: manifests,
        }
    }

    /// Listens on a port of the kernel's choice.
    pub(crate) fn listen(mut self) -> Self {
        let config = LinkConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            names: Vec::new(),
            body: BODIES.compressed,
            body_decompressed: BODIES.decompressed,
        };
        self.listener = Some(link::start(&config, self.deps.clone()).unwrap());
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.as_ref().unwrap().addresses()[0]
    }

    /// The connection of a box with a good certificate.
    pub(crate) async fn dial(&self, number: usize) -> Wire {
        self.dial_with(Some(self.authority.pass(&id(number), 10)))
            .await
            .unwrap()
    }

    pub(crate) async fn dial_with(&self, pass: Option<Pass>) -> std::io::Result<Wire> {
        let tcp = tokio::net::TcpStream::connect(self.address()).await?;
        tcp.set_nodelay(true)?;
        wire(tcp, self.authority.client(pass)).await
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Registry)) {
        self.registry.send_modify(|registry| {
            let mut next = Registry::clone(registry);
            next.revision += 1;
            change(&mut next);
            *registry = Arc::new(next);
        });
    }

    /// The published view of a box, as soon as it is as asked.
    pub(crate) async fn see(&self, number: usize, is: impl Fn(&BoxView) -> bool) -> Arc<BoxView> {
        let mut view = self.fleet.view();
        let seen = view.wait_for(|view| view.boxes.get(&id(number)).is_some_and(|b| is(b)));
        let seen = clock::within(Duration::from_secs(20), seen).await;
        Arc::clone(&seen.unwrap().unwrap().boxes[&id(number)])
    }
}

/// TLS and HTTP over any stream.
pub(crate) async fn wire<S>(stream: S, config: Arc<rustls::ClientConfig>) -> std::io::Result<Wire>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let name = "localhost".try_into().unwrap();
    let tls = tokio_rustls::TlsConnector::from(config);
    let stream = tls.connect(name, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    Ok(Wire {
        sender,
        ended: tokio::spawn(connection),
    })
}

impl Wire {
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Bytes>> {
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    pub(crate) async fn post(
        &mut self,
        path: &str,
        encoding: Option<&str>,
        body: impl Into<Bytes>,
    ) -> hyper::Result<Response<Bytes>> {
        let mut request = Request::post(path).header("host", "localhost");
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        self.send(request.body(Full::new(body.into())).unwrap())
            .await
    }

    /// Posts a message as boxes do.
    pub(crate) async fn say(
        &mut self,
        path: &str,
        message: &impl serde::Serialize,
    ) -> Response<Bytes> {
        let body = body::encode(message).unwrap();
        self.post(path, Some("zstd"), body).await.unwrap()
    }
}

/// The refusal of an answer, after its status.
pub(crate) fn refusal(answer: &Response<Bytes>) -> (StatusCode, Code, String) {
    let refusal: Refusal = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(refusal.v, 1);
    (answer.status(), refusal.error.code, refusal.error.message)
}

pub(crate) fn parsed<T: serde::de::DeserializeOwned>(answer: &Response<Bytes>) -> T {
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    serde_json::from_slice(answer.body()).unwrap()
}

/// A first report of a box that holds these objects and knows no routes.
pub(crate) fn report(sequence: u64, objects: &[Digest]) -> Report {
    Report {
        v: 1,
        boot_id: BOOT.to_owned(),
        sequence,
        sent_at: "2030-01-01T00:00:00Z".to_owned(),
        version: "1.0.0".to_owned(),
        gate: GateState {
            state: "serving".to_owned(),
            reasons: Vec::new(),
        },
        catalogue: Catalogue {
            epoch: 5,
            from: 0,
            to: sequence,
            count: objects.len() as u64,
            digest: SetHash::of(objects.iter().map(|digest| digest.0)).digest(),
            added: objects.to_vec(),
            removed: Vec::new(),
        },
        routes: Routes {
            epoch: 5,
            from: 0,
            to: sequence,
            count: 0,
            digest: SetHash::default().digest(),
            added: Vec::new(),
            removed: Vec::new(),
        },
        interfaces: Vec::new(),
        bgp: Vec::new(),
        disks: Vec::new(),
        load: Load::default(),
        manifest: None,
        fill: None,
        quality: None,
    }
}

pub(crate) fn heartbeat(sequence: u64, reasons: Vec<Reason>) -> Heartbeat {
    let state = if reasons.is_empty() {
        "serving"
    } else {
        "closed"
    };
    Heartbeat {
        v: 1,
        boot_id: BOOT.to_owned(),
        sequence,
        gate: GateState {
            state: state.to_owned(),
            reasons,
        },
        load: Load::default(),
    }
}

pub(crate) fn objects(count: u32) -> Vec<Digest> {
    (0..count)
        .map(|number| Digest::of(&number.to_le_bytes()))
        .collect()
}

pub(crate) fn fleet_config() -> fleet::Config {
    fleet::Config {
        lease: Duration::from_secs(1_800),
        report_every: Duration::from_secs(300),
        staleness: StalenessConfig {
            heartbeat: Duration::from_secs(25),
            reports: 3,
            share: 30,
            always: 3,
        },
    }
}

pub(crate) fn registry(boxes: usize) -> Registry {
    let appliance = |number| Appliance {
        id: id(number),
        site: "tls001-example-isp".to_owned(),
        cluster: "one".to_owned(),
        profile: Profile::Global,
        ipv4: None,
        ipv6: None,
        https_port: 443,
        peer_port: 7443,
        capacity: 1,
        enabled: true,
        quarantined: None,
        revoked: false,
        key_fingerprint: None,
        certificate_ends: None,
    };
    let appliances = (1..=boxes).map(|number| (id(number), appliance(number)));
    Registry {
        appliances: appliances.collect(),
        ..Registry::default()
    }
}

impl link::Enrolment for Office {
    fn enrol(&self, _now: Wall, enrol: Enrol) -> link::Issuing<'_> {
        Box::pin(std::future::ready(match enrol.token.as_str() {
            "good" => Ok(enrolled(&id(1))),
            _ => Err((Code::Token, "the token is used; ask for another".to_owned())),
        }))
    }

    fn renew(
        &self,
        _now: Wall,
        id: BoxId,
        _certificate: CertificateDer<'static>,
        _renew: Renew,
    ) -> link::Issuing<'_> {
        self.renewed.lock().unwrap().push(id.clone());
        Box::pin(std::future::ready(Ok(enrolled(&id))))
    }
}

fn enrolled(id: &BoxId) -> Enrolled {
    Enrolled {
        v: 1,
        id: id.to_string(),
        certificate: String::new(),
        ca: String::new(),
        manifest_keys: Vec::new(),
    }
}

impl link::ManifestSource for Shelf {
    fn manifest(&self, id: &BoxId) -> Option<link::ManifestBody> {
        let (epoch, generation) = (2, 7);
        let body = link::ManifestBody {
            position: Position { epoch, generation },
            envelope: "manifest ".into(),
            rows: format!("of {id}").into(),
        };
        id.as_str().starts_with("c001-").then_some(body)
    }
}
