//! The daemon under test in its namespace, asked through its command line.
//!
//! I/O: starts processes, writes below a temporary directory.

use crate::harness::OCA;
use crate::harness::Process;
use crate::harness::until;
use crate::pair::Pair;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// For routers that retry every few seconds, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) process: Process,
    dir: tempfile::TempDir,
}

impl Ours {
    /// `neighbour` is what the section of the router has beside its name, address and AS numbers.
    pub(crate) fn start(pair: &Pair, neighbour: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = pair.ours();
        let config = dir.path().join("oca.toml");
        let text = format!(
            "[appliance]\nid = \"c001-tls001-example-isp\"\nsite = \"TLS001.example.isp\"\n\
             profile = \"storage\"\ntimezone = \"Europe/Paris\"\nstate_dir = \"{dir}/state\"\n\
             stop_time = \"1s\"\n\
             [serve]\nlisten = []\nplain_listen = [\"127.0.0.1:0\"]\nworkers = 1\n\
             [[disk]]\npath = \"{dir}/disk\"\nclass = \"ssd\"\nplain_directory = true\n\
             [gate]\nrequire = [\"bgp\"]\n\
             [admin]\nsocket = \"{dir}/oca.sock\"\nread_only_socket = \"{dir}/oca-ro.sock\"\n\
             [bgp]\nasn = 64510\nrouter_id = \"192.0.2.2\"\n\
             [[bgp.neighbour]]\nname = \"router\"\nasn = 64500\nclass = \"embedded\"\n\
             import = \"all\"\nbogons = \"none\"\nconnect_retry = \"1s\"\nidle_hold = \"1s\"\n{neighbour}\n",
            dir = dir.path().display(),
        );
        std::fs::create_dir(dir.path().join("disk")).unwrap();
        std::fs::write(&config, text).unwrap();
        let command = [OCA, "run", "--config", config.to_str().unwrap()];
        let mut process = Process::new(&host, &command, dir.path().join("log"));
        process.start();
        let ours = Self { process, dir };
        until(
            "the daemon's first answer",
            PATIENCE,
            || (ours.show(&["bgp"]), ours.process.tail()),
            |(answer, _)| !answer.is_null(),
        );
        ours
    }

    /// A file beside the configuration, for secrets.
    pub(crate) fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (dir, path)
    }

    fn socket(&self) -> String {
        format!("{}/oca.sock", self.dir.path().display())
    }

    /// `oca … -j`; `Null` while the daemon is not there.
    pub(crate) fn command(&self, arguments: &[&str]) -> Value {
        let output = Command::new(OCA)
            .args(arguments)
            .args(["-j", "--socket", &self.socket()])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    pub(crate) fn show(&self, what: &[&str]) -> Value {
        let mut arguments = vec!["show"];
        arguments.extend(what);
        self.command(&arguments)
    }

    pub(crate) fn session(&self) -> Value {
        self.show(&["bgp"])["bgp"][0].clone()
    }

    pub(crate) fn routes(&self) -> Vec<Value> {
        let answer = self.show(&["routes"]);
        answer["routes"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn prefixes(&self) -> BTreeSet<String> {
        let text = |route: &Value| route["prefix"].as_str().unwrap_or_default().to_owned();
        self.routes().iter().map(text).collect()
    }

    /// Waits until the session is in `state`.
    pub(crate) fn until_state(&self, state: &str) -> Value {
        until(
            state,
            PATIENCE,
            || self.session(),
            |session| session["state"] == state,
        )
    }

    pub(crate) fn until_routes(&self, count: usize) {
        until(
            &format!("{count} routes"),
            PATIENCE,
            || self.session(),
            |session| session["routes"] == count,
        );
    }

    /// Waits until the last error has these words.
    pub(crate) fn until_error(&self, words: &str) -> String {
        let session = until(
            words,
            PATIENCE,
            || self.session(),
            |session| {
                let error = session["last_error"].as_str();
                error.is_some_and(|error| error.contains(words))
            },
        );
        session["last_error"].as_str().unwrap().to_owned()
    }

    /// Open descriptors of the daemon.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(path).unwrap().count()
    }

    pub(crate) fn signal(&self, signal: &str) {
        signal_process(self.process.id(), signal);
    }
}

/// By process id, never by name.
pub(crate) fn signal_process(process: u32, signal: &str) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &process.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -{signal} {process}");
}
