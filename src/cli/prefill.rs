//! `oca prefill DIR`: put a directory of media on the disks.
//!
//! The daemon owns the disks when it runs, so the command asks it and shows its progress; without a
//! daemon the work is done here. SIGINT or SIGTERM stops after the file at hand and keeps what is
//! done; a second one ends the process, which loses nothing either.
//!
//! I/O: reads the configuration, asks the daemon, opens the store, waits for signals.

use super::ConfigArgs;
use super::Exit;
use super::client::Client;
use super::client::ClientError;
use crate::clock;
use crate::clock::Instant;
use crate::config;
use crate::store;
use crate::store::StoreError;
use crate::store::prefill::Progress;
use crate::telemetry;
use crate::units::Bytes;
use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use serde_json::Value;
use serde_json::json;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// How often the daemon is asked how far it is.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(200);

/// How often a line of progress is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct PrefillArgs {
    /// Directory of media; paths below it become keys.
    dir: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object at the end instead of progress and text.
    #[arg(short, long)]
    json: bool,
}

/// Why there is no summary, and the exit code that says so.
type Failure = (Exit, String);

pub(super) fn prefill(args: &PrefillArgs) -> anyhow::Result<Exit> {
    let dir = std::fs::canonicalize(&args.dir)
        .with_context(|| format!("cannot open {}", args.dir.display()))?;
    let config = match config::load(&args.config.config) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            eprintln!("oca: the configuration has problems:\n{problems}");
            return Ok(Exit::Config);
        }
    };
    let stop = stop_on_signals()?;
    let mut shown = Shown::new(args.json);
    let client = Client::new(&config.admin.socket)?;
    let outcome = match client.get("/v1/prefill") {
        Ok(_) => by_daemon(&client, &dir, &stop, &mut shown),
        Err(ClientError::Unreachable(why)) => {
            let logs = telemetry::Config {
                log_level: "warn".into(),
                log_format: telemetry::LogFormat::Text,
            };
            telemetry::start(&logs)?;
            here(&config.store, &dir, &stop, &mut shown, &why)
        }
        Err(error) => Err((error.exit(), error.to_string())),
    };
    shown.end();
    match outcome {
        Ok(summary) => tell(&summary, &dir, args.json),
        Err((exit, problem)) => {
            eprintln!("oca: {problem}");
            Ok(exit)
        }
    }
}

/// Asks the running daemon and waits for its end.
fn by_daemon(
    client: &Client,
    dir: &Path,
    stop: &AtomicBool,
    shown: &mut Shown,
) -> Result<Value, Failure> {
    let failed = |error: ClientError| (error.exit(), error.to_string());
    let asked = client.post("/v1/prefill", &json!({ "dir": dir }));
    asked.map_err(failed)?;
    let mut stopped = false;
    loop {
        let state = client.get("/v1/prefill").map_err(failed)?;
        shown.at(progress(&state));
        if state["running"] != json!(true) {
            return match (&state["done"], state["error"].as_str()) {
                (_, Some(error)) => {
                    let refused = state["refused"] == json!(true);
                    Err((exit_of(refused), error.to_owned()))
                }
                (Value::Null, None) => Err((Exit::Failed, "the daemon did not finish".into())),
                (done, None) => Ok(done.clone()),
            };
        }
        if stop.load(Ordering::Acquire) && !stopped {
            stopped = true;
            let asked = client.post("/v1/prefill/stop", &json!({}));
            asked.map_err(failed)?;
        }
        clock::block_for(ASK_EVERY);
    }
}

/// The same for work here and work by a daemon.
pub(super) fn exit_of(refused: bool) -> Exit {
    if refused { Exit::Refused } else { Exit::Failed }
}

pub(super) fn progress(state: &Value) -> Progress {
    let number = |name: &str| state[name].as_u64().unwrap_or(0);
    Progress {
        files_done: number("files_done"),
        files: number("files"),
        bytes_done: number("bytes_done"),
        bytes: number("bytes"),
    }
}

/// Does the work in this process. `why` says why no daemon was asked.
fn here(
    config: &store::Config,
    dir: &Path,
    stop: &AtomicBool,
    shown: &mut Shown,
    why: &str,
) -> Result<Value, Failure> {
    let store = store::start(config).map_err(|error| match error {
        // Somebody has the disks and cannot be asked to do it.
        StoreError::Locked { .. } => (Exit::Refused, format!("{error} ({why})")),
        StoreError::State { .. } | StoreError::TooManyDisks { .. } | StoreError::Thread(_) => {
            (Exit::Failed, error.to_string())
        }
    })?;
    let outcome = store::prefill::run(&store, dir, stop, &mut |progress| shown.at(progress));
    store.stop();
    let summary = outcome.map_err(|error| (exit_of(error.is_refusal()), error.to_string()))?;
    serde_json::to_value(summary).map_err(|error| (Exit::Failed, error.to_string()))
}

/// Prints the outcome; a refused file or an early stop is a failure after doing the rest.
fn tell(summary: &Value, dir: &Path, json: bool) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    if json {
        let mut summary = summary.clone();
        summary["v"] = json!(1);
        writeln!(out, "{summary}")?;
    } else {
        let number = |name: &str| summary[name].as_u64().unwrap_or(0);
        for refused in summary["refused"].as_array().into_iter().flatten() {
            // A file's name may hold what would move a terminal's cursor.
            let text = |name: &str| {
                let text = refused[name].as_str().unwrap_or("").chars();
                text.map(|c| if c.is_control() { '\u{fffd}' } else { c })
                    .collect::<String>()
            };
            let (path, problem, remedy) = (text("path"), text("problem"), text("remedy"));
            writeln!(out, "refused {path}: {problem}\n    {remedy}")?;
        }
        writeln!(
            out,
            "{}: {} files, {}: {} published, {} already held, {} refused, {} skipped; \
             manifest generation {}; {:.1} s",
            dir.display(),
            number("files"),
            Bytes(number("bytes")),
            number("published"),
            number("already_held"),
            number("refused_total"),
            number("skipped"),
            number("generation"),
            summary["seconds"].as_f64().unwrap_or(0.0),
        )?;
        if summary["interrupted"] == json!(true) {
            writeln!(out, "stopped early; the same command goes on from here")?;
        }
    }
    let whole = summary["refused_total"] == json!(0) && summary["interrupted"] == json!(false);
    Ok(if whole { Exit::Ok } else { Exit::Failed })
}

/// Progress on a terminal, a line now and then elsewhere, nothing with `--json`.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    lines: bool,
    last: Instant,
}

impl Shown {
    pub(super) fn new(json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !json).then(|| {
            let form = "{bar:30} {bytes}/{total_bytes} {msg} {bytes_per_sec} {eta} left";
            let style = ProgressStyle::with_template(form);
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            lines: !terminal && !json,
            last: clock::now(),
        }
    }

    pub(super) fn at(&mut self, progress: Progress) {
        let files = format!("{}/{} files", progress.files_done, progress.files);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.bytes);
            bar.set_position(progress.bytes_done);
            bar.set_message(files);
        } else if self.lines && clock::now().duration_since(self.last) >= LINE_EVERY {
            self.last = clock::now();
            let (done, all) = (Bytes(progress.bytes_done), Bytes(progress.bytes));
            eprintln!("{files}, {done} of {all}");
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Set by the first SIGINT or SIGTERM; the second ends the process.
pub(super) fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _on = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        (signal(SignalKind::interrupt())?, terminate)
    };
    let wait = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.swap(true, Ordering::AcqRel) {
                std::process::exit(i32::from(Exit::Failed as u8));
            }
            eprintln!("oca: stopping after the file at hand; once more to stop at once");
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(wait))?;
    Ok(stop)
}
