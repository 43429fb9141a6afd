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
use super::camp::Start;
use super::content::Content;
use super::filler;
use super::filler::Filler;
use super::lookout::LIVE;
use super::lookout::Lookout;
use super::lookout::Standing;
use super::play;
use super::report::Outcome;
use super::report::Report;
use super::viewer;
use super::viewer::Viewer;
use crate::clock;
use crate::clock::Instant;
use crate::object::Digest;
use crate::units::Bytes;
use anyhow::Context as _;
use rustls::version::TLS13;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
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

/// Small enough for the pace of deletion, 5 % of what is held; and by its name among the first
/// that are fetched, where nothing is known of popularity.
const WITHDRAWN: &str = "aside";
pub(super) const WITHDRAWN_KEY: &str = "aside/video/part-0.m4s";
pub(super) const WITHDRAWN_BYTES: u64 = 6_000_000;

/// The window opens so long after it was ordered: boxes hear of it within a heartbeat.
const OPENS_IN: Duration = Duration::from_secs(8);

/// Several times what the bytes need at the cap: on a slow machine too. It is cut short at the
/// end, when all is there.
const WINDOW: Duration = Duration::from_secs(150);

/// From the order that cuts the window short to its end: boxes hear of it within a heartbeat.
const CLOSES_IN: Duration = Duration::from_secs(5);

/// Nothing may come in while the window is shut for so long.
const WATCHED: Duration = Duration::from_secs(3);

/// What the origin has handed to its kernel for eight transfers and nobody has received: it counts
/// as sent when the box that wanted it dies.
const ON_ITS_WAY: f64 = 16e6;

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

const VIEWER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));

/// What the act needs.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) program: PathBuf,
    /// Made by the act.
    pub(super) dir: PathBuf,
    /// The film.
    pub(super) content: Arc<Content>,
}

/// The act's state.
struct Night {
    camp: Camp,
    film: Arc<Content>,
    /// The filler title that the liar held before the night, and its files.
    lent: usize,
    /// Bytes that the kill threw away at most.
    lost: u64,
    /// The window's start, as it was ordered and by this clock.
    opened: Option<(Start, Instant)>,
    lookout: Lookout,
}

/// The third act; the camp is taken down at its end.
pub(super) async fn run(report: &mut Report, stage: Stage, live: bool) -> anyhow::Result<()> {
    let camp = Camp::pitch(&stage.program, &stage.dir, &stage.content).await?;
    let lookout = Lookout::start(&camp, live);
    let mut night = Night {
        camp,
        film: stage.content,
        lent: 0,
        lost: 0,
        opened: None,
        lookout,
    };
    let outcome = night.pitch().await;
    if !report.record(
        "night: boxes",
        "five boxes, next to nothing on them",
        outcome,
    )? {
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
    let expected = "every box holds everything";
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
    night.lookout.stop();
    Ok(())
}

impl Night {
    async fn pitch(&mut self) -> Outcome {
        self.camp.start_boxes(self.lent).await?;
        let wanted = self.all(|it| it.wanted > 0).await?;
        let parts = wanted
            .iter()
            .map(|(_, standing)| standing.wanted.to_string());
        let parts: Vec<String> = parts.collect();
        let bytes = Bytes(self.bytes());
        Ok((
            true,
            format!("{bytes}; objects that each wants: {}", parts.join(", ")),
        ))
    }

    /// Bytes of all content but the urgent object.
    fn bytes(&self) -> u64 {
        let filler = FILLER.title_bytes() * FILLER.titles as u64;
        // Equal files are one object.
        let film: BTreeMap<Digest, u64> = { self.film.files.values() }
            .map(|file| (file.digest, file.length))
            .collect();
        film.values().sum::<u64>() + filler + WITHDRAWN_BYTES
    }

    async fn standings(&self) -> anyhow::Result<Vec<(String, Standing)>> {
        let mut standings = Vec::new();
        for unit in self.camp.honest() {
            let fill = unit.appliance.ask("/v1/fill").await?;
            standings.push((unit.id.clone(), Standing::of(&fill)));
        }
        Ok(standings)
    }

    /// Until every box that fills is as it should be.
    async fn all(
        &self,
        good: impl Fn(&Standing) -> bool,
    ) -> anyhow::Result<Vec<(String, Standing)>> {
        let until = clock::now() + PATIENCE;
        loop {
            // A box that was killed does not answer for a moment.
            if let Ok(standings) = self.standings().await {
                if standings.iter().all(|(_, standing)| good(standing)) {
                    return Ok(standings);
                }
                anyhow::ensure!(clock::now() < until, "still {standings:?}");
            }
            anyhow::ensure!(clock::now() < until + PATIENCE, "a box does not answer");
            clock::sleep(LOOK_EVERY).await;
        }
    }

    async fn received(&self) -> anyhow::Result<(u64, u64)> {
        let standings = self.standings().await?;
        let night = standings.iter().map(|(_, it)| it.night).sum();
        let urgent = standings.iter().map(|(_, it)| it.urgent).sum();
        Ok((night, urgent))
    }

    async fn shut(&mut self) -> Outcome {
        clock::sleep(WATCHED).await;
        let (night, urgent) = self.received().await?;
        let text = format!("{night} B in {} s, all four together", WATCHED.as_secs());
        Ok((night == 0 && urgent == 0, text))
    }

    async fn urgent(&mut self) -> Outcome {
        filler::write(&self.camp.media, URGENT, URGENT_BYTES)?;
        let begun = clock::now();
        self.camp.import().await?;
        let arguments = ["title", "urgent", "news", "--for", "1h"];
        self.camp.plane.control(&arguments).await?;
        for place in 0..camp::HONEST {
            self.until_held(place, URGENT, PATIENCE).await?;
        }
        let took = (clock::now() - begun).as_secs_f64();
        let (night, urgent) = self.received().await?;
        let most = camp::HONEST as u64 * (URGENT_BYTES + URGENT_BYTES / 8);
        let text = format!(
            "after {took:.1} s; {} urgent, {night} B else",
            Bytes(urgent)
        );
        Ok((night == 0 && urgent <= most, text))
    }

    /// Until a box's catalogue has the key on a disk.
    async fn until_held(&self, place: usize, key: &str, most: Duration) -> anyhow::Result<()> {
        let until = clock::now() + most;
        while !self.held(place).await?.contains(key) {
            anyhow::ensure!(clock::now() < until, "{key} never came");
            clock::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Keys whose object a box has on a disk.
    async fn held(&self, place: usize) -> anyhow::Result<BTreeSet<String>> {
        let unit = self.camp.honest().nth(place).context("no such box")?;
        let told = unit.appliance.ask("/v1/catalogue").await?;
        let rows = told["catalogue"].as_array().context("no catalogue")?;
        let held = rows.iter().filter(|row| row["disk"].is_string());
        let keys = held.filter_map(|row| row["key"].as_str());
        Ok(keys.map(ToOwned::to_owned).collect())
    }

    async fn opens(&mut self) -> Outcome {
        let start = Start::after(OPENS_IN);
        self.camp.order_window(&start, WINDOW).await?;
        let opens = clock::now() + OPENS_IN;
        self.opened = Some((start, opens));
        let standings = self.all(|it| it.night > 0).await?;
        let late = (clock::now() - opens).as_secs_f64();
        let parts = standings.iter().map(|(_, it)| Bytes(it.night).to_string());
        let parts: Vec<String> = parts.collect();
        let text = format!("{late:.1} s after it: {}", parts.join(", "));
        Ok((standings.iter().all(|(_, it)| it.is_open), text))
    }

    /// The third of the four, at about a third of its way.
    async fn killed(&mut self) -> Outcome {
        const PLACE: usize = 2;
        let until = clock::now() + PATIENCE;
        let enough = FILLER.titles * FILLER.files / 3;
        let mut before = self.held(PLACE).await?;
        while before.len() < enough {
            anyhow::ensure!(clock::now() < until, "only {} objects came", before.len());
            clock::sleep(LOOK_EVERY).await;
            before = self.held(PLACE).await?;
        }
        let granted = self
            .standings()
            .await?
            .get(PLACE)
            .map_or(0, |(_, it)| it.night);
        self.lost = granted.saturating_sub(self.bytes_of(&before));
        let unit = self.camp.honest_mut(PLACE)?;
        unit.appliance.kill();
        let took = unit.appliance.start().await?.as_secs_f64();
        // Held is what the scan found; the manifest comes from the disks.
        let until = clock::now() + PATIENCE;
        loop {
            let after = self.held(PLACE).await?;
            let lost: Vec<&String> = before.difference(&after).collect();
            if lost.is_empty() {
                let text = format!(
                    "{} keys before, none lost, up after {took:.2} s",
                    before.len()
                );
                return Ok((true, text));
            }
            anyhow::ensure!(clock::now() < until, "lost: {lost:?}");
            clock::sleep(LOOK_EVERY).await;
        }
    }

    /// The length of what these keys name, each for itself.
    fn bytes_of(&self, keys: &BTreeSet<String>) -> u64 {
        let length = |key: &String| match self.film.files.get(key) {
            Some(source) => source.length,
            None if key == WITHDRAWN_KEY => WITHDRAWN_BYTES,
            None if key == URGENT => URGENT_BYTES,
            None => FILLER.file_bytes,
        };
        keys.iter().map(length).sum()
    }

    async fn withdrawn(&mut self) -> Outcome {
        let begun = clock::now();
        let arguments = ["title", "withdraw", WITHDRAWN];
        self.camp.plane.control(&arguments).await?;
        while !self.camp.steered(WITHDRAWN_KEY).await?.is_empty() {
            anyhow::ensure!(
                clock::now() < begun + PATIENCE,
                "viewers are still sent to it"
            );
            clock::sleep(LOOK_EVERY).await;
        }
        let hidden = (clock::now() - begun).as_secs_f64();
        let until = clock::now() + PATIENCE;
        for place in 0..camp::HONEST {
            while self.held(place).await?.contains(WITHDRAWN_KEY) {
                anyhow::ensure!(clock::now() < until, "a box still holds it");
                clock::sleep(LOOK_EVERY).await;
            }
        }
        let took = (clock::now() - begun).as_secs_f64();
        let text =
            format!("no viewer sent there after {hidden:.1} s; on no disk after {took:.1} s");
        Ok((true, text))
    }

    async fn complete(&mut self) -> Outcome {
        self.all(|it| it.wanted == 0).await?;
        let (_, opened) = self.opened.as_ref().context("the window never opened")?;
        let took = (clock::now() - *opened).as_secs_f64();
        let mut counts = Vec::new();
        for place in 0..camp::HONEST {
            counts.push(self.held(place).await?.len());
        }
        let expected = self.film.files.len() + FILLER.titles * FILLER.files + 1;
        let whole = counts.iter().all(|count| *count == expected);
        let text = format!("{expected} keys on each of 4 boxes, {took:.0} s after it opened");
        Ok((whole, if whole { text } else { format!("{counts:?}") }))
    }

    /// Asked of the boxes, and of the bytes themselves: what a viewer gets of the object that one
    /// source has wrong.
    async fn lying_source(&mut self) -> Outcome {
        let caught: u64 = self.standings().await?.iter().map(|(_, it)| it.wrong).sum();
        let key = filler::key(self.lent, 0);
        let bytes = std::fs::read(self.camp.media.join(&key)).context("the original")?;
        let digest = Digest::of(&bytes);
        for unit in self.camp.honest() {
            let tls = viewer::trust(unit.appliance.authority(), &[&TLS13])?;
            let mut viewer = Viewer::new(unit.https, VIEWER, tls);
            let answer = viewer.get(&key, &[]).await?;
            anyhow::ensure!(answer.status.is_success(), "{} does not have it", unit.id);
            anyhow::ensure!(answer.digest == digest, "{} has it wrong", unit.id);
        }
        let liar = &self.camp.liar()?.id;
        let text = format!("caught {caught} times at {liar}; right on all four boxes");
        Ok((caught > 0, text))
    }

    fn live(&self) -> Outcome {
        let seen = self.lookout.liveness();
        let title = filler::title(LIVE);
        let holders = seen
            .holders
            .with_context(|| format!("{title} was never live"))?;
        let text = format!(
            "{title}: hidden {} times, then live with {holders} clusters",
            seen.hidden
        );
        Ok((holders == 2 && seen.hidden > 0, text))
    }

    async fn origin(&mut self) -> Outcome {
        let sent = self
            .camp
            .plane
            .metric("oca_control_origin_bytes_total")
            .await?;
        let lent = FILLER.title_bytes();
        let objects = self.bytes() + URGENT_BYTES - lent;
        // One object of the lent title comes from the origin after all: nobody else has it right.
        let objects = objects + FILLER.file_bytes;
        let expected = f64::from(u32::try_from(objects).unwrap_or(u32::MAX));
        let lost = f64::from(u32::try_from(self.lost).unwrap_or(u32::MAX));
        let more = sent - expected;
        let text = format!(
            "{:.1} MB for {:.1} MB x 1 master; {:.1} MB more, the kill threw away up to {:.1} MB",
            sent / 1e6,
            expected / 1e6,
            more / 1e6,
            lost / 1e6
        );
        Ok((more > -1e6 && more <= lost + ON_ITS_WAY, text))
    }

    fn cap(&self) -> Outcome {
        let (worst, id) = self.lookout.worst_second();
        let text = format!(
            "{:.1} of {:.1} Mbit/s, at {id}",
            worst * 8e-6,
            camp::CAP_BYTES * 8e-6
        );
        Ok((worst > 0.0 && worst <= camp::CAP_BYTES * 1.05, text))
    }

    async fn shuts(&mut self) -> Outcome {
        // A title that nobody has yet, so that there is something to want.
        let late = filler::key(FILLER.titles, 0);
        filler::write(&self.camp.media, &late, FILLER.file_bytes)?;
        let (start, opened) = self.opened.as_ref().context("the window never opened")?;
        let length = clock::now() - *opened + CLOSES_IN;
        self.camp.order_window(start, length).await?;
        clock::sleep_until(*opened + length).await;
        self.camp.import().await?;
        let standings = self.all(|it| it.wanted > 0 && !it.is_open).await?;
        let before: u64 = standings.iter().map(|(_, it)| it.night + it.urgent).sum();
        clock::sleep(WATCHED).await;
        let (night, urgent) = self.received().await?;
        let more = (night + urgent).saturating_sub(before);
        let text = format!(
            "{more} B in {} s, though one title is wanted",
            WATCHED.as_secs()
        );
        Ok((more == 0, text))
    }

    async fn play(&mut self) -> Outcome {
        let (key, _) = self.film.largest().context("there is no film")?;
        let steered = self.camp.steered(key).await?;
        let first = steered.first().context("nobody is named for the film")?;
        let unit = self.camp.honest().find(|unit| unit.id == *first);
        let unit = unit.context("steering names the box that lies")?;
        let tls = viewer::trust(unit.appliance.authority(), &[&TLS13])?;
        let mut viewer = Viewer::new(unit.https, VIEWER, tls);
        let plan = play::plan(&mut viewer, &self.film).await?;
        let tally = play::play(&mut viewer, &self.film, &plan.pieces).await?;
        let text = format!(
            "{} pieces, {} from {}",
            tally.pieces,
            Bytes(tally.bytes),
            unit.id
        );
        Ok((tally.pieces > 0, text))
    }
}
