//! The peer listener over real TLS on loopback, with a real store and certificates of the control
//! plane's own authority: who gets what, who does not, and what neither can do to the other.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/held_pages.rs"]
mod held_pages;
#[path = "../support/loop_disk.rs"]
mod loop_disk;
#[path = "../serve/slow_disk.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod slow_disk;

mod disks;
mod fetch;
mod hostile;
mod identity;
mod lab;
mod pace;
mod readers;
mod tickets;
mod unfinished;
