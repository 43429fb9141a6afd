//! Buffers of a worker's thread: one scratch area that is only held within a poll, and a small
//! pool of large buffers for responses in flight.
//!
//! An idle connection owns no buffer at all; this is what keeps 10,000 of them cheap. Connections
//! never move between threads, so thread-local storage needs no locks.

use std::cell::RefCell;

/// The scratch area; as large as the largest piece of a file encrypted at once.
pub(super) const SCRATCH_BYTES: usize = 256 * 1024;

/// Large buffers kept for the next response, a thread. More are freed instead.
const POOLED_MAX: usize = 32;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
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

/// A buffer of at least `bytes` initialised bytes.
pub(super) fn take(bytes: usize) -> Vec<u8> {
    let pooled = POOL.with_borrow_mut(|pool| {
        let at = pool.iter().position(|buffer| buffer.len() >= bytes)?;
        Some(pool.swap_remove(at))
    });
    pooled.unwrap_or_else(|| vec![0; bytes])
}

/// Gives a buffer of [`take`] back.
pub(super) fn give_back(buffer: Vec<u8>) {
    POOL.with_borrow_mut(|pool| {
        if pool.len() < POOLED_MAX {
            pool.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_used_again_and_the_pool_stays_bounded() {
        let buffer = take(1000);
        let place = buffer.as_ptr();
        give_back(buffer);
        let again = take(500);
        assert_eq!(again.as_ptr(), place);
        (0..2 * POOLED_MAX).for_each(|_| give_back(vec![0; 10]));
        assert_eq!(POOL.with_borrow(Vec::len), POOLED_MAX);
    }

    #[test]
    fn nesting_does_not_panic() {
        with(|_| with(|inner| assert_eq!(inner.len(), SCRATCH_BYTES)));
    }
}
