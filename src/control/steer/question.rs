//! A question as it comes (texts from a URL or a command line) → a question that cannot be wrong.

use super::geo::Position;
use super::geo::PositionError;
use crate::help;
use crate::key;
use crate::key::KeyError;
use crate::prefix::Family;
use crate::tls::token;
use std::net::IpAddr;
use std::net::Ipv4Addr;

/// No answer has more boxes: a player tries two or three.
pub const ANSWERS_MAX: usize = 16;

/// Keys in one request.
pub(super) const KEYS_MAX: usize = 100;

/// Every parameter as it was written; `None` where it was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawQuestion {
    pub client: Option<String>,
    /// A key or a directory.
    pub key: Option<String>,
    pub n: Option<String>,
    /// `<latitude>,<longitude>`.
    pub at: Option<String>,
    /// `ipv4` or `ipv6`.
    pub family: Option<String>,
    /// `1` or `0`.
    pub explain: Option<String>,
    /// For signed URLs.
    pub session: Option<String>,
}

/// Why a question is not answered. The message says what to write.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuestionError {
    #[error("`{0}` is not an address; write `client=` with an IPv4 or IPv6 address")]
    Client(String),
    #[error("no client is named; write `client=` with an IPv4 or IPv6 address")]
    NoClient,
    #[error("{0} is {1} and cannot be reached from a box; give the client's public address")]
    Unreachable(IpAddr, &'static str),
    #[error("the key is refused: {0}")]
    Key(#[from] KeyError),
    #[error("`n={0}` is not a number of boxes; write 1 to {ANSWERS_MAX}")]
    Answers(String),
    #[error(transparent)]
    At(#[from] PositionError),
    #[error("`family={0}` is not known; write `ipv4` or `ipv6`")]
    Family(String),
    #[error("`explain={0}` is not known; write `1` or `0`")]
    Explain(String),
    #[error("`session={0}` is not a session id; write 1 to 64 letters, digits, `-` and `_`")]
    Session(String),
    #[error("{0} keys at once are too many; ask for at most {KEYS_MAX} at a time")]
    TooManyKeys(usize),
    #[error("no key is asked for; send a JSON array of keys, such as [\"title/v1/seg-1.m4s\"]")]
    NoKeys,
}

/// A question, parsed; its key may still be unknown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub(super) client: IpAddr,
    pub(super) key: Option<String>,
    /// 1 to [`ANSWERS_MAX`].
    pub(super) answers: usize,
    pub(super) at: Option<Position>,
    pub(super) family: Option<Family>,
    pub(super) explain: bool,
    pub(super) session: Option<String>,
}

impl RawQuestion {
    pub(super) fn parse(
        &self,
        peer: Option<IpAddr>,
        default_answers: usize,
    ) -> Result<Question, QuestionError> {
        let client = match (&self.client, peer) {
            (Some(text), _) => text
                .parse()
                .map_err(|_| QuestionError::Client(shown(text)))?,
            (None, Some(peer)) => peer,
            (None, None) => return Err(QuestionError::NoClient),
        };
        let flag = match self.explain.as_deref() {
            None | Some("0" | "false") => false,
            Some("" | "1" | "true") => true,
            Some(other) => return Err(QuestionError::Explain(shown(other))),
        };
        Ok(Question {
            client: reachable(client)?,
            key: self.key.as_deref().map(checked).transpose()?,
            answers: match self.n.as_deref() {
                None => default_answers.clamp(1, ANSWERS_MAX),
                Some(text) => answers(text)?,
            },
            at: self.at.as_deref().map(str::parse).transpose()?,
            family: self.family.as_deref().map(family).transpose()?,
            explain: flag,
            session: self.session.as_deref().map(session).transpose()?,
        })
    }
}

/// One question a key. A key that is refused refuses all of them.
pub(super) fn parse_many(
    raw: &RawQuestion,
    keys: &[String],
    peer: Option<IpAddr>,
    default_answers: usize,
) -> Result<Vec<Question>, QuestionError> {
    if keys.is_empty() {
        return Err(QuestionError::NoKeys);
    }
    if keys.len() > KEYS_MAX {
        return Err(QuestionError::TooManyKeys(keys.len()));
    }
    let common = RawQuestion {
        key: None,
        ..raw.clone()
    };
    let common = common.parse(peer, default_answers)?;
    keys.iter()
        .map(|key| {
            Ok(Question {
                key: Some(checked(key)?),
                ..common.clone()
            })
        })
        .collect()
}

fn checked(text: &str) -> Result<String, QuestionError> {
    Ok(key::check(text.as_bytes())?.to_owned())
}

/// More than the most is the most: a player that wants "all" gets what there is.
fn answers(text: &str) -> Result<usize, QuestionError> {
    let refused = || QuestionError::Answers(shown(text));
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(refused());
    }
    // A number that does not fit is larger than the most, too.
    match text.parse::<usize>().unwrap_or(usize::MAX) {
        0 => Err(refused()),
        wanted => Ok(wanted.min(ANSWERS_MAX)),
    }
}

fn session(text: &str) -> Result<String, QuestionError> {
    if token::is_session(text) {
        Ok(text.to_owned())
    } else {
        Err(QuestionError::Session(shown(text)))
    }
}

fn family(text: &str) -> Result<Family, QuestionError> {
    match text {
        "ipv4" => Ok(Family::Ipv4),
        "ipv6" => Ok(Family::Ipv6),
        _ => Err(QuestionError::Family(shown(text))),
    }
}

/// An IPv4 client is one, however a socket shows it. Addresses that no route leads to are refused,
/// because an answer for them would look like one for somebody else.
fn reachable(client: IpAddr) -> Result<IpAddr, QuestionError> {
    let client = client.to_canonical();
    let link_local = match client {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let problem = if client.is_unspecified() {
        "the unspecified address"
    } else if client.is_multicast() {
        "a multicast address"
    } else if client == IpAddr::V4(Ipv4Addr::BROADCAST) {
        "the broadcast address"
    } else if link_local {
        "a link-local address"
    } else {
        return Ok(client);
    };
    Err(QuestionError::Unreachable(client, problem))
}

fn shown(text: &str) -> String {
    help::printable(text.as_bytes(), 60)
}
