//! A deadline that moves with every request, for one connection.
//!
//! The timer beneath is only touched when a deadline comes *nearer*: one that moves away is noticed
//! when the timer fires early and is wound again. A busy keep-alive connection therefore never
//! touches the timer wheel between requests.
//!
//! I/O: sleeps.

use crate::clock;
use crate::clock::Instant;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use tokio::time::Sleep;

/// One connection's only timer.
#[derive(Debug)]
pub(super) struct Alarm {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    pub(super) fn new(at: Instant) -> Self {
        Self { at, timer: None }
    }

    pub(super) fn set(&mut self, at: Instant) {
        self.at = at;
    }

    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        let timer = self.timer.get_or_insert_with(|| Box::pin(clock::timer(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_latest_deadline_counts_whether_it_moved_nearer_or_farther() {
        let start = clock::now();
        let second = Duration::from_secs(1);
        let mut alarm = Alarm::new(start + second * 10);
        let pending = poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending())).await;
        assert!(pending);
        alarm.set(start + second * 30);
        poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(clock::now() - start, second * 30);
        alarm.set(start + second * 60);
        let pending = poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending())).await;
        assert!(pending);
        alarm.set(start + second * 40);
        poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(clock::now() - start, second * 40);
    }
}
