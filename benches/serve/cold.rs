//! Viewers of hot files while others read a slow disk to its limit, on the same worker.
//!
//! Five ways: our box without and with the cold readers; nginx without; nginx with `sendfile` on
//! the worker, which is the naive way of everybody; nginx with `aio threads`. A round goes through
//! all of them, and cold files are dropped from the page cache before each.
//!
//! I/O: what its parts do.

use crate::disk::Disk;
use crate::figure::Figure;
use crate::figure::Pair;
use crate::figure::short;
use crate::files;
use crate::files::Kind;
use crate::load::Load;
use crate::load::Transport;
use crate::servers::Plan;
use crate::servers::Servers;
use crate::servers::Who;
use anyhow::Context as _;
use comfy_table::Table;
use oca::clock;
use std::time::Duration;

/// What the disk gives, all readers together.
const RATE: u64 = 100_000_000;

/// The files, their copies in the store, and what a store leaves free.
const DISK_BYTES: u64 = 3_000_000_000;

/// Connections that ask for hot files, and as many for cold ones.
const CONNECTIONS: usize = 8;

/// The name of the figure with a bar.
pub(crate) const JUDGED: &str = "hot 16 KB p50 us while cold reads saturate a disk, against none";

pub(crate) const BAR: f64 = 2.0;

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    name: &'static str,
    who: Who,
    cold: bool,
}

const WAYS: [Way; 5] = [
    Way {
        name: "oca, no cold reads",
        who: Who::Oca,
        cold: false,
    },
    Way {
        name: "nginx, no cold reads",
        who: Who::Nginx,
        cold: false,
    },
    Way {
        name: "nginx sendfile (naive)",
        who: Who::Nginx,
        cold: true,
    },
    Way {
        name: "nginx aio threads",
        who: Who::NginxThreads,
        cold: true,
    },
    Way {
        name: "oca",
        who: Who::Oca,
        cold: true,
    },
];

/// One stretch of one way.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    median_us: f64,
    tail_us: f64,
    hot_a_second: f64,
    cold_mb_a_second: f64,
}

/// The stretches of every round, in the order of [`WAYS`].
#[derive(Debug)]
pub(crate) struct Outcome(Vec<[Stretch; WAYS.len()]>);

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<Outcome> {
    let disk = Disk::make(DISK_BYTES, Some(RATE))?;
    let group = disk.group();
    let servers = Servers::start(Plan {
        dir: disk.path(),
        kinds: &[Kind::Small, Kind::Cold],
        threads: true,
        group: group.as_deref(),
    })
    .await?;
    eprintln!("{}", servers.conditions()?);
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let mut stretches = Vec::new();
        for way in WAYS {
            let stretch = stretch(&servers, way, effort).await;
            stretches.push(stretch.context(way.name)?);
        }
        rounds.extend(<[Stretch; WAYS.len()]>::try_from(stretches));
    }
    Ok(Outcome(rounds))
}

async fn stretch(servers: &Servers, way: Way, effort: Effort) -> anyhow::Result<Stretch> {
    files::warm(servers.media(), Kind::Small)?;
    files::chill(servers.media(), Kind::Cold)?;
    let hot = servers.target(way.who, Kind::Small, Transport::Plain)?;
    let hot = Load::start(hot, CONNECTIONS).await?;
    let cold = match way.cold {
        true => {
            let target = servers.target(way.who, Kind::Cold, Transport::Plain)?;
            Some(Load::start(target, CONNECTIONS).await?)
        }
        false => None,
    };
    clock::sleep(effort.warm_up).await;
    hot.begin();
    let cold_bytes = || cold.as_ref().map_or(0, Load::bytes);
    let (begun, hot_before, cold_before) = (clock::now(), hot.bytes(), cold_bytes());
    clock::sleep(effort.measured).await;
    let seconds = (clock::now() - begun).as_secs_f64();
    let (hot_bytes, cold_bytes) = (hot.bytes() - hot_before, cold_bytes() - cold_before);
    let latencies = hot.stop(Duration::ZERO).await?;
    if let Some(cold) = cold {
        cold.stop(Duration::ZERO).await?;
    }
    let quantile = |share| latencies.quantile_us(share).context("no hot answer");
    #[allow(clippy::cast_precision_loss)]
    let stretch = Stretch {
        median_us: quantile(0.5)?,
        tail_us: quantile(0.99)?,
        hot_a_second: hot_bytes as f64 / Kind::Small.bytes() as f64 / seconds,
        cold_mb_a_second: cold_bytes as f64 / seconds / 1e6,
    };
    #[allow(clippy::cast_precision_loss)]
    let most = RATE as f64 * 1.5 / 1e6;
    anyhow::ensure!(
        stretch.cold_mb_a_second < most,
        "the disk gave {:.0} MB/s and should be throttled to {} MB/s",
        stretch.cold_mb_a_second,
        RATE / 1_000_000,
    );
    Ok(stretch)
}

impl Outcome {
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let [ours_alone, nginx_alone, naive, threads, ours] = [0, 1, 2, 3, 4];
        let figure = |name: &str, bar, us: usize, peer: usize, of: fn(&Stretch) -> f64| {
            let pair = |round: &[Stretch; WAYS.len()]| Pair {
                ours: of(&round[us]),
                peer: of(&round[peer]),
            };
            let pairs: Vec<Pair> = self.0.iter().map(pair).collect();
            Figure::new(name, bar, &pairs)
        };
        let told = |what: &str, peer: usize, of: fn(&Stretch) -> f64| {
            let name = format!("under cold reads, against {}: {what}", WAYS[peer].name);
            figure(&name, None, ours, peer, of)
        };
        let mut figures = vec![
            figure(JUDGED, Some(BAR), ours, ours_alone, |one| one.median_us),
            figure(
                "hot 16 KB p50 us, no cold reads, against nginx",
                None,
                ours_alone,
                nginx_alone,
                |one| one.median_us,
            ),
        ];
        figures.push(told("hot p99 us", ours_alone, |one| one.tail_us));
        figures.push(told("hot req/s", ours_alone, |one| one.hot_a_second));
        for peer in [naive, threads] {
            figures.push(told("hot p50 us", peer, |one| one.median_us));
            figures.push(told("hot p99 us", peer, |one| one.tail_us));
            figures.push(told("hot req/s", peer, |one| one.hot_a_second));
            figures.push(told("cold MB/s", peer, |one| one.cold_mb_a_second));
        }
        figures
    }

    /// Medians, one line a way.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_header([
            "cold reads at 100 MB/s",
            "hot p50 us",
            "hot p99 us",
            "hot req/s",
            "cold MB/s",
        ]);
        for (at, way) in WAYS.iter().enumerate() {
            let median = |of: fn(&Stretch) -> f64| {
                let mut values: Vec<f64> = self.0.iter().map(|round| of(&round[at])).collect();
                values.sort_by(f64::total_cmp);
                let middle = values.get(values.len() / 2).copied();
                short(middle.unwrap_or(f64::NAN)).to_string()
            };
            table.add_row([
                way.name.to_owned(),
                median(|one| one.median_us),
                median(|one| one.tail_us),
                median(|one| one.hot_a_second),
                match way.cold {
                    true => median(|one| one.cold_mb_a_second),
                    false => String::new(),
                },
            ]);
        }
        table
    }
}
