//! The control plane under test: one `oca control run` process with a registry and content.
//!
//! The registry is filled through the store before the process starts, as an operator's script may
//! do it.
//!
//! I/O: writes files below a temporary directory, starts a process, reads /proc.

use super::CLUSTER_BOXES;
use super::Options;
use super::SITE_BOXES;
use super::routes;
use anyhow::Context as _;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use nix::unistd::SysconfVar;
use nix::unistd::sysconf;
use oca::clock;
use oca::control::authority::Authority;
use oca::control::authority::token;
use oca::control::model::Appliance;
use oca::control::model::Approval;
use oca::control::model::Cluster;
use oca::control::model::Partner;
use oca::control::model::Site;
use oca::control::store::ControlStore;
use oca::control::store::ImportedKey;
use oca::control::store::SqlStore;
use oca::ids::BoxId;
use oca::ids::Profile;
use oca::ids::SiteName;
use oca::key::Key;
use oca::object::Digest;
use std::fs;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;

/// Bundles and keys of each: what every box holds.
const BUNDLES: u32 = 150;
const BUNDLE_KEYS: u32 = 20;

/// Until the process has read its database and listens.
const START_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

pub(super) struct Plane {
    child: Child,
    link: SocketAddr,
    public: SocketAddr,
    pin: String,
    store: SqlStore,
    dir: TempDir,
}

/// `c001-tls001-p7-isp`: two boxes a site, one site a provider.
pub(super) fn box_id(number: u32) -> anyhow::Result<BoxId> {
    let place = number % SITE_BOXES + 1;
    let label = site(number / SITE_BOXES)?.label();
    Ok(BoxId::parse(&format!("c{place:03}-{label}"))?)
}

/// Some key of the content.
pub(super) fn key(random: u32) -> String {
    let bundle = random % BUNDLES;
    format!(
        "title-{bundle}/r1/seg-{}.m4s",
        random / BUNDLES % BUNDLE_KEYS
    )
}

fn site(provider: u32) -> anyhow::Result<SiteName> {
    Ok(SiteName::parse(&format!("TLS001.p{provider}.isp"))?)
}

impl Plane {
    pub(super) async fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let state = dir.path().join("state");
        fs::create_dir(&state)?;
        let authority = Authority::open(&state, clock::wall())?;
        let store = SqlStore::open(&state.join("control.sqlite")).await?;
        fill(&store, options.boxes).await?;
        let (link, public) = (free_port()?, free_port()?);
        let config = dir.path().join("control.toml");
        fs::write(&config, config_text(dir.path(), options, link, public))?;
        let log = fs::File::create(dir.path().join("log"))?;
        let child = Command::new(&options.oca)
            .args(["control", "run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| options.oca.display().to_string())?;
        let mut plane = Self {
            child,
            link,
            public,
            pin: authority.fingerprint(),
            store,
            dir,
        };
        let begun = clock::now();
        while TcpStream::connect(link).is_err() || TcpStream::connect(public).is_err() {
            plane.check_alive()?;
            anyhow::ensure!(
                begun.elapsed() < START_TIME_MAX,
                "the control plane does not listen:\n{}",
                plane.tail()
            );
            clock::sleep(Duration::from_millis(50)).await;
        }
        Ok(plane)
    }

    pub(super) fn link(&self) -> SocketAddr {
        self.link
    }

    pub(super) fn public(&self) -> SocketAddr {
        self.public
    }

    /// What provisioning pins.
    pub(super) fn pin(&self) -> &str {
        &self.pin
    }

    /// A one-time token for a box.
    pub(super) async fn token(&self, id: &BoxId) -> anyhow::Result<String> {
        let (text, hash) = token::make().map_err(|_| anyhow::anyhow!("no random numbers"))?;
        let ends = token::ends(clock::wall());
        self.store.put_token(id.clone(), hash, ends).await?;
        Ok(text)
    }

    pub(super) async fn open_boxes(&self) -> anyhow::Result<u64> {
        std::future::ready(Ok(0)).await
    }

    /// User and system time of all its threads so far.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        // After the name, which may hold anything: state is field 3, utime 14, stime 15.
        let (_, rest) = stat.rsplit_once(") ").context("a strange /proc/stat")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |field: usize| -> anyhow::Result<u32> {
            Ok(fields.get(field - 3).context("a short stat")?.parse()?)
        };
        let hertz = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
        Ok(f64::from(ticks(14)? + ticks(15)?) / f64::from(i32::try_from(hertz)?))
    }

    pub(super) fn rss_bytes(&self) -> anyhow::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1_024)
    }

    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(exit) => anyhow::bail!("the control plane ended, {exit}:\n{}", self.tail()),
        }
    }

    /// Asks it to end and waits for that.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        let begun = clock::now();
        loop {
            if let Some(exit) = self.child.try_wait()? {
                anyhow::ensure!(exit.success(), "{exit}:\n{}", self.tail());
                self.store.close().await;
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < STOP_TIME_MAX, "it does not stop");
            clock::sleep(Duration::from_millis(50)).await;
        }
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).context(path)
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Plane {
    /// A simulation that failed leaves no process behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nobody else takes it in the moment before the process does.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn config_text(dir: &Path, options: &Options, link: SocketAddr, public: SocketAddr) -> String {
    let dir = dir.display();
    let report_every = options.report_every.as_millis();
    format!(
        "[control]\nstate_dir = \"{dir}/state\"\ndomain = \"oca.example.net\"\n\
         report_every = \"{report_every}ms\"\n\
         [link]\nlisten = [\"{link}\"]\nnames = [\"127.0.0.1\"]\n\
         [public]\nplain_listen = [\"{public}\"]\n\
         [admin]\nsocket = \"{dir}/control.sock\"\n"
    )
}

/// Partners, sites, clusters, boxes that may serve, and content.
async fn fill(store: &SqlStore, boxes: u32) -> anyhow::Result<()> {
    for cluster in 0..boxes.div_ceil(CLUSTER_BOXES) {
        let name = format!("cluster-{cluster}");
        store.put_cluster(Cluster { name }).await?;
    }
    for provider in 0..boxes.div_ceil(SITE_BOXES) {
        let name = format!("p{provider}");
        let partner = Partner {
            name: name.clone(),
            title: format!("Provider {provider}"),
            approvals: Vec::new(),
        };
        store.put_partner(partner).await?;
        for prefix in routes::approved(provider) {
            store
                .approve(name.clone(), Approval::Prefix(prefix))
                .await?;
        }
        let site = Site {
            name: site(provider)?,
            partner: name,
            latitude: 43.6,
            longitude: 1.4,
            timezone: "Europe/Paris".to_owned(),
            open: false,
        };
        store.put_site(site).await?;
    }
    for number in 0..boxes {
        let id = box_id(number)?;
        store.put_appliance(appliance(id.clone(), number)?).await?;
        store.set_enabled(id, true).await?;
    }
    let mut keys = Vec::new();
    for bundle in 0..BUNDLES {
        for at in 0..BUNDLE_KEYS {
            let name = key(at * BUNDLES + bundle);
            keys.push(ImportedKey {
                key: Key::parse(name.as_bytes())?,
                digest: Digest::of(name.as_bytes()),
                length: 1_000_000,
                last_modified: 1_700_000_000,
            });
        }
    }
    store.put_keys(keys).await?;
    Ok(())
}

fn appliance(id: BoxId, number: u32) -> anyhow::Result<Appliance> {
    Ok(Appliance {
        id,
        site: site(number / SITE_BOXES)?.label(),
        cluster: format!("cluster-{}", number / CLUSTER_BOXES),
        profile: Profile::Storage,
        ipv4: Some(Ipv4Addr::new(203, 0, 113, 9)),
        ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 9)),
        https_port: 443,
        capacity: 1 << 40,
        enabled: true,
        quarantined: None,
        revoked: false,
        key_fingerprint: None,
        certificate_ends: None,
    })
}
