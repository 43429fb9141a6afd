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
    figures.extend(costs(title, outcome));
    figures
}

/// What the fleet cost, and how fast a withdrawal took effect.
fn costs(title: &str, outcome: &Outcome) -> [Figure; 7] {
    let one = |name: &str, value: f64| Figure::one(format!("{title}: {name}"), value, Bar::None);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let cores = outcome.cpu_seconds / outcome.seconds;
    let follow = outcome.withdrawals.percentile(100);
    let slowest = "withdrawal to steering, slowest ms";
    [
        one("withdrawals followed", outcome.withdrawals.accepted as f64),
        Figure {
            bar: Bar::AtMost(WITHDRAWAL_MAX_MS),
            ..one(slowest, follow)
        },
        one("connections of boxes", outcome.dials as f64),
        one("CPU of the control plane, cores", cores),
        one(
            "memory at the start, MB",
            megabytes(outcome.rss_start_bytes),
        ),
        one(
            "memory after the start, MB",
            megabytes(outcome.rss_settled_bytes),
        ),
        one("memory at the end, MB", megabytes(outcome.rss_end_bytes)),
    ]
}

/// Without what never happened: nobody enrols after the start.
fn latency(title: &str, name: &str, calls: &Calls) -> impl Iterator<Item = Figure> {
    let one = |what: &str, ms| Figure::one(format!("{title}: {name}, {what}"), ms, Bar::None);
    let figures = [
        one("p50 ms", calls.percentile(50)),
        one("p99 ms", calls.percentile(99)),
        one("p99 ms after the start", calls.settled_percentile(99)),
    ];
    figures.into_iter().filter(|figure| figure.ours.is_finite())
}
