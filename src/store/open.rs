//! Start and stop: disks identified, locked and scanned side by side; `watcher` looks after them.
//!
//! ```text
//! start ─ look at every disk ─ compare uuids ─ claim each ─┬─ scan a disk ─┐
//!                                                          └─ manifest ────┴─ settled
//! ```
//!
//! I/O: spawns the store's threads; reads the manifest.

use super::Config;
use super::StoreError;
use super::absent;
use super::absent::Absent;
use super::catch_up;
use super::catch_up::ManifestCopy;
use super::copies;
use super::copies::StateDir;
use super::core::Shared;
use super::identity;
use super::identity::IdentityError;
use super::identity::Seen;
use super::index::Index;
use super::index::VOLUMES_MAX;
use super::lane::Ticks;
use super::lengths::Disputes;
use super::mover;
use super::mover::Mover;
use super::ours;
use super::scan;
use super::scrub;
use super::snapshot;
use super::staging::Registry;
use super::state::Event;
use super::state::State;
use super::step::Probe;
use super::suspects;
use super::view;
use super::volume::CallError;
use super::volume::Home;
use super::volume::Volume;
use super::watcher;
use crate::clock;
use arc_swap::ArcSwapOption;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::sync::watch;

/// How long [`stop`] waits for disk threads that still work, in deadlines. One that hangs is left
/// to the end of the process.
const STOP_PATIENCE: u32 = 1;

/// Opens the store; `probe` is told of each durable step.
pub(super) fn start(config: &Config, probe: &Probe) -> Result<Arc<Shared>, StoreError> {
    if config.disks.len() > VOLUMES_MAX {
        return Err(StoreError::TooManyDisks {
            configured: config.disks.len(),
        });
    }
    let state_dir = StateDir::open(&config.state_dir)?;
    let ticks = Ticks::default();
    let mut volumes = Vec::new();
    for (number, disk) in (0_u16..).zip(&config.disks) {
        let disk = disk.clone();
        let volume = Volume::new(number, disk, config.deadline, &config.upkeep, &ticks);
        volumes.push(Arc::new(volume.map_err(StoreError::Thread)?));
    }
    let (waker, woken) = sync_channel(1);
    let (mover, moves) = Mover::new();
    let shared = Arc::new(Shared {
        index: Index::default(),
        volumes,
        manifest: ArcSwapOption::empty(),
        manifest_writer: Mutex::default(),
        claiming: Mutex::default(),
        kept_writer: Mutex::default(),
        journal: Mutex::default(),
        staging: Registry::default(),
        state_dir,
        absent: Absent::default(),
        upkeep: config.upkeep.clone(),
        probe: probe.clone(),
        ticks,
        stopping: AtomicBool::new(false),
        manifest_loaded: AtomicBool::new(false),
        disputes: Disputes::default(),
        clock_is_sane: AtomicBool::new(false),
        view: watch::Sender::default(),
        settled: watch::Sender::new(false),
        changes: AtomicU64::new(0),
        view_builder: Mutex::default(),
        waker,
        mover,
    });
    let (watched, deadline) = (Arc::clone(&shared), config.deadline);
    spawn("store-watch", move || {
        watcher::run(&watched, &woken, deadline)
    })?;
    identify(&shared);
    absent::note(&shared);
    for volume in scannable(&shared) {
        let (own, scanned) = (Arc::clone(&shared), Arc::clone(volume));
        // However long it waits its turn: without its scan a disk would never be ready. From then
        // on each directory and object has the deadline.
        let queued = volume.write(Duration::MAX, move |volume, pulse| {
            pulse.beat(volume.deadline());
            scan::scan(&own, &scanned, pulse);
            ours::take_over(&own, volume, pulse);
            pulse.beat(volume.deadline());
            // A disk that cannot be written now is tried again by the next fill.
            if volume.decide_writes().is_ok() {
                own.wake();
            }
        });
        if let Err(error) = queued {
            volume.report(&shared, Event::Refused, &error.to_string());
        }
    }
    for volume in &shared.volumes {
        scrub::start(&shared, volume).map_err(StoreError::Thread)?;
    }
    let loading = Arc::clone(&shared);
    spawn("store-manifest", move || load_manifest(&loading))?;
    let moving = Arc::clone(&shared);
    spawn("store-moves", move || mover::run(&moving, &moves))?;
    view::publish(&shared);
    Ok(shared)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work);
    thread.map(drop).map_err(StoreError::Thread)
}

fn scannable(shared: &Shared) -> impl Iterator<Item = &Arc<Volume>> {
    let scanning = |v: &&Arc<Volume>| v.home().is_some() && v.state() == State::Scanning;
    shared.volumes.iter().filter(scanning)
}

/// Looks at all disks side by side, refuses second uuids in the order of the configuration, then
/// claims the rest side by side. A disk that does not answer is isolated by the watch thread.
fn identify(shared: &Arc<Shared>) {
    let each = shared.volumes.iter();
    let looks: Vec<_> = each
        .map(|volume| volume.write(volume.deadline(), |v, _| identity::look(&v.config)))
        .collect();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let mut claims = Vec::new();
    for (volume, look) in shared.volumes.iter().zip(looks) {
        let Some(seen) = settle(shared, volume, look) else {
            continue;
        };
        if let Some(other) = seen.uuid.as_ref().and_then(|uuid| owners.get(uuid)) {
            refuse(shared, volume, &IdentityError::Duplicate(other.clone()));
            continue;
        }
        if let Some(uuid) = &seen.uuid {
            owners.insert(uuid.clone(), volume.name());
        }
        volume.note_space(seen.space);
        let own = Arc::clone(shared);
        let blank = seen.uuid.is_none();
        // Formatting flushes several times.
        let claim = volume.write(volume.flush_patience(), move |_, _| claim(&own, seen));
        claims.push((volume, blank, claim));
    }
    for (volume, blank, claim) in claims {
        let Some(home) = settle(shared, volume, claim) else {
            continue;
        };
        if blank {
            let (disk, uuid) = (volume.name(), &home.uuid);
            tracing::info!(disk, uuid, "disk {disk} was blank and has been formatted");
        }
        let suspect = suspects::recorded(&shared.state_dir, &home.uuid);
        volume.damaged.load(&shared.state_dir, &home.uuid);
        volume.retire.load(&shared.state_dir, &home.uuid);
        volume.set_home(home);
        ours::tell(volume);
        if let Some(reason) = suspect {
            volume.report(shared, Event::Broken, &reason);
        }
    }
}

/// Makes a disk that was looked at one of the store's.
pub(super) fn claim(shared: &Shared, seen: Seen) -> Result<Home, IdentityError> {
    let uuid = identity::claim(&seen, &shared.probe)?;
    let is_ours = ours::recognise(&shared.state_dir, &uuid, seen.uuid.is_none());
    let root = seen.root;
    Ok(Home {
        root,
        uuid,
        is_ours: AtomicBool::new(is_ours),
        copy: ManifestCopy::default(),
    })
}

type Answer<T> = Result<Receiver<Result<T, IdentityError>>, CallError>;

fn settle<T>(shared: &Shared, volume: &Volume, answer: Answer<T>) -> Option<T> {
    match answer.and_then(|answer| volume.wait(&answer)) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            refuse(shared, volume, &error);
            None
        }
        // The watch thread has isolated it and said why.
        Err(_) => None,
    }
}

fn refuse(shared: &Shared, volume: &Volume, error: &IdentityError) {
    volume.report(shared, Event::Refused, &error.to_string());
}

fn load_manifest(shared: &Arc<Shared>) {
    let found = copies::load(shared);
    match &found {
        Some(manifest) => {
            let ((epoch, generation), keys) = (manifest.position.signed(), manifest.len());
            tracing::info!(epoch, generation, keys, "manifest loaded: {keys} keys");
        }
        None => tracing::warn!("no manifest: nothing is served until one is written"),
    }
    shared.absent.listed_below(shared.index.len());
    shared.manifest.store(found.map(Arc::new));
    shared.manifest_loaded.store(true, Ordering::Release);
    shared.changed();
    shared.wake();
    for volume in &shared.volumes {
        ours::ask(shared, volume);
        catch_up::ask(shared, volume);
    }
}

/// Stops the threads, has the index of each disk written down, and releases the locks.
pub(super) fn stop(shared: &Arc<Shared>) {
    if shared.stopping.swap(true, Ordering::AcqRel) {
        return;
    }
    shared.wake();
    shared.mover.wake();
    for volume in &shared.volumes {
        let (own, disk) = (Arc::clone(shared), Arc::clone(volume));
        volume.close(move |pulse| snapshot::write(&own, &disk, pulse));
    }
    let started = clock::now();
    for volume in &shared.volumes {
        let patience = volume.deadline() * STOP_PATIENCE;
        while !volume.has_ended() && clock::now().duration_since(started) < patience {
            clock::block_for(Duration::from_millis(2));
        }
        // A disk whose snapshot is being named is this process's until it ends.
        if volume.has_ended() || volume.census.decide() {
            volume.unlock();
        }
    }
    shared.state_dir.unlock();
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::until;
    use super::*;
    use crate::object::Digest;
    use crate::store;
    use crate::store::Binding;
    use crate::store::DiskClass;
    use crate::store::DiskConfig;
    use crate::store::Finding;
    use crate::store::Handle;
    use crate::store::OpenError;
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::sync::mpsc::SyncSender;

    /// Short for a test, long for calls on a file system in memory.
    const SOON: Duration = Duration::from_secs(1);

    /// Not on a real disk, which a busy machine makes as slow as a sick one.
    fn in_memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    fn store(dir: &std::path::Path, disks: usize, deadline: Duration) -> Handle {
        let disk = |number: usize| {
            let path = dir.join(format!("disk{number}"));
            std::fs::create_dir_all(&path).unwrap();
            DiskConfig {
                path,
                class: DiskClass::Ssd,
                zone: crate::store::Zone::None,
                plain_directory: true,
            }
        };
        let config = Config {
            disks: (0..disks).map(disk).collect(),
            state_dir: dir.join("state"),
            deadline,
            upkeep: crate::store::Upkeep::default(),
        };
        let store = store::start(&config).unwrap();
        until(|| store.is_ready());
        store
    }

    /// Publishes one object on each of two disks, under the keys `0` and `1`.
    fn publish(store: &Handle) -> [Digest; 2] {
        ["0", "1"].map(|key| {
            let other = BTreeSet::from([if key == "0" { 1 } else { 0 }]);
            let mut publication = store.stage(b"x", 1, &other).unwrap();
            publication.write(key.as_bytes().to_vec()).unwrap();
            let published = publication.commit(None).unwrap();
            let binding = Binding {
                digest: published.digest,
                length: 1,
                last_modified: 0,
                rank: 0,
            };
            let key = crate::key::Key::parse(key.as_bytes()).unwrap();
            store.bind(&BTreeMap::from([(key, binding)])).unwrap();
            published.digest
        })
    }

    /// Makes the readers' or writers' thread of disk 0 hang until the answer is dropped.
    fn hang(store: &Handle, readers: bool) -> SyncSender<()> {
        let (release, held) = sync_channel::<()>(0);
        let (started, begun) = sync_channel(1);
        let volume = Arc::clone(&store.shared().volumes[0]);
        let work = move || {
            started.send(()).unwrap();
            let _ = held.recv();
        };
        // Whoever waits for the call that hangs is not the test.
        std::thread::spawn(move || {
            let _ = if readers {
                volume.read_blocking(move |_| work())
            } else {
                let queued = volume.write(volume.deadline(), move |_, _| work());
                queued.and_then(|answer| volume.wait(&answer))
            };
        });
        begun.recv().unwrap();
        release
    }

    #[tokio::test]
    async fn a_hung_disk_is_isolated_at_its_deadline_and_rejoins_when_it_answers() {
        for readers in [true, false] {
            let dir = in_memory();
            let store = store(dir.path(), 2, SOON);
            let [first, second] = publish(&store);
            let started = clock::now();
            let release = hang(&store, readers);
            if readers {
                let bound = Duration::from_secs(30);
                let answer = clock::within(bound, store.open(first)).await;
                let refused = answer.expect("the open never returned").unwrap_err();
                let isolated = matches!(
                    refused,
                    OpenError::Unavailable {
                        state: "isolated",
                        ..
                    }
                );
                assert!(isolated, "{refused}");
            } else {
                until(|| store.find("0") == Finding::Unavailable);
            }
            let waited = clock::now().duration_since(started);
            assert!(waited >= SOON / 2, "{waited:?}");
            assert!(waited < 20 * SOON, "{waited:?}");
            assert_eq!(store.find("0"), Finding::Unavailable);
            assert!(store.find("1").entry().is_some());
            assert_eq!(store.open(second).await.unwrap().length, 1);
            until(|| store.view().disks[0].state == "isolated");
            drop(release);
            until(|| store.find("0").entry().is_some());
            assert_eq!(store.open(first).await.unwrap().digest, first);
        }
    }

    #[test]
    fn a_damaged_object_is_put_aside_however_long_its_disk_was_busy() {
        let dir = in_memory();
        let store = store(dir.path(), 2, SOON);
        let [first, _] = publish(&store);
        let shared = store.shared();
        let release = hang(&store, false);
        assert!(shared.quarantine(first, &shared.volumes[0], "it is a test".into()));
        let queued = shared.ticks.now_ms();
        let patience = u64::try_from(SOON.as_millis()).unwrap();
        until(|| shared.ticks.now_ms() > queued + 2 * patience);
        drop(release);
        let moved = format!("disk0/quarantine/{first}");
        until(|| dir.path().join(&moved).exists());
        drop(store);
        let store = self::store(dir.path(), 2, SOON);
        assert_eq!(
            store.find("0"),
            Finding::Unavailable,
            "it is not served again"
        );
    }

    #[test]
    fn a_publication_that_its_disk_never_took_over_leaves_no_file() {
        for queue_is_full in [true, false] {
            let dir = in_memory();
            let store = store(dir.path(), 1, SOON);
            let mut publication = store.stage(b"x", 1, &BTreeSet::new()).unwrap();
            publication.write(b"1".to_vec()).unwrap();
            let volume = Arc::clone(&store.shared().volumes[0]);
            // The write is done when the call after it is.
            let landed = volume.write(volume.deadline(), |_, _| ()).unwrap();
            volume.wait(&landed).unwrap();
            let release = hang(&store, false);
            if queue_is_full {
                while volume.write(volume.deadline(), |_, _| ()).is_ok() {}
            }
            let error = publication.commit(None).unwrap_err().to_string();
            let why = if queue_is_full {
                "too many"
            } else {
                "does not answer"
            };
            assert!(error.contains(why), "{error}");
            drop(release);
            // Asked again for each look: with a full queue the next call of any kind sweeps.
            until(|| {
                volume.discard("none".into());
                std::fs::read_dir(dir.path().join("disk0/staging"))
                    .unwrap()
                    .count()
                    == 0
            });
            assert_eq!(store.find("x"), Finding::Unknown);
            assert_eq!(store.view().disks[0].objects, 0);
        }
    }

    #[test]
    fn a_publisher_on_a_hung_disk_gets_an_error_and_stopping_does_not_wait_for_the_disk() {
        let dir = in_memory();
        let store = store(dir.path(), 1, SOON);
        let mut publication = store.stage(b"x", 1, &BTreeSet::new()).unwrap();
        let release = hang(&store, false);
        publication.write(b"1".to_vec()).unwrap();
        let commit = std::thread::spawn(move || publication.commit(None));
        until(|| commit.is_finished());
        let error = commit.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("does not answer"), "{error}");
        let started = clock::now();
        store.stop();
        assert!(clock::now().duration_since(started) < 20 * SOON);
        drop(release);
    }

    /// A paused clock jumps whenever its runtime waits for a disk thread: that is no hang.
    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_does_not_isolate_a_disk() {
        let dir = in_memory();
        let store = store(dir.path(), 2, Duration::from_secs(10));
        let [first, _] = publish(&store);
        let sleeper = tokio::spawn(clock::sleep(Duration::from_secs(3600)));
        for _ in 0..50 {
            assert!(store.open(first).await.is_ok());
            tokio::time::advance(Duration::from_secs(100)).await;
        }
        sleeper.abort();
        assert_eq!(store.view().disks[0].state, "online");
    }
}
