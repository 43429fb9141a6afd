//! SIGKILL at each durable step of receiving, deleting and keeping: what was flushed is gone on
//! with, an object is whole or absent, a small file is the old one or the new one.

use crate::tools::CHUNK;
use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::feed;
use crate::tools::objects;
use crate::tools::opened;
use crate::tools::read_all;
use crate::tools::receive;
use crate::tools::run;
use crate::tools::staging;
use crate::victim;
use oca::key::Key;
use oca::object::Digest;
use oca::store;
use oca::store::Binding;
use oca::store::Handle;
use oca::store::Step;

const LENGTH: usize = 5 * CHUNK + 99;

/// Chunks of a transfer that ends before its object is whole.
const FIRST: usize = 3;

const MEDIA: [(&str, usize); 4] = [("a", 5000), ("b", 6000), ("c", 7000), ("d", 8000)];

/// Runs only as the child of the tests below, and kills itself at the step it is told.
#[test]
fn the_child_that_is_killed() {
    let Some(told) = victim::told() else {
        return;
    };
    let store = store::start_probed(&told.config(2), &told.probe()).unwrap();
    block(store.ready());
    match told.work.as_str() {
        "receive" => receive_in_two(&store),
        "delete" => drop(store.delete(&surplus())),
        "keep" => store.keep("ledger", b"another").unwrap(),
        other => panic!("{other}"),
    }
}

/// A transfer that ends early, and one that goes on.
fn receive_in_two(store: &Handle) {
    let content = bytes("x", LENGTH);
    let mut staged = receive(store, &content).unwrap();
    feed(&mut staged, &content, |n| n < FIRST).unwrap();
    drop(staged);
    let mut staged = receive(store, &content).unwrap();
    feed(&mut staged, &content, |_| true).unwrap();
    block(staged.commit()).unwrap();
}

/// What the manifest of the deletion test does not list.
fn surplus() -> [Digest; 2] {
    [2, 3].map(|at: usize| {
        let (name, length) = MEDIA[at];
        Digest::of(&bytes(name, length))
    })
}

fn kill_at(lab: &Lab, work: &str, step: Step, times: u32) {
    let child = "killed_fill::the_child_that_is_killed";
    victim::kill_at(child, lab.dir.path(), work, step, times);
}

/// Every object on the disks is what its name says.
fn assert_nothing_false(lab: &Lab, step: Step) {
    for disk in &lab.disks {
        for (path, content) in objects(&disk.path) {
            if path.extension().is_none() {
                let name = path.file_name().unwrap().to_str().unwrap();
                assert_eq!(Digest::of(&content).to_string(), name, "{step:?}");
            }
        }
    }
}

#[test]
fn a_transfer_killed_at_any_step_goes_on_with_what_was_flushed() {
    let content = bytes("x", LENGTH);
    let digest = Digest::of(&content);
    for step in Step::RECEIVING {
        let lab = Lab::new(2);
        kill_at(&lab, "receive", step, 1);
        assert_nothing_false(&lab, step);
        let store = opened(&lab.config());
        let is_held = store.holds(digest);
        assert_eq!(is_held, is_after(step, Step::ObjectRenamed), "{step:?}");
        let expected = match () {
            () if is_held => 0,
            () if is_after(step, Step::MapRenamed) => LENGTH - FIRST * CHUNK,
            () => LENGTH,
        };
        let mut staged = receive(&store, &content).unwrap();
        let missing: u64 = staged.missing().iter().map(|r| r.end - r.start).sum();
        assert_eq!(missing, expected as u64, "{step:?}");
        feed(&mut staged, &content, |_| true).unwrap();
        block(staged.commit()).unwrap();
        let file = block(store.open(digest)).unwrap();
        assert!(read_all(&file).unwrap() == content, "{step:?}");
        assert_eq!(store.staged(), [], "{step:?}");
        let disks = store.view().disks.clone();
        drop(store);
        for disk in disks {
            assert_eq!((disk.state, disk.quarantined), ("online", 0), "{step:?}");
            assert_eq!(staging(&disk.path), [""; 0], "{step:?}");
        }
    }
}

/// In the order of [`Step::RECEIVING`].
fn is_after(step: Step, other: Step) -> bool {
    let at = |step| Step::RECEIVING.iter().position(|s| *s == step);
    at(step) >= at(other)
}

#[test]
fn a_deletion_killed_at_any_step_leaves_what_is_listed_whole_and_is_completed_by_the_next() {
    for step in Step::DELETING {
        for times in [1, 2] {
            let lab = Lab::new(2);
            let store = lab.open();
            run(&store, &lab.media(&MEDIA));
            let rows = MEDIA[..2].iter().map(|(name, length)| {
                let binding = Binding {
                    digest: Digest::of(&bytes(name, *length)),
                    length: *length as u64,
                    last_modified: 5,
                    rank: 1,
                };
                (Key::parse(name.as_bytes()).unwrap(), binding)
            });
            store.adopt(4, 2, rows.collect()).unwrap();
            drop(store);
            kill_at(&lab, "delete", step, times);
            assert_nothing_false(&lab, step);
            let store = lab.open();
            assert_serves(&store, &MEDIA[..2]);
            let left = store.surplus();
            let gone = surplus().iter().filter(|d| !store.holds(**d)).count();
            assert_eq!(
                left.len(),
                2 - gone,
                "what was not unlinked is surplus again"
            );
            let unlinked = step >= Step::ObjectUnlinked;
            let (most, least) = if unlinked { (2, 1) } else { (0, 0) };
            assert!((least..=most).contains(&gone), "{step:?} {times}: {gone}");
            let freed = store.delete(&surplus()).unwrap();
            let expected: u64 = left.iter().map(|(_, length)| length).sum();
            assert_eq!(freed, expected, "{step:?}");
            assert_eq!((store.surplus(), store.wanted(&[])), (vec![], vec![]));
            assert_serves(&store, &MEDIA[..2]);
            let disks = store.view().disks.clone();
            drop(store);
            for disk in disks {
                assert_eq!((disk.state, disk.quarantined), ("online", 0), "{step:?}");
            }
            let files = lab.disks.iter().map(|disk| objects(&disk.path).len());
            assert_eq!(files.sum::<usize>(), 4, "two objects with their sidecars");
        }
    }
}

#[test]
fn a_small_file_killed_at_any_step_is_the_old_one_or_the_new_one_on_each_disk() {
    for step in Step::KEEPING {
        for times in [1, 2, 3] {
            let lab = Lab::new(2);
            lab.open().keep("ledger", b"first").unwrap();
            kill_at(&lab, "keep", step, times);
            let store = lab.open();
            let copies = store.kept("ledger");
            assert_eq!(copies.len(), 3, "{step:?}");
            let known = |copy: &&Vec<u8>| [&b"first"[..], b"another"].contains(&&copy[..]);
            assert_eq!(copies.iter().filter(known).count(), 3, "{step:?}");
            let renamed = u32::from(step >= Step::KeptRenamed);
            let fresh = copies.iter().filter(|copy| *copy == b"another").count();
            assert_eq!(fresh, (times - 1 + renamed) as usize, "{step:?} {times}");
            assert!(
                fresh == 0 || copies[0] == b"another",
                "the last one written is first"
            );
            store.keep("ledger", b"third").unwrap();
            assert_eq!(store.kept("ledger"), [b"third", b"third", b"third"]);
        }
    }
}
