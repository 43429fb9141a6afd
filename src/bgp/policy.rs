//! What the configuration says of a neighbour's routes, and of what the box does with them.
//!
//! Values only: `import` judges routes by them, `limits` counts, `announce` and `kernel` act. Made
//! by `config`, which has the keys.

use crate::prefix::Prefix;
use crate::route::Community;
use crate::units::Bytes;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Of the whole speaker: keys of `[bgp]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnPolicy {
    /// What neighbours with `announce` are told, as /32 and /128. Default none.
    pub service_addresses: Vec<IpAddr>,
    /// Learned prefixes that the box's own kernel is given. Default none: off.
    pub kernel_routes: Vec<Prefix>,
    /// Of the first neighbour's kernel routes; each further one has one more. Default 512.
    pub kernel_metric: u32,
}

/// Of one neighbour: keys of `[[bgp.neighbour]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Whether its routes may steer at all (RFC 8212: somebody has to say so).
    pub import: Accept,
    /// Only routes within one of these may steer; empty: all. Default empty.
    pub prefixes: Vec<Prefix>,
    /// Default 8 to 31: shorter than any allocation means a leak, one address is no network.
    pub ipv4_lengths: Lengths,
    /// Default 19 to 64: from the shortest allocation to one customer's subnet.
    pub ipv6_lengths: Lengths,
    /// RFC 1918, RFC 6598 and RFC 4193 space may steer: the clients of providers who number
    /// privately. Default false.
    pub private_space: bool,
    /// The path must begin with the neighbour's AS. Default true; false for route servers.
    pub first_as_check: bool,
    /// Routes with one of these never steer. Default none.
    pub no_steer: Vec<Community>,
    /// Routes of IPv6; `max_prefixes` of the neighbour is for IPv4. Default 500,000.
    pub max_prefixes_ipv6: u32,
    /// Percent of a limit that are worth a warning. Default 80.
    pub limit_warn: u8,
    pub limit_action: LimitAction,
    /// Before a session that a limit ended is tried again. Default 30 min.
    pub limit_idle: Duration,
    /// Memory of the neighbour's attribute sets. A full table of the internet needs some 35 MB; one
    /// whose every route has 4 kB of attributes of its own would need 4 GB. Default 64 MiB.
    pub attribute_memory: Bytes,
    /// Tell it the service addresses. Default false: nothing is announced.
    pub announce: bool,
    pub announce_communities: Vec<Community>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    All,
    /// A session to look at: its routes are shown, and none steers.
    None,
}

/// What happens to a neighbour that goes beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitAction {
    /// CEASE, and again after `limit_idle`.
    Restart,
    /// CEASE, until an operator brings it up.
    Stop,
    /// The session goes on; what is beyond the limit is not kept.
    Drop,
}

/// Prefix lengths, both ends included. In text: `8-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Lengths {
    shortest: u8,
    longest: u8,
}

/// The text is no range of prefix lengths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a range of prefix lengths; write the shortest and the longest, as in `\"8-31\"`"
)]
pub struct LengthsError(String);

impl Default for OwnPolicy {
    fn default() -> Self {
        Self {
            service_addresses: Vec::new(),
            kernel_routes: Vec::new(),
            kernel_metric: 512,
        }
    }
}

/// As the configuration has it where it says nothing, but for `import`, which it must say.
impl Default for Policy {
    fn default() -> Self {
        Self {
            import: Accept::All,
            prefixes: Vec::new(),
            ipv4_lengths: Lengths::new(8, 31),
            ipv6_lengths: Lengths::new(19, 64),
            private_space: false,
            first_as_check: true,
            no_steer: Vec::new(),
            max_prefixes_ipv6: 500_000,
            limit_warn: 80,
            limit_action: LimitAction::Restart,
            limit_idle: Duration::from_secs(30 * 60),
            attribute_memory: Bytes(64 << 20),
            announce: false,
            announce_communities: Vec::new(),
        }
    }
}

impl LimitAction {
    /// How long a session stays down that a limit ended; `None`: until somebody brings it up.
    pub(super) fn idle(self, idle: Duration) -> Option<Duration> {
        match self {
            Self::Restart | Self::Drop => Some(idle),
            Self::Stop => None,
        }
    }
}

impl Lengths {
    pub fn new(shortest: u8, longest: u8) -> Self {
        Self { shortest, longest }
    }

    pub(super) fn contains(self, length: u8) -> bool {
        (self.shortest..=self.longest).contains(&length)
    }

    /// The longest length that is in it.
    pub fn longest(self) -> u8 {
        self.longest
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shortest, self.longest)
    }
}

impl From<Lengths> for String {
    fn from(lengths: Lengths) -> Self {
        lengths.to_string()
    }
}

impl FromStr for Lengths {
    type Err = LengthsError;

    fn from_str(text: &str) -> Result<Self, LengthsError> {
        let refused = || LengthsError(crate::help::printable(text.as_bytes(), 40));
        let (shortest, longest) = text.split_once('-').ok_or_else(refused)?;
        let length = |part: &str| part.trim().parse::<u8>().map_err(|_| refused());
        let lengths = Self::new(length(shortest)?, length(longest)?);
        if lengths.shortest <= lengths.longest && lengths.longest <= 128 {
            Ok(lengths)
        } else {
            Err(refused())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_lengths_has_two_ends_in_their_order() {
        let lengths: Lengths = "8-31".parse().unwrap();
        assert_eq!(
            (lengths, lengths.to_string().as_str()),
            (Lengths::new(8, 31), "8-31")
        );
        assert!(lengths.contains(8) && lengths.contains(31));
        assert!(!lengths.contains(7) && !lengths.contains(32));
        assert!("24-24".parse::<Lengths>().is_ok());
        for bad in ["", "8", "31-8", "8-129", "a-b", "-1-8", "8-31-40"] {
            assert!(bad.parse::<Lengths>().is_err(), "{bad}");
        }
    }
}
