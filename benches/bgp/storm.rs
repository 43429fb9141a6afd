//! A router that changes every route over and over: are keepalives in time, and is the operator
//! answered?
//!
//! I/O: starts our receiver, loads it over loopback, asks it.

use crate::figure::Figure;
use crate::figure::Pair;
use crate::receivers;
use crate::receivers::Receiver;
use crate::router::Router;
use oca::clock;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The shortest there is; a third of it is between two keepalives.
const HOLD: u16 = 3;
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Later than a third of the hold time after the one before.
const LATE_MS_MAX: f64 = 100.0;

/// What covers an address, asked while it goes on.
const ANSWER_MS_MAX: f64 = 10.0;

const STORM: Duration = Duration::from_secs(30);
const STORM_QUICK: Duration = Duration::from_secs(8);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn figures(
    routes: usize,
    full: &[u8],
    other: &[u8],
    quick: bool,
) -> anyhow::Result<Vec<Figure>> {
    let mut receiver = Receiver::ours(HOLD)?;
    let mut router = Router::connect(receivers::router(0), receiver.address, HOLD)?;
    router.send(full)?;
    while receiver.routes()? < routes {
        router.keepalive()?;
        clock::block_for(PAUSE);
    }
    let (begun, storm) = (clock::now(), if quick { STORM_QUICK } else { STORM });
    let mut rng = fastrand::Rng::with_seed(3);
    let mut answers = Vec::new();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut rounds = [other, full].into_iter().cycle();
            while begun.elapsed() < storm {
                router.send(rounds.next().unwrap_or(full))?;
            }
            Ok::<(), anyhow::Error>(())
        });
        while !sender.is_finished() {
            let asked = clock::now();
            receiver.ask(&Ipv4Addr::from_bits(rng.u32(..)).to_string())?;
            answers.push(asked.elapsed().as_secs_f64() * 1e3);
            clock::block_for(PAUSE);
        }
        sender
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the sender panicked")))
    })?;
    let heard = router.heard();
    let late = heard
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).saturating_sub(KEEPALIVE).as_secs_f64() * 1e3);
    Ok(vec![
        p99("keepalives in a storm", late.collect(), LATE_MS_MAX)?,
        p99("what covers an address, in a storm", answers, ANSWER_MS_MAX)?,
    ])
}

fn p99(name: &str, mut found: Vec<f64>, most: f64) -> anyhow::Result<Figure> {
    anyhow::ensure!(!found.is_empty(), "{name}: none came");
    found.sort_by(f64::total_cmp);
    let place = (found.len() * 99).div_ceil(100).saturating_sub(1);
    let pair = Pair {
        ours: found[place],
        peer: most,
    };
    let name = format!(
        "{name}: p99 of {}, ms late, and the most allowed",
        found.len()
    );
    Ok(Figure::new(name, Some(1.0), &[pair]))
}
