//! Memory of viewers that say nothing: TLS connections that had one answer and wait.
//!
//! I/O: thousands of connections over loopback.

use crate::figure::Figure;
use crate::figure::Pair;
use crate::files::Kind;
use crate::load::Target;
use crate::load::Transport;
use crate::servers::Place;
use crate::servers::Plan;
use crate::servers::Servers;
use crate::servers::Who;
use crate::viewer::Viewer;
use anyhow::Context as _;
use oca::clock;
use std::time::Duration;
use tokio::task::JoinSet;

/// Handshakes at a time.
const AT_ONCE: usize = 64;

/// What a server holds on to for a moment only is gone after this.
const SETTLED: Duration = Duration::from_millis(1_500);

/// Memory of one server without and with the crowd.
struct Memory {
    before: u64,
    resident: u64,
    proportional: u64,
}

pub(crate) async fn figures(connections: usize) -> anyhow::Result<Vec<Figure>> {
    let place = Place::make()?;
    let servers = Servers::start(Plan {
        dir: place.path(),
        kinds: &[Kind::Small],
        threads: false,
        group: None,
    })
    .await?;
    let ours = memory(&servers, Who::Oca, connections)
        .await
        .context("oca")?;
    let peer = memory(&servers, Who::Nginx, connections)
        .await
        .context("nginx")?;
    #[allow(clippy::cast_precision_loss)]
    let figure = |unit: &str, bar, of: &dyn Fn(&Memory) -> u64, divide_by: f64| {
        let pair = Pair {
            ours: of(&ours) as f64 / divide_by,
            peer: of(&peer) as f64 / divide_by,
        };
        let name = format!("{connections} idle TLS connections: {unit}");
        Figure::new(name, bar, &[pair])
    };
    let each = |memory: &Memory| memory.resident.saturating_sub(memory.before);
    #[allow(clippy::cast_precision_loss)]
    let count = connections as f64;
    Ok(vec![
        figure("RSS MB", Some(1.0), &|memory| memory.resident, 1e6),
        figure("PSS MB", None, &|memory| memory.proportional, 1e6),
        figure("RSS MB before them", None, &|memory| memory.before, 1e6),
        figure("RSS bytes a connection", None, &each, count),
    ])
}

async fn memory(servers: &Servers, who: Who, connections: usize) -> anyhow::Result<Memory> {
    let (before, _) = servers.memory(who)?;
    let target = servers.target(who, Kind::Small, Transport::Tls)?;
    let crowd = crowd(&target, connections).await?;
    clock::sleep(SETTLED).await;
    let (resident, proportional) = servers.memory(who)?;
    drop(crowd);
    Ok(Memory {
        before,
        resident,
        proportional,
    })
}

/// Connects, fetches one file each, and waits.
async fn crowd(target: &Target, connections: usize) -> anyhow::Result<Vec<Viewer>> {
    let mut arriving = JoinSet::new();
    let mut here = Vec::new();
    let mut next = 0;
    while here.len() < connections {
        while next < connections && arriving.len() < AT_ONCE {
            let (target, number) = (target.clone(), next);
            next += 1;
            arriving.spawn(async move {
                let mut viewer = Viewer::connect(&target, number).await?;
                let file = number as u64 % target.count;
                anyhow::ensure!(viewer.fetch(&target, file, |_| {}).await?, "closed");
                viewer.rest();
                Ok(viewer)
            });
        }
        let arrived = arriving.join_next().await.context("nobody comes")?;
        let arrived = arrived.context("a client panicked")?;
        here.push(arrived.with_context(|| format!("after {} connections", here.len()))?);
    }
    Ok(here)
}
