//! `oca check`: every problem of the configuration at once.
//!
//! Problems go to standard output, as `file:line:column: key: problem` with the remedy indented
//! below, or as one JSON array; the exit code is 78. Changes nothing and asks no daemon.
//!
//! I/O: reads the configuration files and opens the certificate files.

use super::Exit;
use crate::config;
use crate::config::Loaded;
use crate::config::LoadedControl;
use crate::config::Problem;
use anyhow::Context as _;
use clap::Args;
use std::io::ErrorKind;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

/// Whose configuration, and how to tell.
#[derive(Clone, Debug, Args)]
pub(super) struct CheckArgs {
    /// The main file; by default /etc/oca/oca.toml, or /etc/oca/control.toml with --control.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The file of a control plane, not of a box.
    #[arg(long)]
    control: bool,
    /// Print one JSON array instead of text.
    #[arg(short, long)]
    json: bool,
}

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let file = |default| args.config.as_deref().unwrap_or(Path::new(default));
    let (problems, summary) = if args.control {
        match config::load_control(file("/etc/oca/control.toml")) {
            Ok(loaded) => (config::check_control_files(&loaded), plane(&loaded)),
            Err(problems) => (problems.0, String::new()),
        }
    } else {
        match config::load(file("/etc/oca/oca.toml")) {
            Ok(loaded) => (config::check_files(&loaded), appliance(&loaded)),
            Err(problems) => (problems.0, String::new()),
        }
    };
    let text = if args.json {
        serde_json::to_string(&problems).context("cannot write JSON")? + "\n"
    } else if problems.is_empty() {
        summary
    } else {
        listed(&problems)
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

fn appliance(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut parts = vec![
        counted(config.serve.listen.len(), "HTTPS address"),
        counted(config.serve.plain_listen.len(), "plain address"),
        counted(config.store.disks.len(), "disk"),
    ];
    if let Some(bgp) = &config.bgp {
        parts.push(counted(bgp.neighbours.len(), "BGP neighbour"));
    }
    if let Some(control) = &config.control {
        parts.push(format!("control plane {}", control.url));
    }
    summary(loaded, config.appliance.id.as_str(), parts)
}

fn plane(loaded: &LoadedControl) -> String {
    let config = &loaded.config;
    let public = config.public.listen.len() + config.public.plain_listen.len();
    let parts = vec![
        counted(config.link.listen.len(), "link address"),
        counted(public, "public address"),
    ];
    summary(
        loaded,
        &format!("control plane of {}", config.domain),
        parts,
    )
}

fn summary<C>(loaded: &Loaded<C>, name: &str, mut parts: Vec<String>) -> String {
    let files = loaded.files.iter();
    let files: String = files
        .map(|file| format!("read {}\n", file.display()))
        .collect();
    let written = loaded.settings.iter().filter(|one| one.origin.is_some());
    parts.push(format!("{} written", counted(written.count(), "key")));
    format!("{files}{name}: {}, no problems\n", parts.join(", "))
}

fn counted(count: usize, what: &str) -> String {
    let plural = match (count, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {what}{plural}")
}
