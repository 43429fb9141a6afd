//! One connection: handshake, then HTTP/1.1 until the box leaves, falls silent or is revoked.
//!
//! I/O: reads and writes the stream.

use super::answer;
use super::listener::Shared;
use super::listener::may_log;
use super::metrics::Counters;
use super::peer::Peer;
use super::requests;
use crate::clock;
use crate::clock::Elapsed;
use crate::help;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use rustls::AlertDescription;
use rustls::CertificateError;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;

pub(super) async fn serve<S>(shared: &Arc<Shared>, stream: S, address: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let time = shared.deps.limits.handshake_time;
    let stream = match clock::within(time, handshake(shared, stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return say(shared, address, &handshake_problem(&error)),
        Err(Elapsed) => return say(shared, address, "the handshake took too long"),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = match Peer::of(chain) {
        Ok(peer) => peer.map(Arc::new),
        Err(refused) => return say(shared, address, &refused.message),
    };
    Counters::add(&shared.counters.handshakes);
    converse(shared, stream, address, peer).await;
}

async fn handshake<S>(shared: &Shared, stream: S) -> std::io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let turn = shared.handshakes.acquire().await;
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.deps.tls));
    let stream = acceptor.accept(stream).await;
    drop(turn);
    stream
}

async fn converse<S>(
    shared: &Arc<Shared>,
    stream: TlsStream<S>,
    address: SocketAddr,
    peer: Option<Arc<Peer>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (shared, peer) = (Arc::clone(shared), peer.clone());
        async move {
            let answer = requests::answer(&shared, address, peer.as_deref(), request).await;
            Ok::<answer::Answer, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.deps.limits.idle)
        .max_buf_size(HEAD_BYTES_MAX)
        // A stranger has one thing to ask.
        .keep_alive(peer.is_some());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let unwanted = async {
        match &peer {
            Some(peer) => until_unwanted(shared, peer).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Cut without a word: what is under way is not answered either.
        why = unwanted => {
            Counters::add(&shared.counters.cut);
            tracing::warn!(%address, "link: connection cut: {why}");
        }
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%address, %error, "link: connection ended early");
            }
        }
    }
}

/// Ends when the registry ceases to want the box, and says why. One that was unwanted from the
/// start is told so by the answer to its first request.
async fn until_unwanted(shared: &Shared, peer: &Peer) -> String {
    let mut registry = shared.deps.registry.clone();
    registry.mark_unchanged();
    loop {
        if registry.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if let Err(refused) = peer.must_be_known(&registry.borrow_and_update()) {
            return refused.message;
        }
    }
}

fn say(shared: &Shared, address: SocketAddr, problem: &str) {
    Counters::add(&shared.counters.handshakes_failed);
    if let Some(left_out) = may_log(&shared.logs.handshakes) {
        tracing::warn!(%address, left_out, "link: no connection: {problem}");
    }
}

/// In the words of an operator.
fn handshake_problem(error: &std::io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => return certificate_problem(problem),
        Some(rustls::Error::AlertReceived(AlertDescription::UnknownCA)) => {
            "the other side does not trust our certificate authority; the box's [control] ca must \
             be this control plane's fingerprint"
                .to_owned()
        }
        Some(other) => other.to_string(),
        None => error.to_string(),
    };
    help::printable(text.as_bytes(), 300)
}

fn certificate_problem(problem: &CertificateError) -> String {
    use CertificateError as C;
    if matches!(problem, C::UnknownIssuer) {
        return "its certificate was not made by our authority: a box of somebody else, or a \
                forgery"
            .to_owned();
    }
    if matches!(problem, C::Expired | C::ExpiredContext { .. }) {
        return "its certificate ended more than 30 days ago; it needs a new token".to_owned();
    }
    if matches!(problem, C::NotValidYet | C::NotValidYetContext { .. }) {
        return "its certificate is not valid yet; compare our clock with the authority's"
            .to_owned();
    }
    let text = format!("its certificate is refused: {problem}");
    help::printable(text.as_bytes(), 300)
}
