//! One box of a fleet: registered with the control plane, provisioned, and run as a child process.
//!
//! I/O: asks the control plane, writes files, asks the box.

use super::appliance::Appliance;
use super::appliance::Member;
use super::appliance::Role;
use super::appliance::Settings;
use super::authority::Issuer;
use super::plane::DOMAIN;
use super::plane::Pace;
use super::plane::Plane;
use super::plane::free_port;
use super::system::Place;
use anyhow::Context as _;
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;

/// A box and what the registry calls it.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) id: String,
    pub(super) https: SocketAddr,
    pub(super) place: Place,
    pub(super) appliance: Appliance,
}

/// Where boxes are made.
#[derive(Debug)]
pub(super) struct Yard<'a> {
    pub(super) plane: &'a Plane,
    pub(super) issuer: &'a Issuer,
    pub(super) program: &'a Path,
    /// Each box has a directory of its own below it.
    pub(super) dir: &'a Path,
}

/// One box's address, directory, and what its provisioning says.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    pub(super) address: Ipv4Addr,
    /// Where other boxes fetch, if this one is told to listen there.
    pub(super) peer: u16,
    dir: &'a Path,
    ca: String,
}

impl Seat<'_> {
    /// `[control]`, as provisioning writes it.
    pub(super) fn control(&self, plane: &Plane, pace: Pace) -> String {
        let quoted = |name: &str| {
            let path = self.dir.join(name);
            toml::Value::from(path.to_string_lossy().as_ref()).to_string()
        };
        format!(
            "\n[control]\nurl = \"https://{link}\"\nca = \"{ca}\"\ntoken_file = {token}\n\
             identity = {identity}\nreport_every = \"{report}s\"\n\
             heartbeat_every = \"{beat}s\"\n",
            link = plane.link,
            ca = self.ca,
            token = quoted("token"),
            identity = quoted("identity"),
            report = pace.report_every.as_secs(),
            beat = pace.heartbeat_every.as_secs(),
        )
    }
}

impl Unit {
    /// Registers one box, gets its token, and writes what provisioning would drop; `rest` has the
    /// sections of its configuration that depend on the act.
    pub(super) async fn make(
        yard: &Yard<'_>,
        place: Place,
        number: u8,
        capacity: &str,
        rest: impl FnOnce(&Seat<'_>) -> anyhow::Result<String>,
    ) -> anyhow::Result<Self> {
        let site = place.site.to_ascii_lowercase().replace('.', "-");
        let id = format!("c{number:03}-{site}");
        let address = Ipv4Addr::new(127, 0, 0, place.octet + number);
        let https = SocketAddr::new(IpAddr::V4(address), free_port(address)?);
        let dir = yard.dir.join(&id);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (ip, port) = (address.to_string(), https.port().to_string());
        let peer = free_port(address)?;
        let peer_port = peer.to_string();
        let arguments = [
            ["appliance", "add"],
            [&id, "--enabled"],
            ["--cluster", place.cluster],
            ["--profile", "storage"],
            ["--capacity", capacity],
            ["--ipv4", &ip],
            ["--https-port", &port],
            ["--peer-port", &peer_port],
        ];
        yard.plane.control(arguments.as_flattened()).await?;
        let provision = yard.plane.control(&["appliance", "token", &id]).await?;
        let text = |name: &str| -> anyhow::Result<String> {
            let value = provision[name].as_str();
            value
                .map(ToOwned::to_owned)
                .with_context(|| format!("no `{name}` in {provision}"))
        };
        fs::write(dir.join("token"), text("token")?).context("cannot write the token")?;
        let seat = Seat {
            address,
            peer,
            dir: &dir,
            ca: text("ca")?,
        };
        let member = Member {
            id: id.clone(),
            site: place.site.to_owned(),
            https,
            sections: rest(&seat)?,
        };
        let settings = Settings {
            workers: 1,
            disks: 2,
            access_log: true,
            role: Role::Member(member),
        };
        let names = ["", "ipv4-"].map(|form| format!("{form}{id}.{DOMAIN}"));
        let certificate = yard
            .issuer
            .certify(&dir, &[&names[0], &names[1], "localhost"])?;
        Ok(Self {
            appliance: Appliance::certified(yard.program, &dir, settings, certificate)?,
            id,
            https,
            place,
        })
    }

    pub(super) fn bgp_address(&self) -> anyhow::Result<SocketAddr> {
        let text = fs::read_to_string(self.appliance.config()).context("the configuration")?;
        let table: toml::Table = text.parse().context("the configuration")?;
        let listen = table["bgp"]["listen"][0].as_str();
        listen
            .and_then(|text| text.parse().ok())
            .context("no [bgp] listen")
    }

    pub(super) async fn status(&self) -> anyhow::Result<Value> {
        self.appliance.ask("/v1/status").await
    }

    /// `serving`, or the reasons.
    pub(super) async fn gate(&self) -> anyhow::Result<String> {
        let status = self.status().await?;
        let gate = &status["gate"];
        let reasons = gate["reasons"].as_array().cloned().unwrap_or_default();
        let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
        Ok(match gate["state"].as_str() {
            Some("serving") => "serving".to_owned(),
            _ => reasons.join(", "),
        })
    }
}
