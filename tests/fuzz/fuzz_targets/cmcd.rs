//! CMCD in request targets and fields: no bytes panic, and text stays printable and bounded.
//!
//! Seeds: `tests/corpus/cmcd`. Run from `tests/fuzz`:
//! `cargo +nightly fuzz run cmcd ../corpus/cmcd`

#![no_main]

use libfuzzer_sys::fuzz_target;
use oca::serve::Cmcd;
use oca::serve::FIELDS_MAX;
use oca::serve::Head;
use std::mem::MaybeUninit;

fuzz_target!(|bytes: &[u8]| {
    let (query, fields) = bytes.split_at(bytes.len() / 2);
    for at in [query, bytes] {
        let mut head = b"GET /a?CMCD=".to_vec();
        head.extend_from_slice(at);
        head.extend_from_slice(b" HTTP/1.1\r\nHost: h\r\nCMCD-Status: ");
        head.extend_from_slice(fields);
        head.extend_from_slice(b"\r\n\r\n");
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let Ok(head) = Head::parse(&head, &mut room, 64) else {
            continue;
        };
        let Some(cmcd) = Cmcd::of(&head) else {
            continue;
        };
        let texts = [&cmcd.cid, &cmcd.sid, &cmcd.nor, &cmcd.nrr];
        for text in texts.into_iter().flatten() {
            assert!(text.len() <= 300);
            assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        }
    }
});
