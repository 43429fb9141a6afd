//! What a body costs on the wire: the cap counts what the interface carries.
//!
//! A plan reckons with [`wire`], before any path is known. A transfer pays by [`Framing`]: TLS and
//! heads are among the bytes that it counts at the socket, the frames around them follow from the
//! address family and from the segments that have really come. From above at every step: full
//! segments of Ethernet with timestamps as long as nothing was measured, the frame's check counted
//! where interfaces leave it out. What was sent twice counts with its frame alone: its content is
//! not known here.

/// A TLS record's plaintext (RFC 8446 section 5.1).
const RECORD: u64 = 16_384;

/// Header, content type and tag.
const RECORD_OVERHEAD: u64 = 5 + 1 + 16;

/// MTU of Ethernet.
const MTU: u64 = 1_500;

/// Header and check.
const ETHERNET: u64 = 14 + 4;

/// TCP and its timestamps.
const TCP: u64 = 20 + 12;

const IPV4: u64 = 20;
const IPV6: u64 = 40;

/// A response head of S3 is the longest, about 800 bytes; acknowledged requests come back empty.
const HEAD: u64 = 1_024;

/// Before so many bytes have come, segments are those of a handshake and say little.
const MEASURED_MIN: u64 = 16 << 10;

/// What frames around the bytes of one connection cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    /// Around each segment.
    headers: u64,
    /// So many segments brought so many bytes.
    segments: u64,
    bytes: u64,
}

impl Framing {
    /// The dearest of the two families, before it is known which.
    pub(super) const UNKNOWN: Self = Self::full(IPV6);

    pub(super) const fn of_family(is_ipv4: bool) -> Self {
        Self::full(if is_ipv4 { IPV4 } else { IPV6 })
    }

    const fn full(ip: u64) -> Self {
        Self {
            headers: ETHERNET + ip + TCP,
            segments: 1,
            bytes: MTU - ip - TCP,
        }
    }

    /// As `segments` brought `bytes`; none can have brought more than `payload_max`, whatever an
    /// interface that merges them says. Too few to tell: as it was.
    pub(super) fn measured(self, segments: u64, bytes: u64, payload_max: u64) -> Self {
        if bytes < MEASURED_MIN {
            return self;
        }
        Self {
            segments: segments.max(bytes.div_ceil(payload_max.max(1))),
            bytes,
            ..self
        }
    }

    /// Bytes on the wire of `bytes` at the socket.
    pub(super) fn wire(&self, bytes: u64) -> u64 {
        let segments = u128::from(bytes) * u128::from(self.segments);
        let segments = segments.div_ceil(u128::from(self.bytes));
        let frames = segments.saturating_mul(u128::from(self.headers));
        u64::try_from(frames).map_or(u64::MAX, |frames| bytes.saturating_add(frames))
    }
}

/// Bytes on the wire of a response with a body of `body` bytes, over a path that is not known.
pub(super) fn wire(body: u64) -> u64 {
    piece(body.saturating_add(HEAD))
}

/// The same of some bytes in the middle of one.
pub(super) fn piece(bytes: u64) -> u64 {
    let records = bytes.div_ceil(RECORD).saturating_mul(RECORD_OVERHEAD);
    Framing::UNKNOWN.wire(bytes.saturating_add(records))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_mille(framing: Framing) -> u64 {
        framing.wire(1 << 20) * 1_000 / (1 << 20)
    }

    #[test]
    fn a_megabyte_costs_its_frames_and_a_small_object_its_head() {
        assert_eq!(Framing::UNKNOWN.wire(0), 0);
        assert_eq!(per_mille(Framing::UNKNOWN), 1_063);
        assert_eq!(per_mille(Framing::of_family(false)), 1_063);
        assert_eq!(per_mille(Framing::of_family(true)), 1_048);
        // 1 + 1,024 + 22 bytes in one segment.
        assert_eq!(wire(1), 1 + 1_024 + 22 + 90);
        assert!(wire(u64::MAX) == u64::MAX);
        // A record of a longer answer: no head, and a part of its last segment.
        assert_eq!(piece(16_384), Framing::UNKNOWN.wire(16_384 + 22));
        assert_eq!(piece(0), 0);
    }

    #[test]
    fn what_is_measured_is_believed_as_far_as_it_is_possible() {
        let known = Framing::of_family(true);
        assert_eq!(known.measured(4, 4_000, 1_448), known, "a handshake");
        // Half empty segments, as of a tunnel or a sender of short records.
        let short = known.measured(1_000, 724_000, 1_448);
        assert_eq!(short.wire(724_000), 724_000 + 1_000 * 70);
        let jumbo = known.measured(1_000, 8_948_000, 8_948);
        assert_eq!(jumbo.wire(8_948_000), 8_948_000 + 1_000 * 70);
        // An interface merged them and counted each heap once.
        let merged = known.measured(23, 1_448_000, 1_448);
        assert_eq!(merged.wire(1_448_000), 1_448_000 + 1_000 * 70);
        assert_eq!(merged.wire(u64::MAX), u64::MAX);
    }

    #[test]
    fn parts_never_cost_less_than_the_whole() {
        let framings = [
            Framing::UNKNOWN,
            Framing::of_family(true),
            Framing::of_family(true).measured(977, 1 << 20, 1_448),
        ];
        for framing in framings {
            for whole in [1_u64, 1_428, 16_384, 65_536, 1 << 20, 100_000_001] {
                let parts = whole.div_ceil(65_536);
                assert!(parts * framing.wire(65_536) >= framing.wire(whole));
                assert!(framing.wire(whole) > whole);
            }
        }
    }
}
