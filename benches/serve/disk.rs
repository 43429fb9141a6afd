//! A slow disk: ext4 on a loop device, and a control group that may read from it at a fixed rate.
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

/// Field order is drop order: the mount before the directory it is on.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    mount: Mount,
    group: Group,
    _scratch: Scratch,
}

#[derive(Debug)]
struct Mount(PathBuf);

#[derive(Debug)]
struct Group(PathBuf);

impl SlowDisk {
    /// `bytes` large; members of its group read `rate` bytes a second.
    pub(crate) fn make(bytes: u64, rate: u64) -> anyhow::Result<Self> {
        let scratch = Scratch::new("oca-bench")?;
        let image = scratch.path().join("image");
        File::create(&image)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        let place = scratch.path().join("d");
        fs::create_dir(&place)?;
        let mount = ["mount", "-o", "loop,noatime"];
        run(Command::new(mount[0])
            .args(&mount[1..])
            .arg(&image)
            .arg(&place))?;
        let mount = Mount(place);
        let device = nix::sys::stat::stat(&mount.0)?.st_dev;
        let major = nix::sys::stat::major(device);
        let minor = nix::sys::stat::minor(device);
        Ok(Self {
            group: Group::make(&format!("{major}:{minor}"), rate)?,
            mount,
            _scratch: scratch,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount.0
    }

    /// What a process writes its number to.
    pub(crate) fn group(&self) -> PathBuf {
        self.group.0.join("cgroup.procs")
    }
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
