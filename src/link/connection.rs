//! One connection to the control plane: TLS, then one HTTP/1.1 exchange after another.
//!
//! [`super::client`] makes one when it has none and drops it after any failure. It never retries
//! and never waits longer than its caller lets it.
//!
//! I/O: dials, reads and writes; one task drives each connection and ends with it.

use super::body;
use super::body::BodyError;
use super::body::Encoding;
use super::body::PAID_TOGETHER;
use super::body::Pay;
use super::dial::Dial;
use super::dial::RECEIVE_BUFFER_BYTES;
use super::error::LinkError;
use super::identity::Credentials;
use super::identity::Identity;
use super::trust;
use crate::clock;
use crate::clock::Elapsed;
use crate::help::printable;
use bytes::Bytes;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::StatusCode;
use hyper::Uri;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// For name, TCP and TLS together.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);

/// Of an answer, read before anybody has paid for it; a head must fit.
const READ_AHEAD_BYTES: usize = 32 << 10;

/// Of a long answer, before anybody pays for it: what the kernel (a receive buffer and the frames
/// in it), TLS (a record or two) and [`READ_AHEAD_BYTES`] hold, and a piece. 185 KB were measured.
pub(super) const AHEAD_BYTES: u64 = 190_000;

const _: () = {
    let held = RECEIVE_BUFFER_BYTES as u64 + 2 * (16 << 10) + READ_AHEAD_BYTES as u64;
    assert!(AHEAD_BYTES >= held + READ_AHEAD_BYTES as u64 + PAID_TOGETHER);
};

/// For a connection that failed to tell us why.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);

/// Where the control plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// As configured; for messages.
    pub(super) url: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) server_name: ServerName<'static>,
}

/// What to ask.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) if_none_match: Option<String>,
    pub(super) body: Bytes,
    pub(super) encoding: Encoding,
    /// Bytes of the answer's body as they come.
    pub(super) answer_limit: u64,
    /// `None`: short, or paid for before it was asked.
    pub(super) pay: Option<Arc<dyn Pay>>,
}

/// What came back, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Before a single byte of an answer: a kept connection may have been closed meanwhile.
    Unanswered(LinkError),
    Answering(LinkError),
}

#[derive(Debug)]
pub(super) struct Connection {
    url: String,
    host: String,
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    /// What it was authenticated with.
    credentials: Option<Arc<Credentials>>,
}

/// Ends with its connection.
#[derive(Debug)]
struct Driver(JoinHandle<hyper::Result<()>>);

impl Endpoint {
    pub(super) fn parse(url: &str) -> Result<Self, LinkError> {
        let refused = || LinkError::Url(printable(url.as_bytes(), 200));
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let plain = uri.scheme_str() == Some("https")
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && !authority.as_str().contains('@');
        if !plain {
            return Err(refused());
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => 443,
            Some(_) | None => authority.port_u16().ok_or_else(refused)?,
        };
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            host: bare.to_owned(),
            port,
            server_name: ServerName::try_from(bare.to_owned()).map_err(|_| refused())?,
        })
    }
}

impl Connection {
    /// With the box's certificate, or without one for the enrolment.
    pub(super) async fn open(
        endpoint: &Endpoint,
        dial: &dyn Dial,
        identity: &Identity,
        with_certificate: bool,
    ) -> Result<Self, LinkError> {
        let config = trust::client_config(identity, with_certificate)?;
        let unreachable = |problem: String| LinkError::Unreachable {
            url: endpoint.url.clone(),
            problem,
        };
        let opening = async {
            let stream = dial
                .dial(&endpoint.host, endpoint.port)
                .await
                .map_err(|error| unreachable(printable(error.to_string().as_bytes(), 300)))?;
            let tls = TlsConnector::from(config)
                .connect(endpoint.server_name.clone(), stream)
                .await
                .map_err(|error| trust::explain(&endpoint.url, &error))?;
            http1::Builder::new()
                .max_buf_size(READ_AHEAD_BYTES)
                .handshake(TokioIo::new(tls))
                .await
                .map_err(|error| trust::explain(&endpoint.url, &error))
        };
        let (sender, connection) = clock::within(CONNECT_TIME_MAX, opening)
            .await
            .map_err(|_| unreachable(format!("no connection within {CONNECT_TIME_MAX:?}")))??;
        let credentials = identity.credentials().filter(|_| with_certificate).cloned();
        Ok(Self {
            url: endpoint.url.clone(),
            host: host_header(endpoint),
            sender,
            driver: Driver(tokio::spawn(connection)),
            credentials,
        })
    }

    /// Can it be used for this identity, as far as we know?
    pub(super) fn is_good_for(&self, identity: &Identity) -> bool {
        let same = match (&self.credentials, identity.credentials()) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (Some(_), None) | (None, Some(_) | None) => false,
        };
        same && !self.sender.is_closed()
    }

    /// One request and its whole answer.
    pub(super) async fn exchange(&mut self, call: &Call) -> Result<Answer, Failed> {
        let request = self.request(call)?;
        let asking = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response = match clock::within(body::SILENCE_TIME_MAX, asking).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failed::Unanswered(self.last_words(&error).await)),
            Err(Elapsed) => return Err(Failed::Answering(self.silent(call))),
        };
        let (head, stream) = response.into_parts();
        let body = body::collect(stream, call.answer_limit, call.pay.as_deref())
            .await
            .map_err(|error| Failed::Answering(self.bad_answer(call, &error)))?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Failed> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(call.path)
            .header(header::HOST, &self.host)
            .header(
                header::USER_AGENT,
                concat!("oca/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::ACCEPT_ENCODING, "zstd");
        if call.method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/json");
            if call.encoding == Encoding::Zstd {
                request = request.header(header::CONTENT_ENCODING, "zstd");
            }
        }
        if let Some(tag) = &call.if_none_match {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        request.body(Full::new(call.body.clone())).map_err(|error| {
            Failed::Answering(LinkError::Protocol {
                url: self.url.clone(),
                problem: error.to_string(),
            })
        })
    }

    /// A TLS alert reaches the task that drives the connection, not always the request.
    async fn last_words(&mut self, error: &hyper::Error) -> LinkError {
        let first = trust::explain(&self.url, error);
        if !first.is_unreachable() {
            return first;
        }
        match clock::within(LAST_WORDS_TIME_MAX, &mut self.driver.0).await {
            Ok(Ok(Err(ended))) => {
                let second = trust::explain(&self.url, &ended);
                if second.is_unreachable() {
                    first
                } else {
                    second
                }
            }
            Ok(Ok(Ok(())) | Err(_)) | Err(_) => first,
        }
    }

    fn silent(&self, call: &Call) -> LinkError {
        let (method, path, time) = (&call.method, call.path, body::SILENCE_TIME_MAX);
        LinkError::Unreachable {
            url: self.url.clone(),
            problem: format!("{method} {path}: no answer within {time:?}"),
        }
    }

    fn bad_answer(&self, call: &Call, error: &BodyError) -> LinkError {
        let url = self.url.clone();
        let problem = format!("{} {}: {error}", call.method, call.path);
        match error {
            BodyError::Broken { .. } => LinkError::Unreachable { url, problem },
            BodyError::TooLarge { .. }
            | BodyError::Zstd { .. }
            | BodyError::Json(_)
            | BodyError::Encoding(_) => LinkError::Protocol { url, problem },
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn host_header(endpoint: &Endpoint) -> String {
    let host = if endpoint.host.contains(':') {
        format!("[{}]", endpoint.host)
    } else {
        endpoint.host.clone()
    };
    match endpoint.port {
        443 => host,
        port => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port_and_other_things_are_refused() {
        let endpoint = |url: &str| Endpoint::parse(url).unwrap();
        let named = endpoint("https://control.example.net/");
        assert_eq!(
            (named.host.as_str(), named.port),
            ("control.example.net", 443)
        );
        assert_eq!(host_header(&named), "control.example.net");
        let ported = endpoint("https://control.example.net:8443");
        assert_eq!(host_header(&ported), "control.example.net:8443");
        let six = endpoint("https://[2001:db8::1]:8443");
        assert_eq!((six.host.as_str(), six.port), ("2001:db8::1", 8443));
        assert_eq!(host_header(&six), "[2001:db8::1]:8443");
        assert_eq!(endpoint("https://[2001:db8::1]").port, 443);
        for bad in [
            "",
            "control.example.net",
            "http://control.example.net",
            "https://control.example.net/v1",
            "https://control.example.net?x",
            "https://user@control.example.net",
            "https://control.example.net:99999",
            "https://control.example.net:",
            "https://",
            "https://a b",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
