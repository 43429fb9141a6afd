//! Which volume gets an object. Pure: `prefill` (and fills) ask, nothing is read or written here.
//!
//! The most popular objects come first, so the fastest class with room gets each object; inside a
//! class volumes share by weighted rendezvous hashing on free space, which is stable when disks
//! come and go: an object moves only to or from the disk that changed.

use super::DiskClass;
use crate::object::Digest;

/// Kept free on every volume, as a part of its size: metadata, the manifest's copies, sidecars,
/// and the file systems' own need of room to stay fast.
const RESERVE_PARTS: u64 = 100;

/// A volume that may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) volume: u16,
    pub(super) uuid: String,
    pub(super) class: DiskClass,
    pub(super) free: u64,
    pub(super) size: u64,
}

/// No volume has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// Bytes that the roomiest volume lacks; the whole length when there is no writable volume.
    pub(super) missing: u64,
}

/// The volume for `length` bytes named `name`.
pub(super) fn choose(name: &[u8], length: u64, candidates: &[Candidate]) -> Result<u16, NoRoom> {
    let roomy = |c: &&Candidate| room(c) >= length;
    let Some(class) = candidates.iter().filter(roomy).map(|c| c.class).min() else {
        let missing = candidates.iter().map(|c| length - room(c)).min();
        return Err(NoRoom {
            missing: missing.unwrap_or(length),
        });
    };
    let best = candidates
        .iter()
        .filter(roomy)
        .filter(|c| c.class == class)
        .max_by(|a, b| score(name, a).total_cmp(&score(name, b)));
    best.map(|c| c.volume).ok_or(NoRoom { missing: length })
}

/// Free bytes beyond the reserve.
pub(super) fn room(candidate: &Candidate) -> u64 {
    candidate
        .free
        .saturating_sub(candidate.size / RESERVE_PARTS)
}

/// Weighted rendezvous: `weight / -ln(u)` with `u` uniform in (0, 1) from name and volume.
fn score(name: &[u8], candidate: &Candidate) -> f64 {
    let mut text = candidate.uuid.clone().into_bytes();
    text.push(0);
    text.extend_from_slice(name);
    let [a, b, c, d, ..] = Digest::of(&text).0;
    let unit = (f64::from(u32::from_le_bytes([a, b, c, d])) + 0.5) / (f64::from(u32::MAX) + 1.0);
    gigabytes(room(candidate)) / -unit.ln()
}

/// Precise enough for a weight, without a lossy cast.
fn gigabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 20).unwrap_or(u32::MAX)).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn volume(number: u16, class: DiskClass, free: u64) -> Candidate {
        Candidate {
            volume: number,
            uuid: format!("uuid-{number}"),
            class,
            free,
            size: 1000 * GB,
        }
    }

    #[test]
    fn the_fastest_class_with_room_is_taken_and_full_disks_are_skipped() {
        let disks = [
            volume(0, DiskClass::Hdd, 900 * GB),
            volume(1, DiskClass::Nvme, 20 * GB),
            volume(2, DiskClass::Ssd, 30 * GB),
        ];
        assert_eq!(choose(b"k", GB, &disks), Ok(1));
        assert_eq!(
            choose(b"k", 15 * GB, &disks),
            Ok(2),
            "10 GB of the 20 are reserve"
        );
        assert_eq!(choose(b"k", 500 * GB, &disks), Ok(0));
    }

    #[test]
    fn no_room_names_what_is_missing() {
        let disks = [
            volume(0, DiskClass::Hdd, 30 * GB),
            volume(1, DiskClass::Ssd, GB),
        ];
        assert_eq!(
            choose(b"k", 25 * GB, &disks),
            Err(NoRoom { missing: 5 * GB })
        );
        assert_eq!(choose(b"k", 7, &[]), Err(NoRoom { missing: 7 }));
    }

    #[test]
    fn disks_share_by_room_and_a_lost_disk_moves_only_its_own() {
        let disks = [
            volume(0, DiskClass::Ssd, 110 * GB),
            volume(1, DiskClass::Ssd, 310 * GB),
            volume(2, DiskClass::Ssd, 110 * GB),
        ];
        let mut counts = [0_u32; 3];
        for n in 0..4000_u32 {
            let name = n.to_le_bytes();
            let before = choose(&name, 1, &disks).unwrap();
            counts[usize::from(before)] += 1;
            if before != 2 {
                assert_eq!(choose(&name, 1, &disks[..2]), Ok(before));
            }
        }
        assert!((2200..2600).contains(&counts[1]), "{counts:?}");
        assert!((650..950).contains(&counts[0]), "{counts:?}");
    }
}
