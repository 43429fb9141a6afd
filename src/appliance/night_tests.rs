//! Tests of [`super`]: which clock is believed, and when objects may move.

use super::*;
use crate::clock::Wall;
use crate::fill::Book;
use crate::fill::KeepLedger;
use crate::fill::MemoryKeeper;
use crate::fill::Pace;
use crate::store::MovesView;
use crate::units::Bytes;

fn store(dir: &std::path::Path) -> store::Handle {
    let disk = dir.join("disk");
    std::fs::create_dir(&disk).unwrap();
    let config = store::Config {
        disks: vec![store::DiskConfig {
            path: disk,
            class: store::DiskClass::Ssd,
            zone: store::Zone::None,
            plain_directory: true,
        }],
        state_dir: dir.join("state"),
        deadline: Duration::from_secs(10),
        upkeep: store::Upkeep::default(),
    };
    store::start(&config).unwrap()
}

/// Waits until the store shows it.
fn until(store: &store::Handle, holds: impl Fn(&MovesView) -> bool) {
    let end = clock::now() + Duration::from_secs(30);
    while !holds(&store.view().moves) {
        assert!(clock::now() < end, "{:?}", store.view().moves);
        clock::block_for(Duration::from_millis(5));
    }
}

#[test]
fn moves_keep_the_ordered_window_or_the_configured_one_while_the_clock_is_vouched_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    until(&store, |_| store.is_ready());
    store.adopt(1, 1, Vec::new()).unwrap();
    let hours = |start| Window::new("UTC", start, Duration::from_secs(3600)).unwrap();
    let (shown, fill) = watch::channel(Arc::default());
    let moves = Moves {
        store: store.clone(),
        window: hours(0),
        fill,
    };
    let at = |time: &str| clock::pin_wall(time.parse::<Wall>().unwrap());
    let is_shut =
        |view: &MovesView| { view.reason.as_ref() }.is_some_and(|reason| reason.contains("window"));
    at("2026-11-22T00:30:00Z");
    moves.allow(None, false);
    until(&store, is_shut);
    moves.allow(None, true);
    until(&store, |view| view.night.as_deref() == Some("2026-11-22"));
    until(&store, |view| view.reason.is_none());
    // The control plane's window is another one.
    moves.allow(Some(&hours(7200)), true);
    until(&store, is_shut);
    at("2026-11-23T02:59:57Z");
    moves.allow(Some(&hours(7200)), true);
    until(&store, |view| view.night.as_deref() == Some("2026-11-23"));
    // It ends by itself, also when nobody says so.
    until(&store, is_shut);
    // With no room for what is wanted a plan is made at any hour.
    shown.send_replace(Arc::new(fill::View {
        no_room: 1,
        ..fill::View::default()
    }));
    moves.allow(Some(&hours(7200)), true);
    until(&store, |view| view.reason.is_none());
}

#[test]
fn a_calendar_that_leaps_is_not_believed_whoever_vouches_for_what_cannot_be() {
    let last: clock::Wall = "2026-03-02T12:00:00Z".parse().unwrap();
    let keeper = MemoryKeeper::default();
    let book = Book {
        wall_ms: u64::try_from(last.as_millisecond()).unwrap(),
        ..Book::default()
    };
    keeper.keep(&book).unwrap();
    let limits = fill::Limits {
        rate: BytesPerSecond(1),
        night: Bytes(1),
        urgent: Bytes(1),
    };
    let pace = Pace::load(limits, Arc::new(keeper), fill::BUILT);
    let larder = fill::Larder::new(pace, Bytes(1));
    let believed = |now: &str, agrees, is_synchronised| {
        clock::pin_wall(now.parse().unwrap());
        is_believed(agrees, is_synchronised, &larder)
    };
    let soon = "2026-03-02T12:10:00Z";
    assert!(believed(soon, Some(true), false) && believed(soon, None, true));
    assert!(!believed(soon, None, false), "nobody vouches for it");
    // 1970, and a day back: what was kept last was later.
    for behind in ["1970-01-01T00:00:01Z", "2026-03-01T12:00:00Z"] {
        assert!(!believed(behind, Some(true), true), "{behind}");
        assert!(!believed(behind, None, true), "{behind}");
    }
    // A day ahead, and a life: the control plane knows better than a time daemon.
    for ahead in ["2026-03-03T12:00:00Z", "2096-03-02T12:00:00Z"] {
        assert!(!believed(ahead, Some(false), true), "{ahead}");
        assert!(!believed(ahead, None, false), "{ahead}");
    }
}
