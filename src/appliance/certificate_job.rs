//! The certificate of content: written when a fill without window and cap has brought all there is,
//! compared with the disks when an operator asks.
//!
//! One work at a time, on a blocking thread; a check reads with a thread a disk. The format is
//! `fill`'s, what the disks hold the store says.
//!
//! I/O: writes and reads the certificate, spawns blocking tasks and threads that read disks.

mod check;
mod make;

use crate::command::Refusal;
use crate::fill::Certificate;
use crate::health;
use crate::ids::BoxId;
use crate::lock::lock;
use crate::store;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// In the state directory.
const FILE: &str = "content.certificate";

/// Differences that are named; the rest is counted.
const SHOWN_MAX: usize = 100;

/// The box's certificate, and what is being done about one. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct CertificateJob(Arc<Job>);

#[derive(Debug)]
struct Job {
    id: BoxId,
    store: store::Handle,
    line: health::Line,
    path: PathBuf,
    state: Mutex<State>,
    progress: Progress,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// A check or a making is under way.
    busy: bool,
    checking: bool,
    certificate: Option<Certificate>,
    /// Of the last making.
    problem: Option<String>,
    /// The fill that a certificate is being made for.
    making: Option<u64>,
    /// The fill whose making has ended, well or not.
    ended: u64,
    /// One that ended while a check was under way.
    waiting: Option<u64>,
    checked: Option<Checked>,
    error: Option<String>,
}

/// How far a check has come.
#[derive(Debug, Default)]
struct Progress {
    keys: AtomicU64,
    keys_done: AtomicU64,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
}

/// A certificate, compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Checked {
    file: PathBuf,
    same: bool,
    keys: u64,
    objects: u64,
    bytes: u64,
    differences_total: u64,
    /// The first by key.
    differences: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Difference {
    key: String,
    problem: String,
}

impl CertificateJob {
    /// With the certificate that an earlier life has written.
    pub(super) fn new(
        id: BoxId,
        store: store::Handle,
        line: health::Line,
        state_dir: PathBuf,
    ) -> Self {
        let path = state_dir.join(FILE);
        let state = State {
            certificate: check::head_of(&path).ok(),
            ..State::default()
        };
        Self(Arc::new(Job {
            id,
            store,
            line,
            path,
            state: Mutex::new(state),
            progress: Progress::default(),
            stop: AtomicBool::new(false),
        }))
    }

    /// Writes the certificate of what is held. `completed`: the fill that it is for.
    pub(super) fn make(&self, completed: u64) {
        {
            let mut state = lock(&self.0.state);
            if state.busy {
                state.waiting = Some(completed);
                return;
            }
            (state.busy, state.making) = (true, Some(completed));
        }
        let job = self.clone();
        tokio::task::spawn_blocking(move || job.work());
    }

    fn work(&self) {
        let ending = Ending(self);
        let made = make::make(&self.0);
        let mut state = lock(&self.0.state);
        match made {
            Ok(certificate) => {
                tracing::info!(
                    keys = certificate.counts.keys,
                    bytes = certificate.counts.bytes,
                    missing = certificate.counts.missing,
                    "the certificate of content is written"
                );
                (state.certificate, state.problem) = (Some(certificate), None);
            }
            Err(problem) => {
                tracing::error!(problem, "there is no certificate of content");
                state.problem = Some(problem);
            }
        }
        state.ended = state.making.take().unwrap_or(state.ended);
        drop(state);
        drop(ending);
    }

    /// Begins to compare what the disks hold with the certificate at `path`.
    pub(super) fn check(&self, path: PathBuf) -> Result<Value, Refusal> {
        if !path.is_absolute() {
            let path = path.display();
            return Err(Refusal::BadRequest(format!(
                "{path} is not an absolute path; the daemon has another working directory"
            )));
        }
        if !self.0.store.is_ready() {
            let text = "disks are being read; `oca show disks` tells when that is done";
            return Err(Refusal::State(text.to_owned()));
        }
        let claimed = check::claim(&self.0, &path)?;
        {
            let mut state = lock(&self.0.state);
            if state.busy {
                let text = "a certificate is being checked or written; `oca fill certificate` \
                            shows how far it is";
                return Err(Refusal::State(text.to_owned()));
            }
            (state.busy, state.checking) = (true, true);
            (state.checked, state.error) = (None, None);
        }
        self.0.progress.begin(&claimed);
        let job = self.clone();
        tokio::task::spawn_blocking(move || {
            let ending = Ending(&job);
            let checked = check::check(&job.0, path, &claimed);
            let mut state = lock(&job.0.state);
            match checked {
                Ok(checked) => state.checked = Some(checked),
                Err(error) => state.error = Some(error),
            }
            drop(state);
            drop(ending);
        });
        Ok(json!({ "started": true }))
    }

    /// The check ends at the next piece.
    pub(super) fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }

    /// What `oca fill certificate` shows.
    pub(super) fn view(&self) -> Value {
        let (state, progress) = (lock(&self.0.state), &self.0.progress);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({
            "file": self.0.path,
            "certificate": state.certificate,
            "making": state.making.is_some(),
            "problem": state.problem,
            "ended": state.ended,
            "check": {
                "running": state.checking,
                "keys": count(&progress.keys),
                "keys_done": count(&progress.keys_done),
                "bytes": count(&progress.bytes),
                "bytes_done": count(&progress.bytes_done),
                "done": state.checked,
                "error": state.error,
            },
        })
    }
}

impl Progress {
    fn begin(&self, certificate: &Certificate) {
        self.keys.store(certificate.counts.keys, Ordering::Relaxed);
        self.bytes
            .store(certificate.counts.bytes, Ordering::Relaxed);
        self.keys_done.store(0, Ordering::Relaxed);
        self.bytes_done.store(0, Ordering::Relaxed);
    }
}

/// However the work ends, a panic included, the next may begin.
struct Ending<'a>(&'a CertificateJob);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0.state);
        if state.checking && state.checked.is_none() && state.error.is_none() {
            state.error = Some("the check ended by a panic: a fault of oca; see the log".into());
        }
        if let Some(completed) = state.making.take() {
            state.ended = completed;
            state.problem = Some("its making ended by a panic: a fault of oca".to_owned());
        }
        (state.busy, state.checking) = (false, false);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(completed) = waiting {
            self.0.make(completed);
        }
    }
}
