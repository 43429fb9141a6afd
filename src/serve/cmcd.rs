//! CMCD: what a player says of itself with a request (CTA-5004, version 1).
//!
//! Sans-IO. `exchange` calls [`Cmcd::of`] with each head; most carry none and cost a comparison.
//! Everything here is the viewer's word: it is logged, counted, and may slow that viewer down. It
//! never changes which bytes it gets, and nothing of it is an error: what cannot be understood is
//! left out.

use super::request::Head;
use super::token;
use crate::help;
use serde::Serialize;
use serde::Serializer;
use std::borrow::Cow;

/// Bytes looked at in one request, query and fields together: the standard has some twenty keys.
const BYTES_MAX: usize = 4096;

/// Pairs looked at in one request, unknown keys included.
const PAIRS_MAX: usize = 64;

/// `cid` and `sid` have at most 64 characters by the standard.
const ID_CHARS: usize = 64;

/// `nor` is a relative path and `nrr` two numbers.
const PATH_CHARS: usize = 256;
const RANGE_CHARS: usize = 48;

/// Beyond what any player can mean: 100 Gbit/s, and a day.
const KBPS_MAX: u32 = 100_000_000;
const MS_MAX: u32 = 86_400_000;

/// The largest playback rate that is believed, in thousandths.
const PLAYBACK_MAX: u32 = 16_000;

/// What the player said. Text is printable ASCII and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cmcd {
    /// Encoded bitrate of the object, kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub br: Option<u32>,
    /// Buffer length, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bl: Option<u32>,
    /// The buffer ran empty before this request.
    #[serde(skip_serializing_if = "is_false")]
    pub bs: bool,
    /// Content id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<String>,
    /// Playback time of the object, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d: Option<u32>,
    /// Until the object is needed, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dl: Option<u32>,
    /// Throughput that the player measured, kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtp: Option<u32>,
    /// The object that will be asked for next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nor: Option<String>,
    /// The range of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nrr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ot: Option<ObjectType>,
    /// Playback rate in thousandths; absent means real time.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "thousandths"
    )]
    pub pr: Option<u32>,
    /// The player asks for no more than this, kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sf: Option<StreamFormat>,
    /// Session id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub st: Option<StreamType>,
    /// The object is needed at once: start, seek, or an empty buffer.
    #[serde(skip_serializing_if = "is_false")]
    pub su: bool,
    /// The highest bitrate the player could play, kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tb: Option<u32>,
    /// Of CMCD; absent means 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ObjectType {
    #[serde(rename = "m")]
    Manifest,
    #[serde(rename = "a")]
    Audio,
    #[serde(rename = "v")]
    Video,
    #[serde(rename = "av")]
    Muxed,
    #[serde(rename = "i")]
    Init,
    #[serde(rename = "c")]
    Caption,
    #[serde(rename = "tt")]
    TimedText,
    #[serde(rename = "k")]
    Key,
    #[serde(rename = "o")]
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum StreamFormat {
    #[serde(rename = "d")]
    Dash,
    #[serde(rename = "h")]
    Hls,
    #[serde(rename = "s")]
    Smooth,
    #[serde(rename = "o")]
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum StreamType {
    #[serde(rename = "v")]
    Vod,
    #[serde(rename = "l")]
    Live,
}

/// The header forms.
const FIELDS: [&str; 4] = ["cmcd-object", "cmcd-request", "cmcd-session", "cmcd-status"];

/// What may still be looked at.
struct Budget {
    bytes: usize,
    pairs: usize,
}

impl Cmcd {
    /// What a head carries: the query argument first, then the fields, of which the last word on a
    /// key counts. `None`, without a byte of memory taken, when there is nothing.
    pub fn of(head: &Head<'_, '_>) -> Option<Box<Self>> {
        let argument = argument(head.query);
        if argument.is_none() && !head.has_cmcd() {
            return None;
        }
        let mut found = Self::default();
        let mut budget = Budget {
            bytes: BYTES_MAX,
            pairs: PAIRS_MAX,
        };
        if let Some(encoded) = argument {
            let encoded = &encoded[..encoded.len().min(3 * BYTES_MAX)];
            found.take(&percent_decoded(encoded), &mut budget);
        }
        if head.has_cmcd() {
            for value in FIELDS.into_iter().flat_map(|name| head.values(name)) {
                found.take(value, &mut budget);
            }
        }
        (found != Self::default()).then(|| Box::new(found))
    }

    /// Reads `key=value` pairs between commas; a key alone is true.
    fn take(&mut self, text: &[u8], budget: &mut Budget) {
        let mut rest = &text[..text.len().min(budget.bytes)];
        budget.bytes -= rest.len();
        while !rest.is_empty() && budget.pairs > 0 {
            budget.pairs -= 1;
            let end = pair_end(rest);
            let (pair, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (key, value) = pair.split_at(equals.unwrap_or(pair.len()));
            self.set(key.trim_ascii(), value.get(1..).map(<[u8]>::trim_ascii));
        }
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        match (key, value) {
            (b"bs", value) => keep(&mut self.bs, flag(value)),
            (b"su", value) => keep(&mut self.su, flag(value)),
            (b"br", Some(value)) => keep_some(&mut self.br, whole(value, KBPS_MAX)),
            (b"bl", Some(value)) => keep_some(&mut self.bl, whole(value, MS_MAX)),
            (b"d", Some(value)) => keep_some(&mut self.d, whole(value, MS_MAX)),
            (b"dl", Some(value)) => keep_some(&mut self.dl, whole(value, MS_MAX)),
            (b"mtp", Some(value)) => keep_some(&mut self.mtp, whole(value, KBPS_MAX)),
            (b"rtp", Some(value)) => keep_some(&mut self.rtp, whole(value, KBPS_MAX)),
            (b"tb", Some(value)) => keep_some(&mut self.tb, whole(value, KBPS_MAX)),
            (b"pr", Some(value)) => keep_some(&mut self.pr, decimal(value, PLAYBACK_MAX)),
            (b"v", Some(value)) => keep_some(&mut self.v, whole(value, 255)),
            (b"cid", Some(value)) => keep_some(&mut self.cid, text(value, ID_CHARS)),
            (b"sid", Some(value)) => keep_some(&mut self.sid, text(value, ID_CHARS)),
            (b"nor", Some(value)) => keep_some(&mut self.nor, next_object(value)),
            (b"nrr", Some(value)) => keep_some(&mut self.nrr, text(value, RANGE_CHARS)),
            (b"ot", Some(value)) => keep_some(&mut self.ot, ObjectType::parse(value)),
            (b"sf", Some(value)) => keep_some(&mut self.sf, StreamFormat::parse(value)),
            (b"st", Some(value)) => keep_some(&mut self.st, StreamType::parse(value)),
            // Keys of later versions and of players' own.
            _ => {}
        }
    }
}

/// The next object's path. Whoever reads the log shall not be able to fetch with it: nothing of a
/// query is kept, and nothing that may hold a token.
fn next_object(value: &[u8]) -> Option<String> {
    let whole = text(value, PATH_CHARS)?;
    let path = whole.split('?').next()?;
    (!token::may_hold_token(path.as_bytes())).then(|| path.to_owned())
}

impl ObjectType {
    fn parse(token: &[u8]) -> Option<Self> {
        Some(match token {
            b"m" => Self::Manifest,
            b"a" => Self::Audio,
            b"v" => Self::Video,
            b"av" => Self::Muxed,
            b"i" => Self::Init,
            b"c" => Self::Caption,
            b"tt" => Self::TimedText,
            b"k" => Self::Key,
            b"o" => Self::Other,
            _ => return None,
        })
    }
}

impl StreamFormat {
    fn parse(token: &[u8]) -> Option<Self> {
        Some(match token {
            b"d" => Self::Dash,
            b"h" => Self::Hls,
            b"s" => Self::Smooth,
            b"o" => Self::Other,
            _ => return None,
        })
    }
}

impl StreamType {
    fn parse(token: &[u8]) -> Option<Self> {
        Some(match token {
            b"v" => Self::Vod,
            b"l" => Self::Live,
            _ => return None,
        })
    }
}

/// The value of the first `CMCD` argument of a query, as it was sent.
fn argument(query: &[u8]) -> Option<&[u8]> {
    if query.is_empty() {
        return None;
    }
    let mut arguments = query.split(|byte| *byte == b'&');
    arguments.find_map(|argument| argument.strip_prefix(b"CMCD="))
}

/// A `%` that no two hexadecimal digits follow stands for itself.
fn percent_decoded(encoded: &[u8]) -> Cow<'_, [u8]> {
    if !encoded.contains(&b'%') {
        return Cow::Borrowed(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, after)) = rest.split_first() {
        let pair = match (first, after) {
            (b'%', [high, low, ..]) => nibble(*high).zip(nibble(*low)),
            _ => None,
        };
        match pair {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    Cow::Owned(decoded)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Where the first pair ends: at a comma outside quotes. Quotes that never close take the rest.
fn pair_end(text: &[u8]) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// A key alone is true; some players write it out.
fn flag(value: Option<&[u8]>) -> Option<bool> {
    match value {
        None | Some(b"true" | b"?1" | b"1") => Some(true),
        Some(b"false" | b"?0" | b"0") => Some(false),
        Some(_) => None,
    }
}

/// A number from 0 to `most`; a fraction, which the standard does not have here, is dropped.
fn whole(value: &[u8], most: u32) -> Option<u32> {
    let (digits, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b"0"[..]),
    };
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !is_number(digits) || !is_number(fraction) {
        return None;
    }
    let number: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= most).then_some(number)
}

/// A number with up to three decimals, in thousandths, from 0 to `most`.
fn decimal(value: &[u8], most: u32) -> Option<u32> {
    let above = whole(value, most / 1000)? * 1000;
    let fraction = value.splitn(2, |byte| *byte == b'.').nth(1);
    let digits = fraction.unwrap_or_default().iter().take(3);
    let below = digits.zip([100, 10, 1]);
    let below: u32 = below
        .map(|(digit, size)| u32::from(digit - b'0') * size)
        .sum();
    let number = above + below;
    (number <= most).then_some(number)
}

/// A quoted string; players that forget the quotes are understood too.
fn text(value: &[u8], most: usize) -> Option<String> {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        [b'"', ..] => return None,
        bare => bare,
    };
    if inner.is_empty() {
        return None;
    }
    // What an escape stands for is the byte after it.
    let mut is_escaped = false;
    let plain = inner.iter().copied().filter(|byte| {
        is_escaped = !is_escaped && *byte == b'\\';
        !is_escaped
    });
    let plain: Vec<u8> = plain.take(most + 1).collect();
    Some(help::printable(&plain, most))
}

fn keep(place: &mut bool, said: Option<bool>) {
    if let Some(said) = said {
        *place = said;
    }
}

fn keep_some<T>(place: &mut Option<T>, said: Option<T>) {
    if said.is_some() {
        *place = said;
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn thousandths<S: Serializer>(value: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    value
        .map(|value| f64::from(value) / 1e3)
        .serialize(serializer)
}

#[cfg(test)]
mod tests;
