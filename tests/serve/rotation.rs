//! The access log rotated again and again under load, and sampled: no line is lost or torn, and no
//! error goes unwritten.
//!
//! I/O: loopback sockets and temporary directories.

// Support code of tests is a test, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use crate::serving::Server;
use crate::serving::limits;
use crate::serving::noise;
use oca::clock;
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "half a line in {path:?}"
    );
    let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("torn: {line}"));
    text.lines().map(read).collect()
}

#[test]
fn rotations_under_load_lose_no_line_and_tear_none() {
    const ROTATIONS: usize = 40;
    let mut limits = limits();
    limits.requests = u32::MAX;
    let titles = vec![("title/a".to_owned(), noise(100))];
    let server = Server::start(limits, &titles);
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (server, done, asked) = (&server, &done, &asked);
            scope.spawn(move || {
                let mut viewer = server.plain();
                while !done.load(Relaxed) {
                    assert_eq!(viewer.get("/title/a", "").status, 200);
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        for number in 0..ROTATIONS {
            let old = server.access_log.with_extension(number.to_string());
            std::fs::rename(&server.access_log, old).unwrap();
            server.handle.reopen_access_log();
            let opened = number as u64 + 1;
            server.until(|view| view.access_log.reopened == opened);
        }
        done.store(true, Relaxed);
    });
    let asked = asked.load(Relaxed);
    let seen = |view: &oca::serve::View| view.access_log.written + view.access_log.dropped;
    server.until(|view| seen(view) == asked as u64);
    let view = server.handle.view().access_log;
    assert_eq!(view.dropped, 0);
    let mut found = lines(&server.access_log).len();
    let mut used = 0;
    for number in 0..ROTATIONS {
        let here = lines(&server.access_log.with_extension(number.to_string())).len();
        used += usize::from(here > 0);
        found += here;
    }
    assert_eq!(found, asked);
    assert!(used > 1, "the load was over before the second rotation");
}

#[test]
fn a_sample_leaves_out_successes_alone_and_counts_them() {
    let titles = vec![("title/a".to_owned(), noise(100))];
    let server = Server::start(limits(), &titles);
    let mut new = server.config.clone();
    new.access_log_sample = 10;
    server.handle.prepare(&new).unwrap().commit();
    let mut viewer = server.plain();
    for _ in 0..500 {
        assert_eq!(viewer.get("/title/a", "").status, 200);
        assert_eq!(viewer.get("/absent", "").status, 404);
    }
    let accounted = |view: &oca::serve::View| view.access_log.written + view.access_log.left_out;
    server.until(|view| accounted(view) == 1_000);
    let view = server.handle.view().access_log;
    assert_eq!(view.sample, 10);
    let rows = lines(&server.access_log);
    let of = |status: u16| rows.iter().filter(move |row| row["status"] == status);
    assert_eq!(of(404).count(), 500, "every error has its line");
    assert!(of(404).all(|row| row["sample"].is_null()));
    let kept = of(200).count();
    assert!((25..=80).contains(&kept), "{kept} of 500");
    assert!(of(200).all(|row| row["sample"] == 10));
    assert_eq!(view.left_out, 500 - kept as u64);
}

#[test]
fn a_log_on_a_hung_disk_holds_up_nobody() {
    let titles = vec![("title/a".to_owned(), noise(100))];
    let mut limits = limits();
    limits.requests = u32::MAX;
    let server = Server::start(limits, &titles);
    // A pipe whose reader has stopped reading behaves like a disk that is full, at once.
    let pipe = server.access_log.with_extension("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let mut new = server.config.clone();
    new.access_log = Some(pipe);
    server.handle.prepare(&new).unwrap().commit();
    let mut viewer = server.plain();
    let begun = clock::now();
    for _ in 0..2_000 {
        assert_eq!(viewer.get("/title/a", "").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(15));
    server.until(|view| view.access_log.dropped > 0);
    drop(reader);
}
