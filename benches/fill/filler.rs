//! Our side: the transfers of the fill, and a store that they write to, in a process of their own.
//!
//! [`run`] starts it and removes what it leaves; [`main`] is the process. Trees are known before
//! the clock starts, as they are in a manifest.
//!
//! I/O: fetches, writes to a store, starts a process.

use crate::origin;
use crate::origin::Origin;
use crate::peers;
use crate::peers::Cost;
use crate::peers::STREAMS;
use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use nix::sys::resource::UsageWho;
use oca::clock;
use oca::fill;
use oca::fill::Class;
use oca::fill::Closed;
use oca::fill::Fetch as _;
use oca::fill::Job;
use oca::fill::Ration as _;
use oca::fill::Turns;
use oca::fill::Want;
use oca::link::message::FillSource;
use oca::link::message::SourceKind;
use oca::object::TreeBuilder;
use oca::store;
use oca::units::Bytes;
use oca::units::BytesPerSecond;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Any night's bytes.
const PLENTY: Bytes = Bytes(1 << 50);

/// A fill that runs.
#[derive(Debug)]
pub(crate) struct Filler {
    child: Option<Child>,
    into: PathBuf,
}

/// Fetches the first `objects` files, at most `cap` bytes a second.
pub(crate) fn run(origin: &Origin, objects: usize, cap: Option<u64>) -> anyhow::Result<Cost> {
    Filler::start(origin, objects, cap)?.end()
}

impl Filler {
    pub(crate) fn start(origin: &Origin, objects: usize, cap: Option<u64>) -> anyhow::Result<Self> {
        let into = origin.scratch.join("ours");
        fs::create_dir(&into)?;
        let own = std::env::current_exe()?;
        let child = peers::pinned(&own.display().to_string())
            .arg("--filler")
            .args([&into, origin.media(), &origin.authority])
            .args([origin.url(""), objects.to_string()])
            .arg(cap.unwrap_or(0).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start our side")?;
        let child = Some(child);
        Ok(Self { child, into })
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> anyhow::Result<Cost> {
        let child = self.child.take().context("it has ended")?;
        let output = child.wait_with_output()?;
        anyhow::ensure!(
            output.status.success(),
            "our side failed; its messages are above"
        );
        let told: Value = serde_json::from_slice(&output.stdout)?;
        let number = |name: &str| told[name].as_f64().with_context(|| format!("no {name}"));
        Ok(Cost {
            bytes: number("bytes")?,
            seconds: number("seconds")?,
            processor: number("processor")?,
            cached: number("cached")?,
        })
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        // Left to whoever removes the scratch directory.
        let _ = fs::remove_dir_all(&self.into);
    }
}

/// The process: `<into> <media> <authority> <url> <objects> <cap>`.
pub(crate) fn main(arguments: &[String]) -> anyhow::Result<()> {
    let [into, media, authority, url, objects, cap] = arguments else {
        anyhow::bail!("six arguments are wanted");
    };
    let (into, cap): (_, u64) = (Path::new(into), cap.parse()?);
    let jobs = jobs(Path::new(media), url, objects.parse()?, cap)?;
    let store = opened(into)?;
    // As on any disk in use.
    for job in &jobs {
        let digest = job.want.digest.to_string();
        let place = format!("disk/objects/{}/{}", &digest[..2], &digest[2..4]);
        fs::create_dir_all(into.join(place))?;
    }
    let receive = Arc::new(fill::StoreContent::new(store.clone()));
    let rate = BytesPerSecond(cap);
    let config = fill::FetchConfig {
        private_sources: true,
        plain_origin: false,
        origin_ca: Some(PathBuf::from(authority)),
        gateway: None,
        limits: fill::FetchLimits::default(),
    };
    let nobody = Arc::new(|_: &FillSource| Err("an origin is not a box".to_owned()));
    let resolver = Arc::new(fill::SystemResolver);
    let fetcher = fill::Fetcher::new(config, nobody, resolver, receive);
    let turns = turns(rate);
    let bytes: u64 = jobs.iter().map(|job| job.want.length).sum();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (begun, before) = (clock::now(), peers::used(UsageWho::RUSAGE_SELF)?);
    runtime.block_on(async {
        // Each a task of its own, as in a box.
        let transfers = jobs
            .into_iter()
            .map(|job| tokio::spawn(fetcher.fetch(job, Arc::clone(&turns))));
        let mut ended = stream::iter(transfers).buffer_unordered(STREAMS);
        while let Some(outcome) = ended.next().await {
            outcome?.end?;
        }
        anyhow::Ok(())
    })?;
    let seconds = (clock::now() - begun).as_secs_f64();
    let processor = peers::used(UsageWho::RUSAGE_SELF)? - before;
    let told = json!({
        "bytes": bytes,
        "seconds": seconds,
        "processor": processor,
        "cached": peers::cached_below(&into.join("disk"))?,
        "writes": store.view().disks[0].writes,
    });
    writeln!(std::io::stdout(), "{told}")?;
    store.stop();
    Ok(())
}

fn jobs(media: &Path, url: &str, objects: usize, cap: u64) -> anyhow::Result<Vec<Job>> {
    let job = |number| {
        let name = origin::name(number);
        let mut builder = TreeBuilder::new();
        builder.update(&fs::read(media.join(&name))?);
        let tree = builder.finish();
        Ok(Job {
            want: Want {
                digest: tree.digest(),
                length: tree.length(),
                rank: 0,
                urgent: false,
            },
            class: Class::Night,
            tree,
            source: FillSource {
                id: "origin".into(),
                kind: SourceKind::Origin,
                urls: vec![format!("{url}{name}")],
                not_before_s: 0,
                ticket: None,
                etag: None,
                expires_s: 600,
            },
            ticket: None,
            others: Vec::new(),
            streams: 1,
            // As eight streams have at the cap of a night.
            share: fill::Share {
                receive_buffer: 256 << 10,
                part: BytesPerSecond(cap / STREAMS as u64),
            },
        })
    };
    (0..objects).map(job).collect()
}

fn opened(into: &Path) -> anyhow::Result<store::Handle> {
    let path = into.join("disk");
    fs::create_dir(&path)?;
    let disk = store::DiskConfig {
        path,
        class: store::DiskClass::Nvme,
        zone: oca::store::Zone::None,
        plain_directory: true,
    };
    let config = store::Config {
        disks: vec![disk],
        state_dir: into.join("state"),
        deadline: PATIENCE,
        upkeep: oca::store::Upkeep::default(),
    };
    let store = store::start(&config)?;
    let end = clock::now() + PATIENCE;
    while !store.is_ready() || store.view().disks[0].writes.is_none() {
        anyhow::ensure!(clock::now() < end, "the store does not get ready");
        clock::block_for(Duration::from_millis(5));
    }
    Ok(store)
}

/// Everybody's turn at once.
#[derive(Debug)]
struct Unlimited;

impl Turns for Unlimited {
    fn take(&self, _: Class, _: u64) -> BoxFuture<'_, Result<(), Closed>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn came(&self, _: u64) {}

    fn give_back(&self, _: Class, _: u64) {}
}

fn turns(rate: BytesPerSecond) -> Arc<dyn Turns> {
    if rate.0 == 0 {
        return Arc::new(Unlimited);
    }
    let limits = fill::Limits {
        rate,
        night: PLENTY,
        urgent: PLENTY,
    };
    let keeper = Arc::new(fill::MemoryKeeper::default());
    let larder = fill::Larder::new(fill::Pace::load(limits, keeper, fill::BUILT), PLENTY);
    larder.open(Class::Night, None);
    Arc::new(larder)
}
