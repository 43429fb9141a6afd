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

/// Of the gap beyond a third of the hold time, as the router sees it, and after it was due, which
/// is earlier by chance (RFC 4271 section 10) and only the speaker itself knows.
const LATE_MS_MAX: f64 = 100.0;

/// What covers an address, asked while it goes on: of all answers but one in a hundred, and of the
/// worst, who may have waited for a turn on a machine with fewer cores than there are processes.
const ANSWER_MS_MAX: f64 = 10.0;
const WORST_MS_MAX: f64 = 100.0;

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
    let latest: f64 = receiver.ask("late")?.parse()?;
    let heard = router.heard();
    let late = heard
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).saturating_sub(KEEPALIVE).as_secs_f64() * 1e3);
    let late = sorted(late.collect(), "no keepalives")?;
    let answers = sorted(answers, "no answers")?;
    eprintln!(
        "storm: {} keepalives, {} answers",
        late.len(),
        answers.len()
    );
    let keepalive = "keepalives in a storm";
    let answer = "what covers an address, in a storm";
    Ok(vec![
        held(
            keepalive,
            "p99 ms beyond a second",
            share(&late, 99),
            LATE_MS_MAX,
        ),
        held(keepalive, "worst ms after it was due", latest, LATE_MS_MAX),
        held(answer, "p50 ms", share(&answers, 50), ANSWER_MS_MAX),
        held(answer, "p99 ms", share(&answers, 99), ANSWER_MS_MAX),
        held(answer, "worst ms", share(&answers, 100), WORST_MS_MAX),
    ])
}

fn sorted(mut found: Vec<f64>, none: &'static str) -> anyhow::Result<Vec<f64>> {
    anyhow::ensure!(!found.is_empty(), none);
    found.sort_by(f64::total_cmp);
    Ok(found)
}

/// What so many of a hundred stay below.
fn share(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

/// A time beside the most allowed.
fn held(what: &str, unit: &str, ours: f64, peer: f64) -> Figure {
    let name = format!("{what}: {unit}, and the most allowed");
    Figure::new(name, Some(1.0), &[Pair { ours, peer }])
}
