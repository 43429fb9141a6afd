//! `oca check`: every problem of the configuration at once.
//!
//! Problems go to standard output, as `file:line:column: key: problem` with the remedy indented
//! below, or as one JSON array; the exit code is 78. Changes nothing and asks no daemon.
//!
//! I/O: reads the configuration files and opens the certificate files.

use super::ConfigArgs;
use super::Exit;
use crate::config;
use crate::config::Loaded;
use crate::config::Problem;
use anyhow::Context as _;
use std::io::ErrorKind;
use std::io::Write as _;

pub(super) fn check(args: &ConfigArgs, json: bool) -> anyhow::Result<Exit> {
    let (problems, loaded) = match config::load(&args.config) {
        Ok(loaded) => (config::check_files(&loaded), Some(loaded)),
        Err(problems) => (problems.0, None),
    };
    let text = match &loaded {
        _ if json => serde_json::to_string(&problems).context("cannot write JSON")? + "\n",
        Some(loaded) if problems.is_empty() => summary(loaded),
        Some(_) | None => listed(&problems),
    };
    // A reader that has seen enough (`| head`) closes the pipe; the exit code still tells.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    Ok(if problems.is_empty() {
        Exit::Ok
    } else {
        Exit::Config
    })
}

fn listed(problems: &[Problem]) -> String {
    let lines = problems
        .iter()
        .map(|problem| format!("{problem}\n    {}\n", problem.remedy));
    lines.collect::<String>() + &counted(problems.len(), "problem") + "\n"
}

fn summary(loaded: &Loaded) -> String {
    let files = loaded.files.iter();
    let files: String = files
        .map(|file| format!("read {}\n", file.display()))
        .collect();
    let config = &loaded.config;
    let written = loaded.settings.iter().filter(|one| one.origin.is_some());
    format!(
        "{files}{}: {}, {}, {}, {} written, no problems\n",
        config.appliance.id,
        counted(config.serve.listen.len(), "HTTPS address"),
        counted(config.serve.plain_listen.len(), "plain address"),
        counted(config.store.disks.len(), "disk"),
        counted(written.count(), "key"),
    )
}

fn counted(count: usize, what: &str) -> String {
    let plural = match (count, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {what}{plural}")
}
