//! One prefill at a time, on a blocking thread, with its progress for everybody to see.
//!
//! I/O: spawns a blocking task.

use crate::command::Refusal;
use crate::store;
use crate::store::prefill;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// The running prefill, or the last one's outcome.
#[derive(Clone, Debug, Default)]
pub(super) struct PrefillJob {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    progress: prefill::Progress,
    done: Option<prefill::Summary>,
    error: Option<String>,
    /// The error is the state of the box: no disk can be written.
    refused: bool,
}

impl PrefillJob {
    /// Begins; a second one is refused while the first runs.
    pub(super) fn begin(&self, store: &store::Handle, dir: PathBuf) -> Result<Value, Refusal> {
        if !dir.is_absolute() {
            let path = dir.display();
            return Err(Refusal::BadRequest(format!(
                "{path} is not an absolute path; the daemon has another working directory"
            )));
        }
        {
            let mut state = self.lock();
            if state.running {
                let text = "a prefill is running; wait for its end (GET /v1/prefill) or stop it";
                return Err(Refusal::State(text.to_owned()));
            }
            *state = State {
                running: true,
                ..State::default()
            };
        }
        self.stop.store(false, Ordering::Relaxed);
        let (job, store) = (self.clone(), store.clone());
        tokio::task::spawn_blocking(move || job.work(&store, &dir));
        Ok(json!({ "started": true }))
    }

    /// Stops after the file at hand; what is published stays.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// `{running, files, files_done, bytes, bytes_done, done, error, refused}`.
    pub(super) fn view(&self) -> Value {
        let state = self.lock();
        json!({
            "running": state.running,
            "files": state.progress.files,
            "files_done": state.progress.files_done,
            "bytes": state.progress.bytes,
            "bytes_done": state.progress.bytes_done,
            "done": state.done,
            "error": state.error,
            "refused": state.refused,
        })
    }

    fn work(&self, store: &store::Handle, dir: &std::path::Path) {
        let _ending = Ending(self);
        let outcome = prefill::run(store, dir, &self.stop, &mut |progress| {
            self.lock().progress = progress;
        });
        let mut state = self.lock();
        match outcome {
            Ok(summary) => state.done = Some(summary),
            Err(error) => {
                tracing::error!(%error, "prefill failed");
                state.refused = error.is_refusal();
                state.error = Some(error.to_string());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while it was held leaves plain values, each valid on its own.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// However the work ends, a panic included, the next prefill may begin.
struct Ending<'a>(&'a PrefillJob);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running = false;
        if state.done.is_none() && state.error.is_none() {
            state.error = Some("prefill ended by a panic: a fault of oca; see the log".to_owned());
        }
    }
}
