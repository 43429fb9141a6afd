//! News of one neighbour on its way to the publisher, who may be busy: they wait here, so that the
//! neighbour's task goes on keeping its session alive. What waits is bounded because nothing more
//! is read from the neighbour meanwhile.
//!
//! I/O: waits for room in the publisher's queue.

use super::publish::Event;
use super::publish::Index;
use super::publish::SessionView;
use super::rib::Batch;
use std::collections::VecDeque;
use tokio::sync::mpsc;

#[derive(Debug)]
pub(super) struct Outbox {
    index: Index,
    events: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
}

impl Outbox {
    pub(super) fn new(index: Index, events: mpsc::Sender<Event>) -> Self {
        Self {
            index,
            events,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn routes(&mut self, batch: Batch) {
        self.put(Event::Routes(self.index, batch));
    }

    /// A view that still waits behind all routes is replaced by the next.
    pub(super) fn session(&mut self, view: SessionView) {
        if let Some(Event::Session(..)) = self.waiting.back() {
            self.waiting.pop_back();
        }
        self.put(Event::Session(self.index, view));
    }

    /// All routes go: what was to be told of them need not be.
    pub(super) fn gone(&mut self, view: SessionView) {
        self.waiting.clear();
        self.put(Event::Gone(self.index, view));
    }

    fn put(&mut self, event: Event) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(event);
        }
        match self.events.try_send(event) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.waiting.push_back(event),
            // Nobody publishes any more.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    /// While something waits, nothing more that could become news is to be read.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Passes on one event that waits, as soon as there is room. Never ready without one.
    pub(super) async fn pass_on(&mut self) {
        if self.waiting.is_empty() {
            std::future::pending().await
        }
        match self.events.reserve().await {
            Ok(room) => {
                if let Some(event) = self.waiting.pop_front() {
                    room.send(event);
                }
            }
            Err(_) => self.waiting.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rib::Rib;
    use super::*;
    use crate::route::Attributes;
    use crate::route::Class;
    use crate::route::Packer;

    fn view(state: &'static str) -> SessionView {
        SessionView {
            state,
            ..SessionView::default()
        }
    }

    /// Of one route after another that come.
    struct Source(Rib);

    impl Source {
        fn batch(&mut self, routes: u8) -> Batch {
            let packed = Attributes::new("64500".parse().unwrap(), "192.0.2.1".parse().unwrap());
            let held = self.0.hold(Packer::default().pack(&packed)).unwrap();
            for n in 0..routes {
                let prefix = format!("198.51.{}.{n}/32", self.0.len()).parse().unwrap();
                self.0.announce(&prefix, 0, &held, None);
            }
            self.0.release(&held);
            self.0.take().unwrap()
        }
    }

    fn told(event: &Event) -> String {
        match event {
            Event::Routes(_, batch) => batch.changes.len().to_string(),
            Event::Gone(_, view) => format!("gone {}", view.state),
            Event::Session(_, view) => view.state.to_owned(),
        }
    }

    #[tokio::test]
    async fn news_wait_in_their_order_and_the_end_of_a_session_replaces_them() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(Index(0), sender);
        let mut source = Source(Rib::new(Class::Embedded, "edge-1".into()));
        outbox.routes(source.batch(1));
        outbox.session(view("established"));
        assert!(outbox.is_waiting());
        // The newer view alone.
        outbox.session(view("idle"));
        outbox.routes(source.batch(2));
        let mut all = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            all.push(told(&event));
            if outbox.is_waiting() {
                outbox.pass_on().await;
            }
        }
        assert_eq!(all, ["1", "idle", "2"]);
        outbox.session(view("established"));
        outbox.routes(source.batch(3));
        outbox.gone(view("active"));
        assert_eq!(told(&receiver.try_recv().unwrap()), "established");
        outbox.pass_on().await;
        assert_eq!(told(&receiver.try_recv().unwrap()), "gone active");
        assert!(!outbox.is_waiting());
    }

    #[tokio::test]
    async fn a_publisher_that_is_gone_holds_nobody_up() {
        let (sender, receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(Index(0), sender);
        outbox.session(view("idle"));
        outbox.gone(view("active"));
        assert!(outbox.is_waiting());
        drop(receiver);
        outbox.pass_on().await;
        assert!(!outbox.is_waiting());
        outbox.gone(view("idle"));
        assert!(!outbox.is_waiting());
    }
}
