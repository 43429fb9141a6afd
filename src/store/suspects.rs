//! Flushes that failed: the disk is remembered in the state directory until somebody looks, and the
//! file is kept in its quarantine.
//!
//! The kernel tells a failed flush once and may have dropped the data: after a restart nothing
//! would show it. `core` records, `open` asks before a disk is scanned. `suspect-<uuid>.json` is
//! removed on an operator's word only (`recheck`); a replaced disk has another uuid and is not
//! concerned.
//!
//! I/O: writes and reads small files of the state directory; renames, on the disk's own thread.

use super::copies::StateDir;
use super::layout;
use super::root;
use super::volume::Volume;
use crate::clock;
use serde_json::Value;
use serde_json::json;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// A record has some 200 bytes.
const RECORD_BYTES_MAX: u64 = 4096;

/// A disk is suspect after its first: more come only from operators who put it back each time.
const EVIDENCE_MAX: u32 = 1000;

fn path(state_dir: &StateDir, uuid: &str) -> PathBuf {
    state_dir.path.join(format!("suspect-{uuid}.json"))
}

pub(super) fn reason(what: &str) -> String {
    format!("{what}, so written data may be lost; replace the disk")
}

/// Remembers a failed flush. The first record of a disk stays.
pub(super) fn record(state_dir: &StateDir, uuid: &str, disk: &str, error: &io::Error) {
    let path = path(state_dir, uuid);
    let record = json!({
        "v": 1,
        "uuid": uuid,
        "disk": disk,
        "since": clock::wall().to_string(),
        "reason": format!("a flush failed: {error}"),
    });
    let kept = File::create_new(&path).and_then(|mut file| {
        writeln!(file, "{record}")?;
        file.sync_all()?;
        state_dir.dir.sync_all()
    });
    match kept {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => tracing::error!(
            disk,
            %error,
            "disk {disk}: that a flush failed cannot be kept in {}: {error}; do not restart \
             before the disk is replaced",
            path.display()
        ),
        Ok(()) => {}
    }
}

/// Why a disk stays out of service, if a flush of an earlier process failed. A record that cannot
/// be read counts: nobody removed it.
pub(super) fn recorded(state_dir: &StateDir, uuid: &str) -> Option<String> {
    let path = path(state_dir, uuid);
    let mut text = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(RECORD_BYTES_MAX).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Ok(_) | Err(_) => {}
    }
    let record: Value = serde_json::from_slice(&text).unwrap_or_default();
    let text = |name: &str| {
        let text = record[name].as_str().unwrap_or("unknown");
        crate::help::printable(text.as_bytes(), 200)
    };
    let (since, why) = (text("since"), text("reason"));
    let told = reason(&format!("recorded at {since}: {why}"));
    let path = path.display();
    Some(format!(
        "{told}, or check it and say `oca disk check` (recorded in {path})"
    ))
}

/// Somebody looked at the disk, and it can be used: durably no suspect any more.
pub(super) fn absolve(state_dir: &StateDir, uuid: &str) -> io::Result<()> {
    match std::fs::remove_file(path(state_dir, uuid)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => state_dir.dir.sync_all(),
    }
}

/// Moves a file whose flush failed where nobody takes it for good.
pub(super) fn keep_evidence(volume: &Volume, name: &str, error: &io::Error) {
    match try_keep_evidence(volume, name, error) {
        Ok(()) => {
            volume.tally.quarantined.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => {
            tracing::warn!(name, %error, "cannot move the unflushed file to quarantine: {error}");
        }
    }
}

fn try_keep_evidence(volume: &Volume, name: &str, error: &io::Error) -> io::Result<()> {
    let root = volume.root()?;
    let staging = root.dir(layout::STAGING)?;
    let quarantine = root.dir(layout::QUARANTINE)?;
    // Names in staging begin again with each process; evidence is never overwritten.
    for number in 0..EVIDENCE_MAX {
        let kept = format!("flush-{number}");
        match root::create_in(&quarantine, &format!("{kept}.reason")) {
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(mut file) => {
                writeln!(file, "{} a flush failed: {error}", clock::wall())?;
                return root::rename(&staging, name, &quarantine, &kept);
            }
        }
    }
    Err(io::Error::other("there is much evidence already"))
}
