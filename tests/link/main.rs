//! The wire between box and control plane: golden files, the document, limits, and the box's client
//! against control planes that are right, wrong, hostile, slow and gone.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod client;
mod document;
#[path = "../support/golden.rs"]
mod golden;
mod impostors;
mod lab;
mod limits;
mod messages;
mod vectors;
