//! One request of a viewer and its answer: always JSON, always readable from any web page.
//!
//! I/O: reads request bodies.

use super::listener::Shared;
use crate::clock;
use crate::control::steer::QuestionError;
use crate::control::steer::RawQuestion;
use axum::extract::Query;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::Uri;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;

/// 100 keys of the greatest length, quoted, and their commas.
const BODY_BYTES_MAX: usize = 128 * 1024;

const STEER_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const TITLE: &str = "/v1/title/";

const READ_METHODS: &str = "GET, HEAD, OPTIONS";

/// Pages of any origin may ask; the answer depends on nothing that a browser keeps.
const COMMON: [(HeaderName, &str); 4] = [
    (header::CONTENT_TYPE, "application/json"),
    (header::CACHE_CONTROL, "no-store"),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (HeaderName::from_static("timing-allow-origin"), "*"),
];

/// For preflights: a day, which browsers shorten to their own maximum.
const PREFLIGHT: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, STEER_METHODS),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type"),
    (header::ACCESS_CONTROL_MAX_AGE, "86400"),
];

pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request is refused, with the sentence for whoever wrote the client.
struct Refusal {
    status: StatusCode,
    message: String,
    allow: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            allow: None,
        }
    }
}

impl From<QuestionError> for Refusal {
    fn from(error: QuestionError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

pub(super) async fn answer(
    shared: &Shared,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Answer {
    let answered = match (request.method(), request.uri().path()) {
        (&Method::OPTIONS, _) => Ok(preflight()),
        (&Method::GET | &Method::HEAD, "/v1/steer") => steer(shared, peer, request.uri()),
        (&Method::POST, "/v1/steer") => steer_many(shared, peer, request).await,
        (&Method::GET | &Method::HEAD, "/v1/health") => Ok(health(shared)),
        (&Method::GET | &Method::HEAD, path) if path.starts_with(TITLE) => {
            title(shared, &path[TITLE.len()..])
        }
        (_, path) if path.starts_with(TITLE) => Err(not_allowed(READ_METHODS)),
        (_, "/v1/steer") => Err(not_allowed(STEER_METHODS)),
        (_, "/v1/health") => Err(not_allowed(READ_METHODS)),
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "there is nothing here; ask GET /v1/steer?client=<address>&key=<key>",
        )),
    };
    let answer = answered.unwrap_or_else(refused);
    let status = answer.status();
    let is_refused = status.is_client_error() || status.is_server_error();
    shared.counters.answered(is_refused);
    answer
}

fn steer(shared: &Shared, peer: SocketAddr, uri: &Uri) -> Result<Answer, Refusal> {
    let question = read(uri)?;
    let steering = &shared.deps.steering;
    let value = steering.question(&question, Some(peer.ip()), clock::wall())?;
    Ok(said(StatusCode::OK, &value))
}

async fn steer_many(
    shared: &Shared,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let question = read(request.uri())?;
    let body = collect(shared, request.into_body()).await?;
    let keys: Vec<String> = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("the body is not a JSON array of keys: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, message)
    })?;
    let steering = &shared.deps.steering;
    let value = steering.questions(&question, &keys, Some(peer.ip()), clock::wall())?;
    Ok(said(StatusCode::OK, &value))
}

/// Ready once there is a snapshot; before that players had better ask another control plane.
fn health(shared: &Shared) -> Answer {
    let snapshot = shared.deps.steering.snapshot();
    let (boxes, open) = snapshot.boxes();
    let ready = snapshot.generation > 0;
    let value = json!({
        "v": 1,
        "ready": ready,
        "generation": snapshot.generation,
        "server_time": clock::wall().to_string(),
        "boxes": boxes,
        "open": open,
        "prefixes": snapshot.prefixes(),
    });
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    said(status, &value)
}

/// May the title be shown? Titles have no letters that a URL would encode.
fn title(shared: &Shared, name: &str) -> Result<Answer, Refusal> {
    let standing = shared.deps.liveness.title(name, clock::wall());
    let standing = standing.ok_or_else(|| {
        let message = "nothing with this title was imported; it is the first segment of its keys";
        Refusal::new(StatusCode::NOT_FOUND, message)
    })?;
    let value = json!({
        "v": 1,
        "title": standing.title,
        "live": standing.live,
        "regions": standing.regions,
    });
    Ok(said(StatusCode::OK, &value))
}

/// The parameters of a URL. Unknown ones are left alone, because players add their own; one that
/// comes twice is refused, because nobody could say which counts.
fn read(uri: &Uri) -> Result<RawQuestion, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| bad(format!("the query cannot be read: {error}")))?;
    let mut question = RawQuestion::default();
    for (name, value) in pairs {
        let field = match name.as_str() {
            "client" => &mut question.client,
            "key" => &mut question.key,
            "n" => &mut question.n,
            "at" => &mut question.at,
            "family" => &mut question.family,
            "explain" => &mut question.explain,
            "session" => &mut question.session,
            _ => continue,
        };
        if field.replace(value).is_some() {
            return Err(bad(format!("`{name}=` is given twice; give it once")));
        }
    }
    Ok(question)
}

async fn collect(shared: &Shared, body: Incoming) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body has more than {BODY_BYTES_MAX} bytes; ask for fewer keys");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let limited = Limited::new(body, BODY_BYTES_MAX).collect();
    match clock::within(shared.deps.limits.body_time, limited).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the body ended early; send it whole",
        )),
        Err(clock::Elapsed) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body took too long; send it at once",
        )),
    }
}

fn not_allowed(allow: &'static str) -> Refusal {
    Refusal {
        allow: Some(allow),
        ..Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("this method is not served here; use one of {allow}"),
        )
    }
}

fn refused(refusal: Refusal) -> Answer {
    let value = json!({ "v": 1, "error": refusal.message });
    let mut answer = said(refusal.status, &value);
    if let Some(allow) = refusal.allow {
        let headers = answer.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    // What is left of a body that was not read would be taken for the next request.
    let unread = [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::REQUEST_TIMEOUT];
    if unread.contains(&refusal.status) {
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn preflight() -> Answer {
    let mut answer = said(StatusCode::NO_CONTENT, &Value::Null);
    *answer.body_mut() = Full::default();
    answer.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in PREFLIGHT {
        let value = HeaderValue::from_static(value);
        answer.headers_mut().insert(name, value);
    }
    answer
}

fn said(status: StatusCode, value: &Value) -> Answer {
    let mut text = value.to_string();
    text.push('\n');
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    for (name, value) in COMMON {
        let value = HeaderValue::from_static(value);
        answer.headers_mut().insert(name, value);
    }
    answer
}
