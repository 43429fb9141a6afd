//! How fills write: directly by io_uring and past the page cache, or as far as that is allowed.

use crate::tools::CHUNK;
use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::feed;
use crate::tools::read_all;
use crate::tools::receive;
use crate::tools::until;
use crate::tools::was_logged;
use oca::object::Digest;
use oca::store::DiskClass;
use oca::store::Handle;
use oca::sys::page_cache;
use std::fs::File;
use std::path::Path;
use std::process::Command;

const DIR: &str = "OCA_TEST_WRITES_DIR";

/// Of an object: an odd number of bytes.
const LENGTH: usize = 40 * CHUNK + 1234;

fn fill(store: &Handle, name: &str) -> Digest {
    let content = bytes(name, LENGTH);
    let mut staged = receive(store, &content).unwrap();
    feed(&mut staged, &content, |_| true).unwrap();
    block(staged.commit()).unwrap();
    Digest::of(&content)
}

fn assert_whole(store: &Handle, digest: Digest) {
    let object = block(store.open(digest)).unwrap();
    assert_eq!(Digest::of(&read_all(&object).unwrap()), digest);
}

/// How disk `number` is written, once it is known.
fn writes(store: &Handle, number: usize) -> &'static str {
    until("how it writes is known", || {
        disk(store, number).writes.is_some()
    });
    disk(store, number).writes.unwrap()
}

/// Bytes of the files below `dir`, and of them in memory.
fn sizes(dir: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (bytes, cached) = if entry.file_type().unwrap().is_dir() {
            sizes(&entry.path())
        } else {
            let file = File::open(entry.path()).unwrap();
            let pages = page_cache::pages_cached(&file, 0, 0).unwrap();
            let bytes = file.metadata().unwrap().len();
            (bytes, pages * page_cache::page_bytes())
        };
        sum = (sum.0 + bytes, sum.1 + cached);
    }
    sum
}

#[test]
fn the_page_cache_stays_with_the_viewers_while_a_fill_writes_and_after_it() {
    let mut lab = Lab::new(0);
    let at = lab.path("mounted");
    let _mount = Mount::ext4(&lab.path("image"), 256, &at);
    lab.add(&at, DiskClass::Nvme, false);
    let store = lab.open();
    assert_eq!(writes(&store, 0), "direct io_uring");
    let content = bytes("half", LENGTH);
    let mut staged = receive(&store, &content).unwrap();
    feed(&mut staged, &content, |chunk| chunk < 30).unwrap();
    let whole: Vec<Digest> = (0..8).map(|n| fill(&store, &n.to_string())).collect();
    // The unfinished one's file has its length from the beginning.
    let (bytes, cached) = sizes(&at);
    assert!(bytes >= 9 * LENGTH as u64, "{bytes}");
    assert!(cached * 20 < bytes, "{cached} of {bytes} bytes in memory");
    drop(staged);
    drop(store);
    // What is hashed again after a restart does not stay either.
    let store = lab.open();
    let again = receive(&store, &content).unwrap();
    assert_eq!(again.missing()[0].start, 30 * CHUNK as u64);
    let (bytes, cached) = sizes(&at);
    assert!(cached * 20 < bytes, "{cached} of {bytes} bytes in memory");
    for digest in whole {
        assert_whole(&store, digest);
    }
}

/// ramfs has only the page cache, and tells no size: nothing is placed there.
#[test]
fn a_file_system_that_refuses_direct_writes_is_told_as_such_and_named_in_the_log() {
    let mut lab = Lab::new(0);
    let at = lab.path("in-memory");
    let _mount = Mount::ramfs(&at);
    lab.add(&at, DiskClass::Ssd, false);
    let store = lab.open();
    assert_eq!(writes(&store, 0), "buffered");
    let path = at.display().to_string();
    assert!(was_logged(&[&path, "refuses direct writes"]));
}

/// Runs only as the child of the test below.
#[test]
fn the_child_without_io_uring() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let mut lab = Lab::new(0);
    for name in ["disk0", "disk1"] {
        lab.add(&Path::new(&dir).join(name), DiskClass::Ssd, true);
    }
    let store = lab.open();
    for number in 0..2 {
        assert_eq!(writes(&store, number), "direct");
    }
    for name in ["a", "b", "c"] {
        assert_whole(&store, fill(&store, name));
    }
    assert!(was_logged(&[
        "io_uring is refused",
        "Operation not permitted"
    ]));
}

#[test]
fn where_io_uring_is_refused_fills_write_directly_one_chunk_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["disk0", "disk1"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    // What a sandbox or `kernel.io_uring_disabled` answers.
    let output = Command::new("strace")
        .args(["--follow-forks", "--quiet=all", "--trace=io_uring_setup"])
        .args(["--inject=io_uring_setup:error=EPERM", "--output=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "writes::the_child_without_io_uring"])
        .env(DIR, dir.path())
        .output()
        .expect("strace is missing; install it with: apt-get install strace");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}
