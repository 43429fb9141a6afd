//! What a token says, as it stands in a URL: parsed once, strictly, within bounds.
//!
//! Sans-IO. There is one spelling: nothing is percent-decoded, numbers have no leading zero, a name
//! that comes twice is refused, and in a path the names stand in alphabetical order.

use super::base64;
use super::check::TokenFault;
use super::keys;
use crate::prefix::Prefix;
use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Longest session id.
pub(super) const SESSION_BYTES_MAX: usize = 64;

/// Longest number: seconds until the year 33658, terabytes a second.
const DIGITS_MAX: usize = 12;

/// Longest token in a path: every part at its longest, and their names and commas.
const PATH_TOKEN_BYTES_MAX: usize = 256;

/// Segments that a path token may name: a key has no more.
const DEPTH_MAX: u64 = 512;

/// What a URL presents. Nothing of it is believed before its MAC was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented<'a> {
    pub(super) claims: Claims<'a>,
    /// Segments of the key that a path token covers; `None` in a query, which covers one key.
    pub(super) depth: Option<u64>,
    pub(super) mac: [u8; 32],
}

/// The times, the key's id, and what may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claims<'a> {
    pub(super) issued: u64,
    pub(super) expires: u64,
    pub(super) id: &'a str,
    pub(super) session: Option<&'a str>,
    pub(super) client: Option<ClientPrefix>,
    /// Bytes a second.
    pub(super) rate: Option<u64>,
}

/// The viewer's network: `c0000200-24` is 192.0.2.0/24. All digits of the address are written, and
/// no bit is set behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPrefix(Prefix);

impl ClientPrefix {
    pub fn new(prefix: Prefix) -> Self {
        Self(prefix)
    }

    fn parse(text: &str) -> Option<Self> {
        let (digits, length) = text.split_once('-')?;
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if !digits.bytes().all(is_hex) {
            return None;
        }
        let address = match digits.len() {
            8 => IpAddr::from(u32::from_str_radix(digits, 16).ok()?.to_be_bytes()),
            32 => IpAddr::from(u128::from_str_radix(digits, 16).ok()?.to_be_bytes()),
            _ => return None,
        };
        let length = u8::try_from(number(length)?).ok()?;
        let prefix = Prefix::new(address, length).ok()?;
        (prefix.address() == address).then_some(Self(prefix))
    }

    /// An IPv4 viewer is one, whichever socket it came through.
    pub(super) fn contains(self, client: IpAddr) -> bool {
        self.0.contains(client.to_canonical())
    }
}

impl fmt::Display for ClientPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.address() {
            IpAddr::V4(four) => write!(f, "{:08x}", u32::from(four))?,
            IpAddr::V6(six) => write!(f, "{:032x}", u128::from(six))?,
        }
        write!(f, "-{}", self.0.length())
    }
}

impl<'a> Presented<'a> {
    /// From the second segment of `/t/<token>/<key>`.
    pub fn from_path(token: &'a str) -> Result<Self, TokenFault> {
        if token.len() > PATH_TOKEN_BYTES_MAX {
            return Err(TokenFault::Malformed("it is too long"));
        }
        let mut raw = Raw::default();
        let mut before = "";
        for part in token.split(',') {
            let (name, value) = part
                .split_once('=')
                .ok_or(TokenFault::Malformed("a part is not `<name>=<value>`"))?;
            if name <= before {
                let problem = "its parts are not in alphabetical order, each once";
                return Err(TokenFault::Malformed(problem));
            }
            if !raw.take(name, value)? {
                return Err(TokenFault::Malformed("a part has a name that is not known"));
            }
            before = name;
        }
        if raw.depth.is_none() {
            return Err(TokenFault::Malformed("`d` is missing"));
        }
        raw.presented()
    }

    /// From a query; `None` where there is no parameter `t`. Parameters that are not ours do not
    /// matter.
    pub fn from_query(query: &'a [u8]) -> Result<Option<Self>, TokenFault> {
        let parts = || query.split(|byte| *byte == b'&');
        if !parts().any(|part| part.starts_with(b"t=")) {
            return Ok(None);
        }
        let mut raw = Raw::default();
        for part in parts() {
            let [name, b'=', value @ ..] = part else {
                continue;
            };
            let is_ours = b"cdeikrst".contains(name);
            let (true, Ok(value)) = (is_ours, std::str::from_utf8(value)) else {
                if is_ours {
                    return Err(TokenFault::Malformed(
                        "a value has bytes that are not ASCII",
                    ));
                }
                continue;
            };
            let mut letter = [0; 4];
            raw.take(char::from(*name).encode_utf8(&mut letter), value)?;
        }
        if raw.depth.is_some() {
            return Err(TokenFault::Malformed("`d` belongs to tokens in a path"));
        }
        raw.presented().map(Some)
    }
}

/// Parts as they come.
#[derive(Default)]
struct Raw<'a> {
    client: Option<ClientPrefix>,
    depth: Option<u64>,
    expires: Option<u64>,
    issued: Option<u64>,
    id: Option<&'a str>,
    rate: Option<u64>,
    session: Option<&'a str>,
    mac: Option<[u8; 32]>,
}

impl<'a> Raw<'a> {
    /// `Ok(false)` for a name that is not ours.
    fn take(&mut self, name: &str, value: &'a str) -> Result<bool, TokenFault> {
        let bad = TokenFault::Malformed;
        match name {
            "c" => {
                let client = ClientPrefix::parse(value).ok_or(bad("`c` is no network"))?;
                once(&mut self.client, client)?;
            }
            "d" => {
                let depth = number(value).filter(|depth| (1..=DEPTH_MAX).contains(depth));
                once(&mut self.depth, depth.ok_or(bad("`d` is no number"))?)?;
            }
            "e" => once(
                &mut self.expires,
                number(value).ok_or(bad("`e` is no time"))?,
            )?,
            "i" => once(
                &mut self.issued,
                number(value).ok_or(bad("`i` is no time"))?,
            )?,
            "k" if keys::is_key_id(value) => once(&mut self.id, value)?,
            "k" => return Err(bad("`k` is no key id")),
            "r" => {
                let rate = number(value).filter(|rate| *rate > 0);
                once(&mut self.rate, rate.ok_or(bad("`r` is no rate"))?)?;
            }
            "s" if is_session(value) => once(&mut self.session, value)?,
            "s" => return Err(bad("`s` is no session id")),
            "t" => {
                let mac = base64::decode(value).ok_or(bad("`t` is no MAC"))?;
                once(&mut self.mac, mac)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn presented(self) -> Result<Presented<'a>, TokenFault> {
        let missing = TokenFault::Malformed;
        let issued = self.issued.ok_or(missing("`i` is missing"))?;
        let expires = self.expires.ok_or(missing("`e` is missing"))?;
        if expires <= issued {
            return Err(TokenFault::Malformed("it ends before it was issued"));
        }
        Ok(Presented {
            claims: Claims {
                issued,
                expires,
                id: self.id.ok_or(missing("`k` is missing"))?,
                session: self.session,
                client: self.client,
                rate: self.rate,
            },
            depth: self.depth,
            mac: self.mac.ok_or(missing("`t` is missing"))?,
        })
    }
}

impl Claims<'_> {
    /// The parts in alphabetical order, with the MAC at the end.
    pub(super) fn write(&self, depth: Option<usize>, mac: &[u8; 32], between: char) -> String {
        let mut text = String::new();
        let mut put = |name: char, value: &dyn fmt::Display| {
            if !text.is_empty() {
                text.push(between);
            }
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{name}={value}");
        };
        if let Some(client) = &self.client {
            put('c', client);
        }
        if let Some(depth) = &depth {
            put('d', depth);
        }
        put('e', &self.expires);
        put('i', &self.issued);
        put('k', &self.id);
        if let Some(rate) = &self.rate {
            put('r', rate);
        }
        if let Some(session) = &self.session {
            put('s', session);
        }
        put('t', &base64::encode(mac));
        text
    }
}

/// 1 to 64 letters, digits, `-` and `_`.
pub fn is_session(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=SESSION_BYTES_MAX).contains(&text.len()) && text.bytes().all(good)
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), TokenFault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TokenFault::Malformed("a part is given twice")),
    }
}

/// Canonical decimal: digits, no leading zero but `0` itself.
fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = text == "0" || !text.starts_with('0');
    let fits = (1..=DIGITS_MAX).contains(&text.len());
    (is_number && is_canonical && fits)
        .then(|| text.parse().ok())
        .flatten()
}
