//! `oca speedtest URL`: how fast is the way to a box?
//!
//! `place` reads the URL → `wire` connects and asks → `estimate` decides from what has come when
//! enough is known → `load` runs the connections → `tell` shows it. Latency first, then download,
//! then upload, each with the latency under that load. Memory does not grow with the rate.
//!
//! I/O: connects, measures, writes the terminal.

mod estimate;
mod load;
mod place;
mod tell;
mod trust;
mod wire;

use super::Exit;
use crate::clock;
use crate::units;
use anyhow::Context as _;
use clap::Args;
use estimate::Latency;
use load::Direction;
use load::Measured;
use place::Place;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tell::Shown;
use wire::Client;
use wire::WireError;

/// Probes of an idle line: the first is for warming up.
const PROBES: usize = 12;

/// Bounds of `--time`: below the first nothing can agree, above the second a box cuts transfers.
const TIME_MIN: Duration = Duration::from_secs(2);
const TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct SpeedtestArgs {
    /// The box: `https://NAME[:PORT]` or `http://…`; a query, such as a token, goes with each
    /// request.
    url: String,
    /// Connections that load the line together, 1 to 8.
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u8).range(1..=8))]
    connections: u8,
    /// The longest that each direction is measured; it ends earlier, once estimates agree.
    #[arg(long, value_name = "TIME", default_value = "15s")]
    time: String,
    /// Trust the authorities in this PEM file instead of the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Do not check the certificate: anybody on the way may answer instead.
    #[arg(long)]
    insecure: bool,
    /// Measure latency and download alone.
    #[arg(long)]
    no_upload: bool,
    /// Print JSON.
    #[arg(short, long)]
    json: bool,
}

/// What was found.
#[derive(Debug)]
struct Findings {
    url: String,
    server: String,
    tls: Option<&'static str>,
    idle: Latency,
    download: Measured,
    upload: Option<Measured>,
}

pub(super) fn speedtest(args: &SpeedtestArgs) -> anyhow::Result<Exit> {
    let usage = |problem: String| {
        eprintln!("oca: {problem}");
        Ok(Exit::Usage)
    };
    let place = match Place::parse(&args.url) {
        Ok(place) => place,
        Err(problem) => return usage(problem.to_string()),
    };
    let time = match units::parse_duration(&args.time) {
        Ok(time) if (TIME_MIN..=TIME_MAX).contains(&time) => time,
        Ok(_) => return usage("--time is from 2s to 30s".to_owned()),
        Err(error) => return usage(format!("--time: {error}")),
    };
    let tls = match place.is_secure {
        true => Some(trust::client(args.ca.as_deref(), args.insecure)?),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let client = Arc::new(Client::new(place, tls));
    match runtime.block_on(measure(&client, args, time)) {
        Ok(findings) => {
            tell::tell(&findings, args.json)?;
            Ok(Exit::Ok)
        }
        Err(error) => {
            eprintln!("oca: {error}");
            Ok(error.exit())
        }
    }
}

async fn measure(
    client: &Arc<Client>,
    args: &SpeedtestArgs,
    time: Duration,
) -> Result<Findings, WireError> {
    let shown = Shown::new(args.json);
    shown.says("connecting");
    let mut wire = client.connect().await?;
    let (server, tls) = (wire.server.to_string(), wire.tls);
    shown.says("latency");
    let mut idle = Latency::default();
    for number in 0..PROBES {
        let begun = clock::now();
        wire.probe().await?;
        // The first pays for slow start and for whatever the box had not used for long.
        if number > 0 {
            idle.add(clock::now() - begun);
        }
    }
    drop(wire);
    let run = async |direction| {
        let connections = usize::from(args.connections);
        load::run(client, direction, connections, time, &shown).await
    };
    let download = run(Direction::Down).await?;
    let upload = match args.no_upload {
        true => None,
        false => Some(run(Direction::Up).await?),
    };
    shown.ends();
    Ok(Findings {
        url: client.place.to_string(),
        server,
        tls,
        idle,
        download,
        upload,
    })
}
