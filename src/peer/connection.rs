//! One connection: handshake, who is it, then HTTP/1.1 until it leaves, falls silent or is cut.
//!
//! I/O: reads and writes the stream.

use super::body::Body;
use super::counters::Counters;
use super::crowd::Full;
use super::crowd::Place;
use super::listener::Shared;
use super::net::ByteStream;
use super::refusal::Reason;
use super::refusal::Refused;
use super::request;
use super::stream::Watched;
use crate::clock;
use crate::help::printable;
use crate::ids::BoxId;
use crate::link::peering;
use crate::task::Phase;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use std::convert::Infallible;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Request line and headers: a ticket of 8 KiB and little else. It bounds hyper's write buffer too,
/// so that no second piece is copied before the first has almost left.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Each request has some ten.
const HEADERS_MAX: usize = 64;

/// `stranger` is its place until it is known which box it is.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    stream: Box<dyn ByteStream>,
    remote: SocketAddr,
    stranger: Place<IpAddr>,
) {
    let (stream, asker) = match shake_hands(shared, stream).await {
        Ok(met) => met,
        Err((reason, message)) => return shared.refuse(reason, &remote.to_string(), &message),
    };
    let refusal = match shared.askers.enter(asker.clone()) {
        Ok(place) if shared.deps.phase.now() == Phase::Serving => {
            drop(stranger);
            Counters::add(&shared.counters.connections, 1);
            converse(shared, stream, &asker, None).await;
            drop(place);
            return;
        }
        Ok(_) => (Reason::Stopping, request::STOPPING),
        Err(Full::House) => (Reason::Crowded, "all connections are taken; come again"),
        Err(Full::Visitor) => (Reason::Asker, "your box has too many connections here"),
    };
    // Told in words, at a stranger's place, by the answer to one request; whoever does not ask is
    // not told.
    let told = converse(shared, stream, &asker, Some(refusal));
    let _ = clock::within(shared.deps.limits.handshake, told).await;
    drop(stranger);
}

/// TLS, and the name in the certificate of the other end.
async fn shake_hands(
    shared: &Shared,
    stream: Box<dyn ByteStream>,
) -> Result<(TlsStream<Watched>, BoxId), (Reason, String)> {
    let Some((identity, _)) = (shared.deps.identity)() else {
        let message = "this box is not enrolled yet, and has no certificate to show";
        return Err((Reason::NotEnrolled, message.to_owned()));
    };
    let config = shared.credentials.config(&identity);
    let config = config.map_err(|problem| (Reason::NotEnrolled, problem))?;
    let limits = shared.deps.limits;
    let accepting = TlsAcceptor::from(config).accept(Watched::new(stream, limits.stall));
    let failed = |message: String| (Reason::Handshake, message);
    let stream = match clock::within(limits.handshake, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let problem = printable(error.to_string().as_bytes(), 300);
            return Err(failed(format!("no handshake: {problem}")));
        }
        Err(_) => return Err(failed("the handshake took too long".to_owned())),
    };
    let chain = stream.get_ref().1.peer_certificates();
    let asker = chain.and_then(|chain| peering::box_of(chain.first()?));
    match asker {
        Some(asker) => Ok((stream, asker)),
        None => Err(failed("the certificate names no box".to_owned())),
    }
}

/// HTTP until either end has had enough; with `refusal`, one request.
async fn converse(
    shared: &Arc<Shared>,
    stream: TlsStream<Watched>,
    asker: &BoxId,
    refusal: Option<(Reason, &'static str)>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, asker) = (Arc::clone(shared), asker.clone());
        async move {
            let response = match refusal {
                None => request::answer(&shared, &asker, request).await,
                Some((reason, message)) => refuse(&shared, &asker, &request, reason, message),
            };
            Ok::<Response<Body>, Infallible>(response)
        }
    });
    let limits = shared.deps.limits;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(refusal.is_none());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut phase = shared.deps.phase.clone();
    let mut leaving = pin!(async {
        tokio::select! {
            phase = phase.leaving() => phase,
            () = clock::sleep(limits.connection) => Phase::Serving,
        }
    });
    // However little an asker reads at a time.
    let mut end = pin!(clock::sleep(limits.connection + limits.response));
    let mut is_leaving = refusal.is_some();
    let ended = loop {
        tokio::select! {
            ended = &mut connection => break ended,
            () = &mut end => {
                let message = "the connection was cut at the end of its time";
                return shared.refuse(Reason::TooLong, asker.as_str(), message);
            }
            phase = &mut leaving, if !is_leaving => {
                is_leaving = true;
                if phase == Phase::Stopped {
                    return;
                }
                // What is under way may end; `listener` cuts it at the deadline.
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        let (reason, message) = judge(&error);
        shared.refuse(reason, asker.as_str(), &message);
    }
}

fn refuse(
    shared: &Shared,
    asker: &BoxId,
    request: &Request<Incoming>,
    reason: Reason,
    message: &str,
) -> Response<Body> {
    shared.refuse(reason, asker.as_str(), message);
    let is_head = request.method() == Method::HEAD;
    Refused::new(reason, message).response(is_head, true)
}

/// Why a connection did not end as it should.
fn judge(error: &hyper::Error) -> (Reason, String) {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    let mut is_stalled = false;
    while let Some(inner) = cause {
        let stalled = inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(|inner| inner.kind() == std::io::ErrorKind::TimedOut);
        is_stalled |= stalled;
        words = inner.to_string();
        cause = inner.source();
    }
    let reason = if is_stalled {
        Reason::Stalled
    } else if error.is_parse() || error.is_timeout() {
        Reason::Head
    } else {
        Reason::Broken
    };
    (reason, printable(words.as_bytes(), 300))
}
