//! A short run of the fleet bench: some boxes, one real control plane, a viewer, some seconds.
//!
//! The boxes use the box's own link client over real mutual TLS. What is judged is that everybody
//! is served, not how fast: that is the bench's.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../benches/control/simulation/mod.rs"]
mod simulation;

use simulation::Options;
use std::path::PathBuf;
use std::time::Duration;

const BOXES: u32 = 50;

#[tokio::test]
async fn fifty_boxes_enrol_report_and_beat_and_viewers_are_answered_all_the_while() {
    let options = Options {
        boxes: BOXES,
        time: Duration::from_secs(20),
        report_every: Duration::from_secs(4),
        heartbeat_every: Duration::from_secs(2),
        questions: 50,
        oca: PathBuf::from(env!("CARGO_BIN_EXE_oca")),
    };
    let seen = simulation::run(&options).await.unwrap();
    let complaints = &seen.complaints;
    for (name, calls, at_least) in [
        ("enrolments", &seen.enrolments, BOXES),
        ("heartbeats", &seen.heartbeats, BOXES * 5),
        ("reports", &seen.reports, BOXES * 2),
        ("manifests", &seen.manifests, BOXES),
        ("questions", &seen.questions, 500),
        ("withdrawals", &seen.withdrawals, 1),
    ] {
        let (sent, accepted) = (calls.sent, calls.accepted);
        assert_eq!(sent, accepted, "{name}: {complaints:?}");
        assert!(sent >= u64::from(at_least), "{name}: {sent}");
    }
    assert_eq!(seen.open, u64::from(BOXES), "{complaints:?}");
    // All but those before the boxes had reported.
    assert!(seen.named * 10 > seen.questions.sent * 7, "{}", seen.named);
    assert!(seen.cpu_seconds < seen.seconds, "{}", seen.cpu_seconds);
    assert!(seen.rss_end_bytes < 1 << 30, "{}", seen.rss_end_bytes);
    assert!(seen.withdrawals.percentile(100) < 10_000.0);
    assert!(seen.heartbeats.settled_percentile(50) < 1_000.0);
    assert!(seen.rss_settled_bytes > 0);
    // Two a box; reports far apart find their connection closed, these do not.
    assert!(seen.dials <= u64::from(BOXES) * 4, "{} dials", seen.dials);
    assert!(seen.rss_start_bytes > 0 && seen.enrol_seconds > 0.0);
    assert_eq!(seen.enrolments.refused(), 0);
}
