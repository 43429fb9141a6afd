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
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Everybody and everything, at one revision. `BTreeMap`s by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registry {
    /// Grows with each change.
    pub revision: u64,
    pub partners: BTreeMap<String, Partner>,
    /// By [`SiteName::label`].
    pub sites: BTreeMap<String, Site>,
    pub clusters: BTreeMap<String, Cluster>,
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
}

/// Boxes that hold one content plan between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    pub name: String,
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
