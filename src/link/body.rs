//! Bodies: JSON, plain or zstd-compressed, read within limits.
//!
//! Both sides write with [`encode`] and read with [`collect`] and [`decode`]. Nothing is allocated
//! because somebody claims a size; what is too large is refused while it streams.

use super::message::Code;
use crate::clock;
use crate::clock::Elapsed;
use crate::help::printable;
use bytes::Bytes;
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::pin::Pin;
use std::pin::pin;
use std::time::Duration;

/// History that a sender may refer back to, as a power of two: the 8 MiB that RFC 8878 section
/// 3.1.1.1.2 asks every decoder to support, and no more.
pub const WINDOW_LOG_MAX: u32 = 23;

/// Bodies up to this size are parsed from one piece of memory, which is several times faster;
/// larger ones as they are decompressed, so that a bomb costs no more than this.
const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// Between the decompressor and the parser.
const BUFFER_BYTES: usize = 64 * 1024;

/// Level 3 is zstd's own default: 200 MB of a large catalogue in about a second.
const ZSTD_LEVEL: i32 = 3;

/// Whoever sends nothing for so long is gone.
pub(super) const SILENCE_TIME_MAX: Duration = Duration::from_secs(120);

/// Paid for together: pieces may be as short as whoever sends likes. Counted in
/// [`super::connection::AHEAD_BYTES`].
pub(super) const PAID_TOGETHER: u64 = 16 << 10;

/// How much of a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes as they come.
    pub compressed: u64,
    /// Bytes of the JSON text.
    pub decompressed: u64,
}

/// Whoever keeps the cap of what a box receives.
pub trait Pay: fmt::Debug + Send + Sync {
    /// So many bytes of a body have come; nothing more of it is read before this returns.
    fn pay(&self, bytes: u64) -> BoxFuture<'_, ()>;

    /// From now on so many bytes may come before anybody pays for them.
    fn expect(&self, bytes: u64);

    /// They do no more.
    fn expect_no_more(&self, bytes: u64);
}

/// What comes ahead of those who pay for it, until this is dropped.
#[derive(Debug)]
pub(super) struct Ahead<'a> {
    pay: &'a dyn Pay,
    bytes: u64,
}

/// `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Zstd,
}

/// Why a body was not read. The message says where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body has more than the {limit} {what} bytes that are allowed (at byte {at})")]
    TooLarge {
        what: &'static str,
        limit: u64,
        at: u64,
    },
    #[error("the body was cut or broke off at byte {at}: {problem}")]
    Broken { at: u64, problem: String },
    #[error("the body is not zstd from byte {at} on: {problem}")]
    Zstd { at: u64, problem: String },
    #[error("the body is not what the contract says: {0}")]
    Json(String),
    #[error("`Content-Encoding: {0}` is not known; send zstd or none")]
    Encoding(String),
}

/// The text of a body as it is decompressed, counted and cut at the limit.
pub(super) struct Text<'a> {
    source: Source<'a>,
    limits: Limits,
    /// Bytes of text so far.
    read: u64,
    compressed: u64,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Zstd(zstd::Decoder<'static, &'a [u8]>),
}

impl<'a> Ahead<'a> {
    pub(super) fn new(pay: &'a dyn Pay, bytes: u64) -> Self {
        pay.expect(bytes);
        Self { pay, bytes }
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.pay.expect_no_more(self.bytes);
    }
}

impl BodyError {
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Broken { .. } | Self::Zstd { .. } | Self::Json(_) | Self::Encoding(_) => {
                Code::BadRequest
            }
        }
    }
}

impl Encoding {
    /// Of the `Content-Encoding` header's value; none is plain.
    pub fn of(header: Option<&[u8]>) -> Result<Self, BodyError> {
        match header.map(<[u8]>::trim_ascii) {
            None => Ok(Self::Plain),
            Some(name) if name.eq_ignore_ascii_case(b"identity") => Ok(Self::Plain),
            Some(name) if name.eq_ignore_ascii_case(b"zstd") => Ok(Self::Zstd),
            Some(name) => Err(BodyError::Encoding(printable(name, 40))),
        }
    }
}

/// zstd-compressed JSON. Fails only for values that JSON cannot say.
pub fn encode(body: &impl Serialize) -> Result<Vec<u8>, BodyError> {
    let failed = |error: io::Error| BodyError::Json(error.to_string());
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(failed)?;
    serde_json::to_writer(io::BufWriter::new(&mut encoder), body)
        .map_err(|error| BodyError::Json(error.to_string()))?;
    encoder.finish().map_err(failed)
}

/// Collects a body as it comes, at most `limit` bytes, and no faster than `pay` lets it. Nothing
/// for [`SILENCE_TIME_MAX`] is an error; how long all of it may take is the caller's to say. What
/// has come of a body that fails is paid for like any.
pub async fn collect<B>(body: B, limit: u64, pay: Option<&dyn Pay>) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: fmt::Display,
{
    // Of `Content-Length`, where there is one: refused before it is sent.
    if body.size_hint().lower() > limit {
        return Err(too_large(limit, 0));
    }
    let mut body = pin!(body);
    let (mut collected, mut owed) = (BytesMut::new(), 0);
    loop {
        let at = collected.len() as u64;
        let next = next(body.as_mut(), at).await;
        if !matches!(next, Ok(Some(_))) {
            settle(pay, &mut owed).await;
        }
        let Some(data) = next? else {
            return Ok(collected.freeze());
        };
        owed += data.len() as u64;
        let is_too_large = at + data.len() as u64 > limit;
        if owed >= PAID_TOGETHER || is_too_large {
            settle(pay, &mut owed).await;
        }
        if is_too_large {
            return Err(too_large(limit, at));
        }
        collected.extend_from_slice(&data);
    }
}

fn too_large(limit: u64, at: u64) -> BodyError {
    BodyError::TooLarge {
        what: "compressed",
        limit,
        at,
    }
}

/// Bytes of the next frame, none of trailers; `None` at the end.
async fn next<B>(mut body: Pin<&mut B>, at: u64) -> Result<Option<Bytes>, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: fmt::Display,
{
    let broken = |problem: &str| BodyError::Broken {
        at,
        problem: printable(problem.as_bytes(), 200),
    };
    match clock::within(SILENCE_TIME_MAX, body.frame()).await {
        Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
        Ok(Some(Err(error))) => Err(broken(&error.to_string())),
        Ok(None) => Ok(None),
        Err(Elapsed) => Err(broken(&format!("nothing came for {SILENCE_TIME_MAX:?}"))),
    }
}

async fn settle(pay: Option<&dyn Pay>, owed: &mut u64) {
    let bytes = std::mem::take(owed);
    if let Some(pay) = pay.filter(|_| bytes > 0) {
        pay.pay(bytes).await;
    }
}

/// Reads a collected body. CPU-bound: large ones are not for a runtime's thread.
pub fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    encoding: Encoding,
    limits: Limits,
) -> Result<T, BodyError> {
    let mut text = Text::new(bytes, encoding, limits)?;
    let mut head = Vec::new();
    let read = (&mut text).take(WHOLE_BYTES_MAX).read_to_end(&mut head);
    read.map_err(|error| text.explain(&error))?;
    if (head.len() as u64) < WHOLE_BYTES_MAX {
        return serde_json::from_slice(&head).map_err(|error| not_json(&error));
    }
    let whole = head.as_slice().chain(&mut text);
    let parsed = serde_json::from_reader(BufReader::with_capacity(BUFFER_BYTES, whole));
    parsed.map_err(|error| match error.io_error_kind() {
        Some(kind) => text.explain(&io::Error::new(kind, error.to_string())),
        None => not_json(&error),
    })
}

/// The parser's own words carry line and column; our senders write one line, so that the column is
/// the byte.
fn not_json(error: &serde_json::Error) -> BodyError {
    BodyError::Json(printable(error.to_string().as_bytes(), 300))
}

impl<'a> Text<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        encoding: Encoding,
        limits: Limits,
    ) -> Result<Self, BodyError> {
        let compressed = bytes.len() as u64;
        if compressed > limits.compressed {
            return Err(BodyError::TooLarge {
                what: "compressed",
                limit: limits.compressed,
                at: limits.compressed,
            });
        }
        let source = match encoding {
            Encoding::Plain => Source::Plain(bytes),
            Encoding::Zstd => Source::Zstd(decoder(bytes).map_err(|error| BodyError::Zstd {
                at: 0,
                problem: error.to_string(),
            })?),
        };
        Ok(Self {
            source,
            limits,
            read: 0,
            compressed,
        })
    }

    /// What a failed read of this text means.
    pub(super) fn explain(&self, error: &io::Error) -> BodyError {
        if self.read > self.limits.decompressed {
            return BodyError::TooLarge {
                what: "decompressed",
                limit: self.limits.decompressed,
                at: self.limits.decompressed,
            };
        }
        let left = match &self.source {
            Source::Plain(rest) => rest.len(),
            Source::Zstd(decoder) => decoder.get_ref().len(),
        };
        BodyError::Zstd {
            at: self.compressed.saturating_sub(left as u64),
            problem: printable(error.to_string().as_bytes(), 200),
        }
    }
}

impl Read for Text<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = match &mut self.source {
            Source::Plain(rest) => rest.read(into),
            Source::Zstd(decoder) => decoder.read(into),
        }?;
        self.read += got as u64;
        if self.read > self.limits.decompressed {
            return Err(io::Error::other("more text than is allowed"));
        }
        Ok(got)
    }
}

fn decoder(bytes: &[u8]) -> io::Result<zstd::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests;
