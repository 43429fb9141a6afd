//! Tests of [`super`]: only what was verified by this process is given away.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one run is a list of one range"
)]

use super::*;
use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use crate::object::TreeBuilder;
use crate::store;
use crate::store::tests_support::store_of_one;
use crate::store::tests_support::until;
use std::os::unix::fs::FileExt as _;

/// Four chunks go to the disk together.
const LENGTH: u64 = 5 * CHUNK_BYTES + 5;

fn body() -> Vec<u8> {
    let bytes = (0..LENGTH).map(|at| u8::try_from(at % 251).unwrap());
    bytes.collect()
}

fn tree() -> ChunkTree {
    let mut builder = TreeBuilder::new();
    builder.update(&body());
    builder.finish()
}

async fn feed(staged: &mut store::Staged, chunks: &[u64]) {
    for chunk in chunks {
        let (from, body) = (chunk * CHUNK_BYTES, body());
        let end = (from + CHUNK_BYTES).min(LENGTH);
        let (from, end) = (
            usize::try_from(from).unwrap(),
            usize::try_from(end).unwrap(),
        );
        let bytes = bytes::Bytes::copy_from_slice(&body[from..end]);
        staged.write(*chunk, bytes).await.unwrap();
    }
}

async fn until_held(store: &store::Handle, expected: &[Range<u64>]) {
    for _ in 0..500 {
        let unfinished = store.unfinished(tree().digest());
        if unfinished.is_some_and(|unfinished| unfinished.held == expected) {
            return;
        }
        crate::clock::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", store.unfinished(tree().digest()));
}

#[tokio::test]
async fn what_was_written_verified_is_there_and_nothing_else_until_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_of_one(dir.path());
    let digest = tree().digest();
    assert_eq!(store.unfinished(digest), None);
    let missing = store.open_unfinished(digest).await;
    assert_eq!(missing.map(drop), Err(OpenError::NotHeld));
    let mut staged = store.receive(digest, LENGTH, 0, tree()).await.unwrap();
    assert_eq!(store.unfinished(digest).unwrap().held, []);
    feed(&mut staged, &[0, 1, 4, 5]).await;
    until_held(&store, &[0..2 * CHUNK_BYTES, 4 * CHUNK_BYTES..LENGTH]).await;
    let unfinished = store.unfinished(digest).unwrap();
    assert!(unfinished.has(&(5..2 * CHUNK_BYTES)) && unfinished.has(&(LENGTH - 1..LENGTH)));
    assert!(!unfinished.has(&(5..2 * CHUNK_BYTES + 1)) && !unfinished.has(&(0..LENGTH)));
    let object = store.open_unfinished(digest).await.unwrap();
    let mut bytes = vec![0; 1_000];
    object.file.read_exact_at(&mut bytes, CHUNK_BYTES).unwrap();
    let from = usize::try_from(CHUNK_BYTES).unwrap();
    assert_eq!(bytes, body()[from..from + 1_000]);
    feed(&mut staged, &[2, 3]).await;
    staged.commit().await.unwrap();
    assert_eq!(store.unfinished(digest), None);
    let gone = store.open_unfinished(digest).await;
    assert_eq!(gone.map(drop), Err(OpenError::NotHeld));
    // Who had it open reads on.
    object.file.read_exact_at(&mut bytes, CHUNK_BYTES).unwrap();
}

/// The map of the process before says two chunks; one of them is not what it was.
#[tokio::test]
async fn what_an_earlier_process_claims_is_hashed_before_it_is_given_away() {
    let dir = tempfile::tempdir().unwrap();
    let digest = tree().digest();
    {
        let store = store_of_one(dir.path());
        let mut staged = store.receive(digest, LENGTH, 0, tree()).await.unwrap();
        feed(&mut staged, &[0, 1]).await;
        drop(staged);
        let map = dir
            .path()
            .join("disk/staging")
            .join(layout::map_name(digest));
        until(|| map.exists());
        store.stop();
    }
    let part = dir
        .path()
        .join("disk/staging")
        .join(layout::partial_name(digest));
    let file = std::fs::OpenOptions::new().write(true).open(part).unwrap();
    file.write_all_at(b"rot", CHUNK_BYTES + 7).unwrap();
    let store = store_of_one(dir.path());
    assert_eq!(store.unfinished(digest), None, "claimed, and not hashed");
    let staged = store.receive(digest, LENGTH, 0, tree()).await.unwrap();
    assert_eq!(store.unfinished(digest).unwrap().held, [0..CHUNK_BYTES]);
    drop(staged);
    until_held(&store, &[0..CHUNK_BYTES]).await;
}
