//! Manifest against disks: what is wanted, what is surplus, what room there is.
//!
//! The plan of a fill asks. Before every disk was scanned and the manifest loaded nothing is known,
//! and nothing is said; nor of a box whose manifest no control plane signed. Memory only; a second
//! may pass for millions of keys.

use super::Handle;
use super::core::Shared;
use super::handle::candidate;
use super::hold::Hold;
use super::manifest::Manifest;
use super::manifest::UNLISTED_RANK;
use super::place;
use super::state::State;
use crate::clock;
use crate::clock::Instant;
use crate::object::Digest;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An object that a listed key names and no readable disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub digest: Digest,
    /// As its best key claims.
    pub length: u64,
    /// The best of its keys.
    pub rank: u32,
    /// One of its keys lies in a directory that was asked for.
    pub urgent: bool,
}

/// Room on the disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Free bytes beyond the reserve, of each writable disk. What is being received has its room
    /// already.
    pub free: Vec<u64>,
    /// Bytes of held objects, each counted once.
    pub held: u64,
    /// Epoch and generation that the control plane signed; `None` before its first manifest.
    pub manifest: Option<(u64, u64)>,
}

/// What is known of one object while keys are read.
#[derive(Clone, Copy)]
struct Best {
    length: u64,
    rank: u32,
    urgent: bool,
}

impl Handle {
    /// Objects to be fetched: those that have a key in one of the directories `urgent` first, then
    /// by rank, then by digest.
    pub fn wanted(&self, urgent: &[String]) -> Vec<Wanted> {
        let shared = self.shared();
        // Of a disk that came back all is known only when its scan has ended.
        let is_scanned = !{ shared.volumes.iter() }.any(|v| v.state() == State::Scanning);
        let Some(manifest) = signed(shared).filter(|_| is_scanned) else {
            return Vec::new();
        };
        let urgent: BTreeSet<&str> = urgent.iter().map(|d| d.trim_matches('/')).collect();
        let hold = hold(shared, &manifest, clock::now());
        let index = &shared.index;
        let mut best: Vec<Option<Best>> = vec![None; index.len() as usize];
        for (key, row) in manifest.rows() {
            let is_wanted = row.rank != UNLISTED_RANK && !index.is_readable(row.object);
            let slot = best.get_mut(row.object as usize).filter(|_| is_wanted);
            let Some(slot) = slot else {
                continue;
            };
            let mut this = Best {
                length: row.length(),
                rank: row.rank,
                urgent: lies_in(key, &urgent),
            };
            if hold.holds(row.object, index.places(row.object), this.rank, this.urgent) {
                continue;
            }
            if let Some(other) = slot {
                this.urgent |= other.urgent;
                if other.rank <= this.rank {
                    (this.length, this.rank) = (other.length, other.rank);
                }
            }
            *slot = Some(this);
        }
        let found = (0_u32..).zip(best).filter_map(|(number, best)| {
            let best = best?;
            Some(Wanted {
                digest: index.digest(number)?,
                length: best.length,
                rank: best.rank,
                urgent: best.urgent,
            })
        });
        let mut wanted: Vec<Wanted> = found.collect();
        wanted.sort_unstable_by_key(|w| (Reverse(w.urgent), w.rank, w.digest));
        wanted
    }

    /// Held objects that only unlisted keys name, or none, with their lengths, by digest: those
    /// that [`Handle::delete`] can remove.
    pub fn surplus(&self) -> Vec<(Digest, u64)> {
        let shared = self.shared();
        let Some(manifest) = signed(shared) else {
            return Vec::new();
        };
        let index = &shared.index;
        let mut listed = vec![false; index.len() as usize];
        for (_, row) in manifest.rows() {
            if let Some(listed) = listed.get_mut(row.object as usize) {
                *listed |= row.rank != UNLISTED_RANK;
            }
        }
        let writable = |number: u16| {
            let volume = shared.volume(number);
            volume.is_some_and(|volume| volume.state().is_writable())
        };
        let unlisted = (0_u32..).zip(listed).filter(|(_, listed)| !listed);
        let removable = unlisted.filter(|(n, _)| index.places(*n).iter().any(writable));
        let mut surplus: Vec<(Digest, u64)> =
            removable.filter_map(|(n, _)| index.object(n)).collect();
        surplus.sort_unstable();
        surplus
    }

    pub fn space(&self) -> Room {
        let shared = self.shared();
        let writable = shared.volumes.iter().filter(|v| v.takes_objects());
        let index = &shared.index;
        let held = (0..index.len()).filter(|number| index.is_readable(*number));
        Room {
            free: writable
                .filter_map(|volume| candidate(volume))
                .map(|candidate| place::room(&candidate))
                .collect(),
            held: held
                .filter_map(|number| index.object(number))
                .map(|(_, length)| length)
                .sum(),
            manifest: signed(shared).map(|manifest| manifest.position.signed()),
        }
    }
}

/// The control plane's manifest, once all disks that can be read are known.
fn signed(shared: &Shared) -> Option<Arc<Manifest>> {
    let manifest = shared.manifest.load_full();
    manifest.filter(|manifest| manifest.is_signed() && *shared.settled.borrow())
}

/// What is not fetched again yet.
fn hold(shared: &Shared, manifest: &Manifest, now: Instant) -> Hold {
    let ranks = manifest.rows().map(|(_, row)| row.rank);
    let worst = ranks.filter(|rank| *rank != UNLISTED_RANK).max();
    let lost = shared.volumes.iter();
    let lost = lost.filter_map(|volume| Some((volume.number, volume.status().lost?)));
    let mut hold = Hold::new(&shared.upkeep, now, lost, worst.unwrap_or(0));
    shared.absent.presume(shared, now, &mut hold);
    hold
}

/// Does the key lie in one of the directories? `a/b` has `a/b/c` and not `a/bc`.
fn lies_in(key: &str, directories: &BTreeSet<&str>) -> bool {
    if directories.is_empty() {
        return false;
    }
    let mut ends = key.match_indices('/').map(|(at, _)| &key[..at]);
    ends.any(|directory| directories.contains(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_covers_whole_segments() {
        let directories = BTreeSet::from(["a/b", "c"]);
        for (key, inside) in [
            ("a/b/c", true),
            ("a/b/c/d", true),
            ("a/bc", false),
            ("a/bc/d", false),
            ("a/b", false),
            ("c/x", true),
            ("d/c/x", false),
        ] {
            assert_eq!(lies_in(key, &directories), inside, "{key}");
        }
        assert!(!lies_in("a/b", &BTreeSet::new()));
    }
}
