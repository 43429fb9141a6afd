//! A site's router as a child process: our own small speaker, or a real BIRD.
//!
//! Its script says what it announces; [`Router::announce`] changes that while the sessions stay.
//!
//! I/O: writes files, starts processes, sends signals.

use super::child;
use super::child::Daemon;
use super::speaker::Announcement;
use super::speaker::Script;
use crate::prefix::Family;
use anyhow::Context as _;
use clap::ValueEnum;
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

const READY_WITHIN: Duration = Duration::from_secs(10);

/// Who plays the routers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RouterKind {
    /// The demo's own speaker.
    #[default]
    Own,
    /// BIRD 2, from the package `bird2`.
    Bird,
}

/// One router.
#[derive(Debug)]
pub(super) struct Router {
    kind: RouterKind,
    dir: PathBuf,
    script: Script,
    daemon: Daemon,
}

impl Router {
    /// Writes its files below `dir`, which must be there. `program` is `oca`.
    pub(super) fn new(
        kind: RouterKind,
        program: &Path,
        dir: &Path,
        script: Script,
    ) -> anyhow::Result<Self> {
        let log = dir.join("router.log");
        let daemon = match kind {
            RouterKind::Own => {
                let script = dir.join("router.json");
                Daemon::new(program, ["demo-router".as_ref(), script.as_os_str()], log)
            }
            RouterKind::Bird => {
                let [config, socket] = ["bird.conf", "bird.ctl"].map(|name| dir.join(name));
                let arguments = [
                    "-f".as_ref(),
                    "-c".as_ref(),
                    config.as_os_str(),
                    "-s".as_ref(),
                    socket.as_os_str(),
                ];
                Daemon::new(&bird("bird")?, arguments, log)
            }
        };
        let made = Self {
            kind,
            dir: dir.to_owned(),
            script,
            daemon,
        };
        made.write()?;
        Ok(made)
    }

    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        self.daemon.start(READY_WITHIN, || async { true }).await?;
        Ok(())
    }

    pub(super) fn routes(&self) -> &[Announcement] {
        &self.script.routes
    }

    /// From here on exactly these.
    pub(super) async fn announce(&mut self, routes: Vec<Announcement>) -> anyhow::Result<()> {
        self.script.routes = routes;
        self.write()?;
        match self.kind {
            RouterKind::Own => self.daemon.signal(Signal::SIGHUP),
            RouterKind::Bird => {
                let mut command = child::command(&bird("birdc")?);
                command
                    .arg("-s")
                    .arg(self.dir.join("bird.ctl"))
                    .arg("configure");
                child::finished(&mut command, "birdc configure").await?;
                Ok(())
            }
        }
    }

    fn write(&self) -> anyhow::Result<()> {
        let (path, text) = match self.kind {
            RouterKind::Own => {
                let text = serde_json::to_string(&self.script).context("a script")?;
                (self.dir.join("router.json"), text)
            }
            RouterKind::Bird => (self.dir.join("bird.conf"), bird_config(&self.script)),
        };
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Debian keeps it where only root looks.
fn bird(name: &str) -> anyhow::Result<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut programs = places.map(|place| place.join(name));
    programs
        .find(|program| program.is_file())
        .with_context(|| format!("{name} is missing; install it with: apt-get install bird2"))
}

fn bird_config(script: &Script) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {address};\nprotocol device {{ }}\n",
        address = script.address
    );
    for (family, name) in [(Family::Ipv4, "ipv4"), (Family::Ipv6, "ipv6")] {
        let _ = writeln!(text, "protocol static static_{name} {{ {name};");
        for route in script
            .routes
            .iter()
            .filter(|route| route.prefix.family() == family)
        {
            let mut attributes = String::new();
            for asn in route.path.iter().rev() {
                let _ = write!(attributes, "bgp_path.prepend({asn}); ");
            }
            if let Some(med) = route.med {
                let _ = write!(attributes, "bgp_med = {med}; ");
            }
            let _ = writeln!(
                text,
                "  route {} blackhole {{ {attributes}}};",
                route.prefix
            );
        }
        text.push_str("}\n");
    }
    for (index, address) in script.boxes.iter().enumerate() {
        let _ = writeln!(
            text,
            "protocol bgp box_{index} {{\n  local {local} as {asn};\n  \
             neighbor {ip} port {port} as {theirs};\n  strict bind yes;\n  multihop 2;\n  \
             connect delay time 1;\n  connect retry time 2;\n  error wait time 1, 4;\n  \
             ipv4 {{ import none; export all; next hop address {local}; }};\n  \
             ipv6 {{ import none; export all; next hop address 2001:db8::1; }};\n}}",
            local = script.address,
            asn = script.asn,
            ip = address.ip(),
            port = address.port(),
            theirs = super::system::BOX_ASN,
        );
    }
    text
}
