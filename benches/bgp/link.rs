//! A million routes become a report, as `health` composes and sends one: on a blocking thread,
//! while a runtime's thread goes on.

use crate::figure::Figure;
use crate::figure::Pair;
use crate::phases::alone;
use crate::stream::Table;
use oca::clock;
use oca::link::body;
use oca::link::message::Routes;
use oca::link::steps::Outbox;
use oca::route::Route;
use oca::route_table::RouteTable;
use oca::set_hash::SetHash;
use std::time::Duration;

/// How often the runtime's thread looks at the clock.
const TICK: Duration = Duration::from_millis(1);

/// Of each report.
const ROUNDS: usize = 3;

/// Longest that anything else on the runtime may wait while a million routes are reported: what a
/// keepalive may be late.
const STALL_MS_MAX: f64 = 100.0;

pub(crate) fn figures(table: &Table) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let routes: Vec<Route> = table.routes().collect();
    let hash = SetHash::of(routes.iter().map(Route::item));
    let before: RouteTable = routes.iter().cloned().collect();
    // Every hundredth is gone.
    let fewer = routes
        .iter()
        .enumerate()
        .filter(|(place, _)| place % 100 > 0);
    let after: RouteTable = fewer.map(|(_, route)| route.clone()).collect();
    drop(routes);
    let (mut whole, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let first = composed(Outbox::new(1), 1, hash, before.clone());
        let mut first = runtime.block_on(first)?;
        first.outbox.acknowledge(oca::link::message::Acked {
            catalogue: None,
            routes: Some(oca::link::message::Ack {
                epoch: 1,
                position: 2,
            }),
        });
        let step = composed(first.outbox, 2, hash, after.clone());
        let step = runtime.block_on(step)?;
        anyhow::ensure!(step.told.is_step, "the second report was whole");
        whole.push(first.told);
        steps.push(step.told);
    }
    let of =
        |told: &[Told], value: fn(&Told) -> f64| -> Vec<f64> { told.iter().map(value).collect() };
    let all = "report of all routes";
    Ok(vec![
        alone(
            format!("{all}: ms on its own thread"),
            &of(&whole, |told| told.ms),
        ),
        alone(
            format!("{all}: MB compressed"),
            &of(&whole, |told| told.bytes / 1e6),
        ),
        stall(all, &of(&whole, |told| told.stall_ms)),
        alone(
            "report of 1 % of the routes: ms on its own thread",
            &of(&steps, |told| told.ms),
        ),
        stall(
            "report of 1 % of the routes",
            &of(&steps, |told| told.stall_ms),
        ),
    ])
}

fn stall(name: &str, values: &[f64]) -> Figure {
    let pair = |value: &f64| Pair {
        ours: *value,
        peer: STALL_MS_MAX,
    };
    let pairs: Vec<Pair> = values.iter().map(pair).collect();
    let name = format!("{name}: longest stall of the runtime, ms, and the most allowed");
    Figure::new(name, Some(1.0), &pairs)
}

struct Composed {
    outbox: Outbox,
    told: Told,
}

struct Told {
    ms: f64,
    stall_ms: f64,
    bytes: f64,
    is_step: bool,
}

async fn composed(
    mut outbox: Outbox,
    generation: u64,
    hash: SetHash,
    table: RouteTable,
) -> anyhow::Result<Composed> {
    let begun = clock::now();
    let mut work = tokio::task::spawn_blocking(move || {
        let routes: Routes = outbox.routes(generation, &hash, &table);
        let encoded = body::encode(&routes);
        let (is_step, bytes) = (routes.from > 0, encoded.map(|encoded| encoded.len()));
        (outbox, is_step, bytes)
    });
    let (mut last, mut stall) = (begun, Duration::ZERO);
    let (outbox, is_step, bytes) = loop {
        tokio::select! {
            done = &mut work => break done?,
            () = clock::sleep(TICK) => {
                stall = stall.max(last.elapsed());
                last = clock::now();
            }
        }
    };
    #[allow(clippy::cast_precision_loss, reason = "megabytes")]
    let bytes = bytes? as f64;
    let told = Told {
        ms: begun.elapsed().as_secs_f64() * 1e3,
        stall_ms: stall.as_secs_f64() * 1e3,
        bytes,
        is_step,
    };
    Ok(Composed { outbox, told })
}
