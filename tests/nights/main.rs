//! World nights: the whole fill on one paused runtime, with a simulated store, network and control
//! plane. Nights pass in seconds, and every byte is accounted for.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod full;
mod history;
mod leaving;
mod prefill;
mod ration;
mod trouble;
mod world;
