//! Memory that connections read into, one after another.
//!
//! [`super::sealed`] borrows a piece for the time from a read until what came is opened. The last
//! that was given back is lent first: it is still in the processor's cache, where a buffer for each
//! connection would not be when its turn comes.

use crate::lock::lock;
use std::sync::Mutex;

/// Before the read: the part of a record that an earlier one has left, which is less than 16 KiB
/// and 261 bytes (RFC 8446 section 5.2).
pub(super) const PART_BYTES: usize = 17 << 10;

/// Five records of full size.
pub(super) const READ_BYTES: usize = 84 << 10;

/// Kept when nobody has use for them; more only while more are in use.
const KEPT_MAX: usize = 8;

static IDLE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// [`PART_BYTES`] and [`READ_BYTES`], with what they were last used for.
pub(super) fn take() -> Box<[u8]> {
    let idle = lock(&IDLE).pop();
    idle.unwrap_or_else(|| vec![0; PART_BYTES + READ_BYTES].into_boxed_slice())
}

pub(super) fn give_back(buffer: Box<[u8]>) {
    let mut idle = lock(&IDLE);
    if idle.len() < KEPT_MAX {
        idle.push(buffer);
    }
}
