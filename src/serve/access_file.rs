//! The file of the access log, and the one thread that writes it.
//!
//! The thread appends whole lines in batches, opens the file anew when it is told to (rotation),
//! and never leaves half a line behind. Only it waits for the log's disk.
//!
//! I/O: writes a file, spawns a thread.

use super::access::Counts;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;
use std::sync::mpsc;

/// Bytes written at once, always of whole lines.
const BATCH_BYTES: usize = 64 * 1024;

/// The open file, as its thread knows it.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    /// Half a line is at its end and could not be taken back.
    is_torn: bool,
    /// Which order to reopen it has obeyed.
    reopened: u64,
}

/// What a write that failed has left.
struct Failed {
    /// Lines that are in the file all the same.
    whole: u64,
    error: io::Error,
}

/// Opens the log for appending and starts its thread, which ends with the last sender of `queue`.
pub(super) fn start(
    path: &Path,
    queue: mpsc::Receiver<String>,
    counts: &Arc<Counts>,
) -> io::Result<()> {
    let log = LogFile {
        path: path.to_owned(),
        file: open(path)?,
        is_torn: false,
        reopened: counts.reopen.load(Acquire),
    };
    let counts = Arc::clone(counts);
    std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || run(log, &queue, &counts))?;
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        // A pipe that nobody reads is an error at once; opening it would wait, and the reload too.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Writes until every sender is gone. An empty line only wakes the thread.
fn run(mut log: LogFile, queue: &mpsc::Receiver<String>, counts: &Counts) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    let mut complained = false;
    while let Ok(first) = queue.recv() {
        log.obey(counts);
        batch.clear();
        let mut lines = 0;
        let mut next = Some(first);
        while let Some(line) = next {
            if !line.is_empty() {
                batch.extend_from_slice(line.as_bytes());
                batch.push(b'\n');
                lines += 1;
            }
            next = match batch.len() {
                0..BATCH_BYTES => queue.try_recv().ok(),
                _ => None,
            };
        }
        match log.append(&batch) {
            Ok(()) => {
                counts.written.fetch_add(lines, Relaxed);
                complained = false;
            }
            Err(Failed { whole, error }) => {
                counts.written.fetch_add(whole, Relaxed);
                counts.dropped.fetch_add(lines - whole, Relaxed);
                // Once for each bout of trouble: a full disk must not fill the journal too.
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(%error, "the access log cannot be written; lines are dropped");
                }
            }
        }
        counts.settled.fetch_add(lines, Release);
    }
}

impl LogFile {
    /// Opens the file anew if that was ordered. Where it cannot be, the old one goes on, so that no
    /// line is lost.
    fn obey(&mut self, counts: &Counts) {
        let ordered = counts.reopen.load(Acquire);
        if self.reopened == ordered {
            return;
        }
        self.reopened = ordered;
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.is_torn = false;
                counts.reopened.fetch_add(1, Release);
            }
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%error, "{path} cannot be opened anew; the old file goes on");
            }
        }
    }

    /// Appends whole lines. After an error the file ends with a whole line, or begins a fresh one
    /// with the next batch.
    fn append(&mut self, batch: &[u8]) -> Result<(), Failed> {
        if self.is_torn && !batch.is_empty() {
            let ended = self.write(b"\n");
            ended.map_err(|(_, error)| Failed { whole: 0, error })?;
            self.is_torn = false;
        }
        self.write(batch).map_err(|(written, error)| {
            let end = batch[..written].iter().rposition(|byte| *byte == b'\n');
            let end = end.map_or(0, |at| at + 1);
            if written > end {
                self.is_torn = !self.take_back(written - end);
            }
            let whole = batch[..end].iter().filter(|byte| **byte == b'\n').count();
            Failed {
                whole: whole as u64,
                error,
            }
        })
    }

    /// Writes all of it, or tells how much went before the error.
    fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut at = 0;
        while at < bytes.len() {
            match self.file.write(&bytes[at..]) {
                Ok(0) => return Err((at, io::ErrorKind::WriteZero.into())),
                Ok(count) => at += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((at, error)),
            }
        }
        Ok(())
    }

    /// Cuts half a line off the end. A pipe cannot be cut.
    fn take_back(&self, bytes: usize) -> bool {
        let Ok(about) = self.file.metadata() else {
            return false;
        };
        let whole = about.len().saturating_sub(bytes as u64);
        about.is_file() && self.file.set_len(whole).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn log(path: &Path) -> LogFile {
        LogFile {
            path: path.to_owned(),
            file: open(path).unwrap(),
            is_torn: false,
            reopened: 0,
        }
    }

    #[test]
    fn lines_reach_the_file_whole_and_a_rotation_splits_between_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("old"));
        let counts = Arc::new(Counts::default());
        let (lines, queue) = mpsc::sync_channel(10);
        start(&path, queue, &counts).unwrap();
        let settled = |count| {
            while counts.settled.load(Acquire) < count {
                std::thread::yield_now();
            }
        };
        lines.send("{\"n\":0}".to_owned()).unwrap();
        settled(1);
        std::fs::rename(&path, &old).unwrap();
        // Nobody has said so yet: the file that was renamed is still the log.
        lines.send("{\"n\":1}".to_owned()).unwrap();
        settled(2);
        counts.reopen.fetch_add(1, Release);
        lines.send(String::new()).unwrap();
        lines.send("{\"n\":2}".to_owned()).unwrap();
        settled(3);
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(text(&old), "{\"n\":0}\n{\"n\":1}\n");
        assert_eq!(text(&path), "{\"n\":2}\n");
        assert_eq!(counts.written.load(Relaxed), 3);
        assert_eq!(counts.reopened.load(Relaxed), 1);
        // Its directory is gone: lines go on to the file that is open.
        std::fs::remove_dir_all(dir.path()).unwrap();
        counts.reopen.fetch_add(1, Release);
        lines.send("{\"n\":3}".to_owned()).unwrap();
        settled(4);
        assert_eq!(counts.written.load(Relaxed), 4);
        assert_eq!(counts.dropped.load(Relaxed), 0);
    }

    #[test]
    fn a_disk_that_is_full_drops_and_counts() {
        let counts = Arc::new(Counts::default());
        let (lines, queue) = mpsc::sync_channel(10);
        start(Path::new("/dev/full"), queue, &counts).unwrap();
        (0..3).for_each(|_| lines.send("{}".to_owned()).unwrap());
        while counts.settled.load(Acquire) < 3 {
            std::thread::yield_now();
        }
        assert_eq!(counts.dropped.load(Relaxed), 3);
    }

    #[test]
    fn half_a_line_is_taken_back_where_it_can_be_and_ended_where_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "whole\nhal").unwrap();
        assert!(log(&path).take_back(3));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\n");
        // A pipe that is full in the middle of a line.
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut reader = OpenOptions::new();
        let reader = { reader.read(true).custom_flags(libc::O_NONBLOCK) };
        let mut reader = reader.open(&path).unwrap();
        let mut log = log(&path);
        let batch = [vec![b'a'; 50_000], b"\n".to_vec(), vec![b'b'; 50_000]].concat();
        let failed = log.append(&batch).unwrap_err();
        assert_eq!(failed.error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(failed.whole, 1);
        let mut taken = vec![0; 1 << 20];
        let count = reader.read(&mut taken).unwrap();
        assert_eq!(taken[count - 1], b'b');
        assert!(log.append(b"next\n").is_ok());
        let count = reader.read(&mut taken).unwrap();
        assert_eq!(&taken[..count], b"\nnext\n");
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_and_not_a_wait() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (_lines, queue) = mpsc::sync_channel(1);
        let error = start(&pipe, queue, &Arc::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
    }
}
