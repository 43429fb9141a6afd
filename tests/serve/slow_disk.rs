//! A real disk that is slow, or breaks: ext4 on a loop device, throttled by the blkio controller
//! of cgroup v1. Needs root; what is missing is a failure that says so.
//!
//! I/O: loop devices, mounts and a throttle for them alone; dropping a [`SlowDisk`] removes all.

// Support code of tests is a test, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use oca::clock;
use oca::key::Key;
use oca::object::Digest;
use oca::store;
use oca::store::Binding;
use oca::store::DiskClass;
use oca::store::DiskConfig;
use oca::sys::page_cache;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const THROTTLE: &str = "blkio.throttle.read_bps_device";

/// Nothing in these tests takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// The configuration's default.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A mounted loop device. Dropping it unmounts and detaches it.
pub(crate) struct SlowDisk {
    dir: TempDir,
    device: PathBuf,
    throttle: Option<(PathBuf, String)>,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}; install it with: apt-get install mount e2fsprogs util-linux")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {said}(tests with a slow disk need root and loop devices)"
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl SlowDisk {
    pub(crate) fn new(megabytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image)
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        let image = image.to_str().unwrap();
        // No journal: nothing writes by itself.
        run("mkfs.ext4", &["-q", "-F", "-O", "^has_journal", image]);
        std::fs::create_dir(dir.path().join("mount")).unwrap();
        let device = PathBuf::from(run("losetup", &["--find", "--show", image]));
        let disk = Self {
            dir,
            device,
            throttle: None,
        };
        let mount = disk.mount_point();
        run(
            "mount",
            &[disk.device.to_str().unwrap(), mount.to_str().unwrap()],
        );
        disk
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    /// Reads from the disk no faster than this from here on, by the group this process is in.
    pub(crate) fn throttle(&mut self, bytes_per_second: u64) {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let group = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers
                .split(',')
                .any(|name| name == "blkio")
                .then_some(path)
        });
        let group = group.unwrap_or_else(|| {
            panic!(
                "the blkio controller of cgroup v1 is not mounted; boot with it, or: \
                    mount -t cgroup -o blkio none /sys/fs/cgroup/blkio"
            )
        });
        let root = Path::new("/sys/fs/cgroup/blkio");
        let file = [group.trim_start_matches('/'), ""]
            .map(|group| root.join(group).join(THROTTLE))
            .into_iter()
            .find(|file| file.exists())
            .unwrap_or_else(|| panic!("{THROTTLE} is missing below {}", root.display()));
        let name = self.device.file_name().unwrap();
        let number = std::fs::read_to_string(Path::new("/sys/block").join(name).join("dev"));
        let number = number.unwrap().trim().to_owned();
        std::fs::write(&file, format!("{number} {bytes_per_second}")).unwrap();
        self.throttle = Some((file, number));
    }

    /// As fast as it can again.
    pub(crate) fn release(&mut self) {
        if let Some((file, number)) = self.throttle.take() {
            let _ = std::fs::write(file, format!("{number} 0"));
        }
    }

    /// The far part of the disk is not there any more: reading it is an I/O error.
    pub(crate) fn tear_off(&self, megabytes: u64) {
        let image = File::options()
            .write(true)
            .open(self.dir.path().join("image"));
        image.unwrap().set_len(megabytes << 20).unwrap();
    }

    /// A store with this disk alone, holding `objects`.
    pub(crate) fn store(&self, deadline: Duration, objects: &[(String, Vec<u8>)]) -> store::Handle {
        let disk = DiskConfig {
            path: self.mount_point(),
            class: DiskClass::Ssd,
            plain_directory: false,
        };
        store_on(disk, self.dir.path(), deadline, objects)
    }

    /// Forgets what is in memory of an object, from a byte on.
    pub(crate) fn forget(&self, object: &[u8], from: u64) {
        forget_in(&self.mount_point(), object, from);
    }
}

/// A store on a directory.
pub(crate) fn store_in(path: &Path, dir: &Path, objects: &[(String, Vec<u8>)]) -> store::Handle {
    let disk = DiskConfig {
        path: path.to_owned(),
        class: DiskClass::Ssd,
        plain_directory: true,
    };
    store_on(disk, dir, DEADLINE, objects)
}

fn store_on(
    disk: DiskConfig,
    dir: &Path,
    deadline: Duration,
    objects: &[(String, Vec<u8>)],
) -> store::Handle {
    let store = store::start(&store::Config {
        disks: vec![disk],
        state_dir: dir.join("state"),
        deadline,
    })
    .unwrap();
    let begun = clock::now();
    while !store.is_ready() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", store.view());
        clock::block_for(Duration::from_millis(5));
    }
    let mut rows = BTreeMap::new();
    for (key, bytes) in objects {
        let length = bytes.len() as u64;
        let mut publication = store
            .stage(key.as_bytes(), length, &BTreeSet::new())
            .unwrap();
        publication.write(bytes.clone()).unwrap();
        let published = publication.commit(None).unwrap();
        let binding = Binding {
            digest: published.digest,
            length,
            last_modified: 1_700_000_000,
            rank: 0,
        };
        rows.insert(Key::parse(key.as_bytes()).unwrap(), binding);
    }
    store.bind(&rows).unwrap();
    store
}

/// The file of an object.
pub(crate) fn object_file(disk: &Path, object: &[u8]) -> File {
    let name = Digest::of(object).to_string();
    let path = disk.join("objects").join(&name[..2]).join(&name[2..4]);
    File::open(path.join(name)).unwrap()
}

pub(crate) fn forget_in(disk: &Path, object: &[u8], from: u64) {
    let file = object_file(disk, object);
    page_cache::drop_cached(&file, from, 0).unwrap();
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        self.release();
        let quietly = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let _ = Command::new(program).args(arguments).output();
        };
        // Lazily: a test that failed may have left it in use.
        let mount = self.mount_point();
        quietly("umount", &["--lazy".as_ref(), mount.as_os_str()]);
        quietly("losetup", &["--detach".as_ref(), self.device.as_os_str()]);
    }
}
