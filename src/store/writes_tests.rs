//! Tests of [`super`]: what the kernel may say of a write, and what becomes of the chunk.

use super::super::Handle;
use super::super::Staged;
use super::super::state::State;
use super::super::tests_support::store_of_one;
use super::super::tests_support::until;
use super::*;
use crate::object::CHUNK_BYTES;
use crate::object::TreeBuilder;
use crate::store::PublishError;
use std::path::Path;

/// Three chunks and an odd end.
const LENGTH: usize = 3 * CHUNK_BYTES as usize + 4096 + 77;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at / 7 % 251) as u8).collect()
}

async fn receive(store: &Handle) -> Staged {
    let mut builder = TreeBuilder::new();
    builder.update(&content());
    let tree = builder.finish();
    let received = store.receive(tree.digest(), LENGTH as u64, 0, tree);
    received.await.unwrap()
}

async fn feed(staged: &mut Staged) -> Result<(), PublishError> {
    for (number, chunk) in (0..).zip(content().chunks(CHUNK_BYTES as usize)) {
        staged.write(number, Bytes::copy_from_slice(chunk)).await?;
    }
    Ok(())
}

/// The next writes of the only disk end so.
fn inject(store: &Handle, faults: impl IntoIterator<Item = io::Result<usize>>) {
    let writes = &store.shared().volumes[0].writes;
    assert_eq!(writes.name(), Some("direct io_uring"));
    writes.faults.lock().unwrap().extend(faults);
}

fn code(code: i32) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(code))
}

fn staging(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("disk/staging")).unwrap().count()
}

async fn assert_published(store: &Handle) {
    let digest = crate::object::Digest::of(&content());
    let object = store.open(digest).await.unwrap();
    let mut found = vec![0; LENGTH];
    object.file.read_exact_at(&mut found, 0).unwrap();
    assert!(found == content(), "other bytes");
    assert_eq!(object.file.metadata().unwrap().len(), LENGTH as u64);
}

#[tokio::test]
async fn a_short_write_goes_on_with_the_rest_and_an_interrupted_one_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_of_one(dir.path());
    let mut staged = receive(&store).await;
    let short = [Ok(4096), Ok(5000), code(libc::EINTR), Ok(200_000)];
    inject(
        &store,
        short.into_iter().chain((0..5).map(|_| code(libc::EAGAIN))),
    );
    feed(&mut staged).await.unwrap();
    staged.commit().await.unwrap();
    assert!(
        store.shared().volumes[0]
            .writes
            .faults
            .lock()
            .unwrap()
            .is_empty()
    );
    assert_published(&store).await;
}

#[tokio::test]
async fn a_write_of_nothing_or_one_for_ever_interrupted_is_an_error_and_the_chunk_missing() {
    for fault in [|| Ok(0), || Ok(4095), || code(libc::EAGAIN)] {
        let dir = tempfile::tempdir().unwrap();
        let store = store_of_one(dir.path());
        let mut staged = receive(&store).await;
        // Enough for each of its four pieces.
        inject(&store, (0..4 * (AGAIN_MAX + 1)).map(|_| fault()));
        let fed = feed(&mut staged).await;
        let refused = match fed {
            Ok(()) => staged.commit().await.unwrap_err(),
            Err(error) => {
                drop(staged);
                error
            }
        };
        assert!(matches!(refused, PublishError::Disk { .. }), "{refused}");
        store.shared().volumes[0]
            .writes
            .faults
            .lock()
            .unwrap()
            .clear();
        let volume = &store.shared().volumes[0];
        assert_eq!(volume.state(), State::Online, "it says nothing of the disk");
        let mut staged = receive(&store).await;
        assert!(!staged.missing().is_empty());
        feed(&mut staged).await.unwrap();
        staged.commit().await.unwrap();
        assert_published(&store).await;
    }
}

#[tokio::test]
async fn a_disk_that_fails_a_write_is_suspect_and_the_file_is_kept_as_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_of_one(dir.path());
    let mut staged = receive(&store).await;
    // Of several that fail the first is final.
    inject(&store, [code(libc::EIO), code(libc::EIO)]);
    let fed = feed(&mut staged).await;
    let committed = match fed {
        Ok(()) => staged.commit().await,
        Err(error) => {
            drop(staged);
            Err(error)
        }
    };
    let refused = committed.unwrap_err().to_string();
    assert!(refused.contains("Input/output error"), "{refused}");
    let volume = &store.shared().volumes[0];
    until(|| volume.state() == State::Suspect && store.staged().is_empty());
    drop(store);
    assert!(dir.path().join("disk/quarantine/flush-0").is_file());
    assert!(!dir.path().join("disk/quarantine/flush-1").exists());
    assert_eq!(staging(dir.path()), 0, "no map tells of a chunk");
    let store = store_of_one(dir.path());
    assert_eq!(store.view().disks[0].state, "suspect");
}

#[tokio::test]
async fn a_full_disk_is_told_as_full_and_stays_in_service() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_of_one(dir.path());
    let mut staged = receive(&store).await;
    inject(&store, [code(libc::ENOSPC)]);
    let fed = feed(&mut staged).await;
    let refused = match fed {
        Ok(()) => staged.commit().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(refused, PublishError::Full { .. }), "{refused}");
    assert_eq!(store.shared().volumes[0].state(), State::Online);
}

#[test]
fn what_is_left_of_a_short_write_begins_where_a_disk_can() {
    assert_eq!(rest(10, 10).unwrap(), 0);
    assert_eq!(rest(4096, 8192).unwrap(), 4096);
    assert_eq!(rest(8191, 8192).unwrap(), 4096);
    assert_eq!(rest(5000, 20_000).unwrap(), 20_000 - 4096);
    assert_eq!(rest(0, 1).unwrap_err().kind(), io::ErrorKind::WriteZero);
    assert_eq!(
        rest(4095, 8192).unwrap_err().kind(),
        io::ErrorKind::WriteZero
    );
}

#[test]
fn without_a_ring_and_through_the_page_cache_the_same_bytes_are_written() {
    for (way, name) in [(Way::Direct, "direct"), (Way::Ordinary, "buffered")] {
        let writes = Writes::default();
        writes.way.set(way).unwrap();
        assert_eq!(writes.name(), Some(name));
        assert_writes(&writes);
    }
}

#[test]
fn what_is_put_together_is_given_to_the_kernel_together() {
    let writes = Writes::default();
    writes.way.set(writes.open_ring()).unwrap();
    assert_eq!(writes.name(), Some("direct io_uring"));
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let file = root::create_in(root.top(), "x").unwrap();
    file.set_len(4 * CHUNK_BYTES).unwrap();
    let target = writes.target(root.top(), "x", file).unwrap();
    let written = || std::fs::read(dir.path().join("x")).unwrap();
    let (tell, told) = std::sync::mpsc::sync_channel(4);
    let puts = (0..4).map(|number| {
        if number == 3 {
            crate::clock::block_for(std::time::Duration::from_millis(30));
            assert!(written().iter().all(|byte| *byte == 0), "a part went ahead");
        }
        let (tell, bytes) = (tell.clone(), vec![7; CHUNK_BYTES as usize]);
        Put::new(bytes.into(), number * CHUNK_BYTES, move |outcome| {
            tell.send(outcome).unwrap();
        })
    });
    writes.put(&target, puts, &|| ());
    writes.drain(&|| ());
    assert_eq!(told.try_iter().filter(Result::is_ok).count(), 4);
    assert!(written().iter().all(|byte| *byte == 7));
}

/// One chunk after another.
fn assert_writes(writes: &Writes) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let file = root::create_in(root.top(), "x").unwrap();
    let target = writes.target(root.top(), "x", file).unwrap();
    let bytes = content();
    for (number, chunk) in (0..).zip(bytes.chunks(CHUNK_BYTES as usize)) {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let done = move |outcome| tell.send(outcome).unwrap();
        // At an address that no disk can read from.
        let odd = Bytes::from([&[9], chunk].concat()).slice(1..);
        let put = Put::new(odd, number * CHUNK_BYTES, done);
        writes.put(&target, [put], &|| ());
        told.recv().unwrap().unwrap();
    }
    assert!(std::fs::read(dir.path().join("x")).unwrap() == bytes);
}
