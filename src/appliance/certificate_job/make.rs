//! Writes the certificate: the list first, beside it, because the first line has its digest.
//!
//! I/O: writes two files in the state directory, syncs, renames.

use super::Job;
use crate::clock;
use crate::fill::Certificate;
use crate::fill::Line;
use crate::fill::List;
use crate::key::Key;
use crate::link::message::Position;
use crate::store;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write as _;
use std::path::Path;

/// Rows that are asked for at once.
const PAGE_ROWS: usize = 10_000;

/// The manifest may become another one while the list is written.
const TRIES: u32 = 3;

/// Blocks.
pub(super) fn make(job: &Job) -> Result<Certificate, String> {
    let beside = job.path.with_extension("list");
    let made = made(job, &beside);
    // Of no use, whatever became of it.
    let _ = fs::remove_file(&beside);
    made
}

fn made(job: &Job, beside: &Path) -> Result<Certificate, String> {
    let identity = job.line.identity();
    let identity = identity.ok_or("this box is not enrolled, so that it has no name to sign as")?;
    let told = |error: io::Error| {
        let path = job.path.display();
        format!("{path}: {error}; check the state directory, and fill with --prefill again")
    };
    for _ in 0..TRIES {
        let position = position(&job.store).ok_or("no manifest was signed for this box")?;
        let list = list(&job.store, beside).map_err(told)?;
        if self::position(&job.store) != Some(position) {
            continue;
        }
        let made = format!("{:.0}", clock::wall());
        let certificate = list.certify(&identity, job.id.clone(), made, position);
        let certificate = certificate.map_err(|error| error.to_string())?;
        put(&job.path, &certificate, beside).map_err(told)?;
        return Ok(certificate);
    }
    Err("the manifest changed again and again; fill with --prefill again".to_owned())
}

fn position(store: &store::Handle) -> Option<Position> {
    let manifest = store.view().manifest.as_ref().map(|manifest| Position {
        epoch: manifest.epoch,
        generation: manifest.generation,
    });
    manifest.filter(|position| position.epoch > 0)
}

/// Every key in its order; what no disk holds is counted.
fn list(store: &store::Handle, beside: &Path) -> io::Result<List> {
    let (mut list, mut file) = (List::default(), BufWriter::new(File::create(beside)?));
    let mut after: Option<String> = None;
    loop {
        let rows = store.catalogue("", after.as_deref(), PAGE_ROWS);
        let Some(last) = rows.last() else {
            file.flush()?;
            return Ok(list);
        };
        after = Some(last.key.clone());
        for row in rows {
            if row.disk.is_none() {
                if row.rank != store::UNLISTED_RANK {
                    list.miss();
                }
                continue;
            }
            let key = Key::parse(row.key.as_bytes()).map_err(io::Error::other)?;
            let line = Line {
                digest: row.digest,
                length: row.bytes,
                key,
            };
            let text = list
                .add(line)
                .ok_or_else(|| io::Error::other("keys out of order"))?;
            file.write_all(text.as_bytes())?;
        }
    }
}

/// After a power failure the old certificate is there, or this one.
fn put(path: &Path, certificate: &Certificate, list: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    serde_json::to_writer(&file, certificate)?;
    file.write_all(b"\n")?;
    io::copy(&mut File::open(list)?, &mut file)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}
