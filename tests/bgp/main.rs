//! The BGP speaker against real BIRD 2, against routers that misbehave, and on a network in memory.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod allocations;
mod bird;
mod check;
mod corpus;
mod cve;
mod differences;
mod family;
mod hostile;
mod keys;
mod learning;
mod memory;
mod mutants;
mod oracle;
mod punctual;
mod replay;
mod restart;
mod storm;
mod stream;

use oca::sys::allocations::CountingAllocator;

/// Counts, so that what promises to allocate nothing is held to it.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;
