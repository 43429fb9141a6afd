//! The servers on the first core, with the very same files and the same certificate.
//!
//! Our box runs one worker and no access log; [`crate::nginx`] says what nginx is told.
//!
//! I/O: writes files, starts processes, reads /proc.

use crate::disk::Disk;
use crate::files;
use crate::files::Kind;
use crate::load::Order;
use crate::load::Target;
use crate::load::Transport;
use crate::nginx;
use crate::nginx::Nginx;
use anyhow::Context as _;
use oca::demo::Appliance;
use oca::demo::Role;
use oca::demo::Scratch;
use oca::demo::Settings;
use rustls::ClientConfig;
use rustls::RootCertStore;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// The core of the servers; `benches/run` puts the clients on core 1.
const SERVER_CORE: &str = "0";

/// The files, their copies in the store, and what a store leaves free.
const PLACE_BYTES: u64 = 4_000_000_000;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Oca,
    Nginx,
    /// nginx with `aio threads`, where [`Plan::threads`] says that it is started.
    NginxThreads,
}

/// What is started, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// An empty directory.
    pub(crate) dir: &'a Path,
    pub(crate) kinds: &'a [Kind],
    pub(crate) threads: bool,
    /// The `cgroup.procs` of a group that the servers join.
    pub(crate) group: Option<&'a Path>,
}

/// An empty directory for [`Plan::dir`].
#[derive(Debug)]
pub(crate) enum Place {
    Disk(Disk),
    Scratch(Scratch),
}

impl Place {
    /// On a disk of its own, or without root on the machine's.
    pub(crate) fn make() -> anyhow::Result<Self> {
        match nix::unistd::geteuid().is_root() {
            true => Ok(Self::Disk(Disk::make(PLACE_BYTES, None)?)),
            false => Ok(Self::Scratch(Scratch::new("oca-bench")?)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Disk(disk) => disk.path(),
            Self::Scratch(scratch) => scratch.path(),
        }
    }
}

/// Field order is drop order.
#[derive(Debug)]
pub(crate) struct Servers {
    oca: Appliance,
    nginx: Nginx,
    nginx_threads: Option<Nginx>,
    client: Arc<ClientConfig>,
    media: PathBuf,
}

impl Servers {
    pub(crate) async fn start(plan: Plan<'_>) -> anyhow::Result<Self> {
        let media = plan.dir.join("media");
        for kind in plan.kinds {
            files::write(&media, *kind)?;
        }
        let settings = Settings {
            workers: 1,
            disks: 1,
            access_log: false,
            role: Role::Alone,
        };
        let program = pinned(plan, "oca-pinned", env!("CARGO_BIN_EXE_oca"))?;
        let mut oca = Appliance::new(&program, plan.dir, settings)?;
        oca.prefill(&media).await?;
        for kind in plan.kinds {
            files::share(plan.dir, &media, *kind)?;
        }
        oca.start().await?;
        let program = pinned(plan, "nginx-pinned", nginx::program())?;
        let peer = |threads| Nginx::start(&program, plan.dir, &media, &oca, threads);
        Ok(Self {
            nginx: peer(false).await?,
            nginx_threads: match plan.threads {
                true => Some(peer(true).await?),
                false => None,
            },
            client: client(&oca)?,
            oca,
            media,
        })
    }

    /// Where the files are, by prefix and number.
    pub(crate) fn media(&self) -> &Path {
        &self.media
    }

    fn peer(&self, who: Who) -> anyhow::Result<Option<&Nginx>> {
        match who {
            Who::Oca => Ok(None),
            Who::Nginx => Ok(Some(&self.nginx)),
            Who::NginxThreads => {
                let threads = self.nginx_threads.as_ref();
                threads.context("not started").map(Some)
            }
        }
    }

    pub(crate) fn target(
        &self,
        who: Who,
        kind: Kind,
        transport: Transport,
    ) -> anyhow::Result<Target> {
        let (plain, tls) = match self.peer(who)? {
            None => {
                let known = self.oca.addresses()?;
                (known.plain, known.https)
            }
            Some(nginx) => (nginx.plain, nginx.tls),
        };
        Ok(Target {
            address: match transport {
                Transport::Plain => plain,
                Transport::Tls => tls,
            },
            tls: match transport {
                Transport::Plain => None,
                Transport::Tls => Some(Arc::clone(&self.client)),
            },
            prefix: kind.prefix(),
            count: kind.count(),
            bytes: kind.bytes(),
            order: match kind {
                Kind::Small | Kind::Large | Kind::Huge => Order::Random,
                Kind::Cold => Order::InTurn,
            },
        })
    }

    fn process(&self, who: Who) -> anyhow::Result<u32> {
        match self.peer(who)? {
            None => self.oca.process().context("oca has ended"),
            Some(nginx) => Ok(nginx.process()),
        }
    }

    /// CPU time of all threads of a server since it started.
    pub(crate) fn cpu_ns(&self, who: Who) -> anyhow::Result<u64> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process(who)?))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split(' ').next().context("an empty schedstat")?;
            total += first.parse::<u64>().context("a strange schedstat")?;
        }
        Ok(total)
    }

    /// Resident and proportional memory of a server, in bytes.
    pub(crate) fn memory(&self, who: Who) -> anyhow::Result<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process(who)?))?;
        let field = |name: &str| -> anyhow::Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            let kib: u64 = number.with_context(|| format!("no {name}"))?.parse()?;
            Ok(kib * 1024)
        };
        Ok((field("Rss:")?, field("Pss:")?))
    }

    /// What anybody who compares these figures has to know.
    pub(crate) fn conditions(&self) -> anyhow::Result<String> {
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(format!(
            "congestion control: oca {}, nginx {}; peer: {}, TLS by OpenSSL; load average {}",
            congestion(self.oca.addresses()?.plain)?,
            congestion(self.nginx.plain)?,
            nginx::version()?,
            load.trim(),
        ))
    }
}

/// Congestion control of the server's end of a connection, which is the end that sends.
fn congestion(server: SocketAddr) -> anyhow::Result<String> {
    let _open = std::net::TcpStream::connect(server)?;
    let filter = format!("sport = :{}", server.port());
    let output = Command::new("ss").args(["-tinH", &filter]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let known = ["cubic", "bbr", "reno", "dctcp", "htcp", "vegas"];
    let mut words = text.split_whitespace();
    let found = words.find(|word| known.contains(word));
    Ok(found.unwrap_or("unknown").to_owned())
}

/// A wrapper that starts `program` on the servers' core and, when it serves, in their group.
fn pinned(plan: Plan<'_>, name: &str, program: &str) -> anyhow::Result<PathBuf> {
    let path = plan.dir.join(name);
    let join = plan.group.map_or_else(String::new, |group| {
        format!("[ \"$1\" = prefill ] || echo $$ > '{}'\n", group.display())
    });
    let text =
        format!("#!/bin/sh\n{join}exec taskset --cpu-list {SERVER_CORE} '{program}' \"$@\"\n");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

/// One cipher for both, so that the libraries' preferences do not decide.
fn client(oca: &Appliance) -> anyhow::Result<Arc<ClientConfig>> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let wanted = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider
        .cipher_suites
        .retain(|suite| suite.suite() == wanted);
    let mut roots = RootCertStore::empty();
    roots.add(oca.authority().root.clone())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Every handshake is a full one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
