//! Takes a `std` mutex whose guarded value stays usable when a holder panicked. For everybody.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Every update behind a lock here is whole before anything can panic, so that what a panicking
/// thread leaves behind is as good as before.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
