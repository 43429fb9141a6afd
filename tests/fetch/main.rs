//! Transfers over real sockets: a real S3 service (SeaweedFS) behind a faulty wire, boxes and the
//! control plane's gateway behind mutual TLS, and what each fault costs.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod addresses;
mod faults;
mod lab;
mod money;
mod proxy;
mod several;
mod speed;
mod trust;
#[path = "../origin/weed.rs"]
mod weed;
mod world;
