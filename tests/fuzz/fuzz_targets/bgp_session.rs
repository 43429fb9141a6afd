//! A whole session against what one neighbour sends.
//!
//! Seeds: `tests/corpus/bgp-session`. Run from `tests`:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run bgp_session corpus/bgp-session`

#![no_main]

#[path = "../../bgp/stream.rs"]
mod stream;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| stream::session(bytes));
