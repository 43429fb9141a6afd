//! Against rustls as the server: every suite, odd sizes, new keys, and every way to end.

use super::super::dial;
use super::super::handshake;
use super::*;
use crate::fill::Fault;
use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use std::sync::Arc;
use std::sync::OnceLock;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::DuplexStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

type Ours = Sealed<DuplexStream>;
type Theirs = TlsStream<DuplexStream>;

/// Small, so that records come in pieces.
const PIPE_BYTES: usize = 10_007;

/// Many records, and the last one short.
const BODY_BYTES: usize = 1_000_003;

fn certified() -> &'static (CertificateDer<'static>, Vec<u8>) {
    static CERTIFIED: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    CERTIFIED.get_or_init(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["source.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), key.serialize_der())
    })
}

/// The suites that an ECDSA key can serve.
fn suites() -> Vec<SupportedCipherSuite> {
    let all = default_provider().cipher_suites.into_iter();
    all.filter(|suite| !format!("{:?}", suite.suite()).contains("RSA"))
        .collect()
}

fn configs(suite: SupportedCipherSuite) -> (ClientConfig, ServerConfig) {
    let (certificate, key) = certified();
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        ..default_provider()
    });
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.clone()).unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (client, server)
}

async fn connected_with(client: &ClientConfig, server: ServerConfig) -> (Ours, Theirs) {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let name = "source.example".try_into().unwrap();
    let (ours, theirs) = tokio::join!(handshake::shake(client, name, near), acceptor.accept(far));
    (ours.unwrap(), theirs.unwrap())
}

async fn connected(suite: SupportedCipherSuite) -> (Ours, Theirs) {
    let (client, server) = configs(suite);
    connected_with(&client, server).await
}

/// Any suite of TLS 1.3.
async fn usual() -> (Ours, Theirs) {
    connected(suites()[0]).await
}

fn body() -> Vec<u8> {
    (0..BODY_BYTES).map(|at| (at * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn bytes_are_the_same_with_every_suite_both_ways_and_in_reads_of_any_size() {
    let suites = suites();
    assert!(suites.len() >= 6, "{suites:?}");
    for (number, suite) in suites.into_iter().enumerate() {
        let (mut ours, mut theirs) = connected(suite).await;
        let sent = body();
        let back = sent.clone();
        let echo = tokio::spawn(async move {
            let mut got = vec![0; BODY_BYTES];
            theirs.read_exact(&mut got).await.unwrap();
            assert!(got == back);
            // Records of many sizes, an empty one among them.
            let mut rest = &got[..];
            for size in (0..).step_by(1_009) {
                let (now, later) = rest.split_at(size.min(rest.len()));
                theirs.write_all(now).await.unwrap();
                theirs.flush().await.unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            theirs.shutdown().await.unwrap();
        });
        ours.write_all(&sent).await.unwrap();
        ours.flush().await.unwrap();
        let mut got = Vec::new();
        let mut buffer = vec![0; [1 << 16, 1_000, 20_000][number % 3]];
        loop {
            match ours.read(&mut buffer).await.unwrap() {
                0 => break,
                count => got.extend_from_slice(&buffer[..count]),
            }
        }
        assert!(got == sent, "{suite:?}");
        echo.await.unwrap();
    }
}

#[tokio::test]
async fn one_read_gives_all_records_that_are_there() {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (client, server) = configs(suites()[0]);
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let name = "source.example".try_into().unwrap();
    let (ours, theirs) = tokio::join!(handshake::shake(&client, name, near), acceptor.accept(far));
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    theirs.write_all(&body()[..3 * 16_384]).await.unwrap();
    theirs.flush().await.unwrap();
    let mut buffer = vec![0; BUFFER_BYTES];
    assert_eq!(ours.read(&mut buffer).await.unwrap(), 3 * 16_384);
}

#[tokio::test]
async fn new_keys_of_either_direction_are_taken_and_answered() {
    let (mut ours, mut theirs) = usual().await;
    for round in 0..100_u8 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.write_all(&[round]).await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), round);
        ours.write_all(&[round, 1]).await.unwrap();
        ours.flush().await.unwrap();
        let mut got = [0; 2];
        theirs.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [round, 1]);
    }
    // Who changes keys without end and sends nothing is cut off.
    for _ in 0..=IDLE_RECORDS_MAX {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
    }
    let _ = theirs.flush().await;
    let error = ours.read_u8().await.unwrap_err();
    assert_eq!(fault_of(&error), Some(RecordFault::TooMany));
}

#[tokio::test]
async fn a_goodbye_is_an_end_and_its_absence_a_failure() {
    let (mut ours, mut theirs) = usual().await;
    theirs.write_all(b"all").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut got = Vec::new();
    assert_eq!(ours.read_to_end(&mut got).await.unwrap(), 3);
    ours.shutdown().await.unwrap();
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);

    let (mut ours, mut theirs) = usual().await;
    theirs.write_all(b"some").await.unwrap();
    theirs.flush().await.unwrap();
    drop(theirs);
    let error = ours.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(&got, b"allsome");
}

#[tokio::test]
async fn a_damaged_record_is_refused_after_the_good_ones_and_the_other_end_is_told() {
    let (mut ours, mut theirs) = usual().await;
    theirs.write_all(b"good").await.unwrap();
    theirs.flush().await.unwrap();
    let forged = [&[DATA, 3, 3, 0, 40][..], &[7; 40]].concat();
    theirs.get_mut().0.write_all(&forged).await.unwrap();
    let mut buffer = [0; 64];
    assert_eq!(ours.read(&mut buffer).await.unwrap(), 4);
    let error = ours.read(&mut buffer).await.unwrap_err();
    assert_eq!(fault_of(&error), Some(RecordFault::NotAuthentic));
    assert!(matches!(dial::fault(&error), Fault::Broken(_)));
    let told = theirs.read(&mut buffer).await.unwrap_err();
    assert!(told.to_string().contains("BadRecordMac"), "{told}");
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused_by_its_header() {
    let (mut ours, mut theirs) = usual().await;
    theirs
        .get_mut()
        .0
        .write_all(&[DATA, 3, 3, 0x41, 1])
        .await
        .unwrap();
    let error = ours.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(fault_of(&error), Some(RecordFault::TooLong));
}

#[tokio::test]
async fn an_alert_is_a_refusal() {
    let (mut ours, mut theirs) = usual().await;
    // RFC 8446 section 6: bad_record_mac, of a record that we damage.
    ours.inner.write_all(&[DATA, 3, 3, 0, 20]).await.unwrap();
    ours.inner.write_all(&[7; 20]).await.unwrap();
    assert!(theirs.read(&mut [0]).await.is_err());
    let _ = theirs.flush().await;
    let error = ours.read(&mut [0; 64]).await.unwrap_err();
    let fault = dial::fault(&error);
    assert!(
        matches!(&fault, Fault::Refused(text) if text.contains("BadRecordMac")),
        "{fault:?}"
    );
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_refused_and_the_other_end_is_told() {
    let (client, server) = configs(suites()[0]);
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let name = "another.example".try_into().unwrap();
    let (ours, theirs) = tokio::join!(handshake::shake(&client, name, near), acceptor.accept(far));
    let fault = dial::fault(&ours.unwrap_err());
    assert!(
        matches!(&fault, Fault::Refused(text) if text.contains("certificate")),
        "{fault:?}"
    );
    let told = theirs.unwrap_err();
    assert!(told.to_string().contains("BadCertificate"), "{told}");
}

#[tokio::test]
async fn a_ticket_is_kept_and_the_next_session_resumes() {
    let (client, mut server) = configs(suites()[0]);
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (mut ours, mut theirs) = connected_with(&client, server.clone()).await;
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(expected));
        theirs.write_all(b"x").await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn a_server_that_is_cut_off_or_talks_nonsense_in_the_handshake_is_an_error() {
    for said in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[22, 3, 3, 0xff, 0xff],
    ] {
        let (client, _) = configs(suites()[0]);
        let (near, mut far) = tokio::io::duplex(PIPE_BYTES);
        let name = "source.example".try_into().unwrap();
        far.write_all(said).await.unwrap();
        far.shutdown().await.unwrap();
        let shaken = handshake::shake(&client, name, near).await;
        assert!(shaken.is_err(), "{said:?}");
    }
}
