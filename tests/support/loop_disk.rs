//! A disk of ours: ext4 in a file, mounted through a loop device, which can be slow (throttled by
//! the blkio controller of cgroup v1), tell how much was read from it, and lose its bytes.
//!
//! Used by `#[path = "../support/loop_disk.rs"] mod loop_disk;`. Needs root; what is missing is a
//! failure that says so.
//!
//! I/O: loop devices, mounts and a throttle for them alone; dropping a [`LoopDisk`] removes all
//! but the file.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "support code of tests is a test"
)]

use oca::sys::page_cache;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const THROTTLE: &str = "blkio.throttle.read_bps_device";

/// What the kernel counts in, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// A mounted loop device. Dropping it unmounts and detaches it.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    image: PathBuf,
    place: PathBuf,
    device: PathBuf,
    /// The file of the limit, and the device's number in it.
    throttle: Option<(PathBuf, String)>,
}

impl LoopDisk {
    /// Makes the file `image` and mounts it at the directory `place`.
    pub(crate) fn mount(image: &Path, place: &Path, megabytes: u64) -> Self {
        File::create(image)
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        let text = image.to_str().unwrap();
        // No journal: nothing writes by itself.
        run("mkfs.ext4", &["-q", "-F", "-O", "^has_journal", text]);
        let device = PathBuf::from(run("losetup", &["--find", "--show", text]));
        let disk = Self {
            image: image.to_owned(),
            place: place.to_owned(),
            device,
            throttle: None,
        };
        let (device, place) = (&disk.device, &disk.place);
        // A flush of this disk need not wait for the machine's: no test here cuts the power.
        run(
            "mount",
            &[
                "-o",
                "barrier=0",
                device.to_str().unwrap(),
                place.to_str().unwrap(),
            ],
        );
        disk
    }

    /// Nothing that its files hold is in memory. (To mount it anew would not do: whoever made a
    /// namespace of mounts meanwhile has it still, with its pages.)
    pub(crate) fn forget(&self) {
        forget(&self.place);
    }

    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Reads from the disk no faster than this from here on, by the group this process is in.
    pub(crate) fn throttle(&mut self, bytes_per_second: u64) {
        let (file, number) = match self.throttle.take() {
            Some(set) => set,
            None => (throttle_file(), self.number()),
        };
        std::fs::write(&file, format!("{number} {bytes_per_second}")).unwrap();
        self.throttle = Some((file, number));
    }

    /// As fast as it can again.
    pub(crate) fn release(&mut self) {
        if let Some((file, number)) = self.throttle.take() {
            let _ = std::fs::write(file, format!("{number} 0"));
        }
    }

    /// Bytes that were read from the disk since it was made.
    pub(crate) fn bytes_read(&self) -> u64 {
        let text = std::fs::read_to_string(self.about("stat")).unwrap();
        // Documentation/block/stat.rst: the third number is read sectors.
        let sectors: u64 = text
            .split_whitespace()
            .nth(2)
            .and_then(|number| number.parse().ok())
            .unwrap();
        sectors * SECTOR_BYTES
    }

    /// The far part of the disk is not there any more: reading it is an I/O error.
    pub(crate) fn tear_off(&self, from_megabytes: u64) {
        nix::unistd::syncfs(File::open(&self.place).unwrap()).unwrap();
        let file = File::options().write(true).open(&self.image).unwrap();
        file.set_len(from_megabytes << 20).unwrap();
        // A write behind its end would make the file longer, and its middle read as zeros: a disk
        // that lies, where one that fails is wanted.
        run("chattr", &["+i", self.image.to_str().unwrap()]);
    }

    fn number(&self) -> String {
        let number = std::fs::read_to_string(self.about("dev")).unwrap();
        number.trim().to_owned()
    }

    fn about(&self, what: &str) -> PathBuf {
        let name = self.device.file_name().unwrap();
        Path::new("/sys/block").join(name).join(what)
    }
}

/// Nothing that the files of this mount hold is in memory.
pub(crate) fn forget(place: &Path) {
    nix::unistd::syncfs(File::open(place).unwrap()).unwrap();
    let mut places = vec![place.to_owned()];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(place).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                places.push(entry.path());
            } else if kind.is_file() {
                let file = File::open(entry.path()).unwrap();
                page_cache::drop_cached(&file, 0, 0).unwrap();
            }
        }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        self.release();
        let quietly = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let _ = Command::new(program).args(arguments).output();
        };
        quietly("chattr", &["-i".as_ref(), self.image.as_os_str()]);
        // Lazily: a test that failed may have left it in use.
        quietly("umount", &["--lazy".as_ref(), self.place.as_os_str()]);
        quietly("losetup", &["--detach".as_ref(), self.device.as_os_str()]);
    }
}

/// Where the limit of this process's group is written.
fn throttle_file() -> PathBuf {
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
    [group.trim_start_matches('/'), ""]
        .map(|group| root.join(group).join(THROTTLE))
        .into_iter()
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("{THROTTLE} is missing below {}", root.display()))
}

/// Runs a tool; what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}; install it with: apt-get install mount e2fsprogs util-linux")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {said}(tests with a disk of their own need root and loop devices; those that fall ill, /dev/fuse)"
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
