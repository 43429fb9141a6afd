//! The box's side of the control link as a whole, on a paused clock: TLS over in-memory streams, a
//! control plane that follows the golden files, and everything that may become of it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/golden.rs"]
mod golden;
#[allow(dead_code, reason = "the link's tests use the rest")]
#[path = "../link/lab.rs"]
mod lab;
mod life;
mod night;
mod plane;
mod shelf;
mod trouble;
mod world;
