//! What the device-mapper's `log-writes` target recorded, and how it is written to a disk again.
//!
//! The log is a superblock and then entries, each a header of one sector and its data. A write
//! stands in it once the disk had answered and a later flush covers it, so that the log up to any
//! entry is what a disk may have had when the power failed there. Numbers are little-endian, places
//! are in sectors of the log.
//!
//! I/O: reads the log, writes the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The magic and the only version of the superblock.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// Four numbers: place, length in sectors, flags, length of what stands beside them.
const HEADER_BYTES: u64 = 32;

/// A log is on a disk of memory: more entries than that are none.
const ENTRIES_MAX: u64 = 1 << 20;

/// Copied at once.
const PIECE_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// In bytes, on the disk.
    place: u64,
    /// Zero where nothing was written.
    length: u64,
    /// Where the data begins in the log.
    data: u64,
    /// Everything before it is durable with it.
    pub is_flush: bool,
    /// What somebody told the log at this moment.
    pub mark: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    pub entries: Vec<Entry>,
}

impl Log {
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let [magic, version, count, sector] = numbers(&file, 0)?;
        // The last one has four bytes.
        let sector = sector & 0xffff_ffff;
        if (magic, version) != (MAGIC, VERSION) || count > ENTRIES_MAX || sector < 512 {
            let told = format!("not a log: {magic:#x}, version {version}, {count} entries");
            return Err(io::Error::other(told));
        }
        let (mut entries, mut at) = (Vec::new(), sector);
        for _ in 0..count {
            let (entry, next) = Entry::read(&file, at, sector)?;
            entries.push(entry);
            at = next;
        }
        Ok(Self { file, entries })
    }
}

impl Entry {
    /// The entry at a place of the log, and where the next one is.
    fn read(file: &File, at: u64, sector: u64) -> io::Result<(Self, u64)> {
        let [place, sectors, flags, beside] = numbers(file, at)?;
        let is_there = flags & (DISCARD | MARK) == 0;
        let mut mark = None;
        if flags & MARK != 0 {
            let most = sector - HEADER_BYTES;
            let mut text = vec![0; usize::try_from(beside.min(most)).unwrap_or(0)];
            file.read_exact_at(&mut text, at + HEADER_BYTES)?;
            mark = Some(String::from_utf8_lossy(&text).into_owned());
        }
        let data = at + sector;
        let length = if is_there { sectors * sector } else { 0 };
        let entry = Self {
            place: place * sector,
            length,
            data,
            is_flush: flags & (FLUSH | FUA) != 0,
            mark,
        };
        Ok((entry, data + length))
    }
}

fn numbers(file: &File, at: u64) -> io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, at)?;
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    Ok(numbers)
}

/// A disk on its way through a log: as blank as the recorded one was before the first entry.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    log: &'a Log,
    disk: File,
    next: usize,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(log: &'a Log, disk: &Path) -> io::Result<Self> {
        let disk = File::options().write(true).open(disk)?;
        Ok(Self { log, disk, next: 0 })
    }

    /// The disk has this entry and everything before it, and nothing after it.
    pub(crate) fn up_to(&mut self, entry: usize) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        for entry in &self.log.entries[self.next..=entry] {
            let mut done = 0;
            while done < entry.length {
                let left = usize::try_from(entry.length - done).unwrap_or(PIECE_BYTES);
                let piece = &mut piece[..left.min(PIECE_BYTES)];
                self.log.file.read_exact_at(piece, entry.data + done)?;
                self.disk.write_all_at(piece, entry.place + done)?;
                done += piece.len() as u64;
            }
        }
        self.next = self.next.max(entry + 1);
        self.disk.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTOR: u64 = 512;

    fn entry(place: u64, flags: u64, data: &[u8], mark: &str) -> Vec<u8> {
        let sectors = data.len() as u64 / SECTOR;
        let numbers = [place, sectors, flags, mark.len() as u64];
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.extend(mark.bytes());
        bytes.resize(512, 0);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_log_is_replayed_to_an_entry_and_not_beyond_it() {
        let dir = tempfile::tempdir().unwrap();
        let (log, disk) = (dir.path().join("log"), dir.path().join("disk"));
        let numbers = [MAGIC, VERSION, 5, SECTOR];
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes.extend(entry(2, 0, &[1; 1024], ""));
        bytes.extend(entry(0, DISCARD, &[], ""));
        bytes.extend(entry(3, FLUSH | FUA, &[2; 512], ""));
        bytes.extend(entry(0, MARK, &[], "op-1"));
        bytes.extend(entry(2, FLUSH, &[3; 512], ""));
        std::fs::write(&log, &bytes).unwrap();
        std::fs::write(&disk, vec![0; 4096]).unwrap();
        let log = Log::read(&log).unwrap();
        let flushes: Vec<bool> = log.entries.iter().map(|entry| entry.is_flush).collect();
        assert_eq!(flushes, [false, false, true, false, true]);
        assert_eq!(log.entries[3].mark.as_deref(), Some("op-1"));
        let mut replay = Replay::new(&log, &disk).unwrap();
        let sectors = || -> Vec<u8> {
            let bytes = std::fs::read(&disk).unwrap();
            bytes.chunks(512).map(|sector| sector[0]).collect()
        };
        replay.up_to(1).unwrap();
        assert_eq!(sectors(), [0, 0, 1, 1, 0, 0, 0, 0]);
        replay.up_to(3).unwrap();
        assert_eq!(sectors(), [0, 0, 1, 2, 0, 0, 0, 0]);
        replay.up_to(4).unwrap();
        assert_eq!(sectors(), [0, 0, 3, 2, 0, 0, 0, 0]);
        std::fs::write(dir.path().join("log"), [0; 4096]).unwrap();
        assert!(Log::read(&dir.path().join("log")).is_err());
    }
}
