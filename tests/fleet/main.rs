//! The control plane's link listener and fleet over real TLS: what boxes say, and what everybody
//! else tries.
//!
//! I/O: loopback sockets and in-memory streams; no files, no processes.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(clippy::print_stdout, reason = "figures are for people")]

mod bodies;
mod fill;
mod golden;
mod identity;
mod lab;
mod limits;
mod load;
mod talk;
