//! Buffers of a worker's thread: a scratch area and a head that are only held within a poll, and a
//! small pool of large buffers for responses in flight.
//!
//! An idle connection owns no buffer at all; this is what keeps 10,000 of them cheap. Connections
//! never move between threads, so thread-local storage needs no locks.

use std::cell::Cell;
use std::cell::RefCell;

/// The scratch area; as large as the largest piece of a file encrypted at once.
pub(super) const SCRATCH_BYTES: usize = 256 * 1024;

/// Sizes of pooled buffers: one for a small piece of a response with its head and the overhead of
/// its records, one for the largest. Each has its own pool, so that neither crowds the other out.
/// Smaller buffers (handshakes, alerts) are cheaper to allocate than to keep.
const POOLED_BYTES: [usize; 2] = [80 * 1024, SCRATCH_BYTES + 16 * 1024];

/// Buffers below this are not worth a pooled one.
const UNPOOLED_BYTES: usize = 4 * 1024;

/// Buffers of each size kept for the next response, a thread. More are freed instead.
const POOLED_MAX: usize = 32;

thread_local! {
    static HEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static POOLS: RefCell<[Vec<Vec<u8>>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Lends the scratch area for the time of `work`, which must not wait and must not nest.
pub(super) fn with<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with(|cell| match cell.try_borrow_mut() {
        Ok(mut scratch) => {
            if scratch.is_empty() {
                scratch.resize(SCRATCH_BYTES, 0);
            }
            work(&mut scratch)
        }
        // Nested use would be a fault of ours; a buffer of its own keeps it harmless.
        Err(_) => work(&mut vec![0; SCRATCH_BYTES]),
    })
}

/// Lends a buffer for the head of a response that waits for nothing: one for all connections of
/// the thread stays in the processor's nearest cache, one for each does not.
pub(super) fn with_head<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut head = HEAD.take();
    head.clear();
    let outcome = work(&mut head);
    HEAD.set(head);
    outcome
}

/// A buffer of at least `bytes` initialised bytes.
pub(super) fn take(bytes: usize) -> Vec<u8> {
    let fits = |size: &usize| bytes > UNPOOLED_BYTES && bytes <= *size;
    let Some(pool) = POOLED_BYTES.iter().position(fits) else {
        return vec![0; bytes];
    };
    let pooled = POOLS.with_borrow_mut(|pools| pools[pool].pop());
    pooled.unwrap_or_else(|| vec![0; POOLED_BYTES[pool]])
}

/// Gives a buffer of [`take`] back.
pub(super) fn give_back(buffer: Vec<u8>) {
    let Some(pool) = POOLED_BYTES.iter().position(|size| *size == buffer.len()) else {
        return;
    };
    POOLS.with_borrow_mut(|pools| {
        if pools[pool].len() < POOLED_MAX {
            pools[pool].push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_used_again_and_the_pools_stay_bounded() {
        let buffer = take(70_000);
        let place = buffer.as_ptr();
        give_back(buffer);
        let again = take(65_000);
        assert_eq!(again.as_ptr(), place);
        assert_eq!(take(200_000).len(), POOLED_BYTES[1]);
        // Odd sizes and small ones crowd nobody out.
        (0..2 * POOLED_MAX).for_each(|_| give_back(vec![0; 10]));
        assert!(POOLS.with_borrow(|pools| pools[0].is_empty()));
        (0..2 * POOLED_MAX).for_each(|_| give_back(vec![0; POOLED_BYTES[0]]));
        assert_eq!(POOLS.with_borrow(|pools| pools[0].len()), POOLED_MAX);
        for bytes in [0, 1, UNPOOLED_BYTES, POOLED_BYTES[0] + 1, 1 << 20] {
            assert!(take(bytes).len() >= bytes);
        }
    }

    #[test]
    fn nesting_does_not_panic() {
        with(|_| with(|inner| assert_eq!(inner.len(), SCRATCH_BYTES)));
    }
}
