//! Whom a transfer believes and what it shows: origins by their authorities, boxes and the gateway
//! by mutual TLS and tickets.

use crate::lab::config;
use crate::proxy::Asked;
use crate::proxy::Behind;
use crate::proxy::Proxy;
use crate::world::Names;
use crate::world::Shelf;
use crate::world::Till;
use crate::world::bytes;
use crate::world::job;
use oca::fill::Fault;
use oca::fill::Fetch as _;
use oca::fill::FetchConfig;
use oca::fill::Fetcher;
use oca::fill::Gateway;
use oca::fill::Job;
use oca::fill::Outcome;
use oca::link::message::SourceKind;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use std::sync::Mutex;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn issue(&self, names: &[&str]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        (vec![leaf.der().clone()], key)
    }

    /// `mutual`: whoever connects must show a certificate of this authority.
    pub(crate) fn acceptor(&self, names: &[&str], mutual: bool) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let roots = Arc::new(self.roots());
        let builder = if mutual {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = self.issue(names);
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }

    fn client(&self, shows_certificate: bool) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        let (chain, key) = self.issue(&["client.example.net"]);
        Arc::new(if shows_certificate {
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        })
    }

    /// The file that `origin_ca` names.
    pub(crate) fn file(&self, dir: &TempDir) -> std::path::PathBuf {
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }
}

fn from_box(job: &mut Job, id: &str, port: u16) {
    job.source.id = id.into();
    job.source.kind = SourceKind::Peer;
    job.source.urls = vec![format!("https://127.0.0.1:{port}/fill/{}", job.want.digest)];
    job.ticket = Some("7b7d.00ff".into());
}

fn header(asked: &Asked, name: &str) -> Option<String> {
    asked.head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

async fn from_origin(proxy: &Proxy, authority: &Authority, host: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let config = FetchConfig {
        origin_ca: Some(authority.file(&dir)),
        plain_origin: false,
        ..config()
    };
    let fetcher = Fetcher::new(
        config,
        Arc::new(|_| Err("an origin is not a box".into())),
        Arc::new(Names::of(&[&[proxy.address()]])),
        Arc::new(Shelf::default()),
    );
    let url = format!("https://{host}:{}/x?X-Amz-Signature=1", proxy.port);
    fetcher
        .fetch(job(&bytes(1, 300_000), url), Till::open())
        .await
}

#[tokio::test]
async fn an_origin_is_known_by_its_name_and_the_configured_authority() {
    let authority = Authority::new();
    let tls = authority.acceptor(&["films.example.net"], false);
    let proxy = Proxy::start_with(Behind::Object(bytes(1, 300_000)), Some(tls)).await;
    let outcome = from_origin(&proxy, &authority, "films.example.net").await;
    assert_eq!(outcome.end, Ok(()));
    let asked = proxy.asked().remove(0);
    assert_eq!(header(&asked, "authorization"), None);
    assert_eq!(header(&asked, "accept-encoding").unwrap(), "identity");
    assert!(header(&asked, "user-agent").unwrap().starts_with("oca/"));
    let outcome = from_origin(&proxy, &authority, "other.example.net").await;
    assert!(matches!(outcome.end, Err(Fault::Refused(_))), "{outcome:?}");
    let outcome = from_origin(&proxy, &Authority::new(), "films.example.net").await;
    assert!(matches!(outcome.end, Err(Fault::Refused(_))), "{outcome:?}");
    assert_eq!(proxy.asked().len(), 0, "nothing is asked of a stranger");
}

#[tokio::test]
async fn a_box_is_asked_with_certificate_and_ticket() {
    let authority = Authority::new();
    let content = bytes(2, 300_000);
    let tls = authority.acceptor(&["127.0.0.1"], true);
    let proxy = Proxy::start_with(Behind::Object(content.clone()), Some(tls)).await;
    let shelf = Shelf::default();
    let asked_for = Arc::new(Mutex::new(Vec::new()));
    let (client, names) = (authority.client(true), Arc::clone(&asked_for));
    let fetcher = Fetcher::new(
        config(),
        Arc::new(move |source| {
            names.lock().unwrap().push(source.id.clone());
            Ok(Arc::clone(&client))
        }),
        Arc::new(oca::fill::SystemResolver),
        Arc::new(shelf.clone()),
    );
    let mut first = job(&content, "");
    from_box(&mut first, "c002", proxy.port);
    first.source.etag = Some("\"tag\"".into());
    let outcome = fetcher.fetch(first.clone(), Till::open()).await;
    assert_eq!(outcome.end, Ok(()));
    assert_eq!(shelf.published(first.want.digest), Some(content));
    let asked = proxy.asked().remove(0);
    assert_eq!(asked.target, format!("/fill/{}", first.want.digest));
    assert_eq!(
        header(&asked, "authorization").unwrap(),
        "OCA-Ticket 7b7d.00ff"
    );
    assert_eq!(header(&asked, "if-match").unwrap(), "\"tag\"");
    assert_eq!(header(&asked, "range").unwrap(), "bytes=0-299999");
    // A kept connection is another box's neither by address nor by luck.
    let mut second = job(&bytes(2, 300_000).slice(..1_000), "");
    from_box(&mut second, "c003", proxy.port);
    let _ = fetcher.fetch(second, Till::open()).await;
    assert_eq!(*asked_for.lock().unwrap(), ["c002", "c003"]);
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn who_is_not_believed_or_does_not_believe_us_refuses() {
    let authority = Authority::new();
    let content = bytes(2, 1_000);
    let tls = authority.acceptor(&["127.0.0.1"], true);
    let proxy = Proxy::start_with(Behind::Object(content.clone()), Some(tls)).await;
    let mut asking = job(&content, "");
    from_box(&mut asking, "c002", proxy.port);
    let stranger = Authority::new();
    for (client, problem) in [
        (Ok(authority.client(false)), "certificate"),
        (Ok(stranger.client(true)), "certificate"),
        (Err("this box is not enrolled".to_owned()), "enrolled"),
    ] {
        let fetcher = Fetcher::new(
            config(),
            Arc::new(move |_| client.clone()),
            Arc::new(oca::fill::SystemResolver),
            Arc::new(Shelf::default()),
        );
        let outcome = fetcher.fetch(asking.clone(), Till::open()).await;
        let end = outcome.end.unwrap_err();
        let told = end.to_string().to_lowercase();
        assert!(told.contains(problem), "{told}");
        let is_refusal = matches!(end, Fault::Refused(_));
        assert_eq!(is_refusal, problem == "certificate", "{told}");
    }
    assert_eq!(proxy.asked().len(), 0);
}

#[tokio::test]
async fn paths_of_the_link_go_to_the_control_plane_wherever_it_is() {
    let authority = Authority::new();
    let content = bytes(3, 300_000);
    let tls = authority.acceptor(&["control.example.net"], true);
    let proxy = Proxy::start_with(Behind::Object(content.clone()), Some(tls)).await;
    let client = authority.client(true);
    let shelf = Shelf::default();
    let fetcher = Fetcher::new(
        FetchConfig {
            private_sources: false,
            plain_origin: false,
            gateway: Some(Gateway {
                host: "control.example.net".into(),
                port: proxy.port,
                server_name: ServerName::try_from("control.example.net").unwrap(),
            }),
            ..config()
        },
        Arc::new(move |_| Ok(Arc::clone(&client))),
        Arc::new(Names::of(&[&[proxy.address()]])),
        Arc::new(shelf.clone()),
    );
    let mut job = job(&content, "");
    job.source.urls = vec![format!("/v1/origin/{}", job.want.digest)];
    job.ticket = Some("7b7d.00ff".into());
    let outcome = fetcher.fetch(job.clone(), Till::open()).await;
    assert_eq!(outcome.end, Ok(()));
    assert_eq!(shelf.published(job.want.digest), Some(content));
    let asked = proxy.asked().remove(0);
    assert_eq!(asked.target, job.source.urls[0]);
    assert_eq!(
        header(&asked, "authorization").unwrap(),
        "OCA-Ticket 7b7d.00ff"
    );
    let host = format!("control.example.net:{}", proxy.port);
    assert_eq!(header(&asked, "host").unwrap(), host);
}
