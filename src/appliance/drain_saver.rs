//! Drain records on their way to the disk, one after the other, off the control runtime: a system
//! disk that hangs must not stop its scheduler.
//!
//! I/O: spawns a task, and a blocking task a record.

use crate::health::drain;
use crate::health::drain_file;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

/// Records that wait for a slow disk; an operator gives a few commands a minute at most.
const WAITING_MAX: usize = 16;

/// The saving side. Its task ends with it.
#[derive(Debug)]
pub(super) struct DrainSaver(mpsc::Sender<Order>);

#[derive(Debug)]
struct Order {
    record: drain::Record,
    done: oneshot::Sender<Result<(), String>>,
}

/// What becomes of one record.
#[derive(Debug)]
pub(super) struct Saving(oneshot::Receiver<Result<(), String>>);

impl DrainSaver {
    pub(super) fn start(state_dir: PathBuf) -> Self {
        let (sender, mut orders) = mpsc::channel::<Order>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(Order { record, done }) = orders.recv().await {
                let dir = state_dir.clone();
                let save = move || drain_file::save(&dir, &record);
                let saved = tokio::task::spawn_blocking(save).await;
                let outcome = match saved {
                    Ok(saved) => saved.map_err(|error| error.to_string()),
                    Err(error) => Err(format!("saving it failed: {error}; the log has more")),
                };
                // Whoever gave the command may have gone.
                let _ = done.send(outcome);
            }
        });
        Self(sender)
    }

    /// Never waits. Records are saved in the order of these calls.
    pub(super) fn save(&self, record: drain::Record) -> Saving {
        let (done, saving) = oneshot::channel();
        if let Err(refused) = self.0.try_send(Order { record, done }) {
            let order = match refused {
                TrySendError::Full(order) | TrySendError::Closed(order) => order,
            };
            let text = "the disk of the state directory does not answer; look at the system disk";
            let _ = order.done.send(Err(text.to_owned()));
        }
        Saving(saving)
    }
}

impl Saving {
    /// When it is durable, or why it is not.
    pub(super) async fn done(self) -> Result<(), String> {
        match self.0.await {
            Ok(outcome) => outcome,
            Err(_) => Err("the daemon stops".to_owned()),
        }
    }
}
