//! The receiving side against a real client's records, and against records that no client sends.

mod records;
mod served;

use super::handover;
use super::handover::Given;
use super::opened::Due;
use super::opened::Opened;
use super::opened::OpenedError;
use super::tests_support::Seal;
use crate::serve::session::Session;
use crate::sys::ktls::Version;
use crate::tls::record::RecordFault;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::ServerConfig;
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::OnceLock;

/// One certificate for all cases: making keys is slow.
fn certified() -> &'static (CertificateDer<'static>, Vec<u8>) {
    static CERTIFIED: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    CERTIFIED.get_or_init(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), key.serialize_der())
    })
}

/// All that the test's certificate, of an ECDSA key, can serve.
fn suites() -> Vec<SupportedCipherSuite> {
    let mut suites = default_provider().cipher_suites;
    suites.retain(|suite| !format!("{:?}", suite.suite()).contains("_RSA_"));
    assert_eq!(suites.len(), 6);
    suites
}

fn configs(suite: SupportedCipherSuite) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let (certificate, key) = certified();
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    let provider = Arc::new(provider);
    let version = match suite.tls13() {
        Some(_) => &rustls::version::TLS13,
        None => &rustls::version::TLS12,
    };
    let key = PrivateKeyDer::try_from(key.clone()).unwrap();
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.enable_secret_extraction = true;
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
}

/// Before the handover.
struct Pair {
    session: Session,
    client: ClientConnection,
}

/// After it.
struct Handed {
    opened: Opened,
    seal: Seal,
    client: ClientConnection,
}

fn from_client(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn said(client: &mut ClientConnection, text: &[u8]) -> Vec<u8> {
    client.writer().write_all(text).unwrap();
    from_client(client)
}

fn heard(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
        let mut piece = [0; 20_000];
        while let Ok(count @ 1..) = client.reader().read(&mut piece) {
            plain.extend_from_slice(&piece[..count]);
        }
    }
    Ok(plain)
}

impl Pair {
    fn new(suite: SupportedCipherSuite) -> Self {
        let (server, client) = configs(suite);
        let name = ServerName::try_from("localhost").unwrap();
        let mut pair = Self {
            session: Session::new(server).unwrap(),
            client: ClientConnection::new(client, name).unwrap(),
        };
        for _ in 0..4 {
            let bytes = from_client(&mut pair.client);
            if !bytes.is_empty() {
                pair.session.receive(&bytes).unwrap();
            }
            pair.flush();
        }
        assert!(!pair.session.is_handshaking() && !pair.client.is_handshaking());
        pair
    }

    fn flush(&mut self) -> Vec<u8> {
        let bytes = self.session.outgoing().to_vec();
        self.session.sent(bytes.len());
        heard(&mut self.client, &bytes).unwrap()
    }

    fn hand_over(mut self, can_rekey: bool) -> Handed {
        self.session.settle().unwrap();
        self.flush();
        let given = Given::take(self.session, can_rekey).unwrap();
        Handed {
            opened: given.opened,
            seal: Seal::new(&given.key),
            client: self.client,
        }
    }
}

impl Handed {
    fn new(suite: SupportedCipherSuite, can_rekey: bool) -> Self {
        Pair::new(suite).hand_over(can_rekey)
    }

    fn take(&mut self) -> Vec<u8> {
        let mut plain = Vec::new();
        self.opened.take_plain(&mut plain);
        plain
    }

    /// The kernel sends; the client must hear just that.
    fn assert_heard(&mut self, text: &[u8]) {
        let record = self.seal.seal(23, text);
        assert_eq!(heard(&mut self.client, &record).unwrap(), text);
    }

    /// Writes what is due as the transport does.
    fn flush(&mut self) -> Result<Vec<u8>, rustls::Error> {
        let mut plain = Vec::new();
        while let Some(due) = self.opened.due() {
            let record = match due {
                Due::Alert(alert) => {
                    self.opened.alert_sent();
                    self.seal.seal(21, &alert)
                }
                Due::KeyUpdate => {
                    let record = self.seal.seal(22, &[24, 0, 0, 1, 0]);
                    self.seal = Seal::new(&self.opened.next_key().unwrap());
                    record
                }
            };
            plain.extend(heard(&mut self.client, &record)?);
        }
        Ok(plain)
    }
}

#[test]
fn both_directions_go_on_where_the_library_stopped_with_every_cipher() {
    for suite in suites() {
        let mut pair = Pair::new(suite);
        for number in 0..5u8 {
            let text = said(&mut pair.client, &[number; 100]);
            pair.session.receive(&text).unwrap();
            pair.session.seal(&[number; 40_000]).unwrap();
            assert_eq!(pair.flush(), [number; 40_000]);
        }
        let mut plain = Vec::new();
        assert_eq!(pair.session.take_plain(&mut plain), 500);
        let mut handed = pair.hand_over(false);
        for number in 0..5u8 {
            let text = said(&mut handed.client, &[number; 30_000]);
            handed.opened.receive(&text).unwrap();
            assert_eq!(handed.take(), [number; 30_000], "{suite:?}");
            handed.assert_heard(&[number; 16_000]);
        }
        handed.opened.close();
        handed.flush().unwrap();
        handed.opened.close();
        assert_eq!(handed.opened.due(), None);
        assert_eq!(handed.client.reader().read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn the_kernel_begins_at_the_record_after_the_librarys_last_one() {
    for suite in suites() {
        let pair = Pair::new(suite);
        // Finished in TLS 1.2, two tickets in one record in TLS 1.3.
        assert_eq!(pair.hand_over(false).seal.sequence(), 1, "{suite:?}");
    }
}

#[test]
fn explicit_nonces_of_tls_1_2_are_all_different_across_the_handover() {
    let explicit = |suite: &SupportedCipherSuite| {
        suite.tls13().is_none() && format!("{:?}", suite.suite()).contains("GCM")
    };
    for suite in suites().into_iter().filter(explicit) {
        let mut pair = Pair::new(suite);
        let mut bytes = Vec::new();
        for _ in 0..3000 {
            pair.session.seal(b"x").unwrap();
            bytes.extend_from_slice(pair.session.outgoing());
            pair.session.sent(usize::MAX);
        }
        let mut handed = pair.hand_over(false);
        (0..3000).for_each(|_| bytes.extend(handed.seal.seal(23, b"x")));
        let mut nonces = std::collections::BTreeSet::new();
        let mut rest = &bytes[..];
        while let [_, _, _, high, low, record @ ..] = rest {
            nonces.insert(record[..8].to_vec());
            rest = &record[usize::from(u16::from_be_bytes([*high, *low]))..];
        }
        assert_eq!(nonces.len(), 6000);
    }
}

#[test]
fn ciphertext_that_was_read_and_not_opened_is_opened_after_the_handover() {
    for suite in suites() {
        let mut pair = Pair::new(suite);
        let first = said(&mut pair.client, b"the first request");
        let second = said(&mut pair.client, b"the second request");
        for cut in [1, 4, 5, 6, second.len() - 1] {
            let mut pair = Pair::new(suite);
            let first = said(&mut pair.client, b"the first request");
            let second = said(&mut pair.client, b"the second request");
            let bytes = [&first[..], &second[..cut]].concat();
            pair.session.receive(&bytes).unwrap();
            let mut plain = Vec::new();
            pair.session.take_plain(&mut plain);
            assert_eq!(plain, b"the first request");
            let mut handed = pair.hand_over(false);
            assert!(handed.take().is_empty());
            handed.opened.receive(&second[cut..]).unwrap();
            assert_eq!(handed.take(), b"the second request", "{suite:?} {cut}");
        }
        // What was opened and not taken goes along too.
        pair.session.receive(&first).unwrap();
        let mut handed = pair.hand_over(false);
        assert_eq!(handed.take(), b"the first request");
        handed.opened.receive(&second).unwrap();
        assert_eq!(handed.take(), b"the second request");
    }
}

#[test]
fn a_session_that_still_has_something_to_send_is_not_handed_over() {
    let mut pair = Pair::new(suites()[0]);
    pair.session.seal(b"unsent").unwrap();
    assert!(Given::take(pair.session, false).is_err());
    let mut pair = Pair::new(suites()[0]);
    pair.session.close().unwrap();
    pair.flush();
    assert!(Given::take(pair.session, false).is_err());
}

#[test]
fn an_idle_session_keeps_no_buffer_for_settling() {
    let mut pair = Pair::new(suites()[0]);
    pair.session.settle().unwrap();
    assert!(pair.session.outgoing().is_empty());
    pair.session.seal(b"goes on").unwrap();
    assert_eq!(pair.flush(), b"goes on");
}

#[test]
fn a_key_update_just_before_the_handover_is_answered_before_it() {
    for suite in suites().into_iter().filter(|suite| suite.tls13().is_some()) {
        let mut pair = Pair::new(suite);
        pair.client.refresh_traffic_keys().unwrap();
        let bytes = said(&mut pair.client, b"a request");
        pair.session.receive(&bytes).unwrap();
        let mut handed = pair.hand_over(false);
        // The answer went out under the old key; the kernel's first record is the new key's first.
        assert_eq!(handed.seal.sequence(), 0);
        assert_eq!(handed.take(), b"a request");
        handed.assert_heard(b"a response");
    }
}

#[test]
fn a_key_update_of_the_client_changes_both_keys_where_the_kernel_can() {
    for suite in suites().into_iter().filter(|suite| suite.tls13().is_some()) {
        let mut handed = Handed::new(suite, true);
        for _ in 0..3 {
            handed.client.refresh_traffic_keys().unwrap();
            let bytes = said(&mut handed.client, b"a request");
            handed.opened.receive(&bytes).unwrap();
            assert_eq!(handed.take(), b"a request");
            assert_eq!(handed.opened.due(), Some(Due::KeyUpdate));
            handed.flush().unwrap();
            assert_eq!(handed.seal.sequence(), 0);
            handed.assert_heard(b"a response");
            assert!(!handed.opened.is_used_up());
        }
    }
}

#[test]
fn where_the_kernel_cannot_change_keys_the_connection_ends_after_the_response() {
    let mut handed = Handed::new(suites()[0], false);
    handed.client.refresh_traffic_keys().unwrap();
    let bytes = said(&mut handed.client, b"a request");
    handed.opened.receive(&bytes).unwrap();
    assert_eq!(handed.take(), b"a request");
    assert_eq!(handed.opened.due(), None);
    assert!(handed.opened.is_used_up() && handed.opened.may_send());
    handed.assert_heard(b"a response");
}

#[test]
fn keys_are_changed_or_given_up_long_before_they_are_worn_out() {
    for (can_rekey, suite) in [
        (true, suites()[0]),
        (false, suites()[0]),
        (true, suites()[5]),
    ] {
        let is_13 = suite.tls13().is_some();
        let mut handed = Handed::new(suite, can_rekey);
        handed.opened.sealed(((1 << 23) - 100) * 16 * 1024, 10);
        assert!(handed.opened.due().is_none() && !handed.opened.is_used_up());
        // Small writes are records of their own.
        handed.opened.sealed(100, 100);
        let changes = can_rekey && is_13;
        assert_eq!(handed.opened.due().is_some(), changes);
        assert_eq!(handed.opened.is_used_up(), !changes);
        if changes {
            handed.flush().unwrap();
            handed.assert_heard(b"under the next key");
            handed.opened.sealed(1, 1);
            assert!(handed.opened.due().is_none());
        }
    }
}

#[test]
fn a_client_that_changes_keys_all_the_time_is_turned_away() {
    let mut handed = Handed::new(suites()[0], true);
    let mut outcome = Ok(());
    let mut count = 0;
    while outcome.is_ok() {
        handed.client.refresh_traffic_keys().unwrap();
        let bytes = from_client(&mut handed.client);
        outcome = handed.opened.receive(&bytes);
        if outcome.is_ok() {
            handed.flush().unwrap();
        }
        count += 1;
    }
    assert_eq!(outcome, Err(OpenedError::Record(RecordFault::TooMany)));
    assert_eq!(count, 33);
    assert!(handed.flush().is_err(), "the client hears the alert");
}

#[test]
fn a_fatal_alert_ends_the_session_and_close_notify_only_the_clients_half() {
    for suite in suites() {
        let mut handed = Handed::new(suite, false);
        let version = match suite.tls13() {
            Some(_) => Version::Tls13,
            None => Version::Tls12,
        };
        handed.client.send_close_notify();
        let bytes = from_client(&mut handed.client);
        handed.opened.receive(&bytes).unwrap();
        assert!(handed.opened.is_peer_closed() && handed.opened.may_send());
        // RFC 8446 section 6.1: what follows is ignored.
        handed.opened.receive(&[0xff; 100]).unwrap();
        handed.assert_heard(b"still sent");

        let handed = Handed::new(suite, false);
        let mut opened = handed.opened;
        let secrets = handed.client.dangerous_extract_secrets().unwrap();
        let key = handover::transmit_key(version, &secrets.tx.1, secrets.tx.0).unwrap();
        let record = Seal::new(&key).seal(21, &[2, 80]);
        assert_eq!(opened.receive(&record), Err(OpenedError::Alert(80)));
        assert!(!opened.may_send() && opened.due().is_none());
        assert_eq!(opened.receive(b"more"), Err(OpenedError::Failed));
    }
}
