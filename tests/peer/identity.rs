//! Who may talk at all: certificates of the stored authority, each end under its own name.

use crate::lab::ASKER;
use crate::lab::Client;
use crate::lab::GIVER;
use crate::lab::Lab;
use crate::lab::Plane;
use crate::lab::THIRD;
use crate::lab::name;
use oca::clock;
use oca::link::identity::Identity;
use oca::link::peering::box_client_config;
use oca::link::peering::box_of;
use oca::link::peering::box_server_config;
use oca::link::peering::gateway_client_config;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;

/// Does the connection live until an answer would come? A server says no after the client's half.
async fn is_let_in(client: io::Result<Client>) -> bool {
    let Ok(mut client) = client else {
        return false;
    };
    let asked = client.send(b"GET / HTTP/1.1\r\nHost: giver\r\n\r\n").await;
    asked.is_ok() && client.head().await.is_ok()
}

#[tokio::test]
async fn only_boxes_of_our_authority_get_a_connection() {
    let lab = Lab::start().await;
    assert!(is_let_in(lab.connect_as(&lab.asker).await).await);
    // A box of another control plane, that would even talk to us.
    let other = Plane::new();
    let foreign = other.enrol(ASKER);
    let open = |config| async { Client::open(lab.tcp(1).await, config).await };
    let trusting = trusting(&lab, Some(&foreign));
    assert!(!is_let_in(open(trusting).await).await, "another authority");
    assert!(
        !is_let_in(open(self::trusting(&lab, None)).await).await,
        "no certificate"
    );
    let trusting = self::trusting(&lab, Some(&lab.asker));
    assert!(
        is_let_in(open(trusting).await).await,
        "the test's own client"
    );
    let long_ago = clock::wall().checked_sub(Duration::from_secs(15 * 86_400));
    let ended = lab.plane.enrol_at(ASKER, long_ago.unwrap());
    assert!(!is_let_in(lab.connect_as(&ended).await).await, "ended");
    let view = lab
        .until("the count", |view| {
            view.refusals.get("handshake") == Some(&3)
        })
        .await;
    assert_eq!(view.connections_total, 2);
}

/// A client that asks the giver for no name, with the certificate of anybody.
fn trusting(lab: &Lab, shows: Option<&Identity>) -> Arc<rustls::ClientConfig> {
    let asker = box_client_config(&lab.asker, &name(GIVER)).unwrap();
    let verifier = Anybody(asker.crypto_provider().clone());
    let builder = rustls::ClientConfig::builder_with_provider(asker.crypto_provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Arc::new(match shows {
        Some(identity) => {
            let chain = identity.credentials().unwrap().chain.clone();
            builder
                .with_client_auth_cert(chain, identity.key())
                .unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A handshake in memory: the client's and the server's word.
async fn meet(
    client: Arc<rustls::ClientConfig>,
    server: Arc<ServerConfig>,
) -> (io::Result<()>, io::Result<()>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let any = ServerName::try_from("192.0.2.1").unwrap();
    let connecting = async {
        let mut stream = TlsConnector::from(client).connect(any, near).await?;
        let mut byte = [0];
        stream.read(&mut byte).await.map(drop)
    };
    let accepting = async { TlsAcceptor::from(server).accept(far).await.map(drop) };
    tokio::join!(connecting, accepting)
}

#[tokio::test]
async fn a_box_gives_its_bytes_only_under_the_name_that_was_asked_for() {
    let (plane, stranger) = (Plane::new(), Plane::new());
    let (asker, giver) = (plane.enrol(ASKER), plane.enrol(GIVER));
    let server = box_server_config(&giver).unwrap();
    assert!(
        server.enable_secret_extraction,
        "the kernel could not be given the keys"
    );
    let to_giver = box_client_config(&asker, &name(GIVER)).unwrap();
    let (client, served) = meet(to_giver.clone(), server.clone()).await;
    assert!(served.is_ok(), "{served:?}");
    assert!(client.is_ok() || client.unwrap_err().kind() == io::ErrorKind::UnexpectedEof);
    let to_third = box_client_config(&asker, &name(THIRD)).unwrap();
    let (client, served) = meet(to_third, server).await;
    let error = client.unwrap_err().to_string();
    assert!(error.contains("c001-tls001-example-isp"), "{error}");
    assert!(served.is_err());
    // The same name from another authority.
    let false_giver = stranger.enrol(GIVER);
    let server = box_server_config(&false_giver).unwrap();
    let (client, _) = meet(to_giver.clone(), server).await;
    let error = client.unwrap_err().to_string();
    assert!(
        error.contains("UnknownIssuer") || error.contains("BadSignature"),
        "{error}"
    );
    // Our own control plane's server certificate is no box's.
    let plane_certificate = plane
        .authority
        .server(&[GIVER.to_owned()], clock::wall())
        .unwrap();
    let server = ServerConfig::builder_with_provider(to_giver.crypto_provider().clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(plane_certificate.chain, plane_certificate.key)
        .unwrap();
    let (client, _) = meet(to_giver.clone(), Arc::new(server)).await;
    assert!(client.is_err());
    let long_ago = clock::wall().checked_sub(Duration::from_secs(15 * 86_400));
    let ended = plane.enrol_at(GIVER, long_ago.unwrap());
    let (client, _) = meet(to_giver, box_server_config(&ended).unwrap()).await;
    let error = client.unwrap_err().to_string();
    assert!(error.contains("xpired"), "{error}");
}

#[tokio::test]
async fn a_box_cannot_pass_for_its_control_plane_and_without_a_certificate_there_is_no_meeting() {
    let plane = Plane::new();
    let (asker, giver) = (plane.enrol(ASKER), plane.enrol(GIVER));
    let gateway = gateway_client_config(&asker).unwrap();
    let (client, _) = meet(gateway, box_server_config(&giver).unwrap()).await;
    assert!(
        client.is_err(),
        "a box's certificate has no name and no use as a server's"
    );
    let nobody = Identity::transient(&plane.authority.fingerprint()).unwrap();
    assert!(box_client_config(&nobody, &name(GIVER)).is_err());
    assert!(box_server_config(&nobody).is_err());
    assert!(gateway_client_config(&nobody).is_err());
    let leaf = &giver.credentials().unwrap().chain[0];
    assert_eq!(box_of(leaf), Some(name(GIVER)));
    assert_eq!(box_of(plane.authority.certificate()), None);
    assert_eq!(box_of(&CertificateDer::from(vec![1, 2, 3])), None);
    let mut roots = RootCertStore::empty();
    assert!(roots.add(plane.authority.certificate().clone()).is_ok());
}

#[tokio::test]
async fn a_box_that_is_not_enrolled_closes_and_opens_when_it_is() {
    let lab = Lab::start().await;
    let giver = lab.giver.lock().unwrap().take();
    assert!(lab.connect_as(&lab.asker).await.is_err());
    let view = lab
        .until("the refusal", |view| !view.refusals.is_empty())
        .await;
    assert_eq!(view.refusals.get("not-enrolled"), Some(&1));
    *lab.giver.lock().unwrap() = giver;
    assert!(lab.connect_as(&lab.asker).await.is_ok());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_connection_and_the_last_one_goes_on() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 1000);
    let ticket = lab.good(&[digest]);
    let mut before = lab.connect().await;
    let mut giver = lab.giver.lock().unwrap().clone().unwrap();
    lab.plane.issue(&mut giver, GIVER, clock::wall());
    *lab.giver.lock().unwrap() = Some(giver.clone());
    let mut after = lab.connect().await;
    assert_ne!(before.presented(), after.presented());
    assert_eq!(
        after.presented(),
        giver.credentials().unwrap().chain[0].to_vec()
    );
    assert!(before.get(digest, &ticket, "").await.body == bytes);
    assert!(after.get(digest, &ticket, "").await.body == bytes);
}
