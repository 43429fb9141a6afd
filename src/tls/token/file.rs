//! Key files: one key a line, readable by their owner only.
//!
//! A fleet's: `<key id> <from> <until> <secret>`; a host's, with the host's name before. Times are
//! RFC 3339, secrets 64 hexadecimal digits; what follows `#` at the start of a line is for people.
//!
//! I/O: reads, writes and syncs small files, blocks.

use super::TokenKeyError;
use super::keys::FleetKey;
use super::keys::FleetSecret;
use super::keys::HostKey;
use super::keys::KeyId;
use super::mac;
use super::secret::Secret;
use crate::clock;
use crate::clock::Wall;
use crate::durable;
use crate::help;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Thousands of keys; a larger file is not one of these.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Room of a written line: names, two times, a secret.
const LINE_BYTES: usize = 512;

/// Why a key file is not used. No message has anything of a key in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{path}: others may read these keys; if nobody has, `chmod 600` it, otherwise make new ones"
    )]
    Open { path: PathBuf },
    #[error("{path}: not a regular file of at most 1 MiB")]
    Strange { path: PathBuf },
    #[error("{path}, line {line}: {problem}; write `{form}`")]
    Line {
        path: PathBuf,
        line: usize,
        problem: String,
        form: &'static str,
    },
    #[error("{path}: {error}")]
    Keys { path: PathBuf, error: TokenKeyError },
}

impl KeyFileError {
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Io { error, .. } => error.kind() == io::ErrorKind::NotFound,
            Self::Open { .. } | Self::Strange { .. } | Self::Line { .. } | Self::Keys { .. } => {
                false
            }
        }
    }
}

const FLEET_FORM: &str = "<key id> <from> <until> <64 hexadecimal digits>";
const HOST_FORM: &str = "<host> <key id> <from> <until> <64 hexadecimal digits>";

const FLEET_HEADER: &str =
    "# The secrets that viewers' URLs are signed with. Whoever has one can sign for every box.
# <key id> <from> <until> <secret>: signs from `from` until a later one does; good until `until`.
";
const HOST_HEADER: &str =
    "# The keys that tokens of viewers' URLs are checked with, for the host names of one box.
# <host> <key id> <from> <until> <key>
";

/// The fleet's secret, as `oca control secret` made it.
pub fn load_fleet(path: &Path) -> Result<FleetSecret, KeyFileError> {
    let text = read(path)?;
    let mut keys = Vec::new();
    for (line, words) in lines(&text) {
        let key = match words[..] {
            [id, from, until, secret] => fleet_key(id, [from, until], secret),
            _ => Err("it does not have four words".to_owned()),
        };
        keys.push(key.map_err(|problem| bad(path, line, problem, FLEET_FORM))?);
    }
    FleetSecret::new(keys).map_err(|error| KeyFileError::Keys {
        path: path.to_owned(),
        error,
    })
}

/// The keys of a box's own names.
pub fn load_host(path: &Path) -> Result<Vec<HostKey>, KeyFileError> {
    parse_host(path, &read(path)?)
}

/// `path` is for messages.
pub fn parse_host(path: &Path, text: &str) -> Result<Vec<HostKey>, KeyFileError> {
    let mut keys = Vec::new();
    for (line, words) in lines(text) {
        let key = match words[..] {
            [host, id, from, until, secret] => {
                fleet_key(id, [from, until], secret).and_then(|key| host_key(host, key))
            }
            _ => Err("it does not have five words".to_owned()),
        };
        keys.push(key.map_err(|problem| bad(path, line, problem, HOST_FORM))?);
    }
    Ok(keys)
}

/// The text of a host's key file.
pub fn write_host<'k>(keys: impl IntoIterator<Item = &'k HostKey>) -> Zeroizing<String> {
    let keys: Vec<&HostKey> = keys.into_iter().collect();
    let room = HOST_HEADER.len() + LINE_BYTES * keys.len();
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str(HOST_HEADER);
    for key in keys {
        let (from, until) = (time(key.from), time(key.until));
        let digits = key.key.to_hex();
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "{} {} {from} {until} {}",
            key.host,
            key.id,
            digits.as_str()
        );
    }
    text
}

pub fn save_host(path: &Path, keys: &[HostKey]) -> Result<(), KeyFileError> {
    replace(path, &write_host(keys))
}

/// Written beside, synced, put in the old one's place.
pub fn save_fleet(path: &Path, secret: &FleetSecret) -> Result<(), KeyFileError> {
    let room = FLEET_HEADER.len() + LINE_BYTES * secret.keys().len();
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str(FLEET_HEADER);
    for key in secret.keys() {
        let (from, until) = (time(key.from), time(key.until));
        let digits = key.secret.to_hex();
        let _ = writeln!(text, "{} {from} {until} {}", key.id, digits.as_str());
    }
    replace(path, &text)
}

fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let numbered = text.lines().enumerate();
    let full = numbered.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    full.map(|(at, line)| (at + 1, line.split_ascii_whitespace().collect()))
}

fn fleet_key(id: &str, period: [&str; 2], secret: &str) -> Result<FleetKey, String> {
    let [from, until] = period.map(seconds);
    let (from, until) = (from?, until?);
    if from >= until {
        return Err("`from` is not before `until`".to_owned());
    }
    Ok(FleetKey {
        id: KeyId::parse(id).map_err(|error| error.to_string())?,
        from,
        until,
        secret: Secret::from_hex(secret).map_err(|error| error.to_string())?,
    })
}

fn host_key(host: &str, key: FleetKey) -> Result<HostKey, String> {
    if !mac::is_canonical_host(host) {
        let host = help::printable(host.as_bytes(), 80);
        return Err(TokenKeyError::Host(host).to_string());
    }
    Ok(HostKey {
        host: host.to_owned(),
        id: key.id,
        from: key.from,
        until: key.until,
        key: key.secret,
    })
}

fn seconds(text: &str) -> Result<u64, String> {
    let parsed = text.parse::<Wall>().map(clock::unix_seconds);
    let shown = || help::printable(text.as_bytes(), 40);
    parsed.map_err(|_| format!("`{}` is no time, such as 2026-01-31T20:00:00Z", shown()))
}

/// RFC 3339; the end of the calendar for what lies behind it.
fn time(seconds: u64) -> Wall {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Wall::from_second(seconds).unwrap_or(Wall::MAX)
}

fn bad(path: &Path, line: usize, problem: String, form: &'static str) -> KeyFileError {
    KeyFileError::Line {
        path: path.to_owned(),
        line,
        problem,
        form,
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |error| KeyFileError::Io {
        path: path.to_owned(),
        error,
    };
    // A pipe that nobody writes would be waited for.
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        let path = path.to_owned();
        return Err(KeyFileError::Strange { path });
    }
    if about.permissions().mode() & 0o077 != 0 {
        let path = path.to_owned();
        return Err(KeyFileError::Open { path });
    }
    let room = usize::try_from(about.len()).unwrap_or(0);
    let mut text = Zeroizing::new(String::with_capacity(room));
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

fn replace(path: &Path, text: &str) -> Result<(), KeyFileError> {
    durable::replace(path, text.as_bytes(), 0o600).map_err(|error| KeyFileError::Io {
        path: path.to_owned(),
        error,
    })
}
