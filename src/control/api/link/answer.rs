//! What a box is told: JSON, a manifest, or a refusal with its code and a sentence.

use super::ManifestBody;
use crate::control::fleet::Refused;
use crate::link::message;
use crate::link::message::Code;
use crate::link::message::Problem;
use crate::link::message::Refusal;
use bytes::Buf as _;
use bytes::Bytes;
use bytes::buf::Chain;
use http_body_util::Full;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use serde::Serialize;

/// Two pieces, so that a manifest's rows are shared by everybody who is fetching them.
pub(super) type Answer = Response<Full<Chain<Bytes, Bytes>>>;

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
        false => Response::new(Full::new(found.envelope.chain(found.rows))),
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

fn whole(body: Bytes) -> Answer {
    Response::new(Full::new(body.chain(Bytes::new())))
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
