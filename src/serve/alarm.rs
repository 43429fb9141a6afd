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
use std::task::Waker;
use tokio::task::coop;
use tokio::time::Sleep;

/// One connection's only timer.
#[derive(Debug)]
pub(super) struct Alarm {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom the timer will wake as it is wound: it need not be told again.
    waker: Option<Waker>,
}

impl Alarm {
    pub(super) fn new(at: Instant) -> Self {
        Self {
            at,
            timer: None,
            waker: None,
        }
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
            self.waker = None;
        }
        let is_known = |waker: &Waker| waker.will_wake(cx.waker());
        if !timer.is_elapsed() && self.waker.as_ref().is_some_and(is_known) {
            return Poll::Pending;
        }
        while timer.as_mut().poll(cx).is_ready() {
            self.waker = None;
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
        // Where the task's turn is used up, nobody was registered.
        self.waker = coop::has_budget_remaining().then(|| cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_task_whose_turn_is_used_up_is_woken_all_the_same() {
        let begun = clock::now();
        let mut alarm = Alarm::new(begun + Duration::from_secs(10));
        let pending = poll_fn(|cx| {
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            Poll::Ready(alarm.poll(cx).is_pending())
        });
        assert!(pending.await);
        let minute = Duration::from_secs(60);
        assert!(
            clock::within(minute, poll_fn(|cx| alarm.poll(cx)))
                .await
                .is_ok()
        );
        assert_eq!(clock::now() - begun, Duration::from_secs(10));
    }

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

    #[tokio::test(start_paused = true)]
    async fn whoever_polls_last_is_woken() {
        let start = clock::now();
        let mut alarm = Alarm::new(start + Duration::from_secs(10));
        // Somebody else first, twice, whose waker leads nowhere.
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(alarm.poll(&mut nobody).is_pending());
        assert!(alarm.poll(&mut nobody).is_pending());
        poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(clock::now() - start, Duration::from_secs(10));
        // Passed is passed, at each further look.
        assert!(alarm.poll(&mut nobody).is_ready());
        alarm.set(start + Duration::from_secs(20));
        assert!(alarm.poll(&mut nobody).is_pending());
        tokio::spawn(async move { poll_fn(|cx| alarm.poll(cx)).await })
            .await
            .unwrap();
        assert_eq!(clock::now() - start, Duration::from_secs(20));
    }
}
