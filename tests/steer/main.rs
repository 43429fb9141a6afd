//! The public side of the control plane over real sockets: the contract of `/v1/steer`, what
//! decided, trust, closed boxes, and hostile questions. Plain HTTP and HTTPS on loopback.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod contract;
mod decisions;
mod hostile;
mod stage;
mod titles;
