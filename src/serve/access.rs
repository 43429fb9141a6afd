//! The access log: one JSON line a request, written by a thread of its own.
//!
//! The queue is bounded; when the disk of the log is slower than the viewers, lines are dropped and
//! counted, and no viewer waits. A reload opens the file anew, which is how it is rotated.
//!
//! I/O: writes a file, spawns a thread.

use super::card::TlsFacts;
use super::request::Head;
use super::target::Target;
use crate::clock;
use crate::clock::Instant;
use crate::help;
use serde::Serialize;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::sync::mpsc::SyncSender;

/// Lines waiting for the disk; about 4 MB.
const QUEUE_LINES: usize = 8192;

/// Bytes written at once, always of whole lines.
const BATCH_BYTES: usize = 64 * 1024;

/// Text that viewers choose is cut at these lengths.
const AGENT_CHARS: usize = 256;
const RANGE_CHARS: usize = 64;
const PATH_CHARS: usize = 1100;

/// The way to the writer. It ends when the last sink of a file is dropped.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    lines: SyncSender<String>,
    counts: Arc<Counts>,
}

/// Lines since the start of the process, through every reopening of the file.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// What is known of a request when it is answered.
#[derive(Debug)]
pub(super) struct Record {
    begun: Instant,
    method: &'static str,
    path: String,
    range: Option<String>,
    agent: Option<String>,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) peer: SocketAddr,
    pub(super) tls: Option<&'a TlsFacts>,
    /// Who sealed it: `kernel` or `user-space`.
    pub(super) tls_path: Option<&'static str>,
    pub(super) status: u16,
    pub(super) bytes: u64,
    /// The refusal's text, or why the response was cut.
    pub(super) reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    peer: SocketAddr,
    method: &'a str,
    path: &'a str,
    status: u16,
    bytes: u64,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Opens the log for appending and starts its writer.
pub(super) fn open(path: &Path, counts: &Arc<Counts>) -> io::Result<Sink> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        // A pipe that nobody reads is an error at once; opening it would wait, and the reload too.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let (lines, queue) = mpsc::sync_channel(QUEUE_LINES);
    let writer_counts = Arc::clone(counts);
    std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || write_lines(file, &queue, &writer_counts))?;
    Ok(Sink {
        lines,
        counts: Arc::clone(counts),
    })
}

impl Record {
    pub(super) fn new(head: &Head<'_, '_>, begun: Instant) -> Self {
        let text = |name, most| {
            let value = head.values(name).next()?;
            Some(help::printable(value, most))
        };
        let path = match head.target {
            Target::Asterisk => "*".to_owned(),
            Target::Path(path) => help::printable(path, PATH_CHARS),
        };
        Self {
            begun,
            method: head.method.as_str(),
            path,
            range: text("range", RANGE_CHARS),
            agent: text("user-agent", AGENT_CHARS),
        }
    }

    /// A request whose head could not be read.
    pub(super) fn unreadable(begun: Instant) -> Self {
        Self {
            begun,
            method: "-",
            path: "-".to_owned(),
            range: None,
            agent: None,
        }
    }
}

impl Sink {
    /// Queues the line, or drops and counts it.
    pub(super) fn write(&self, record: &Record, ending: &Ending<'_>, now: Instant) {
        let taken = now.saturating_duration_since(record.begun).as_secs_f64();
        let line = Line {
            ts: format!("{:.3}", clock::wall()),
            peer: ending.peer,
            method: record.method,
            path: &record.path,
            status: ending.status,
            bytes: ending.bytes,
            ms: (taken * 1e6).round() / 1e3,
            range: record.range.as_deref(),
            agent: record.agent.as_deref(),
            tls: ending.tls.map(|tls| tls.version),
            cipher: ending.tls.map(|tls| tls.cipher),
            tls_path: ending.tls_path,
            reason: ending.reason,
        };
        let sent = serde_json::to_string(&line).map(|text| self.lines.try_send(text));
        if !matches!(sent, Ok(Ok(()))) {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Writes until every sink is gone.
fn write_lines(mut file: File, queue: &mpsc::Receiver<String>, counts: &Counts) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    let mut complained = false;
    while let Ok(first) = queue.recv() {
        batch.clear();
        let mut lines = 0;
        let mut next = Some(first);
        while let Some(line) = next {
            batch.extend_from_slice(line.as_bytes());
            batch.push(b'\n');
            lines += 1;
            next = match batch.len() {
                0..BATCH_BYTES => queue.try_recv().ok(),
                _ => None,
            };
        }
        match file.write_all(&batch) {
            Ok(()) => {
                counts.written.fetch_add(lines, Relaxed);
                complained = false;
            }
            Err(error) => {
                counts.dropped.fetch_add(lines, Relaxed);
                // Once for each bout of trouble: a full disk must not fill the journal too.
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(%error, "the access log cannot be written; lines are dropped");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_viewers_write_cannot_break_a_line_and_a_full_queue_drops_and_counts() {
        let counts = Arc::new(Counts::default());
        let (lines, queue) = mpsc::sync_channel(1);
        let sink = Sink {
            lines,
            counts: Arc::clone(&counts),
        };
        let record = Record {
            agent: Some(help::printable(b"a\"\n\x1b[1m", AGENT_CHARS)),
            ..Record::unreadable(clock::now())
        };
        let ending = Ending {
            peer: "192.0.2.1:9".parse().unwrap(),
            tls: None,
            tls_path: None,
            status: 400,
            bytes: 0,
            reason: Some("bad"),
        };
        sink.write(&record, &ending, clock::now());
        sink.write(&record, &ending, clock::now());
        assert_eq!(counts.dropped.load(Relaxed), 1);
        let line = queue.try_recv().unwrap();
        assert!(
            line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{line}"
        );
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["status"], 400);
        assert_eq!(value["peer"], "192.0.2.1:9");
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_and_not_a_wait() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = open(&pipe, &Arc::new(Counts::default())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
    }

    #[test]
    fn lines_reach_the_file_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let counts = Arc::new(Counts::default());
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        let (lines, queue) = mpsc::sync_channel(10);
        for number in 0..3 {
            lines.send(format!("{{\"n\":{number}}}")).unwrap();
        }
        drop(lines);
        write_lines(file, &queue, &counts);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");
        assert_eq!(counts.written.load(Relaxed), 3);
    }
}
