//! The store against real file systems: killed at each durable step and each system call, full,
//! failing, unmounted.
//!
//! Mounting needs root; without it these tests fail and say so. Everything they mount or start they
//! end themselves, also when they fail.

#![allow(clippy::unwrap_used)]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "one gap is a list of one range"
)]

mod adopt;
#[path = "../support/ailing_disk.rs"]
mod ailing_disk;
#[cfg(target_arch = "x86_64")]
mod boundaries;
mod comeback;
mod command;
mod deletion;
mod disks;
mod downgrade;
mod faults;
#[path = "../support/held_pages.rs"]
mod held_pages;
mod identity;
mod killed;
mod killed_fill;
mod lengths;
#[path = "../support/loop_disk.rs"]
mod loop_disk;
mod manifest;
mod moves;
mod outage;
mod placement;
mod prefill;
mod receive;
mod retire;
mod scrub;
mod snapshot;
mod tools;
#[cfg(target_arch = "x86_64")]
mod tracer;
mod verdict;
mod victim;
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod work;
mod writes;
