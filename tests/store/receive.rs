//! Objects received in pieces: resumed, damaged, discarded, published once.

use crate::tools::CHUNK;
use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::feed;
use crate::tools::object_path;
use crate::tools::read_all;
use crate::tools::receive;
use crate::tools::run;
use crate::tools::staging;
use crate::tools::tree;
use crate::tools::until;
use crate::tools::was_logged;
use oca::fill::Content;
use oca::fill::Receive;
use oca::fill::StoreContent;
use oca::object::Digest;
use oca::store::DiskClass;
use oca::store::Handle;
use oca::store::PublishError;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Six chunks, the last a short one.
const LENGTH: usize = 5 * CHUNK + 4321;

fn object(name: &str) -> (Vec<u8>, Digest) {
    let content = bytes(name, LENGTH);
    let digest = Digest::of(&content);
    (content, digest)
}

fn staged_file(lab: &Lab, digest: Digest, suffix: &str) -> PathBuf {
    lab.path(&format!("disk0/staging/{digest}.{suffix}"))
}

/// Receives the chunks that `take` wants and lets the rest be.
fn receive_some(store: &Handle, content: &[u8], take: impl Fn(usize) -> bool) {
    let mut staged = receive(store, content).unwrap();
    feed(&mut staged, content, take).unwrap();
}

fn assert_holds(store: &Handle, content: &[u8]) {
    let digest = Digest::of(content);
    assert!(store.holds(digest));
    let file = block(store.open(digest)).unwrap();
    assert!(read_all(&file).unwrap() == content, "other bytes");
}

fn assert_completes(store: &Handle, content: &[u8]) -> Vec<usize> {
    let mut staged = receive(store, content).unwrap();
    let written = feed(&mut staged, content, |_| true).unwrap();
    block(staged.commit()).unwrap();
    assert_holds(store, content);
    assert_eq!(store.staged(), []);
    written
}

#[test]
fn chunks_in_any_order_become_an_object_that_outlives_a_restart() {
    let lab = Lab::new(2);
    let store = lab.open();
    let (content, digest) = object("a");
    let mut staged = receive(&store, &content).unwrap();
    assert_eq!(staged.missing(), [0..LENGTH as u64]);
    for chunk in [5, 0, 3, 1, 4] {
        feed(&mut staged, &content, |n| n == chunk).unwrap();
    }
    assert_eq!(staged.missing(), [2 * CHUNK as u64..3 * CHUNK as u64]);
    assert!(!store.holds(digest));
    feed(&mut staged, &content, |_| true).unwrap();
    // A chunk that comes twice changes nothing.
    let first = bytes::Bytes::copy_from_slice(&content[..CHUNK]);
    block(staged.write(0, first)).unwrap();
    block(staged.commit()).unwrap();
    assert_holds(&store, &content);
    let mut again = receive(&store, &content).unwrap();
    assert_eq!(again.missing(), [], "it is held");
    assert_eq!(feed(&mut again, &content, |_| true).unwrap(), [0; 0]);
    block(again.commit()).unwrap();
    drop(store);
    let store = lab.open();
    assert_holds(&store, &content);
    assert_eq!(disk(&store, 0).objects + disk(&store, 1).objects, 1);
    for disk in &lab.disks {
        assert_eq!(staging(&disk.path), [""; 0]);
    }
}

#[test]
fn what_does_not_fit_the_object_is_refused() {
    let lab = Lab::new(1);
    let store = lab.open();
    let (content, digest) = object("a");
    let length = LENGTH as u64;
    let of_other = tree(&bytes("b", LENGTH));
    for (digest, length, tree) in [
        (digest, length, of_other),
        (digest, length + 1, tree(&content)),
        // Nobody's bytes hash to this, and no byte would ever show it.
        (Digest([7; 32]), 0, tree(b"")),
    ] {
        let refused = block(store.receive(digest, length, 0, tree)).unwrap_err();
        assert!(matches!(refused, PublishError::Digest { .. }), "{refused}");
    }
    let empty = oca::object::ChunkTree::verified(Digest([7; 32]), 0, vec![]).unwrap();
    assert!(block(store.receive(Digest([7; 32]), 0, 0, empty)).is_err());
    let mut staged = receive(&store, &content).unwrap();
    for (chunk, length) in [(0, CHUNK - 1), (5, CHUNK), (6, 0), (u64::MAX, 1)] {
        let wrong = bytes::Bytes::from(vec![0; length]);
        let refused = block(staged.write(chunk, wrong)).unwrap_err();
        assert!(matches!(refused, PublishError::Chunk { .. }), "{refused}");
    }
    feed(&mut staged, &content, |n| n != 5).unwrap();
    let refused = block(staged.commit()).unwrap_err();
    let missing = 4321;
    assert_eq!(refused, PublishError::Incomplete { digest, missing });
    assert!(!store.holds(digest));
    assert_completes(&store, &content);
    let nothing = receive(&store, b"").unwrap();
    block(nothing.commit()).unwrap();
    assert_holds(&store, b"");
}

#[test]
fn a_transfer_goes_on_where_the_last_one_ended_in_this_process_and_the_next() {
    let lab = Lab::new(1);
    let store = lab.open();
    let (content, digest) = object("a");
    let mut staged = receive(&store, &content).unwrap();
    feed(&mut staged, &content, |n| n < 2).unwrap();
    let second = receive(&store, &content).unwrap_err();
    assert_eq!(second, PublishError::Receiving(digest));
    assert!(second.is_retryable() && second.volume().is_none());
    drop(staged);
    let mut staged = receive(&store, &content).unwrap();
    assert_eq!(staged.missing(), [2 * CHUNK as u64..LENGTH as u64]);
    feed(&mut staged, &content, |n| n == 5).unwrap();
    drop(staged);
    let part = 2 * CHUNK as u64 + 4321;
    let staged = [(digest, LENGTH as u64, part)];
    until("the last write has landed", || store.staged() == staged);
    drop(store);

    let store = lab.open();
    assert_eq!(store.staged(), [(digest, LENGTH as u64, part)]);
    assert_eq!(assert_completes(&store, &content), [2, 3, 4]);
    assert_eq!(staging(&lab.disks[0].path), [""; 0]);
}

#[test]
fn a_bit_that_flipped_under_a_claimed_chunk_is_found_before_it_counts() {
    let lab = Lab::new(1);
    let (content, digest) = object("a");
    receive_some(&lab.open(), &content, |n| n < 4);
    let part = File::options()
        .write(true)
        .open(staged_file(&lab, digest, "part"))
        .unwrap();
    let at = CHUNK as u64 + 77;
    part.write_all_at(&[content[CHUNK + 77] ^ 4], at).unwrap();
    let store = lab.open();
    let staged = receive(&store, &content).unwrap();
    let chunk = |n: u64| n * CHUNK as u64;
    let expected = [chunk(1)..chunk(2), chunk(4)..LENGTH as u64];
    assert_eq!(staged.missing(), expected);
    assert!(was_logged(&[&digest.to_string(), "1 staged chunks"]));
    drop(staged);
    assert_eq!(assert_completes(&store, &content), [1, 4, 5]);
}

#[test]
fn what_cannot_be_gone_on_with_is_removed_at_start_and_begins_anew() {
    type Spoil = (&'static str, fn(&Lab, Digest));
    let spoil: [Spoil; 7] = [
        ("map damaged", |lab, digest| {
            let map = staged_file(lab, digest, "map");
            let mut bytes = std::fs::read(&map).unwrap();
            bytes[100] ^= 1;
            std::fs::write(&map, bytes).unwrap();
        }),
        ("map of a later version", |lab, digest| {
            let map = staged_file(lab, digest, "map");
            let mut bytes = std::fs::read(&map).unwrap();
            bytes[8] = 2;
            let body = bytes.len() - 32;
            let sum = Digest::of(&bytes[..body]);
            bytes[body..].copy_from_slice(&sum.0);
            std::fs::write(&map, bytes).unwrap();
        }),
        ("map missing", |lab, digest| {
            std::fs::remove_file(staged_file(lab, digest, "map")).unwrap();
        }),
        ("map a link", |lab, digest| {
            let map = staged_file(lab, digest, "map");
            std::fs::rename(&map, lab.path("elsewhere")).unwrap();
            std::os::unix::fs::symlink(lab.path("elsewhere"), map).unwrap();
        }),
        ("file missing", |lab, digest| {
            std::fs::remove_file(staged_file(lab, digest, "part")).unwrap();
        }),
        ("file cut", |lab, digest| {
            let part = staged_file(lab, digest, "part");
            let part = File::options().write(true).open(part).unwrap();
            part.set_len(LENGTH as u64 - 1).unwrap();
        }),
        ("map too long", |lab, digest| {
            let map = staged_file(lab, digest, "map");
            let map = File::options().write(true).open(map).unwrap();
            map.set_len(1 << 30).unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        let lab = Lab::new(1);
        let ((content, digest), (other, good)) = (object("a"), object("b"));
        let store = lab.open();
        receive_some(&store, &content, |n| n < 4);
        receive_some(&store, &other, |n| n == 1);
        drop(store);
        spoil(&lab, digest);
        std::fs::write(lab.path("disk0/staging/p7"), "left").unwrap();
        std::fs::write(staged_file(&lab, good, "map.new"), "left").unwrap();
        let store = lab.open();
        assert_eq!(disk(&store, 0).state, "online", "{what}");
        let staged = store.staged();
        assert_eq!(staged, [(good, LENGTH as u64, CHUNK as u64)], "{what}");
        let kept = ["map", "part"].map(|suffix| format!("{good}.{suffix}"));
        assert_eq!(staging(&lab.disks[0].path), kept, "{what}");
        let mut staged = receive(&store, &content).unwrap();
        assert_eq!(staged.missing(), [0..LENGTH as u64], "{what}");
        feed(&mut staged, &content, |_| true).unwrap();
        block(staged.commit()).unwrap();
        assert_eq!(assert_completes(&store, &other), [0, 2, 3, 4, 5], "{what}");
    }
}

#[test]
fn what_is_not_wanted_any_more_is_discarded_unless_somebody_has_it() {
    let lab = Lab::new(1);
    let store = lab.open();
    let (content, digest) = object("a");
    let mut staged = receive(&store, &content).unwrap();
    feed(&mut staged, &content, |n| n < 3).unwrap();
    store.discard(digest);
    assert_eq!(store.staged().len(), 1, "somebody has it");
    drop(staged);
    store.discard(digest);
    store.discard(Digest::of(b"unknown"));
    assert_eq!(store.staged(), []);
    let empty = || staging(&lab.disks[0].path).is_empty();
    until("its files are removed", empty);
    assert_eq!(assert_completes(&store, &content).len(), 6);
}

#[test]
fn an_object_that_came_to_be_held_meanwhile_is_not_published_twice() {
    let lab = Lab::new(1);
    let media = lab.media(&[("a", LENGTH)]);
    let store = lab.open();
    let (content, _) = object("a");
    let mut staged = receive(&store, &content).unwrap();
    feed(&mut staged, &content, |_| true).unwrap();
    assert_eq!(run(&store, &media).published, 1);
    let generation = store.held().generation;
    block(staged.commit()).unwrap();
    assert_eq!(store.changes(generation).unwrap().added, []);
    assert_eq!(disk(&store, 0).objects, 1);
    until("staging is empty", || {
        staging(&lab.disks[0].path).is_empty()
    });
    assert_eq!(store.staged(), []);
    assert_serves(&store, &[("a", LENGTH)]);
}

#[test]
fn room_is_taken_when_a_transfer_begins_and_a_full_disk_passes_it_on() {
    let mut lab = Lab::new(1);
    let mount = Mount::tmpfs(&lab.path("small"), "size=16m");
    lab.add(&mount.0, DiskClass::Nvme, false);
    let store = lab.open();
    let small = || store.space().free.into_iter().min().unwrap();
    until("the small disk is known", || small() > 0);
    let before = small();
    let content = bytes("big", 9_000_000);
    let staged = receive(&store, &content).unwrap();
    let taken = before - small();
    assert!(taken >= 9_000_000, "only {taken} bytes are taken");
    // Nobody was told that somebody else has taken the rest.
    let ballast = vec![1; usize::try_from(small()).unwrap()];
    std::fs::write(mount.0.join("ballast"), ballast).unwrap();
    let (other, digest) = object("a");
    assert_completes_beside(&store, &other);
    assert!(object_path(&lab.disks[0].path, digest).is_file());
    drop(staged);
    std::fs::remove_file(mount.0.join("ballast")).unwrap();
}

/// As [`assert_completes`], while something else is staged.
fn assert_completes_beside(store: &Handle, content: &[u8]) {
    let mut staged = receive(store, content).unwrap();
    feed(&mut staged, content, |_| true).unwrap();
    block(staged.commit()).unwrap();
    assert_holds(store, content);
}

#[test]
fn a_fill_sees_the_store_through_its_own_traits() {
    let lab = Lab::new(1);
    let store = lab.open();
    let (content, digest) = object("a");
    let key = oca::key::Key::parse(b"film/a").unwrap();
    let binding = oca::store::Binding {
        digest,
        length: LENGTH as u64,
        last_modified: 1,
        rank: 4,
    };
    store.adopt(2, 1, vec![(key, binding)]).unwrap();
    let content_of_store = StoreContent::new(store.clone());
    let wanted = content_of_store.wanted(&["film".to_owned()]);
    let [want] = wanted[..] else {
        panic!("{wanted:?}")
    };
    assert_eq!((want.digest, want.rank, want.urgent), (digest, 4, true));
    let receiver: &dyn Receive = &content_of_store;
    let tree = tree(&content);
    let mut staging = block(receiver.receive(digest, want.length, want.rank, tree)).unwrap();
    for (chunk, bytes) in (0..).zip(content.chunks(CHUNK)) {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        block(staging.write(chunk, bytes)).unwrap();
    }
    assert_eq!(staging.missing(), []);
    assert_eq!(content_of_store.space().staged.len(), 1);
    block(staging.commit()).unwrap();
    assert_eq!(content_of_store.wanted(&[]), []);
    let space = content_of_store.space();
    assert_eq!((space.held, space.staged.len()), (LENGTH as u64, 0));
    assert_eq!(
        space.manifest.map(|m| (m.epoch, m.generation)),
        Some((2, 1))
    );
    assert!(store.find("film/a").entry().is_some());
}

#[test]
fn a_read_only_disk_keeps_its_staging_and_gives_none_of_it() {
    let mut lab = Lab::new(1);
    let at = lab.path("mounted");
    let mount = Mount::ext4(&lab.path("image"), 64, &at);
    lab.add(&at, DiskClass::Nvme, false);
    let (content, digest) = object("a");
    receive_some(&lab.open(), &content, |n| n < 4);
    assert_eq!(staging(&at).len(), 2);
    mount.remount("ro");
    let store = lab.open();
    assert_eq!(store.staged(), []);
    assert_eq!(assert_completes(&store, &content).len(), 6);
    drop(store);
    mount.remount("rw");
    let store = lab.open();
    assert_eq!(
        store.staged(),
        [],
        "it is held on the other disk, or not known yet"
    );
    assert!(store.holds(digest));
    drop(store);
}
