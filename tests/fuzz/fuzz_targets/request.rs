//! Request heads: no bytes panic, and what is accepted is framed in one way only.
//!
//! Seeds: `tests/corpus/http`. Run from `tests/fuzz`:
//! `cargo +nightly fuzz run request ../corpus/http`

#![no_main]

use libfuzzer_sys::fuzz_target;
use oca::serve::FIELDS_MAX;
use oca::serve::Head;
use oca::serve::HeadScan;
use oca::serve::Route;
use oca::serve::Scan;
use oca::serve::Target;
use oca::serve::parse_range;
use oca::tls::token::Presented;
use std::mem::MaybeUninit;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Scan::Complete { start, end }) = HeadScan::default().step(bytes, 16 * 1024) else {
        return;
    };
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let Ok(head) = Head::parse(&bytes[start..end], &mut room, 64) else {
        return;
    };
    assert_eq!(head.values("transfer-encoding").count(), 0);
    assert!(head.values("content-length").all(|value| value == b"0"));
    assert!(head.values("host").count() <= 1);
    if let Target::Path(path) = head.target
        && let Ok(Route::Content(_, Some(token))) = Route::parse(path)
    {
        let _ = Presented::from_path(token);
    }
    let _ = Presented::from_query(head.query);
    for value in head.values("range") {
        let _ = parse_range(value, 1000);
    }
    // No shorter prefix is a head of its own.
    for cut in start..end {
        assert_eq!(HeadScan::default().step(&bytes[..cut], 16 * 1024), Ok(Scan::Incomplete));
    }
});
