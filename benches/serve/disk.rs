//! A disk of the bench's own: ext4 on a loop device over memory, so that the flushes of a prefill
//! cost nothing; slow, where it is to be, by a control group that may read from it at a fixed rate.
//!
//! Needs root. The mount and the loop device go with their owner; in the mount namespace that
//! `benches/run` makes they go with the process, whatever ends it.
//!
//! I/O: makes a file system, mounts it, writes to /sys/fs/cgroup.

use anyhow::Context as _;
use oca::clock;
use oca::demo::Scratch;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// A process that was just killed may still be in the group or on the disk.
const REMOVE_TRIES: u32 = 40;

/// The image's file system in memory, where there is one with the room.
const MEMORY: &str = "/dev/shm";

/// Field order is drop order: the mount before the directory it is on.
#[derive(Debug)]
pub(crate) struct Disk {
    mount: Mount,
    group: Option<Group>,
    _scratch: Scratch,
}

#[derive(Debug)]
struct Image(PathBuf);

#[derive(Debug)]
struct Mount(PathBuf);

#[derive(Debug)]
struct Group(PathBuf);

impl Disk {
    /// `bytes` large; members of its group read `rate` bytes a second.
    pub(crate) fn make(bytes: u64, rate: Option<u64>) -> anyhow::Result<Self> {
        let scratch = Scratch::new("oca-bench")?;
        let place = scratch.path().join("d");
        fs::create_dir(&place)?;
        let image = match has_room(Path::new(MEMORY), bytes) {
            true => Path::new(MEMORY).join(format!("oca-bench-{}", std::process::id())),
            false => scratch.path().join("image"),
        };
        let image = Image(image);
        File::create(&image.0)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&image.0))?;
        let mount = ["-o", "loop,noatime"];
        run(Command::new("mount").args(mount).arg(&image.0).arg(&place))?;
        let mount = Mount(place);
        // The loop device holds it; without a name it goes with the device.
        drop(image);
        let device = nix::sys::stat::stat(&mount.0)?.st_dev;
        let major = nix::sys::stat::major(device);
        let minor = nix::sys::stat::minor(device);
        let group = rate.map(|rate| Group::make(&format!("{major}:{minor}"), rate));
        Ok(Self {
            group: group.transpose()?,
            mount,
            _scratch: scratch,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount.0
    }

    /// What a process writes its number to.
    pub(crate) fn group(&self) -> Option<PathBuf> {
        self.group
            .as_ref()
            .map(|group| group.0.join("cgroup.procs"))
    }
}

/// Room for all of it and as much again.
fn has_room(place: &Path, bytes: u64) -> bool {
    nix::sys::statvfs::statvfs(place)
        .is_ok_and(|found| found.blocks_available() * found.fragment_size() / 2 > bytes)
}

impl Group {
    fn make(device: &str, rate: u64) -> anyhow::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("oca-bench-{}", std::process::id());
        // Version 1 has a tree a controller, version 2 one for all.
        let (parent, file, rule) = match root.join("blkio").is_dir() {
            true => {
                let file = "blkio.throttle.read_bps_device";
                (root.join("blkio"), file, format!("{device} {rate}"))
            }
            false => {
                fs::write(root.join("cgroup.subtree_control"), "+io")
                    .context("no control group can throttle a disk here")?;
                (root.to_owned(), "io.max", format!("{device} rbps={rate}"))
            }
        };
        let group = Self(parent.join(name));
        fs::create_dir(&group.0)
            .with_context(|| format!("cannot make the control group {}", group.0.display()))?;
        fs::write(group.0.join(file), rule)
            .with_context(|| format!("cannot throttle {device} by {file}"))?;
        Ok(group)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // An error means that it was never made.
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        repeat(|| fs::remove_dir(&self.0).is_ok());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // `-o loop` lets the device go with the mount.
        let unmounted = repeat(|| run(Command::new("umount").arg(&self.0)).is_ok());
        if !unmounted {
            eprintln!("{} is still mounted; unmount it", self.0.display());
        }
    }
}

fn repeat(attempt: impl Fn() -> bool) -> bool {
    (0..REMOVE_TRIES).any(|_| {
        let done = attempt();
        if !done {
            clock::block_for(Duration::from_millis(50));
        }
        done
    })
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} is missing; install e2fsprogs and mount"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{name}: {}", said.trim());
    Ok(())
}
