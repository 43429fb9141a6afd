//! The bench of the data path: our box beside nginx, the same bytes, CPU for CPU.
//!
//! [`servers`] starts both on one core → [`load`] asks both from the other core, in rounds that
//! take turns → [`figure`] compares the CPU time of each round's pair. CPU is what the scheduler
//! charged to the server's threads; rates on a shared machine say little and are not compared.
//! Started by `benches/run serve`.
//!
//! I/O: writes files below a temporary directory, starts processes, loads them over loopback.

mod figure;
mod load;
mod servers;

use anyhow::Context as _;
use figure::Figure;
use figure::Pair;
use load::Load;
use load::Transport;
use oca::clock;
use servers::Kind;
use servers::Servers;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Paired rounds a figure.
const ROUNDS: usize = 7;

/// Measured time of one server in one round.
const MEASURED: Duration = Duration::from_millis(1_200);

/// Before it: connections are made, buffers reach their size.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    kind: Kind,
    transport: Transport,
    connections: usize,
    /// Nanoseconds of CPU are divided by requests or by bytes …
    per_byte: bool,
    /// … and shown in this unit: µs a request, or CPU-s a GB (which is ns a byte).
    divide_by: f64,
    bar: f64,
}

const CASES: [Case; 3] = [
    Case {
        name: "plain 16 KB: CPU us a request",
        kind: Kind::Small,
        transport: Transport::Plain,
        connections: 64,
        per_byte: false,
        divide_by: 1e3,
        bar: 0.85,
    },
    Case {
        name: "plain 1 MB: CPU us a request",
        kind: Kind::Large,
        transport: Transport::Plain,
        connections: 64,
        per_byte: false,
        divide_by: 1e3,
        bar: 1.0,
    },
    Case {
        name: "TLS 1.3 AES-128-GCM 1 MB: CPU s a GB",
        kind: Kind::Large,
        transport: Transport::Tls,
        connections: 16,
        per_byte: true,
        divide_by: 1.0,
        bar: 0.50,
    },
];

fn main() -> ExitCode {
    let json = std::env::args().any(|argument| argument == "--json");
    match run(json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches/run serve: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let begun = clock::now();
        let servers = Servers::start().await?;
        let prepared = (clock::now() - begun).as_secs();
        eprintln!("{}; prepared in {prepared} s", servers.conditions()?);
        let mut figures = Vec::new();
        for case in CASES {
            let figure = measure(&servers, case).await.context(case.name)?;
            if json {
                writeln!(std::io::stdout(), "{}", figure.json())?;
            }
            figures.push(figure);
        }
        if !json {
            writeln!(std::io::stdout(), "{}", figure::table(&figures))?;
        }
        Ok(())
    })
}

async fn measure(servers: &Servers, case: Case) -> anyhow::Result<Figure> {
    let mut pairs = Vec::new();
    for round in 0..ROUNDS {
        // Who goes first changes, so that a machine that warms up or tires favours nobody.
        let mut pair = Pair::default();
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                pair.ours = cost(servers, case, true).await.context("oca")?;
            } else {
                pair.peer = cost(servers, case, false).await.context("nginx")?;
            }
        }
        pairs.push(pair);
    }
    Ok(Figure::new(case.name, case.bar, pairs))
}

/// CPU time of one server for a unit of work, over one stretch of load.
async fn cost(servers: &Servers, case: Case, ours: bool) -> anyhow::Result<f64> {
    let target = servers.target(case.kind, case.transport, ours)?;
    let load = Load::start(target, case.connections);
    clock::sleep(WARM_UP).await;
    let (cpu, done) = (servers.cpu_ns(ours)?, load.done());
    clock::sleep(MEASURED).await;
    let (cpu, done) = (servers.cpu_ns(ours)? - cpu, load.done() - done);
    load.stop().await?;
    anyhow::ensure!(done > 0, "no request was answered");
    let work = if case.per_byte {
        done * case.kind.bytes() as u64
    } else {
        done
    };
    #[allow(clippy::cast_precision_loss)]
    let cost = cpu as f64 / work as f64 / case.divide_by;
    Ok(cost)
}
