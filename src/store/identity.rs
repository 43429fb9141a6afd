//! Whose disk is this? Mount point, `DISK.json`, blankness, format and lock.
//!
//! `volume` calls [`look`] for every disk side by side, compares the uuids, then [`claim`]s each.
//! A blank volume is formatted by whoever opens it first: the daemon or a prefill. Anything that is
//! neither blank nor ours is left exactly as it is. "Blank" means that reading succeeded and showed
//! nothing; an error is never blank.
//!
//! I/O: reads, formats and locks, on the disk's own thread.

use super::DiskConfig;
use super::layout;
use super::root;
use super::root::Root;
use super::root::Space;
use super::step::Probe;
use super::step::Step;
use crate::clock;
use crate::help;
use serde::Deserialize;
use serde::Serialize;
use std::io;
use std::io::Write;

/// The only format there is.
const FORMAT: u64 = 1;

/// `DISK.json` is 120 bytes; a larger file is not ours.
const DISK_FILE_BYTES_MAX: u64 = 4096;

/// What a mount of a fresh file system may show besides nothing; it is empty there.
const LOST_AND_FOUND: &str = "lost+found";

/// A disk that was looked at, not yet owned.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) root: Root,
    /// `None`: blank.
    pub(super) uuid: Option<String>,
    pub(super) space: Space,
}

/// Why a disk is not used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("cannot open the directory: {0}; mount the disk there or correct `path`")]
    Open(io::Error),
    #[error(
        "not a mount point, and filling it would fill the system disk: mount the disk, or set \
         `plain_directory = true` for a laboratory"
    )]
    NotMounted,
    #[error("cannot be read: {0}; check the disk and its file system")]
    Read(io::Error),
    #[error(
        "holds files that are not ours (for example `{0}`) and no DISK.json: empty it to let it \
         be formatted, or correct `path`"
    )]
    Foreign(String),
    #[error("DISK.json is damaged ({0}); restore it, or empty the disk to let it be formatted")]
    Damaged(String),
    #[error(
        "has format version {0} and is left untouched; this program knows version {FORMAT}: run \
         the release that wrote it"
    )]
    Version(u64),
    #[error("is blank: `oca disk format` makes it ours, and so does a restart")]
    Blank,
    #[error("is blank but mounted read-only; mount it for writing")]
    BlankReadOnly,
    #[error("is in use by another oca process{0}; stop that one, or send it the command")]
    Locked(String),
    #[error("has the same uuid as {0}: it is a copy or the same disk twice; remove one of them")]
    Duplicate(String),
    #[error("cannot be formatted: {0}; check the disk and its file system")]
    Format(io::Error),
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct DiskFile {
    format: u64,
    uuid: String,
    created: String,
}

/// Opens the volume and tells whose it is. Changes nothing.
pub(super) fn look(config: &DiskConfig) -> Result<Seen, IdentityError> {
    let root = Root::open(&config.path).map_err(IdentityError::Open)?;
    if !config.plain_directory && !root.is_mount_point().map_err(IdentityError::Read)? {
        return Err(IdentityError::NotMounted);
    }
    let space = root.space().map_err(IdentityError::Read)?;
    let uuid = read_uuid(&root)?;
    if uuid.is_none() && space.read_only {
        return Err(IdentityError::BlankReadOnly);
    }
    Ok(Seen { root, uuid, space })
}

/// Locks the volume, formats it if it is blank, completes its layout, tells its uuid.
pub(super) fn claim(seen: &Seen, probe: &Probe) -> Result<String, IdentityError> {
    if !seen.root.lock().map_err(IdentityError::Read)? {
        return Err(IdentityError::Locked(root::lock_holder(seen.root.top())));
    }
    // Another process may have formatted it between the look and the lock.
    let uuid = match read_uuid(&seen.root)? {
        Some(uuid) => uuid,
        None => format(&seen.root, probe).map_err(IdentityError::Format)?,
    };
    if !seen.space.read_only {
        layout::ensure(&seen.root).map_err(IdentityError::Format)?;
    }
    Ok(uuid)
}

fn read_uuid(root: &Root) -> Result<Option<String>, IdentityError> {
    match root.file(layout::DISK_FILE) {
        Ok(file) => {
            let bytes = root::read_small(&file, DISK_FILE_BYTES_MAX);
            parse(&bytes.map_err(IdentityError::Read)?).map(Some)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = root.dir(".").map_err(IdentityError::Read)?;
            let names = root::list(dir).map_err(IdentityError::Read)?;
            let foreign = |name: &&root::Name| match name.text.as_str() {
                layout::DISK_FILE_NEW => false,
                LOST_AND_FOUND => !name.is_dir,
                _ => true,
            };
            let mut found = names.iter().find(foreign).map(|name| name.text.clone());
            if found.is_none() && names.iter().any(|name| name.text == LOST_AND_FOUND) {
                found = rescued(root).map_err(IdentityError::Read)?;
            }
            match found {
                None => Ok(None),
                Some(name) => Err(IdentityError::Foreign(help::printable(name.as_bytes(), 60))),
            }
        }
        Err(error) => Err(IdentityError::Read(error)),
    }
}

/// A name of what a repair of the file system saved: somebody's files, which lost their names.
/// `mkfs` gives the directory to root alone; who is not root takes it for empty, as it is then.
fn rescued(root: &Root) -> io::Result<Option<String>> {
    let names = root.dir(LOST_AND_FOUND).and_then(root::list);
    match names {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
        Ok(names) => {
            let first = names.first();
            Ok(first.map(|name| format!("{LOST_AND_FOUND}/{}", name.text)))
        }
    }
}

fn parse(bytes: &[u8]) -> Result<String, IdentityError> {
    let damaged = |problem: &dyn std::fmt::Display| IdentityError::Damaged(problem.to_string());
    // The version comes first: a later format may have other fields.
    let FormatOnly { format } = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
    if format != FORMAT {
        return Err(IdentityError::Version(format));
    }
    let file: DiskFile = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
    if is_uuid(&file.uuid) {
        Ok(file.uuid)
    } else {
        Err(damaged(&"its uuid is not a uuid"))
    }
}

/// `DISK.json` comes first: killed after it, the rest of the layout is completed at the next start;
/// killed before it, the volume is still blank.
fn format(root: &Root, probe: &Probe) -> io::Result<String> {
    let uuid = fresh_uuid()?;
    let file = DiskFile {
        format: FORMAT,
        uuid: uuid.clone(),
        created: clock::wall().to_string(),
    };
    let mut text = serde_json::to_vec_pretty(&file)?;
    text.push(b'\n');
    root::remove(root.top(), layout::DISK_FILE_NEW)?;
    let mut new = root::create_in(root.top(), layout::DISK_FILE_NEW)?;
    new.write_all(&text)?;
    new.sync_all()?;
    probe.reached(Step::DiskFileSynced);
    root::rename(
        root.top(),
        layout::DISK_FILE_NEW,
        root.top(),
        layout::DISK_FILE,
    )?;
    root.top().sync_all()?;
    probe.reached(Step::DiskFileRenamed);
    Ok(uuid)
}

/// A random (version 4) UUID. RFC 9562 section 5.4.
fn fresh_uuid() -> io::Result<String> {
    let mut raw = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut raw).map_err(|_| io::Error::other("no random numbers"))?;
    raw[6] = (raw[6] & 0x0f) | 0x40;
    raw[8] = (raw[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in raw.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DiskClass;
    use proptest::prelude::*;
    use std::path::Path;

    fn config(path: &Path, plain_directory: bool) -> DiskConfig {
        DiskConfig {
            path: path.to_owned(),
            class: DiskClass::Ssd,
            zone: crate::store::Zone::None,
            plain_directory,
        }
    }

    fn refusal(path: &Path) -> String {
        look(&config(path, true)).unwrap_err().to_string()
    }

    #[test]
    fn a_blank_volume_is_formatted_once_and_then_known() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        std::fs::write(dir.path().join(layout::DISK_FILE_NEW), "left by a crash").unwrap();
        let seen = look(&config(dir.path(), true)).unwrap();
        assert_eq!(seen.uuid, None);
        let uuid = claim(&seen, &Probe::default()).unwrap();
        assert!(is_uuid(&uuid), "{uuid}");
        let again = look(&config(dir.path(), true)).unwrap();
        assert_eq!(again.uuid.as_deref(), Some(uuid.as_str()));
        let locked = claim(&again, &Probe::default()).unwrap_err().to_string();
        assert!(locked.contains("another oca process"), "{locked}");
        seen.root.unlock();
        assert_eq!(claim(&again, &Probe::default()).unwrap(), uuid);
    }

    #[test]
    fn what_is_not_ours_is_refused_with_the_remedy_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("wedding\n.jpg");
        std::fs::write(&file, "x").unwrap();
        assert!(refusal(dir.path()).contains("`wedding\\n.jpg`"));
        std::fs::remove_file(&file).unwrap();
        let disk = dir.path().join(layout::DISK_FILE);
        for (text, word) in [
            (r#"{"format":2,"layout":"log"}"#, "version 2"),
            (r#"{"format":1,"uuid":"x","created":""}"#, "not a uuid"),
            (r#"{"format":1}"#, "damaged"),
            ("", "damaged"),
        ] {
            std::fs::write(&disk, text).unwrap();
            let message = refusal(dir.path());
            assert!(message.contains(word), "{text}: {message}");
            assert_eq!(std::fs::read_to_string(&disk).unwrap(), text);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        std::fs::write(&disk, vec![b' '; 1_000_000]).unwrap();
        assert!(refusal(dir.path()).contains("larger than"));
        assert!(refusal(&dir.path().join("absent")).contains("mount the disk"));
        let plain = look(&config(dir.path(), false)).unwrap_err().to_string();
        assert!(plain.contains("plain_directory = true"), "{plain}");
    }

    #[test]
    fn a_disk_whose_files_a_repair_moved_to_lost_and_found_is_not_blank() {
        let dir = tempfile::tempdir().unwrap();
        let lost = dir.path().join(LOST_AND_FOUND);
        std::fs::create_dir(&lost).unwrap();
        std::fs::write(lost.join("#12"), "a wedding").unwrap();
        assert!(refusal(dir.path()).contains("`lost+found/#12`"));
        std::fs::remove_dir_all(&lost).unwrap();
        std::fs::write(&lost, "no directory").unwrap();
        assert!(refusal(dir.path()).contains("`lost+found`"));
    }

    proptest! {
        #[test]
        fn no_disk_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_json_panics(format in any::<i64>(), uuid in "\\PC{0,40}") {
            let text = serde_json::json!({"format": format, "uuid": uuid, "created": 1});
            prop_assert!(parse(text.to_string().as_bytes()).is_err());
        }
    }
}
