//! The bench of the fill: our transfers and writes beside `aria2c` and `rclone`, from one origin.
//!
//! [`origin`] is nginx with TLS on one core, its files in memory → [`peers`] and our own
//! [`filler`], each a process on the other core, fetch all of it onto the machine's disk in rounds
//! that take turns → [`figure`] holds medians of paired ratios against their bars. Then the same
//! files under the cap, with the interface's counters read all the while ([`wire`]). [`viewers`]
//! ask a box for hot files beside that, and without. Started by `benches/run fill`, which makes a
//! network namespace for it.
//!
//! I/O: writes files below temporary directories, starts processes, reads /proc.

#[path = "../serve/figure.rs"]
#[allow(dead_code, reason = "each bench uses its part")]
mod figure;
mod filler;
mod origin;
mod peers;
mod viewers;
mod wire;

use anyhow::Context as _;
use comfy_table::Table;
use figure::Figure;
use figure::Pair;
use oca::demo::Scratch;
use origin::Origin;
use peers::Cost;
use peers::Peer;
use std::io::Write as _;
use std::process::ExitCode;

/// Of the profile `storage`: 1.2 Gbit/s.
const CAP: u64 = 150_000_000;

/// What the bucket may save up, in seconds.
const DEPTH_S: f64 = 0.05;

/// A share of one core at the cap.
const SHARE_MAX: f64 = 0.10;

/// Of a second's cap that an average must reach.
const AVERAGE_MIN: f64 = 1.17 / 1.2;

/// A hot request beside a fill, against one without.
const HOT_MAX: f64 = 2.0;

/// Pages that a fill may leave in memory, of its bytes.
const CACHED_MAX: f64 = 0.05;

#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: usize,
    objects: usize,
    capped_rounds: usize,
    /// Objects fetched under the cap, in each round and beside viewers.
    capped: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("--filler") => filler::main(&arguments[1..]).map(|()| true),
        Some(_) | None => run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("benches/run fill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if every bar holds.
fn run(arguments: &[String]) -> anyhow::Result<bool> {
    let is = |name: &str| arguments.iter().any(|argument| argument == name);
    let (json, quick) = (is("--json"), is("--quick"));
    let effort = match quick {
        true => Effort {
            rounds: 3,
            objects: 12,
            capped_rounds: 1,
            capped: 12,
        },
        false => Effort {
            rounds: 7,
            objects: 48,
            capped_rounds: 3,
            capped: 40,
        },
    };
    let scratch = Scratch::new("oca-bench")?;
    let origin = Origin::start(scratch.path(), effort.objects.max(effort.capped))?;
    let mut figures = uncapped(&origin, effort)?;
    figures.extend(capped(&origin, effort)?);
    let mut table = Table::new();
    table.set_header(["figure", "ours", "peer", "ratio", "spread", "bar"]);
    let mut all_hold = true;
    for figure in &figures {
        all_hold &= figure.is_ok();
        let mut cells = vec![figure.name.clone()];
        cells.extend(figure.cells());
        table.add_row(cells);
        if json {
            writeln!(std::io::stdout(), "{}", figure.json())?;
        }
    }
    if !json {
        writeln!(std::io::stdout(), "{table}")?;
    }
    Ok(all_hold)
}

/// As fast as it goes, all in turns.
fn uncapped(origin: &Origin, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let mut costs: Vec<[Cost; 3]> = Vec::new();
    // The first round warms up programs and disk.
    for round in 0..=effort.rounds {
        let ours = filler::run(origin, effort.objects, None)?;
        let aria2c = peers::run(Peer::Aria2c, origin, effort.objects, None)?;
        let rclone = peers::run(Peer::Rclone, origin, effort.objects, None)?;
        eprintln!("round {round}: {ours}; aria2c {aria2c}; rclone {rclone}");
        if round > 0 {
            costs.push([ours, aria2c, rclone]);
        }
    }
    let figure = |name: &str, peer: usize, bar: Option<f64>, value: fn(&Cost) -> f64| {
        beside(name, &costs, peer, bar, value)
    };
    let time = |cost: &Cost| cost.seconds / cost.gigabytes();
    let cached = |cost: &Cost| cost.cached / cost.bytes;
    Ok(vec![
        figure("uncapped, s/GB, beside aria2c", 1, Some(1.0), time),
        figure("uncapped, s/GB, beside rclone", 2, None, time),
        figure("uncapped, CPU s/GB, beside aria2c", 1, Some(1.0), work),
        figure("uncapped, CPU s/GB, beside rclone", 2, None, work),
        figure(
            "pages left in memory, of the bytes, beside aria2c",
            1,
            None,
            cached,
        ),
        alone(
            "pages left in memory, of the bytes filled",
            &costs,
            CACHED_MAX,
            cached,
        ),
    ])
}

fn work(cost: &Cost) -> f64 {
    cost.processor / cost.gigabytes()
}

/// Against a peer, in each round.
fn beside(
    name: &str,
    costs: &[[Cost; 3]],
    peer: usize,
    bar: Option<f64>,
    value: fn(&Cost) -> f64,
) -> Figure {
    let pairs = costs.iter().map(|costs| Pair {
        ours: value(&costs[0]),
        peer: value(&costs[peer]),
    });
    Figure::new(name, bar, &pairs.collect::<Vec<_>>())
}

/// By itself, in each round.
fn alone(name: &str, costs: &[[Cost; 3]], bar: f64, value: fn(&Cost) -> f64) -> Figure {
    let pairs = costs.iter().map(|costs| Pair {
        ours: value(&costs[0]),
        peer: 1.0,
    });
    Figure::new(name, Some(bar), &pairs.collect::<Vec<_>>())
}

/// At the cap: in turns with the peers, told to keep to it, and beside viewers.
fn capped(origin: &Origin, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let cap = CAP as f64;
    let mut costs: Vec<[Cost; 3]> = Vec::new();
    let (mut worst, mut averages) = (0_f64, Vec::new());
    for round in 1..=effort.capped_rounds {
        let wire = wire::Sampler::start();
        let ours = filler::run(origin, effort.capped, Some(CAP))?;
        let seen = wire.stop()?;
        let aria2c = peers::run(Peer::Aria2c, origin, effort.capped, Some(CAP))?;
        let rclone = peers::run(Peer::Rclone, origin, effort.capped, Some(CAP))?;
        eprintln!("capped, round {round}: {ours}; {seen}; aria2c {aria2c}; rclone {rclone}");
        worst = worst.max(seen.worst_second);
        averages.push(Pair {
            ours: cap,
            peer: seen.bytes / ours.seconds,
        });
        costs.push([ours, aria2c, rclone]);
    }
    let worst = [Pair {
        ours: worst,
        peer: cap * (1.0 + DEPTH_S),
    }];
    let name = "at the cap, B/s short of it, on average";
    let mut figures = vec![
        Figure::new(name, Some(1.0 / AVERAGE_MIN), &averages),
        Figure::new("at the cap, worst second, B", Some(1.0), &worst),
        alone("at the cap, share of a core", &costs, SHARE_MAX, |cost| {
            cost.processor / cost.seconds
        }),
        beside("at the cap, CPU s/GB, beside aria2c", &costs, 1, None, work),
        beside("at the cap, CPU s/GB, beside rclone", &costs, 2, None, work),
    ];
    let pairs = viewers::measure(origin, effort.capped, CAP).context("viewers beside a fill")?;
    let name = "hot 16 KB request beside a fill at the cap, median us";
    figures.push(Figure::new(name, Some(HOT_MAX), &pairs));
    Ok(figures)
}
