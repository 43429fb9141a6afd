//! Origins and the import, against a real S3 service (SeaweedFS) with a faulty wire before it, and
//! against directories; the control store is the real one.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod bucket;
mod directory;
mod faults;
mod lab;
mod proxy;
mod weed;
