//! Tests of [`super`]: flushes that fail, disks that hang, the rhythm of the map.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one gap is a list of one range"
)]

use super::super::state::State;
use super::super::tests_support::until;
use super::super::writes::Target;
use super::*;
use crate::key::Key;
use crate::object::CHUNK_BYTES;
use crate::object::Digest;
use crate::object::TreeBuilder;
use crate::store;
use crate::store::Binding;
use crate::store::Finding;
use crate::store::Handle;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;

const LENGTH: u64 = 2 * CHUNK_BYTES + 5;

fn opened(dir: &Path, disks: u32, deadline: Duration) -> Handle {
    let disks = (0..disks).map(|number| {
        let path = dir.join(format!("disk{number}"));
        std::fs::create_dir_all(&path).unwrap();
        store::DiskConfig {
            path,
            class: store::DiskClass::Ssd,
            zone: crate::store::Zone::None,
            plain_directory: true,
        }
    });
    let config = store::Config {
        disks: disks.collect(),
        state_dir: dir.join("state"),
        deadline,
        upkeep: store::Upkeep::default(),
    };
    let store = store::start(&config).unwrap();
    until(|| store.is_ready());
    store
}

fn tree() -> ChunkTree {
    let mut builder = TreeBuilder::new();
    builder.update(&vec![7; usize::try_from(LENGTH).unwrap()]);
    builder.finish()
}

async fn receive(store: &Handle) -> Result<Staged, PublishError> {
    store.receive(tree().digest(), LENGTH, 0, tree()).await
}

async fn feed(staged: &mut Staged, chunks: Range<u64>) -> Result<(), PublishError> {
    for chunk in chunks {
        let length = Chunks::none(LENGTH).bytes_of(chunk);
        let bytes = vec![7; usize::try_from(length).unwrap()];
        staged.write(chunk, bytes.into()).await?;
    }
    Ok(())
}

fn staging(dir: &Path, disk: u16) -> usize {
    let path = dir.join(format!("disk{disk}/staging"));
    std::fs::read_dir(path).unwrap().count()
}

/// `/dev/null` takes every write and refuses every flush.
#[tokio::test]
async fn a_failed_flush_is_final_whether_it_was_the_commits_or_the_maps() {
    for commits in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = opened(dir.path(), 1, Duration::from_secs(10));
        let mut staged = receive(&store).await.unwrap();
        let mut open = staged.open.take().unwrap();
        let work = Arc::try_unwrap(open.work).unwrap();
        let null = File::options().write(true).open("/dev/null").unwrap();
        let target = Target {
            file: null,
            direct: None,
        };
        open.work = Arc::new(Work { target, ..work });
        staged.open = Some(open);
        feed(&mut staged, 0..3).await.unwrap();
        if commits {
            staged.commit().await.unwrap_err();
        } else {
            drop(staged);
        }
        let volume = &store.shared().volumes[0];
        until(|| volume.state() == State::Suspect && store.staged().is_empty());
        assert!(!store.holds(tree().digest()));
        let refused = receive(&store).await.unwrap_err();
        assert_eq!(refused, PublishError::NoVolume);
        drop(store);
        assert!(dir.path().join("disk0/quarantine/flush-0").is_file());
        assert_eq!(staging(dir.path(), 0), 0);
        let store = opened(dir.path(), 1, Duration::from_secs(10));
        assert_eq!(store.view().disks[0].state, "suspect");
    }
}

/// Makes the writers' thread of a disk hang until the answer is dropped.
fn hang(store: &Handle, disk: u16) -> SyncSender<()> {
    let (release, held) = sync_channel::<()>(0);
    let (started, begun) = sync_channel(1);
    let volume = Arc::clone(store.shared().volume(disk).unwrap());
    let queued = volume.write(volume.deadline(), move |_, _| {
        started.send(()).unwrap();
        let _ = held.recv();
    });
    drop(queued.unwrap());
    begun.recv().unwrap();
    release
}

fn row(key: &str, digest: Digest, length: u64) -> (Key, Binding) {
    let binding = Binding {
        digest,
        length,
        last_modified: 0,
        rank: 0,
    };
    (Key::parse(key.as_bytes()).unwrap(), binding)
}

#[tokio::test]
async fn a_hung_disk_passes_its_transfer_on_and_what_it_holds_is_not_fetched_again() {
    // In memory, not on a disk that a busy machine makes as slow as a sick one.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = opened(dir.path(), 2, Duration::from_millis(500));
    let mut staged = receive(&store).await.unwrap();
    let sick = staged.open.as_ref().unwrap().volume.number;
    let mut publication = store.stage(b"x", 1, &BTreeSet::from([1 - sick])).unwrap();
    publication.write(b"1".to_vec()).unwrap();
    let held = publication.commit(None).unwrap().digest;
    let rows = vec![row("held", held, 1), row("new", tree().digest(), LENGTH)];
    store.adopt(1, 1, rows).unwrap();
    let generation = store.held().generation;
    feed(&mut staged, 0..1).await.unwrap();
    let release = hang(&store, sick);
    feed(&mut staged, 1..3).await.unwrap();
    let error = staged.commit().await.unwrap_err();
    assert_eq!(error.volume(), Some(sick));
    assert_eq!(store.find("held"), Finding::Unavailable);
    let wanted: Vec<Digest> = store.wanted(&[]).iter().map(|w| w.digest).collect();
    assert_eq!(wanted, [tree().digest()], "the disk may come back");
    assert_eq!(store.changes(generation), None, "a whole disk is gone");

    let mut staged = receive(&store).await.unwrap();
    assert_eq!(staged.missing(), [0..LENGTH]);
    feed(&mut staged, 0..3).await.unwrap();
    staged.commit().await.unwrap();
    assert!(store.holds(tree().digest()));
    drop(release);
    until(|| store.find("held").entry().is_some());
    until(|| staging(dir.path(), 0) + staging(dir.path(), 1) == 0);
    assert_eq!(store.staged(), []);
}

#[tokio::test(start_paused = true)]
async fn the_map_follows_the_data_every_few_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path(), 1, Duration::from_secs(10));
    let mut staged = receive(&store).await.unwrap();
    feed(&mut staged, 0..1).await.unwrap();
    let open = staged.open.as_ref().unwrap();
    assert_eq!((open.held.len(), open.in_flight.len()), (1, 0), "one waits");
    tokio::time::advance(FLUSH_EVERY).await;
    let durable = |staged: &Staged| {
        let open = staged.open.as_ref().unwrap();
        open.work.lease.partial().lock().durable.bytes()
    };
    assert_eq!(durable(&staged), 0);
    feed(&mut staged, 1..2).await.unwrap();
    let open = staged.open.as_mut().unwrap();
    assert!(open.held.is_empty(), "a flush is of all of them");
    while !open.in_flight.is_empty() {
        open.land().await.unwrap();
    }
    assert_eq!(durable(&staged), 2 * CHUNK_BYTES);
    assert_eq!(staging(dir.path(), 0), 2, "the file and its map");
}
