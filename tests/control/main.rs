//! The control plane from outside its rooms: store, authority, enrolment, operator's socket and
//! command line.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod authority;
mod books;
mod cli;
mod full_disk;
mod night;
mod operator;
mod prefill;
mod registry;
mod sqlite;
mod values;
