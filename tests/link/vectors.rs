//! The golden files agree with each other: set hashes, signatures, certificates, statuses.

use crate::golden;
use oca::clock::Wall;
use oca::ids::BoxId;
use oca::link::identity::box_of;
use oca::link::identity::key_fingerprint_of_certificate;
use oca::link::identity::key_fingerprint_of_csr;
use oca::link::manifest::Signer;
use oca::link::manifest::Verifier;
use oca::link::message::DeletionOverride;
use oca::link::message::Enrol;
use oca::link::message::Enrolled;
use oca::link::message::Envelope;
use oca::link::message::FillSources;
use oca::link::message::FillSourcesRequest;
use oca::link::message::ObjectSources;
use oca::link::message::Renew;
use oca::link::message::Report;
use oca::link::message::ReportReply;
use oca::link::message::Row;
use oca::link::sources;
use oca::link::steps::Step;
use oca::link::steps::take_catalogue;
use oca::link::steps::take_routes;
use oca::link::ticket::Ticket;
use oca::object::ChunkTree;
use oca::object::Digest;
use oca::object::TreeBuilder;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[test]
fn the_sets_of_the_golden_report_have_the_hashes_it_claims() {
    let report: Report = golden::read("report");
    let Ok(Step::Whole { place, items }) = take_catalogue(None, &report.catalogue) else {
        panic!("refused");
    };
    assert_eq!(items.len(), 3);
    let reply: ReportReply = golden::read("report-reply");
    assert_eq!(reply.acked.catalogue, Some(place.ack));
    let same = golden::read("catalogue");
    assert_eq!(take_catalogue(Some(&place), &same), Ok(Step::Same));
    let Ok(Step::Whole { items, .. }) = take_routes(None, &report.routes) else {
        panic!("refused");
    };
    assert_eq!(items.len(), 4);
    assert_eq!(report.routes, golden::read("routes"));
}

#[test]
fn the_golden_manifest_is_believed_with_the_key_of_the_golden_enrolment() {
    let enrolled: Enrolled = golden::read("enrolled");
    let envelope: Envelope = golden::read("envelope");
    let id = BoxId::parse(&enrolled.id).unwrap();
    let now: Wall = "2026-01-03T00:00:00Z".parse().unwrap();
    let verifier = Verifier::new(&enrolled.manifest_keys).unwrap();
    let verified = verifier
        .verify(&golden::manifest(), &id, now, Some(envelope.position))
        .unwrap();
    assert_eq!(verified.position, envelope.position);
    let keys: Vec<&str> = verified.keys.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "title/v1/720p/init.mp4",
            "title/v1/720p/seg-1.m4s",
            "title/v1/audio/seg-1.m4s"
        ]
    );
    let lines: Vec<Row> = golden::text("manifest-rows.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 5);
    assert!(lines.contains(&golden::read("row-bundle")));
    assert!(lines.contains(&golden::read("row-key")));
    let compressed = golden::manifest();
    let start = compressed.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let text = zstd::decode_all(&compressed[start..]).unwrap();
    assert_eq!(text, golden::text("manifest-rows.jsonl").as_bytes());
    assert_eq!(Digest::of(&compressed[start..]), envelope.blake3);
}

/// RFC 8032 section 7.1, test 1.
fn pair() -> aws_lc_rs::signature::Ed25519KeyPair {
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let seed: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()
}

fn signer() -> Signer {
    Signer::from_pkcs8(pair().to_pkcs8().unwrap().as_ref()).unwrap()
}

#[test]
fn our_signature_is_that_of_the_golden_envelope() {
    let (pair, signer) = (pair(), signer());
    let envelope: Envelope = golden::read("envelope");
    assert_eq!(signer.public_hex(), envelope.key);
    let signature = pair.sign(envelope.signed_text().as_bytes());
    let hex: String = signature
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, envelope.signature, "Ed25519 is deterministic");
}

#[test]
fn the_golden_certificate_names_the_box_and_belongs_to_the_golden_request() {
    let (enrol, renew): (Enrol, Renew) = (golden::read("enrol"), golden::read("renew"));
    assert_eq!(enrol.csr, renew.csr);
    let enrolled: Enrolled = golden::read("enrolled");
    let leaf = CertificateDer::from_pem_slice(enrolled.certificate.as_bytes()).unwrap();
    assert_eq!(box_of(&leaf).unwrap().as_str(), enrolled.id);
    assert_eq!(
        key_fingerprint_of_certificate(&leaf).unwrap(),
        key_fingerprint_of_csr(&enrol.csr).unwrap()
    );
}

/// The object that docs/LINK.md describes: 300,000 times the letter `a`.
fn large_object() -> ChunkTree {
    let mut builder = TreeBuilder::new();
    builder.update(&vec![b'a'; 300_000]);
    builder.finish()
}

#[test]
fn the_golden_answer_has_the_tree_of_its_object_and_the_tickets_of_its_sources() {
    let request: FillSourcesRequest = golden::read("fill-sources-request");
    let reply: FillSources = golden::read("fill-sources");
    let tree = large_object();
    assert_eq!(reply.objects[0].digest, tree.digest());
    assert_eq!(reply.objects[0].tree, ObjectSources::tree_text(&tree));
    assert_eq!(sources::accept(&request, reply.clone()), Ok(reply.clone()));

    let now: Wall = "2026-01-02T03:30:00Z".parse().unwrap();
    let enrolled: Enrolled = golden::read("enrolled");
    let asker = BoxId::parse(&enrolled.id).unwrap();
    let verifier = Verifier::new(&enrolled.manifest_keys).unwrap();
    let mut texts = Vec::new();
    for object in &reply.objects {
        for source in &object.sources {
            let Some(number) = source.ticket else {
                continue;
            };
            let ticket = Ticket {
                asker: asker.clone(),
                source: source.id.clone(),
                digests: vec![object.digest],
                not_before: 1_767_323_046 + source.not_before_s,
                expires: 1_767_323_046 + source.expires_s,
                bytes: 4 * object.length,
                rate_bps: None,
            };
            texts.push(signer().ticket(&ticket));
            let believed = verifier.ticket(&reply.tickets[number]).unwrap();
            let checked = believed.check(&asker, &source.id, object.digest, now);
            assert_eq!((believed, checked), (ticket, Ok(())));
        }
    }
    assert_eq!(texts, reply.tickets);
}

#[test]
fn the_golden_deletion_override_is_believed_with_the_key_of_the_golden_enrolment() {
    let enrolled: Enrolled = golden::read("enrolled");
    let id = BoxId::parse(&enrolled.id).unwrap();
    let permit: DeletionOverride = golden::read("deletion-override");
    let (issued, expires) = (permit.issued, permit.expires);
    let ours = signer().permit(&id, permit.position, permit.bytes, issued, expires);
    assert_eq!(ours, permit);
    let now: Wall = "2026-01-03T00:00:00Z".parse().unwrap();
    let verifier = Verifier::new(&enrolled.manifest_keys).unwrap();
    assert_eq!(verifier.permit(&permit, &id, now), Ok(()));
}

#[test]
fn the_golden_report_of_a_filling_box_is_a_step_from_the_one_before() {
    let before: Report = golden::read("report");
    let Ok(Step::Whole { place, .. }) = take_catalogue(None, &before.catalogue) else {
        panic!("refused");
    };
    let Ok(Step::Whole { place: routes, .. }) = take_routes(None, &before.routes) else {
        panic!("refused");
    };
    let filling: Report = golden::read("report-filling");
    let Ok(Step::Change { added, removed, .. }) = take_catalogue(Some(&place), &filling.catalogue)
    else {
        panic!(
            "refused: {:?}",
            take_catalogue(Some(&place), &filling.catalogue)
        );
    };
    assert_eq!(added, [large_object().digest()]);
    assert_eq!(removed, [Digest::of(b"two")]);
    assert_eq!(take_routes(Some(&routes), &filling.routes), Ok(Step::Same));
}
