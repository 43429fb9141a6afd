//! A control plane in memory that does what a test tells it to: TLS as it should be, HTTP by hand,
//! so that it can also answer as nobody should.
//!
//! I/O: in-memory streams only.

use oca::ids::BoxId;
use oca::link::Config;
use oca::link::client::Client;
use oca::link::dial::Dial;
use oca::link::dial::Dialling;
use oca::link::dial::Stream;
use oca::link::identity::Identity;
use oca::link::identity::box_uri;
use oca::link::identity::ca_fingerprint;
use oca::link::message::Enrolled;
use oca::link::message::VERSION;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequestParams;
use rcgen::CertifiedIssuer;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::SanType;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) const HOST: &str = "control.example.net";
pub(crate) const BOX: &str = "c009-tls001-example-isp";

/// Public key of the manifest signer in these tests; nothing is signed with it.
const MANIFEST_KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What the listener presents.
pub(crate) struct Presented {
    pub chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `POST /v1/report`.
    pub line: String,
    /// Lower case.
    pub head: String,
    pub body: Vec<u8>,
    pub peer: Option<CertificateDer<'static>>,
    /// Which connection it came over, from 1.
    pub connection: usize,
}

/// What to do with a request.
pub(crate) enum Reply {
    Send(Vec<u8>),
    /// These bytes, then the end of the stream.
    SendAndClose(Vec<u8>),
    Stall,
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The listener and everything behind it.
pub(crate) struct Lab {
    acceptor: TlsAcceptor,
    script: Arc<Script>,
    pub dials: AtomicUsize,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pin(&self) -> String {
        ca_fingerprint(self.0.der())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A listener's certificate, changed as a test wants it; the chain has the authority behind it.
    pub(crate) fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> Presented {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Presented {
            chain: vec![leaf.der().clone(), self.der()],
            key,
        }
    }

    pub(crate) fn issue(&self, csr: &str) -> Enrolled {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let uri = box_uri(&BoxId::parse(BOX).unwrap()).try_into().unwrap();
        request.params.subject_alt_names = vec![SanType::URI(uri)];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Enrolled {
            v: VERSION,
            id: BOX.to_owned(),
            certificate: request.signed_by(&self.0).unwrap().pem(),
            ca: self.0.pem(),
            manifest_keys: vec![MANIFEST_KEY.to_owned()],
        }
    }
}

impl Lab {
    /// `trusts`: whose boxes it believes.
    pub(crate) fn new(
        trusts: &Authority,
        presented: Presented,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Arc<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(trusts.der()).unwrap();
        let boxes = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(boxes)
            .with_single_cert(presented.chain, presented.key.into())
            .unwrap();
        Arc::new(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            script: Arc::new(script),
            dials: AtomicUsize::new(0),
            asked: Arc::default(),
        })
    }

    /// Right in every way, answering by `script`.
    pub(crate) fn right(
        authority: &Authority,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(authority, authority.server(|_| {}), script)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lab")
    }
}

impl Dial for Lab {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        assert_eq!((host, port), (HOST, 8443));
        let connection = self.dials.fetch_add(1, Ordering::Relaxed) + 1;
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (acceptor, script) = (self.acceptor.clone(), Arc::clone(&self.script));
        let asked = Arc::clone(&self.asked);
        tokio::spawn(async move {
            let Ok(mut tls) = acceptor.accept(theirs).await else {
                return;
            };
            while let Some(request) = read_request(&mut tls, connection).await {
                asked.lock().unwrap().push(request.clone());
                match script(&request) {
                    Reply::Send(bytes) => {
                        if tls.write_all(&bytes).await.is_err() || tls.flush().await.is_err() {
                            return;
                        }
                    }
                    Reply::SendAndClose(bytes) => {
                        let _ = tls.write_all(&bytes).await;
                        let _ = tls.shutdown().await;
                        return;
                    }
                    Reply::Stall => std::future::pending().await,
                }
            }
        });
        Box::pin(std::future::ready(Ok(Box::new(ours) as Box<dyn Stream>)))
    }
}

async fn read_request(tls: &mut TlsStream<DuplexStream>, connection: usize) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tls.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).unwrap();
    let (line, rest) = text.split_once(" HTTP/1.1\r\n").unwrap();
    let rest = rest.to_ascii_lowercase();
    let length = rest
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    tls.read_exact(&mut body).await.ok()?;
    let (_, session) = tls.get_ref();
    Some(Asked {
        line: line.to_owned(),
        head: rest,
        body,
        peer: session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.clone().into_owned()),
        connection,
    })
}

/// A whole response; `headers` are lines with their ends.
pub(crate) fn response(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn json(status: u16, body: &impl Serialize) -> Reply {
    Reply::Send(response(status, "", &serde_json::to_vec(body).unwrap()))
}

pub(crate) fn config(pin: &str) -> Config {
    Config {
        url: format!("https://{HOST}:8443"),
        ca: pin.to_owned(),
        token_file: None,
        identity: PathBuf::from("/nonexistent"),
        report_every: Duration::from_secs(300),
        heartbeat_every: Duration::from_secs(10),
        growth_every: Duration::from_secs(60),
    }
}

/// A client that was never enrolled.
pub(crate) fn stranger(lab: &Arc<Lab>, pin: &str) -> Client {
    let identity = Identity::transient(pin).unwrap();
    Client::new(&config(pin), identity, Arc::clone(lab) as Arc<dyn Dial>).unwrap()
}

/// A client with a certificate of `authority`, which it pins.
pub(crate) fn member(lab: &Arc<Lab>, authority: &Authority) -> Client {
    let pin = authority.pin();
    let mut identity = Identity::transient(&pin).unwrap();
    let enrolled = authority.issue(&identity.csr().unwrap());
    identity.accept(&enrolled).unwrap();
    Client::new(&config(&pin), identity, Arc::clone(lab) as Arc<dyn Dial>).unwrap()
}
