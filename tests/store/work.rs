//! What a box does until something ends it, and what it then must still have.
//!
//! Operations on a store of two disks and a state directory below one directory, in a guest each a
//! file system of its own. What was acknowledged before it has to be there whatever comes, which
//! `verdict` judges: after a loss of power in a guest, after a kill at a system call here.
//!
//! I/O: works on the store.

use super::tools::CHUNK;
use super::tools::block;
use super::tools::bytes;
use super::tools::feed;
use super::tools::receive;
use super::tools::until;
use oca::key::Key;
use oca::object::Digest;
use oca::store::Binding;
use oca::store::Config;
use oca::store::DiskClass;
use oca::store::DiskConfig;
use oca::store::Handle;
use oca::store::Night;
use oca::store::PublishError;
use oca::store::Upkeep;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

/// Smaller than a page, a whole chunk, whole chunks with and without a rest.
const LENGTHS: [usize; 5] = [600_001, 4_999, 262_144, 1_310_720, 300_007];

/// Of a transfer that ends before its object is whole.
const FIRST_CHUNKS: usize = 1;

/// Handed to a publication at once.
const PIECE: usize = 1 << 18;

/// Under which the box keeps small state, as its ledger.
pub(crate) const LEDGER: &str = "ledger";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// As a prefill does it.
    Publish(usize),
    /// As a fill does it, in two transfers.
    Receive(usize),
    /// Keys of these, by the box itself.
    Bind(Vec<usize>),
    /// A signed manifest lists exactly these.
    Adopt(Vec<usize>),
    Delete(Vec<usize>),
    Keep,
    /// A disk gives away all that it has, and takes no more.
    Retire(usize),
    /// It takes objects again.
    Stay(usize),
    /// A night in which every object gets a second copy.
    Copy,
    /// There is no room for second copies any more.
    Spare,
    Restart,
}

/// What a box has between two operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub held: BTreeSet<usize>,
    /// Objects whose key is known.
    pub bound: BTreeSet<usize>,
    /// Epoch and generation.
    pub position: (u64, u64),
    pub kept: u64,
}

/// Twice: objects come by both ways and are bound, some are listed and the others deleted, one
/// of those comes again.
pub(crate) fn plan() -> Vec<Work> {
    let mut plan = Vec::new();
    for first in [0, 5] {
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|more| first + more);
        plan.extend([a, b, c].map(Work::Publish));
        plan.extend([Work::Bind(vec![a, b, c]), Work::Keep]);
        plan.extend([d, e].map(Work::Receive));
        let mut listed = vec![a, c, d, e];
        listed.extend((0..first).filter(|old| old % 5 != 1));
        plan.extend([Work::Adopt(listed.clone()), Work::Keep]);
        plan.push(Work::Delete(vec![b]));
        listed.retain(|one| *one != c && *one != d);
        plan.extend([Work::Adopt(listed.clone()), Work::Delete(vec![c, d])]);
        plan.extend([Work::Receive(c), Work::Restart, Work::Publish(b)]);
        listed.extend([b, c]);
        plan.extend([Work::Adopt(listed), Work::Keep]);
    }
    plan
}

impl State {
    /// After one more operation.
    pub(crate) fn after(&self, work: &Work) -> Self {
        let mut next = self.clone();
        match work {
            Work::Publish(object) | Work::Receive(object) => {
                next.held.insert(*object);
            }
            Work::Bind(objects) => {
                next.bound.extend(objects);
                // A box's own keys raise nothing that was signed.
                next.position.1 += u64::from(next.position.0 == 0);
            }
            Work::Adopt(objects) => {
                next.bound.extend(objects);
                let (epoch, generation) = next.position;
                next.position = (1, generation * epoch + 1);
            }
            Work::Delete(objects) => {
                for object in objects {
                    next.held.remove(object);
                    next.bound.remove(object);
                }
            }
            Work::Keep => next.kept += 1,
            Work::Retire(_) | Work::Stay(_) | Work::Copy | Work::Spare | Work::Restart => {}
        }
        next
    }
}

pub(crate) fn content(object: usize) -> Vec<u8> {
    let length = LENGTHS[object % LENGTHS.len()];
    bytes(&format!("object {object}"), length)
}

pub(crate) fn digest(object: usize) -> Digest {
    Digest(DIGESTS[object])
}

pub(crate) fn key(object: usize) -> Key {
    Key::parse(format!("film/{object}.m4s").as_bytes()).unwrap()
}

/// Of every object, by its number.
static DIGESTS: LazyLock<Vec<[u8; 32]>> = LazyLock::new(|| {
    let objects = 0..2 * LENGTHS.len();
    objects
        .map(|object| Digest::of(&content(object)).0)
        .collect()
});

/// Digest → object.
pub(crate) fn digests() -> BTreeMap<[u8; 32], usize> {
    DIGESTS.iter().copied().zip(0..).collect()
}

/// What is kept for the `number`th time: more than a page, and recognised when it is torn.
pub(crate) fn ledger(number: u64) -> Vec<u8> {
    bytes(&format!("ledger {number}"), 10_007)
}

fn binding(object: usize) -> (Key, Binding) {
    let binding = Binding {
        digest: digest(object),
        length: content(object).len() as u64,
        last_modified: 1_700_000_000,
        rank: u32::try_from(object).unwrap(),
    };
    (key(object), binding)
}

/// The state directory and two disks below one directory.
pub(crate) fn config(at: &Path) -> Config {
    let disk = |number: u32| DiskConfig {
        path: at.join(format!("disk{number}")),
        class: DiskClass::Ssd,
        zone: oca::store::Zone::None,
        plain_directory: true,
    };
    Config {
        disks: vec![disk(0), disk(1)],
        state_dir: at.join("state"),
        deadline: Duration::from_secs(30),
        upkeep: Upkeep::default(),
    }
}

/// One operation, to its acknowledgement.
pub(crate) fn perform(store: &Handle, state: &State, work: &Work) {
    attempt(store, state, work).unwrap_or_else(|problem| panic!("{work:?}: {problem}"));
}

/// One operation, which may fail, and which a failed one before it must not stand in the way of.
pub(crate) fn attempt(store: &Handle, state: &State, work: &Work) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    match work {
        Work::Publish(object) => publish(store, *object).map_err(|error| told(&error)),
        Work::Receive(object) => transfer(store, *object).map_err(|error| told(&error)),
        Work::Bind(objects) => {
            let rows = objects.iter().map(|object| binding(*object)).collect();
            let bound = store.bind(&rows);
            bound.map(drop).map_err(|error| told(&error))
        }
        Work::Adopt(objects) => {
            let (epoch, generation) = state.after(work).position;
            let rows = objects.iter().map(|object| binding(*object)).collect();
            let adopted = store.adopt(epoch, generation, rows);
            adopted.map(drop).map_err(|error| told(&error))
        }
        Work::Delete(objects) => {
            let digests: Vec<Digest> = objects.iter().map(|object| digest(*object)).collect();
            let freed = store.delete(&digests).map_err(|error| told(&error))?;
            let left = digests.iter().filter(|digest| store.holds(**digest));
            match left.count() {
                0 => Ok(()),
                left => Err(format!("{freed} bytes freed, {left} objects left")),
            }
        }
        Work::Keep => {
            let kept = store.keep(LEDGER, &ledger(state.kept + 1));
            kept.map_err(|error| told(&error))
        }
        Work::Retire(disk) => retire(store, *disk),
        Work::Stay(disk) => {
            let stayed = store.retire(&store.view().disks[*disk].path, true);
            stayed.map(drop).map_err(|error| told(&error))
        }
        Work::Copy => {
            store.allow_moves(Some(Night {
                date: jiff::civil::date(2026, 11, 22),
                until: oca::clock::now() + Duration::from_secs(600),
            }));
            let done = until_copies(store, 2);
            store.allow_moves(None);
            done
        }
        Work::Spare => {
            store.note_no_room();
            until_copies(store, 1)
        }
        Work::Restart => Err("whoever has the store does that".to_owned()),
    }
}

/// Until each object is on so many disks.
fn until_copies(store: &Handle, each: u64) -> Result<(), String> {
    let end = oca::clock::now() + Duration::from_secs(20);
    let held = store.held().digests.len() as u64;
    while oca::clock::now() < end {
        let view = store.view();
        if view.disks.iter().map(|disk| disk.objects).sum::<u64>() == each * held {
            return Ok(());
        }
        oca::clock::block_for(Duration::from_millis(2));
    }
    Err(format!("it does not end: {:?}", store.view().moves))
}

/// Until the disk is empty, or says why it is not.
fn retire(store: &Handle, disk: usize) -> Result<(), String> {
    let path = &store.view().disks[disk].path;
    store.retire(path, false).map_err(|e| e.to_string())?;
    let end = oca::clock::now() + Duration::from_secs(20);
    while oca::clock::now() < end {
        let view = store.view().disks[disk].retire.clone().unwrap_or_default();
        match (view.state, view.reason) {
            ("retired", _) => return Ok(()),
            (_, Some(reason)) => return Err(reason),
            (_, None) => oca::clock::block_for(Duration::from_millis(2)),
        }
    }
    Err("it does not end".to_owned())
}

/// What goes on by itself after a start has ended.
pub(crate) fn come_to_rest(store: &Handle) {
    until("disks that retire are empty", || {
        let view = store.view();
        let mut retiring = view.disks.iter().filter_map(|disk| disk.retire.as_ref());
        retiring.all(|retire| retire.state == "retired")
    });
}

/// As a prefill does it.
pub(crate) fn publish(store: &Handle, object: usize) -> Result<(), PublishError> {
    let (key, content) = (key(object), content(object));
    let length = content.len() as u64;
    let mut staged = store.stage(key.as_str().as_bytes(), length, &BTreeSet::new())?;
    for piece in content.chunks(PIECE) {
        staged.write(piece.to_vec())?;
    }
    staged.commit(Some(digest(object))).map(drop)
}

/// As a fill does it, that is stopped once.
fn transfer(store: &Handle, object: usize) -> Result<(), PublishError> {
    let content = content(object);
    let mut staged = receive(store, &content)?;
    feed(&mut staged, &content, |chunk| chunk < FIRST_CHUNKS)?;
    drop(staged);
    let mut staged = receive(store, &content)?;
    feed(&mut staged, &content, |_| true)?;
    block(staged.commit())
}

const _: () = assert!(
    LENGTHS[3] > (FIRST_CHUNKS + 1) * CHUNK,
    "a transfer that ends early has more to come"
);
