//! Answers: JSON that carries `"v":1`, errors as `{"v":1,"error":…}`.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;
use std::fmt::Write as _;

/// An answer other than 200, with the sentence for the operator.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub message: String,
}

impl Failure {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        json_response(self.status, &json!({"v": 1, "error": self.message}))
    }
}

/// 200. An object gets `"v":1`; anything else is wrapped into one as `value`.
pub fn ok(value: Value) -> Response {
    let body = match value {
        Value::Object(mut members) => {
            members.insert("v".to_owned(), Value::from(1));
            Value::Object(members)
        }
        Value::Null => json!({"v": 1}),
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            json!({"v": 1, "value": other})
        }
    };
    json_response(StatusCode::OK, &body)
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut text = terminal_safe(&body.to_string());
    text.push('\n');
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
}

/// DEL and the C1 control characters are legal inside JSON strings but steer terminals, and these
/// answers are often read on one; they are escaped, which says the same.
fn terminal_safe(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 1);
    for char in json.chars() {
        if matches!(char, '\u{7f}'..='\u{9f}') {
            let _ = write!(text, "\\u{:04x}", u32::from(char));
        } else {
            text.push(char);
        }
    }
    text
}
