//! The box's side of the link: calls with time limits over kept connections.
//!
//! `health` calls it. Heartbeats have a connection of their own, so that a long report never makes
//! a box look dead, manifests have one, so that minutes of download never hold up the report of a
//! withdrawal, and so have the questions of the fill. Every call may be repeated: a kept connection
//! that turns out to be closed is replaced and the call is made once more.
//!
//! I/O: dials through [`Dial`], waits for answers, keeps issued certificates.

use super::Config;
use super::body;
use super::body::Ahead;
use super::body::Encoding;
use super::body::Limits;
use super::body::Pay;
use super::connection;
use super::connection::Answer;
use super::connection::Call;
use super::connection::Connection;
use super::connection::Endpoint;
use super::connection::Failed;
use super::dial::Dial;
use super::identity::Identity;
use super::identity::IdentityError;
use super::manifest;
use super::manifest::Verifier;
use super::message::Enrol;
use super::message::Enrolled;
use super::message::FillSources;
use super::message::FillSourcesRequest;
use super::message::Heartbeat;
use super::message::HeartbeatReply;
use super::message::Position;
use super::message::Refusal;
use super::message::Renew;
use super::message::Report;
use super::message::ReportReply;
use super::message::VERSION;
use super::sources;
use crate::clock;
use crate::help::printable;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::header;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

pub use super::error::LinkError;

/// Shorter than the time between two of them.
const HEARTBEAT_TIME_MAX: Duration = Duration::from_secs(8);

/// 64 MiB at 5 Mb/s, the poorest uplink that a box is placed behind.
const REPORT_TIME_MAX: Duration = Duration::from_secs(120);

/// A certificate is made in milliseconds; the rest is waiting for the database.
const ENROL_TIME_MAX: Duration = Duration::from_secs(30);

/// 3 million keys at 120 kbit/s, which is less than half of any sane cap, and the largest that is
/// taken at twice the least cap. Paying is in it. Whoever sends nothing is given up long before.
const MANIFEST_TIME_MAX: Duration = Duration::from_secs(2 * 3_600);

/// [`sources::LIMITS`] at 1.2 Mbit/s, which a receive buffer of the link brings over 400 ms.
const SOURCES_TIME_MAX: Duration = Duration::from_secs(120);

/// Replies are a few hundred bytes, an issued chain a few thousand.
const REPLY_LIMITS: Limits = Limits {
    compressed: 256 * 1024,
    decompressed: 1024 * 1024,
};

/// A control plane that asks for a longer silence does not mean it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// One box's link. Share it in an `Arc`; heartbeats, manifests, questions of the fill and all else
/// do not wait for each other.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    dial: Arc<dyn Dial>,
    pay: Option<Arc<dyn Pay>>,
    identity: Mutex<Identity>,
    beats: Lane,
    work: Lane,
    manifests: Lane,
    sources: Lane,
}

/// A place for one kept connection, used by one call at a time.
type Lane = tokio::sync::Mutex<Option<Connection>>;

impl Client {
    pub fn new(
        config: &Config,
        identity: Identity,
        dial: Arc<dyn Dial>,
    ) -> Result<Self, LinkError> {
        Ok(Self {
            endpoint: Endpoint::parse(&config.url)?,
            dial,
            pay: None,
            identity: Mutex::new(identity),
            beats: Lane::default(),
            work: Lane::default(),
            manifests: Lane::default(),
            sources: Lane::default(),
        })
    }

    /// Manifests are read no faster than this lets them.
    #[must_use]
    pub fn paid_by(mut self, pay: Arc<dyn Pay>) -> Self {
        self.pay = Some(pay);
        self
    }

    /// As it is: enrolled or not, with its key and its certificate's times.
    pub fn identity(&self) -> Identity {
        let identity = self.identity.lock();
        identity.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For manifests, with the keys that the enrolment brought.
    pub fn verifier(&self) -> Result<Verifier, LinkError> {
        let identity = self.identity();
        let credentials = identity.credentials().ok_or(LinkError::NotEnrolled)?;
        Verifier::new(&credentials.manifest_keys)
            .map_err(|error| IdentityError::Certificate(error.to_string()).into())
    }

    /// Redeems the one-time token. A lost reply is repeated with the same key and token.
    pub async fn enrol(&self, token: &str) -> Result<(), LinkError> {
        let identity = self.identity();
        let request = Enrol {
            v: VERSION,
            token: token.trim().to_owned(),
            csr: identity.csr()?,
        };
        let call = post("/v1/enrol", plain(&request)?);
        let asked = async {
            let endpoint = &self.endpoint;
            let mut connection =
                Connection::open(endpoint, self.dial.as_ref(), &identity, false).await?;
            connection.exchange(&call).await.map_err(Failed::into_inner)
        };
        let answer = self.in_time(ENROL_TIME_MAX, asked).await?;
        let enrolled: Enrolled = self.reply(&answer)?;
        self.accept(enrolled).await
    }

    /// A fresh certificate for the same key.
    pub async fn renew(&self) -> Result<(), LinkError> {
        let request = Renew {
            v: VERSION,
            csr: self.identity().csr()?,
        };
        let call = post("/v1/renew", plain(&request)?);
        let answer = self.call(&self.work, ENROL_TIME_MAX, &call).await?;
        let enrolled: Enrolled = self.reply(&answer)?;
        self.accept(enrolled).await
    }

    /// Compresses on a thread of its own: a full catalogue takes a second.
    pub async fn report(&self, report: Arc<Report>) -> Result<ReportReply, LinkError> {
        let encoded = tokio::task::spawn_blocking(move || body::encode(&*report)).await;
        let encoded = encoded
            .map_err(|error| LinkError::Body(body::BodyError::Json(error.to_string())))?
            .map_err(LinkError::Body)?;
        let call = Call {
            encoding: Encoding::Zstd,
            ..post("/v1/report", encoded.into())
        };
        let answer = self.call(&self.work, REPORT_TIME_MAX, &call).await?;
        let reply: ReportReply = self.reply(&answer)?;
        self.known_version(reply.v).map(|()| reply)
    }

    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatReply, LinkError> {
        let call = post("/v1/heartbeat", plain(heartbeat)?);
        let answer = self.call(&self.beats, HEARTBEAT_TIME_MAX, &call).await?;
        let reply: HeartbeatReply = self.reply(&answer)?;
        self.known_version(reply.v).map(|()| reply)
    }

    /// The signed body for [`Verifier::verify`]; `None` when `have` is what there is.
    pub async fn manifest(&self, have: Option<Position>) -> Result<Option<Vec<u8>>, LinkError> {
        let call = Call {
            method: Method::GET,
            if_none_match: have.map(|position| position.etag()),
            answer_limit: manifest::LIMITS.compressed,
            pay: self.pay.clone(),
            ..post("/v1/manifest", Bytes::new())
        };
        let pay = self.pay.as_deref();
        // From before the request until the answer is read, a new connection and a wait for the
        // lane included.
        let _ahead = pay.map(|pay| Ahead::new(pay, connection::AHEAD_BYTES));
        let answer = self.call(&self.manifests, MANIFEST_TIME_MAX, &call).await?;
        match answer.status {
            StatusCode::NOT_MODIFIED => Ok(None),
            StatusCode::OK => Ok(Some(answer.body.into())),
            _ => Err(self.refused(&answer)),
        }
    }

    /// Who has what is wanted. The reply is within [`sources`]'s bounds, and about the objects of
    /// the question.
    pub async fn fill_sources(
        &self,
        request: &FillSourcesRequest,
    ) -> Result<FillSources, LinkError> {
        sources::check_request(request).map_err(LinkError::Body)?;
        let call = Call {
            answer_limit: sources::LIMITS.compressed,
            ..post("/v1/fill-sources", plain(request)?)
        };
        let answer = self.call(&self.sources, SOURCES_TIME_MAX, &call).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(&answer));
        }
        let request = request.clone();
        // Trees of large objects are megabytes of text.
        let read = tokio::task::spawn_blocking(move || {
            let reply: FillSources = decode_within(&answer, sources::LIMITS)?;
            sources::accept(&request, reply).map_err(body::BodyError::Json)
        });
        let read = read
            .await
            .map_err(|error| self.protocol(error.to_string()))?;
        read.map_err(|error| self.protocol(error.to_string()))
    }

    /// Over the kept connection of a lane, or a fresh one.
    async fn call(&self, lane: &Lane, time: Duration, call: &Call) -> Result<Answer, LinkError> {
        let exchange = async {
            let mut slot = lane.lock().await;
            let identity = self.identity();
            // Taken out: a call that is given up midway leaves no connection in an unknown state.
            let kept = slot.take().filter(|kept| kept.is_good_for(&identity));
            if let Some(mut kept) = kept {
                match kept.exchange(call).await {
                    Ok(answer) => {
                        *slot = Some(kept);
                        return Ok(answer);
                    }
                    Err(Failed::Answering(error)) => return Err(error),
                    Err(Failed::Unanswered(error)) => {
                        tracing::debug!(%error, "a kept connection had ended; dialling again");
                    }
                }
            }
            let dial = self.dial.as_ref();
            let mut fresh = Connection::open(&self.endpoint, dial, &identity, true).await?;
            let answer = fresh.exchange(call).await.map_err(Failed::into_inner)?;
            *slot = Some(fresh);
            Ok(answer)
        };
        self.in_time(time, exchange).await
    }

    async fn in_time<T>(
        &self,
        time: Duration,
        work: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        clock::within(time, work).await.unwrap_or_else(|_| {
            Err(LinkError::Unreachable {
                url: self.endpoint.url.clone(),
                problem: format!("no complete answer within {time:?}"),
            })
        })
    }

    /// Keeps what was issued, on a thread that may wait for the disk.
    async fn accept(&self, enrolled: Enrolled) -> Result<(), LinkError> {
        self.known_version(enrolled.v)?;
        let mut identity = self.identity();
        let accepted = tokio::task::spawn_blocking(move || {
            identity.accept(&enrolled)?;
            Ok::<_, IdentityError>(identity)
        });
        let identity = accepted
            .await
            .map_err(|error| IdentityError::Library(error.to_string()))??;
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(())
    }

    fn reply<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, LinkError> {
        if answer.status != StatusCode::OK {
            return Err(self.refused(answer));
        }
        decode(answer).map_err(|error| self.protocol(error.to_string()))
    }

    fn refused(&self, answer: &Answer) -> LinkError {
        let Ok(refusal) = decode::<Refusal>(answer) else {
            let status = answer.status;
            return self.protocol(format!("status {status} without a refusal in the body"));
        };
        LinkError::Refused {
            url: self.endpoint.url.clone(),
            code: refusal.error.code,
            message: printable(refusal.error.message.as_bytes(), 500),
            retry_after: retry_after(&answer.headers),
        }
    }

    fn known_version(&self, v: u64) -> Result<(), LinkError> {
        if v == VERSION {
            Ok(())
        } else {
            Err(self.protocol(format!("version {v} in a reply; this box speaks {VERSION}")))
        }
    }

    fn protocol(&self, problem: String) -> LinkError {
        LinkError::Protocol {
            url: self.endpoint.url.clone(),
            problem,
        }
    }
}

impl Failed {
    fn into_inner(self) -> LinkError {
        match self {
            Self::Unanswered(error) | Self::Answering(error) => error,
        }
    }
}

fn post(path: &'static str, body: Bytes) -> Call {
    Call {
        method: Method::POST,
        path,
        if_none_match: None,
        body,
        encoding: Encoding::Plain,
        answer_limit: REPLY_LIMITS.compressed,
        pay: None,
    }
}

/// Small bodies are not worth a compressor's set-up on either side.
fn plain(body: &impl Serialize) -> Result<Bytes, LinkError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| LinkError::Body(body::BodyError::Json(error.to_string())))
}

fn decode<T: DeserializeOwned>(answer: &Answer) -> Result<T, body::BodyError> {
    decode_within(answer, REPLY_LIMITS)
}

fn decode_within<T: DeserializeOwned>(
    answer: &Answer,
    limits: Limits,
) -> Result<T, body::BodyError> {
    let header = answer.headers.get(header::CONTENT_ENCODING);
    let encoding = Encoding::of(header.map(header::HeaderValue::as_bytes))?;
    body::decode(&answer.body, encoding, limits)
}

/// Whole seconds (RFC 9110 section 10.2.3); a date is not in the contract.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
