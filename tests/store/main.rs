//! The store against real file systems: killed at each durable step, full, failing, unmounted.
//!
//! Mounting needs root; without it these tests fail and say so. Everything they mount or start they
//! end themselves, also when they fail.

#![allow(clippy::unwrap_used)]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "one gap is a list of one range"
)]

mod adopt;
mod command;
mod deletion;
mod disks;
mod faults;
mod identity;
mod killed;
mod killed_fill;
mod manifest;
mod prefill;
mod receive;
mod tools;
