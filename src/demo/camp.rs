//! The fleet of the third act: a control plane and five boxes of two clusters, none of which holds
//! more than a title.
//!
//! The fifth box lies: it was given one title, then a bit of it changed on its disk. It is drained
//! and fetches nothing, so that all it does is give.
//!
//! I/O: drives [`super::plane`] and [`super::unit`], writes media, asks the boxes all the while.

use super::authority::Issuer;
use super::content::Content;
use super::filler;
use super::midnight;
use super::night;
use super::plane::Pace;
use super::plane::Plane;
use super::steering;
use super::system::Place;
use super::unit::Seat;
use super::unit::Unit;
use super::unit::Yard;
use crate::object::Digest;
use anyhow::Context as _;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

const NORTH: Place = Place {
    site: "TLS001.example.isp",
    partner: "example",
    cluster: "north",
    router_asn: 64500,
    octet: 50,
    boxes: 3,
};

const SOUTH: Place = Place {
    site: "LHR001.example.isp",
    partner: "example",
    cluster: "south",
    router_asn: 64501,
    octet: 60,
    boxes: 2,
};

const PLACES: [Place; 2] = [NORTH, SOUTH];

/// The index of the box that lies: the last of the north.
const LIAR: usize = 2;

/// Boxes that fill.
pub(super) const HONEST: usize = 4;

/// `[fill] rate_limit` of each box.
pub(super) const CAP: &str = "100 Mbit/s";
pub(super) const CAP_BYTES: f64 = 12_500_000.0;

/// Orders reach a box with its next heartbeat; a night of a minute cannot wait ten seconds.
const PACE: Pace = Pace {
    report_every: Duration::from_secs(300),
    heartbeat_every: Duration::from_secs(1),
    silence: Duration::from_secs(25),
    lease: Duration::from_secs(60),
    ask_again: Duration::from_secs(1),
};

/// Everything that runs. Field order is drop order: processes go before their files.
#[derive(Debug)]
pub(super) struct Camp {
    pub(super) plane: Plane,
    pub(super) boxes: Vec<Unit>,
    issuer: Issuer,
    pub(super) media: PathBuf,
    dir: PathBuf,
    program: PathBuf,
}

impl Camp {
    /// Writes the media, imports them, registers and provisions; no box runs yet.
    pub(super) async fn pitch(program: &Path, dir: &Path, film: &Content) -> anyhow::Result<Self> {
        fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let media = dir.join("media");
        let mut camp = Self {
            plane: Plane::new(program, dir, PACE)?,
            boxes: Vec::new(),
            issuer: Issuer::make()?,
            media: media.clone(),
            dir: dir.to_owned(),
            program: program.to_owned(),
        };
        let files = film.files.clone();
        let written = tokio::task::spawn_blocking(move || write(&media, &files));
        written.await.context("the media could not be written")??;
        camp.plane.start().await?;
        camp.import().await?;
        camp.register().await?;
        Ok(camp)
    }

    pub(super) async fn import(&self) -> anyhow::Result<Value> {
        let media = self.media.to_string_lossy().into_owned();
        self.plane.control(&["import", &media]).await
    }

    async fn register(&mut self) -> anyhow::Result<()> {
        self.plane.control(&["partner", "add", "example"]).await?;
        let policy = [
            ["policy", "set"],
            ["default", "--masters"],
            ["1", "--network-wait"],
            ["1s", "--origin-wait"],
            ["10m", "--live-share"],
        ];
        let policy = [policy.as_flattened(), &["100"]].concat();
        self.plane.control(&policy).await?;
        // In an hour: shut for as long as the act needs it to be.
        let later = Start::after(Duration::from_secs(3600));
        self.order_window(&later, Duration::from_secs(60)).await?;
        for place in PLACES {
            let arguments = ["cluster", "add", place.cluster];
            self.plane.control(&arguments).await?;
            for number in 1..=place.boxes {
                let unit = self.make_box(place, number).await?;
                self.boxes.push(unit);
            }
        }
        Ok(())
    }

    async fn make_box(&self, place: Place, number: u8) -> anyhow::Result<Unit> {
        let yard = Yard {
            plane: &self.plane,
            issuer: &self.issuer,
            program: &self.program,
            dir: &self.dir,
        };
        let rest = |seat: &Seat<'_>| {
            let control = seat.control(&self.plane, PACE);
            let (address, peer) = (seat.address, seat.peer);
            // Everybody is on loopback, and a laboratory's clock is not synchronised.
            Ok(format!(
                "\n[gate]\nrequire = [\"control\"]\n{control}growth_every = \"1s\"\n\
                 \n[serve.peer]\nlisten = [\"{address}:{peer}\"]\n\
                 \n[fill]\nrate_limit = \"{CAP}\"\nprivate_sources = true\n\
                 deletion_grace = \"3s\"\n",
            ))
        };
        Unit::make(&yard, place, number, "1 GB", rest).await
    }

    /// The window of both sites.
    pub(super) async fn order_window(&self, start: &Start, length: Duration) -> anyhow::Result<()> {
        let length = format!("{}s", length.as_secs());
        for place in PLACES {
            let arguments = [
                ["site", "add"],
                [place.site, "--open"],
                ["--partner", place.partner],
                ["--timezone", &start.zone],
                ["--window-start", &start.time],
                ["--window-length", &length],
            ];
            self.plane.control(arguments.as_flattened()).await?;
        }
        Ok(())
    }

    /// Starts every box; the fifth with a title on it, one bit of which is not what it was.
    pub(super) async fn start_boxes(&mut self, lent: usize) -> anyhow::Result<()> {
        let only = self.dir.join("lent");
        night::FILLER.write_title(&only, lent)?;
        let liar = self.boxes.get_mut(LIAR).context("no fifth box")?;
        liar.appliance.prefill(&only).await?;
        let wrong = filler::key(lent, 0);
        let bytes = fs::read(only.join(&wrong)).context("the lent title")?;
        let disks = self.dir.join(&liar.id);
        flip(&disks, Digest::of(&bytes))?;
        liar.appliance.start().await?;
        liar.appliance.oca(&["drain"]).await?;
        liar.appliance.oca(&["fill", "pause"]).await?;
        for (index, unit) in self.boxes.iter_mut().enumerate() {
            if index != LIAR {
                unit.appliance.start().await?;
            }
        }
        Ok(())
    }

    /// The boxes that a viewer would be sent to for a key, in order.
    pub(super) async fn steered(&self, key: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("/v1/steer?client=192.0.2.10&key={key}&n=5");
        let told = steering::get(self.plane.public, &path).await?;
        let rows = told["boxes"].as_array();
        let rows = rows.with_context(|| format!("no list of boxes: {told}"))?;
        let ids = rows.iter().filter_map(|row| row["box"].as_str());
        Ok(ids.map(ToOwned::to_owned).collect())
    }

    /// The boxes that fill.
    pub(super) fn honest(&self) -> impl Iterator<Item = &Unit> {
        let units = self.boxes.iter().enumerate();
        units
            .filter(|(index, _)| *index != LIAR)
            .map(|(_, unit)| unit)
    }

    pub(super) fn liar(&self) -> anyhow::Result<&Unit> {
        self.boxes.get(LIAR).context("no fifth box")
    }

    /// A box that fills, by its place among them.
    pub(super) fn honest_mut(&mut self, place: usize) -> anyhow::Result<&mut Unit> {
        let index = if place < LIAR { place } else { place + 1 };
        self.boxes.get_mut(index).context("no such box")
    }
}

/// The film, the filler, and what is withdrawn later.
fn write(
    media: &Path,
    film: &std::collections::BTreeMap<String, super::content::Source>,
) -> anyhow::Result<()> {
    for (key, source) in film {
        let path = media.join(key);
        let failed = || format!("cannot write {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(media)).with_context(failed)?;
        fs::copy(&source.path, &path).with_context(failed)?;
    }
    night::FILLER.write(media)?;
    filler::write(media, night::WITHDRAWN_KEY, night::WITHDRAWN_BYTES)
}

/// Changes one bit in the middle of an object, wherever below `dir` it lies.
fn flip(dir: &Path, digest: Digest) -> anyhow::Result<()> {
    let name = digest.to_string();
    let below = Path::new("objects")
        .join(&name[..2])
        .join(&name[2..4])
        .join(&name);
    for disk in ["disk1", "disk2"] {
        let path = dir.join(disk).join(&below);
        let Ok(file) = fs::OpenOptions::new().read(true).write(true).open(&path) else {
            continue;
        };
        let middle = file.metadata().context("the object's size")?.len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle)
            .context("the object")?;
        file.write_all_at(&[byte[0] ^ 1], middle)
            .context("the object")?;
        return Ok(());
    }
    anyhow::bail!("{name} is on no disk below {}", dir.display())
}

/// When a window opens: a time of the day, in a zone in which it is shortly after midnight.
#[derive(Clone, Debug)]
pub(super) struct Start {
    zone: String,
    time: String,
}

impl Start {
    /// So long from here, wherever this machine is.
    pub(super) fn after(time: Duration) -> Self {
        let after = i64::try_from(time.as_secs()).unwrap_or(0);
        let (zone, time) = midnight::time_from_here(after);
        Self { zone, time }
    }
}
