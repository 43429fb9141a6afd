//! Content and its popularity: one import at a time, as a job that can be watched and stopped.
//!
//! I/O: reads what is imported, on a thread of its own.

use super::routes::Answer;
use super::routes::Shared;
use super::routes::bad;
use super::routes::command;
use super::routes::log;
use super::routes::refused;
use crate::clock;
use crate::control::import;
use crate::control::import::ImportError;
use crate::control::import::Progress;
use crate::control::import::Source;
use crate::control::import::Summary;
use crate::control::popularity;
use crate::help;
use crate::local;
use crate::local::Failure;
use crate::local::Peer;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// The job and its outcome. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Import {
    state: Arc<Mutex<Job>>,
    stop: Arc<AtomicBool>,
}

/// What is known of the running import and of the last one.
#[derive(Debug, Default)]
struct Job {
    running: bool,
    source: Option<String>,
    progress: Progress,
    done: Option<Summary>,
    error: Option<String>,
    /// The error is a rule's, not a failure.
    refused: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    /// An absolute directory or `s3://bucket/prefix`.
    source: String,
}

impl Import {
    /// After the file at hand.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Job> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn show(&self) -> Value {
        let state = self.lock();
        let mut value = json!(state.progress);
        value["running"] = json!(state.running);
        value["source"] = json!(state.source);
        value["done"] = json!(state.done);
        value["error"] = json!(state.error);
        value["refused"] = json!(state.refused);
        value
    }

    /// `false`: another one runs.
    fn begin(&self, source: &str) -> bool {
        let mut state = self.lock();
        if state.running {
            return false;
        }
        *state = Job {
            running: true,
            source: Some(source.to_owned()),
            ..Job::default()
        };
        self.stop.store(false, Ordering::Release);
        true
    }

    fn end(&self, outcome: Result<Summary, (String, bool)>) {
        let mut state = self.lock();
        state.running = false;
        match outcome {
            Ok(summary) => state.done = Some(summary),
            Err((error, refused)) => (state.error, state.refused) = (Some(error), refused),
        }
    }
}

/// Ends the job whatever becomes of its thread.
struct Running(Import);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.lock().running {
            let why = "the import was cut short; look at the log and import again".to_owned();
            self.0.end(Err((why, false)));
        }
    }
}

pub(super) async fn state(State(shared): State<Shared>) -> Response {
    local::ok(shared.import.show())
}

pub(super) async fn begin(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let ImportBody { source } = command(peer, "import", body).await?;
    let parsed = Source::parse(&source).map_err(|error| bad(error.to_string()))?;
    if let Source::Directory(path) = &parsed
        && !path.is_absolute()
    {
        return Err(bad(
            "the directory must be an absolute path: the control plane has a working directory \
             of its own",
        ));
    }
    if !shared.import.begin(&source) {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "an import is running; wait for it (`oca control status`) or stop it",
        ));
    }
    let runtime = tokio::runtime::Handle::current();
    let job = shared.clone();
    // Hashing is the processor's work: a thread may be busy, the runtime may not.
    tokio::task::spawn_blocking(move || {
        let running = Running(job.import.clone());
        let outcome = runtime.block_on(run(&job, &parsed));
        running.0.end(outcome);
    });
    Ok(local::ok(shared.import.show()))
}

async fn run(shared: &Shared, source: &Source) -> Result<Summary, (String, bool)> {
    let Import { state, stop } = &shared.import;
    let mut progress = |progress| {
        state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .progress = progress;
    };
    let books = &shared.deps.books;
    let config = &shared.deps.import;
    let outcome = import::run(source, &**books.store(), config, &mut progress, stop).await;
    let summary = outcome.map_err(|error: ImportError| {
        tracing::warn!(%source, %error, "import failed");
        (error.to_string(), error.is_refusal())
    })?;
    let (files, new) = (summary.files, summary.keys_new);
    tracing::info!(%source, files, new, seconds = summary.seconds, "import finished");
    if let Err(error) = books.refresh().await {
        return Err((error.to_string(), false));
    }
    Ok(summary)
}

pub(super) async fn stop(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
) -> Response {
    log(peer, "import stop", "");
    shared.import.stop();
    local::ok(shared.import.show())
}

/// The body is the feed itself: the operator's file need not be readable by this process.
pub(super) async fn popularity(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let most = usize::try_from(popularity::FEED_BYTES_MAX).unwrap_or(usize::MAX);
    let feed = local::read(body, most).await?;
    log(peer, "popularity", &format!("{} bytes", feed.len()));
    let started = clock::now();
    let parsed = tokio::task::spawn_blocking(move || popularity::parse(&mut feed.as_slice()));
    let feed = parsed
        .await
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
        .map_err(|error| bad(safe_lines(&error.to_string())))?;
    let bundles = feed.len();
    let store = shared.deps.books.store();
    let unknown = store.put_popularity(feed).await.map_err(refused)?;
    shared.refresh().await?;
    Ok(local::ok(json!({
        "bundles": bundles,
        "unknown": unknown,
        "seconds": clock::now().duration_since(started).as_secs_f64(),
    })))
}

/// Lines stay lines; what is in them cannot steer a terminal.
fn safe_lines(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| help::printable(line.as_bytes(), 200));
    lines.collect::<Vec<_>>().join("\n")
}
