//! Plans of a test's own, carried out by the store's thread: when, how much, and what is refused.

use super::super::arrange::Errand;
use super::super::arrange::Terms;
use super::super::core::Shared;
use super::super::layout;
use super::super::tests_support::store_of;
use super::super::tests_support::until;
use super::Night;
use super::view::MovesView;
use crate::clock;
use crate::key::Key;
use crate::lock::lock;
use crate::object::Digest;
use crate::store;
use crate::store::Binding;
use crate::store::Handle;
use crate::units::Bytes;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(super) type Planner = fn(&Shared, Terms) -> Vec<Errand>;

/// Two pieces, the second of them short.
const LENGTH: usize = (1 << 20) + 12_345;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

struct Lab {
    dir: tempfile::TempDir,
    budget: u64,
}

impl Lab {
    /// A night's budget for so many objects and a half.
    fn new(objects: u64) -> Self {
        Self {
            dir: tempfile::tempdir_in("/dev/shm").unwrap(),
            budget: objects * LENGTH as u64 + LENGTH as u64 / 2,
        }
    }

    fn open(&self, planner: Planner) -> Handle {
        let upkeep = store::Upkeep {
            moves_per_night: Bytes(self.budget),
            ..store::Upkeep::default()
        };
        let store = store_of(self.dir.path(), &["disk0", "disk1"], upkeep);
        *lock(&store.shared().mover.given) = Some(planner);
        store
    }

    fn disk(&self, number: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("disk{number}"))
    }

    /// [`NAMES`] on disk 0, in a manifest of a control plane.
    fn filled(&self, planner: Planner) -> Handle {
        let store = self.open(planner);
        let rows = NAMES.map(|name| {
            let length = LENGTH as u64;
            let mut publication =
                { store.stage(name.as_bytes(), length, &BTreeSet::from([1])) }.unwrap();
            publication.write(content(name)).unwrap();
            let digest = publication.commit(None).unwrap().digest;
            let binding = Binding {
                digest,
                length,
                last_modified: 0,
                rank: 0,
            };
            (Key::parse(name.as_bytes()).unwrap(), binding)
        });
        store.adopt(1, 1, rows.to_vec()).unwrap();
        store
    }
}

fn content(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(name.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// So many nights after the first.
fn night(later: i8) -> Option<Night> {
    Some(Night {
        date: jiff::civil::date(2026, 11, 20 + later),
        until: clock::now() + Duration::from_secs(600),
    })
}

fn held(shared: &Shared, volume: u16) -> impl Iterator<Item = u32> + '_ {
    let held = move |number: &u32| shared.index.places(*number).has(volume);
    (0..shared.index.len()).filter(held)
}

fn counts(store: &Handle) -> [usize; 2] {
    let counts = [0, 1].map(|volume| held(store.shared(), volume).count());
    for (volume, count) in store.shared().volumes.iter().zip(counts) {
        let held = volume.tally.objects.load(Ordering::Relaxed);
        assert_eq!(held, count as u64, "{}", volume.name());
    }
    counts
}

fn view(store: &Handle) -> MovesView {
    store.shared().mover.view()
}

fn until_reason(store: &Handle, words: &str) {
    until(|| {
        view(store)
            .reason
            .is_some_and(|reason| reason.contains(words))
    });
}

fn nothing(_: &Shared, _: Terms) -> Vec<Errand> {
    Vec::new()
}

fn all_move(shared: &Shared, _: Terms) -> Vec<Errand> {
    let all = held(shared, 0);
    let one = |number| Errand::Move {
        number,
        from: 0,
        to: 1,
    };
    all.map(one).collect()
}

/// Second copies of all on disk 1, or, if none are allowed, of none.
fn all_copy(shared: &Shared, terms: Terms) -> Vec<Errand> {
    let is_two = |number: &u32| held(shared, 1).any(|other| other == *number);
    match terms.replica_percent {
        0 => held(shared, 0)
            .filter(is_two)
            .map(|number| Errand::Remove {
                number,
                from: 0,
                stays: 1,
            })
            .collect(),
        _ => held(shared, 0)
            .filter(|number| !is_two(number))
            .map(|number| Errand::Copy {
                number,
                from: 0,
                to: 1,
            })
            .collect(),
    }
}

#[test]
fn objects_move_in_the_window_and_within_one_budget_a_night_over_restarts() {
    let lab = Lab::new(2);
    let store = lab.filled(all_move);
    until_reason(&store, "outside the night's window");
    assert_eq!(counts(&store), [4, 0]);
    store.allow_moves(night(0));
    until_reason(&store, "this night's budget of 2.65 MB is used");
    assert_eq!(counts(&store), [2, 2]);
    let shown = view(&store);
    assert_eq!(shown.night.as_deref(), Some("2026-11-20"));
    assert_eq!(shown.tonight.moved_objects, 2);
    assert_eq!(shown.tonight.moved_bytes, 2 * LENGTH as u64);
    assert_eq!(shown.budget_used_bytes, 2 * LENGTH as u64);
    drop(store);

    let store = lab.open(all_move);
    store.allow_moves(night(0));
    until_reason(&store, "budget");
    assert_eq!(counts(&store), [2, 2], "of the same night nothing is left");
    store.allow_moves(night(1));
    until(|| counts(&store) == [0, 4]);
    until(|| view(&store).tonight.moved_objects == 2);
    for name in NAMES {
        let digest = Digest::of(&content(name));
        let path = lab.disk(1).join(layout::object_path(digest));
        assert!(std::fs::read(path).unwrap() == content(name), "{name}");
    }
    store.allow_moves(None);
    until_reason(&store, "outside the night's window");
}

#[test]
fn a_record_that_nobody_can_believe_leaves_the_night_nothing_and_the_next_one_all() {
    let lab = Lab::new(4);
    drop(lab.filled(nothing));
    let record = lab.dir.path().join("state/moves.ledger");
    std::fs::write(&record, b"{\"v\":1").unwrap();
    let store = lab.open(all_move);
    store.allow_moves(night(0));
    until_reason(&store, "budget");
    assert_eq!(counts(&store), [4, 0]);
    store.allow_moves(night(1));
    until(|| counts(&store) == [0, 4]);
}

#[test]
fn nothing_is_written_while_the_budget_cannot_be_kept() {
    let lab = Lab::new(4);
    let store = lab.filled(all_move);
    let record = lab.dir.path().join("state/moves.ledger");
    std::fs::create_dir(&record).unwrap();
    store.allow_moves(night(0));
    until_reason(&store, "moves.ledger cannot be written");
    assert_eq!(counts(&store), [4, 0]);
    std::fs::remove_dir(&record).unwrap();
    store.shared().mover.wake();
    until(|| counts(&store) == [0, 4]);
}

#[test]
fn a_budget_of_nothing_moves_nothing_and_removes_spare_copies_all_the_same() {
    let mut lab = Lab::new(4);
    let store = lab.filled(all_copy);
    store.allow_moves(night(0));
    until(|| counts(&store) == [4, 4]);
    drop(store);
    lab.budget = 0;
    let store = lab.open(all_move);
    store.allow_moves(night(1));
    // What is on both disks is moved by removing it.
    until(|| counts(&store) == [0, 4]);
    assert_eq!(view(&store).budget_used_bytes, 0);
    let back: Planner = |shared, _| {
        let one = |number| Errand::Move {
            number,
            from: 1,
            to: 0,
        };
        held(shared, 1).map(one).collect()
    };
    *lock(&store.shared().mover.given) = Some(back);
    store.shared().mover.wake();
    until_reason(&store, "`[store] moves_per_night` is 0");
    assert_eq!(counts(&store), [0, 4]);
}

#[test]
fn without_a_signed_manifest_nothing_is_arranged() {
    let lab = Lab::new(4);
    let store = lab.open(all_move);
    let mut publication = store.stage(b"x", 1, &BTreeSet::from([1])).unwrap();
    publication.write(vec![7]).unwrap();
    publication.commit(None).unwrap();
    store.allow_moves(night(0));
    until_reason(&store, "no signed manifest");
    assert_eq!(counts(&store), [1, 0]);
}

#[test]
fn second_copies_go_at_any_hour_when_somebody_found_no_room() {
    let lab = Lab::new(4);
    let store = lab.filled(all_copy);
    store.allow_moves(night(0));
    until(|| counts(&store) == [4, 4]);
    until(|| view(&store).tonight.copied_objects == 4);
    assert_eq!(view(&store).reason, None);
    store.allow_moves(None);
    until_reason(&store, "outside the night's window");
    assert_eq!(counts(&store), [4, 4]);
    for volume in &store.shared().volumes {
        volume.tally.free.store(0, Ordering::Relaxed);
    }
    let refused = store.stage(b"y", 1 << 20, &BTreeSet::new()).unwrap_err();
    assert!(matches!(refused, store::PublishError::NoRoom { .. }));
    until(|| counts(&store) == [0, 4]);
    until(|| view(&store).total.removed_objects == 4);
    assert_eq!(view(&store).total.moved_objects, 0);
}

/// The one that stays is read first: one that is not what it should be is no survivor.
#[test]
fn a_copy_is_not_removed_when_the_one_that_stays_is_damaged_or_its_disk_retires() {
    let lab = Lab::new(4);
    let store = lab.filled(all_copy);
    store.allow_moves(night(0));
    until(|| counts(&store) == [4, 4]);
    store.allow_moves(None);
    let digest = Digest::of(&content("b"));
    let path = lab.disk(1).join(layout::object_path(digest));
    let mut rotten = content("b");
    rotten[LENGTH - 1] ^= 1;
    std::fs::write(path, rotten).unwrap();
    store.note_no_room();
    until(|| counts(&store) == [1, 3]);
    let number = store.shared().index.find(digest).unwrap();
    assert!(held(store.shared(), 0).eq([number]));
    let kept = lab.disk(1).join(format!("quarantine/{digest}"));
    until(|| kept.exists());
    drop(store);

    let lab = Lab::new(4);
    let store = lab.filled(all_copy);
    store.allow_moves(night(0));
    until(|| counts(&store) == [4, 4]);
    store.ease_moves(0, None);
    store.retire(&lab.disk(1), false).unwrap();
    store.note_no_room();
    store.ease_moves(100, None);
    until(|| counts(&store) == [4, 0]);
}

#[test]
fn a_window_that_shuts_in_the_middle_of_a_copy_ends_it_and_leaves_nothing() {
    let lab = Lab::new(4);
    let store = lab.filled(all_move);
    store.ease_moves(0, Some("a worker is busy 95 % of its time".to_owned()));
    store.allow_moves(night(0));
    until_reason(&store, "viewers come first: a worker is busy 95 %");
    store.allow_moves(None);
    until_reason(&store, "outside the night's window");
    assert_eq!(counts(&store), [4, 0]);
    assert_eq!(view(&store).budget_used_bytes, 0);
    until(|| is_empty(&lab.disk(1).join("staging")));
    store.ease_moves(100, None);
    store.allow_moves(night(0));
    until(|| counts(&store) == [0, 4]);
}

#[test]
fn nothing_comes_to_a_disk_that_retires_or_has_no_room() {
    let lab = Lab::new(4);
    let store = lab.filled(all_move);
    let shared = Arc::clone(store.shared());
    store.retire(&lab.disk(1), false).unwrap();
    store.allow_moves(night(0));
    until(|| view(&store).night.is_some());
    until(|| view(&store).objects_left == 0);
    assert_eq!(counts(&store), [4, 0]);
    store.retire(&lab.disk(1), true).unwrap();
    until(|| counts(&store) == [0, 4]);
    let full: Planner = |shared, _| {
        shared.volumes[0].tally.free.store(0, Ordering::Relaxed);
        let one = |number| Errand::Move {
            number,
            from: 1,
            to: 0,
        };
        held(shared, 1).map(one).collect()
    };
    *lock(&shared.mover.given) = Some(full);
    store.allow_moves(night(1));
    until(|| view(&store).night.as_deref() == Some("2026-11-21"));
    until(|| view(&store).objects_left == 0);
    assert_eq!(counts(&store), [0, 4]);
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().count() == 0
}
