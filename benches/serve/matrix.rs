//! Sizes × connections × plain and TLS: CPU, rate and latency beside nginx.
//!
//! Rounds take turns between the servers. CPU is what the scheduler charged to the server's
//! threads; on a shared machine it is the figure that means something, rates and latencies are
//! told.

use crate::figure::Figure;
use crate::figure::Pair;
use crate::files::Kind;
use crate::latency::Latencies;
use crate::load::Load;
use crate::load::Transport;
use crate::servers::Servers;
use crate::servers::Who;
use anyhow::Context as _;
use comfy_table::Table;
use oca::clock;
use std::time::Duration;

/// Files in flight in all past which a stretch may end before the first of them is complete …
const SLOW_BYTES: usize = 2_000_000_000;

/// … so that the last round waits for them this long.
const PATIENCE: Duration = Duration::from_secs(25);

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Of the figures with a bar.
    pub(crate) rounds_judged: usize,
    /// Connections are made before; buffers reach their size in it.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    kind: Kind,
    transport: Transport,
    connections: usize,
    bar: Option<f64>,
}

/// All figures of a case.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    cost: Figure,
    rate: Figure,
    rate_unit: &'static str,
    median: Figure,
    tail: Figure,
}

/// One stretch of load on one server.
struct Stretch {
    cpu_ns: f64,
    requests: f64,
    bytes: f64,
    seconds: f64,
    latencies: Latencies,
}

/// The cases; with `quick` only those that are judged.
pub(crate) fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for transport in [Transport::Plain, Transport::Tls] {
        for kind in [Kind::Small, Kind::Large, Kind::Huge] {
            for connections in [1, 64, 1_000] {
                let bar = match (transport, kind, connections) {
                    (Transport::Plain, Kind::Small, 64) => Some(0.85),
                    (Transport::Plain, Kind::Large, 64) => Some(1.0),
                    (Transport::Tls, Kind::Large, 64) => Some(0.50),
                    _ => None,
                };
                if bar.is_some() || !quick {
                    cases.push(Case {
                        kind,
                        transport,
                        connections,
                        bar,
                    });
                }
            }
        }
    }
    cases
}

impl Case {
    pub(crate) fn name(&self) -> String {
        let transport = match self.transport {
            Transport::Plain => "plain",
            Transport::Tls => "TLS 1.3 AES-128-GCM",
        };
        format!("{transport} {} x{}", self.kind.size(), self.connections)
    }

    /// The figure with a bar, where this case has one and could not be measured.
    pub(crate) fn missing(&self) -> Option<Figure> {
        let unit = match self.kind == Kind::Small {
            true => "CPU us a request",
            false => "CPU s a GB",
        };
        let name = format!("{}: {unit}", self.name());
        self.bar.map(|bar| Figure::missing(name, bar))
    }

    /// Runs the rounds.
    pub(crate) async fn measure(self, servers: &Servers, effort: Effort) -> anyhow::Result<Row> {
        let rounds = match self.bar {
            Some(_) => effort.rounds_judged,
            None => effort.rounds,
        };
        let mut stretches = Vec::new();
        for round in 0..rounds {
            let is_slow = self.connections * self.kind.bytes() > SLOW_BYTES;
            let patience = match is_slow && round + 1 == rounds {
                true => PATIENCE,
                false => Duration::ZERO,
            };
            // Who goes first changes, so that a machine that warms up or tires favours nobody.
            let (ours, peer);
            if round % 2 == 0 {
                ours = self.stretch(servers, Who::Oca, effort, patience).await?;
                peer = self.stretch(servers, Who::Nginx, effort, patience).await?;
            } else {
                peer = self.stretch(servers, Who::Nginx, effort, patience).await?;
                ours = self.stretch(servers, Who::Oca, effort, patience).await?;
            }
            stretches.push((ours, peer));
        }
        Ok(self.row(&stretches))
    }

    async fn stretch(
        self,
        servers: &Servers,
        who: Who,
        effort: Effort,
        patience: Duration,
    ) -> anyhow::Result<Stretch> {
        let target = servers.target(who, self.kind, self.transport)?;
        let load = Load::start(target, self.connections).await;
        let load = load.with_context(|| format!("{who:?}"))?;
        clock::sleep(effort.warm_up).await;
        load.begin();
        let (begun, cpu, bytes) = (clock::now(), servers.cpu_ns(who)?, load.bytes());
        clock::sleep(effort.measured).await;
        let cpu = servers.cpu_ns(who)? - cpu;
        let (bytes, seconds) = (load.bytes() - bytes, (clock::now() - begun).as_secs_f64());
        let latencies = load.stop(patience).await;
        let latencies = latencies.with_context(|| format!("{who:?}"))?;
        anyhow::ensure!(bytes > 0, "{who:?} sent nothing");
        #[allow(clippy::cast_precision_loss)]
        Ok(Stretch {
            cpu_ns: cpu as f64,
            requests: bytes as f64 / self.kind.bytes() as f64,
            bytes: bytes as f64,
            seconds,
            latencies,
        })
    }

    fn row(self, stretches: &[(Stretch, Stretch)]) -> Row {
        let name = self.name();
        let figure = |unit: &str, bar, of: &dyn Fn(&Stretch) -> Option<f64>| {
            let pair = |(ours, peer): &(Stretch, Stretch)| {
                let (ours, peer) = (of(ours)?, of(peer)?);
                Some(Pair { ours, peer })
            };
            let pairs: Vec<Pair> = stretches.iter().filter_map(pair).collect();
            Figure::new(format!("{name}: {unit}"), bar, &pairs)
        };
        let is_small = self.kind == Kind::Small;
        Row {
            cost: match is_small {
                true => figure("CPU us a request", self.bar, &|one| {
                    Some(one.cpu_ns / one.requests / 1e3)
                }),
                false => figure("CPU s a GB", self.bar, &|one| Some(one.cpu_ns / one.bytes)),
            },
            rate: match is_small {
                true => figure("requests a second", None, &|one| {
                    Some(one.requests / one.seconds)
                }),
                false => figure("GB a second", None, &|one| {
                    Some(one.bytes / one.seconds / 1e9)
                }),
            },
            rate_unit: if is_small { "req/s" } else { "GB/s" },
            median: figure("p50 us", None, &|one| one.latencies.quantile_us(0.5)),
            tail: figure("p99 us", None, &|one| one.latencies.quantile_us(0.99)),
            name,
        }
    }
}

impl Row {
    pub(crate) fn figures(&self) -> [&Figure; 4] {
        [&self.cost, &self.rate, &self.median, &self.tail]
    }
}

/// One line a case.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.set_header([
        "ours / nginx",
        "CPU a unit",
        "ratio",
        "spread",
        "bar",
        "rate",
        "p50 us",
        "p99 us",
    ]);
    for row in rows {
        let [ours, peer, ratio, spread, verdict] = row.cost.cells();
        let both = |figure: &Figure| {
            let [ours, peer, ..] = figure.cells();
            format!("{ours} / {peer}")
        };
        let unit = row.cost.name.rsplit("CPU ").next().unwrap_or_default();
        table.add_row([
            row.name.clone(),
            format!("{ours} / {peer} {unit}"),
            ratio,
            spread,
            verdict,
            format!("{} {}", both(&row.rate), row.rate_unit),
            both(&row.median),
            both(&row.tail),
        ]);
    }
    table
}
