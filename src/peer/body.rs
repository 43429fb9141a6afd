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

/// Sends `head` and then the gift.
pub(super) async fn give(
    shared: &Shared,
    asker: &BoxId,
    carrier: &mut Carrier,
    mut head: &[u8],
    mut gift: Gift,
) -> Result<(), Cut> {
    let deadline = clock::now() + shared.deps.limits.response;
    let digest = gift.object.digest;
    let cut = |reason: Reason, message: &str| {
        let message = format!("{digest} was cut: {message}");
        shared.refuse(reason, asker.as_str(), &message);
        Cut
    };
    let broken = |error: CarryError| cut(reason(&error), &error.to_string());
    if gift.bytes == 0 {
        return carrier.send_head(head).await.map_err(broken);
    }
    carrier.pace(shared.rate);
    let was_sealed_by_kernel = carrier.is_sealed_by_kernel();
    let object = Arc::clone(&gift.object);
    let (first, end) = (gift.part.first, gift.part.first + gift.bytes);
    let load = Load {
        content: &shared.deps.store,
        object: &object,
        first,
        last: end - 1,
    };
    let mut at = first;
    while at < end {
        let bytes = PIECE_BYTES.min(end - at);
        let Some(turn) = turn(shared, bytes, deadline) else {
            let message = "the response took too long; go on with another ticket";
            return Err(cut(Reason::TooLong, message));
        };
        if turn > clock::now() {
            // The asker need not wait for the word that its bytes will come.
            if !head.is_empty() {
                carrier.send_head(head).await.map_err(broken)?;
                head = &[];
            }
            clock::sleep_until(turn).await;
        } else if at > first && (at - first).is_multiple_of(TURN_BYTES) {
            tokio::task::yield_now().await;
        }
        // What is on its way when a connection breaks counts as sent.
        gift.reserved.spend(bytes);
        Counters::add(&shared.counters.bytes_sent, bytes);
        let sent = carrier.send_piece(head, load, at, bytes).await;
        sent.map_err(broken)?;
        head = &[];
        at += bytes;
    }
    if carrier.is_sealed_by_kernel() && !was_sealed_by_kernel {
        Counters::add(&shared.counters.sealed_by_kernel, 1);
    }
    Ok(())
}

/// When `bytes` may go; `None`: not before the response has to be over.
fn turn(shared: &Shared, bytes: u64, deadline: Instant) -> Option<Instant> {
    let now = clock::now();
    let turn = shared.pacer.turn(now, bytes, shared.rate);
    (turn.max(now) <= deadline).then_some(turn)
}

fn reason(error: &CarryError) -> Reason {
    match error {
        CarryError::Slow => Reason::Stalled,
        CarryError::Disk(_) => Reason::Disk,
        CarryError::Gone | CarryError::Host(_) | CarryError::Tls(_) => Reason::Broken,
        CarryError::Handshake(_) => Reason::Handshake,
    }
}
