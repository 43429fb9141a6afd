//! Which volumes are parts of one device, and so go together when it fails.
//!
//! I/O: reads links of `/sys/dev/block`.

use super::super::volume::Volume;
use nix::sys::stat::major;
use nix::sys::stat::minor;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// Layers of device-mapper that are looked through.
const LAYERS_MAX: u32 = 8;

/// A number for each volume: those of one device have that of its first. What cannot be told apart
/// is taken for a device of its own, and so is a plain directory, which is a laboratory's disk.
pub(super) fn numbers(volumes: &[Arc<Volume>]) -> Vec<u16> {
    let devices: Vec<Option<PathBuf>> = volumes.iter().map(|volume| device(volume)).collect();
    let first = |device: &PathBuf| devices.iter().position(|d| d.as_ref() == Some(device));
    { volumes.iter().zip(&devices) }
        .map(|(volume, device)| {
            let first = device.as_ref().and_then(first);
            let first = first.and_then(|at| volumes.get(at));
            first.map_or(volume.number, |first| first.number)
        })
        .collect()
}

fn device(volume: &Volume) -> Option<PathBuf> {
    if volume.config.plain_directory {
        return None;
    }
    let number = volume.root().ok()?.device().ok()?;
    // File systems that lie on no one device have no such link.
    let link = format!("/sys/dev/block/{}:{}", major(number), minor(number));
    Some(whole(std::fs::canonicalize(link).ok()?))
}

/// The disk of a partition, and of what lies on nothing but that.
fn whole(mut device: PathBuf) -> PathBuf {
    for _ in 0..LAYERS_MAX {
        if device.join("partition").exists() {
            device.pop();
        }
        match only_below(&device) {
            Some(below) => device = below,
            None => break,
        }
    }
    device
}

/// Of a mapped device, the one that it lies on, if it is one.
fn only_below(device: &Path) -> Option<PathBuf> {
    let mut below = std::fs::read_dir(device.join("slaves")).ok()?;
    let only = below.next()?.ok()?;
    match below.next() {
        Some(_) => None,
        None => std::fs::canonicalize(only.path()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_partition_and_what_is_mapped_onto_it_are_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let make = |path: &str| std::fs::create_dir_all(top.join(path)).unwrap();
        make("sda/sda1");
        make("sda/slaves");
        make("sda/sda2");
        make("sdb");
        for part in ["sda1", "sda2"] {
            std::fs::write(top.join("sda").join(part).join("partition"), "1").unwrap();
        }
        make("dm-0/slaves");
        symlink(top.join("sda/sda2"), top.join("dm-0/slaves/sda2")).unwrap();
        // Over two disks: a device of its own.
        make("dm-1/slaves");
        symlink(top.join("sda/sda2"), top.join("dm-1/slaves/sda2")).unwrap();
        symlink(top.join("sdb"), top.join("dm-1/slaves/sdb")).unwrap();
        for (device, expected) in [
            ("sda", "sda"),
            ("sda/sda1", "sda"),
            ("dm-0", "sda"),
            ("dm-1", "dm-1"),
            ("sdb", "sdb"),
        ] {
            assert_eq!(whole(top.join(device)), top.join(expected), "{device}");
        }
    }
}
