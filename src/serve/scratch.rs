//! Buffers of a worker's thread: one scratch area that is only held within a poll, and a small
//! pool of large buffers for responses in flight.
//!
//! An idle connection owns no buffer at all; this is what keeps 10,000 of them cheap. Connections
//! never move between threads, so thread-local storage needs no locks.

use std::cell::RefCell;

/// The scratch area; as large as the largest piece of a file encrypted at once.
pub(super) const SCRATCH_BYTES: usize = 256 * 1024;

/// A smaller buffer (a handshake's) is cheap to allocate and must not take a large one's place.
const POOLED_BYTES_MIN: usize = 64 * 1024;

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
    if bytes < POOLED_BYTES_MIN {
        return vec![0; bytes];
    }
    let pooled = POOL.with_borrow_mut(|pool| {
        let sizes = pool.iter().map(Vec::len).enumerate();
        let (at, _) = sizes
            .filter(|(_, size)| *size >= bytes)
            .min_by_key(|(_, size)| *size)?;
        Some(pool.swap_remove(at))
    });
    pooled.unwrap_or_else(|| vec![0; bytes])
}

/// Gives a buffer of [`take`] back.
pub(super) fn give_back(buffer: Vec<u8>) {
    if buffer.len() < POOLED_BYTES_MIN {
        return;
    }
    POOL.with_borrow_mut(|pool| {
        if pool.len() < POOLED_MAX {
            pool.push(buffer);
        } else if let Some(smallest) = pool.iter_mut().min_by_key(|kept| kept.len())
            && smallest.len() < buffer.len()
        {
            *smallest = buffer;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_used_again_and_the_pool_stays_bounded() {
        (0..2 * POOLED_MAX).for_each(|_| give_back(vec![0; 10]));
        assert_eq!(POOL.with_borrow(Vec::len), 0, "small ones take no place");
        let buffer = take(SCRATCH_BYTES);
        let place = buffer.as_ptr();
        give_back(buffer);
        let again = take(POOLED_BYTES_MIN);
        assert_eq!(again.as_ptr(), place);
        (0..POOLED_MAX).for_each(|_| give_back(vec![0; POOLED_BYTES_MIN]));
        (0..2 * POOLED_MAX).for_each(|_| give_back(vec![0; SCRATCH_BYTES]));
        let is_large = |buffer: &Vec<u8>| buffer.len() == SCRATCH_BYTES;
        assert!(POOL.with_borrow(|pool| pool.iter().all(is_large)));
        assert_eq!(POOL.with_borrow(Vec::len), POOLED_MAX);
    }

    #[test]
    fn nesting_does_not_panic() {
        with(|_| with(|inner| assert_eq!(inner.len(), SCRATCH_BYTES)));
    }
}
