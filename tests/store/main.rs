//! The store against real file systems: killed at each durable step, full, failing, unmounted.
//!
//! Mounting needs root; without it these tests fail and say so. Everything they mount or start they
//! end themselves, also when they fail.

#![allow(clippy::unwrap_used)]

mod adopt;
mod command;
mod disks;
mod faults;
mod identity;
mod killed;
mod manifest;
mod prefill;
mod tools;
