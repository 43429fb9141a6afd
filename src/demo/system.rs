//! The whole system on loopback: a control plane, four boxes at three sites, a router a site.
//!
//! Two sites belong to one provider, the third to another who announces more than is his. Every
//! box has an address of its own in 127.0.0.0/8; names are resolved by [`System::resolve`].
//!
//! I/O: drives [`super::plane`], [`super::appliance`] and [`super::router`].

use super::authority::Issuer;
use super::plane::DOMAIN;
use super::plane::Pace;
use super::plane::Plane;
use super::plane::free_port;
use super::router::Router;
use super::router::RouterKind;
use super::speaker::Announcement;
use super::speaker::Script;
use super::unit::Seat;
use super::unit::Unit;
use super::unit::Yard;
use anyhow::Context as _;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

/// AS of every box: a documentation number (RFC 5398).
pub(super) const BOX_ASN: u32 = 65536;

/// One place, its owner and what is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) site: &'static str,
    pub(super) partner: &'static str,
    pub(super) cluster: &'static str,
    pub(super) router_asn: u32,
    /// Last octet of the router's address; the boxes count on from it.
    pub(super) octet: u8,
    pub(super) boxes: u8,
}

pub(super) const TOULOUSE: Place = Place {
    site: "TLS001.example.isp",
    partner: "example",
    cluster: "toulouse",
    router_asn: 64500,
    octet: 10,
    boxes: 2,
};

pub(super) const LONDON: Place = Place {
    site: "LHR001.example.isp",
    partner: "example",
    cluster: "london",
    router_asn: 64501,
    octet: 20,
    boxes: 1,
};

/// Of a partner who announces what is not his.
pub(super) const PARIS: Place = Place {
    site: "CDG001.other.isp",
    partner: "other",
    cluster: "paris",
    router_asn: 64502,
    octet: 30,
    boxes: 1,
};

pub(super) const PLACES: [Place; 3] = [TOULOUSE, LONDON, PARIS];

/// What each partner may announce.
pub(super) const APPROVALS: [(&str, &str); 5] = [
    ("example", "192.0.2.0/24"),
    ("example", "198.51.100.0/24"),
    ("example", "203.0.113.0/24"),
    ("example", "2001:db8::/32"),
    ("other", "198.18.0.0/15"),
];

/// The system's state. Field order is drop order: processes go before their files.
#[derive(Debug)]
pub(super) struct System {
    pub(super) plane: Plane,
    pub(super) boxes: Vec<Unit>,
    routers: Vec<Router>,
    issuer: Issuer,
    dir: PathBuf,
    program: PathBuf,
    pace: Pace,
}

impl System {
    /// Writes the control plane's configuration; nothing runs yet.
    pub(super) fn new(program: &Path, dir: &Path, pace: Pace) -> anyhow::Result<Self> {
        fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self {
            plane: Plane::new(program, dir, pace)?,
            boxes: Vec::new(),
            routers: Vec::new(),
            issuer: Issuer::make()?,
            dir: dir.to_owned(),
            program: program.to_owned(),
            pace,
        })
    }

    /// Partners with their approvals, sites, clusters and boxes. Returns how many boxes.
    pub(super) async fn register(&mut self) -> anyhow::Result<usize> {
        for partner in ["example", "other"] {
            self.plane.control(&["partner", "add", partner]).await?;
        }
        for (partner, prefix) in APPROVALS {
            let arguments = ["partner", "approve", partner, prefix];
            self.plane.control(&arguments).await?;
        }
        for place in PLACES {
            let arguments = ["site", "add", place.site, "--partner", place.partner];
            self.plane.control(&arguments).await?;
            self.plane
                .control(&["cluster", "add", place.cluster])
                .await?;
            for number in 1..=place.boxes {
                let unit = self.make_box(place, number).await?;
                self.boxes.push(unit);
            }
        }
        Ok(self.boxes.len())
    }

    /// Registers one box and writes what provisioning would drop.
    async fn make_box(&self, place: Place, number: u8) -> anyhow::Result<Unit> {
        let yard = Yard {
            plane: &self.plane,
            issuer: &self.issuer,
            program: &self.program,
            dir: &self.dir,
        };
        let rest = |seat: &Seat<'_>| self.sections(place, seat);
        Unit::make(&yard, place, number, "1 GB", rest).await
    }

    fn sections(&self, place: Place, seat: &Seat<'_>) -> anyhow::Result<String> {
        let address = seat.address;
        let bgp = SocketAddr::new(IpAddr::V4(address), free_port(address)?);
        let control = seat.control(&self.plane, self.pace);
        // A laboratory's clock is not synchronised, and its prefixes are bogons elsewhere.
        Ok(format!(
            "\n[gate]\nrequire = [\"control\", \"bgp\"]\n\
             \n[serve.tokens]\nmode = \"optional\"\n{control}\
             \n[bgp]\nasn = {BOX_ASN}\nrouter_id = \"{address}\"\nlisten = [\"{bgp}\"]\n\
             \n[[bgp.neighbour]]\nname = \"edge\"\naddress = \"127.0.0.{router}\"\n\
             asn = {asn}\nclass = \"embedded\"\nimport = \"all\"\npassive = true\nbogons = \"none\"\n\
             ttl_security = false\n",
            router = place.octet,
            asn = place.router_asn,
        ))
    }

    /// A router for each site, announcing what `routes` says of it.
    pub(super) async fn start_routers(
        &mut self,
        kind: RouterKind,
        routes: impl Fn(Place) -> Vec<Announcement>,
    ) -> anyhow::Result<()> {
        for place in PLACES {
            let dir = self.dir.join(format!("router-{}", place.cluster));
            fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let mut boxes = Vec::new();
            for unit in self
                .boxes
                .iter()
                .filter(|unit| unit.place.site == place.site)
            {
                boxes.push(unit.bgp_address()?);
            }
            let script = Script {
                asn: place.router_asn,
                address: Ipv4Addr::new(127, 0, 0, place.octet),
                boxes,
                routes: routes(place),
            };
            let mut router = Router::new(kind, &self.program, &dir, script)?;
            router.start().await?;
            self.routers.push(router);
        }
        Ok(())
    }

    pub(super) fn router(&mut self, place: Place) -> anyhow::Result<&mut Router> {
        let index = PLACES.iter().position(|other| other.site == place.site);
        index
            .and_then(|index| self.routers.get_mut(index))
            .context("no router there")
    }

    pub(super) fn unit(&mut self, id: &str) -> anyhow::Result<&mut Unit> {
        let mut units = self.boxes.iter_mut();
        units
            .find(|unit| unit.id == id)
            .with_context(|| format!("no box {id}"))
    }

    /// What DNS would say of a name in a URL: the box and where it listens.
    pub(super) fn resolve(&self, host: &str) -> anyhow::Result<&Unit> {
        let label = host
            .strip_suffix(DOMAIN)
            .and_then(|label| label.strip_suffix('.'));
        let label = label.with_context(|| format!("{host} is not below {DOMAIN}"))?;
        let id = label.strip_prefix("ipv4-").unwrap_or(label);
        let mut units = self.boxes.iter();
        units
            .find(|unit| unit.id == id)
            .with_context(|| format!("{host} is no box of the demo"))
    }
}
