//! Manifests that were changed, replayed, or made by somebody else.

use super::*;
use proptest::prelude::*;

const NOW: u64 = 1_790_000_000;
const DAY: u64 = 86_400;

fn id(number: u32) -> BoxId {
    BoxId::parse(&format!("c{number:03}-tls001-example-isp")).unwrap()
}

fn at(epoch: u64, generation: u64) -> Position {
    Position { epoch, generation }
}

fn now() -> Wall {
    Wall::from_second(i64::try_from(NOW).unwrap()).unwrap()
}

fn bundle(directory: &str, rank: u32) -> Row {
    Row::Bundle {
        bundle: directory.to_owned(),
        rank,
    }
}

fn key(name: &str) -> Row {
    Row::Key {
        k: name.to_owned(),
        d: Digest::of(name.as_bytes()),
        n: 1_000,
        t: NOW - DAY,
    }
}

fn rows() -> Vec<Row> {
    vec![
        bundle("title/v1", 0),
        key("b.m4s"),
        key("a.m4s"),
        bundle("", 7),
        key("index.m3u8"),
    ]
}

fn sign(signer: &Signer, rows: Vec<Row>) -> Vec<u8> {
    signer.sign(&id(1), at(3, 7), NOW, NOW + DAY, rows).unwrap()
}

fn verifier(signer: &Signer) -> Verifier {
    Verifier::new(&[signer.public_hex()]).unwrap()
}

#[test]
fn what_was_signed_is_believed_with_its_keys_in_order() {
    let signer = Signer::generate().unwrap();
    let body = sign(&signer, rows());
    let verified = verifier(&signer)
        .verify(&body, &id(1), now(), None)
        .unwrap();
    assert_eq!(
        (verified.position, verified.issued, verified.expires),
        (at(3, 7), NOW, NOW + DAY)
    );
    let keys: Vec<_> = verified
        .keys
        .iter()
        .map(|row| (row.key.as_str(), row.rank))
        .collect();
    assert_eq!(
        keys,
        [
            ("index.m3u8", 7),
            ("title/v1/a.m4s", 0),
            ("title/v1/b.m4s", 0)
        ]
    );
    assert_eq!(verified.keys[1].digest, Digest::of(b"a.m4s"));
    assert_eq!(
        (verified.keys[1].length, verified.keys[1].last_modified),
        (1_000, NOW - DAY)
    );
    let again = Signer::from_pkcs8(signer.pkcs8()).unwrap();
    assert_eq!(again.public_hex(), signer.public_hex());
    assert_eq!(sign(&again, rows()), body, "the same rows, the same bytes");
    let empty = sign(&signer, vec![]);
    let verified = verifier(&signer).verify(&empty, &id(1), now(), None);
    assert_eq!(verified.unwrap().keys, []);
}

#[test]
fn another_box_another_time_and_an_older_place_are_refused() {
    let signer = Signer::generate().unwrap();
    let (body, verifier) = (sign(&signer, rows()), verifier(&signer));
    let error = verifier.verify(&body, &id(2), now(), None).unwrap_err();
    assert!(matches!(error, ManifestError::Foreign { .. }), "{error}");
    let later = |seconds: u64| {
        let wall = Wall::from_second(i64::try_from(NOW + seconds).unwrap()).unwrap();
        verifier.verify(&body, &id(1), wall, None)
    };
    assert!(later(DAY - 1).is_ok());
    assert!(matches!(later(DAY), Err(ManifestError::Expired(_))));
    let before = Wall::from_second(i64::try_from(NOW - 601).unwrap()).unwrap();
    let early = verifier.verify(&body, &id(1), before, None);
    assert!(matches!(early, Err(ManifestError::NotYet(_))));
    for (highest, believed) in [
        (at(3, 6), true),
        (at(3, 7), true),
        (at(2, 99), true),
        (at(3, 8), false),
        (at(4, 0), false),
    ] {
        let result = verifier.verify(&body, &id(1), now(), Some(highest));
        assert_eq!(result.is_ok(), believed, "{highest}");
        if let Err(error) = result {
            assert!(error.to_string().contains(&highest.to_string()), "{error}");
        }
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let signer = Signer::generate().unwrap();
    let (body, verifier) = (sign(&signer, rows()), verifier(&signer));
    for at in 0..body.len() {
        let mut changed = body.clone();
        // Two bits, so that no digit of a hexadecimal text merely changes its case.
        changed[at] ^= 0x11;
        let result = verifier.verify(&changed, &id(1), now(), None);
        assert!(result.is_err(), "byte {at} {:?}", char::from(body[at]));
    }
    for end in 0..body.len() {
        let result = verifier.verify(&body[..end], &id(1), now(), None);
        assert!(result.is_err(), "cut at {end}");
    }
    let mut longer = body.clone();
    longer.push(0);
    let error = verifier.verify(&longer, &id(1), now(), None).unwrap_err();
    assert!(matches!(error, ManifestError::Bytes { .. }), "{error}");
}

#[test]
fn somebody_elses_signature_is_refused_before_anything_is_decompressed() {
    let (signer, other) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let body = sign(&other, rows());
    let error = verifier(&signer)
        .verify(&body, &id(1), now(), None)
        .unwrap_err();
    assert_eq!(error, ManifestError::UnknownKey(other.public_hex()));
    // The right key's name over another's signature, and rows that are no zstd at all: the
    // signature is what is missed first.
    let line = body.iter().position(|byte| *byte == b'\n').unwrap();
    let mut envelope: Envelope = serde_json::from_slice(&body[..line]).unwrap();
    envelope.key = signer.public_hex();
    let mut forged = serde_json::to_vec(&envelope).unwrap();
    forged.extend_from_slice(b"\nno zstd");
    let result = verifier(&signer).verify(&forged, &id(1), now(), None);
    assert_eq!(result, Err(ManifestError::Signature));
    let both = Verifier::new(&[signer.public_hex(), other.public_hex()]).unwrap();
    assert!(both.verify(&body, &id(1), now(), None).is_ok());
    assert!(Verifier::new(&["12".to_owned()]).is_err());
}

#[test]
fn rows_that_break_the_grammar_are_refused_with_their_number() {
    let signer = Signer::generate().unwrap();
    for (rows, problem) in [
        (vec![key("a")], "row 1 of the manifest: a key before"),
        (vec![bundle("t/v1", 0), key("a/b")], "row 2"),
        (vec![bundle("t/v1", 0), key("..")], "row 2"),
        (vec![bundle("t//v1", 0), key("a")], "row 2"),
        (vec![bundle("/t", 0), key("a")], "row 2"),
        (vec![bundle("fill", 0), key("a")], "reserved"),
        (vec![bundle("t\u{1b}[2J", 0), key("a")], "row 2"),
        (vec![bundle("d", 0), key("a"), key("a")], "`d/a` twice"),
        (
            vec![bundle("d", 0), key("a"), bundle("d", 1), key("a")],
            "`d/a` twice",
        ),
        (vec![bundle(&"t".repeat(5_000), 0)], "no end within"),
    ] {
        let body = sign(&signer, rows);
        let error = verifier(&signer)
            .verify(&body, &id(1), now(), None)
            .unwrap_err();
        let message = error.to_string();
        assert!(message.contains(problem), "{message}");
        assert!(!message.contains('\u{1b}'), "{message}");
    }
}

#[test]
fn a_position_is_written_and_read_as_an_entity_tag() {
    assert_eq!(at(3, 7).etag(), "\"3.7\"");
    assert_eq!(Position::from_etag(b"\"3.7\""), Some(at(3, 7)));
    for bad in [
        &b""[..],
        b"3.7",
        b"\"3\"",
        b"\"3.+7\"",
        b"W/\"3.7\"",
        b"\"",
        b"\"3.7.1\"",
    ] {
        assert_eq!(Position::from_etag(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_rows_come_back(names in proptest::collection::btree_set("[a-e]{1,3}/[a-z0-9]{1,4}", 0..40)) {
        let signer = Signer::generate().unwrap();
        let mut rows = Vec::new();
        for name in &names {
            let (directory, last) = name.split_once('/').unwrap();
            if directory != "t" {
                rows.push(bundle(directory, 1));
                rows.push(key(last));
            }
        }
        let verified = verifier(&signer).verify(&sign(&signer, rows), &id(1), now(), None).unwrap();
        let keys: Vec<String> = verified.keys.iter().map(|row| row.key.to_string()).collect();
        prop_assert_eq!(keys, names.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let verifier = Verifier::new(&["00".repeat(32)]).unwrap();
        prop_assert!(verifier.verify(&bytes, &id(1), now(), None).is_err());
    }
}
