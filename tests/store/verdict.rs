//! Is what a store has after it was ended in the middle what it must have?
//!
//! Between the last acknowledged operation and the next one both outcomes of the latter are right,
//! for each object and each key; nothing else is.
//!
//! I/O: reads every object that the store shows.

use super::tools::block;
use super::tools::objects_on;
use super::tools::read_all;
use super::work;
use super::work::LEDGER;
use super::work::State;
use oca::object::Digest;
use oca::store::Finding;
use oca::store::Handle;
use std::collections::BTreeMap;

/// What is wrong, each in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub lost: Vec<String>,
    pub corrupt: Vec<String>,
    pub twice: Vec<String>,
    /// What had gone for good, or never was, and is there.
    pub back: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        [&self.lost, &self.corrupt, &self.twice, &self.back]
            .iter()
            .all(|wrongs| wrongs.is_empty())
    }
}

/// `sure` was acknowledged, `perhaps` is what the operation after it leads to.
pub(crate) fn judge(store: &Handle, sure: &State, perhaps: &State) -> Verdict {
    let mut verdict = Verdict::default();
    disks(store, &mut verdict);
    objects(store, sure, perhaps, &mut verdict);
    keys(store, sure, perhaps, &mut verdict);
    position(store, sure, perhaps, &mut verdict);
    ledger(store, sure, perhaps, &mut verdict);
    verdict
}

/// Nothing on a disk was found to be damaged, and no object is on both.
fn disks(store: &Handle, verdict: &mut Verdict) {
    let view = store.view();
    for disk in &view.disks {
        if (disk.state, disk.quarantined) != ("online", 0) {
            let (path, reason) = (disk.path.display(), &disk.reason);
            let told = format!("{path} is {}, {reason:?}", disk.state);
            let told = format!("{told}, {} put aside", disk.quarantined);
            verdict.corrupt.push(told);
        }
    }
    let held = store.held().digests.len() as u64;
    let mut on_disks: u64 = view.disks.iter().map(|disk| disk.objects).sum();
    if on_disks != held {
        // What is shown follows what is so, within a second.
        let files = view.disks.iter().flat_map(|disk| objects_on(&disk.path));
        on_disks = files.count() as u64;
    }
    if on_disks != held {
        let told = format!("{held} objects are on disks {on_disks} times");
        verdict.twice.push(told);
    }
}

fn objects(store: &Handle, sure: &State, perhaps: &State, verdict: &mut Verdict) {
    let known = work::digests();
    for digest in store.held().digests {
        if !known.contains_key(&digest.0) {
            verdict.back.push(format!("nobody knows {digest}"));
        }
        match block(store.open(digest)).map(|object| read_all(&object)) {
            Ok(Ok(bytes)) if Digest::of(&bytes) == digest => {}
            Ok(Ok(_)) => verdict.corrupt.push(format!("{digest} has other bytes")),
            Ok(Err(error)) => verdict.corrupt.push(format!("{digest}: {error}")),
            Err(error) => verdict.lost.push(format!("{digest} is shown: {error}")),
        }
    }
    for (digest, object) in known {
        let is_held = store.holds(Digest(digest));
        match (sure.held.contains(&object), perhaps.held.contains(&object)) {
            (true, true) if !is_held => verdict.lost.push(format!("object {object}")),
            (false, false) if is_held => verdict.back.push(format!("object {object}")),
            _ => {}
        }
    }
}

fn keys(store: &Handle, sure: &State, perhaps: &State, verdict: &mut Verdict) {
    let mut rows = BTreeMap::new();
    for row in store.catalogue("", None, usize::MAX) {
        if let Some(other) = rows.insert(row.key.clone(), row.digest) {
            verdict.twice.push(format!("{}: {other} too", row.key));
        }
    }
    for (digest, object) in work::digests() {
        let key = work::key(object);
        let bound = store.binding(key.as_str()).map(|binding| binding.digest);
        if bound.is_some_and(|bound| bound.0 != digest) {
            verdict.corrupt.push(format!("{key} names {bound:?}"));
        }
        let is_bound = bound.is_some();
        match (
            sure.bound.contains(&object),
            perhaps.bound.contains(&object),
        ) {
            (true, true) if !is_bound => verdict.lost.push(format!("key {key}")),
            (false, false) if is_bound => verdict.back.push(format!("key {key}")),
            _ => {}
        }
        let is_served = matches!(store.find(key.as_str()), Finding::Found(_));
        if is_served != (is_bound && store.holds(Digest(digest))) {
            verdict.lost.push(format!("{key} is served: {is_served}"));
        }
    }
}

fn position(store: &Handle, sure: &State, perhaps: &State, verdict: &mut Verdict) {
    let view = store.view();
    let found = view.manifest.as_ref();
    let found = found.map_or((0, 0), |manifest| (manifest.epoch, manifest.generation));
    if found != sure.position && found != perhaps.position {
        let told = format!("the manifest is {found:?}, not {:?}", sure.position);
        verdict.lost.push(told);
    }
}

/// Every copy is whole, and no older than what was acknowledged.
fn ledger(store: &Handle, sure: &State, perhaps: &State, verdict: &mut Verdict) {
    let copies = store.kept(LEDGER);
    if sure.kept > 0 && copies.len() != 3 {
        let told = format!("{} copies of the ledger", copies.len());
        verdict.lost.push(told);
    }
    for copy in copies {
        let is = |number: u64| number > 0 && copy == work::ledger(number);
        if !is(sure.kept) && !is(perhaps.kept) {
            let known = (1..=perhaps.kept).find(|number| is(*number));
            let told = format!("the ledger is {known:?}, not {}", sure.kept);
            verdict.corrupt.push(told);
        }
    }
}
