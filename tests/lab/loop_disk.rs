//! A disk of ours: an ext4 file system in a file, mounted through a loop device, which can lose
//! its bytes while it is in use.
//!
//! Needs root, `mkfs.ext4` and `mount`. Dropping it unmounts.
//!
//! I/O: writes a file, mounts it.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const BYTES: u64 = 256 << 20;

/// What is left of a disk that loses its bytes: the first groups, so that the file system is there
/// and what it holds is not.
const LEFT_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct LoopDisk {
    image: PathBuf,
    place: PathBuf,
}

impl LoopDisk {
    pub(crate) fn mount(image: &Path, place: &Path) -> Self {
        File::create(image).unwrap().set_len(BYTES).unwrap();
        let (image_text, place_text) = (image.to_str().unwrap(), place.to_str().unwrap());
        run("mkfs.ext4", "e2fsprogs", &["-q", "-F", image_text]);
        run("mount", "mount", &["-o", "loop", image_text, place_text]);
        Self {
            image: image.to_owned(),
            place: place.to_owned(),
        }
    }

    /// From here on reads of what is not in memory fail with EIO.
    pub(crate) fn lose_its_bytes(&self) {
        let file = File::options().write(true).open(&self.image).unwrap();
        nix::unistd::sync();
        file.set_len(LEFT_BYTES).unwrap();
        // A write behind its end would make the file longer, and its middle read as zeros: a disk
        // that lies, where one that fails is wanted.
        run("chattr", "e2fsprogs", &["+i", self.image.to_str().unwrap()]);
        std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let image = self.image.to_str().unwrap();
        let _ = Command::new("chattr").args(["-i", image]).status();
        // Lazily: the box may have files of it open.
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

fn run(program: &str, package: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|_| {
        panic!("{program} is missing; install it with: apt-get install {package}")
    });
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}; this test needs root",
        String::from_utf8_lossy(&output.stderr)
    );
}
