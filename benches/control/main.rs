//! The bench of the control plane: decisions and reports on one core, and a simulated fleet.
//!
//! [`steer`] asks a network of 18,000 boxes (of [`network`]) → [`ingest`] takes their reports →
//! `figure` holds both against their bars. Started by `benches/run control`.
//!
//! I/O: writes the figures.

mod figure;
mod ingest;
mod network;
mod simulation;
mod steer;

use figure::Figure;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let json = std::env::args().any(|argument| argument == "--json");
    match run(json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches/run control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(json: bool) -> anyhow::Result<()> {
    let mut figures: Vec<Figure> = Vec::new();
    for part in [steer::figures, ingest::figures] {
        let part = part()?;
        for figure in part.iter().filter(|_| json) {
            writeln!(std::io::stdout(), "{}", figure.json())?;
        }
        figures.extend(part);
    }
    if !json {
        writeln!(std::io::stdout(), "{}", figure::table(&figures))?;
    }
    Ok(())
}
