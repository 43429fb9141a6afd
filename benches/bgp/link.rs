//! A million routes become a report, as `health` composes and sends one: on a blocking thread,
//! while a runtime's thread goes on.

use crate::figure::Figure;
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

pub(crate) fn figures(table: &Table) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
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
        let composed = composed(Outbox::new(1), 1, hash, before).await?;
        let mut outbox = composed.outbox;
        outbox.acknowledge(oca::link::message::Acked {
            catalogue: None,
            routes: Some(oca::link::message::Ack {
                epoch: 1,
                position: 2,
            }),
        });
        let (whole_ms, whole_stall, bytes) = (composed.ms, composed.stall_ms, composed.bytes);
        let step = self::composed(outbox, 2, hash, after).await?;
        anyhow::ensure!(step.is_step, "the second report was whole");
        Ok(vec![
            alone("report of all routes: ms on its own thread", whole_ms),
            alone("report of all routes: MB compressed", bytes / 1e6),
            alone(
                "report of all routes: longest stall of the runtime, ms",
                whole_stall,
            ),
            alone("report of 1 % of the routes: ms on its own thread", step.ms),
        ])
    })
}

struct Composed {
    outbox: Outbox,
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
    Ok(Composed {
        outbox,
        ms: begun.elapsed().as_secs_f64() * 1e3,
        stall_ms: stall.as_secs_f64() * 1e3,
        bytes,
        is_step,
    })
}
