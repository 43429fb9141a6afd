//! Typed shutdown: `Serving → Draining { deadline } → Stopped`, never backwards.
//!
//! `appliance` owns the one [`PhaseTx`]; every task holds a [`PhaseRx`].

use crate::clock::Instant;
use tokio::sync::watch;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// No new work; what runs may finish until the deadline.
    Draining {
        deadline: Instant,
    },
    /// Everything ends at once.
    Stopped,
}

/// The owner's side.
#[derive(Debug)]
pub struct PhaseTx(watch::Sender<Phase>);

/// A task's side.
#[derive(Clone, Debug)]
pub struct PhaseRx(watch::Receiver<Phase>);

/// A new life, in [`Phase::Serving`].
pub fn channel() -> (PhaseTx, PhaseRx) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (PhaseTx(sender), PhaseRx(receiver))
}

impl PhaseTx {
    /// Begins draining; later calls may only bring the deadline nearer.
    pub fn drain(&self, until: Instant) {
        self.0.send_if_modified(|phase| {
            let next = match *phase {
                Phase::Serving => Phase::Draining { deadline: until },
                Phase::Draining { deadline } => Phase::Draining {
                    deadline: deadline.min(until),
                },
                Phase::Stopped => Phase::Stopped,
            };
            std::mem::replace(phase, next) != next
        });
    }

    /// Ends everything.
    pub fn stop(&self) {
        self.0.send_replace(Phase::Stopped);
    }
}

impl PhaseRx {
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the phase is no longer [`Phase::Serving`] and tells the new one. A dropped
    /// owner counts as stopped.
    pub async fn leaving(&mut self) -> Phase {
        match self.0.wait_for(|phase| *phase != Phase::Serving).await {
            Ok(phase) => *phase,
            Err(_) => Phase::Stopped,
        }
    }

    /// Waits for [`Phase::Stopped`].
    pub async fn stopped(&mut self) {
        // An error means that the owner is gone, which is the same news.
        let _ = self.0.wait_for(|phase| *phase == Phase::Stopped).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_only_comes_nearer_and_stopped_is_final() {
        let (owner, mut task) = channel();
        let late = clock::now() + Duration::from_secs(30);
        let soon = clock::now() + Duration::from_secs(1);
        owner.drain(soon);
        owner.drain(late);
        assert_eq!(task.leaving().await, Phase::Draining { deadline: soon });
        owner.stop();
        owner.drain(late);
        assert_eq!(task.now(), Phase::Stopped);
        task.stopped().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_owner_is_a_stop() {
        let (owner, mut task) = channel();
        drop(owner);
        assert_eq!(task.leaving().await, Phase::Stopped);
    }
}
