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
mod flood;
mod hostile;
mod kernel;
mod keys;
mod learning;
mod memory;
mod mutants;
mod operator;
mod oracle;
mod policy;
mod punctual;
mod replay;
mod reported;
mod restart;
mod storm;
mod stream;
mod sweeps;

use oca::sys::allocations::CountingAllocator;

/// Counts, so that what promises to allocate nothing is held to it.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;
