//! The transfers under way: each a task of its own, whose panic is its own affair.
//!
//! `task` owns one [`Transfers`].
//!
//! I/O: spawns tasks.

use super::Class;
use super::Closed;
use super::Fault;
use super::Fetch;
use super::Job;
use super::Outcome;
use super::TransferView;
use super::Turns;
use crate::clock::Instant;
use crate::link::message::SourceKind;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::task::AbortHandle;
use tokio::task::Id;
use tokio::task::JoinError;
use tokio::task::JoinSet;

#[derive(Debug, Default)]
pub(super) struct Transfers {
    set: JoinSet<Outcome>,
    running: BTreeMap<u64, Running>,
    numbers: BTreeMap<Id, u64>,
}

#[derive(Debug)]
struct Running {
    handle: AbortHandle,
    tap: Arc<Tap>,
    view: TransferView,
    since: Instant,
}

/// One that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: u64,
    pub(super) class: Class,
    pub(super) kind: SourceKind,
    /// Of the object.
    pub(super) bytes: u64,
    pub(super) outcome: Outcome,
}

/// The turns of one transfer, counted for its progress.
#[derive(Debug)]
struct Tap {
    turns: Arc<dyn Turns>,
    /// False for a peer where `[fill] count_peers` says so: it costs no turns.
    is_counted: bool,
    taken: AtomicU64,
}

impl Transfers {
    /// `staged`: what of the object is on disk already.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        id: u64,
        job: Job,
        staged: u64,
        (fetch, turns, is_counted): (&dyn Fetch, Arc<dyn Turns>, bool),
    ) {
        let tap = Arc::new(Tap {
            turns,
            is_counted,
            taken: AtomicU64::new(0),
        });
        let view = TransferView {
            digest: job.want.digest,
            rank: job.want.rank,
            class: job.class,
            source: job.source.id.clone(),
            others: job
                .others
                .iter()
                .map(|other| other.source.id.clone())
                .collect(),
            kind: job.source.kind,
            bytes: job.want.length,
            bytes_done: staged,
            seconds: 0,
        };
        let turns: Arc<dyn Turns> = Arc::clone(&tap) as Arc<dyn Turns>;
        let handle = self.set.spawn(fetch.fetch(job, turns));
        self.numbers.insert(handle.id(), id);
        let running = Running {
            handle,
            tap,
            view,
            since: now,
        };
        self.running.insert(id, running);
    }

    /// Its end comes through [`Transfers::next`] all the same.
    pub(super) fn stop(&self, id: u64) {
        if let Some(running) = self.running.get(&id) {
            running.handle.abort();
        }
    }

    pub(super) fn stop_all(&mut self) {
        self.set.abort_all();
    }

    /// The next one to end; never, while none runs.
    pub(super) async fn next(&mut self) -> Ended {
        loop {
            let Some(ended) = self.set.join_next_with_id().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let (task, outcome) = match ended {
                Ok((task, outcome)) => (task, Ok(outcome)),
                Err(error) => (error.id(), Err(error)),
            };
            let id = self.numbers.remove(&task);
            let Some((id, running)) = id.and_then(|id| Some((id, self.running.remove(&id)?)))
            else {
                continue;
            };
            return Ended {
                id,
                class: running.view.class,
                kind: running.view.kind,
                bytes: running.view.bytes,
                outcome: outcome.unwrap_or_else(|error| cut_off(&running.tap, error)),
            };
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn views(&self, now: Instant) -> Vec<TransferView> {
        let views = self.running.values().map(|running| {
            let view = &running.view;
            let taken = running.tap.taken.load(Ordering::Relaxed);
            TransferView {
                bytes_done: view.bytes_done.saturating_add(taken).min(view.bytes),
                seconds: now.saturating_duration_since(running.since).as_secs(),
                ..view.clone()
            }
        });
        views.collect()
    }
}

/// The end of a transfer that could not tell it.
fn cut_off(tap: &Tap, error: JoinError) -> Outcome {
    let end = if error.is_panic() {
        tracing::error!(%error, "a transfer ended by a panic: a fault of oca");
        Fault::Broken("the transfer ended by a panic: a fault of oca".to_owned())
    } else {
        Fault::Stopped
    };
    Outcome {
        received: tap.taken.load(Ordering::Relaxed),
        verified: 0,
        wasted: 0,
        seconds: 0.0,
        end: Err(end),
        parts: Vec::new(),
    }
}

impl Turns for Tap {
    fn take(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        Box::pin(async move {
            if self.is_counted {
                self.turns.take(class, bytes).await?;
            }
            self.taken.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        })
    }

    fn lend(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        Box::pin(async move {
            if self.is_counted {
                self.turns.lend(class, bytes).await?;
            }
            self.taken.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        })
    }

    fn came(&self, bytes: u64) {
        if self.is_counted {
            self.turns.came(bytes);
        }
    }

    fn give_back(&self, class: Class, bytes: u64) {
        if self.is_counted {
            self.turns.give_back(class, bytes);
        }
        let less = |taken: u64| Some(taken.saturating_sub(bytes));
        let _ = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}
