//! A stream of BGP messages: cut where it says, or refused.
//!
//! Seeds: `tests/corpus/bgp-framing`. Run from `tests`:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run bgp_framing corpus/bgp-framing`

#![no_main]

#[path = "../../bgp/check.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check::framing(bytes));
