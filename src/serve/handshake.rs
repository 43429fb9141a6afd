//! The TLS handshake: from accept to Finished, within its time.
//!
//! Called by `worker` for streams of a TLS address.
//!
//! I/O: reads and writes the stream.

use super::alarm::Alarm;
use super::listener::ViewerStream;
use super::session::Session;
use super::session::SessionError;
use super::transport::TlsTransport;
use super::transport::Transport;
use rustls::ServerConfig;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

/// Why there is no session. None of these is worth more than a count.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("no TLS: the first byte is not that of a ClientHello (plain HTTP on a TLS port?)")]
    NotTls,
    #[error("the handshake took too long")]
    Slow,
    #[error("the viewer left during the handshake")]
    Gone,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Session(#[from] SessionError),
}

impl HandshakeError {
    /// The session has an alert for the viewer; a broken stream and a slow viewer get none.
    fn has_alert(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == io::ErrorKind::Other,
            Self::Session(_) => true,
            Self::NotTls | Self::Slow | Self::Gone => false,
        }
    }
}

/// Runs the handshake until the alarm rings.
pub(super) async fn run(
    stream: Box<dyn ViewerStream>,
    config: Arc<ServerConfig>,
    alarm: &mut Alarm,
) -> Result<TlsTransport, HandshakeError> {
    let session = Box::new(Session::new(config)?);
    let stays = false;
    let mut tls = TlsTransport {
        session,
        stream,
        stays,
    };
    loop {
        timed(alarm, |cx| tls.poll_flush(cx)).await?;
        if !tls.session.is_handshaking() {
            return Ok(tls);
        }
        match timed(alarm, |cx| tls.poll_receive(cx)).await {
            Ok(0) => return Err(HandshakeError::Gone),
            Ok(_) => {}
            // A TLS alert would only puzzle whoever reads it as HTTP.
            Err(_) if tls.session.is_not_tls() => return Err(HandshakeError::NotTls),
            Err(error) => {
                if error.has_alert() {
                    Transport::Tls(tls).close(alarm).await;
                }
                return Err(error);
            }
        }
    }
}

async fn timed<T>(
    alarm: &mut Alarm,
    mut work: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
) -> Result<T, HandshakeError> {
    poll_fn(|cx| match work(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome.map_err(HandshakeError::Io)),
        Poll::Pending => alarm.poll(cx).map(|()| Err(HandshakeError::Slow)),
    })
    .await
}
