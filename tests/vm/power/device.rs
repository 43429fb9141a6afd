//! Disks of memory behind the device-mapper, and file systems on them.
//!
//! No udev runs in the guest: a mapped disk is known by its number.
//!
//! I/O: loads modules, runs `dmsetup` and `mkfs`, mounts.

use crate::stage;
use crate::support::finished;
use crate::support::peer;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use oca::clock;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Of a file system, 384 MiB: XFS wants 300. Memory is taken by what is written.
pub(crate) const SECTORS: u64 = 786_432;

/// The file systems of a box, side by side on one disk: no journal of one commits what another was
/// to commit. They share that disk's cache: what one has written past its own is durable with the
/// next flush of any.
const PARTS: [&str; 3] = ["state", "disk0", "disk1"];
pub(crate) const BOX_SECTORS: u64 = SECTORS * PARTS.len() as u64;

const MODULES: &[&str] = &[
    "-a",
    "dm-mod",
    "dm-log-writes",
    "dm-snapshot",
    "dm-flakey",
    "dm-dust",
];

/// A mapped disk is busy for a moment after its last user has gone.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

/// Blank disks of memory, whatever was there before.
pub(crate) fn blank_disks() {
    if Path::new("/dev/ram0").exists() {
        finished(Command::new("rmmod").arg("brd"));
    }
    let kib = format!("rd_size={}", BOX_SECTORS / 2);
    stage::load(&["brd", "rd_nr=4", &kib]);
    stage::load(MODULES);
}

pub(crate) fn ram(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/ram{number}"))
}

/// The whole of a disk as it is.
pub(crate) fn linear(below: &Path) -> String {
    format!("0 {SECTORS} linear {} 0", below.display())
}

/// A mapped disk. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Mapped {
    name: &'static str,
    pub node: PathBuf,
}

impl Mapped {
    pub(crate) fn new(name: &'static str, table: &str) -> Self {
        dmsetup(&["create", name, "--table", table]);
        let numbers = fs::read_dir("/sys/block").unwrap();
        let mut numbers = numbers.map(|entry| entry.unwrap().path());
        let own = numbers.find(|path| {
            let told = fs::read_to_string(path.join("dm/name")).unwrap_or_default();
            told.trim_end() == name
        });
        let node = Path::new("/dev").join(own.unwrap().file_name().unwrap());
        Self { name, node }
    }

    pub(crate) fn tell(&self, message: &[&str]) {
        dmsetup(&[&["message", self.name, "0"], message].concat());
    }

    /// Another table, under the mounted file system.
    pub(crate) fn becomes(&self, table: &str) {
        dmsetup(&["suspend", "--nolockfs", "--noflush", self.name]);
        dmsetup(&["reload", self.name, "--table", table]);
        dmsetup(&["resume", self.name]);
    }
}

/// A box's file systems, mounted below one directory by their names.
#[derive(Debug)]
pub(crate) struct Parts {
    // Unmounted first.
    mounts: Vec<Mounted>,
    _mapped: Vec<Mapped>,
}

impl Parts {
    /// On `disk`, which has [`BOX_SECTORS`]; made first if they are `new`.
    pub(crate) fn mount(kind: FileSystem, disk: &Path, at: &Path, new: bool) -> Self {
        let mapped: Vec<Mapped> = { PARTS.into_iter().zip(0..) }
            .map(|(name, number)| {
                let (disk, from) = (disk.display(), number * SECTORS);
                Mapped::new(name, &format!("0 {SECTORS} linear {disk} {from}"))
            })
            .collect();
        let mounts = mapped.iter().map(|part| {
            if new {
                kind.make(&part.node);
            }
            kind.mount(&part.node, &at.join(part.name))
        });
        Self {
            mounts: mounts.collect(),
            _mapped: mapped,
        }
    }

    /// All that was written is on the disk.
    pub(crate) fn sync(&self) {
        for Mounted(at) in &self.mounts {
            nix::unistd::syncfs(fs::File::open(at).unwrap()).unwrap();
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            let removed = command(&["remove", self.name]).output();
            if removed.is_ok_and(|output| output.status.success()) {
                return;
            }
            clock::block_for(PAUSE);
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = peer("dmsetup", "dmsetup");
    command.env("DM_DISABLE_UDEV", "1").args(arguments);
    command
}

fn dmsetup(arguments: &[&str]) {
    finished(&mut command(arguments));
}

impl FileSystem {
    /// All of it at once: nothing is left to a thread of the kernel.
    pub(crate) fn make(self, node: &Path) {
        const WHOLE: &str = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        let mut command = match self {
            Self::Ext4 => {
                let mut command = peer("mkfs.ext4", "e2fsprogs");
                command.args(["-q", "-F", "-b", "4096", "-E", WHOLE]);
                command
            }
            Self::Xfs => {
                let mut command = peer("mkfs.xfs", "xfsprogs");
                command.args(["-q", "-f", "-K"]);
                command
            }
        };
        finished(command.arg(node));
    }

    pub(crate) fn mount(self, node: &Path, at: &Path) -> Mounted {
        self.mount_with(node, at, None)
    }

    /// With options of the file system.
    pub(crate) fn mount_with(self, node: &Path, at: &Path, options: Option<&str>) -> Mounted {
        fs::create_dir_all(at).unwrap();
        let kind = match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        };
        let mounted = nix::mount::mount(Some(node), at, Some(kind), MsFlags::MS_NOATIME, options);
        mounted.unwrap_or_else(|error| panic!("{kind} on {}: {error}", node.display()));
        Mounted(at.to_owned())
    }
}

/// Dropping it unmounts.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            match nix::mount::umount2(&self.0, MntFlags::empty()) {
                Err(nix::errno::Errno::EBUSY) => clock::block_for(PAUSE),
                Ok(()) | Err(_) => return,
            }
        }
    }
}
