//! The few fields of a certificate that a server must know about itself: validity and names.
//!
//! Reads DER (X.690) as far as RFC 5280 section 4.1 needs it, bounds checked, without recursion and
//! without trust: signatures are the business of whoever verifies the chain. Sans-IO.

use crate::clock::Wall;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::net::IpAddr;

/// Names taken from one certificate at most.
const NAMES_MAX: usize = 1000;

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`: version; `[3]`: extensions.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// dNSName and iPAddress of a GeneralName.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// id-ce-subjectAltName, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) not_before: Wall,
    pub(super) not_after: Wall,
    /// DNS names in lower case, then addresses.
    pub(super) names: Vec<String>,
}

/// The rest of an element's content.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: its tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // At most four bytes of length: certificates are far below 4 GiB.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let length = bytes
                    .iter()
                    .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| content)
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }
}

/// Reads a certificate; the error names the part that could not be read.
pub(super) fn read(certificate: &[u8]) -> Result<Leaf, &'static str> {
    let mut outer = Reader(certificate);
    let mut whole = Reader(outer.expect(SEQUENCE).ok_or("no certificate")?);
    let mut tbs = Reader(whole.expect(SEQUENCE).ok_or("no certificate body")?);
    if tbs.peek() == Some(VERSION) {
        tbs.next();
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        tbs.next().ok_or("the body ends before its validity")?;
    }
    let mut validity = Reader(tbs.expect(SEQUENCE).ok_or("no validity")?);
    let not_before = validity
        .next()
        .and_then(time)
        .ok_or("no readable notBefore")?;
    let not_after = validity
        .next()
        .and_then(time)
        .ok_or("no readable notAfter")?;
    let mut names = Vec::new();
    while let Some((tag, content)) = tbs.next() {
        if tag == EXTENSIONS {
            names = extensions(content).ok_or("unreadable extensions")?;
        }
    }
    Ok(Leaf {
        not_before,
        not_after,
        names,
    })
}

fn extensions(content: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(content).expect(SEQUENCE)?);
    while let Some((SEQUENCE, extension)) = list.next() {
        let mut extension = Reader(extension);
        let oid = extension.expect(OID)?;
        if extension.peek() == Some(BOOLEAN) {
            extension.next();
        }
        if oid == SUBJECT_ALT_NAME {
            return alternative_names(extension.expect(OCTETS)?);
        }
    }
    Some(Vec::new())
}

fn alternative_names(content: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(content).expect(SEQUENCE)?);
    let mut names = Vec::new();
    while let Some((tag, value)) = list.next() {
        if names.len() >= NAMES_MAX {
            return None;
        }
        match tag {
            DNS_NAME if value.is_ascii() => {
                names.push(String::from_utf8_lossy(value).to_ascii_lowercase());
            }
            IP_ADDRESS => names.extend(address(value).map(|address| address.to_string())),
            _ => {}
        }
    }
    Some(names)
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(value).map(IpAddr::from);
    let sixteen = <[u8; 16]>::try_from(value).map(IpAddr::from);
    four.or(sixteen).ok()
}

/// RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime after, both to the second, UTC.
fn time((tag, text): (u8, &[u8])) -> Option<Wall> {
    let text = text.strip_suffix(b"Z")?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |at: usize| -> Option<i8> {
        let pair = text.get(at..at + 2)?;
        i8::try_from((pair[0] - b'0') * 10 + (pair[1] - b'0')).ok()
    };
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => match i16::from(two(0)?) {
            year @ 50.. => (1900 + year, 2),
            year => (2000 + year, 2),
        },
        (GENERALIZED_TIME, 14) => (i16::from(two(0)?) * 100 + i16::from(two(2)?), 4),
        _ => return None,
    };
    let part = |number: usize| two(rest + 2 * number);
    let civil = DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    civil
        .to_zoned(TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 1, 2);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_both_forms_of_time_are_read() {
        let leaf = read(&certificate(&[
            "A.example",
            "*.b.example",
            "192.0.2.7",
            "2001:db8::7",
        ]));
        let leaf = leaf.unwrap();
        assert_eq!(leaf.not_before.to_string(), "2024-02-29T00:00:00Z");
        assert_eq!(leaf.not_after.to_string(), "2051-01-02T00:00:00Z");
        assert_eq!(
            leaf.names,
            ["a.example", "*.b.example", "192.0.2.7", "2001:db8::7"]
        );
    }

    proptest! {
        #[test]
        fn damaged_certificates_are_errors_or_certificates_and_never_panics(
            flips in proptest::collection::vec((0usize..600, any::<u8>()), 1..8),
            cut in 0usize..600) {
            let mut bytes = certificate(&["a.example"]);
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let _ = read(&bytes);
            bytes.truncate(cut);
            let _ = read(&bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = time((UTC_TIME, &bytes));
            let _ = time((GENERALIZED_TIME, &bytes));
        }
    }
}
