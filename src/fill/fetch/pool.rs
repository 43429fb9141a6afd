//! Connections that have done their work and may do more: a few, for a short time.
//!
//! [`super::transfer`] takes one by its door and puts it back when the answer was read to its end.
//! Whoever takes one must be ready for it to be dead: the other side may have closed it.
//!
//! I/O: one task closes what has been idle for too long, while there is any.

use super::dial::Connection;
use super::place::Door;
use crate::clock;
use crate::clock::Instant;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

/// One for each stream: the next object is often elsewhere, and comes back. What a source sends on
/// an idle connection is paid for by nobody, so they are few.
const IDLE_MAX: usize = 8;

/// Servers close at about this time themselves.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// A certificate that was replaced or revoked is seen again after this.
const AGE_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The longest idle first.
    idle: Vec<Idle>,
    /// A task looks after them.
    is_watched: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The one that was put back last, of those with a receive buffer of this size: a larger one
    /// would bring more than is paid for, a smaller one less.
    pub(super) fn take(&self, door: &Door, buffer: u32) -> Option<Connection> {
        let mut state = self.state();
        sweep(&mut state.idle, clock::now());
        let idle = &mut state.idle;
        // Of a time when the rate was higher: they could hold more than there is room for.
        idle.retain(|Idle { connection, .. }| connection.receive_buffer <= buffer);
        let at = idle.iter().rposition(|Idle { connection, .. }| {
            connection.door == *door && connection.receive_buffer == buffer
        })?;
        Some(idle.remove(at).connection)
    }

    pub(super) fn put(self: &Arc<Self>, connection: Connection) {
        let now = clock::now();
        let mut state = self.state();
        sweep(&mut state.idle, now);
        if state.idle.len() >= IDLE_MAX {
            state.idle.remove(0);
        }
        state.idle.push(Idle {
            connection,
            since: now,
        });
        if !state.is_watched {
            state.is_watched = true;
            tokio::spawn(close_idle(Arc::downgrade(self)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sweep(idle: &mut Vec<Idle>, now: Instant) {
    idle.retain(|kept| {
        now < kept.since + IDLE_TIME_MAX
            && now < kept.connection.born + AGE_MAX
            && !kept.connection.sender.is_closed()
    });
}

/// Ends with the last one.
async fn close_idle(pool: Weak<Pool>) {
    loop {
        clock::sleep(IDLE_TIME_MAX).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state();
        sweep(&mut state.idle, clock::now());
        if state.idle.is_empty() {
            state.is_watched = false;
            return;
        }
    }
}
