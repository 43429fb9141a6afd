//! Names of sites and boxes.
//!
//! A site is `<IATA>NNN[.<provider>].<isp|ix>`, for example `TLS001.example.ISP`. A box there has a
//! host label made of its number and the site: `c009-tls001-example-isp`.

use crate::units::BytesPerSecond;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// A site name in the spelling it was given; compared through [`SiteName::label`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SiteName(String);

/// A box: the host label `c<number>-<site label>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BoxId(String);

/// What a box is, as `[appliance]` says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    pub id: BoxId,
    pub site: SiteName,
    pub profile: Profile,
    /// IANA name; the fill window is kept in this zone.
    pub timezone: String,
}

/// Hardware profile; it sets the fill cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    Storage,
    Global,
    Flash,
}

impl Profile {
    /// The fill cap: what the network it fills over was promised.
    pub fn cap(self) -> BytesPerSecond {
        BytesPerSecond(match self {
            Self::Storage => 150_000_000,
            Self::Global => 50_000_000,
            Self::Flash => 37_500_000,
        })
    }
}

/// Why a name was refused; the message gives the form to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "`{0}` is not a site name: write `<IATA>NNN[.<provider>].<isp|ix>`, for example `TLS001.example.ISP`"
    )]
    Site(String),
    #[error(
        "`{0}` is not a box name: write `c<number>-<site>`, for example `c009-tls001-example-isp`"
    )]
    Box(String),
    #[error("box `{id}` does not belong to site `{site}`: its name must end in `-{label}`")]
    Mismatch {
        id: String,
        site: String,
        label: String,
    },
}

impl SiteName {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Site(text.chars().take(80).collect());
        let parts: Vec<&str> = text.split('.').collect();
        let (place, provider, kind) = match parts[..] {
            [place, kind] => (place, None, kind),
            [place, provider, kind] => (place, Some(provider), kind),
            _ => return Err(refused()),
        };
        let (iata, number) = place.split_at_checked(3).ok_or_else(refused)?;
        let good = iata.bytes().all(|b| b.is_ascii_alphabetic())
            && number.len() == 3
            && number.bytes().all(|b| b.is_ascii_digit())
            && provider.is_none_or(is_label)
            && (kind.eq_ignore_ascii_case("isp") || kind.eq_ignore_ascii_case("ix"));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused())
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form used in host names: `tls001-example-isp`.
    pub fn label(&self) -> String {
        self.0.to_ascii_lowercase().replace('.', "-")
    }
}

impl BoxId {
    /// Parses a box name; the number has at least three digits and is not zero.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Box(text.chars().take(80).collect());
        let (number, site) = text
            .strip_prefix('c')
            .and_then(|rest| rest.split_once('-'))
            .ok_or_else(refused)?;
        let good = (3..=9).contains(&number.len())
            && number.bytes().all(|b| b.is_ascii_digit())
            && number.bytes().any(|b| b != b'0')
            && site.len() <= 50
            && site.split('-').all(is_label)
            && !text.bytes().any(|b| b.is_ascii_uppercase());
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused())
        }
    }

    /// Checks that the box stands at `site`.
    pub fn belongs_to(&self, site: &SiteName) -> Result<(), NameError> {
        let label = site.label();
        let at_site = self
            .0
            .split_once('-')
            .is_some_and(|(_, rest)| rest == label);
        if at_site {
            return Ok(());
        }
        Err(NameError::Mismatch {
            id: self.0.clone(),
            site: site.0.clone(),
            label,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<SiteName> for String {
    fn from(name: SiteName) -> Self {
        name.0
    }
}

impl TryFrom<String> for SiteName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<BoxId> for String {
    fn from(id: BoxId) -> Self {
        id.0
    }
}

impl TryFrom<String> for BoxId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl fmt::Display for BoxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Letters and digits only: a hyphen inside would make two sites share a host label.
fn is_label(text: &str) -> bool {
    (1..=30).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_and_boxes_are_read_and_matched() {
        let site = SiteName::parse("TLS001.example.ISP").unwrap();
        assert_eq!(site.label(), "tls001-example-isp");
        let id = BoxId::parse("c009-tls001-example-isp").unwrap();
        assert_eq!(id.belongs_to(&site), Ok(()));
        assert!(SiteName::parse("LHR001.ix").is_ok());
        let other = SiteName::parse("LHR001.ix").unwrap();
        let message = id.belongs_to(&other).unwrap_err().to_string();
        assert!(message.contains("`-lhr001-ix`"), "{message}");
    }

    #[test]
    fn other_forms_are_refused_with_an_example() {
        for bad in [
            "",
            "TLS1.isp",
            "TLS001",
            "TLS001.a.b.isp",
            "TLS001.x_y.isp",
            "TLS001..isp",
            "É01.isp",
        ] {
            assert!(SiteName::parse(bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "c9-tls001-isp",
            "c000-tls001-isp",
            "C009-tls001-isp",
            "c009",
            "c009-",
            "c009-a--b",
        ] {
            assert!(BoxId::parse(bad).is_err(), "{bad}");
        }
    }
}
