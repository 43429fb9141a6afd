//! Against rustls as the server: every suite, odd sizes, new keys, and every way to end.

use super::super::dial;
use super::super::handshake;
use super::*;
use crate::clock;
use crate::fill::Fault;
use crate::sys::ktls::Cipher;
use crate::sys::ktls::Version;
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
use std::time::Duration;
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
    (0..=250).cycle().step_by(31).take(BODY_BYTES).collect()
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
    let mut buffer = vec![0; buffers::READ_BYTES];
    assert_eq!(ours.read(&mut buffer).await.unwrap(), 3 * 16_384);
}

#[tokio::test]
async fn records_that_came_together_are_given_one_by_one_although_nothing_more_comes() {
    let (mut ours, mut theirs) = usual().await;
    for word in [b"one", b"two", b"six"] {
        theirs.write_all(word).await.unwrap();
        theirs.flush().await.unwrap();
    }
    for word in [b"one", b"two", b"six"] {
        let mut bytes = [0; 3];
        let read = ours.read_exact(&mut bytes);
        let read = clock::within(Duration::from_secs(10), read).await;
        read.expect("it waits for more").unwrap();
        assert_eq!(&bytes, word);
        // Others may use the memory between two reads.
        buffers::give_back(vec![0xAA; PART_BYTES + buffers::READ_BYTES].into());
    }
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
async fn a_server_that_is_cut_off_or_talks_nonsense_in_the_handshake_is_named() {
    let said: [(&[u8], &str); 3] = [
        (b"", "it closed the connection in the TLS handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "corrupt message"),
        (&[22, 3, 3, 0xff, 0xff], "corrupt message"),
    ];
    for (said, expected) in said {
        let (client, _) = configs(suites()[0]);
        let (near, mut far) = tokio::io::duplex(PIPE_BYTES);
        let name = "source.example".try_into().unwrap();
        far.write_all(said).await.unwrap();
        far.shutdown().await.unwrap();
        let error = handshake::shake(&client, name, near).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn what_came_with_the_handshake_is_opened_first() {
    let (mut ours, mut theirs) = usual().await;
    theirs.write_all(b"all of it").await.unwrap();
    theirs.flush().await.unwrap();
    let mut early = [0; 10];
    ours.inner.read_exact(&mut early).await.unwrap();
    let mut ours = Sealed::new(ours.inner, ours.keys, &early);
    let mut got = [0; 9];
    ours.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"all of it");
}

/// A server that can say anything: our side, its pipe, and the keys that it seals and opens with.
async fn crafted(version: Version) -> (Ours, DuplexStream, Key, Key) {
    let key = |secret: u8| Key::new(version, Cipher::Aes128Gcm, &[secret; 16], &[secret; 12], 1);
    let key = |secret| key(secret).unwrap();
    let (donor, _theirs) = usual().await;
    let keys = Keys {
        opening: key(1),
        sealing: key(2),
        later: donor.keys.later,
    };
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    (Sealed::new(near, keys, &[]), far, key(1), key(2))
}

/// RFC 8446 section 4.6.1: lifetime, age, nonce, ticket, no extensions.
fn a_ticket() -> Vec<u8> {
    let body = [
        &[0, 0, 1, 0, 1, 2, 3, 4, 1, 9][..],
        &[0, 4, 7, 7, 7, 7, 0, 0],
    ]
    .concat();
    [&[4, 0, 0, 18][..], &body].concat()
}

#[tokio::test]
async fn two_tickets_in_a_record_are_taken_and_a_part_of_one_is_not() {
    let two = [a_ticket(), a_ticket()].concat();
    for (tickets, is_taken) in [(&two[..], true), (&two[..30], false), (&two[..24], false)] {
        let (mut ours, mut far, mut sealing, _) = crafted(Version::Tls13).await;
        let mut sealed = Vec::new();
        sealing.seal(HANDSHAKE, tickets, &mut sealed).unwrap();
        sealing.seal(DATA, b"x", &mut sealed).unwrap();
        far.write_all(&sealed).await.unwrap();
        let read = ours.read_u8().await;
        assert_eq!(read.is_ok(), is_taken, "{read:?}");
        if let Err(error) = read {
            assert_eq!(fault_of(&error), Some(RecordFault::Undecodable));
            assert!(error.to_string().starts_with("its TLS sent"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_server_of_tls_1_2_that_would_begin_anew_is_told_no_and_goes_on() {
    let (mut ours, mut far, mut sealing, mut opening) = crafted(Version::Tls12).await;
    let mut sealed = Vec::new();
    sealing.seal(HANDSHAKE, &[0; 4], &mut sealed).unwrap();
    sealing.seal(DATA, b"x", &mut sealed).unwrap();
    far.write_all(&sealed).await.unwrap();
    assert_eq!(ours.read_u8().await.unwrap(), b'x');
    let mut answer = [0; 64];
    let count = far.read(&mut answer).await.unwrap();
    assert_eq!(
        record::whole(Version::Tls12, &answer[..count]),
        Ok(Some(count))
    );
    let expected = Content::Alert {
        is_fatal: false,
        description: 100,
    };
    assert_eq!(opening.content(&mut answer[..count]), Ok(expected));
    // An alert that is a failure, and not of TLS 1.3's kind.
    let mut sealed = Vec::new();
    sealing.seal(ALERT, &[2, 40], &mut sealed).unwrap();
    far.write_all(&sealed).await.unwrap();
    let fault = dial::fault(&ours.read_u8().await.unwrap_err());
    assert!(matches!(fault, Fault::Refused(_)), "{fault:?}");
    // Nothing is opened after it.
    assert!(
        ours.read_u8()
            .await
            .unwrap_err()
            .to_string()
            .contains("read again")
    );
}

#[tokio::test]
async fn a_new_key_that_asks_for_no_answer_gets_none() {
    let (mut ours, mut far, mut sealing, _) = crafted(Version::Tls13).await;
    let mut sealed = Vec::new();
    sealing.seal(DATA, b"x", &mut sealed).unwrap();
    sealing.seal(HANDSHAKE, &KEY_UPDATE, &mut sealed).unwrap();
    far.write_all(&sealed).await.unwrap();
    assert_eq!(ours.read_u8().await.unwrap(), b'x');
    ours.shutdown().await.unwrap();
    let mut said = Vec::new();
    far.read_to_end(&mut said).await.unwrap();
    // A close_notify, type and tag: nothing else.
    assert_eq!(said.len(), 5 + 2 + 1 + 16);
}

#[tokio::test]
async fn padding_beyond_a_record_is_too_long() {
    let (mut ours, mut far, mut sealing, _) = crafted(Version::Tls13).await;
    let mut sealed = Vec::new();
    // Content that is type and padding, sealed as if it were content: one byte too many.
    let mut padded = vec![0; PLAIN_BYTES_MAX + 1];
    padded[0] = DATA;
    sealing.seal(0, &padded, &mut sealed).unwrap();
    let sent = tokio::spawn(async move { far.write_all(&sealed).await });
    let error = ours.read_u8().await.unwrap_err();
    assert_eq!(fault_of(&error), Some(RecordFault::TooLong));
    drop(ours);
    let _ = sent.await;
}
