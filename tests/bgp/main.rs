//! The BGP speaker against real BIRD 2, against routers that misbehave, and on a network in memory.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod bird;
mod corpus;
mod hostile;
mod keys;
mod learning;
mod memory;
mod punctual;
mod restart;
