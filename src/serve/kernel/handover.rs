//! The moment at which rustls ends: its keys go to the kernel (transmit) and to `records`
//! (receive), and the ciphertext that nobody has read goes along.
//!
//! `exchange` and `carrier` ask for it before each large body, until it has happened or cannot.

use super::BODY_BYTES_MIN;
use super::Counts;
use super::Offload;
use super::Path;
use super::Wanted;
use super::Why;
use super::opened::Opened;
use super::records::Records;
use super::transport::KernelTransport;
use crate::serve::connection::Connection;
use crate::serve::counters::Refusal;
use crate::serve::session::Session;
use crate::serve::session::SessionError;
use crate::serve::transport::TlsTransport;
use crate::serve::transport::Transport;
use crate::sys::ktls::TransmitKey;
use crate::sys::ktls::Version;
use crate::tls::record;
use crate::tls::record::Key;
use rustls::ConnectionTrafficSecrets as Secrets;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

/// What a session becomes.
pub(in crate::serve) struct Given {
    pub(in crate::serve) key: TransmitKey,
    pub(in crate::serve) opened: Opened,
}

/// What became of a session before a large body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Handover {
    /// The path was settled before, or the next large body will ask again.
    Unchanged,
    Kernel,
    Stays(Why),
    /// It would stay, and may not: the transport is closed.
    Refused(Why),
    /// The kernel refused a session that was already on its way: the transport is closed.
    Lost,
}

/// What is to be done before a large body.
enum Step {
    /// The path is settled, or the next large body will ask again.
    Keep,
    Stay(Why),
    Go,
}

impl Given {
    /// Ends the session. All it had to send has been written.
    pub(in crate::serve) fn take(session: Session, can_rekey: bool) -> Result<Self, SessionError> {
        let (version, _) = session.kind().ok_or(SessionError::CannotSend)?;
        let parts = session.into_parts()?;
        let (sealed, transmit) = &parts.secrets.tx;
        let (read, receive) = &parts.secrets.rx;
        let key = transmit_key(version, transmit, *sealed).ok_or(SessionError::CannotSend)?;
        let opening = Key::of(version, receive, *read).ok_or(SessionError::CannotSend)?;
        let records = Records::new(opening);
        let mut opened = Opened::new(parts.connection, records, parts.plain, *sealed, can_rekey);
        // A fault in here is met again, with its alert, at the next read.
        let _ = opened.receive(&parts.incoming);
        Ok(Self { key, opened })
    }
}

/// The library's secret as the kernel wants it.
pub(super) fn transmit_key(
    version: Version,
    secret: &Secrets,
    sequence: u64,
) -> Option<TransmitKey> {
    let (cipher, key, iv) = record::parts_of(secret)?;
    TransmitKey::new(version, cipher, key, iv, sequence)
}

impl Connection {
    /// Before a body of `bytes`: hands the session to the kernel if that is to be and can be. False
    /// if the connection cannot send, or may not (`tls_offload = "require"`).
    pub(in crate::serve) async fn hand_over(&mut self, bytes: u64) -> bool {
        if bytes < BODY_BYTES_MIN {
            return true;
        }
        let (wanted, counts) = (&self.settings.offload, &self.worker.counters.offload);
        let outcome = hand_over(&mut self.transport, wanted, counts, self.card.peer).await;
        let path = match outcome {
            Handover::Unchanged => return true,
            Handover::Kernel => Some(Path::Kernel),
            Handover::Stays(why) | Handover::Refused(why) => Some(Path::UserSpace(why)),
            Handover::Lost => None,
        };
        if let Some(path) = path {
            self.card.set_path(path);
        }
        let may_send = matches!(outcome, Handover::Kernel | Handover::Stays(_));
        if !may_send {
            self.worker.counters.refused(Refusal::TlsOffload);
        }
        may_send
    }
}

/// Before a large body: gives the session to the kernel if that is to be and can be, and counts
/// what became of it.
pub(in crate::serve) async fn hand_over(
    transport: &mut Transport,
    wanted: &Wanted,
    counts: &Counts,
    peer: SocketAddr,
) -> Handover {
    let why = match next_step(transport, wanted, peer).await {
        Step::Keep => return Handover::Unchanged,
        Step::Go => return go(transport, wanted, counts, peer),
        Step::Stay(why) => why,
    };
    counts.stays(why);
    if let Transport::Tls(tls) = transport {
        tls.stays = true;
    }
    if wanted.word != Offload::Require {
        return Handover::Stays(why);
    }
    *transport = Transport::Closed;
    Handover::Refused(why)
}

async fn next_step(transport: &mut Transport, offload: &Wanted, peer: SocketAddr) -> Step {
    let Transport::Tls(tls) = transport else {
        return Step::Keep;
    };
    if tls.stays {
        return Step::Keep;
    }
    if offload.word == Offload::Off {
        return Step::Stay(Why::Off);
    }
    let takes = |(version, cipher)| offload.verdict.takes(version, cipher);
    if !tls.session.kind().is_some_and(takes) {
        return Step::Stay(Why::Kernel);
    }
    if tls.session.is_peer_closed() {
        return Step::Stay(Why::HalfClosed);
    }
    match settle(tls).await {
        Ok(true) => {}
        Ok(false) if offload.word == Offload::Require => return Step::Stay(Why::Refused),
        // Whatever it is, the response will meet it.
        Ok(false) | Err(_) => return Step::Keep,
    }
    match tls.stream.attach_tls() {
        Ok(()) => Step::Go,
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Step::Stay(Why::HalfClosed),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Step::Stay(Why::NoSocket),
        Err(error) => {
            tracing::debug!(%peer, %error, "the kernel takes no TLS");
            Step::Stay(Why::Refused)
        }
    }
}

/// From here on there is no way back: the session is consumed.
fn go(transport: &mut Transport, wanted: &Wanted, counts: &Counts, peer: SocketAddr) -> Handover {
    let Transport::Tls(TlsTransport {
        session,
        mut stream,
        ..
    }) = std::mem::replace(transport, Transport::Closed)
    else {
        return Handover::Lost;
    };
    let given = Given::take(*session, wanted.verdict.rekey).map_err(io::Error::other);
    let opened = given.and_then(|given| {
        stream.set_transmit_key(&given.key)?;
        Ok(given.opened)
    });
    match opened {
        Ok(opened) => {
            counts.handed_over();
            let opened = Box::new(opened);
            *transport = Transport::Kernel(KernelTransport { opened, stream });
            Handover::Kernel
        }
        Err(error) => {
            tracing::debug!(%peer, %error, "a session was lost on its way to the kernel");
            counts.lost();
            Handover::Lost
        }
    }
}

/// Sees to it that all is written that the library has to send. False if the viewer does not take
/// it at once.
async fn settle(tls: &mut TlsTransport) -> io::Result<bool> {
    tls.session.settle().map_err(io::Error::other)?;
    poll_fn(|cx| {
        Poll::Ready(match tls.poll_flush(cx) {
            Poll::Ready(outcome) => outcome.map(|()| true),
            Poll::Pending => Ok(false),
        })
    })
    .await
}
