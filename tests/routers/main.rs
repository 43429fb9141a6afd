//! The daemon beside routers of two makes, BIRD 2 and GoBGP, each in a network namespace of its own
//! with a wire between: everything that a provider's router may do to a session, and what the
//! operator of either side sees of it.
//!
//! Needs root, `ip` (iproute2), `bird` (bird2) and `gobgpd`.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod bird;
mod gobgp;
#[path = "../lab/harness.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod harness;
mod options;
mod ours;
mod pair;
mod restarts;
mod router;
mod sessions;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod support;
