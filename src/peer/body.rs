//! The bytes of a response: each piece at its turn, by a viewer's way from disk to socket.
//!
//! While one chunk leaves, the next is brought from the disk; the carrier sees to that. A disk that
//! fails or hangs cuts the response.
//!
//! I/O: sends, waits for disks, sleeps until its turn.

use super::budget::Reserved;
use super::counters::Counters;
use super::listener::Shared;
use super::range::Part;
use super::refusal::Reason;
use crate::clock;
use crate::clock::Instant;
use crate::ids::BoxId;
use crate::serve::Carrier;
use crate::serve::CarryError;
use crate::serve::Load;
use crate::store::Household;
use crate::store::ObjectFile;
use std::sync::Arc;

/// One turn. A chunk of the tree that the other side verifies by.
const PIECE_BYTES: u64 = 256 * 1024;

/// Bytes of one response before the others of the thread have a turn, where no rate makes it wait.
const TURN_BYTES: u64 = 1024 * 1024;

/// What a box is to have.
#[derive(Debug)]
pub(super) struct Gift {
    pub(super) object: Arc<ObjectFile>,
    pub(super) part: Part,
    /// To be sent: the part, or nothing of it.
    pub(super) bytes: u64,
    pub(super) reserved: Reserved,
}

/// A response that ended early, already counted and told. The connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut;

/// A response on its way.
struct Giving<'a> {
    shared: &'a Shared,
    asker: &'a BoxId,
    carrier: &'a mut Carrier,
    /// What has not been sent of it.
    head: &'a [u8],
    gift: Gift,
    /// Of the whole response.
    deadline: Instant,
}

/// Sends `head` and then the gift.
pub(super) async fn give(
    shared: &Shared,
    asker: &BoxId,
    carrier: &mut Carrier,
    head: &[u8],
    gift: Gift,
) -> Result<(), Cut> {
    let giving = Giving {
        shared,
        asker,
        carrier,
        head,
        gift,
        deadline: clock::now() + shared.deps.limits.response,
    };
    giving.send().await
}

impl Giving<'_> {
    async fn send(mut self) -> Result<(), Cut> {
        if self.gift.bytes == 0 {
            return self.send_head().await;
        }
        let own = self.shared.rate;
        let allowed = self.gift.reserved.pace().map(|(_, rate)| rate);
        self.carrier.pace(allowed.map_or(own, |rate| rate.min(own)));
        let object = Arc::clone(&self.gift.object);
        let (first, end) = (self.gift.part.first, self.gift.part.first + self.gift.bytes);
        let load = Load {
            content: &self.shared.deps.store,
            object: &object,
            first,
            last: end - 1,
            household: Household::named(self.asker.as_str()),
        };
        let mut at = first;
        while at < end {
            let bytes = PIECE_BYTES.min(end - at);
            self.turn(bytes).await?;
            if at > first && (at - first).is_multiple_of(TURN_BYTES) {
                tokio::task::yield_now().await;
            }
            // What is on its way when a connection breaks counts as sent.
            self.gift.reserved.spend(bytes);
            Counters::add(&self.shared.counters.bytes_sent, bytes);
            let head = std::mem::take(&mut self.head);
            let sent = self.carrier.send_piece(head, load, at, bytes).await;
            sent.map_err(|error| self.broken(&error))?;
            at += bytes;
        }
        Ok(())
    }

    async fn send_head(&mut self) -> Result<(), Cut> {
        let head = std::mem::take(&mut self.head);
        if head.is_empty() {
            return Ok(());
        }
        let sent = self.carrier.send_head(head).await;
        sent.map_err(|error| self.broken(&error))
    }

    /// Waits until `bytes` may go: first by what the ticket allows, then by what all share, so that
    /// nobody is given a turn that it cannot use.
    async fn turn(&mut self, bytes: u64) -> Result<(), Cut> {
        let turn = self.gift.reserved.pace().map(|(pacer, rate)| {
            let now = clock::now();
            pacer.turn(now, bytes, rate)
        });
        if let Some(turn) = turn {
            self.wait(turn).await?;
        }
        let shared = self.shared;
        self.wait(shared.pacer.turn(clock::now(), bytes, shared.rate))
            .await
    }

    async fn wait(&mut self, turn: Instant) -> Result<(), Cut> {
        let now = clock::now();
        if turn.max(now) > self.deadline {
            let message = "the response took too long; go on with another ticket";
            return Err(self.cut(Reason::TooLong, message));
        }
        if turn > now {
            // The asker need not wait for the word that its bytes will come.
            self.send_head().await?;
            clock::sleep_until(turn).await;
        }
        Ok(())
    }

    fn broken(&self, error: &CarryError) -> Cut {
        self.cut(reason(error), &error.to_string())
    }

    fn cut(&self, reason: Reason, message: &str) -> Cut {
        let message = format!("{} was cut: {message}", self.gift.object.digest);
        self.shared.refuse(reason, self.asker.as_str(), &message);
        Cut
    }
}

fn reason(error: &CarryError) -> Reason {
    match error {
        CarryError::Slow => Reason::Stalled,
        CarryError::Disk(_) => Reason::Disk,
        CarryError::Gone | CarryError::Host(_) | CarryError::Tls(_) => Reason::Broken,
        CarryError::Handshake(_) => Reason::Handshake,
    }
}
