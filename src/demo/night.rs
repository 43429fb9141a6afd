//! The third act: a night. Boxes that hold next to nothing fill themselves, from the origin and
//! from each other, inside a window and under a cap.
//!
//! shut → an urgent object → the window opens → one box is killed in mid-fill → a title is
//! withdrawn → a lying source is caught → live → complete → the window closes → play. The clock is
//! everybody's own; the night is short because window and content are.
//!
//! I/O: drives [`super::camp`] and viewers.

use super::camp;
use super::camp::Camp;
use super::camp::Standing;
use super::content::Content;
use super::filler;
use super::filler::Filler;
use super::play;
use super::report::Outcome;
use super::report::Report;
use super::viewer;
use super::viewer::Viewer;
use crate::clock;
use crate::clock::Instant;
use crate::units::Bytes;
use anyhow::Context as _;
use rustls::version::TLS13;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// 202 MB in 49 files, and the film.
pub(super) const FILLER: Filler = Filler {
    titles: 8,
    files: 6,
    file_bytes: 4_200_001,
};

/// What comes at noon: one file that every box is to have at once.
const URGENT: &str = "news/video/today.m4s";
const URGENT_BYTES: u64 = 2_500_000;

/// Small enough for the pace of deletion: 5 % of what is held.
const WITHDRAWN: &str = "passing";
const WITHDRAWN_BYTES: u64 = 6_000_000;

/// The window opens so long after it was ordered: boxes hear of it within a heartbeat.
const OPENS_IN: Duration = Duration::from_secs(8);

/// Twice what the bytes need at the cap.
const WINDOW: Duration = Duration::from_secs(50);

/// Nothing may come in while the window is shut for so long.
const WATCHED: Duration = Duration::from_secs(3);

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

const VIEWER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));

/// What the act needs.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) program: PathBuf,
    /// Made by the act.
    pub(super) dir: PathBuf,
    /// The film.
    pub(super) content: std::sync::Arc<Content>,
}

/// The act's state.
struct Night {
    camp: Camp,
    film: std::sync::Arc<Content>,
    /// The filler title that the liar held before the night, and its files.
    lent: usize,
    closes: Option<Instant>,
    watch: camp::Watch,
}

/// The third act; the camp is taken down at its end.
pub(super) async fn run(report: &mut Report, stage: Stage, live: bool) -> anyhow::Result<()> {
    let camp = Camp::pitch(&stage.program, &stage.dir, &stage.content).await?;
    let watch = camp::Watch::start(&camp, live);
    let mut night = Night {
        camp,
        film: stage.content,
        lent: 0,
        closes: None,
        watch,
    };
    let outcome = night.pitch().await;
    if !report.record("night: boxes", "five boxes, next to nothing on them", outcome)? {
        return Ok(());
    }
    let expected = "no byte of content, though all is wanted";
    report.record("night: shut", expected, night.shut().await)?;
    let expected = "on every box before the window, within its own budget; nothing else";
    report.record("night: urgent object", expected, night.urgent().await)?;
    let expected = "all boxes of both sites begin with their window";
    report.record("night: window opens", expected, night.opens().await)?;
    let expected = "what it had it has, and it goes on from there";
    report.record("night: killed in mid-fill", expected, night.killed().await)?;
    let expected = "gone from every box after its grace, and from steering at once";
    report.record("night: title withdrawn", expected, night.withdrawn().await)?;
    let expected = "every box holds everything before the window closes";
    report.record("night: complete", expected, night.complete().await)?;
    let expected = "the wrong byte is noticed, and no box takes it";
    report.record("night: lying source", expected, night.lying_source().await)?;
    let expected = "not before both clusters hold it";
    report.record("night: live", expected, night.live())?;
    let expected = "objects x masters, and what the kill cost";
    report.record("night: origin", expected, night.origin().await)?;
    let expected = "no second above the cap and 50 ms";
    report.record("night: cap", expected, night.cap())?;
    let expected = "no byte after the window closed";
    report.record("night: window closes", expected, night.shuts().await)?;
    let expected = "the film, from a box that had nothing of it";
    report.record("night: play", expected, night.play().await)?;
    night.watch.stop();
    Ok(())
}
