//! `index.snapshot`: what lies on a disk, written by a clean stop, believed once by the next start.
//!
//! ```text
//! stop ─ the disk's last call ─ is the index complete? ─ written, flushed, named
//! start ─ named? ─ the name is removed, durably ─ whole, of this disk, of this state? ─ the index
//!                                              └─ no: a line in the log, and the scan
//! ```
//! The name goes before anything on the disk can change, so whatever a crash leaves behind, a
//! snapshot that is there is true. `scan` takes it, `volume` has it written after all other calls
//! of the disk. What it says is looked at again behind the viewers (`compare`).
//!
//! Little-endian: magic (8), version (4), the disk's uuid (36), when `staging/` changed last
//! (seconds 8, nanoseconds 8), count (8); by digest: digest (32) and length (8); then the BLAKE3 of
//! everything before. A release that changes the form writes the older one until all boxes can read
//! the other. One that knows no snapshots, or another form, leaves none that a later one believes:
//! it publishes through `staging/`, or removes the name.
//!
//! I/O: reads and writes one file a disk, on the disk's own thread.

use super::copies::BLOCK_BYTES;
use super::core::Shared;
use super::index::IndexError;
use super::lane::Pulse;
use super::layout;
use super::root;
use super::sidecar::OBJECT_BYTES_MAX;
use super::step::Step;
use super::volume::Volume;
use crate::clock;
use crate::object::Digest;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const MAGIC: [u8; 8] = *b"OCA-INDX";
const VERSION: u32 = 1;
const UUID_BYTES: usize = 36;
const HEAD_BYTES: usize = 8 + 4 + UUID_BYTES + 8 + 8 + 8;
const ROW_BYTES: usize = 32 + 8;
const CHECKSUM_BYTES: usize = 32;

/// Rows between two looks at the disk's deadline.
const ROWS_A_BEAT: usize = 16 * 1024;

/// Why a snapshot is not believed. The disk is scanned instead.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no regular file")]
    Foreign,
    #[error("it is no snapshot of this program")]
    Magic,
    #[error("it has format version {0}, and this program knows {VERSION}")]
    Version(u32),
    #[error("it is {found} bytes long and should be {expected}")]
    Size { found: u64, expected: u64 },
    #[error("it is of disk {0}")]
    OtherDisk(String),
    #[error("something was staged on the disk after it was written")]
    Staged,
    #[error("damaged objects lie on the disk, which it does not know")]
    Damaged,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its row {0} is none")]
    Row(u64),
    #[error("{0}")]
    Index(#[from] IndexError),
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    uuid: String,
    staged: (i64, i64),
    count: u64,
}

/// Writes the snapshot of a disk that is all known and all well. The last call of its thread.
pub(super) fn write(shared: &Shared, volume: &Volume, pulse: &Pulse) {
    let disk = volume.name();
    let started = clock::now();
    match try_write(shared, volume, pulse) {
        Ok(Some(objects)) => {
            let ms = millis(started.elapsed());
            tracing::info!(
                disk,
                objects,
                ms,
                "disk {disk}: {objects} objects written down"
            );
        }
        Ok(None) => {}
        Err(error) => {
            let hint = "the next start scans it";
            tracing::warn!(disk, %error, "disk {disk}: no snapshot of its index: {error}; {hint}");
            shared.note_write_error(volume, &error);
        }
    }
}

fn try_write(shared: &Shared, volume: &Volume, pulse: &Pulse) -> io::Result<Option<u64>> {
    let Some(home) = volume.home() else {
        return Ok(None);
    };
    if !volume.state().is_writable() {
        return Ok(None);
    }
    let mut rows = shared.index.objects_on(volume.number);
    rows.sort_unstable();
    // Asked after the rows were taken: who forgets one notes it first.
    if !volume.census.is_complete() {
        let disk = volume.name();
        let why = "some of its objects are in doubt";
        tracing::info!(
            disk,
            "disk {disk}: no snapshot of its index: {why}; the next start scans"
        );
        return Ok(None);
    }
    let reached = |step| {
        shared.probe.reached(step);
        pulse.beat(volume.flush_patience());
    };
    let root = volume.root()?;
    let head = Head {
        uuid: home.uuid.clone(),
        staged: staged(&root.dir(layout::STAGING)?)?,
        count: rows.len() as u64,
    };
    let top = root.top();
    root::remove(top, layout::SNAPSHOT_NEW)?;
    let file = root::create_in(top, layout::SNAPSHOT_NEW)?;
    let beat = || pulse.beat(volume.flush_patience());
    let failed = |error: &io::Error| shared.flush_failed(volume, error);
    let written = encode(&file, &head, &rows, &beat).inspect_err(|_| {
        // A full disk gets its room back.
        let _ = root::remove(top, layout::SNAPSHOT_NEW);
    });
    written?;
    reached(Step::SnapshotWritten);
    file.sync_all().inspect_err(failed)?;
    reached(Step::SnapshotSynced);
    if !volume.census.decide() {
        // Whoever stopped did not wait: by this time the disk may be another process's.
        return Err(io::Error::other("it took too long"));
    }
    root::rename(top, layout::SNAPSHOT_NEW, top, layout::SNAPSHOT)?;
    reached(Step::SnapshotRenamed);
    top.sync_all().inspect_err(failed)?;
    reached(Step::SnapshotDirectorySynced);
    Ok(Some(head.count))
}

fn encode(file: &File, head: &Head, rows: &[(Digest, u64)], beat: &dyn Fn()) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BLOCK_BYTES, file);
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        out.write_all(bytes)
    };
    put(&head.encode())?;
    let mut block = Vec::with_capacity(ROWS_A_BEAT * ROW_BYTES);
    for rows in rows.chunks(ROWS_A_BEAT) {
        beat();
        block.clear();
        for (digest, length) in rows {
            block.extend_from_slice(&digest.0);
            block.extend_from_slice(&length.to_le_bytes());
        }
        put(&block)?;
    }
    out.write_all(hasher.finalize().as_bytes())?;
    out.flush()
}

/// Takes the disk's snapshot, if there is one and it is true, into the index. `None`: the disk is
/// to be scanned. From here on the disk has none. An error: its name cannot be removed, and what it
/// says would not stay true.
pub(super) fn take(shared: &Shared, volume: &Volume, pulse: &Pulse) -> io::Result<Option<u64>> {
    let root = volume.root()?;
    let (top, disk) = (root.top(), volume.name());
    pulse.beat(volume.flush_patience());
    let found = match root::open_file(top, layout::SNAPSHOT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found,
    };
    // A disk that nobody can change keeps it.
    if !root.space()?.read_only {
        match root::remove(top, layout::SNAPSHOT) {
            // Somebody's directory: nothing that could be believed, now or later.
            Err(error) if error.raw_os_error() == Some(libc::EISDIR) => return Ok(None),
            // Turned so by itself just then.
            Err(error) if root::is_read_only(&error) => {}
            removed => removed?,
        }
        let synced = top.sync_all();
        synced.inspect_err(|error| shared.flush_failed(volume, error))?;
        shared.probe.reached(Step::SnapshotRemoved);
    }
    let beat = || pulse.beat(volume.deadline());
    let loaded = found
        .map_err(SnapshotError::from)
        .and_then(|file| load(shared, volume, &file, &beat));
    match loaded {
        Ok(objects) => Ok(Some(objects)),
        Err(error) => {
            let hint = "the disk is scanned";
            tracing::warn!(disk, %error, "disk {disk}: its snapshot is ignored: {error}; {hint}");
            Ok(None)
        }
    }
}

/// Reads it twice: first to believe it, then to take it.
fn load(
    shared: &Shared,
    volume: &Volume,
    file: &File,
    beat: &dyn Fn(),
) -> Result<u64, SnapshotError> {
    let home = volume.home();
    let uuid = home.map(|home| home.uuid.clone()).unwrap_or_default();
    let staging = volume.root()?.dir(layout::STAGING)?;
    if volume.damaged.told().is_some() {
        return Err(SnapshotError::Damaged);
    }
    let head = decode(file, beat, &mut |_, _| Ok(()))?;
    if head.uuid != uuid {
        return Err(SnapshotError::OtherDisk(head.uuid));
    }
    if head.staged != staged(&staging)? {
        return Err(SnapshotError::Staged);
    }
    // What a disk held that is back in service stays until a scan has ended.
    let had = had_before(shared, volume);
    let taken = decode(file, beat, &mut |digest, length| {
        let number = shared.index.number(digest, length)?;
        shared.add_scanned(number, length, volume);
        Ok(())
    });
    taken.map(|head| head.count).inspect_err(|_| {
        // Another disk knows an object with another length, or the disk read something else now.
        for (digest, _) in shared.index.objects_on(volume.number) {
            beat();
            if !had.contains(&digest) {
                shared.forget_scanned(digest, volume);
            }
        }
    })
}

/// Nothing, but on a disk that is back in service.
fn had_before(shared: &Shared, volume: &Volume) -> BTreeSet<Digest> {
    let rows = shared.index.objects_on(volume.number).into_iter();
    rows.map(|(digest, _)| digest).collect()
}

/// Reads a whole snapshot and tells `each` of its rows. What it told counts only if it returns
/// well.
fn decode(
    mut file: &File,
    beat: &dyn Fn(),
    each: &mut dyn FnMut(Digest, u64) -> Result<(), SnapshotError>,
) -> Result<Head, SnapshotError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(SnapshotError::Foreign);
    }
    file.rewind()?;
    let mut input = BufReader::with_capacity(BLOCK_BYTES, file);
    let mut hasher = blake3::Hasher::new();
    let mut bytes = [0; HEAD_BYTES];
    input.read_exact(&mut bytes)?;
    hasher.update(&bytes);
    let head = Head::decode(&bytes)?;
    let rows = head.count.saturating_mul(ROW_BYTES as u64);
    let expected = rows.saturating_add((HEAD_BYTES + CHECKSUM_BYTES) as u64);
    if metadata.len() != expected {
        let found = metadata.len();
        return Err(SnapshotError::Size { found, expected });
    }
    let mut before: Option<Digest> = None;
    let mut block = [0; ROW_BYTES];
    for row in 0..head.count {
        if row.is_multiple_of(ROWS_A_BEAT as u64) {
            beat();
        }
        input.read_exact(&mut block)?;
        hasher.update(&block);
        let (digest, length) = row_of(&block);
        if length > OBJECT_BYTES_MAX || before.is_some_and(|before| before >= digest) {
            return Err(SnapshotError::Row(row));
        }
        before = Some(digest);
        each(digest, length)?;
    }
    let mut checksum = [0; CHECKSUM_BYTES];
    input.read_exact(&mut checksum)?;
    match hasher.finalize().as_bytes() == &checksum {
        true => Ok(head),
        false => Err(SnapshotError::Checksum),
    }
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(self.uuid.as_bytes());
        bytes.extend_from_slice(&self.staged.0.to_le_bytes());
        bytes.extend_from_slice(&self.staged.1.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes
    }

    /// The checksum is looked at last: these may be anything.
    fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, SnapshotError> {
        let (magic, rest) = bytes.split_at(8);
        let (version, rest) = rest.split_at(4);
        let (uuid, numbers) = rest.split_at(UUID_BYTES);
        let version = u32::from_le_bytes(version.try_into().unwrap_or_default());
        if magic != MAGIC {
            return Err(SnapshotError::Magic);
        }
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let number = |at: usize| {
            let bytes = numbers.get(at * 8..at * 8 + 8).unwrap_or_default();
            u64::from_le_bytes(bytes.try_into().unwrap_or_default())
        };
        Ok(Self {
            uuid: crate::help::printable(uuid, UUID_BYTES),
            staged: (number(0).cast_signed(), number(1).cast_signed()),
            count: number(2),
        })
    }
}

fn row_of(bytes: &[u8; ROW_BYTES]) -> (Digest, u64) {
    let mut digest = [0; 32];
    let mut length = [0; 8];
    digest.copy_from_slice(&bytes[..32]);
    length.copy_from_slice(&bytes[32..]);
    (Digest(digest), u64::from_le_bytes(length))
}

/// When a name in `staging/` changed last: every publication makes and renames one.
fn staged(staging: &File) -> io::Result<(i64, i64)> {
    let metadata = staging.metadata()?;
    Ok((metadata.mtime(), metadata.mtime_nsec()))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn head(count: usize) -> Head {
        Head {
            uuid: "00000000-0000-4000-8000-000000000000".into(),
            staged: (1_700_000_000, 999_999_999),
            count: count as u64,
        }
    }

    fn written(rows: &[(Digest, u64)]) -> File {
        let file = tempfile::tempfile().unwrap();
        encode(&file, &head(rows.len()), rows, &|| ()).unwrap();
        file
    }

    fn read(file: &File) -> Result<Vec<(Digest, u64)>, SnapshotError> {
        let mut rows = Vec::new();
        let outcome = decode(file, &|| (), &mut |digest, length| {
            rows.push((digest, length));
            Ok(())
        });
        outcome.map(|found| {
            assert_eq!(found, head(rows.len()));
            rows
        })
    }

    #[test]
    fn rows_that_are_out_of_order_twice_there_or_too_long_are_none() {
        let [one, two] = [Digest([1; 32]), Digest([2; 32])];
        assert_eq!(read(&written(&[(one, 5), (two, 6)])).unwrap().len(), 2);
        for rows in [
            [(two, 5), (one, 6)],
            [(one, 5), (one, 5)],
            [(one, 5), (two, OBJECT_BYTES_MAX + 1)],
        ] {
            // The checksum is right each time.
            let error = read(&written(&rows)).unwrap_err();
            assert!(matches!(error, SnapshotError::Row(1)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_no_flipped_bit_is(
            rows in proptest::collection::btree_map(any::<[u8; 32]>(), 0..OBJECT_BYTES_MAX, 0..40),
            place in any::<proptest::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let rows: BTreeMap<[u8; 32], u64> = rows;
            let rows: Vec<_> = rows.into_iter().map(|(d, length)| (Digest(d), length)).collect();
            let file = written(&rows);
            prop_assert_eq!(read(&file).unwrap(), rows);
            let mut bytes = Vec::new();
            (&file).rewind().unwrap();
            (&file).read_to_end(&mut bytes).unwrap();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let file = tempfile::tempfile().unwrap();
            (&file).write_all(&bytes).unwrap();
            prop_assert!(read(&file).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), ours: bool) {
            let file = tempfile::tempfile().unwrap();
            if ours {
                (&file).write_all(&head(bytes.len()).encode()).unwrap();
            }
            (&file).write_all(&bytes).unwrap();
            prop_assert!(read(&file).is_err());
        }
    }
}
