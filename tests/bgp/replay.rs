//! The corpora of the fuzz targets, file by file: what a search found stays found.

use super::check;
use super::stream;
use std::fs;
use std::panic::catch_unwind;

/// Runs every file of a corpus, in order.
fn replay(name: &str, check: fn(&[u8])) {
    let directory = format!("{}/tests/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(&directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{directory} has too few files");
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        assert!(catch_unwind(|| check(&bytes)).is_ok(), "{}", path.display());
    }
}

#[test]
fn streams_that_were_hard_to_frame_are_framed_or_refused() {
    replay("bgp-framing", check::framing);
}

#[test]
fn opens_that_were_hard_to_read_are_read_or_refused() {
    replay("bgp-open", check::open);
}

#[test]
fn updates_that_were_hard_to_read_are_read_or_refused() {
    replay("bgp-update", check::update);
}

#[test]
fn sessions_that_were_hard_to_bear_end_without_harm() {
    replay("bgp-session", stream::session);
}
