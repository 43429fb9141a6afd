//! The bench of the store: millions of objects on several volumes, and what a start costs.
//!
//! [`make`] lays down objects as the store publishes them → [`starter`], a process for each start,
//! opens the store by scan and from its snapshot, with cold and with warm memory, and looks keys
//! up → [`work`] publishes objects beside the disk's own flushes, and has them scrubbed. All
//! volumes are directories of one file system below `--dir`. Started by `benches/run store`.
//!
//! I/O: writes and removes millions of files, starts processes, empties the page cache.

#[path = "../serve/figure.rs"]
#[allow(dead_code, reason = "each bench uses its part")]
mod figure;
mod make;
mod starter;
mod work;

use anyhow::Context as _;
use comfy_table::Table;
use figure::Figure;
use figure::Pair;
use make::Ground;
use starter::Start;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Of memory an object, with its key and its place in the manifest.
const OBJECT_BYTES_MAX: f64 = 250.0;

/// Of a scan an object: one stat, and less than another for directories and what a start does.
const CALLS_MAX: f64 = 2.0;

/// With fewer objects it is not judged.
const MANY: f64 = 1e6;

/// Starts of each kind, if nothing else is asked for.
const ROUNDS: usize = 3;

#[derive(Debug)]
struct Wanted {
    json: bool,
    objects: u32,
    volumes: usize,
    rounds: usize,
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("--starter") => starter::main(&arguments[1..]).map(|()| true),
        Some(_) | None => wanted(&arguments).and_then(|wanted| run(&wanted)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("benches/run store: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wanted(arguments: &[String]) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted {
        json: false,
        objects: 3_000_000,
        volumes: 4,
        rounds: ROUNDS,
        dir: std::env::temp_dir(),
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().context("a value is missing");
        match argument.as_str() {
            "--json" => wanted.json = true,
            "--quick" => wanted.objects = 100_000,
            "--objects" => wanted.objects = value()?.parse()?,
            "--volumes" => wanted.volumes = value()?.parse()?,
            "--rounds" => wanted.rounds = value()?.parse()?,
            "--dir" => wanted.dir = value()?.into(),
            // Cargo's own.
            "--bench" => {}
            other => anyhow::bail!("`{other}` is not known"),
        }
    }
    anyhow::ensure!(
        wanted.objects > 0 && (1..=64).contains(&wanted.volumes),
        "at least one object, and 1 to 64 volumes"
    );
    Ok(wanted)
}

/// True if every bar holds.
fn run(wanted: &Wanted) -> anyhow::Result<bool> {
    let ground = Ground::make(&wanted.dir, wanted.objects, wanted.volumes)?;
    let mut figures = starts(&ground, wanted.rounds)?;
    figures.extend(work::publish(&ground)?);
    figures.extend(work::scrub(&ground)?);
    let mut table = Table::new();
    table.set_header(["figure", "ours", "peer", "ratio", "spread", "bar"]);
    let mut all_hold = true;
    for figure in &figures {
        all_hold &= figure.is_ok();
        let mut cells = vec![figure.name.clone()];
        // What has no peer has no ratio either.
        cells.extend(figure.cells().map(|cell| cell.replace("NaN", "")));
        table.add_row(cells);
        if wanted.json {
            writeln!(std::io::stdout(), "{}", figure.json())?;
        }
    }
    if !wanted.json {
        writeln!(std::io::stdout(), "{table}")?;
    }
    Ok(all_hold)
}

/// Starts of all kinds, in rounds that take turns.
fn starts(ground: &Ground, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let can_cool = starter::cool();
    if !can_cool {
        eprintln!("only root empties the page cache: starts with cold memory are not measured");
    }
    let mut taken: Vec<Round> = Vec::new();
    for number in 0..rounds {
        let cold_scan = starter::start(ground, false, can_cool)?;
        let warm_scan = starter::start(ground, false, false)?;
        let cold_snapshot = starter::start(ground, true, can_cool)?;
        let warm_snapshot = starter::start(ground, true, false)?;
        eprintln!(
            "round {number}: scan {cold_scan} cold, {warm_scan} warm; snapshot {cold_snapshot} \
             cold, {warm_snapshot} warm"
        );
        taken.push([cold_scan, warm_scan, cold_snapshot, warm_snapshot]);
    }
    let mut figures = times(&taken, can_cool);
    if let Some(calls) = starter::count_calls(ground)? {
        let name = "scan, system calls an object, directories and all";
        let ours = calls / f64::from(ground.objects);
        let bar = (f64::from(ground.objects) >= MANY).then_some(1.0);
        let peer = CALLS_MAX;
        figures.push(Figure::new(name, bar, &[Pair { ours, peer }]));
    }
    figures.extend(memory(&taken));
    Ok(figures)
}

/// Scan cold and warm, snapshot cold and warm.
type Round = [Start; 4];

fn single(rounds: &[Round], name: &str, kind: usize, value: fn(&Start) -> f64) -> Figure {
    let pair = |round: &Round| Pair {
        ours: value(&round[kind]),
        peer: f64::NAN,
    };
    let pairs: Vec<Pair> = rounds.iter().map(pair).collect();
    let spread = |value: fn(f64, f64) -> f64| pairs.iter().map(|pair| pair.ours).reduce(value);
    let mut figure = Figure::new(name, None, &pairs);
    // Of the figure itself: there is no ratio.
    figure.spread = spread(f64::min)
        .zip(spread(f64::max))
        .filter(|_| pairs.len() > 1);
    figure
}

fn times(rounds: &[Round], can_cool: bool) -> Vec<Figure> {
    let mut figures = Vec::new();
    let kinds = [
        ("scan, cold", 0),
        ("scan, warm", 1),
        ("from snapshot, cold", 2),
        ("from snapshot, warm", 3),
    ];
    for (name, kind) in kinds {
        if !can_cool && name.ends_with("cold") {
            continue;
        }
        let mut figure = |what: &str, value| {
            figures.push(single(rounds, &format!("{name}, {what}"), kind, value));
        };
        figure("s", |start| start.seconds);
        figure("CPU s", |start| start.processor);
        figure("objects/s", |start| start.objects / start.seconds);
    }
    let pair = |round: &Round| Pair {
        ours: round[3].seconds,
        peer: round[1].seconds,
    };
    let pairs: Vec<Pair> = rounds.iter().map(pair).collect();
    let name = "warm start, s, by snapshot beside scan";
    figures.push(Figure::new(name, None, &pairs));
    figures
}

fn memory(rounds: &[Round]) -> Vec<Figure> {
    let pair = |round: &Round| Pair {
        ours: round[1].grown / round[1].objects,
        peer: OBJECT_BYTES_MAX,
    };
    let pairs: Vec<Pair> = rounds.iter().map(pair).collect();
    // Threads and buffers that every start has are shared by all objects.
    let are_many = rounds.iter().all(|round| round[1].objects >= MANY);
    let bar = are_many.then_some(1.0);
    let of_index = |start: &Start| start.index / start.objects;
    vec![
        single(rounds, "memory an object, of the index, B", 1, of_index),
        Figure::new("memory an object, with manifest and all, B", bar, &pairs),
        single(rounds, "lookup of a key that is held, ns", 1, |start| {
            start.hit
        }),
        single(rounds, "lookup of a key that is not, ns", 1, |start| {
            start.miss
        }),
        single(rounds, "lookup of a digest, ns", 1, |start| start.digest),
    ]
}
