//! A control plane and boxes as processes, on loopback or each in a network namespace.
//!
//! Everything is asked through the command line, as an operator would. Dropping a [`Process`] kills
//! it by its process id.
//!
//! I/O: starts processes, writes below a temporary directory.

use oca::clock;
use oca::demo::Scratch;
use serde_json::Value;
use std::fs;
use std::fs::File;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::time::Duration;

/// The binary under test.
pub(crate) const OCA: &str = env!("CARGO_BIN_EXE_oca");

/// A start, an enrolment, a manifest on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Held by every test of this binary, which begins with one of the two functions below; for itself
/// alone by those that judge times. Two cores are few for a dozen daemons, and what one test writes
/// keeps the disk of all busy. Tests are threads of one process.
static MACHINE: RwLock<()> = RwLock::new(());

/// A daemon, in the network namespace of its host or in one of its own.
#[derive(Debug)]
pub(crate) struct Process {
    command: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// Where a host is: its address, and its namespace if it has one.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub address: Ipv4Addr,
    pub namespace: Option<String>,
}

/// A control plane with a directory of media.
#[derive(Debug)]
pub(crate) struct Plane {
    process: Process,
    pub media: PathBuf,
    host: Host,
    dir: PathBuf,
    link: u16,
}

/// A box of it.
#[derive(Debug)]
pub(crate) struct Box {
    pub process: Process,
    pub id: String,
    pub host: Host,
    pub dir: PathBuf,
    pub plain: u16,
}

/// What differs between boxes.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    pub site: &'a str,
    pub cluster: &'a str,
    pub number: u8,
    /// As `[fill] rate_limit` is written.
    pub rate: &'a str,
    pub disks: usize,
}

/// A turn on the machine that others may share. A test that failed harms nobody else's turn.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// A turn on the machine without any other test of this binary.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    pub(crate) fn loopback(last: u8) -> Self {
        Self {
            address: Ipv4Addr::new(127, 0, 7, last),
            namespace: None,
        }
    }

    /// Free here; in a namespace of its own nobody competes.
    fn port(&self) -> u16 {
        let at = match self.namespace {
            None => self.address,
            Some(_) => Ipv4Addr::LOCALHOST,
        };
        TcpListener::bind((at, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
    }

    pub(crate) fn wrap(&self, command: &[&str]) -> Vec<String> {
        let inside = self
            .namespace
            .iter()
            .flat_map(|name| ["ip", "netns", "exec", name]);
        inside
            .chain(command.iter().copied())
            .map(str::to_owned)
            .collect()
    }
}

impl Process {
    pub(crate) fn new(host: &Host, command: &[&str], log: PathBuf) -> Self {
        Self {
            command: host.wrap(command),
            log,
            child: None,
        }
    }

    pub(crate) fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// It was started and has not ended; one that nobody waited for has.
    pub(crate) fn is_alive(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// CPU seconds of its threads so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    pub(crate) fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(4_000);
        text.get(from..).unwrap_or_default().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks until the answer satisfies; panics with the last one.
pub(crate) fn until<T: std::fmt::Debug>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> T {
    let end = clock::now() + patience;
    loop {
        let told = ask();
        if good(&told) {
            return told;
        }
        assert!(
            clock::now() < end,
            "waited {patience:?} for {what}: {told:?}"
        );
        clock::block_for(LOOK_EVERY);
    }
}

/// The last JSON value that a command prints; `Null` when it prints none.
fn json(arguments: &[&str]) -> Value {
    let output = Command::new(OCA).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.trim().lines().last().unwrap_or_default();
    serde_json::from_str(text.trim())
        .or_else(|_| serde_json::from_str(last))
        .unwrap_or(Value::Null)
}

fn quoted(path: &Path) -> String {
    toml::Value::from(path.to_str().unwrap()).to_string()
}

impl Plane {
    pub(crate) fn start(scratch: &Scratch, host: Host) -> Self {
        let dir = scratch.path().join("plane");
        let media = scratch.path().join("media");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(&media).unwrap();
        let (link, public) = (host.port(), host.port());
        let at = host.address;
        let config = dir.join("control.toml");
        let text = format!(
            "[control]\nstate_dir = {}\ndomain = \"oca.example.net\"\nlease = \"60s\"\n\
             [link]\nlisten = [\"{at}:{link}\"]\nnames = [\"{at}\"]\n\
             [public]\nplain_listen = [\"{at}:{public}\"]\n[admin]\nsocket = {}\n\
             [staleness]\nheartbeat = \"5s\"\n[fill]\nask_again = \"1s\"\n",
            quoted(&dir.join("state")),
            quoted(&dir.join("control.sock")),
        );
        fs::write(&config, text).unwrap();
        let command = [OCA, "control", "run", "--config", config.to_str().unwrap()];
        let mut process = Process::new(&host, &command, dir.join("control.log"));
        process.start();
        let plane = Self {
            process,
            media,
            host,
            dir,
            link,
        };
        let told = || (plane.control(&["status"]), plane.process.tail());
        until("the control plane", PATIENCE, told, |(told, _)| {
            !told.is_null()
        });
        plane.control(&["partner", "add", "example"]);
        plane
    }

    /// `oca control <arguments> --json`.
    pub(crate) fn control(&self, arguments: &[&str]) -> Value {
        let socket = self.dir.join("control.sock");
        let head = ["control"];
        let tail = ["--json", "--socket", socket.to_str().unwrap()];
        json(&[&head[..], arguments, &tail[..]].concat())
    }

    /// The sum of a counter of the metrics, whatever its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let socket = self.dir.join("control.sock");
        metric(&socket, name)
    }
}

/// Asks the metrics of an admin socket for the sum over a name.
pub(crate) fn metric(socket: &Path, name: &str) -> f64 {
    let output = Command::new("curl")
        .args(["-s", "--unix-socket", socket.to_str().unwrap()])
        .arg("http://localhost/metrics")
        .output()
        .expect("curl is missing; install it with: apt-get install curl");
    let text = String::from_utf8_lossy(&output.stdout);
    let of_it = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    let lines = text.lines().filter(of_it);
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

impl Box {
    /// Registers it, provisions it, and leaves it ready to start.
    pub(crate) fn make(scratch: &Scratch, plane: &Plane, host: Host, plan: &Plan<'_>) -> Self {
        let label = plan.site.to_ascii_lowercase().replace('.', "-");
        let id = format!("c{:03}-{label}", plan.number);
        let dir = scratch.path().join(&id);
        fs::create_dir_all(&dir).unwrap();
        let (peer, plain) = (host.port(), host.port());
        let at = host.address.to_string();
        plane.control(&[
            "appliance",
            "add",
            &id,
            "--enabled",
            "--cluster",
            plan.cluster,
            "--profile",
            "storage",
            "--capacity",
            "100 GB",
            "--ipv4",
            &at,
            "--peer-port",
            &peer.to_string(),
        ]);
        let provision = plane.control(&["appliance", "token", &id]);
        let token = dir.join("token");
        fs::write(&token, provision["token"].as_str().unwrap()).unwrap();
        let mut text = format!(
            "[appliance]\nid = \"{id}\"\nsite = \"{site}\"\nprofile = \"storage\"\n\
             timezone = \"UTC\"\nstate_dir = {state}\nstop_time = \"2s\"\n\
             [serve]\nlisten = []\nplain_listen = [\"{at}:{plain}\"]\nworkers = 1\n\
             [serve.peer]\nlisten = [\"{at}:{peer}\"]\n\
             [fill]\nrate_limit = \"{rate}\"\nprivate_sources = true\ndeletion_grace = \"2s\"\n\
             [gate]\nrequire = [\"control\"]\n\
             [control]\nurl = \"https://{link_at}:{link}\"\nca = \"{ca}\"\ntoken_file = {token}\n\
             identity = {identity}\nheartbeat_every = \"1s\"\ngrowth_every = \"1s\"\n\
             [admin]\nsocket = {socket}\nread_only_socket = {read_only}\n",
            site = plan.site,
            state = quoted(&dir.join("state")),
            rate = plan.rate,
            link_at = plane.host.address,
            link = plane.link,
            ca = provision["ca"].as_str().unwrap(),
            token = quoted(&token),
            identity = quoted(&dir.join("identity")),
            socket = quoted(&dir.join("oca.sock")),
            read_only = quoted(&dir.join("oca-ro.sock")),
        );
        for disk in 1..=plan.disks {
            let path = dir.join(format!("disk{disk}"));
            fs::create_dir_all(&path).unwrap();
            text += &format!(
                "[[disk]]\npath = {}\nclass = \"ssd\"\nplain_directory = true\n",
                quoted(&path)
            );
        }
        let config = dir.join("oca.toml");
        fs::write(&config, text).unwrap();
        let command = [OCA, "run", "--config", config.to_str().unwrap()];
        Self {
            process: Process::new(&host, &command, dir.join("oca.log")),
            id,
            host,
            dir,
            plain,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("oca.sock")
    }

    /// `oca show <what> --json`; `Null` while it does not answer.
    pub(crate) fn show(&self, what: &[&str]) -> Value {
        let socket = self.socket();
        let head = ["show"];
        let tail = ["--json", "--socket", socket.to_str().unwrap()];
        json(&[&head[..], what, &tail[..]].concat())
    }

    /// `oca prefill DIR` while the daemon does not run.
    pub(crate) fn prefill(&self, media: &Path) {
        let config = self.dir.join("oca.toml");
        let media = media.to_str().unwrap();
        json(&[
            "prefill",
            media,
            "--json",
            "--config",
            config.to_str().unwrap(),
        ]);
    }

    /// Until its admin socket answers.
    pub(crate) fn start(&mut self) {
        self.process.start();
        self.ready();
    }

    pub(crate) fn ready(&self) {
        let told = || (self.show(&["status"]), self.process.tail());
        until(&self.id, PATIENCE, told, |(told, _)| !told.is_null());
    }

    /// `oca fill start|pause|resume`.
    pub(crate) fn tell_fill(&self, verb: &str) {
        let socket = self.socket();
        let output = Command::new(OCA)
            .args(["fill", verb, "--socket", socket.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    pub(crate) fn fill(&self) -> Value {
        self.show(&["fill"])
    }

    /// Keys of the catalogue with the disk that holds them.
    pub(crate) fn held(&self) -> Vec<(String, String)> {
        self.catalogue().unwrap_or_default()
    }

    /// As [`Box::held`]; `None` while it does not answer.
    pub(crate) fn catalogue(&self) -> Option<Vec<(String, String)>> {
        let told = self.show(&["catalogue"]);
        let rows = told["catalogue"].as_array()?.iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let held = rows.filter(|row| row["disk"].is_string());
        let pairs = held.map(|row| (text(&row["key"]), text(&row["digest"])));
        Some(pairs.collect())
    }
}

/// A site whose window is open, and a cluster in it that asks every source at once.
pub(crate) fn add_cluster_at_once(plane: &Plane, site: &str, cluster: &str) {
    add_site(plane, site, 60, "12h");
    plane.control(&["cluster", "add", cluster]);
    let at_once = ["--network-wait", "0s", "--origin-wait", "0s"];
    plane.control(&[&["policy", "set", "default"][..], &at_once].concat());
}

/// A site whose window opened `before` seconds ago, at its midnight at the earliest, and stays open
/// for `length`.
pub(crate) fn add_site(plane: &Plane, name: &str, before: i64, length: &str) {
    let (zone, start) = oca::demo::time_from_here(-before);
    plane.control(&[
        "site",
        "add",
        name,
        "--partner",
        "example",
        "--timezone",
        &zone,
        "--window-start",
        &start,
        "--window-length",
        length,
        "--open",
    ]);
}

/// A file of `bytes` that no other is equal to; sparse, so that gigabytes cost nothing.
pub(crate) fn sparse(path: &Path, bytes: u64) {
    use std::os::unix::fs::FileExt as _;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    file.set_len(bytes).unwrap();
    file.write_all_at(path.to_str().unwrap().as_bytes(), 0)
        .unwrap();
}
