//! The drain record on the OS disk: a drained box stays drained over a restart.
//!
//! Two lines: the record as JSON, and the BLAKE3 of that line. `appliance` loads it at its start
//! and saves it on a blocking task.
//!
//! A file that is there but cannot be believed counts as *drained for good*, with the reason in
//! the record's note: somebody who drained a box may have their hands in it, and an operator ends
//! a wrong drain with one command. A file that is not there means that nobody drained the box.
//!
//! I/O: reads, writes and syncs one small file.

use super::drain::Record;
use crate::durable;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

const NAME: &str = "drain.json";

/// Ours has some 200 bytes; a larger file is not one of ours.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// The record could not be made durable. The drain itself holds until the next restart.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: {error}; the state holds only until the daemon restarts: make the state \
         directory writable and give the command again"
)]
pub struct SaveError {
    path: PathBuf,
    error: io::Error,
}

/// What the last life left. Never fails: see the file's header.
pub fn load(state_dir: &Path) -> Record {
    let path = state_dir.join(NAME);
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Record::default(),
        Err(error) => return disbelieved(&path, &error.to_string()),
    };
    let parsed = text
        .split_once('\n')
        .filter(|(line, sum)| sum.trim_end() == blake3::hash(line.as_bytes()).to_hex().as_str())
        .ok_or_else(|| "its checksum does not match".to_owned())
        .and_then(|(line, _)| {
            serde_json::from_str(line).map_err(|error| format!("it is not ours ({error})"))
        });
    match parsed {
        Ok(record) => record,
        Err(problem) => disbelieved(&path, &problem),
    }
}

/// Writes the record beside the old one, syncs it and puts it in the old one's place.
pub fn save(state_dir: &Path, record: &Record) -> Result<(), SaveError> {
    let path = state_dir.join(NAME);
    let written = || -> io::Result<()> {
        let line = serde_json::to_string(record)?;
        let sum = blake3::hash(line.as_bytes()).to_hex();
        durable::replace(&path, format!("{line}\n{sum}\n").as_bytes(), 0o644)
    };
    written().map_err(|error| SaveError { path, error })
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(length).is_ok_and(|length| length <= FILE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(io::Error::other("it is too large to be ours"))
    }
}

fn disbelieved(path: &Path, problem: &str) -> Record {
    let path = path.display();
    Record {
        drained: true,
        since: None,
        until: None,
        note: Some(format!(
            "{path} cannot be believed: {problem}; if the box should serve, run `oca undrain`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained() -> Record {
        Record {
            drained: true,
            since: Some("2026-01-01T12:00:00Z".parse().unwrap()),
            until: Some("2026-01-01T15:00:00Z".parse().unwrap()),
            note: None,
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_a_box_never_drained_is_open() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Record::default());
        save(dir.path(), &drained()).unwrap();
        assert_eq!(load(dir.path()), drained());
        save(dir.path(), &Record::default()).unwrap();
        assert!(!load(dir.path()).drained);
        assert!(!dir.path().join("drain.json.new").exists());
    }

    #[test]
    fn a_damaged_file_keeps_the_box_drained_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &Record::default()).unwrap();
        let path = dir.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        for length in 0..good.len() - 1 {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(load(dir.path()).drained, "cut at {length}");
        }
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let record = load(dir.path());
            assert!(record.drained, "flipped at {at}");
            assert!(record.note.unwrap().contains("oca undrain"));
        }
        std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert!(load(dir.path()).note.unwrap().contains("too large"));
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_told_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = save(&dir.path().join("missing"), &drained()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("make the state directory writable")
        );
    }
}
