//! Pages that are not in memory: nobody but who asked for them waits for the disk.
//!
//! I/O: loopback sockets, temporary directories, loop devices; measures time.

// Support code of tests is a test, which clippy cannot see.
#![allow(clippy::unwrap_used)]

use super::limits::from;
use super::serving::Server;
use super::serving::Viewer;
use super::serving::limits;
use super::serving::noise;
use super::slow_disk::DEADLINE;
use super::slow_disk::SlowDisk;
use super::slow_disk::forget_in;
use super::slow_disk::hold_in;
use super::slow_disk::object_file;
use super::slow_disk::store_in;
use oca::clock;
use oca::object::Digest;
use oca::serve::Content;
use oca::store;
use oca::store::CHUNK_BYTES;
use oca::store::ColdView;
use oca::sys::page_cache;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What the disk is allowed.
const THROTTLE: u64 = 100_000_000;

/// How often the hot object is asked for, and how many times.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const LOOKS: u32 = 300;

fn serve(store: &store::Handle, workers: usize, drop_behind: bool) -> Server {
    let content = Arc::new(store.clone()) as Arc<dyn Content>;
    let dir = tempfile::tempdir().unwrap();
    let mut limits = limits();
    limits.requests = u32::MAX;
    Server::over(content, dir, limits, workers, |config| {
        config.drop_behind = drop_behind;
    })
}

/// What the disk's threads count, at this moment.
fn cold(store: &store::Handle) -> ColdView {
    store.fills(0).unwrap().view()
}

#[test]
fn absent_pages_come_with_the_right_bytes_plain_and_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let objects: Vec<_> = [1, 4096, 100_000, (1 << 20) + 1, 3 << 20]
        .map(|size| (format!("title/{size}"), noise(size)))
        .into();
    let store = store_in(&disk, dir.path(), &objects);
    let server = serve(&store, 2, false);
    for (mut viewer, least) in [
        (server.plain(), 1),
        (server.secure(&rustls::version::TLS13), 11),
        (server.secure(&rustls::version::TLS12), 21),
    ] {
        for (key, bytes) in &objects {
            forget_in(&disk, bytes, 0);
            let got = viewer.get(&format!("/{key}"), "");
            assert!((got.status, &got.body) == (200, bytes), "{key} differs");
            forget_in(&disk, bytes, 0);
            let middle = bytes.len() / 2;
            let got = viewer.get(&format!("/{key}/range/{middle}-{}", bytes.len()), "");
            assert!(
                (got.status, &got.body[..]) == (206, &bytes[middle..]),
                "{key} differs"
            );
        }
        let view = cold(&store);
        assert!(
            view.fills >= least && view.misses > 0 && view.errors == 0,
            "{view:?}"
        );
    }
    assert!(cold(&store).prefetches > 0);
}

#[test]
fn an_answer_tells_how_long_its_disk_took_and_nothing_if_it_was_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let objects = vec![("title/a".to_owned(), noise(100_000))];
    let store = store_in(&disk, dir.path(), &objects);
    let server = serve(&store, 1, false);
    let mut viewer = server.plain();
    let mut told = |fields: &str| {
        let got = viewer.get("/title/a", fields);
        let line = |line: &str| Some(line.strip_prefix("Server-Timing: disk;dur=")?.to_owned());
        let told = got.head.lines().find_map(line)?;
        told.parse::<f64>().ok()
    };
    forget_in(&disk, &objects[0].1, 0);
    let waited = told("");
    assert!(
        waited.is_some_and(|ms| (0.0..60_000.0).contains(&ms)),
        "{waited:?}"
    );
    let held = hold_in(&disk, &objects[0].1);
    assert_eq!(told(""), None, "it is in memory");
    drop(held);
    forget_in(&disk, &objects[0].1, 0);
    let etag = format!("If-None-Match: \"{}\"\r\n", Digest::of(&objects[0].1));
    assert_eq!(told(&etag), None, "a 304 needs no disk");
}

#[test]
fn what_one_viewer_streams_is_dropped_behind_it_where_that_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let objects = vec![
        ("streamed".to_owned(), noise(2 << 20)),
        ("kept".to_owned(), noise(99_999)),
    ];
    let store = store_in(&disk, dir.path(), &objects);
    let server = serve(&store, 1, true);
    let cached = |object: &[u8]| {
        let file = object_file(&disk, object);
        page_cache::pages_cached(&file, 0, object.len() as u64).unwrap()
    };
    forget_in(&disk, &objects[0].1, 0);
    // It is in memory already: somebody else may want it again.
    let _held = hold_in(&disk, &objects[1].1);
    let kept = cached(&objects[1].1);
    assert!(kept > 0);
    let mut viewer = server.plain();
    for (key, bytes) in &objects {
        assert!(viewer.get(&format!("/{key}"), "").body == *bytes);
    }
    // That they are gone says nothing: the kernel may have taken them before.
    server.until(|_| cold(&store).dropped >= (2 << 20) / CHUNK_BYTES);
    assert_eq!(cold(&store).dropped, (2 << 20) / CHUNK_BYTES);
    server.until(|_| cached(&objects[0].1) == 0);
    assert_eq!(cached(&objects[1].1), kept);
}

#[test]
fn a_hot_object_is_served_while_cold_reads_saturate_a_disk() {
    let mut disk = SlowDisk::new(64);
    let mut objects: Vec<_> = (0..32)
        .map(|n| (format!("cold/{n}"), noise((1 << 20) - n)))
        .collect();
    objects.push(("hot".to_owned(), noise(16 * 1024)));
    let store = disk.store(DEADLINE, &objects);
    let (hot, cold_objects) = objects.split_last().unwrap();
    let _held = disk.hold(&hot.1, hot.1.len() as u64);
    disk.throttle(THROTTLE);
    // One worker for all of them.
    let server = serve(&store, 1, false);
    let mut viewer = server.plain();
    assert!(viewer.get("/hot", "").body == hot.1);
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let alone = median(&mut viewer, &hot.1);
        let before = cold(&store);
        let done = AtomicBool::new(false);
        let begun = clock::now();
        let (beside, bytes) = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..8)
                .map(|number| {
                    let (server, disk, done) = (&server, &disk, &done);
                    let own = cold_objects.iter().skip(number).step_by(8);
                    scope.spawn(move || read_cold(server, disk, done, own.cycle()))
                })
                .collect();
            let beside = median(&mut viewer, &hot.1);
            done.store(true, Relaxed);
            let bytes: usize = readers
                .into_iter()
                .map(|reader| reader.join().unwrap())
                .sum();
            (beside, bytes)
        });
        let rate = bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
        let after = cold(&store);
        println!("hot alone {alone:?}, beside cold reads {beside:?}, cold {rate:.0} MB/s");
        assert!(after.fills > before.fills, "nothing was cold: {after:?}");
        // The throttle allows a little more at its start.
        assert!(
            rate < 2.0 * THROTTLE as f64 / 1e6,
            "the disk is not throttled: {rate:.0} MB/s"
        );
        ratios.push(beside.as_secs_f64() / alone.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratios {ratios:.2?}; {:?}", cold(&store));
    assert!(
        ratios[1] <= 2.0,
        "hot requests wait for a cold disk: {ratios:.2?}"
    );
}

/// Asks for the hot object at a steady rate for a while; the median time it took, from when it was
/// due. Asked again only once it has come, a worker that stands still would be asked but once.
fn median(viewer: &mut Viewer, bytes: &[u8]) -> Duration {
    let begun = clock::now();
    let mut times = Vec::new();
    for number in 0..LOOKS {
        let due = begun + LOOK_EVERY * number;
        clock::block_for(due.saturating_duration_since(clock::now()));
        let got = viewer.get("/hot", "");
        times.push(due.elapsed());
        assert!(got.status == 200 && got.body == bytes);
        // So late is late enough.
        if begun.elapsed() > LOOK_EVERY * LOOKS * 3 {
            break;
        }
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// Reads objects that are not in memory until told to end; how many bytes came.
fn read_cold<'a>(
    server: &Server,
    disk: &SlowDisk,
    done: &AtomicBool,
    objects: impl Iterator<Item = &'a (String, Vec<u8>)>,
) -> usize {
    let mut viewer = server.plain();
    let mut read = 0;
    for (key, bytes) in objects {
        if done.load(Relaxed) {
            break;
        }
        disk.forget(bytes, 0);
        let got = viewer.get(&format!("/{key}"), "");
        assert!(got.status == 200 && got.body == *bytes, "{key} differs");
        read += got.body.len();
    }
    read
}

#[test]
fn a_crowd_at_one_address_leaves_another_its_share_of_a_slow_disk() {
    const CROWD: usize = 300;
    let mut disk = SlowDisk::new(96);
    let objects: Vec<_> = (0..CROWD + 4)
        .map(|n| (format!("cold/{n}"), noise(128 * 1024 + n)))
        .collect();
    let store = disk.store(DEADLINE, &objects);
    let server = serve(&store, 1, false);
    objects.iter().for_each(|(_, bytes)| disk.forget(bytes, 0));
    // All of the crowd's would take eight seconds.
    disk.throttle(5_000_000);
    let (crowd, own) = objects.split_at(CROWD);
    let held: Vec<_> = crowd
        .iter()
        .map(|(key, _)| {
            let mut stream = from("127.0.0.2", server.plain_address, None);
            let ask = format!("GET /{key} HTTP/1.1\r\nHost: h\r\n\r\n");
            stream.write_all(ask.as_bytes()).unwrap();
            stream
        })
        .collect();
    server.until(|_| cold(&store).refused > 0);
    let begun = clock::now();
    let mut viewer = server.plain();
    for (key, bytes) in own {
        let got = viewer.get(&format!("/{key}"), "");
        assert!(got.status == 200 && got.body == *bytes, "{}", got.head);
    }
    let took = begun.elapsed();
    let view = cold(&store);
    println!("four objects took {took:?} beside the crowd: {view:?}");
    assert!(view.queued > 50, "the crowd still waits: {view:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    drop(held);
    disk.release();
}

#[test]
fn an_io_error_ends_one_response_and_the_disk_is_told() {
    let disk = SlowDisk::new(64);
    let objects: Vec<_> = (0..5)
        .map(|n| (format!("object/{n}"), noise((4 << 20) + n)))
        .collect();
    let store = disk.store(DEADLINE, &objects);
    let server = serve(&store, 1, false);
    let mut neighbour = server.plain();
    let (last, lost) = objects.split_last().unwrap();
    assert!(neighbour.get(&format!("/{}", last.0), "").body == last.1);
    // The first chunks of one are in memory still, nothing of the others is.
    let _held = disk.hold(&lost[0].1, 2 * CHUNK_BYTES);
    disk.forget(&lost[0].1, 2 * CHUNK_BYTES);
    lost[1..]
        .iter()
        .for_each(|(_, bytes)| disk.forget(bytes, 0));
    disk.tear_off(1);
    // A response that has begun is cut.
    let mut stream = TcpStream::connect(server.plain_address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let ask = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", lost[0].0);
    stream.write_all(ask.as_bytes()).unwrap();
    let mut got = Vec::new();
    // A reset says the same as an end.
    let _ = stream.read_to_end(&mut got);
    assert!(got.starts_with(b"HTTP/1.1 200 "));
    let head = got.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    let body = &got[head..];
    assert!(body.len() < lost[0].1.len(), "it was cut");
    assert!(
        !body.is_empty() && lost[0].1.starts_with(body),
        "what came is right"
    );
    assert_eq!(server.handle.view().refusals["read"], 1);
    assert_eq!(neighbour.get(&format!("/{}", lost[0].0), "").status, 503);
    assert_eq!(
        store.view().disks[0].state,
        "online",
        "one object is not a disk"
    );
    // Those that have not begun are refused, over the same connection.
    for (key, _) in &lost[1..] {
        assert_eq!(neighbour.get(&format!("/{key}"), "").status, 503, "{key}");
    }
    server.until(|_| store.view().disks[0].state == "suspect");
    assert!(cold(&store).errors >= 3, "{:?}", cold(&store));
    assert_eq!(server.handle.view().panics, 0);
}

#[test]
fn a_hung_disk_is_isolated_who_waits_for_it_is_released_and_nobody_else_notices() {
    let mut disk = SlowDisk::new(32);
    let objects: Vec<_> = (0..3)
        .map(|n| (format!("object/{n}"), noise((1 << 20) + n)))
        .collect();
    let store = disk.store(Duration::from_secs(1), &objects);
    let server = serve(&store, 1, false);
    objects.iter().for_each(|(_, bytes)| disk.forget(bytes, 0));
    // A read takes days.
    disk.throttle(1);
    let begun = clock::now();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = objects
            .iter()
            .map(|(key, _)| {
                let mut viewer = server.plain();
                scope.spawn(move || viewer.get(&format!("/{key}"), "").status)
            })
            .collect();
        while cold(&store).reading == 0 {
            clock::block_for(Duration::from_millis(1));
        }
        // The same worker.
        let asked = clock::now();
        assert_eq!(server.plain().get("/absent", "").status, 404);
        assert!(
            asked.elapsed() < Duration::from_millis(500),
            "{:?}",
            asked.elapsed()
        );
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), 503);
        }
    });
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(store.view().disks[0].state, "isolated");
    assert!(cold(&store).reading > 0, "its threads hang still");
    disk.release();
    server.until(|_| store.view().disks[0].state == "online");
    let mut viewer = server.plain();
    for (key, bytes) in &objects {
        assert!(
            viewer.get(&format!("/{key}"), "").body == *bytes,
            "{key} differs"
        );
    }
}
