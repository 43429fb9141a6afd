//! Connections to a local socket: who is there, how many, how long, how much; HTTP/1.1.
//!
//! One request a connection. A peer that floods, dawdles or speaks something else costs itself its
//! connection and nobody else anything.
//!
//! I/O: accepts, reads and writes sockets.

use super::body::BODY_TIME;
use crate::clock;
use crate::telemetry::LogLimit;
use axum::Extension;
use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// Open connections a socket. Operators and agents need a handful; each listener has its own, so
/// that a flood of questions cannot shut out commands.
const CONNECTIONS_MAX: usize = 64;

/// Request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// From the connection to the end of the head.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// For a peer to read its answer, above the time it may take to make one.
const WRITE_TIME: Duration = Duration::from_secs(20);

/// After a failed accept (descriptors used up), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const LOG_EVERY: Duration = Duration::from_secs(10);

/// Who is at the other end: `SO_PEERCRED`.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    pub pid: Option<i32>,
}

/// Of all listeners that were made with it.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    /// Connections refused because too many were open.
    pub refused: AtomicU64,
}

/// One listener's loop.
#[derive(Debug)]
pub struct Accept {
    router: Router,
    /// What an answer may take to be made.
    reply_time: Duration,
    counters: Arc<Counters>,
    slots: Arc<Semaphore>,
    log: LogLimit,
    open: tokio::task::JoinSet<()>,
}

impl Accept {
    /// `reply_time`: what the router allows itself for an answer.
    pub fn new(router: Router, reply_time: Duration, counters: &Arc<Counters>) -> Self {
        Self {
            router,
            reply_time,
            counters: counters.clone(),
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            log: LogLimit::new(LOG_EVERY),
            open: tokio::task::JoinSet::new(),
        }
    }

    /// Accepts for ever; each request finds its [`Peer`] as an extension.
    pub async fn unix(mut self, listener: UnixListener) {
        loop {
            let accepted = listener.accept().await.and_then(|(stream, _)| {
                let about = stream.peer_cred()?;
                let peer = Peer {
                    uid: about.uid(),
                    gid: about.gid(),
                    pid: about.pid(),
                };
                Ok((stream, peer))
            });
            match accepted {
                Ok((stream, peer)) => match self.slot() {
                    Some(slot) => {
                        let router = self.router.clone().layer(Extension(peer));
                        self.open
                            .spawn(converse(stream, router, self.reply_time, slot));
                    }
                    // Best effort: a fresh socket has room for this.
                    None => drop(stream.try_write(BUSY)),
                },
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// Accepts for ever.
    pub async fn tcp(mut self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match self.slot() {
                    Some(slot) => {
                        let router = self.router.clone();
                        self.open
                            .spawn(converse(stream, router, self.reply_time, slot));
                    }
                    None => drop(stream.try_write(BUSY)),
                },
                Err(error) => self.pause(&error).await,
            }
        }
    }

    fn slot(&mut self) -> Option<OwnedSemaphorePermit> {
        // Forget those that ended, so that the set stays as small as the number of slots.
        while self.open.try_join_next().is_some() {}
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let slot = self.slots.clone().try_acquire_owned().ok();
        if slot.is_none() {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            if let Some(left_out) = self.log.step(clock::now()) {
                tracing::warn!(left_out, "too many admin connections; one was refused");
            }
        }
        slot
    }

    async fn pause(&mut self, error: &io::Error) {
        if let Some(left_out) = self.log.step(clock::now()) {
            tracing::warn!(%error, left_out, "an admin connection could not be accepted");
        }
        clock::sleep(ACCEPT_PAUSE).await;
    }
}

/// Said to a connection for which there is no slot.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 57\r\n\r\n\
{\"v\":1,\"error\":\"too many admin connections; try again\"}\n\n";

/// One request and its answer, within bounds. A panic in a handler ends this task only.
async fn converse<S>(stream: S, router: Router, reply_time: Duration, slot: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let most = HEAD_TIME + BODY_TIME + reply_time + WRITE_TIME;
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match clock::within(most, connection).await {
        Ok(Ok(())) => {}
        // The peer spoke no HTTP or left: its own affair, told only to who looks for it.
        Ok(Err(error)) => tracing::debug!(%error, "admin connection ended early"),
        Err(_) => tracing::debug!("admin connection cut: it took too long"),
    }
    drop(slot);
}
