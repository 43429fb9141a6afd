//! Shared by these tests: stores on temporary directories, media, mounts, the log.

use oca::object::ChunkTree;
use oca::object::Digest;
use oca::object::TreeBuilder;
use oca::store;
use oca::store::Config;
use oca::store::DiskClass;
use oca::store::DiskConfig;
use oca::store::DiskView;
use oca::store::Handle;
use oca::store::ObjectFile;
use oca::store::PublishError;
use oca::store::Staged;
use oca::store::prefill::Summary;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::TempDir;

/// Long enough for every wait of a loaded machine, and a bound for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A temporary directory with a state directory and room for disks and media.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) disks: Vec<DiskConfig>,
}

impl Lab {
    /// A laboratory with `count` plain directories as disks.
    pub(crate) fn new(count: usize) -> Self {
        Self::below(tempfile::tempdir().unwrap(), count)
    }

    /// As [`Lab::new`], where a flush costs nothing.
    pub(crate) fn in_memory(count: usize) -> Self {
        Self::below(tempfile::tempdir_in("/dev/shm").unwrap(), count)
    }

    fn below(dir: TempDir, count: usize) -> Self {
        let mut lab = Self {
            dir,
            disks: Vec::new(),
        };
        for number in 0..count {
            let path = lab.path(&format!("disk{number}"));
            std::fs::create_dir(&path).unwrap();
            lab.add(&path, DiskClass::Ssd, true);
        }
        lab
    }

    pub(crate) fn add(&mut self, path: &Path, class: DiskClass, plain_directory: bool) {
        self.disks.push(DiskConfig {
            path: path.to_owned(),
            class,
            zone: oca::store::Zone::None,
            plain_directory,
        });
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            disks: self.disks.clone(),
            state_dir: self.path("state"),
            deadline: Duration::from_secs(10),
            upkeep: store::Upkeep::default(),
        }
    }

    /// Opens the store and waits until it is ready.
    pub(crate) fn open(&self) -> Handle {
        opened(&self.config())
    }

    /// Writes media files (name, length) below `media/`; bytes follow from name and length.
    pub(crate) fn media(&self, files: &[(&str, usize)]) -> PathBuf {
        let root = self.path("media");
        for (name, length) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes(name, *length)).unwrap();
        }
        std::fs::create_dir_all(&root).unwrap();
        root
    }
}

pub(crate) fn opened(config: &Config) -> Handle {
    log();
    let store = store::start(config).unwrap();
    block(store.ready());
    store
}

/// Bytes that differ from name to name.
pub(crate) fn bytes(name: &str, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "a chunk fits into any memory"
)]
pub(crate) const CHUNK: usize = oca::object::CHUNK_BYTES as usize;

/// The chunk tree of some bytes.
pub(crate) fn tree(bytes: &[u8]) -> ChunkTree {
    let mut builder = TreeBuilder::new();
    builder.update(bytes);
    builder.finish()
}

/// Begins or goes on to receive what consists of these bytes.
pub(crate) fn receive(store: &Handle, bytes: &[u8]) -> Result<Staged, PublishError> {
    let tree = tree(bytes);
    block(store.receive(tree.digest(), bytes.len() as u64, 0, tree))
}

/// Writes those chunks of `bytes` that are missing and that `take` wants. Returns their numbers.
pub(crate) fn feed(
    staged: &mut Staged,
    bytes: &[u8],
    take: impl Fn(usize) -> bool,
) -> Result<Vec<usize>, PublishError> {
    let mut written = Vec::new();
    for range in staged.missing() {
        let range = index(range.start)..index(range.end);
        for (number, chunk) in (range.start / CHUNK..).zip(bytes[range].chunks(CHUNK)) {
            if take(number) {
                let chunk = bytes::Bytes::copy_from_slice(chunk);
                block(staged.write(number as u64, chunk))?;
                written.push(number);
            }
        }
    }
    Ok(written)
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// Names in the staging directory of a disk.
pub(crate) fn staging(disk: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(disk.join("staging")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Runs a future to its end, in bounded time.
pub(crate) fn block<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let bounded = oca::clock::within(PATIENCE, future);
    runtime.block_on(bounded).expect("not done in 30 s")
}

/// Waits for a condition, in bounded time.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = oca::clock::now() + PATIENCE;
    while !holds() {
        assert!(oca::clock::now() < end, "waited in vain: {what}");
        oca::clock::block_for(Duration::from_millis(5));
    }
}

pub(crate) fn run(store: &Handle, dir: &Path) -> Summary {
    let stop = AtomicBool::new(false);
    store::prefill::run(store, dir, &stop, &mut |_| {}).unwrap()
}

/// Opens what a key names and reads it whole; a failed read is reported, as serving does.
pub(crate) fn read(store: &Handle, key: &str) -> io::Result<Vec<u8>> {
    let entry = store
        .find(key)
        .entry()
        .ok_or_else(|| io::Error::other("not found"))?;
    let object = block(store.open(entry.digest)).map_err(io::Error::other)?;
    read_all(&object).inspect_err(|error| store.read_failed(&object, error))
}

pub(crate) fn read_all(object: &ObjectFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(object.length).unwrap_or(0)];
    object.file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Every file of `media` is served under its name with its bytes.
pub(crate) fn assert_serves(store: &Handle, files: &[(&str, usize)]) {
    for (name, length) in files {
        let found = read(store, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(found == bytes(name, *length), "{name} has other bytes");
    }
}

pub(crate) fn disk(store: &Handle, number: usize) -> DiskView {
    store.view().disks[number].clone()
}

pub(crate) fn reason(store: &Handle, number: usize) -> String {
    disk(store, number).reason.unwrap_or_default()
}

/// The next start scans, instead of believing what the stop before wrote down.
pub(crate) fn forget_snapshots(disks: &[DiskConfig]) {
    for disk in disks {
        std::fs::remove_file(disk.path.join("index.snapshot")).unwrap();
    }
}

/// Where an object lies on a disk.
pub(crate) fn object_path(disk: &Path, digest: Digest) -> PathBuf {
    let hex = digest.to_string();
    disk.join("objects")
        .join(&hex[..2])
        .join(&hex[2..4])
        .join(hex)
}

/// Every file below `disk/objects` by path below it.
pub(crate) fn objects(disk: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files(disk).into_iter();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    files.map(read).collect()
}

/// The files of objects on a disk, without what lies beside them.
pub(crate) fn objects_on(disk: &Path) -> Vec<PathBuf> {
    let mut files = files(disk);
    files.retain(|path| path.extension().is_none());
    files
}

fn files(disk: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![disk.join("objects")];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

/// Everything that was logged by any test of this process.
pub(crate) fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || Sink(Arc::clone(&sink)))
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
}

/// Was a line logged that has all these words?
pub(crate) fn was_logged(words: &[&str]) -> bool {
    let log = log().lock().unwrap();
    let text = String::from_utf8_lossy(&log);
    text.lines()
        .any(|line| words.iter().all(|word| line.contains(word)))
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Ok(mut log) = self.0.lock() {
            log.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A mounted file system; unmounted when dropped.
pub(crate) struct Mount(pub(crate) PathBuf);

impl Mount {
    pub(crate) fn tmpfs(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        sh("mount", &["-t", "tmpfs", "-o", size, "tmpfs", text(at)]);
        Self(at.to_owned())
    }

    pub(crate) fn ramfs(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        sh("mount", &["-t", "ramfs", "ramfs", text(at)]);
        Self(at.to_owned())
    }

    /// A fresh ext4 in `image`, mounted through a loop device.
    pub(crate) fn ext4(image: &Path, megabytes: u64, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let file = std::fs::File::create(image).unwrap();
        file.set_len(megabytes << 20).unwrap();
        sh("mkfs.ext4", &["-q", "-F", text(image)]);
        // Nothing is written later by itself: a write beyond the end of a cut image grows it again.
        let options = "loop,noatime,commit=300";
        sh("mount", &["-o", options, text(image), text(at)]);
        Self(at.to_owned())
    }

    /// A file system that was made before.
    pub(crate) fn again(image: &Path, at: &Path) -> Self {
        sh("mount", &["-o", "loop,noatime", text(image), text(at)]);
        Self(at.to_owned())
    }

    /// Whoever writes a file there at this moment is waited for.
    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let arguments = ["-o", &options, text(&self.0)];
        until("the file system to be remounted", || {
            let output = Command::new("mount").args(arguments).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() || told.contains("busy"), "{told}");
            output.status.success()
        });
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazy: a failed test may still hold files open. The loop device goes with the mount.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn sh(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install util-linux and e2fsprogs"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?} failed: {told}; these tests mount file systems: run them as root"
    );
}
