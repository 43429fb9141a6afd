//! `oca control import DIR|s3://BUCKET/PREFIX` and `oca control popularity FILE`.
//!
//! The control plane does the work; the command shows how far it is. SIGINT or SIGTERM stops after
//! the file at hand and keeps what was read; a second one leaves the import running.
//!
//! I/O: asks the control plane, reads the feed, waits for signals.

use super::super::Exit;
use super::super::client::Client;
use super::super::client::ClientError;
use super::super::prefill::ASK_EVERY;
use super::super::prefill::Shown;
use super::super::prefill::exit_of;
use super::super::prefill::progress;
use super::super::prefill::stop_on_signals;
use super::super::show::told;
use super::super::table;
use super::SocketArgs;
use super::ask;
use crate::clock;
use crate::units::Bytes;
use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// A directory, or `s3://bucket/prefix`; paths below it become keys.
    source: String,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Args)]
pub(super) struct PopularityArgs {
    /// CSV: `bundle,popularity`; greater is more popular, bundles that are not named get 0.
    file: PathBuf,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Why there is no summary, and the exit code that says so.
type Failure = (Exit, String);

pub(super) fn import(args: &ImportArgs) -> anyhow::Result<Exit> {
    let source = if args.source.contains("://") {
        args.source.clone()
    } else {
        let path = std::fs::canonicalize(&args.source);
        let path = path.with_context(|| format!("cannot open {}", args.source))?;
        path.to_str()
            .context("the directory's name is not UTF-8; rename it")?
            .to_owned()
    };
    let client = Client::of_control(&args.socket.socket)?;
    let stop = stop_on_signals()?;
    let mut shown = Shown::new(args.socket.json);
    let outcome = follow(&client, &source, &stop, &mut shown);
    shown.end();
    match outcome {
        Ok(summary) => tell(&summary, &source, args.socket.json),
        Err((exit, problem)) => {
            eprintln!("oca: {}", table::safe_lines(&problem));
            Ok(exit)
        }
    }
}

fn follow(
    client: &Client,
    source: &str,
    stop: &AtomicBool,
    shown: &mut Shown,
) -> Result<Value, Failure> {
    let failed = |error: ClientError| (error.exit(), error.to_string());
    let begun = client.post("/v1/import", &json!({ "source": source }));
    begun.map_err(failed)?;
    let mut stopped = false;
    loop {
        let state = client.get("/v1/import").map_err(failed)?;
        shown.at(progress(&state));
        if state["running"] != json!(true) {
            return match (&state["done"], state["error"].as_str()) {
                (_, Some(error)) => {
                    Err((exit_of(state["refused"] == json!(true)), error.to_owned()))
                }
                (Value::Null, None) => {
                    Err((Exit::Failed, "the control plane did not finish".into()))
                }
                (done, None) => Ok(done.clone()),
            };
        }
        if stop.load(Ordering::Acquire) && !stopped {
            stopped = true;
            let asked = client.post("/v1/import/stop", &json!({}));
            asked.map_err(failed)?;
        }
        clock::block_for(ASK_EVERY);
    }
}

/// Prints the outcome; a refused file or an early stop is a failure after doing the rest.
fn tell(summary: &Value, source: &str, json: bool) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    let number = |name: &str| summary[name].as_u64().unwrap_or(0);
    if json {
        let mut summary = summary.clone();
        summary["v"] = json!(1);
        writeln!(out, "{summary}")?;
    } else {
        for refused in summary["refused"].as_array().into_iter().flatten() {
            let text = |name: &str| table::safe(refused[name].as_str().unwrap_or(""));
            writeln!(out, "refused {}: {}", text("key"), text("why"))?;
        }
        writeln!(
            out,
            "{}: {} files, {}: {} new keys, {} read, {} read before, {} refused, {} skipped; \
             {:.1} s",
            table::safe(source),
            number("files"),
            Bytes(number("bytes")),
            number("keys_new"),
            number("hashed"),
            number("cached"),
            number("refused_total"),
            number("skipped"),
            summary["seconds"].as_f64().unwrap_or(0.0),
        )?;
        if summary["interrupted"] == json!(true) {
            writeln!(out, "stopped early; the same command goes on from here")?;
        }
    }
    let whole = number("refused_total") == 0 && summary["interrupted"] != json!(true);
    Ok(if whole { Exit::Ok } else { Exit::Failed })
}

pub(super) fn popularity(args: &PopularityArgs) -> anyhow::Result<Exit> {
    let feed = std::fs::read(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let client = Client::of_control(&args.socket.socket)?;
    let answer = match client.post_bytes("/v1/popularity", feed) {
        Ok(answer) => answer,
        Err(error) => return Ok(told(&error)),
    };
    ask::finish(&args.socket, Ok(answer), |_, answer| {
        let number = |name: &str| answer[name].as_u64().unwrap_or(0);
        let (bundles, unknown) = (number("bundles"), number("unknown"));
        format!("{bundles} bundles, {unknown} of them unknown and left out\n")
    })
}
