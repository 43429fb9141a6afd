//! BGP messages: no bytes panic, and what is written again is read the same.
//!
//! Seeds: `tests/corpus/bgp`. Run from `tests/fuzz`:
//! `cargo +nightly fuzz run bgp ../corpus/bgp`

#![no_main]

use libfuzzer_sys::fuzz_target;
use oca::bgp::wire;
use oca::bgp::wire::Message;
use oca::bgp::wire::Negotiated;

fuzz_target!(|bytes: &[u8]| {
    let session = |four_octets, external| Negotiated {
        four_octets,
        ipv4: true,
        ipv6: true,
        external,
    };
    let framed = matches!(wire::frame(bytes), Ok(Some(length)) if length == bytes.len());
    for session in [None, Some(session(true, true)), Some(session(false, false))] {
        let Ok(message) = wire::decode(bytes, session.as_ref()) else {
            continue;
        };
        assert!(framed);
        if let (Message::Update(update), Some(session)) = (&message, session) {
            for reach in &update.announced {
                // Sets and sequences of a short session may come back merged; prefixes may not.
                let again = wire::announce(&reach.attributes, &reach.prefixes, session.four_octets);
                for message in again.into_iter().flatten() {
                    assert!(wire::decode(&message, Some(&session)).is_ok());
                }
            }
        }
    }
});
