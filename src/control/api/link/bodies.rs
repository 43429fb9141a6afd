//! Bodies of boxes, read within limits: bytes as they come, bytes once unpacked, time, and how
//! many large ones at once (SAFETY: bodies).
//!
//! I/O: reads bodies; large ones are unpacked on blocking threads.

use super::limits::HeavyPlace;
use super::listener::Shared;
use crate::clock;
use crate::clock::Elapsed;
use crate::control::fleet::Refused;
use crate::ids::BoxId;
use crate::link::body;
use crate::link::body::BodyError;
use crate::link::body::Encoding;
use crate::link::message::Code;
use bytes::Bytes;
use hyper::Request;
use hyper::body::Body as _;
use hyper::body::Incoming;
use hyper::header;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Bodies up to this many bytes are read by everybody at once.
const SMALL: u64 = 128 * 1024;

/// Text up to this many bytes is read where it arrives, in about a millisecond.
const SMALL_TEXT: u64 = 256 * 1024;

/// For a body without anything large in it: heartbeats, enrolments, renewals.
pub(super) const TINY: body::Limits = body::Limits {
    compressed: 32 * 1024,
    decompressed: 64 * 1024,
};

/// For any body to come in, before its length counts.
const READ_TIME: Duration = Duration::from_secs(10);

/// What a box must send at least, so that a place among the large bodies is not held for ever.
const BYTES_PER_SECOND_MIN: u64 = 128 * 1024;

/// When a box whose large body found no place is to come again.
const PLACE_RETRY: Duration = Duration::from_secs(15);

/// A body that was read and not yet believed.
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Bytes,
    encoding: Encoding,
    /// Held until the body is unpacked and gone.
    place: Option<HeavyPlace>,
}

/// Reads a body in which nothing is large: of anybody, at once.
pub(super) async fn read_tiny(request: Request<Incoming>) -> Result<Packed, Refused> {
    let limit = TINY.compressed;
    let length = length(&request, limit)?;
    collect(request, limit, length, None).await
}

/// Reads a box's body of at most `limit` bytes.
pub(super) async fn read(
    shared: &Shared,
    id: &BoxId,
    request: Request<Incoming>,
    limit: u64,
) -> Result<Packed, Refused> {
    let length = length(&request, limit)?;
    let place = match length > SMALL {
        true => Some(place(shared, id)?),
        false => None,
    };
    collect(request, limit, length, place).await
}

/// As said before the body comes.
fn length(request: &Request<Incoming>, limit: u64) -> Result<u64, Refused> {
    // Without a length it may become as large as any.
    let length = request.body().size_hint().exact().unwrap_or(limit);
    if length <= limit {
        return Ok(length);
    }
    let message = format!("{length} bytes of body; at most {limit} are taken");
    Err(Refused::new(Code::TooLarge, message))
}

async fn collect(
    request: Request<Incoming>,
    limit: u64,
    length: u64,
    place: Option<HeavyPlace>,
) -> Result<Packed, Refused> {
    let header = request.headers().get(header::CONTENT_ENCODING);
    let encoding = Encoding::of(header.map(header::HeaderValue::as_bytes)).map_err(told)?;
    let time = READ_TIME + Duration::from_secs(length / BYTES_PER_SECOND_MIN);
    let collected = body::collect(request.into_body(), limit, None);
    let bytes = match clock::within(time, collected).await {
        Ok(bytes) => bytes.map_err(told)?,
        Err(Elapsed) => {
            let message = "the body came too slowly; look at the box's uplink";
            return Err(Refused::new(Code::BadRequest, message));
        }
    };
    Ok(Packed {
        bytes,
        encoding,
        place,
    })
}

/// Unpacks a tiny body.
pub(super) fn tiny<T: DeserializeOwned>(packed: &Packed) -> Result<T, Refused> {
    body::decode(&packed.bytes, packed.encoding, TINY).map_err(told)
}

/// Unpacks a body of any size and makes something of it, on another thread if it is large.
pub(super) async fn unpack<T, R>(
    shared: &Shared,
    id: &BoxId,
    packed: Packed,
    make: impl FnOnce(T) -> Result<R, Refused> + Send + 'static,
) -> Result<R, Refused>
where
    T: DeserializeOwned + Send + 'static,
    R: Send + 'static,
{
    let mut packed = packed;
    if packed.place.is_none() {
        let limits = body::Limits {
            compressed: SMALL,
            decompressed: SMALL_TEXT,
        };
        match body::decode(&packed.bytes, packed.encoding, limits) {
            Ok(value) => return make(value),
            Err(error) if error.code() == Code::TooLarge => {
                packed.place = Some(place(shared, id)?);
            }
            Err(error) => return Err(told(error)),
        }
    }
    let limits = shared.deps.bodies;
    let work = tokio::task::spawn_blocking(move || {
        let value = body::decode(&packed.bytes, packed.encoding, limits).map_err(told)?;
        let made = make(value);
        drop(packed);
        made
    });
    work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "link: reading a body failed");
        Err(Refused::new(Code::Internal, "reading the body failed"))
    })
}

fn place(shared: &Shared, id: &BoxId) -> Result<HeavyPlace, Refused> {
    let place = shared.large_bodies.enter(id, &shared.deps.limits);
    place.ok_or_else(|| {
        let message = "many large bodies are under way, or another one of this box; this one is \
                       to wait its turn";
        // Spread, so that they do not come back together.
        let more = Duration::from_secs(fastrand::u64(0..15));
        Refused::busy(message, PLACE_RETRY + more)
    })
}

fn told(error: BodyError) -> Refused {
    Refused::new(error.code(), error.to_string())
}
