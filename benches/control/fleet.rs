//! The figures of a simulated fleet: what a thousand boxes cost, and what they and viewers feel.

use super::figure::Bar;
use super::figure::Figure;
use super::simulation;
use super::simulation::Calls;
use super::simulation::Options;
use super::simulation::Outcome;
use std::path::PathBuf;
use std::time::Duration;

/// As the defaults of a box and of its control plane.
const REPORT_EVERY: Duration = Duration::from_secs(300);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// Steering questions a second beside the fleet.
const QUESTIONS: u32 = 200;

/// A withdrawal leaves steering within it (DESIGN.md section 6).
const WITHDRAWAL_MAX_MS: f64 = 10_000.0;

pub(crate) fn figures(boxes: u32, time: Duration) -> anyhow::Result<Vec<Figure>> {
    let options = Options {
        boxes,
        time,
        // A short run sees several reports of each box, too.
        report_every: REPORT_EVERY.min(time / 4),
        heartbeat_every: HEARTBEAT_EVERY.min(time / 8),
        questions: QUESTIONS,
        oca: PathBuf::from(env!("CARGO_BIN_EXE_oca")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(simulation::run(&options))?;
    for complaint in &outcome.complaints {
        eprintln!("fleet: {complaint}");
    }
    let title = format!("fleet of {boxes}, {:.1} min", time.as_secs_f64() / 60.0);
    Ok(told(&title, f64::from(boxes), &outcome))
}

fn told(title: &str, boxes: f64, outcome: &Outcome) -> Vec<Figure> {
    let one =
        |name: &str, value: f64, bar: Bar| Figure::one(format!("{title}: {name}"), value, bar);
    let count = |number: u64| number as f64;
    let mut figures = vec![
        one(
            "enrolments a second",
            boxes / outcome.enrol_seconds,
            Bar::None,
        ),
        one(
            "boxes open at the end",
            count(outcome.open),
            Bar::AtLeast(boxes),
        ),
    ];
    for (name, calls) in [
        ("enrolments", &outcome.enrolments),
        ("heartbeats", &outcome.heartbeats),
        ("reports", &outcome.reports),
        ("manifests", &outcome.manifests),
        ("steering answers", &outcome.questions),
    ] {
        figures.extend([
            one(&format!("{name} sent"), count(calls.sent), Bar::None),
            one(
                &format!("{name} refused or failed"),
                count(calls.refused()),
                Bar::AtMost(0.0),
            ),
        ]);
        figures.extend(latency(title, name, calls));
    }
    let named = count(outcome.named) / count(outcome.questions.accepted.max(1));
    figures.push(one(
        "steering answers that name a box, share",
        named,
        Bar::None,
    ));
    let follow = outcome.withdrawals.percentile(100);
    figures.extend([
        one(
            "withdrawals followed",
            count(outcome.withdrawals.accepted),
            Bar::None,
        ),
        one(
            "withdrawal to steering, slowest ms",
            follow,
            Bar::AtMost(WITHDRAWAL_MAX_MS),
        ),
        one("connections of boxes", count(outcome.dials), Bar::None),
        one(
            "CPU of the control plane, cores",
            outcome.cpu_seconds / outcome.seconds,
            Bar::None,
        ),
        one(
            "memory at the start, MB",
            count(outcome.rss_start_bytes) / 1e6,
            Bar::None,
        ),
        one(
            "memory at the end, MB",
            count(outcome.rss_end_bytes) / 1e6,
            Bar::None,
        ),
    ]);
    figures
}

fn latency(title: &str, name: &str, calls: &Calls) -> [Figure; 2] {
    [50, 99].map(|percent| {
        let name = format!("{title}: {name}, p{percent} ms");
        Figure::one(name, calls.percentile(percent), Bar::None)
    })
}
