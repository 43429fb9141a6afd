//! The proof: what the demo shows, step by step, on one box.
//!
//! The order tells a life: certificate → prefill → start → play → the edge of HTTP → `kill -9` in
//! mid-play → restart → drain → undrain → stop. A step that fails is recorded and the next one
//! goes on, unless nothing after it could mean anything.
//!
//! I/O: drives [`super::appliance`] and [`super::viewer`].

use super::appliance::Appliance;
use super::appliance::READY_WITHIN;
use super::appliance::Role;
use super::appliance::STOP_TIME;
use super::appliance::Settings;
use super::content::Content;
use super::edge;
use super::play;
use super::play::Plan;
use super::play::Tally;
use super::report::Outcome;
use super::report::Places;
use super::report::Report;
use super::scratch::Scratch;
use super::system::System;
use super::viewer;
use super::viewer::Viewer;
use crate::clock;
use crate::units::Bytes;
use anyhow::Context as _;
use hyper::StatusCode;
use hyper::header;
use rustls::SupportedProtocolVersion;
use rustls::version::TLS12;
use rustls::version::TLS13;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

const DISKS: usize = 2;
const WORKERS: usize = 2;

/// SIGTERM must end within `stop_time`; this much more for a busy machine.
const STOP_SLACK: Duration = Duration::from_secs(3);

/// Viewers that play when the box is killed: enough that some are always in mid-segment.
const CRASH_VIEWERS: usize = 4;

/// Viewers have addresses of their own: a draining box knows them by it.
const FIRST_VIEWER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const SECOND_VIEWER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// The demo's state. Field order is drop order: the box goes before its directory.
#[derive(Debug)]
pub(super) struct Proof {
    appliance: Appliance,
    content: Arc<Content>,
    scratch: Scratch,
}

/// Makes certificate, configuration and disks. `None` (and a failed step) if that cannot be done.
pub(super) fn prepare(
    report: &mut Report,
    scratch: Scratch,
    content: Content,
) -> anyhow::Result<Option<Proof>> {
    let settings = Settings {
        workers: WORKERS,
        disks: DISKS,
        access_log: true,
        role: Role::Alone,
    };
    let program = std::env::current_exe().context("cannot find this program's own file");
    let made = program.and_then(|program| Appliance::new(&program, scratch.path(), settings));
    let (appliance, outcome) = match made {
        Ok(appliance) => {
            let names = super::authority::NAMES.join(", ");
            (Some(appliance), Ok((true, format!("made for {names}"))))
        }
        Err(error) => (None, Err(error)),
    };
    report.record("certificate", "a private CA and one below it", outcome)?;
    Ok(appliance.map(|appliance| Proof {
        appliance,
        content: Arc::new(content),
        scratch,
    }))
}

impl Proof {
    /// Goes through all steps. Ends early when nothing after a failed step could mean anything.
    pub(super) async fn run(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let (files, bytes) = (self.content.files.len(), Bytes(self.content.bytes()));
        let expected = format!("{files} files, {bytes}, on {DISKS} disks");
        if !report.record("prefill", expected, self.prefill().await)? {
            return Ok(());
        }
        let again = self.prefill_again().await;
        report.record("prefill again", "nothing is written twice", again)?;
        let started = self.start().await;
        let expected = format!("serving within {} s", READY_WITHIN.as_secs());
        if !report.record("start", expected, started)? {
            return Ok(());
        }
        self.play(report).await?;
        self.edge(report).await?;
        if !self.crash(report).await? {
            return Ok(());
        }
        self.drain(report).await?;
        let stopped = self.terminate().await;
        let expected = format!("exit 0 within {} s of SIGTERM", STOP_TIME.as_secs());
        report.record("stop", expected, stopped)?;
        Ok(())
    }

    async fn prefill(&self) -> Outcome {
        let told = self.appliance.prefill(&self.content.dir).await?;
        let (published, held) = (count(&told, "published")?, count(&told, "already_held")?);
        let bytes = count(&told, "bytes")?;
        let ok = published == self.content.distinct() as u64
            && published + held == self.content.files.len() as u64
            && bytes == self.content.bytes();
        let (files, bytes) = (published + held, Bytes(bytes));
        let objects = format!("{files} files, {bytes}: {published} objects published");
        Ok(match count(&told, "refused_total")? {
            0 => (ok, objects),
            refused => (ok, format!("{objects}, {refused} files refused")),
        })
    }

    async fn prefill_again(&self) -> Outcome {
        let told = self.appliance.prefill(&self.content.dir).await?;
        let (published, held) = (count(&told, "published")?, count(&told, "already_held")?);
        let ok = published == 0 && held == self.content.files.len() as u64;
        Ok((ok, format!("{published} published, {held} held already")))
    }

    /// Starts the box, the first time or again.
    pub(super) async fn start(&mut self) -> Outcome {
        let took = self.appliance.start().await?;
        let status = self.appliance.ask("/v1/status").await?;
        let objects = status["catalogue"]["objects"].as_u64().unwrap_or(0);
        let ok = objects == self.content.files.len() as u64;
        let seconds = took.as_secs_f64();
        Ok((ok, format!("{objects} objects served after {seconds:.2} s")))
    }

    /// Ends the box at the end of a demo that went on serving.
    pub(super) async fn terminate(&mut self) -> Outcome {
        let (status, took) = self.appliance.terminate(STOP_TIME + STOP_SLACK).await?;
        let ok = status.success();
        Ok((ok, format!("{status} after {:.2} s", took.as_secs_f64())))
    }

    fn viewer(
        &self,
        from: IpAddr,
        versions: &[&'static SupportedProtocolVersion],
    ) -> anyhow::Result<Viewer> {
        let tls = viewer::trust(self.appliance.authority(), versions)?;
        Ok(Viewer::new(self.appliance.addresses()?.https, from, tls))
    }

    async fn play(&self, report: &mut Report) -> anyhow::Result<()> {
        let files = self.content.files.len();
        let playlists = self.content.playlists.len();
        let expected = format!("every segment of {playlists} title(s) equals its file");
        report.record("play", expected, self.play_titles().await)?;
        let expected = format!("{files} files, {}", Bytes(self.content.bytes()));
        report.record("every file", expected, self.fetch_all().await)?;
        Ok(())
    }

    async fn play_titles(&self) -> Outcome {
        let mut viewer = self.viewer(FIRST_VIEWER, &[&TLS13])?;
        let plan = play::plan(&mut viewer, &self.content).await?;
        let tally = play::play(&mut viewer, &self.content, &plan.pieces).await?;
        let Plan {
            renditions,
            playlists,
            ..
        } = plan;
        let (pieces, bytes) = (tally.pieces, Bytes(tally.bytes));
        Ok((
            pieces > 0,
            format!("{renditions} bit rates: {playlists} playlists, {pieces} pieces, {bytes}"),
        ))
    }

    async fn fetch_all(&self) -> Outcome {
        let mut viewer = self.viewer(FIRST_VIEWER, &[&TLS13])?;
        let tally = play::fetch_all(&mut viewer, &self.content).await?;
        let ok = tally.bytes == self.content.bytes();
        let (pieces, bytes) = (tally.pieces, Bytes(tally.bytes));
        Ok((ok, format!("{pieces} files, {bytes}: every digest equal")))
    }

    async fn edge(&self, report: &mut Report) -> anyhow::Result<()> {
        let mut viewer = self.viewer(FIRST_VIEWER, &[&TLS13])?;
        let ranges = edge::ranges(&mut viewer, &self.content).await;
        report.record("ranges", "the asked bytes; beyond the end 416", ranges)?;
        let conditional = edge::conditional(&mut viewer, &self.content).await;
        report.record("conditional", "304 for what the viewer has", conditional)?;
        let unknown = edge::unknown(&mut viewer).await;
        report.record("unknown key", "404", unknown)?;
        let versions = self.versions().await;
        report.record("TLS versions", "the same bytes over 1.2 and 1.3", versions)?;
        Ok(())
    }

    async fn versions(&self) -> Outcome {
        let mut lengths = Vec::new();
        for (name, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
            let mut viewer = self.viewer(FIRST_VIEWER, &[version])?;
            let length = edge::whole(&mut viewer, &self.content).await;
            let length = Bytes(length.context(name)?);
            lengths.push(format!("{length} over {name}"));
        }
        Ok((true, lengths.join(", ")))
    }

    /// `kill -9` under viewers that play, restart, compare, play on.
    async fn crash(&mut self, report: &mut Report) -> anyhow::Result<bool> {
        let before = self.catalogue().await;
        let mut cuts = Vec::new();
        let killed = self.kill_in_mid_play(&mut cuts).await;
        self.appliance.kill();
        let expected = format!("{CRASH_VIEWERS} viewers are cut while they play");
        report.record("kill -9", expected, killed)?;
        let started = self.start().await;
        let expected = format!("serving within {} s", READY_WITHIN.as_secs());
        if !report.record("restart", expected, started)? {
            return Ok(false);
        }
        let lost = match (before, self.catalogue().await) {
            (Ok(before), Ok(after)) => {
                let equal = before.iter().filter(|row| after.get(row.0) == Some(row.1));
                let (equal, all) = (equal.count(), before.len());
                let ok = before == after && all == self.content.files.len();
                Ok((ok, format!("{equal} of {all} keys with the same digest")))
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        report.record("nothing lost", "the same keys and digests", lost)?;
        let played = self.play_on(&cuts).await;
        report.record("play on", "each from the piece that was cut", played)?;
        Ok(true)
    }

    /// Lets viewers play and kills the box in the middle. Leaves in `cuts` where each was cut.
    async fn kill_in_mid_play(&mut self, cuts: &mut Vec<usize>) -> Outcome {
        let mut viewer = self.viewer(FIRST_VIEWER, &[&TLS13])?;
        let plan = Arc::new(play::plan(&mut viewer, &self.content).await?);
        let (pieces, played) = (plan.pieces.len(), Arc::new(AtomicUsize::new(0)));
        let mut playing = JoinSet::new();
        for _ in 0..CRASH_VIEWERS {
            let mut viewer = self.viewer(FIRST_VIEWER, &[&TLS13])?;
            let (content, plan) = (Arc::clone(&self.content), Arc::clone(&plan));
            let played = Arc::clone(&played);
            playing.spawn(async move {
                play::play_until_cut(&mut viewer, &content, &plan.pieces, &played).await
            });
        }
        while played.load(Ordering::Relaxed) < CRASH_VIEWERS * pieces / 2 {
            if let Some(ended) = playing.try_join_next() {
                let (place, error) = ended.context("a viewer panicked")?;
                return Err(error.context(format!("cut at piece {place} before the kill")));
            }
            clock::sleep(Duration::from_millis(1)).await;
        }
        self.appliance.kill();
        while let Some(ended) = playing.join_next().await {
            cuts.push(ended.context("a viewer panicked")?.0);
        }
        cuts.sort_unstable();
        let played = played.load(Ordering::Relaxed);
        Ok((
            true,
            format!("{played} pieces played, then cut at pieces {cuts:?} of {pieces}"),
        ))
    }

    async fn play_on(&self, cuts: &[usize]) -> Outcome {
        let mut sum = Tally::default();
        for &cut in cuts {
            let mut viewer = self.viewer(FIRST_VIEWER, &[&TLS13])?;
            let plan = play::plan(&mut viewer, &self.content).await?;
            let rest = plan.pieces.get(cut..).unwrap_or_default();
            let tally = play::play(&mut viewer, &self.content, rest).await?;
            sum.pieces += tally.pieces;
            sum.bytes += tally.bytes;
        }
        let (viewers, pieces, bytes) = (cuts.len(), sum.pieces, Bytes(sum.bytes));
        Ok((
            pieces > 0,
            format!("{viewers} viewers to the end: {pieces} pieces, {bytes}"),
        ))
    }

    /// Keys and digests as the box tells them.
    async fn catalogue(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let text = self.appliance.oca(&["show", "catalogue", "--json"]).await?;
        let told: Value = serde_json::from_slice(&text).context("oca show catalogue --json")?;
        let rows = told["catalogue"].as_array().context("no list of keys")?;
        let pair = |row: &Value| {
            let key = row["key"].as_str()?.to_owned();
            Some((key, row["digest"].as_str()?.to_owned()))
        };
        rows.iter()
            .map(|row| pair(row).with_context(|| format!("not a row: {row}")))
            .collect()
    }

    /// A draining box refuses a new viewer and lets the one that plays finish.
    async fn drain(&self, report: &mut Report) -> anyhow::Result<()> {
        let drained = self.drain_in_mid_play().await;
        let (refused, finished) = match drained {
            Ok((refused, finished)) => (refused, finished),
            Err(error) => (Err(error), Err(anyhow::anyhow!("not tried"))),
        };
        report.record(
            "drain refuses",
            "503 for a viewer that comes later",
            refused,
        )?;
        report.record(
            "drain lets finish",
            "the running viewer to the end",
            finished,
        )?;
        let opened = self.undrain().await;
        report.record("undrain", "200 for the viewer refused before", opened)?;
        Ok(())
    }

    async fn drain_in_mid_play(&self) -> anyhow::Result<(Outcome, Outcome)> {
        let mut first = self.viewer(FIRST_VIEWER, &[&TLS13])?;
        let plan = play::plan(&mut first, &self.content).await?;
        let (before, after) = plan.pieces.split_at(plan.pieces.len() / 2);
        play::play(&mut first, &self.content, before).await?;
        self.appliance.oca(&["drain"]).await?;
        let refused = self.refused().await;
        let finished = play::play(&mut first, &self.content, after).await;
        let finished = finished.map(|tally| {
            let (pieces, bytes) = (tally.pieces, Bytes(tally.bytes));
            (
                pieces > 0,
                format!("{pieces} pieces, {bytes} after the drain"),
            )
        });
        Ok((refused, finished))
    }

    async fn refused(&self) -> Outcome {
        let (key, _) = self.content.largest().context("there is no file")?;
        let mut second = self.viewer(SECOND_VIEWER, &[&TLS13])?;
        let answer = second.get(key, &[]).await?;
        edge::status(&answer, StatusCode::SERVICE_UNAVAILABLE)?;
        let wait = edge::value(&answer, &header::RETRY_AFTER)?;
        Ok((true, format!("503 for {SECOND_VIEWER}, Retry-After {wait}")))
    }

    async fn undrain(&self) -> Outcome {
        self.appliance.oca(&["undrain"]).await?;
        let mut second = self.viewer(SECOND_VIEWER, &[&TLS13])?;
        let begun = clock::now();
        edge::whole(&mut second, &self.content).await?;
        let took = (clock::now() - begun).as_secs_f64();
        Ok((true, format!("200 for {SECOND_VIEWER} after {took:.3} s")))
    }

    pub(super) fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub(super) fn content(&self) -> Arc<Content> {
        Arc::clone(&self.content)
    }

    pub(super) fn places(&self, system: &System) -> anyhow::Result<Places> {
        let addresses = self.appliance.addresses()?;
        let begin = self.content.playlists.first();
        let begin = begin.or_else(|| self.content.files.keys().next());
        Ok(Places {
            https: format!("https://localhost:{}", addresses.https.port()),
            plain: format!("http://localhost:{}", addresses.plain.port()),
            ca: self.appliance.authority().ca.clone(),
            config: self.appliance.config(),
            socket: self.appliance.socket(),
            access_log: self.appliance.access_log(),
            control_socket: system.plane.socket(),
            steer: format!("http://{}/v1/steer", system.plane.public),
            key: begin.cloned().unwrap_or_default(),
        })
    }
}

/// A count in what `oca prefill --json` told.
fn count(told: &Value, name: &str) -> anyhow::Result<u64> {
    told[name]
        .as_u64()
        .with_context(|| format!("oca prefill --json told no `{name}`: {told}"))
}
