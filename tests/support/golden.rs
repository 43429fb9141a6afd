//! The golden files of the link: one message each, read by the tests of both sides.
//!
//! Used by `#[path = "../support/golden.rs"] mod golden;`. Tests inside `src` read the same files
//! with `include_str!`.
//!
//! I/O: reads `tests/link/golden`.

#![allow(dead_code, reason = "each test binary uses its part")]

use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// `tests/link/golden`.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/link/golden")
}

/// The text of a file, by its name with the ending.
pub(crate) fn text(name: &str) -> String {
    let path = directory().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The message in `<name>.json`.
pub(crate) fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&text(&format!("{name}.json")))
        .unwrap_or_else(|error| panic!("{name}.json: {error}"))
}

/// The body of `GET /v1/manifest` that the files `envelope.json` and `manifest-rows.hex` make.
pub(crate) fn manifest() -> Vec<u8> {
    let envelope: serde_json::Value = read("envelope");
    let mut body = envelope.to_string().into_bytes();
    body.push(b'\n');
    let digits: Vec<u8> = text("manifest-rows.hex")
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .collect();
    body.extend(digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    }));
    body
}
