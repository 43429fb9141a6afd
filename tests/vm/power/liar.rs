//! A disk that says a write is done and does not do it, and then the power fails.
//!
//! The map of an unfinished object is written after a flush of its chunks; a disk that lies makes
//! even such a map claim what is not there. A claim is worth nothing until its chunk was read
//! again.
//!
//! I/O: a disk of memory behind `flakey` of the device-mapper.

use super::device;
use super::device::FileSystem;
use super::device::Mapped;
use super::device::SECTORS;
use super::device::ram;
use super::tools::CHUNK;
use super::tools::block;
use super::tools::bytes;
use super::tools::feed;
use super::tools::read_all;
use super::tools::receive;
use super::tools::until;
use super::tools::was_logged;
use super::work;
use oca::object::Digest;
use oca::store;
use oca::store::Handle;
use oca::store::Probe;
use oca::store::Step;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Chunks written honestly, then those that the disk only says it wrote, as many as go there
/// together; the rest never came.
const HONEST: usize = 2;
const LOST: usize = 4;
const LENGTH: usize = 9 * CHUNK + 100;

/// How often a step was reached.
type Count = Arc<AtomicUsize>;

/// A store, how many chunks it has written, and how many maps.
fn start(at: &Path) -> (Handle, Count, Count) {
    let (chunks, maps) = (Count::default(), Count::default());
    let counts = (Arc::clone(&chunks), Arc::clone(&maps));
    let probe = Probe::new(move |step| {
        if step == Step::ChunkWritten {
            counts.0.fetch_add(1, Ordering::SeqCst);
        } else if step == Step::MapDirectorySynced {
            counts.1.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut config = work::config(at);
    config.disks.truncate(1);
    std::fs::create_dir_all(&config.disks[0].path).unwrap();
    let store = store::start_probed(&config, &probe).unwrap();
    block(store.ready());
    (store, chunks, maps)
}

/// Sends those chunks that `take` wants, and stops.
fn send(store: &Handle, content: &[u8], take: impl Fn(usize) -> bool) {
    let mut staged = receive(store, content).unwrap();
    feed(&mut staged, content, take).unwrap();
    drop(staged);
}

pub(crate) fn staged() -> String {
    device::blank_disks();
    let at = std::env::temp_dir().join("liar");
    let below = ram(0);
    let honest = device::linear(&below);
    // Always in its bad hour.
    let lying = format!("0 {SECTORS} flakey {} 0 0 1 1 drop_writes", below.display());
    let disk = Mapped::new("liar", &honest);
    let kind = FileSystem::Ext4;
    kind.make(&disk.node);
    // The journal writes when it is asked to.
    let mounted = kind.mount_with(&disk.node, &at, Some("commit=300"));

    let content = bytes("an object on its way", LENGTH);
    let (store, chunks, maps) = start(&at);
    send(&store, &content, |chunk| chunk < HONEST);
    until("the first map", || maps.load(Ordering::SeqCst) == 1);
    let writes = store.view().disks[0].writes.unwrap();
    assert!(writes.starts_with("direct"), "{writes}");
    nix::unistd::syncfs(File::open(&at).unwrap()).unwrap();
    let mut staged = receive(&store, &content).unwrap();
    disk.becomes(&lying);
    let fed = feed(&mut staged, &content, |chunk| chunk < HONEST + LOST);
    assert_eq!(fed.unwrap().len(), LOST);
    until("the writes", || {
        chunks.load(Ordering::SeqCst) == HONEST + LOST
    });
    disk.becomes(&honest);
    drop(staged);
    until("the second map", || maps.load(Ordering::SeqCst) == 2);

    // The power fails: nothing that comes after reaches the disk.
    disk.becomes(&lying);
    drop(store);
    drop(mounted);
    disk.becomes(&honest);

    let mounted = kind.mount(&disk.node, &at);
    let (store, ..) = start(&at);
    let mut staged = receive(&store, &content).unwrap();
    let missing: u64 = staged.missing().iter().map(|gap| gap.end - gap.start).sum();
    let expected = LENGTH - HONEST * CHUNK;
    let told = format!("{LOST} staged chunks of {}", Digest::of(&content));
    let was_told = was_logged(&[told.as_str(), "are not what was written"]);
    feed(&mut staged, &content, |_| true).unwrap();
    block(staged.commit()).unwrap();
    let object = block(store.open(Digest::of(&content))).unwrap();
    let is_whole = read_all(&object).unwrap() == content;
    drop((object, store));
    drop(mounted);
    assert_eq!(missing, expected as u64, "claimed chunks were not all read");
    assert!(was_told, "{told}");
    assert!(is_whole, "the object has other bytes");
    format!("{LOST} chunks that the map claimed were found missing, {writes}")
}
