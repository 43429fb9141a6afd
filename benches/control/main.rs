//! The bench of the control plane: decisions and reports on one core, and a simulated fleet.
//!
//! [`steer`] asks a network of 18,000 boxes (of [`network`]) → [`ingest`] takes their reports →
//! [`fleet`] lets simulated boxes loose on a real control plane → `figure` holds all against their
//! bars. Started by `benches/run control`.
//!
//! I/O: writes the figures.

mod core;
mod figure;
mod fleet;
mod ingest;
mod network;
mod simulation;
mod steer;

use anyhow::Context as _;
use figure::Figure;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// What the command line asks for.
#[derive(Debug)]
struct Wanted {
    json: bool,
    boxes: u32,
    time: Duration,
    /// `None`: all three.
    part: Option<String>,
}

fn main() -> ExitCode {
    match wanted().and_then(|wanted| run(&wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches/run control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wanted() -> anyhow::Result<Wanted> {
    let mut wanted = Wanted {
        json: false,
        boxes: 1_000,
        time: Duration::from_secs(600),
        part: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => wanted.json = true,
            "--boxes" => wanted.boxes = number(&argument, arguments.next())?,
            "--minutes" => {
                let minutes: f64 = number(&argument, arguments.next())?;
                wanted.time = Duration::try_from_secs_f64(minutes * 60.0)?;
            }
            "steer" | "ingest" | "fleet" => wanted.part = Some(argument),
            // Cargo's own.
            "--bench" => {}
            other => anyhow::bail!("`{other}` is not known"),
        }
    }
    Ok(wanted)
}

fn number<T: std::str::FromStr>(option: &str, value: Option<String>) -> anyhow::Result<T> {
    let value = value.and_then(|text| text.parse().ok());
    value.with_context(|| format!("{option} takes a number"))
}

fn run(wanted: &Wanted) -> anyhow::Result<()> {
    let mut figures: Vec<Figure> = Vec::new();
    for part in ["steer", "ingest", "fleet"] {
        if wanted.part.as_deref().is_some_and(|only| only != part) {
            continue;
        }
        let taken = match part {
            "steer" => steer::figures(),
            "ingest" => ingest::figures(),
            _ => fleet::figures(wanted.boxes, wanted.time),
        };
        let taken = taken.context(part)?;
        for figure in taken.iter().filter(|_| wanted.json) {
            writeln!(std::io::stdout(), "{}", figure.json())?;
        }
        figures.extend(taken);
    }
    if !wanted.json {
        writeln!(std::io::stdout(), "{}", figure::table(&figures))?;
    }
    Ok(())
}
