//! The session against a client in memory: any bytes, damaged bytes, bytes in any pieces.

use super::*;
use proptest::prelude::*;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use std::io::Read;
use std::io::Write;
use std::sync::OnceLock;

/// One certificate for all cases: making keys is slow.
fn configs() -> &'static (Arc<ServerConfig>, Arc<ClientConfig>) {
    static CONFIGS: OnceLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    })
}

struct Pair {
    session: Session,
    client: ClientConnection,
}

impl Pair {
    fn new() -> Self {
        let (server, client) = configs();
        let name = ServerName::try_from("localhost").unwrap();
        Self {
            session: Session::new(Arc::clone(server)).unwrap(),
            client: ClientConnection::new(Arc::clone(client), name).unwrap(),
        }
    }

    fn take_from_client(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn give_to_client(&mut self) {
        let bytes = self.session.outgoing().to_vec();
        self.session.sent(bytes.len());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }

    fn shake_hands(&mut self) {
        for _ in 0..4 {
            let bytes = self.take_from_client();
            if !bytes.is_empty() {
                self.session.receive(&bytes).unwrap();
            }
            self.give_to_client();
        }
        assert!(!self.session.is_handshaking() && !self.client.is_handshaking());
    }
}

#[test]
fn an_idle_session_owns_no_buffers() {
    let mut pair = Pair::new();
    pair.shake_hands();
    pair.client.writer().write_all(b"hello").unwrap();
    let bytes = pair.take_from_client();
    pair.session.receive(&bytes).unwrap();
    let mut plain = Vec::new();
    assert_eq!(pair.session.take_plain(&mut plain), 5);
    pair.session.seal(&[1; 100_000]).unwrap();
    assert!(pair.session.outgoing().len() > 100_000);
    pair.session.sent(usize::MAX);
    let session = &pair.session;
    let kept = [&session.incoming, &session.plain, &session.outgoing.buffer];
    assert!(kept.iter().all(|buffer| buffer.capacity() == 0));
}

#[test]
fn closing_is_said_once_and_nothing_can_be_sent_after_it() {
    let mut pair = Pair::new();
    pair.shake_hands();
    pair.session.close().unwrap();
    let said = pair.session.outgoing().len();
    pair.session.close().unwrap();
    assert!(pair.session.seal(b"after the end").is_err());
    assert_eq!(pair.session.outgoing().len(), said);
    pair.give_to_client();
    let mut plain = Vec::new();
    assert_eq!(pair.client.reader().read_to_end(&mut plain).unwrap(), 0);
}

#[test]
fn what_is_written_in_part_leaves_in_order() {
    let mut pair = Pair::new();
    pair.shake_hands();
    let mut sent = Vec::new();
    for number in 0..5u8 {
        let plain = vec![number; 40_000];
        pair.session.seal(&plain).unwrap();
        sent.extend(plain);
    }
    let mut got = Vec::new();
    while !pair.session.outgoing().is_empty() {
        let piece = pair.session.outgoing().len().min(1000);
        let bytes = pair.session.outgoing()[..piece].to_vec();
        pair.session.sent(piece);
        pair.client.read_tls(&mut &bytes[..]).unwrap();
        pair.client.process_new_packets().unwrap();
        let mut plain = [0; 20_000];
        while let Ok(count @ 1..) = pair.client.reader().read(&mut plain) {
            got.extend_from_slice(&plain[..count]);
        }
    }
    assert!(got == sent);
}

#[test]
fn what_is_no_tls_fails_for_good() {
    let mut pair = Pair::new();
    assert!(!feed(&mut pair.session, b"\x14", 1));
    assert!(pair.session.is_not_tls() && pair.session.outgoing().is_empty());
}

#[test]
fn who_speaks_another_protocol_is_told_so_though_the_server_has_begun_to_answer() {
    let (server, client) = configs();
    let (mut server, mut client) = ((**server).clone(), (**client).clone());
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    client.alpn_protocols = vec![b"h2".to_vec()];
    for versions in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let provider = Arc::clone(client.crypto_provider());
        let mut only = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[versions])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        only.alpn_protocols.clone_from(&client.alpn_protocols);
        let name = ServerName::try_from("localhost").unwrap();
        let mut pair = Pair {
            session: Session::new(Arc::new(server.clone())).unwrap(),
            client: ClientConnection::new(Arc::new(only), name).unwrap(),
        };
        let hello = pair.take_from_client();
        assert!(pair.session.receive(&hello).is_err());
        let said = pair.session.outgoing().to_vec();
        pair.client.read_tls(&mut &said[..]).unwrap();
        let told = pair.client.process_new_packets().unwrap_err();
        let alert = rustls::AlertDescription::NoApplicationProtocol;
        assert_eq!(told, rustls::Error::AlertReceived(alert), "{versions:?}");
        // Nothing more comes of it, whatever the client goes on to say.
        assert!(pair.session.receive(&hello).is_err());
        assert_eq!(pair.session.outgoing(), said);
    }
}

/// Feeds bytes in pieces until the session fails; it must say so and stay failed.
fn feed(session: &mut Session, bytes: &[u8], pieces: usize) -> bool {
    for piece in bytes.chunks(bytes.len().div_ceil(pieces.max(1)).max(1)) {
        if session.receive(piece).is_err() {
            assert!(session.receive(piece).is_err() && session.seal(b"x").is_err());
            let _ = session.close();
            return false;
        }
    }
    true
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_error_and_never_in_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 1..300), handshake in any::<bool>(),
        pieces in 1usize..6) {
        if handshake {
            bytes[0] = HANDSHAKE_RECORD;
        }
        let mut pair = Pair::new();
        let _ = feed(&mut pair.session, &bytes, pieces);
    }

    #[test]
    fn damaged_hellos_and_requests_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        pieces in 1usize..6, greeted in any::<bool>(), tail in any::<Vec<u8>>()) {
        let mut pair = Pair::new();
        if greeted {
            pair.shake_hands();
            pair.client.writer().write_all(&[b'x'; 500]).unwrap();
            pair.client.refresh_traffic_keys().unwrap();
            pair.client.writer().write_all(&[b'y'; 500]).unwrap();
        }
        let mut bytes = pair.take_from_client();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        bytes.extend(tail);
        let _ = feed(&mut pair.session, &bytes, pieces);
    }

    #[test]
    fn the_pieces_in_which_records_arrive_do_not_matter(
        pieces in 1usize..200, lengths in prop::collection::vec(1usize..20_000, 1..4)) {
        let mut pair = Pair::new();
        let hello = pair.take_from_client();
        prop_assert!(feed(&mut pair.session, &hello, pieces));
        pair.give_to_client();
        pair.shake_hands();
        let mut sent = Vec::new();
        let mut got = Vec::new();
        for length in lengths {
            let plain = vec![b'a'; length];
            pair.client.writer().write_all(&plain).unwrap();
            sent.extend(plain);
            let bytes = pair.take_from_client();
            prop_assert!(feed(&mut pair.session, &bytes, pieces));
            pair.session.take_plain(&mut got);
        }
        prop_assert!(got == sent);
    }
}
