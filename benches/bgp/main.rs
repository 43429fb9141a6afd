//! The bench of the BGP speaker: it and BIRD 2 receive the same bytes in the same run.
//!
//! [`stream`] makes a table as the internet's → [`router`] sends it → [`receivers`] are watched
//! until they come to rest ([`receive`] is ours), in the [`phases`] of a table's life and in a
//! [`storm`] → [`snapshot`] and [`link`] tell what a full table costs those who read it → figures
//! with their bars. Started by `benches/run bgp`.
//!
//! I/O: starts processes, loads them over loopback.

#[path = "../serve/figure.rs"]
#[allow(dead_code, reason = "the other bench needs more of it")]
mod figure;
mod link;
mod phases;
mod receive;
mod receivers;
mod router;
mod snapshot;
mod storm;
mod stream;

use comfy_table::Table;
use figure::Figure;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("benches/run bgp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if every bar holds.
fn run() -> anyhow::Result<bool> {
    let (mut json, mut quick) = (false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--quick" => quick = true,
            "--receive" => {
                let hold = arguments.next().unwrap_or_default().parse()?;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let done = runtime.block_on(receive::receive(hold));
                // Reading standard input may be under way.
                runtime.shutdown_background();
                return done.map(|()| true);
            }
            // Cargo's own.
            "--bench" => {}
            other => anyhow::bail!("`{other}` is not known"),
        }
    }
    let figures = phases::figures(quick)?;
    let mut out = std::io::stdout().lock();
    if json {
        for figure in &figures {
            writeln!(out, "{}", figure.json())?;
        }
    } else {
        writeln!(out, "{}", table(&figures))?;
    }
    Ok(figures.iter().all(Figure::is_ok))
}

fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.set_header(["figure", "ours", "BIRD 2", "ratio", "spread", "verdict"]);
    for figure in figures {
        let cells = figure.cells().map(|cell| cell.replace("NaN", "–"));
        table.add_row(std::iter::once(figure.name.clone()).chain(cells));
    }
    table
}
