//! The night with real processes: boxes that are killed, a region of twelve, and boxes in network
//! namespaces whose interface counters are the judge.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/ailing_disk.rs"]
mod ailing_disk;
mod counter;
mod coupling;
mod harness;
mod kills;
#[path = "../support/loop_disk.rs"]
mod loop_disk;
mod manifest;
mod mixed;
mod namespaces;
mod net;
mod region;
mod sick;
mod sick_viewers;
mod viewers;
