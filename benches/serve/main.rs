//! The bench of the data path: our box beside nginx, the same bytes, CPU for CPU.
//!
//! [`servers`] starts both ([`nginx`]) on one core with the same [`files`] → [`load`] lets
//! [`viewer`]s ask both from the other core, in rounds that take turns → [`figure`] holds medians
//! of paired ratios against their bars. Three parts: [`matrix`] (sizes, connections, plain and
//! TLS), [`idle`] (memory of thousands of silent connections), [`cold`] (hot files beside a slow
//! [`disk`]). Started by `benches/run serve`, which makes a network namespace for it.
//!
//! I/O: writes files below temporary directories, starts processes, loads them over loopback.

mod cold;
mod disk;
mod figure;
mod files;
mod idle;
mod latency;
mod load;
mod matrix;
mod nginx;
mod servers;
mod viewer;

use anyhow::Context as _;
use comfy_table::Table;
use figure::Figure;
use files::Kind;
use matrix::Case;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use oca::clock;
use servers::Place;
use servers::Plan;
use servers::Servers;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// What the service's unit gives a box is more still.
const DESCRIPTORS: u64 = 100_000;

/// Ten thousand connections, and everything else.
const DESCRIPTORS_MIN: u64 = 15_000;

/// What the command line asks for.
#[derive(Debug)]
struct Wanted {
    json: bool,
    /// A smoke test: is everything there, roughly right? Under a minute.
    quick: bool,
    /// `None`: all three.
    part: Option<String>,
    /// Only cases of the matrix whose name contains this: for profiling.
    case: String,
}

fn main() -> ExitCode {
    match wanted().and_then(|wanted| run(&wanted)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("benches/run serve: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wanted() -> anyhow::Result<Wanted> {
    let mut wanted = Wanted {
        json: false,
        quick: false,
        part: None,
        case: String::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => wanted.json = true,
            "--quick" => wanted.quick = true,
            "matrix" | "idle" | "cold" => wanted.part = Some(argument),
            "--case" => wanted.case = arguments.next().context("--case takes a text")?,
            // Cargo's own.
            "--bench" => {}
            other => anyhow::bail!("`{other}` is not known"),
        }
    }
    Ok(wanted)
}

/// Descriptors for the clients. The servers inherit it, and keep files open as far as it goes.
fn raise_limit() -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = hard.min(DESCRIPTORS);
    if soft < most {
        setrlimit(Resource::RLIMIT_NOFILE, most, hard)?;
    }
    anyhow::ensure!(
        most >= DESCRIPTORS_MIN,
        "{most} descriptors are too few; before this: ulimit -Hn {DESCRIPTORS_MIN}"
    );
    Ok(())
}

/// True if every bar holds.
fn run(wanted: &Wanted) -> anyhow::Result<bool> {
    raise_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let is_wanted = |part: &str| wanted.part.as_deref().is_none_or(|only| only == part);
        let mut all_hold = true;
        if is_wanted("matrix") {
            all_hold &= matrix_part(wanted).await?;
        }
        if is_wanted("idle") {
            let count = if wanted.quick { 1_000 } else { 10_000 };
            let figures = idle::figures(count).await.context("idle connections")?;
            all_hold &= tell(wanted, &figures, Some(figures_table(&figures)))?;
        }
        if is_wanted("cold") {
            all_hold &= cold_part(wanted).await?;
        }
        Ok(all_hold)
    })
}

async fn matrix_part(wanted: &Wanted) -> anyhow::Result<bool> {
    let effort = match wanted.quick {
        true => matrix::Effort {
            rounds: 3,
            rounds_judged: 3,
            warm_up: Duration::from_millis(200),
            measured: Duration::from_millis(500),
        },
        false => matrix::Effort {
            rounds: 5,
            rounds_judged: 9,
            warm_up: Duration::from_millis(250),
            measured: Duration::from_millis(900),
        },
    };
    let kinds: &[Kind] = match wanted.quick {
        true => &[Kind::Small, Kind::Large],
        false => &[Kind::Small, Kind::Large, Kind::Huge],
    };
    let begun = clock::now();
    let place = Place::make()?;
    let servers = Servers::start(Plan {
        dir: place.path(),
        kinds,
        threads: false,
        group: None,
    })
    .await?;
    let prepared = (clock::now() - begun).as_secs();
    eprintln!("{}; prepared in {prepared} s", servers.conditions()?);
    let mut rows = Vec::new();
    let mut all_hold = true;
    let cases = matrix::cases(wanted.quick).into_iter();
    for case in cases.filter(|case| case.name().contains(&wanted.case)) {
        match measured(case, &servers, effort).await {
            Some(row) => {
                all_hold &= tell(wanted, row.figures(), None)?;
                rows.push(row);
            }
            None => all_hold &= tell(wanted, &case.missing(), None)?,
        }
    }
    tell(wanted, [], Some(matrix::table(&rows)))?;
    Ok(all_hold)
}

/// One case. A machine that was busy elsewhere gets a second chance; a case that fails again is
/// told, and does not take the others with it.
async fn measured(case: Case, servers: &Servers, effort: matrix::Effort) -> Option<matrix::Row> {
    for _ in 0..2 {
        match case.measure(servers, effort).await {
            Ok(row) => return Some(row),
            Err(error) => eprintln!("{}: {error:#}", case.name()),
        }
    }
    None
}

async fn cold_part(wanted: &Wanted) -> anyhow::Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("a slow disk (loop device, control group) needs root: cold reads not measured");
        let figures = [Figure::missing(cold::JUDGED, cold::BAR)];
        return tell(wanted, &figures, Some(figures_table(&figures)));
    }
    let effort = match wanted.quick {
        true => cold::Effort {
            rounds: 1,
            warm_up: Duration::from_millis(300),
            measured: Duration::from_millis(1_000),
        },
        false => cold::Effort {
            rounds: 5,
            warm_up: Duration::from_millis(500),
            measured: Duration::from_millis(2_000),
        },
    };
    let outcome = cold::measure(effort).await.context("cold reads")?;
    let figures = outcome.figures();
    tell(wanted, [], Some(outcome.table()))?;
    tell(wanted, &figures, Some(figures_table(&figures)))
}

/// Prints figures as lines, or their table. True if their bars hold.
fn tell<'a>(
    wanted: &Wanted,
    figures: impl IntoIterator<Item = &'a Figure>,
    table: Option<Table>,
) -> anyhow::Result<bool> {
    let mut all_hold = true;
    for figure in figures {
        all_hold &= figure.is_ok();
        if wanted.json {
            writeln!(std::io::stdout(), "{}", figure.json())?;
        }
    }
    if let Some(table) = table.filter(|_| !wanted.json) {
        writeln!(std::io::stdout(), "{table}")?;
    }
    Ok(all_hold)
}

fn figures_table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.set_header(["figure", "ours", "peer", "ratio", "spread", "bar"]);
    for figure in figures {
        let mut cells = vec![figure.name.clone()];
        cells.extend(figure.cells());
        table.add_row(cells);
    }
    table
}
