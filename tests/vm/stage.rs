//! What the checks share inside the guest: one box on a disk of its own, its content, its log.
//!
//! The box is the built binary, restarted where a check wants another `tls_offload`. It has two
//! certificates, ECDSA for `localhost` and RSA for [`RSA_NAME`], so that every cipher suite can be
//! asked for.
//!
//! I/O: makes and mounts a file system in memory, loads modules, runs the box.

use crate::disks;
use crate::machine::MODULES_VARIABLE;
use crate::support::OCA;
use crate::support::finished;
use crate::support::peer;
use aws_lc_rs::digest;
use oca::clock;
use oca::demo::Appliance;
use oca::demo::Role;
use oca::demo::Settings;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rcgen::PKCS_RSA_SHA256;
use rustls::RootCertStore;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The name of the certificate with an RSA key; resolved by the clients themselves.
pub(crate) const RSA_NAME: &str = "rsa.example.net";

/// Far longer than anything takes that is not broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The kernel's TLS, and the ciphers it looks for under these names. A host's kernel finds them by
/// itself; this guest has no `/lib/modules` of its own.
const TLS_MODULES: &[&str] = &[
    "tls",
    "gcm",
    "ghash-generic",
    "ctr",
    "chacha20poly1305",
    "chacha_generic",
    "poly1305_generic",
];

/// What begins the part of the configuration that differs between checks.
const ADDED: &str = "\n# Added by the check\n";

/// `tls_offload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    /// The default: nothing is written.
    Auto,
    Off,
    Require,
}

/// Key → bytes.
type Media = BTreeMap<String, Vec<u8>>;

pub(crate) struct Stage {
    pub dir: PathBuf,
    pub media: Media,
    pub roots: RootCertStore,
    /// Both certificates as PEM, for clients that are programs.
    pub bundle: PathBuf,
    runtime: Runtime,
    appliance: Appliance,
    running: Option<Offload>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = std::env::temp_dir();
        let media = content();
        let source = dir.join("media");
        for (key, bytes) in &media {
            let path = source.join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let home = dir.join("box");
        fs::create_dir(&home).unwrap();
        let settings = Settings {
            workers: 1,
            disks: 1,
            access_log: false,
            role: Role::Alone,
        };
        let appliance = Appliance::new(Path::new(OCA), &home, settings).unwrap();
        disks::mount(&home.join("disk1"));
        let mut roots = RootCertStore::empty();
        roots.add(appliance.authority().root.clone()).unwrap();
        let rsa = rsa_certificate(&dir);
        roots.add(rsa.der().clone()).unwrap();
        let bundle = dir.join("bundle.pem");
        let ca = fs::read_to_string(&appliance.authority().ca).unwrap();
        fs::write(&bundle, ca + &rsa.pem()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(appliance.prefill(&source)).unwrap();
        fs::remove_dir_all(&source).unwrap();
        Self {
            dir,
            media,
            roots,
            bundle,
            runtime,
            appliance,
            running: None,
        }
    }

    /// The box runs with this setting.
    pub(crate) fn serve(&mut self, offload: Offload) {
        if self.running == Some(offload) {
            return;
        }
        self.stop();
        self.configure(offload);
        self.runtime.block_on(self.appliance.start()).unwrap();
        self.running = Some(offload);
    }

    /// TERM, as an operator stops it; it has to end well.
    pub(crate) fn stop(&mut self) {
        if self.running.take().is_some() {
            let ended = self.runtime.block_on(self.appliance.terminate(PATIENCE));
            let (status, _) = ended.unwrap();
            assert!(status.success(), "{status}: {}", self.appliance.tail());
        }
    }

    fn configure(&self, offload: Offload) {
        let file = self.appliance.config();
        let text = fs::read_to_string(&file).unwrap();
        let base = text.split(ADDED).next().unwrap();
        let dir = self.dir.display();
        let offload = match offload {
            Offload::Auto => "",
            Offload::Off => "[serve.tls]\ntls_offload = \"off\"\n",
            Offload::Require => "[serve.tls]\ntls_offload = \"require\"\n",
        };
        let rsa = format!(
            "[[serve.tls.certificate]]\nchain = \"{dir}/rsa.pem\"\nkey = \"{dir}/rsa.key\"\n"
        );
        fs::write(&file, format!("{base}{ADDED}{rsa}{offload}")).unwrap();
    }

    /// A box that must not start: its exit code and what it said.
    pub(crate) fn refused(&mut self, offload: Offload) -> (Option<i32>, String) {
        self.stop();
        self.configure(offload);
        let mut command = Command::new("timeout");
        command.args(["10", OCA, "run", "--config"]);
        let output = command.arg(self.appliance.config()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.appliance.addresses().unwrap().https
    }

    pub(crate) fn process(&self) -> u32 {
        self.appliance.process().unwrap()
    }

    /// Connections that the box has not closed, or not to their end.
    pub(crate) fn connections(&self) -> usize {
        const LISTENING: &str = "0A";
        const OVER: &str = "06";
        let port = format!(":{:04X}", self.https().port());
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().skip(1).map(|row| row.split_whitespace());
        let rows = rows.filter_map(|mut row| Some((row.nth(1)?, row.nth(1)?)));
        rows.filter(|(local, _)| local.ends_with(&port))
            .filter(|(_, state)| ![LISTENING, OVER].contains(state))
            .count()
    }

    /// What the box has on its disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("box/disk1")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("box/oca.log")).unwrap_or_default()
    }

    /// An answer of the admin socket.
    pub(crate) fn ask(&self, path: &str) -> Value {
        self.runtime.block_on(self.appliance.ask(path)).unwrap()
    }
}

/// Waits until `is_so`, which says what it sees.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let deadline = clock::now() + PATIENCE;
    loop {
        match is_so() {
            Ok(()) => return,
            Err(seen) => assert!(clock::now() < deadline, "{what} never came: {seen}"),
        }
        clock::block_for(Duration::from_millis(5));
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// Loads kernel TLS with the ciphers it needs, once.
pub(crate) fn load_tls() {
    if !TlsStat::is_there() {
        load(&[&["-a"], TLS_MODULES].concat());
    }
}

/// `modprobe` of one module with its parameters, or with `-a` of several modules.
pub(crate) fn load(module: &[&str]) {
    let root = std::env::var_os(MODULES_VARIABLE).unwrap();
    finished(peer("modprobe", "kmod").arg("-d").arg(root).args(module));
}

/// What the kernel counted of TLS: `/proc/net/tls_stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsStat {
    /// Connections handed over for sending, and for receiving.
    pub sent: u64,
    pub received: u64,
    /// Everything that tells of trouble, summed.
    pub errors: u64,
}

impl TlsStat {
    const FILE: &str = "/proc/net/tls_stat";

    /// The module is loaded.
    pub(crate) fn is_there() -> bool {
        Path::new(Self::FILE).exists()
    }

    pub(crate) fn read() -> Self {
        Self {
            sent: count("TlsTxSw") + count("TlsTxDevice"),
            received: count("TlsRxSw") + count("TlsRxDevice"),
            errors: count("TlsDecryptError") + count("TlsRxNoPadViolation"),
        }
    }

    /// Connections that the kernel sends on at this moment.
    pub(crate) fn open() -> u64 {
        count("TlsCurrTxSw") + count("TlsCurrTxDevice")
    }

    /// What a number of connections adds, handed over as they should be: for sending only.
    pub(crate) fn handed_over(connections: u64) -> Self {
        Self {
            sent: connections,
            received: 0,
            errors: 0,
        }
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            received: self.received - before.received,
            errors: self.errors - before.errors,
        }
    }
}

/// One line of [`TlsStat::FILE`].
fn count(name: &str) -> u64 {
    let text = fs::read_to_string(TlsStat::FILE).unwrap();
    let value = text.lines().find_map(|line| {
        let (first, value) = line.split_once(char::is_whitespace)?;
        (first == name).then(|| value.trim().parse().ok())?
    });
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn rsa_certificate(dir: &Path) -> rcgen::Certificate {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let params = CertificateParams::new(vec![RSA_NAME.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(dir.join("rsa.pem"), certificate.pem()).unwrap();
    let file = dir.join("rsa.key");
    fs::write(&file, key.serialize_pem()).unwrap();
    finished(Command::new("chmod").arg("600").arg(file));
    certificate
}

/// Two films too large for any buffer, and what is small beside them.
fn content() -> Media {
    let mut media = Media::new();
    let mut add = |key: String, length: usize| {
        let bytes = noise(&key, length);
        media.insert(key, bytes);
    };
    add("film/large.mp4".to_owned(), 8_388_617);
    add("film/other.mp4".to_owned(), 5_000_003);
    for number in 0..4 {
        add(format!("film/middle-{number}.m4s"), 250_000 + number);
    }
    for number in 0..8 {
        add(format!("film/small-{number}.m4s"), 1 + number * 2003);
    }
    media
}

/// Bytes in which a lost, doubled or misplaced piece shows.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}
