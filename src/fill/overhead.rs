//! What a body costs on the wire: the cap counts what the interface carries.
//!
//! A plan reckons with [`wire`], a transfer pays [`stream`] (TLS and heads are among the bytes that
//! it counts at the socket). An estimate from above: full segments of
//! Ethernet, IPv6 and TCP with timestamps, TLS 1.3 records, one response head. Small segments and
//! retransmissions are the path's, and are not known here.

/// A TLS record's plaintext (RFC 8446 section 5.1).
const RECORD: u64 = 16_384;

/// Header, content type and tag.
const RECORD_OVERHEAD: u64 = 5 + 1 + 16;

/// MTU 1500 less IPv6 (40), TCP (20) and its timestamps (12).
const SEGMENT: u64 = 1_428;

/// Ethernet header and check (18), IPv6, TCP, timestamps.
const SEGMENT_OVERHEAD: u64 = 18 + 40 + 20 + 12;

/// A response head of S3 is the longest, about 800 bytes; acknowledged requests come back empty.
const HEAD: u64 = 1_024;

/// Bytes on the wire of a response with a body of `body` bytes.
pub(super) const fn wire(body: u64) -> u64 {
    stream(body.saturating_add(HEAD))
}

/// The same of bytes in the middle of a response.
pub(super) const fn stream(bytes: u64) -> u64 {
    let records = bytes.div_ceil(RECORD).saturating_mul(RECORD_OVERHEAD);
    let sent = bytes.saturating_add(records);
    sent.saturating_add(sent.div_ceil(SEGMENT).saturating_mul(SEGMENT_OVERHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_megabyte_costs_six_and_a_half_percent_more_and_a_small_object_its_head() {
        assert_eq!(stream(0), 0);
        let share = stream(1 << 20) * 1_000 / (1 << 20);
        assert!((1_060..1_068).contains(&share), "{share}");
        // 1 + 1,024 + 22 bytes in one segment.
        assert_eq!(wire(1), 1 + 1_024 + 22 + 90);
        assert!(wire(u64::MAX) == u64::MAX);
    }

    #[test]
    fn parts_never_cost_less_than_the_whole() {
        for whole in [1_u64, 1_428, 16_384, 65_536, 1 << 20, 100_000_001] {
            let parts = whole.div_ceil(65_536);
            assert!(parts * stream(65_536) >= stream(whole));
            assert!(wire(whole) > whole);
        }
    }
}
