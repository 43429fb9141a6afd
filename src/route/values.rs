//! The small values of a route's attributes, and how they are written: communities of three kinds,
//! origin, aggregator.

use super::Asn;
use super::RouteError;
use crate::help::printable;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A standard community (RFC 1997). In text: `64500:120`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Community(pub u32);

/// An extended community (RFC 4360), which is not interpreted. In text: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ExtendedCommunity(pub u64);

/// A large community (RFC 8092). In text: `64500:1:2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LargeCommunity(pub [u32; 3]);

/// ORIGIN, in the order of preference (RFC 4271 section 9.1.2.2).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    #[default]
    Igp = 0,
    Egp = 1,
    Incomplete = 2,
}

/// AGGREGATOR: who made one route of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Aggregator {
    pub asn: Asn,
    pub address: Ipv4Addr,
}

impl Origin {
    /// Of the attribute's octet.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            3.. => None,
        }
    }

    pub fn is_igp(&self) -> bool {
        *self == Self::Igp
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl FromStr for Community {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let refused = || RouteError::Community(printable(text.as_bytes(), 40));
        let (high, low) = text.split_once(':').ok_or_else(refused)?;
        let half = |part: &str| part.parse::<u16>().map(u32::from).map_err(|_| refused());
        Ok(Self(half(high)? << 16 | half(low)?))
    }
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ExtendedCommunity {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let is_hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
        let refused = || RouteError::ExtendedCommunity(printable(text.as_bytes(), 40));
        value.map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [global, one, two] = self.0;
        write!(f, "{global}:{one}:{two}")
    }
}

impl FromStr for LargeCommunity {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let refused = || RouteError::LargeCommunity(printable(text.as_bytes(), 60));
        let parts: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        let parts = parts.map_err(|_| refused())?;
        <[u32; 3]>::try_from(parts).map(Self).map_err(|_| refused())
    }
}

macro_rules! texts {
    ($($kind:ty),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = RouteError;

            fn try_from(text: String) -> Result<Self, RouteError> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )*};
}

texts!(Community, ExtendedCommunity, LargeCommunity);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_of_each_kind_are_read_and_written_the_same() {
        for text in ["0:0", "64500:120", "65535:65535"] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        for text in ["0002fbf400000001", "ffffffffffffffff"] {
            assert_eq!(text.parse::<ExtendedCommunity>().unwrap().to_string(), text);
        }
        for text in ["0:0:0", "4294967295:1:2"] {
            assert_eq!(text.parse::<LargeCommunity>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "1",
            "1:2:3:4",
            "65536:1",
            "1:4294967296:2",
            "+0002fbf40000000",
        ] {
            assert!(bad.parse::<Community>().is_err(), "{bad}");
            assert!(bad.parse::<ExtendedCommunity>().is_err(), "{bad}");
            assert!(bad.parse::<LargeCommunity>().is_err(), "{bad}");
        }
    }
}
