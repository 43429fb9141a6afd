//! Who fetches what from whom: whole nights of simulated boxes that ask the real sources, the
//! origin's gateway with real files, and how many questions a second are answered.
//!
//! I/O: temporary directories; no sockets.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(clippy::print_stdout, reason = "figures are for people")]

mod gateway;
mod night;
mod simulation;
mod speed;
mod yard;
