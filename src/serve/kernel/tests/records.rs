//! Records that no library sends, records in pieces, damaged records, any bytes.

use super::Handed;
use super::OpenedError;
use super::RecordFault;
use super::handover;
use super::said;
use super::suites;
use crate::serve::kernel::opened::Opened;
use crate::serve::kernel::tests_support::Seal;
use crate::sys::ktls::Version;
use proptest::prelude::*;
use rustls::SupportedCipherSuite;

fn version(suite: SupportedCipherSuite) -> Version {
    match suite.tls13() {
        Some(_) => Version::Tls13,
        None => Version::Tls12,
    }
}

/// The server's side, and a client that seals what the test wants.
fn forger(suite: SupportedCipherSuite) -> (Opened, Seal) {
    #[allow(deprecated)]
    let Handed { opened, client, .. } = Handed::new(suite, true);
    let secrets = client.dangerous_extract_secrets().unwrap();
    let key = handover::transmit_key(version(suite), &secrets.tx.1, secrets.tx.0).unwrap();
    (opened, Seal::new(&key))
}

fn fault(
    record: impl Fn(&mut Seal) -> Vec<u8>,
    suite: SupportedCipherSuite,
) -> Option<RecordFault> {
    let (mut opened, mut seal) = forger(suite);
    match opened.receive(&record(&mut seal)) {
        Ok(()) => None,
        Err(OpenedError::Record(fault)) => {
            // Each of them is told to the peer, once, and nothing else is said.
            let alert = crate::serve::kernel::opened::Due::Alert([2, fault.alert()]);
            assert_eq!(opened.due(), Some(alert));
            opened.alert_sent();
            opened.close();
            assert!(opened.due().is_none() && !opened.may_send());
            Some(fault)
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_no_library_sends_is_refused_with_the_alert_of_the_rfc() {
    use RecordFault as F;
    let full = vec![1; 1 << 14];
    let over = vec![1; (1 << 14) + 1];
    for suite in suites() {
        let is_13 = suite.tls13().is_some();
        let of = |kind: u8, body: &[u8]| fault(|seal| seal.seal(kind, body), suite);
        assert_eq!(of(23, &full), None);
        assert_eq!(of(23, &over), Some(F::TooLong));
        assert_eq!(of(23, &[]), None);
        assert_eq!(of(21, &[]), Some(F::Unexpected));
        assert_eq!(of(21, &[1]), Some(F::Undecodable));
        assert_eq!(of(21, &[1, 0, 1, 0]), Some(F::Undecodable));
        assert_eq!(of(22, &[]), Some(F::Unexpected));
        assert_eq!(of(20, &[1]), Some(F::Unexpected));
        assert_eq!(of(24, &[1]), Some(F::Unexpected));
        let hello = of(22, &[1, 0, 0, 4, 3, 3, 0, 0]);
        let update = |ask: u8| of(22, &[24, 0, 0, 1, ask]);
        if is_13 {
            assert_eq!(hello, Some(F::Unexpected));
            assert_eq!((update(0), update(1)), (None, None));
            assert_eq!(update(2), Some(F::Illegal));
            assert_eq!(of(22, &[24, 0, 0, 2, 0, 0]), Some(F::Unexpected));
            // A message behind a key update has no place in its record.
            let twice = [24, 0, 0, 1, 0, 24, 0, 0, 1, 0];
            assert_eq!(of(22, &twice), Some(F::Unexpected));
        } else {
            assert_eq!(hello, Some(F::Renegotiation));
            assert_eq!(update(0), Some(F::Unexpected));
        }
    }
}

#[test]
fn headers_are_judged_before_their_records_have_arrived() {
    for suite in suites() {
        let is_13 = suite.tls13().is_some();
        let of = |head: [u8; 5]| fault(|_| head.to_vec(), suite);
        let [high, low] = u16::to_be_bytes((1 << 14) + 257);
        assert_eq!(of([23, 3, 3, high, low]), Some(RecordFault::TooLong));
        assert_eq!(of([23, 3, 3, 0xff, 0xff]), Some(RecordFault::TooLong));
        // change_cipher_spec has had its time (RFC 8446 section 5).
        assert_eq!(of([20, 3, 3, 0, 1]), Some(RecordFault::Unexpected));
        assert_eq!(of([0, 0, 0, 0, 0]), Some(RecordFault::Unexpected));
        if is_13 {
            assert_eq!(of([21, 3, 3, 0, 2]), Some(RecordFault::Unexpected));
        } else {
            assert_eq!(of([23, 3, 1, 0, 40]), Some(RecordFault::Unexpected));
        }
        // Shorter than a tag, or a tag of nothing.
        for length in 0..=16 {
            let mut record = vec![23, 3, 3, 0, length];
            record.extend(vec![7; usize::from(length)]);
            let short = fault(|_| record.clone(), suite);
            assert_eq!(short, Some(RecordFault::NotAuthentic), "{length}");
        }
    }
}

#[test]
fn padding_is_taken_off_and_nothing_but_padding_is_refused() {
    let suite = suites()[0];
    let (mut opened, mut seal) = forger(suite);
    opened.receive(&seal.seal_inner(b"text\x17\0\0\0")).unwrap();
    let mut plain = Vec::new();
    opened.take_plain(&mut plain);
    assert_eq!(plain, b"text");
    // The longest that is allowed, all of it but the type being padding (RFC 8446 section 5.4).
    let mut longest = vec![0; (1 << 14) + 1];
    longest[0] = 23;
    opened.receive(&seal.seal_inner(&longest)).unwrap();
    assert_eq!(opened.take_plain(&mut plain), 0);
    let nothing = fault(|seal| seal.seal_inner(&[0; 20]), suite);
    assert_eq!(nothing, Some(RecordFault::Unexpected));
}

#[test]
fn a_record_that_comes_twice_or_out_of_turn_or_changed_does_not_open() {
    for suite in suites() {
        let twice = |seal: &mut Seal| {
            let record = seal.seal(23, b"once");
            [&record[..], &record].concat()
        };
        assert_eq!(fault(twice, suite), Some(RecordFault::NotAuthentic));
        let skipped = |seal: &mut Seal| {
            seal.seal(23, b"lost");
            seal.seal(23, b"next")
        };
        assert_eq!(fault(skipped, suite), Some(RecordFault::NotAuthentic));
        for at in 5..30 {
            let changed = |seal: &mut Seal| {
                let mut record = seal.seal(23, b"changed");
                let at = at.min(record.len() - 1);
                record[at] ^= 0x40;
                record
            };
            assert_eq!(fault(changed, suite), Some(RecordFault::NotAuthentic));
        }
    }
}

#[test]
fn empty_records_and_warnings_have_an_end() {
    for suite in suites() {
        let (mut opened, mut seal) = forger(suite);
        for _ in 0..32 {
            opened.receive(&seal.seal(23, b"")).unwrap();
        }
        opened.receive(&seal.seal(23, b"x")).unwrap();
        let many: Vec<u8> = (0..33).flat_map(|_| seal.seal(23, b"")).collect();
        let outcome = opened.receive(&many);
        assert_eq!(outcome, Err(OpenedError::Record(RecordFault::TooMany)));

        let (mut opened, mut seal) = forger(suite);
        // user_canceled.
        let outcomes: Vec<bool> = (0..5)
            .map(|_| opened.receive(&seal.seal(21, &[1, 90])).is_ok())
            .collect();
        assert_eq!(outcomes, [true, true, true, true, false]);
    }
}

#[test]
fn what_follows_a_key_update_has_the_next_key_and_the_old_one_is_gone() {
    let suite = suites()[0];
    let old = |seal: &mut Seal| {
        let update = seal.seal(22, &[24, 0, 0, 1, 0]);
        [update, seal.seal(23, b"under the old key")].concat()
    };
    assert_eq!(fault(old, suite), Some(RecordFault::NotAuthentic));
    let mut handed = Handed::new(suite, false);
    handed.client.refresh_traffic_keys().unwrap();
    let mut bytes = said(&mut handed.client, b"one");
    handed.client.refresh_traffic_keys().unwrap();
    bytes.extend(said(&mut handed.client, b"two"));
    handed.opened.receive(&bytes).unwrap();
    assert_eq!(handed.take(), b"onetwo");
}

#[test]
fn requests_arrive_whole_wherever_the_network_cuts_them() {
    for suite in suites() {
        let mut handed = Handed::new(suite, false);
        let mut bytes = said(&mut handed.client, b"GET /a HTTP/1.1\r\n\r\n");
        bytes.extend(said(&mut handed.client, b"GET /b HTTP/1.1\r\n\r\n"));
        let mut got = Vec::new();
        for byte in &bytes {
            handed.opened.receive(&[*byte]).unwrap();
            got.extend(handed.take());
        }
        assert_eq!(got, b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
        // A handshake for each cut would take long for all; one suite of each version will do.
        let cuts = match suite.suite() {
            known if format!("{known:?}").contains("AES_128_GCM") => bytes.len(),
            _ => 0,
        };
        for cut in 0..cuts {
            let mut handed = Handed::new(suite, false);
            let mut bytes = said(&mut handed.client, b"one");
            bytes.extend(said(&mut handed.client, b"two"));
            let cut = cut.min(bytes.len());
            handed.opened.receive(&bytes[..cut]).unwrap();
            handed.opened.receive(&bytes[cut..]).unwrap();
            assert_eq!(handed.take(), b"onetwo", "{suite:?} {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_end_in_an_error_or_wait_and_never_panic_or_give_data(
        which in 0usize..6, bytes in prop::collection::vec(any::<u8>(), 0..600),
        like_a_record in any::<bool>(), pieces in 1usize..8) {
        let mut bytes = bytes;
        if like_a_record && bytes.len() > 5 {
            bytes[..3].copy_from_slice(&[23, 3, 3]);
            bytes[3] &= 1;
        }
        let mut handed = Handed::new(suites()[which], true);
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            let _ = handed.opened.receive(piece);
        }
        prop_assert!(handed.take().is_empty());
    }

    #[test]
    fn damaged_streams_give_no_more_than_what_came_before_the_damage(
        which in 0usize..6, at in any::<prop::sample::Index>(), value in 1u8..,
        pieces in 1usize..8) {
        let mut handed = Handed::new(suites()[which], true);
        let mut bytes = said(&mut handed.client, b"first");
        let intact = bytes.len();
        bytes.extend(said(&mut handed.client, b"second"));
        let at = at.index(bytes.len());
        bytes[at] ^= value;
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            let _ = handed.opened.receive(piece);
        }
        let got = handed.take();
        let whole: &[u8] = if at >= intact { b"first" } else { b"" };
        prop_assert_eq!(got, whole);
    }
}
