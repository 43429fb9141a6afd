//! The body of an OPEN: what is understood is written and read the same.
//!
//! Seeds: `tests/corpus/bgp-open`. Run from `tests`:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run bgp_open corpus/bgp-open`

#![no_main]

#[path = "../../bgp/check.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check::open(bytes));
