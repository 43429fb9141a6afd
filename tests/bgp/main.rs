//! The BGP speaker against real BIRD 2, against routers that misbehave, and on a network in memory.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod bird;
mod check;
mod corpus;
mod hostile;
mod learning;
mod memory;
mod mutants;
mod oracle;
mod punctual;
mod restart;
mod storm;
