//! An octet that chooses the session, then the body of an UPDATE: what holds for any.
//!
//! Seeds: `tests/corpus/bgp-update`. Run from `tests`:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run bgp_update corpus/bgp-update`

#![no_main]

#[path = "../../bgp/check.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check::update(bytes));
