//! Replaces a small file so that after a power failure the old one is there, or the new one.
//!
//! For state of ours outside the volumes: keys, certificates, records. `store` has its own, which
//! works through descriptors of a volume.
//!
//! I/O: writes and syncs one small file and its directory, blocks.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Written beside as `NAME.new`, synced, renamed, the directory synced. `mode` holds whatever the
/// old file, or one that a cut-short replacement left, had.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    beside.push(".new");
    let beside = path.with_file_name(beside);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // `create_new`: the mode counts only for a file that is made here.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_file_is_replaced_and_what_a_cut_short_write_left_gives_it_neither_bytes_nor_mode() {
        let directory = tempfile::tempdir().unwrap();
        let (path, beside) = (
            directory.path().join("key"),
            directory.path().join("key.new"),
        );
        std::fs::write(&path, b"old").unwrap();
        std::fs::write(&beside, b"half of a longer text").unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"whole", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!beside.exists());
    }
}
