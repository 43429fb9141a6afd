//! One value: from TOML to what its kind wants, or what is wrong with it and what to write.
//!
//! [`super::walk`] calls [`read`] for each known key, [`super::settings`] for the defaults. A list
//! tells the faults of all its elements. Knows nothing of sections or of other keys.
//!
//! I/O: a time zone is looked up in the system's database, then in the one built in.

use super::keys::Kind;
use super::network;
use super::routing;
use crate::help;
use crate::ids::BoxId;
use crate::ids::SiteName;
use crate::units;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use crate::window;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// A Unix socket's address holds 108 bytes with the final NUL, and `admin` binds at `<path>.new`
/// first.
const SOCKET_PATH_MAX: usize = 103;

/// `PATH_MAX` without its NUL.
const PATH_MAX: usize = 4_095;

/// Elements of a list: no box has more addresses to serve on.
const LIST_MAX: usize = 64;

/// Longer words are not compared with known ones: that is noise, not a slip.
pub(super) const WORD_MAX: usize = 64;

/// A value of the right kind and in range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Box(BoxId),
    Site(SiteName),
    Text(String),
    Path(PathBuf),
    Boolean(bool),
    /// A count, bytes, bytes a second, seconds of a day, or an AS number.
    Number(u64),
    Time(Duration),
    Word(&'static str),
    Words(Vec<&'static str>),
    /// Each with its offset in the file.
    Addresses(Vec<(usize, SocketAddr)>),
    Ip(IpAddr),
    RouterId(Ipv4Addr),
    Texts(Vec<String>),
}

/// What is wrong with a value, or with one element of it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) problem: String,
    /// `None`: show the key's example.
    pub(super) remedy: Option<String>,
}

/// Reads `value` as `kind`. `None` when there was a fault.
pub(super) fn read(
    kind: Kind,
    value: &Spanned<DeValue<'_>>,
    faults: &mut Vec<Fault>,
) -> Option<Value> {
    match kind {
        Kind::Addresses => list(kind, value, faults, |item| {
            address(item).map(|address| (item.span().start, address))
        })
        .map(Value::Addresses),
        Kind::Words(known) => {
            let words = list(kind, value, faults, |item| word(kind, item, known))?;
            Some(Value::Words(words))
        }
        Kind::Hosts | Kind::Ips | Kind::Prefixes | Kind::Communities => {
            let texts = list(kind, value, faults, |item| {
                let text = item.get_ref().as_str();
                let text = text.ok_or_else(|| mistyped(kind, item))?;
                routing::element(kind, text).map_err(|told| fault(item, told))
            })?;
            Some(Value::Texts(texts))
        }
        Kind::BoxName
        | Kind::SiteName
        | Kind::Zone
        | Kind::Filter
        | Kind::Path
        | Kind::SocketPath
        | Kind::Boolean
        | Kind::Lengths { .. }
        | Kind::Integer { .. }
        | Kind::Bytes { .. }
        | Kind::Time { .. }
        | Kind::Rate { .. }
        | Kind::TimeOfDay { .. }
        | Kind::Word(_)
        | Kind::Address
        | Kind::Ip
        | Kind::Router
        | Kind::RouterId
        | Kind::Asn
        | Kind::Fingerprint
        | Kind::Url { .. }
        | Kind::Label
        | Kind::Domain => scalar(kind, value).map_err(|fault| faults.push(fault)).ok(),
    }
}

impl Kind {
    /// As in "must be …".
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::BoxName | Self::SiteName | Self::Zone | Self::Label | Self::Domain => {
                "a name in quotes"
            }
            Self::Filter => "a log level in quotes",
            Self::Path | Self::SocketPath => "a path in quotes",
            Self::Boolean => "true or false",
            Self::Integer { .. } | Self::Asn => "a whole number",
            Self::Bytes { .. } => "a size with its unit, in quotes",
            Self::Time { .. } => "a duration with its unit, in quotes",
            Self::Rate { .. } => "a rate with its unit, in quotes",
            Self::TimeOfDay { .. } => "a time of day in quotes",
            Self::Word(_) => "a word in quotes",
            Self::Words(_) => "a list of words in quotes",
            Self::Address => "an IP address and port in quotes",
            Self::Addresses => "a list of IP addresses and ports in quotes",
            Self::Ip | Self::Router => "an IP address in quotes",
            Self::RouterId => "an IPv4 address in quotes",
            Self::Fingerprint => "a fingerprint in quotes",
            Self::Url { .. } => "a URL in quotes",
            Self::Hosts => "a list of host names in quotes",
            Self::Ips => "a list of IP addresses in quotes",
            Self::Prefixes => "a list of prefixes in quotes",
            Self::Communities => "a list of communities in quotes",
            Self::Lengths { .. } => "a range of prefix lengths in quotes",
        }
    }
}

fn scalar(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Value, Fault> {
    let text = || {
        value
            .get_ref()
            .as_str()
            .ok_or_else(|| mistyped(kind, value))
    };
    match kind {
        Kind::BoxName => BoxId::parse(text()?)
            .map(Value::Box)
            .map_err(|error| split(value, &error.to_string(), ": write ")),
        Kind::SiteName => SiteName::parse(text()?)
            .map(Value::Site)
            .map_err(|error| split(value, &error.to_string(), ": write ")),
        Kind::Zone => zone(text()?).map_err(|told| fault(value, told)),
        Kind::Filter => filter(text()?).map_err(|told| fault(value, told)),
        Kind::Path => path(text()?, PATH_MAX).map_err(|told| fault(value, told)),
        Kind::SocketPath => path(text()?, SOCKET_PATH_MAX).map_err(|told| fault(value, told)),
        Kind::Boolean => {
            let truth = value.get_ref().as_bool();
            truth
                .map(Value::Boolean)
                .ok_or_else(|| mistyped(kind, value))
        }
        Kind::Integer { min, max } => integer(kind, value, min, max),
        Kind::Bytes { min, max } => {
            let size = Bytes::parse(text()?).map_err(|e| split(value, &e.to_string(), "; "))?;
            let (low, high) = (show_bytes(min), show_bytes(max));
            in_range(value, text()?, (min..=max).contains(&size.0), &low, &high)?;
            Ok(Value::Number(size.0))
        }
        Kind::Time { min, max } => {
            let error = |e: units::UnitError| split(value, &e.to_string(), "; ");
            let time = units::parse_duration(text()?).map_err(error)?;
            let (low, high) = (units::show_duration(min), units::show_duration(max));
            let fits = (min..=max).contains(&time) && time.subsec_nanos() % 1_000_000 == 0;
            in_range(value, text()?, fits, &low, &high)?;
            Ok(Value::Time(time))
        }
        Kind::Rate { min, max } => {
            let rate = BytesPerSecond::parse(text()?);
            let rate = rate.map_err(|e| split(value, &e.to_string(), "; "))?;
            let (low, high) = (show_rate(min), show_rate(max));
            in_range(value, text()?, (min..=max).contains(&rate.0), &low, &high)?;
            Ok(Value::Number(rate.0))
        }
        Kind::TimeOfDay { max_s } => {
            let second = window::seconds_of_day(text()?);
            let second = second.map_err(|e| split(value, &e.to_string(), "; "))?;
            let high = window::time_of_day(max_s);
            in_range(value, text()?, second <= max_s, "00:00", &high)?;
            Ok(Value::Number(u64::from(second)))
        }
        Kind::Word(known) => word(kind, value, known).map(Value::Word),
        Kind::Address => {
            address(value).map(|one| Value::Addresses(vec![(value.span().start, one)]))
        }
        Kind::Ip => network::ip(text()?).map_err(|told| fault(value, told)),
        Kind::Router => network::router(text()?).map_err(|told| fault(value, told)),
        Kind::RouterId => network::router_id(text()?).map_err(|told| fault(value, told)),
        Kind::Asn => asn(value),
        Kind::Fingerprint => network::fingerprint(text()?).map_err(|told| fault(value, told)),
        Kind::Url { plain } => network::url(text()?, plain).map_err(|told| fault(value, told)),
        Kind::Label => network::label(text()?).map_err(|told| fault(value, told)),
        Kind::Domain => network::domain(text()?).map_err(|told| fault(value, told)),
        Kind::Lengths { bits } => routing::lengths(text()?, bits).map_err(|t| fault(value, t)),
        Kind::Words(_) | Kind::Addresses => Err(mistyped(kind, value)),
        Kind::Hosts | Kind::Ips | Kind::Prefixes | Kind::Communities => Err(mistyped(kind, value)),
    }
}

/// A list without doubles; each element's fault is told.
fn list<T: PartialEq>(
    kind: Kind,
    value: &Spanned<DeValue<'_>>,
    faults: &mut Vec<Fault>,
    read: impl Fn(&Spanned<DeValue<'_>>) -> Result<T, Fault>,
) -> Option<Vec<T>> {
    let Some(items) = value.get_ref().as_array() else {
        faults.push(mistyped(kind, value));
        return None;
    };
    if items.len() > LIST_MAX {
        let problem = format!("the list has {} elements", items.len());
        let remedy = format!("write at most {LIST_MAX}");
        faults.push(fault(value, (problem, remedy)));
        return None;
    }
    let before = faults.len();
    let mut list = Vec::new();
    for item in items {
        match read(item) {
            Ok(one) if list.contains(&one) => {
                let told = ("is in the list twice".to_owned(), "name it once".to_owned());
                faults.push(fault(item, told));
            }
            Ok(one) => list.push(one),
            Err(fault) => faults.push(fault),
        }
    }
    (faults.len() == before).then_some(list)
}

fn integer(kind: Kind, value: &Spanned<DeValue<'_>>, min: u64, max: u64) -> Result<Value, Fault> {
    let Some(integer) = value.get_ref().as_integer() else {
        return Err(mistyped(kind, value));
    };
    let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
    let number = number.filter(|number| (min..=max).contains(number));
    let (low, high) = (min.to_string(), max.to_string());
    in_range(value, &integer.to_string(), number.is_some(), &low, &high)?;
    number
        .map(Value::Number)
        .ok_or_else(|| mistyped(kind, value))
}

/// An AS number; the forms that routers also take are told the one to write.
fn asn(value: &Spanned<DeValue<'_>>) -> Result<Value, Fault> {
    let disguised = match value.get_ref() {
        DeValue::Integer(integer) => {
            let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
            let told = network::asn(number, &integer.to_string());
            return told.map_err(|told| fault(value, told));
        }
        DeValue::String(text) => network::disguised_asn(text),
        DeValue::Float(number) => network::disguised_asn(number.as_str()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    };
    Err(match disguised {
        Some(told) => fault(value, told),
        None => mistyped(Kind::Asn, value),
    })
}

fn in_range(
    value: &Spanned<DeValue<'_>>,
    written: &str,
    fits: bool,
    low: &str,
    high: &str,
) -> Result<(), Fault> {
    if fits {
        return Ok(());
    }
    let problem = format!("`{written}` is outside the range from {low} to {high}");
    Err(fault(
        value,
        (problem, format!("write a value from {low} to {high}")),
    ))
}

fn word(
    kind: Kind,
    value: &Spanned<DeValue<'_>>,
    known: &'static [&'static str],
) -> Result<&'static str, Fault> {
    let Some(text) = value.get_ref().as_str() else {
        return Err(mistyped(kind, value));
    };
    if let Some(word) = known.iter().find(|word| **word == text) {
        return Ok(word);
    }
    let list = quoted(known);
    let meant = nearest(text, known.iter().copied());
    let remedy = match meant {
        Some(word) => format!("did you mean `\"{word}\"`? Known are {list}"),
        None => format!("write one of {list}"),
    };
    Err(fault(
        value,
        (format!("`{text}` is not known here"), remedy),
    ))
}

fn address(value: &Spanned<DeValue<'_>>) -> Result<SocketAddr, Fault> {
    let Some(text) = value.get_ref().as_str() else {
        return Err(mistyped(Kind::Address, value));
    };
    text.parse().map_err(|_| {
        let problem = format!("`{text}` is not an IP address and port");
        let remedy = "write for example `\"[::]:443\"` for every address, or `\"192.0.2.9:443\"`; \
                      names are not looked up";
        fault(value, (problem, remedy.to_owned()))
    })
}

fn path(text: &str, bytes_max: usize) -> Result<Value, (String, String)> {
    if !text.starts_with('/') {
        let problem = format!("`{text}` is not an absolute path");
        return Err((
            problem,
            "write the whole path, beginning with `/`".to_owned(),
        ));
    }
    if text.chars().any(char::is_control) {
        let problem = format!("`{text}` holds a control character");
        return Err((problem, "write the path without it".to_owned()));
    }
    if text.len() > bytes_max {
        let problem = format!("the path has {} bytes", text.len());
        return Err((problem, format!("write one of at most {bytes_max} bytes")));
    }
    Ok(Value::Path(PathBuf::from(text)))
}

fn zone(text: &str) -> Result<Value, (String, String)> {
    let found = (text.len() <= WORD_MAX).then(|| jiff::tz::TimeZone::get(text).ok());
    if let Some(zone) = found.flatten() {
        // The spelling of the database: lookups there ignore case, people who compare do not.
        return Ok(Value::Text(zone.iana_name().unwrap_or(text).to_owned()));
    }
    let known: Vec<String> = jiff::tz::db()
        .available()
        .map(|name| name.as_str().to_owned())
        .collect();
    let remedy = match nearest(text, known.iter().map(String::as_str)) {
        Some(zone) => format!("did you mean `\"{zone}\"`?"),
        None => "write an IANA name, for example `\"Europe/Paris\"` or `\"UTC\"`".to_owned(),
    };
    Err((format!("`{text}` is not a time zone known here"), remedy))
}

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];

/// `tracing` would take any lone word that is no level for the name of a module.
fn filter(text: &str) -> Result<Value, (String, String)> {
    let remedy = || {
        let levels = quoted(LEVELS);
        format!("write one of {levels}, or a list such as `\"info,oca::serve=debug\"`")
    };
    for part in text.split(',').map(str::trim) {
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
        if !is_level && !part.contains('=') {
            let remedy = match nearest(part, LEVELS.iter().copied()) {
                Some(level) => format!("did you mean `\"{level}\"`?"),
                None => remedy(),
            };
            return Err((format!("`{part}` is not a log level"), remedy));
        }
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(Value::Text(text.to_owned())),
        Err(error) => Err((format!("`{text}` is not a log filter: {error}"), remedy())),
    }
}

/// The nearest known word, unless the wrong one is noise.
pub(super) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if wrong.len() > WORD_MAX {
        return None;
    }
    help::nearest(wrong, known)
}

/// The shortest exact form that [`Bytes::parse`] reads back.
pub(super) fn show_bytes(bytes: u64) -> String {
    let units = [
        ("TiB", 1_u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    let whole = |(_, size): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*size);
    // The largest unit: `200 GB` is also a whole number of KiB.
    match units.iter().filter(whole).max_by_key(|(_, size)| *size) {
        Some((unit, size)) => format!("{} {unit}", bytes / size),
        None => format!("{bytes} B"),
    }
}

/// The shortest exact form that [`BytesPerSecond::parse`] reads back, at most one decimal.
pub(super) fn show_rate(bytes: u64) -> String {
    let bits = u128::from(bytes) * 8;
    let units = [
        ("Gbit/s", 1_000_000_000_u128),
        ("Mbit/s", 1_000_000),
        ("kbit/s", 1_000),
    ];
    for (unit, size) in units {
        if bits >= size && bits % (size / 10) == 0 {
            let (whole, tenth) = (bits / size, bits % size / (size / 10));
            let tenth = if tenth == 0 {
                String::new()
            } else {
                format!(".{tenth}")
            };
            return format!("{whole}{tenth} {unit}");
        }
    }
    format!("{bits} bit/s")
}

fn quoted(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    quoted.join(", ")
}

fn mistyped(kind: Kind, value: &Spanned<DeValue<'_>>) -> Fault {
    let found = match value.get_ref() {
        DeValue::String(text) if text.is_empty() => "an empty text".to_owned(),
        DeValue::String(text) => format!("the text `{text}`"),
        DeValue::Integer(number) => format!("the number `{number}`"),
        DeValue::Float(number) => format!("the number `{number}`"),
        DeValue::Boolean(truth) => format!("`{truth}`"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    };
    Fault {
        offset: value.span().start,
        problem: format!("must be {}, not {found}", kind.describe()),
        remedy: None,
    }
}

fn fault(value: &Spanned<DeValue<'_>>, (problem, remedy): (String, String)) -> Fault {
    Fault {
        offset: value.span().start,
        problem,
        remedy: Some(remedy),
    }
}

/// A sentence of the vocabulary, `what is wrong<separator>what to write`, in its two halves.
fn split(value: &Spanned<DeValue<'_>>, sentence: &str, separator: &str) -> Fault {
    let (problem, remedy) = match sentence.rfind(separator) {
        Some(end) => {
            let rest = sentence.get(end + 2..).unwrap_or_default();
            (
                sentence.get(..end).unwrap_or_default(),
                Some(rest.to_owned()),
            )
        }
        None => (sentence, None),
    };
    Fault {
        offset: value.span().start,
        problem: problem.to_owned(),
        remedy,
    }
}
