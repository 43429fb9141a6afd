//! A box that falls back to an older release meets what the newer one wrote: it is left as it is,
//! and what can be had again is had again.

use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::forget_snapshots;
use crate::tools::object_path;
use crate::tools::opened;
use crate::tools::run;
use crate::tools::until;
use crate::tools::was_logged;
use oca::clock;
use oca::fill::Book;
use oca::fill::ContentKeeper;
use oca::fill::KeepLedger;
use oca::fill::StoreContent;
use oca::key::Key;
use oca::object::Digest;
use oca::store::Binding;
use oca::store::Handle;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

const FILES: [(&str, usize); 3] = [("a.m4s", 300_000), ("b.m4s", 5_000), ("c.m4s", 6_000)];

const CHECKSUM_BYTES: usize = 32;

fn digest(at: usize) -> Digest {
    Digest::of(&bytes(FILES[at].0, FILES[at].1))
}

fn row(at: usize) -> (Key, Binding) {
    let binding = Binding {
        digest: digest(at),
        length: FILES[at].1 as u64,
        last_modified: 5,
        rank: 1,
    };
    (Key::parse(FILES[at].0.as_bytes()).unwrap(), binding)
}

/// The same sidecar, whole, as a version writes it that is not known here.
pub(crate) fn later_sidecar(path: &Path) -> Vec<u8> {
    let mut sidecar = std::fs::read(path).unwrap();
    sidecar.truncate(sidecar.len() - CHECKSUM_BYTES);
    // Behind eight bytes of magic.
    sidecar[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let checksum = Digest::of(&sidecar);
    sidecar.extend(checksum.0);
    sidecar
}

#[test]
fn an_object_with_a_newer_releases_sidecar_is_served_and_left_untouched() {
    let lab = Lab::new(1);
    run(&lab.open(), &lab.media(&FILES));
    let object = object_path(&lab.disks[0].path, digest(0));
    let sidecar = object.with_extension("meta");
    let later = later_sidecar(&sidecar);
    std::fs::write(&sidecar, &later).unwrap();
    // A snapshot of this release says nothing of what a later one writes.
    forget_snapshots(&lab.disks);

    let mut config = lab.config();
    config.upkeep.scrub_every = Duration::from_secs(1);
    let store = opened(&config);
    assert_serves(&store, &FILES);
    until("the scrub met it", || {
        was_logged(&[&digest(0).to_string(), "format version 2"])
    });
    assert_serves(&store, &FILES);
    let view = disk(&store, 0);
    assert_eq!(
        (view.state, view.quarantined, view.objects),
        ("online", 0, 3)
    );
    let content = bytes(FILES[0].0, FILES[0].1);
    assert!(std::fs::read(&object).unwrap() == content);
    assert!(std::fs::read(&sidecar).unwrap() == later);
}

#[test]
fn under_a_newer_releases_manifest_nothing_is_deleted_and_its_copies_stay() {
    let lab = Lab::new(1);
    let store = lab.open();
    run(&store, &lab.media(&FILES));
    store.adopt(3, 4, vec![row(0)]).unwrap();
    drop(store);
    let later = b"{\"v\":9,\"kind\":\"oca-manifest\",\"form\":\"columns\"}\n";
    let copies = ["state/manifest", "disk0/manifest"].map(|name| lab.path(name));
    for copy in &copies {
        assert!(copy.exists());
        std::fs::write(copy, later).unwrap();
    }
    let store = lab.open();
    assert!(store.view().manifest.is_none());
    assert_eq!(store.delete(&[digest(1), digest(2)]).unwrap(), 0);
    assert_eq!(store.surplus(), []);
    drop(store);
    for copy in &copies {
        assert_eq!(std::fs::read(copy).unwrap(), later);
    }
    assert!(was_logged(&["manifest", "format version 9"]));
    // The control plane sends it again; every object is there. What the newer release wrote is not
    // thrown away by that.
    let store = lab.open();
    store.adopt(3, 4, [0, 1, 2].map(row).to_vec()).unwrap();
    assert_serves(&store, &FILES);
    store.adopt(3, 5, [0, 1, 2].map(row).to_vec()).unwrap();
    drop(store);
    for copy in &copies {
        let header = std::fs::read_to_string(copy).unwrap();
        assert!(header.starts_with("{\"v\":1,"), "{header}");
        assert_eq!(std::fs::read(copy.with_extension("v9")).unwrap(), later);
    }
    assert!(was_logged(&["kept as", "state/manifest.v9"]));
}

/// What an older release cannot judge may be the latest that the box had.
#[test]
fn a_newer_releases_copy_beside_one_that_is_known_stays_while_others_catch_up() {
    let lab = Lab::new(2);
    run(&lab.open(), &lab.media(&FILES));
    let [newer, none] = ["disk0/manifest", "disk1/manifest"].map(|name| lab.path(name));
    let later = b"{\"v\":9,\"kind\":\"oca-manifest\",\"form\":\"columns\"}\n";
    std::fs::write(&newer, later).unwrap();
    std::fs::remove_file(&none).unwrap();
    let store = lab.open();
    until("the other disk has caught up", || none.exists());
    // Written by the disks' own threads: what was asked of them before is done.
    store.keep("turn", b"is over").unwrap();
    assert_serves(&store, &FILES);
    assert_eq!(std::fs::read(&newer).unwrap(), later);
    store.adopt(3, 4, [0, 1, 2].map(row).to_vec()).unwrap();
    let kept = std::fs::read(newer.with_extension("v9")).unwrap();
    assert_eq!(kept, later);
}

const LATER_LEDGER: &[u8] = b"oca fill ledger 2\nsomething else";

/// The ledger in the store's small state, as the fill keeps it, and where it lies.
fn ledger(lab: &Lab, store: &Handle) -> (ContentKeeper, [PathBuf; 2]) {
    let content = Arc::new(StoreContent::new(store.clone()));
    let places = ["state/ledger.kept", "disk0/ledger.kept"];
    (
        ContentKeeper::new(content),
        places.map(|name| lab.path(name)),
    )
}

#[test]
fn a_newer_releases_fill_ledger_is_kept_aside_and_everything_counts_as_spent() {
    let lab = Lab::new(1);
    let store = lab.open();
    let (keeper, places) = ledger(&lab, &store);
    let mut book = Book {
        serial: 7,
        ..Book::default()
    };
    keeper.keep(&book).unwrap();
    assert_eq!(keeper.kept().as_ref(), Some(&book));
    // An older copy is left on the disk: the newer release kept its own elsewhere.
    std::fs::write(&places[0], LATER_LEDGER).unwrap();
    let touched = std::fs::File::options()
        .write(true)
        .open(&places[0])
        .unwrap();
    touched
        .set_modified(SystemTime::from(clock::wall()) + Duration::from_secs(9))
        .unwrap();
    let (keeper, _) = ledger(&lab, &store);
    let kept = keeper.kept().unwrap();
    assert_eq!(kept.serial, 7);
    assert!(kept.night.reserved > 1 << 40 && kept.urgent.reserved > 1 << 40);
    assert_eq!(std::fs::read(&places[0]).unwrap(), LATER_LEDGER);
    book.serial = 8;
    keeper.keep(&book).unwrap();
    for place in &places {
        assert_ne!(std::fs::read(place).unwrap(), LATER_LEDGER);
        let aside = place.with_file_name("ledger-v2.kept");
        assert_eq!(std::fs::read(aside).unwrap(), LATER_LEDGER);
    }
    assert_eq!(keeper.kept(), Some(book));
}

#[test]
fn a_fill_ledger_that_cannot_be_kept_aside_is_not_written_over() {
    let lab = Lab::new(1);
    let store = lab.open();
    let (keeper, places) = ledger(&lab, &store);
    for place in &places {
        std::fs::write(place, LATER_LEDGER).unwrap();
    }
    assert!(keeper.kept().unwrap().night.reserved > 1 << 40);
    // In the way of what is written first.
    let way = lab.path("state/ledger-v2.kept.new");
    std::fs::create_dir(&way).unwrap();
    let refused = keeper.keep(&Book::default()).unwrap_err();
    assert!(refused.contains("cannot be kept as ledger-v2"), "{refused}");
    for place in &places {
        assert_eq!(std::fs::read(place).unwrap(), LATER_LEDGER);
    }
    std::fs::remove_dir(&way).unwrap();
    keeper.keep(&Book::default()).unwrap();
    let aside = lab.path("disk0/ledger-v2.kept");
    assert_eq!(std::fs::read(aside).unwrap(), LATER_LEDGER);
}

#[test]
fn a_damaged_fill_ledger_is_kept_aside_if_no_copy_is_whole() {
    let lab = Lab::new(1);
    let store = lab.open();
    let (keeper, places) = ledger(&lab, &store);
    keeper.keep(&Book::default()).unwrap();
    let mut rotten = std::fs::read(&places[0]).unwrap();
    rotten[60] ^= 1;
    std::fs::write(&places[0], &rotten).unwrap();
    let aside = lab.path("state/ledger-damaged.kept");
    assert_eq!(keeper.kept(), Some(Book::default()));
    keeper.keep(&Book::default()).unwrap();
    assert!(!aside.exists(), "the other copy has it");
    for place in &places {
        std::fs::write(place, &rotten).unwrap();
    }
    assert!(keeper.kept().unwrap().night.reserved > 1 << 40);
    keeper.keep(&Book::default()).unwrap();
    assert_eq!(std::fs::read(&aside).unwrap(), rotten);
}
