//! A connection's card: what others may know of it, and the bell that wakes it.
//!
//! The worker keeps a card for each open connection; `oca show connections` reads them, and a
//! drain rings them.

use super::kernel::Path;
use super::kernel::Why;
use crate::clock::Instant;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

/// Negotiated version and cipher, by their registered names.
#[derive(Clone, Copy, Debug)]
pub(super) struct TlsFacts {
    pub(super) version: &'static str,
    pub(super) cipher: &'static str,
}

#[derive(Debug)]
pub(super) struct Card {
    pub(super) peer: SocketAddr,
    pub(super) tls: bool,
    pub(super) since: Instant,
    pub(super) requests: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// A request is being answered.
    pub(super) busy: AtomicBool,
    /// [`Path::code`].
    path: AtomicU8,
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Card {
    pub(super) fn new(peer: SocketAddr, tls: bool, since: Instant) -> Self {
        Self {
            peer,
            tls,
            since,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            path: AtomicU8::new(match tls {
                true => Path::UserSpace(Why::Small).code(),
                false => 0,
            }),
            rung: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Who seals its records; nobody does without TLS.
    pub(super) fn path(&self) -> Option<Path> {
        Path::of_code(self.path.load(Relaxed))
    }

    pub(super) fn set_path(&self, path: Path) {
        self.path.store(path.code(), Relaxed);
    }

    /// Makes the connection look up: the phase has changed.
    pub(super) fn ring(&self) {
        self.rung.store(true, Release);
        let waker = self
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready once the bell has been rung, at every call from then on.
    pub(super) fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rung.load(Acquire) {
            return Poll::Ready(());
        }
        // The same task asks each time, so this is a comparison and no more.
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            Some(_) | None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::future::poll_fn;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_bell_wakes_whoever_waits_and_stays_rung() {
        let peer = "192.0.2.1:1".parse().unwrap();
        let card = Arc::new(Card::new(peer, false, clock::now()));
        let waits = Arc::clone(&card);
        let waiting = tokio::spawn(async move { poll_fn(|cx| waits.poll_rung(cx)).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        card.ring();
        waiting.await.unwrap();
        poll_fn(|cx| card.poll_rung(cx)).await;
    }
}
