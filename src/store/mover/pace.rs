//! Viewers come first: between two pieces a move rests for as long as they need.
//!
//! I/O: sleeps.

use super::super::core::Shared;
use crate::clock;
use crate::clock::Instant;
use crate::lock::lock;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// While viewers leave nothing, they are asked again this often.
const EASE_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Pace<'a> {
    shared: &'a Shared,
    /// Told why it rests, and that it goes on.
    tell: &'a dyn Fn(Option<String>),
    /// When the last piece was begun.
    last: Mutex<Instant>,
}

impl<'a> Pace<'a> {
    pub(super) fn begin(shared: &'a Shared, tell: &'a dyn Fn(Option<String>)) -> Self {
        let last = Mutex::new(clock::now());
        Self { shared, tell, last }
    }

    /// Waits for the next piece's turn, as long as `may_go_on`. False: it has none.
    pub(super) fn turn(&self, may_go_on: &dyn Fn() -> bool) -> bool {
        let mover = &self.shared.mover;
        let mut last = lock(&self.last);
        let took = clock::now().saturating_duration_since(*last);
        let mut eased = false;
        loop {
            if self.shared.is_stopping() || !may_go_on() {
                return false;
            }
            match mover.percent.load(Ordering::Acquire) {
                0 => {
                    if !eased {
                        eased = true;
                        let because = lock(&mover.because).clone();
                        let because = because.map_or_else(String::new, |why| format!(": {why}"));
                        (self.tell)(Some(format!("viewers come first{because}")));
                        self.shared.wake();
                    }
                    clock::block_for(EASE_EVERY);
                }
                percent => {
                    if eased {
                        (self.tell)(None);
                    }
                    let rest = took * (100 - percent) / percent;
                    clock::block_for(rest.min(EASE_EVERY * 10));
                    *last = clock::now();
                    return true;
                }
            }
        }
    }
}
