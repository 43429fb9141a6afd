//! Ten gigabytes in a few hundred kilobytes: refused, fast, in little memory.
//!
//! I/O: reads /proc/self/status.

use oca::ids::BoxId;
use oca::link::body;
use oca::link::body::Encoding;
use oca::link::body::Limits;
use oca::link::manifest::Signer;
use oca::link::manifest::Verifier;
use oca::link::message::Code;
use oca::link::message::Envelope;
use oca::link::message::Position;
use oca::link::message::Report;
use oca::object::Digest;
use std::time::Duration;

/// The control plane's defaults.
const LIMITS: Limits = Limits {
    compressed: 64 << 20,
    decompressed: 512 << 20,
};

/// What the process may grow by: decompressor, buffers, and whatever other tests do meanwhile.
const GROWTH_KB_MAX: u64 = 96 * 1024;

/// In all, so that an earlier peak hides nothing: half of the limit under test.
const PEAK_KB_MAX: u64 = 256 * 1024;

/// Ten gigabytes of the same byte in zstd's run-length blocks of 128 KiB (RFC 8878 section
/// 3.1.1.2), behind `head`.
fn bomb(head: &[u8], byte: u8) -> Vec<u8> {
    let mut frame = zstd::encode_all(head, 1).unwrap();
    frame.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3]);
    let blocks = (10_u64 << 30) / (128 * 1024);
    for block in 1..=blocks {
        let header = (128 * 1024) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(byte);
    }
    frame
}

/// The most memory this process ever had.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn cheap<T>(work: impl FnOnce() -> T) -> T {
    let (peak, begun) = (peak_kb(), oca::clock::now());
    let result = work();
    let grown = peak_kb() - peak;
    assert!(grown < GROWTH_KB_MAX, "{grown} kB");
    assert!(peak_kb() < PEAK_KB_MAX, "{} kB", peak_kb());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    result
}

#[test]
fn ten_gigabytes_of_zeros_as_a_report_are_refused_at_512_mib_and_before() {
    let zeros = bomb(b"", 0);
    assert!(zeros.len() < 400_000);
    let refused = |body: &[u8], limits| {
        cheap(|| body::decode::<Report>(body, Encoding::Zstd, limits).unwrap_err())
    };
    // No JSON: refused at the first byte.
    assert_eq!(refused(&zeros, LIMITS).code(), Code::BadRequest);
    // A field that is skipped: only the limit ends it.
    let hidden = bomb(b"{\"v\":1,\"unknown\":\"", b'0');
    let error = refused(&hidden, LIMITS);
    assert_eq!(error.code(), Code::TooLarge, "{error}");
    assert!(error.to_string().contains("536870912"), "{error}");
    let small = Limits {
        compressed: 1 << 20,
        decompressed: 1 << 20,
    };
    assert_eq!(refused(&hidden, small).code(), Code::TooLarge);
    let smaller = Limits {
        compressed: 1 << 10,
        ..LIMITS
    };
    assert_eq!(refused(&hidden, smaller).code(), Code::TooLarge);
}

#[test]
fn a_signed_bomb_as_a_manifest_ends_at_its_first_line() {
    let signer = Signer::generate().unwrap();
    let id = BoxId::parse("c001-tls001-example-isp").unwrap();
    let rows = bomb(b"", b'0');
    // Even the right signer may have signed a mistake.
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(signer.pkcs8()).unwrap();
    let mut envelope = Envelope {
        v: 1,
        id: id.to_string(),
        position: Position {
            epoch: 1,
            generation: 1,
        },
        issued: 0,
        expires: 4_000_000_000,
        bytes: rows.len() as u64,
        blake3: Digest::of(&rows),
        key: signer.public_hex(),
        signature: String::new(),
    };
    let signature = pair.sign(envelope.signed_text().as_bytes());
    envelope.signature = signature
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let mut body = serde_json::to_vec(&envelope).unwrap();
    body.push(b'\n');
    body.extend_from_slice(&rows);
    let verifier = Verifier::new(&[signer.public_hex()]).unwrap();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let error = cheap(|| verifier.verify(&body, &id, now, None).unwrap_err());
    assert!(
        error.to_string().contains("no end within 4096 bytes"),
        "{error}"
    );
}
