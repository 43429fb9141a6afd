//! IP prefixes: an address and how many of its leading bits count.
//!
//! Learned over BGP, approved for partners, matched against clients. Host bits are always zero, so
//! two prefixes that cover the same addresses are equal.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Address family: AFI 1 and 2 of RFC 4760.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// Ordered by family, then address, then length: a covering prefix comes before what it covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Prefix {
    family: Family,
    /// Left-aligned: the first bit of the address is the highest bit.
    bits: u128,
    length: u8,
}

/// Why a text or a pair is no prefix; the message gives the form to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    #[error("`{0}` is not a prefix: write `<address>/<length>`, for example `192.0.2.0/24`")]
    Text(String),
    #[error("a prefix length of {length} is more than the {most} bits of the address")]
    Length { length: u8, most: u8 },
    #[error("`{0}` has bits set beyond its length; write `{1}`")]
    HostBits(String, Prefix),
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }
}

/// Whose an address is, as limits count: IPv4's by itself, IPv6's by its /64, which is the least
/// that a subscriber has (RFC 6177 section 2). IPv4 in IPv6's dress is IPv4.
pub fn household(address: IpAddr) -> IpAddr {
    network(address, 64).unwrap_or_else(|| address.to_canonical())
}

/// The /48 around an IPv6 address: the most that one owner is given (RFC 6177 section 2).
pub fn estate(address: IpAddr) -> Option<IpAddr> {
    network(address, 48)
}

fn network(address: IpAddr, length: u8) -> Option<IpAddr> {
    let host = Prefix::host(address.to_canonical());
    let is_ipv6 = host.family() == Family::Ipv6;
    is_ipv6.then(|| host.shortened(length).unwrap_or(host).address())
}

impl Prefix {
    /// Bits of `address` beyond `length` are dropped: on the wire they are irrelevant
    /// (RFC 4271 section 4.3).
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let family = Family::of(address);
        let most = family.bits();
        if length > most {
            return Err(PrefixError::Length { length, most });
        }
        let bits = left_aligned(address) & mask(length);
        Ok(Self {
            family,
            bits,
            length,
        })
    }

    /// The prefix that covers this one address alone.
    pub fn host(address: IpAddr) -> Self {
        let family = Family::of(address);
        Self {
            family,
            bits: left_aligned(address),
            length: family.bits(),
        }
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// The network address.
    pub fn address(&self) -> IpAddr {
        match self.family {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the upper 32 of 128 bits fit"
            )]
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::from((self.bits >> 96) as u32)),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(self.bits)),
        }
    }

    /// Leading bits that count.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The address bits, left-aligned.
    pub fn bits(&self) -> u128 {
        self.bits
    }

    /// `0.0.0.0/0` or `::/0`.
    pub fn is_default(&self) -> bool {
        self.length == 0
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.covers(&Self::host(address))
    }

    /// Every address of `other` is in this one; a prefix covers itself.
    pub fn covers(&self, other: &Self) -> bool {
        self.family == other.family
            && self.length <= other.length
            && other.bits & mask(self.length) == self.bits
    }

    /// Covering prefix of `length` bits; `None` if this one is shorter.
    pub fn shortened(&self, length: u8) -> Option<Self> {
        (length <= self.length).then(|| Self {
            bits: self.bits & mask(length),
            length,
            ..*self
        })
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let refused = || PrefixError::Text(crate::help::printable(text.as_bytes(), 60));
        let (address, length) = text.split_once('/').ok_or_else(refused)?;
        let is_number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let length: u8 = length.parse().map_err(|_| refused())?;
        if !is_number {
            return Err(refused());
        }
        let prefix = Self::new(address, length)?;
        if prefix.bits != left_aligned(address) {
            return Err(PrefixError::HostBits(text.to_owned(), prefix));
        }
        Ok(prefix)
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        1.. => u128::MAX << (128 - u32::from(length.min(128))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_household_and_its_estate() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (given, its_household, its_estate) in [
            ("192.0.2.9", "192.0.2.9", None),
            ("::ffff:192.0.2.9", "192.0.2.9", None),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::", Some("2001:db8:1::")),
        ] {
            assert_eq!(household(address(given)), address(its_household));
            assert_eq!(estate(address(given)), its_estate.map(address));
        }
    }

    #[test]
    fn texts_are_read_and_written_the_same() {
        for text in [
            "0.0.0.0/0",
            "192.0.2.0/24",
            "192.0.2.9/32",
            "::/0",
            "2001:db8::/32",
        ] {
            assert_eq!(prefix(text).to_string(), text);
        }
        for bad in [
            "",
            "192.0.2.0",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.0/33",
            "x/8",
            "::/129",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        let message = "192.0.2.1/24".parse::<Prefix>().unwrap_err().to_string();
        assert!(message.contains("192.0.2.0/24"), "{message}");
    }

    #[test]
    fn a_prefix_covers_its_addresses_and_longer_ones_of_its_family() {
        let net = prefix("192.0.2.0/24");
        assert!(net.contains("192.0.2.255".parse().unwrap()));
        assert!(!net.contains("192.0.3.0".parse().unwrap()));
        assert!(net.covers(&net) && net.covers(&prefix("192.0.2.128/25")));
        assert!(!net.covers(&prefix("192.0.0.0/16")));
        assert!(!prefix("0.0.0.0/0").covers(&prefix("::/0")));
        assert_eq!(net.shortened(16), Some(prefix("192.0.0.0/16")));
        assert_eq!(net.shortened(25), None);
        assert!(prefix("::/0").contains("2001:db8::1".parse().unwrap()));
    }
}
