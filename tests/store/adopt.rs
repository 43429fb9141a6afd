//! A signed manifest is adopted durably, never an older one, and nothing is lost by it.

use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::bytes;
use crate::tools::run;
use crate::victim;
use oca::key::Key;
use oca::object::Digest;
use oca::store;
use oca::store::AdoptError;
use oca::store::Binding;
use oca::store::Finding;
use oca::store::Handle;
use oca::store::Step;
use oca::store::UNLISTED_RANK;
use std::sync::atomic::Ordering;

const MEDIA: [(&str, usize); 3] = [
    ("film/a.m4s", 5000),
    ("film/b.m4s", 6000),
    ("other/c.m4s", 7000),
];

fn row(name: &str, content: &str, length: usize, rank: u32) -> (Key, Binding) {
    let binding = Binding {
        digest: Digest::of(&bytes(content, length)),
        length: length as u64,
        last_modified: 1_700_000_000,
        rank,
    };
    (Key::parse(name.as_bytes()).unwrap(), binding)
}

/// Media as a manifest lists them, in no order, `film` before `other`.
fn rows() -> Vec<(Key, Binding)> {
    let rank = |name: &str| u32::from(name.starts_with("other"));
    let rows = MEDIA.map(|(name, length)| row(name, name, length, rank(name)));
    rows.into_iter().rev().collect()
}

fn position(store: &Handle) -> (u64, u64) {
    let view = store.view();
    let manifest = view.manifest.as_ref().unwrap();
    (manifest.epoch, manifest.generation)
}

fn rank(store: &Handle, key: &str) -> u32 {
    store.binding(key).unwrap().rank
}

fn header(lab: &Lab, place: &str) -> String {
    let text = std::fs::read_to_string(lab.path(place)).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn what_is_held_is_served_as_the_manifest_says_and_the_rest_waits() {
    let lab = Lab::new(2);
    run(&lab.open(), &lab.media(&MEDIA[..2]));
    let store = lab.open();
    let adopted = store.adopt(3, 7, rows()).unwrap();
    assert_eq!((adopted.listed, adopted.added), (3, 1));
    assert_eq!((adopted.kept_unlisted, adopted.refused_total), (0, 0));
    assert_eq!(position(&store), (3, 7));
    assert_serves(&store, &MEDIA[..2]);
    assert_eq!(
        store.find("other/c.m4s"),
        Finding::Unavailable,
        "not held yet"
    );
    let entry = store.find("film/a.m4s").entry().unwrap();
    assert_eq!((entry.rank, entry.last_modified), (0, 1_700_000_000));
    let generation = store.view().generation;
    let again = store.adopt(3, 7, rows()).unwrap();
    assert!(again.again);
    assert_eq!(store.view().generation, generation, "nothing was written");
    drop(store);

    let store = lab.open();
    assert_eq!(position(&store), (3, 7));
    assert_serves(&store, &MEDIA[..2]);
    let mut held = store.held().digests;
    held.sort();
    let mut expected = MEDIA[..2]
        .iter()
        .map(|(name, n)| Digest::of(&bytes(name, *n)));
    let mut expected: Vec<Digest> = expected.by_ref().collect();
    expected.sort();
    assert_eq!(held, expected);
}

#[test]
fn an_older_manifest_is_refused_even_after_the_node_state_was_wiped() {
    let lab = Lab::new(2);
    let store = lab.open();
    store.adopt(2, 5, rows()).unwrap();
    let refused = |store: &Handle, epoch, generation| {
        let error = store.adopt(epoch, generation, Vec::new()).unwrap_err();
        assert!(matches!(error, AdoptError::Older { .. }), "{error}");
        assert_eq!(position(store), (2, 5));
        assert_eq!(store.view().manifest.as_ref().unwrap().keys, 3);
    };
    for (epoch, generation) in [(2, 4), (1, 99), (2, 0)] {
        refused(&store, epoch, generation);
    }
    drop(store);
    // The node's state is gone, and one of the disks' copies with it.
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    std::fs::remove_file(lab.path("disk0/manifest")).unwrap();
    let store = lab.open();
    refused(&store, 2, 4);
    refused(&store, 1, 99);
    store.adopt(2, 6, rows()).unwrap();
    drop(store);
    assert_eq!(
        header(&lab, "disk0/manifest"),
        header(&lab, "state/manifest")
    );
}

#[test]
fn the_boxs_own_epoch_is_not_for_a_control_plane() {
    let lab = Lab::new(1);
    run(&lab.open(), &lab.media(&MEDIA[..1]));
    let store = lab.open();
    let error = store.adopt(0, 9, rows()).unwrap_err();
    assert!(error.to_string().contains("begins with epoch 1"), "{error}");
    assert_eq!(position(&store), (0, 1));
}

#[test]
fn a_key_bound_to_other_bytes_is_left_out_by_name_and_the_rest_is_adopted() {
    let lab = Lab::new(1);
    run(&lab.open(), &lab.media(&MEDIA));
    let store = lab.open();
    let mut signed = rows();
    signed[0] = row("other/c.m4s", "another encode", 7000, 0);
    signed.push(row("film/a.m4s", "a second row", 1, 9));
    let adopted = store.adopt(1, 1, signed).unwrap();
    assert_eq!((adopted.listed, adopted.refused_total), (2, 2));
    let named: Vec<&str> = adopted.refused.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(named, ["film/a.m4s", "other/c.m4s"]);
    assert!(adopted.refused[1].problem.contains("new path"));
    assert_serves(&store, &MEDIA);
    assert_eq!(rank(&store, "other/c.m4s"), UNLISTED_RANK);
}

#[test]
fn an_empty_manifest_deletes_nothing_and_a_key_that_comes_back_gets_its_rank_again() {
    let lab = Lab::new(1);
    run(&lab.open(), &lab.media(&MEDIA));
    let store = lab.open();
    let adopted = store.adopt(1, 1, Vec::new()).unwrap();
    assert_eq!((adopted.listed, adopted.kept_unlisted), (0, 3));
    assert_serves(&store, &MEDIA);
    assert_eq!(rank(&store, "film/a.m4s"), UNLISTED_RANK);
    let adopted = store.adopt(1, 2, rows()).unwrap();
    assert_eq!(
        (adopted.listed, adopted.added, adopted.changed_rank),
        (3, 0, 3)
    );
    assert_eq!(rank(&store, "other/c.m4s"), 1);
}

#[test]
fn a_prefill_on_top_moves_no_signed_position_and_outlives_the_next_manifest() {
    let lab = Lab::new(2);
    lab.open().adopt(1, 4, rows()).unwrap();
    let others = lab.path("others");
    std::fs::create_dir(&others).unwrap();
    std::fs::write(others.join("mine.m4s"), bytes("mine.m4s", 800)).unwrap();
    let summary = run(&lab.open(), &others);
    assert_eq!(summary.generation, 4);
    let mine = [("mine.m4s", 800)];
    for place in ["state/manifest", "disk0/manifest", "disk1/manifest"] {
        let header = header(&lab, place);
        assert!(
            header.contains(r#""v":2"#) && header.contains(r#""local":1"#),
            "{header}"
        );
    }
    // The copy with the prefill wins over the signed one without it, wherever it survives.
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    let store = lab.open();
    assert_eq!(position(&store), (1, 4));
    assert_serves(&store, &mine);
    assert!(matches!(
        store.adopt(1, 3, rows()),
        Err(AdoptError::Older { .. })
    ));
    assert!(
        store.adopt(1, 4, rows()).unwrap().again,
        "and keeps the prefill"
    );
    assert_serves(&store, &mine);
    let adopted = store.adopt(1, 5, rows()).unwrap();
    assert_eq!((adopted.kept_unlisted, adopted.added), (1, 0));
    assert_serves(&store, &mine);
    assert_eq!(rank(&store, "mine.m4s"), UNLISTED_RANK);
    drop(store);
    assert!(header(&lab, "state/manifest").contains(r#""v":1"#));
    assert_serves(&lab.open(), &mine);
}

/// Runs only as the child of the test below: adopts, and kills itself at the step it is told.
#[test]
fn the_child_that_is_killed_while_it_adopts() {
    let Some(told) = victim::told() else {
        return;
    };
    told.is_armed.store(false, Ordering::SeqCst);
    let store = store::start_probed(&told.config(2), &told.probe()).unwrap();
    crate::tools::block(store.ready());
    told.is_armed.store(true, Ordering::SeqCst);
    store.adopt(1, 2, rows()).unwrap();
}

#[test]
fn an_adoption_killed_at_any_durable_step_leaves_the_old_manifest_or_the_signed_one() {
    let steps = [
        Step::ManifestWritten,
        Step::ManifestSynced,
        Step::ManifestRenamed,
        Step::ManifestDirectorySynced,
    ];
    for step in steps {
        let lab = Lab::new(2);
        run(&lab.open(), &lab.media(&MEDIA));
        lab.open().adopt(1, 1, rows()).unwrap();
        let child = "adopt::the_child_that_is_killed_while_it_adopts";
        victim::kill_at(child, lab.dir.path(), "", step, 1);
        let renamed = step >= Step::ManifestRenamed;
        let store = lab.open();
        assert_eq!(
            position(&store),
            (1, if renamed { 2 } else { 1 }),
            "{step:?}"
        );
        assert_serves(&store, &MEDIA);
        let refused = store.adopt(1, u64::from(renamed), rows());
        assert!(matches!(refused, Err(AdoptError::Older { .. })), "{step:?}");
        assert_eq!(
            store.adopt(1, 2, rows()).unwrap().again,
            renamed,
            "{step:?}"
        );
        assert_eq!(position(&store), (1, 2));
        assert_serves(&store, &MEDIA);
    }
}
