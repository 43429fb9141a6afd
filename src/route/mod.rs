//! A route as everybody speaks of it: learned by `bgp`, reported by `link`, weighed by `control`.

mod item;
mod packed;
mod values;

pub use item::Item;
pub use packed::Fixed;
pub use packed::Packed;
pub use packed::PackedPath;
pub use packed::Packer;
pub use values::Aggregator;
pub use values::Community;
pub use values::ExtendedCommunity;
pub use values::LargeCommunity;
pub use values::Origin;

use crate::object::Digest;
use crate::prefix::Prefix;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Autonomous system number, four octets (RFC 6793).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

/// What a neighbour is to us: it decides the MED added before comparison (embedded 0, peering 50,
/// transit 100).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    Embedded,
    Peering,
    Transit,
}

/// One segment of an AS path (RFC 4271 section 4.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    Sequence(Vec<Asn>),
    Set(Vec<Asn>),
}

/// As received, without our own AS. In text: `64500 64501 {64502 64503}`; empty for no path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AsPath(pub Vec<Segment>);

/// What several routes of one UPDATE share. What is optional is left out where it is absent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attributes {
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC as received; missing compares as 0.
    pub med: Option<u32>,
    /// Sorted, each once, like the other two kinds.
    pub communities: Vec<Community>,
    pub next_hop: IpAddr,
    #[serde(default, skip_serializing_if = "Origin::is_igp")]
    pub origin: Origin,
    /// From internal sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_communities: Vec<ExtendedCommunity>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large_communities: Vec<LargeCommunity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<Aggregator>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub atomic_aggregate: bool,
    /// Only to Customer (RFC 9234).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otc: Option<Asn>,
}

/// Why a learned route never steers. It stays visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtered {
    /// `0.0.0.0/0` or `::/0`.
    DefaultRoute,
    /// Address space that no client on the internet has (RFC 6890 and its like).
    Bogon,
    /// Shorter or longer than the import filter allows.
    PrefixLength,
    /// An AS number that must not be seen (RFC 7607, reserved, documentation).
    BogonAsn,
    /// Our own AS is in the path (RFC 4271 section 9.1.2).
    AsLoop,
    /// The path does not begin with the neighbour's AS.
    FirstAsn,
    AsPathTooLong,
    /// Not a usable unicast address.
    NextHop,
    /// The neighbour's routes are only looked at (`import = "none"`).
    NoImport,
    /// Outside the prefixes that the neighbour may announce.
    NotListed,
    /// Carries a community that the operator has given this meaning.
    NoSteer,
}

/// A route of one neighbour.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub prefix: Prefix,
    /// Name of the neighbour in the box's configuration.
    pub neighbour: Arc<str>,
    /// Tells several routes of one neighbour for one prefix apart (RFC 7911); 0 without ADD-PATH.
    pub path_id: u32,
    pub class: Class,
    pub attributes: Arc<Attributes>,
    /// `None`: steerable.
    pub filtered: Option<Filtered>,
}

/// The text is not in the form the message gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("`{0}` is not an AS path: write `64500 64501 {{64502 64503}}`")]
    AsPath(String),
    #[error("`{0}` is not a community: write `<0..65535>:<0..65535>`")]
    Community(String),
    #[error("`{0}` is not an extended community: write its 16 hexadecimal digits")]
    ExtendedCommunity(String),
    #[error("`{0}` is not a large community: write `<number>:<number>:<number>`")]
    LargeCommunity(String),
}

impl AsPath {
    /// AS numbers as the decision counts them: a set counts as one (RFC 4271 section 9.1.2.2).
    pub fn length(&self) -> usize {
        self.0
            .iter()
            .map(|segment| match segment {
                Segment::Sequence(numbers) => numbers.len(),
                Segment::Set(_) => 1,
            })
            .sum()
    }

    /// The AS that announced the prefix first: the last of the path; `None` for an empty path or
    /// one that ends in a set.
    pub fn origin(&self) -> Option<Asn> {
        match self.0.last()? {
            Segment::Sequence(numbers) => numbers.last().copied(),
            Segment::Set(_) => None,
        }
    }

    /// The neighbour's AS, as the path says it.
    pub fn first(&self) -> Option<Asn> {
        match self.0.first()? {
            Segment::Sequence(numbers) => numbers.first().copied(),
            Segment::Set(_) => None,
        }
    }

    pub fn contains(&self, asn: Asn) -> bool {
        self.numbers().any(|number| number == asn)
    }

    /// Every number in order, those of sets too.
    pub fn numbers(&self) -> impl Iterator<Item = Asn> + '_ {
        self.0.iter().flat_map(|segment| match segment {
            Segment::Sequence(numbers) | Segment::Set(numbers) => numbers.iter().copied(),
        })
    }
}

impl Route {
    pub fn is_steerable(&self) -> bool {
        self.filtered.is_none()
    }

    /// The item of the routes' set hash; docs/LINK.md defines it with test vectors.
    pub fn item(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        let attributes = Digest::of(packer.pack(&self.attributes));
        let mut item = Item::default();
        item.attributes(&attributes);
        item.source(self.class, &self.neighbour, self.filtered);
        item.place(&self.prefix, self.path_id);
        item.bytes().to_vec()
    }
}

impl Attributes {
    /// With what every route has; the rest is absent.
    pub fn new(as_path: AsPath, next_hop: IpAddr) -> Self {
        Self {
            as_path,
            med: None,
            communities: Vec::new(),
            next_hop,
            origin: Origin::Igp,
            local_pref: None,
            extended_communities: Vec::new(),
            large_communities: Vec::new(),
            aggregator: None,
            atomic_aggregate: false,
            otc: None,
        }
    }
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Peering => "peering",
            Self::Transit => "transit",
        }
    }

    /// Added to the MED before comparison.
    pub fn med_penalty(self) -> u32 {
        match self {
            Self::Embedded => 0,
            Self::Peering => 50,
            Self::Transit => 100,
        }
    }
}

impl Filtered {
    /// Every reason, in the order of the enum.
    const ALL: [Self; 11] = [
        Self::DefaultRoute,
        Self::Bogon,
        Self::PrefixLength,
        Self::BogonAsn,
        Self::AsLoop,
        Self::FirstAsn,
        Self::AsPathTooLong,
        Self::NextHop,
        Self::NoImport,
        Self::NotListed,
        Self::NoSteer,
    ];

    /// In six bits, for tables: 0 is none.
    pub(crate) fn code(filtered: Option<Self>) -> u8 {
        filtered.map_or(0, |filtered| filtered as u8 + 1)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::DefaultRoute => "default-route",
            Self::Bogon => "bogon",
            Self::PrefixLength => "prefix-length",
            Self::BogonAsn => "bogon-asn",
            Self::AsLoop => "as-loop",
            Self::FirstAsn => "first-asn",
            Self::AsPathTooLong => "as-path-too-long",
            Self::NextHop => "next-hop",
            Self::NoImport => "no-import",
            Self::NotListed => "not-listed",
            Self::NoSteer => "no-steer",
        }
    }

    /// The announcement itself is not one to believe, whatever its prefix is.
    pub fn is_untrue(self) -> bool {
        match self {
            Self::AsLoop
            | Self::FirstAsn
            | Self::AsPathTooLong
            | Self::BogonAsn
            | Self::NextHop => true,
            Self::DefaultRoute
            | Self::Bogon
            | Self::PrefixLength
            | Self::NoImport
            | Self::NotListed
            | Self::NoSteer => false,
        }
    }
}

impl Attributes {
    /// Carries at least one of them.
    pub fn has_any(&self, communities: &[Community]) -> bool {
        communities
            .iter()
            .any(|wanted| self.communities.binary_search(wanted).is_ok())
    }

    /// The router is about to take this way down (RFC 8326): only where there is no other.
    pub fn is_leaving(&self) -> bool {
        self.has_any(&[Community::GRACEFUL_SHUTDOWN])
    }
}

impl Community {
    /// RFC 8326 section 4.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |numbers: &[Asn]| {
            let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            texts.join(" ")
        };
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match segment {
                Segment::Sequence(numbers) => f.write_str(&joined(numbers))?,
                Segment::Set(numbers) => write!(f, "{{{}}}", joined(numbers))?,
            }
        }
        Ok(())
    }
}

impl FromStr for AsPath {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let refused = || RouteError::AsPath(crate::help::printable(text.as_bytes(), 80));
        let numbers = |part: &str| -> Result<Vec<Asn>, RouteError> {
            part.split_ascii_whitespace()
                .map(|number| number.parse().map(Asn).map_err(|_| refused()))
                .collect()
        };
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.trim_start().is_empty() {
            if let Some(inner) = rest.trim_start().strip_prefix('{') {
                let (set, after) = inner.split_once('}').ok_or_else(refused)?;
                segments.push(Segment::Set(numbers(set)?));
                rest = after;
            } else {
                let end = rest.find('{').unwrap_or(rest.len());
                segments.push(Segment::Sequence(numbers(&rest[..end])?));
                rest = &rest[end..];
            }
        }
        Ok(Self(segments))
    }
}

impl TryFrom<String> for AsPath {
    type Error = RouteError;

    fn try_from(text: String) -> Result<Self, RouteError> {
        text.parse()
    }
}

impl From<AsPath> for String {
    fn from(path: AsPath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_written_and_counted() {
        let path: AsPath = "64500 64501 {64502 64503}".parse().unwrap();
        assert_eq!(path.to_string(), "64500 64501 {64502 64503}");
        assert_eq!(
            (path.length(), path.first(), path.origin()),
            (3, Some(Asn(64500)), None)
        );
        let plain: AsPath = "64500 4200000000".parse().unwrap();
        assert_eq!(plain.origin(), Some(Asn(4_200_000_000)));
        assert!(plain.contains(Asn(64500)) && !plain.contains(Asn(1)));
        assert_eq!("".parse::<AsPath>().unwrap().length(), 0);
        for bad in ["x", "1 {2", "4294967296", "1,2"] {
            assert!(bad.parse::<AsPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        assert_eq!(Filtered::code(None), 0);
        for (place, reason) in Filtered::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(Filtered::code(Some(reason))), place + 1);
            assert_eq!(
                Filtered::from_code(Filtered::code(Some(reason))),
                Some(reason)
            );
        }
    }

    #[test]
    fn the_item_has_every_part_in_its_place() {
        let attributes = Attributes {
            med: Some(20),
            communities: vec!["64500:1".parse().unwrap(), "64500:2".parse().unwrap()],
            ..Attributes::new(
                "64500 64501".parse().unwrap(),
                "198.51.100.1".parse().unwrap(),
            )
        };
        let packed = Packer::default().pack(&attributes).to_vec();
        let expected = "0042c63364010000001400020003020000020000fbf40000fbf5fbf40001fbf40002";
        assert_eq!(hex(&packed), expected);
        let route = Route {
            prefix: "192.0.2.0/24".parse().unwrap(),
            neighbour: "edge-1".into(),
            path_id: 7,
            class: Class::Peering,
            attributes: Arc::new(attributes),
            filtered: Some(Filtered::Bogon),
        };
        let item = route.item();
        assert_eq!(item[..32], Digest::of(&packed).0);
        let behind = [&[4, 24, 192, 0, 2, 0, 0, 0, 0, 7, 1][..], b"edge-1\0bogon"];
        assert_eq!(item[32..], behind.concat());
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
