//! What a box is told: JSON, a manifest, or a refusal with its code and a sentence.

use super::ManifestBody;
use super::OriginBody;
use crate::control::fleet::Refused;
use crate::link::message;
use crate::link::message::Code;
use crate::link::message::Problem;
use crate::link::message::Refusal;
use crate::origin::OriginError;
use bytes::Buf as _;
use bytes::Bytes;
use bytes::buf::Chain;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::Either;
use http_body_util::Full;
use http_body_util::StreamBody;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::header;
use hyper::header::HeaderValue;
use serde::Serialize;

/// Two pieces, so that a manifest's rows are shared by everybody who is fetching them.
type Piece = Chain<Bytes, Bytes>;

/// Whole, or as it is read.
pub(super) type Answer = Response<Either<Full<Piece>, StreamBody<Pieces>>>;

type Pieces = BoxStream<'static, Result<Frame<Piece>, OriginError>>;

pub(super) fn json(body: &impl Serialize) -> Answer {
    write(StatusCode::OK, body)
}

pub(super) fn refusal(refused: &Refused) -> Answer {
    let body = Refusal {
        v: message::VERSION,
        error: Problem {
            code: refused.code,
            message: refused.message.clone(),
        },
    };
    let mut answer = write(status(refused.code), &body);
    if let Some(after) = refused.retry_after {
        // At least 1: zero would mean at once.
        let seconds = after.as_secs().max(1);
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

pub(super) fn manifest(found: ManifestBody, has: Option<&HeaderValue>) -> Answer {
    let position = found.position;
    let tag = format!("\"{}.{}\"", position.epoch, position.generation);
    let is_same = has.is_some_and(|has| has.as_bytes() == tag.as_bytes());
    let mut answer = match is_same {
        true => whole(Bytes::new()),
        false => Response::new(Either::Left(Full::new(found.envelope.chain(found.rows)))),
    };
    if is_same {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = answer.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    answer
}

/// An object of the origin, as it is read; it ends early if its file changes meanwhile.
pub(super) fn origin(body: OriginBody) -> Answer {
    let length = body.length;
    let sent = body.part.map_or(length, |(first, last)| last - first + 1);
    let pieces = body.pieces;
    let frames = pieces.map(|piece| Ok(Frame::data(piece?.chain(Bytes::new()))));
    let mut answer = Response::new(Either::Right(StreamBody::new(frames.boxed())));
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(sent));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Ok(tag) = HeaderValue::from_str(&body.etag) {
        headers.insert(header::ETAG, tag);
    }
    if let Some((first, last)) = body.part {
        let text = format!("bytes {first}-{last}/{length}");
        if let Ok(range) = HeaderValue::from_str(&text) {
            headers.insert(header::CONTENT_RANGE, range);
        }
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    answer
}

/// The range lies behind the end of an object.
pub(super) fn unsatisfiable(length: u64) -> Answer {
    let mut answer = whole(Bytes::new());
    *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{length}")) {
        answer.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    answer
}

/// What is asked for is not there any more: something else is.
pub(super) fn changed() -> Answer {
    let mut answer = whole(Bytes::new());
    *answer.status_mut() = StatusCode::PRECONDITION_FAILED;
    answer
}

fn whole(body: Bytes) -> Answer {
    Response::new(Either::Left(Full::new(body.chain(Bytes::new()))))
}

fn status(code: Code) -> StatusCode {
    match code {
        Code::BadRequest => StatusCode::BAD_REQUEST,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::WrongDigest | Code::WrongPosition => StatusCode::CONFLICT,
        Code::Identity | Code::Token | Code::Quarantined => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Busy => StatusCode::TOO_MANY_REQUESTS,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn write(status: StatusCode, body: &impl Serialize) -> Answer {
    let kind = HeaderValue::from_static("application/json");
    // Our own types always serialise; an empty body is an answer that the box refuses.
    let mut answer = whole(serde_json::to_vec(body).unwrap_or_default().into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
