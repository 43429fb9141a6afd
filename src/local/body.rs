//! The body of a command: read within bounds, parsed once.
//!
//! I/O: waits for the peer's bytes.

use super::Failure;
use crate::clock;
use crate::help;
use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Commands are a few words.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// For the whole body, from the end of the head.
pub(super) const BODY_TIME: Duration = Duration::from_secs(5);

/// At most `most` bytes, for most commands [`BODY_BYTES_MAX`].
pub async fn read(body: Body, most: usize) -> Result<Vec<u8>, Failure> {
    let whole = Limited::new(body, most).collect();
    match clock::within(BODY_TIME, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body has more than {most} bytes");
            Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Ok(Err(error)) => Err(bad(format!("the body cannot be read: {error}"))),
        Err(_) => {
            let seconds = BODY_TIME.as_secs();
            let message = format!("the body did not arrive within {seconds} s");
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

/// No body means nothing to say.
pub fn optional<T: DeserializeOwned + Default>(body: Vec<u8>) -> Result<T, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    parse(&body)
}

pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let problem = help::printable(error.to_string().as_bytes(), 200);
        bad(format!("the body is not the expected JSON: {problem}"))
    })
}

fn bad(message: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, message)
}
