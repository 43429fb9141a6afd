//! How often this thread asked for memory and how much it held at most: an allocator that counts
//! and otherwise is the system's.
//!
//! For tests and benches that promise to allocate nothing, which install it with
//! `#[global_allocator]`. The daemon never uses it.

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Below zero where a thread gives back what another one took.
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<i64> = const { Cell::new(0) };
}

#[derive(Debug, Default)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// Allocations and reallocations of this thread so far.
    pub fn count() -> u64 {
        COUNT.with(Cell::get)
    }

    /// Bytes that this thread held at one time while it did the work, beyond those before it.
    pub fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = HELD_BYTES.with(Cell::get);
        PEAK_BYTES.with(|peak| peak.set(before));
        let result = work();
        let peak = PEAK_BYTES.with(Cell::get) - before;
        (result, peak.unsigned_abs())
    }
}

/// Not counted while a thread ends and its counters are gone.
fn note(taken: usize, returned: usize) {
    if taken > 0 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    }
    let change = taken as i64 - returned as i64;
    let held = HELD_BYTES.try_with(|held| {
        held.set(held.get() + change);
        held.get()
    });
    if let Ok(held) = held {
        let _ = PEAK_BYTES.try_with(|peak| peak.set(peak.get().max(held)));
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// the counter is a thread's own cell without a destructor and allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: `pointer` came from `System` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes, layout.size());
        // SAFETY: `pointer` came from `System` with this layout, as the caller promises.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
