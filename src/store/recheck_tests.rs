//! Tests of [`super`]: what a disk held stays known until its scan has ended, whatever happens in
//! between, and what was begun before is not gone on with.

use super::*;
use crate::key::Key;
use crate::object::CHUNK_BYTES;
use crate::object::Digest;
use crate::object::TreeBuilder;
use crate::store::Binding;
use crate::store::Upkeep;
use crate::store::ours_tests::publish;
use crate::store::ours_tests::store;
use crate::store::tests_support::until;
use bytes::Bytes;
use std::sync::mpsc::sync_channel;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn opened(dir: &Path) -> Handle {
    std::fs::create_dir(dir.join("disk")).unwrap();
    store(dir, "a", &["disk"], &Upkeep::default())
}

fn list(store: &Handle, digests: &[Digest]) {
    let rows = (0_u32..).zip(NAMES).zip(digests);
    let rows = rows.map(|((rank, name), digest)| {
        let binding = Binding {
            digest: *digest,
            length: 1,
            last_modified: 0,
            rank,
        };
        (Key::parse(name.as_bytes()).unwrap(), binding)
    });
    store.adopt(1, 1, rows.collect()).unwrap();
}

fn wanted(store: &Handle) -> Vec<Digest> {
    let wanted = store.wanted(&[]).into_iter();
    wanted.map(|wanted| wanted.digest).collect()
}

#[test]
fn a_disk_that_hangs_while_it_is_scanned_again_starts_no_refill_and_claims_nothing_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    let digests = NAMES.map(|name| publish(&store, name));
    list(&store, &digests);
    let (shared, [_, lost, unknown]) = (store.shared(), digests);
    let volume = &shared.volumes[0];
    let is_held = |digest: Digest| {
        let number = shared.index.find(digest).unwrap();
        shared.index.places(number).has(volume.number)
    };
    let path = dir.path().join("disk").join(layout::object_path(lost));
    std::fs::remove_file(path).unwrap();
    // A call that hangs keeps the disk isolated.
    let (release, held) = sync_channel::<()>(1);
    let (begins, begun) = sync_channel(1);
    let hanging = volume.write(Duration::MAX, move |_, _| {
        begins.send(()).unwrap();
        held.recv().is_ok()
    });
    begun.recv().unwrap();
    shared.forget(unknown, volume);
    volume.report(shared, Event::Broken, "it is a test");
    volume.report(shared, Event::Returned, "");
    volume.report(shared, Event::Hung, "it is a test");
    assert_eq!(volume.state(), State::Isolated);
    assert_eq!(wanted(&store), [], "what it held, and what it may hold");
    assert!(is_held(lost), "nothing is known of it yet");
    scan::scan(shared, volume, &Pulse::new(shared.ticks.clone()));
    assert_eq!(volume.state(), State::Isolated);
    assert!(!is_held(lost) && is_held(unknown));
    drop(release);
    assert!(!volume.wait(&hanging.unwrap()).unwrap());
    until(|| volume.state() == State::Online);
    assert_eq!(wanted(&store), [lost]);
}

#[test]
fn objects_that_failed_before_the_disk_was_condemned_are_its_own_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    let digests = NAMES.map(|name| publish(&store, name));
    list(&store, &digests);
    let (shared, volume) = (store.shared(), &store.shared().volumes[0]);
    let failed = io::Error::from_raw_os_error(libc::EIO);
    shared.forget(digests[0], volume);
    shared.note_read_error(volume, digests[0], &failed);
    assert_eq!(wanted(&store), [digests[0]]);
    volume.report(shared, Event::Broken, "it is a test");
    assert_eq!(wanted(&store), []);
}

#[tokio::test]
async fn what_was_being_received_when_a_disk_was_given_back_ends_and_does_not_condemn_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    let chunk = usize::try_from(CHUNK_BYTES).unwrap();
    let body = vec![7; 2 * chunk];
    let mut builder = TreeBuilder::new();
    builder.update(&body);
    let tree = builder.finish();
    let digest = tree.digest();
    let begin = || store.receive(digest, body.len() as u64, 0, tree.clone());
    let bytes = Bytes::copy_from_slice(&body[..chunk]);
    let mut old = begin().await.unwrap();
    old.write(0, bytes.clone()).await.unwrap();
    let mut publication = store
        .stage(b"x", 1, &std::collections::BTreeSet::new())
        .unwrap();
    let volume = &store.shared().volumes[0];
    volume.report(store.shared(), Event::Broken, "it is a test");
    store.recheck(&dir.path().join("disk")).await.unwrap();
    until(|| volume.state() == State::Online);
    assert_eq!(store.staged(), [], "the scan found nothing to go on with");
    let mut new = begin().await.unwrap();
    new.write(0, bytes.clone()).await.unwrap();
    let written = old.write(1, bytes.clone()).await;
    assert!(written.is_err() || old.commit().await.is_err());
    let published = publication.write(b"x".to_vec());
    assert!(published.is_err() || publication.commit(None).is_err());
    assert_eq!(volume.state(), State::Online);
    new.write(1, bytes).await.unwrap();
    new.commit().await.unwrap();
    assert!(store.holds(digest));
}
