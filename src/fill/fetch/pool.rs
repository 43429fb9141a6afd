//! Connections that have done their work and may do more: a few, for a short time.
//!
//! [`super::stream`] takes one by its door and puts it back when the answer was read to its end.
//! Whoever takes one must [`listen`] first, and be ready for it to be dead all the same: the other
//! side may be closing it. Nobody reads an idle one: it stays here until its time is over.
//!
//! I/O: one task closes what has been idle for too long, while there is any.

use super::dial::Connection;
use super::dial::Io;
use super::place::Door;
use crate::clock;
use crate::clock::Instant;
use futures_util::FutureExt as _;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// One for each stream: the next object is often elsewhere, and comes back. What a source sends on
/// an idle connection is paid for by nobody, so they are few.
const IDLE_MAX: usize = 8;

/// Servers close at about this time themselves.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// A certificate that was replaced or revoked is seen again after this.
const AGE_MAX: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct Pool(Mutex<State>);

#[derive(Default)]
struct State {
    /// The longest idle first.
    idle: Vec<Idle>,
    /// A task looks after them.
    is_watched: bool,
}

struct Idle {
    connection: Connection,
    io: Box<dyn Io>,
    since: Instant,
}

/// What has come on a connection on which nothing was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    End,
    /// Something unasked; more of it may be on its way.
    Words,
}

/// As far as it has come: does not wait.
pub(super) fn listen(io: &mut dyn Io) -> Heard {
    match io.read(&mut [0]).now_or_never() {
        None => Heard::Nothing,
        Some(Ok(0)) => Heard::End,
        Some(Err(error))
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            ) =>
        {
            Heard::End
        }
        Some(Ok(_) | Err(_)) => Heard::Words,
    }
}

impl Pool {
    /// The one that was put back last, of those with a receive buffer of this size: a larger one
    /// would bring more than is paid for, a smaller one less.
    pub(super) fn take(&self, door: &Door, buffer: u32) -> Option<(Connection, Box<dyn Io>)> {
        let mut state = self.state();
        sweep(&mut state.idle, clock::now());
        let idle = &mut state.idle;
        // Of a time when the rate was higher: they could hold more than there is room for.
        idle.retain(|Idle { connection, .. }| connection.receive_buffer <= buffer);
        let at = idle.iter().rposition(|Idle { connection, .. }| {
            connection.door == *door && connection.receive_buffer == buffer
        })?;
        let Idle { connection, io, .. } = idle.remove(at);
        Some((connection, io))
    }

    pub(super) fn put(self: &Arc<Self>, connection: Connection, io: Box<dyn Io>) {
        let now = clock::now();
        let mut state = self.state();
        sweep(&mut state.idle, now);
        if state.idle.len() >= IDLE_MAX {
            state.idle.remove(0);
        }
        state.idle.push(Idle {
            connection,
            io,
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
    idle.retain(|kept| now < kept.since + IDLE_TIME_MAX && now < kept.connection.born + AGE_MAX);
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
