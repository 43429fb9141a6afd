//! The access log: one JSON line a request, written by a thread of its own (`access_file`).
//!
//! The queue is bounded; when the disk of the log is slower than the viewers, lines are dropped and
//! counted, and no viewer waits.
//!
//! I/O: opens the file through `access_file`.

use super::access_file;
use super::card::TlsFacts;
use super::cmcd::Cmcd;
use super::counters::Counters;
use super::request::Head;
use super::target::Target;
use super::token;
use crate::clock;
use crate::clock::Instant;
use crate::help;
use crate::units::BytesPerSecond;
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;
use std::sync::mpsc;
use std::sync::mpsc::SyncSender;

/// Lines waiting for the disk; about 4 MB.
const QUEUE_LINES: usize = 8192;

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
    /// Lines that were given to a writer, and those that it is done with, whatever became of them.
    queued: AtomicU64,
    pub(super) settled: AtomicU64,
    /// Orders to open the file anew, and how often one was.
    pub(super) reopen: AtomicU64,
    pub(super) reopened: AtomicU64,
}

/// What is known of a request when it is answered.
#[derive(Debug)]
pub(super) struct Record {
    begun: Instant,
    method: &'static str,
    path: String,
    range: Option<String>,
    agent: Option<String>,
    /// Of a good token.
    session: Option<String>,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) peer: SocketAddr,
    pub(super) token_rate: Option<BytesPerSecond>,
    pub(super) tls: Option<&'a TlsFacts>,
    /// Who sealed it: `kernel` or `user-space`.
    pub(super) tls_path: Option<&'static str>,
    pub(super) status: u16,
    pub(super) bytes: u64,
    /// Bytes of an upload.
    pub(super) received: Option<u64>,
    /// This line stands for so many.
    pub(super) sample: Option<u64>,
    pub(super) cmcd: Option<&'a Cmcd>,
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
    session: Option<&'a str>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_rate: Option<BytesPerSecond>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmcd: Option<&'a Cmcd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Opens the log for appending and starts its writer.
pub(super) fn open(path: &Path, counts: &Arc<Counts>) -> io::Result<Sink> {
    let (lines, queue) = mpsc::sync_channel(QUEUE_LINES);
    access_file::start(path, queue, counts)?;
    Ok(Sink {
        lines,
        counts: Arc::clone(counts),
    })
}

/// Has this successful answer a line? Then the line stands for one in so many; `None` leaves it
/// out and counts it. Which ones is as good as chance: answers that come in a rhythm (video, audio,
/// video …) are all seen.
pub(super) fn sampled(counters: &Counters, one_in: u64) -> Option<u64> {
    if one_in <= 1 {
        return Some(1);
    }
    let number = counters.successes.fetch_add(1, Relaxed);
    if scattered(number).is_multiple_of(one_in) {
        return Some(one_in);
    }
    counters.unlogged.fetch_add(1, Relaxed);
    None
}

/// The finaliser of SplitMix64: neighbours in, strangers out.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Counts {
    /// Has the writer done with every line so far?
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Acquire) >= self.queued.load(Relaxed)
    }
}

impl Record {
    pub(super) fn new(head: &Head<'_, '_>, begun: Instant) -> Self {
        let text = |name, most| {
            let value = head.values(name).next()?;
            Some(help::printable(value, most))
        };
        let path = match head.target {
            Target::Asterisk => "*".to_owned(),
            Target::Path(path) => help::printable(&token::without_token(path), PATH_CHARS),
        };
        Self {
            begun,
            method: head.method.as_str(),
            path,
            range: text("range", RANGE_CHARS),
            agent: text("user-agent", AGENT_CHARS),
            session: None,
        }
    }

    /// With the session of its token, where it has one.
    pub(super) fn with_session(self, session: Option<String>) -> Self {
        Self { session, ..self }
    }

    /// A request whose head could not be read.
    pub(super) fn unreadable(begun: Instant) -> Self {
        Self {
            begun,
            method: "-",
            path: "-".to_owned(),
            range: None,
            agent: None,
            session: None,
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
            session: record.session.as_deref(),
            token_rate: ending.token_rate,
            tls: ending.tls.map(|tls| tls.version),
            cipher: ending.tls.map(|tls| tls.cipher),
            received: ending.received,
            sample: ending.sample,
            tls_path: ending.tls_path,
            cmcd: ending.cmcd,
            reason: ending.reason,
        };
        // Counted first: whoever waits for the writer must not overtake it.
        self.counts.queued.fetch_add(1, Relaxed);
        let sent = serde_json::to_string(&line).map(|text| self.lines.try_send(text));
        if !matches!(sent, Ok(Ok(()))) {
            self.counts.dropped.fetch_add(1, Relaxed);
            self.counts.settled.fetch_add(1, Release);
        }
    }

    /// Has the file opened anew before the next line is written. Never waits.
    pub(super) fn reopen(&self) {
        self.counts.reopen.fetch_add(1, Release);
        // A full queue means that the writer is awake, and it looks before each batch.
        let _ = self.lines.try_send(String::new());
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
            token_rate: None,
            tls: None,
            tls_path: None,
            status: 400,
            bytes: 0,
            received: None,
            sample: None,
            cmcd: None,
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
    fn a_sample_is_about_one_in_so_many_and_sees_every_part_of_a_rhythm() {
        let counters = Counters::default();
        let kept: Vec<usize> = (0..10_000)
            .filter(|_| sampled(&counters, 10) == Some(10))
            .collect();
        assert!((900..1_100).contains(&kept.len()), "{}", kept.len());
        for phase in 0..2 {
            let here = kept.iter().filter(|at| **at % 2 == phase).count();
            assert!((400..600).contains(&here), "{here} in phase {phase}");
        }
        let unlogged = counters.unlogged.load(Relaxed);
        assert_eq!(unlogged, 10_000 - kept.len() as u64);
        assert!((0..100).all(|_| sampled(&counters, 1) == Some(1)));
    }
}
