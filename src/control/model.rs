//! What the control plane knows and keeps: plain values, no behaviour beyond their own sense.
//!
//! `store` loads and saves them; [`Registry`] and [`Library`] are the immutable snapshots that
//! every other file of this room reads.

use crate::clock::Wall;
use crate::ids::BoxId;
use crate::ids::Profile;
use crate::ids::SiteName;
use crate::object::Digest;
use crate::prefix::Prefix;
use crate::route::Asn;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::time::Duration;

/// Everybody and everything, at one revision. `BTreeMap`s by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registry {
    /// Grows with each change.
    pub revision: u64,
    pub partners: BTreeMap<String, Partner>,
    /// By [`SiteName::label`].
    pub sites: BTreeMap<String, Site>,
    pub clusters: BTreeMap<String, Cluster>,
    pub fill_clusters: BTreeMap<String, FillCluster>,
    /// What operators granted, by box; the last one each.
    pub grants: BTreeMap<BoxId, Grant>,
    /// Boxes that are filled before they are shipped; none of them is enabled.
    pub prefilling: BTreeSet<BoxId>,
    pub appliances: BTreeMap<BoxId, Appliance>,
}

/// An internet provider, or whoever else may announce prefixes to our boxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partner {
    /// Lower-case letters, digits and `-`.
    pub name: String,
    /// For people.
    pub title: String,
    pub approvals: Vec<Approval>,
}

/// What a partner may announce (SAFETY: steering trust).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// This prefix and what it covers.
    Prefix(Prefix),
    /// Whatever this AS originates.
    Origin(Asn),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    pub name: SiteName,
    /// Whose routers the boxes of this site listen to.
    pub partner: String,
    /// Degrees; from the IATA table unless said otherwise.
    pub latitude: f64,
    pub longitude: f64,
    /// IANA name.
    pub timezone: String,
    /// Serves clients that nobody announces, when nobody else can.
    pub open: bool,
    /// When its boxes fill, all at the same time. By `timezone`.
    pub fill: SiteFill,
}

/// A site's fill window and what the provider allows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteFill {
    /// Seconds after midnight by the wall clock, at most 4 h. Default 02:00.
    pub start_s: u32,
    /// At most 12 h, the default.
    pub length: Duration,
    /// Bits a second; lowers each box's cap.
    pub rate_limit_bps: Option<u64>,
}

impl Default for SiteFill {
    fn default() -> Self {
        Self {
            start_s: 2 * 3600,
            length: Duration::from_secs(12 * 3600),
            rate_limit_bps: None,
        }
    }
}

/// Boxes that hold one content plan between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    pub name: String,
    /// Whose escalation policy it has.
    pub fill_cluster: String,
}

/// The fill cluster that clusters belong to unless they are told otherwise; it always exists.
pub const FILL_CLUSTER: &str = "default";

/// Clusters with the same content region: who fetches from the origin for all of them, and when
/// the others may reach farther.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillCluster {
    pub name: String,
    /// Boxes elected for each title to fetch it first. At least 1, the default.
    pub masters: u32,
    pub escalation: Escalation,
    /// A title is live in this region once so many percent of its clusters (rounded up, at least
    /// one) hold it whole. Default 50.
    pub live_share: u32,
}

/// How far a box may reach for an object, and how long after the object was first wanted in the
/// region. Peers (same cluster or subnet) may be asked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// Tier: the longest AS path to the source that is taken. Default 1.
    pub hops_allowed: u32,
    /// Default 0.
    pub hops_wait: Duration,
    /// Any box; `None`: never. Default 30 min.
    pub network_wait: Option<Duration>,
    /// The origin, for boxes that are not masters; `None`: never. Default 60 min.
    pub origin_wait: Option<Duration>,
}

impl Default for Escalation {
    fn default() -> Self {
        Self {
            hops_allowed: 1,
            hops_wait: Duration::ZERO,
            network_wait: Some(Duration::from_secs(30 * 60)),
            origin_wait: Some(Duration::from_secs(60 * 60)),
        }
    }
}

impl FillCluster {
    /// With the defaults.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            masters: 1,
            escalation: Escalation::default(),
            live_share: 50,
        }
    }
}

/// An operator's leave to delete faster than the pace, or under a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub bytes: u64,
    pub issued: Wall,
    pub expires: Wall,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Appliance {
    pub id: BoxId,
    /// [`SiteName::label`].
    pub site: String,
    pub cluster: String,
    pub profile: Profile,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Where viewers fetch. Default 443.
    pub https_port: u16,
    /// Where other boxes fetch. Default 7443.
    pub peer_port: u16,
    /// Bytes of content it can hold.
    pub capacity: u64,
    /// May it serve viewers?
    pub enabled: bool,
    /// Why an operator must look at it: two boot ids under one name.
    pub quarantined: Option<String>,
    pub revoked: bool,
    /// SHA-256 of the public key that its name is bound to, hexadecimal; `None` before enrolment.
    pub key_fingerprint: Option<String>,
    /// End of the last certificate that was issued.
    pub certificate_ends: Option<Wall>,
}

impl Appliance {
    /// `c009-tls001-example-isp.<domain>`, with `ipv4-` or `ipv6-` before it for one family.
    pub fn host_name(&self, family: Option<crate::prefix::Family>, domain: &str) -> String {
        let form = match family {
            None => "",
            Some(crate::prefix::Family::Ipv4) => "ipv4-",
            Some(crate::prefix::Family::Ipv6) => "ipv6-",
        };
        format!("{form}{}.{domain}", self.id)
    }
}

/// All content, at one revision. Numbers are dense and never reused while the database lives.
#[derive(Clone, Debug, Default)]
pub struct Library {
    pub revision: u64,
    /// By number.
    pub objects: Vec<Object>,
    /// By number; a number without a bundle is `None`.
    pub bundles: Vec<Option<Bundle>>,
    pub object_numbers: HashMap<Digest, u32>,
    /// Directory → bundle number.
    pub bundle_numbers: HashMap<String, u32>,
    /// Titles about which an operator said something.
    pub titles: BTreeMap<String, TitleState>,
}

/// What an operator said of a title.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TitleState {
    /// No box is to hold it, and no viewer is sent to it.
    pub withdrawn: bool,
    /// Boxes fetch it at any hour until then.
    pub urgent_until: Option<Wall>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    pub digest: Digest,
    pub length: u64,
}

/// Everything under one directory: the unit of placement, steering and liveness.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    pub number: u32,
    /// The keys' common part, without the last `/`; `""` for keys without a directory.
    pub directory: String,
    /// First segment of the directory.
    pub title: String,
    /// Sorted by name.
    pub keys: Vec<BundleKey>,
    /// Of its distinct objects.
    pub bytes: u64,
    /// Greater is more popular; 0 without a word from the feed.
    pub popularity: f64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleKey {
    /// Last segment of the key.
    pub name: String,
    /// Object number.
    pub object: u32,
    /// Seconds since the Unix epoch.
    pub last_modified: u64,
}

impl Library {
    pub fn bundle(&self, number: u32) -> Option<&Bundle> {
        self.bundles.get(usize::try_from(number).ok()?)?.as_ref()
    }

    pub fn object(&self, number: u32) -> Option<&Object> {
        self.objects.get(usize::try_from(number).ok()?)
    }

    /// Did an operator take its title away?
    pub fn is_withdrawn(&self, bundle: &Bundle) -> bool {
        let state = self.titles.get(&bundle.title);
        state.is_some_and(|state| state.withdrawn)
    }

    /// The bundle that a key (or a directory) belongs to.
    pub fn bundle_of(&self, key: &str) -> Option<&Bundle> {
        let by_directory = |directory: &str| {
            let number = self.bundle_numbers.get(directory)?;
            self.bundle(*number)
        };
        let directory = key.rsplit_once('/').map_or("", |(directory, _)| directory);
        by_directory(directory).or_else(|| by_directory(key))
    }
}
