//! Tests of [`super`]: a record opened elsewhere is what it is where it lies. Whole sessions
//! against rustls are in `fill::fetch::sealed`.

use super::*;
use proptest::prelude::*;

const CIPHERS: [(Cipher, usize); 3] = [
    (Cipher::Aes128Gcm, 16),
    (Cipher::Aes256Gcm, 32),
    (Cipher::ChaCha20Poly1305, 32),
];

/// Of one side and one direction.
fn key(version: Version, (cipher, key_bytes): (Cipher, usize)) -> Key {
    Key::new(version, cipher, &[7; 32][..key_bytes], &[9; IV_BYTES], 3).unwrap()
}

proptest! {
    #[test]
    fn a_record_is_the_same_wherever_it_is_opened(
        kind in prop_oneof![Just(DATA), Just(ALERT), Just(HANDSHAKE), any::<u8>()],
        plain in proptest::collection::vec(any::<u8>(), 0..600),
        is_13 in any::<bool>(),
        cipher in 0..CIPHERS.len(),
        more in 0_usize..40,
        damaged in proptest::option::of(any::<usize>()),
    ) {
        let version = if is_13 { Version::Tls13 } else { Version::Tls12 };
        let cipher = CIPHERS[cipher];
        let mut record = Vec::new();
        key(version, cipher).seal(kind, &plain, &mut record).unwrap();
        if let Some(at) = damaged {
            let at = at % record.len();
            record[at] ^= 1;
        }
        let (mut here, mut there) = (key(version, cipher), key(version, cipher));
        let opened = there.opened_bytes(&record).unwrap();
        prop_assert_eq!(opened, plain.len() + usize::from(is_13));
        let mut into = vec![0xAA; opened + more];
        let sealed = record.clone();
        let elsewhere = there.content_into(&sealed, &mut into);
        let in_place = here.content(&mut record);
        prop_assert_eq!(&elsewhere, &in_place);
        if damaged.is_none() && kind == DATA {
            prop_assert_eq!(elsewhere, Ok(Content::Data(&plain)));
        }
        prop_assert!(into[opened..].iter().all(|byte| *byte == 0xAA));
        prop_assert_eq!(here.sequence, there.sequence);
    }
}

#[test]
fn a_record_that_does_not_fit_is_not_opened_and_may_be_opened_later() {
    let mut record = Vec::new();
    let mut ours = key(Version::Tls13, CIPHERS[0]);
    key(Version::Tls13, CIPHERS[0])
        .seal(DATA, b"eight...", &mut record)
        .unwrap();
    let mut small = [0; 8];
    let refused = ours.content_into(&record, &mut small);
    assert_eq!(refused, Err(RecordFault::TooLong), "a ninth is the type");
    let mut whole = [0; 9];
    let opened = ours.content_into(&record, &mut whole);
    assert_eq!(opened, Ok(Content::Data(b"eight...")));
}

#[test]
fn what_is_shorter_than_a_record_is_refused() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut key = key(version, CIPHERS[0]);
        for length in 0..HEADER_BYTES + TAG_BYTES {
            let mut bytes = vec![DATA; length];
            let mut into = [0; 64];
            let refused = key.content_into(&bytes, &mut into);
            assert_eq!(refused, Err(RecordFault::NotAuthentic), "{length}");
            assert!(key.content(&mut bytes).is_err());
        }
    }
}
