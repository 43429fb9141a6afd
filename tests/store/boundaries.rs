//! SIGKILL, a full disk and a failed flush at every system call that changes a disk while an object
//! is published, received, moved, bound, adopted or deleted and small state is kept.
//!
//! `killed` and `killed_fill` end the process where the store says that a step is done; here nobody
//! has to say anything, and no call is left out.

use crate::tools::Lab;
use crate::tools::block;
use crate::tools::objects_on;
use crate::tools::opened;
use crate::tools::read_all;
use crate::tools::staging;
use crate::tools::until;
use crate::tracer::Fault;
use crate::tracer::Traced;
use crate::tracer::Tracee;
use crate::verdict;
use crate::work;
use crate::work::LEDGER;
use crate::work::State;
use crate::work::Work;
use oca::object::Digest;
use oca::store::AdoptError;
use oca::store::DiskConfig;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

const DIR: &str = "OCA_TEST_BOUNDARIES_DIR";
const NAME: &str = "OCA_TEST_BOUNDARIES_NAME";
/// Ends without a stop, whose own flushes are of a snapshot and no matter for any object.
const LEAVES: &str = "OCA_TEST_LEAVES";
/// What is left is too little to do it.
const MAY_FAIL: &str = "OCA_TEST_MAY_FAIL";

/// The child has its store open and waits.
const READY: &str = "the store is open";

/// Calls that a full disk refuses.
const TAKES_ROOM: [&str; 9] = [
    "write",
    "pwrite64",
    "fallocate",
    "rename",
    "renameat",
    "mkdirat",
    "openat",
    "openat2",
    "ftruncate",
];

/// Calls that make durable.
const FLUSHES: [&str; 2] = ["fsync", "fdatasync"];

/// Every call that is counted.
const ANY: [&str; 0] = [];

/// No operation has fewer calls or more: in each a file is made, written, flushed and named …
const LEAST: usize = 10;
/// … or a copy unlinked, its directory flushed, and its sidecar unlinked.
const LEAST_REMOVING: usize = 3;
const CALLS_MAX: usize = 100;
/// A file is made and written, and another named …
const LEAST_ROOM: usize = 3;
/// … and file and directory are flushed.
const LEAST_FLUSHES: usize = 2;

/// A listed object, alone or with its second copy.
fn copied(is_done: bool) -> Vec<Work> {
    let mut work = vec![Work::Publish(0), Work::Adopt(vec![0])];
    work.extend(is_done.then_some(Work::Copy));
    work
}

/// What a verdict says of it.
const TWO_COPIES: &str = "1 objects are on disks 2 times";

/// Between two operations an object of this case may be on two disks.
fn may_be_twice(name: &str) -> bool {
    matches!(name, "copy" | "spare" | "delete-two" | "retire-two")
}

/// What changes the manifest.
fn is_of_manifest(work: &Work) -> bool {
    matches!(work, Work::Bind(_) | Work::Adopt(_) | Work::Delete(_))
}

/// What was done before, and what is done when the process is ended.
fn case(name: &str) -> (Vec<Work>, Work) {
    let two = || vec![Work::Publish(0), Work::Publish(1)];
    let listed = || [two(), vec![Work::Adopt(vec![0, 1])]].concat();
    match name {
        "publish" => (two(), Work::Publish(2)),
        "receive" => (two(), Work::Receive(3)),
        "bind" => (two(), Work::Bind(vec![0, 1])),
        "adopt" => (listed(), Work::Adopt(vec![0])),
        "delete" => {
            let more = vec![Work::Adopt(vec![0]), Work::Keep];
            ([listed(), more].concat(), Work::Delete(vec![1]))
        }
        "retire" => {
            // While the other one takes nothing: it lies on the disk that is to go.
            let lies = vec![Work::Retire(1), Work::Publish(0), Work::Stay(1)];
            ([lies, vec![Work::Bind(vec![0])]].concat(), Work::Retire(0))
        }
        "copy" => (copied(false), Work::Copy),
        "spare" => (copied(true), Work::Spare),
        "delete-two" => {
            let unlisted = [copied(true), vec![Work::Adopt(vec![])]].concat();
            (unlisted, Work::Delete(vec![0]))
        }
        "retire-two" => (copied(true), Work::Retire(0)),
        "keep" => (vec![Work::Keep, Work::Keep], Work::Keep),
        other => panic!("{other}"),
    }
}

/// Runs only as the child of the tests below: does what it is told, and once more if that failed.
#[test]
fn the_child_that_is_traced() {
    let (Ok(dir), Ok(name)) = (std::env::var(DIR), std::env::var(NAME)) else {
        return;
    };
    let (before, work) = case(&name);
    let state = { before.iter() }.fold(State::default(), |state, work| state.after(work));
    let store = opened(&work::config(Path::new(&dir)));
    println!("\n{READY}");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    if let Err(problem) = work::attempt(&store, &state, &work) {
        println!("at first: {problem}");
        match std::env::var(MAY_FAIL) {
            Ok(_) => println!("again: {:?}", work::attempt(&store, &state, &work)),
            Err(_) => work::perform(&store, &state, &work),
        }
    }
    if std::env::var(LEAVES).is_ok() {
        std::process::exit(0);
    }
}

/// A box that has done what comes before.
fn prepared(before: &[Work]) -> (Lab, State) {
    // A process that is killed loses nothing that it gave the kernel: memory is as good as a disk.
    let lab = Lab::in_memory(2);
    let store = opened(&work::config(lab.dir.path()));
    let mut state = State::default();
    for work in before {
        work::perform(&store, &state, work);
        state = state.after(work);
    }
    (lab, state)
}

/// The child, with a fault at the `at`th call out of `names`.
#[allow(clippy::zombie_processes, reason = "the tracer waits for it")]
fn traced(lab: &Lab, name: &str, at: Option<(usize, Fault)>, names: &[&str]) -> Traced {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "boundaries::the_child_that_is_traced"])
        .args(["--nocapture", "--test-threads=1"])
        .env(DIR, lab.dir.path())
        .env(NAME, name)
        .envs((names == FLUSHES).then_some((LEAVES, "1")))
        .envs((names == FLUSHES && name == "retire").then_some((MAY_FAIL, "1")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim_end() != READY {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the child ended");
    }
    let tracee = Tracee::attach(child.id(), lab.dir.path());
    let mut stdin = child.stdin.take().unwrap();
    let meets = |name: &str| names.is_empty() || names.contains(&name);
    let traced = tracee.run(at, meets, || stdin.write_all(b"\n").unwrap());
    // It was waited for: what it said is complete.
    line.clear();
    out.read_to_string(&mut line).unwrap();
    let has_failed = traced.code.is_some_and(|code| code != 0);
    assert!(!has_failed, "{name} {at:?}: {line}");
    traced
}

/// Each call is the end of a process once, until one comes to its own end. In words.
fn killed_everywhere(name: &str) -> String {
    let (before, work) = case(name);
    for at in 1..=CALLS_MAX {
        let (lab, sure) = prepared(&before);
        let traced = traced(&lab, name, Some((at, Fault::Kill)), &ANY);
        let all = traced.calls;
        if !traced.was_killed {
            let least = match name {
                "spare" | "retire-two" => LEAST_REMOVING,
                _ => LEAST,
            };
            assert!(at > least && all.len() < at, "{at}: {all:?}");
            return format!("{name}: killed at each of {} calls: {all:?}", all.len());
        }
        let perhaps = sure.after(&work);
        let store = opened(&work::config(lab.dir.path()));
        work::come_to_rest(&store);
        let mut verdict = verdict::judge(&store, &sure, &perhaps);
        if may_be_twice(name) {
            verdict.twice.retain(|told| *told != TWO_COPIES);
        }
        let told = format!("{name} killed at the last of {all:?}");
        assert!(verdict.is_clean(), "{told}: {verdict:?}");
        // What was begun is gone on with, as if nothing had been.
        let is_held = |object| store.holds(work::digest(object));
        if !matches!(work, Work::Publish(object) if is_held(object)) {
            work::perform(&store, &sure, &work);
        }
        let mut verdict = verdict::judge(&store, &perhaps, &perhaps);
        if work == Work::Copy {
            assert_eq!(verdict.twice, [TWO_COPIES], "{told}");
            verdict.twice.clear();
        }
        assert!(verdict.is_clean(), "{told}, and then: {verdict:?}");
        until("all disks have the manifest", || {
            let has_it = |disk: &DiskConfig| head(&disk.path) == head(&lab.path("state"));
            !is_of_manifest(&work) || lab.disks.iter().all(has_it)
        });
        drop(store);
        for disk in &lab.disks {
            assert_eq!(staging(&disk.path), [""; 0], "{told}");
        }
        if is_of_manifest(&work) {
            outlives_state(&lab, &perhaps, &told);
        }
    }
    panic!("{name} has no end after {CALLS_MAX} calls");
}

/// The first line of a manifest, which says where in time it stands.
fn head(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join("manifest")).ok()?;
    text.lines().next().map(str::to_owned)
}

/// The system disk is lost, too: nothing older takes the place of what was done.
fn outlives_state(lab: &Lab, done: &State, told: &str) {
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    let store = opened(&work::config(lab.dir.path()));
    let mut verdict = verdict::judge(&store, done, done);
    // Small state of its own goes with it.
    verdict
        .lost
        .retain(|told| *told != "2 copies of the ledger");
    let told = format!("{told}, and without its state: ");
    assert!(verdict.is_clean(), "{told}{verdict:?}");
    let (epoch, generation) = done.position;
    if epoch > 0 && generation > 1 {
        let older = store.adopt(epoch, generation - 1, Vec::new());
        assert!(matches!(older, Err(AdoptError::Older { .. })), "{told}");
    }
}

/// The disk is full for one call, at each call that takes room.
fn full_everywhere(name: &str) -> String {
    let (before, work) = case(name);
    let (lab, _) = prepared(&before);
    let all = traced(&lab, name, None, &ANY).calls;
    let count = all.iter().filter(|name| TAKES_ROOM.contains(name)).count();
    assert!(count >= LEAST_ROOM, "{all:?}");
    for at in 1..=count {
        let (lab, sure) = prepared(&before);
        let full = Fault::Fails(libc::ENOSPC);
        let traced = traced(&lab, name, Some((at, full)), &TAKES_ROOM);
        assert_eq!((traced.code, traced.was_struck), (Some(0), true));
        let done = sure.after(&work);
        let store = opened(&work::config(lab.dir.path()));
        // Small state is kept when the state directory has it; a data disk may keep the last one.
        let kept = State {
            kept: sure.kept,
            ..done.clone()
        };
        let newest = store.kept(LEDGER).into_iter().next();
        let expected = (done.kept > 0).then(|| work::ledger(done.kept));
        assert!(newest == expected, "{name} at {at}");
        let verdict = verdict::judge(&store, &kept, &done);
        let told = format!("{name} met a full disk at {at} of {count} in {all:?}");
        assert!(verdict.is_clean(), "{told}: {verdict:?}");
        drop(store);
        for disk in &lab.disks {
            assert_eq!(staging(&disk.path), [""; 0], "{told}");
        }
    }
    format!("{name}: a full disk at each of {count} calls")
}

/// One flush fails, each once: final for its disk, and no matter for the other.
fn flushes_fail_everywhere(name: &str) -> String {
    let (before, work) = case(name);
    let (lab, _) = prepared(&before);
    let all = traced(&lab, name, None, &FLUSHES).calls;
    let count = all.iter().filter(|name| FLUSHES.contains(name)).count();
    assert!(count >= LEAST_FLUSHES, "{all:?}");
    for at in 1..=count {
        let (lab, sure) = prepared(&before);
        let traced = traced(&lab, name, Some((at, Fault::Fails(libc::EIO))), &FLUSHES);
        assert!(traced.was_struck, "{:?}", traced.calls);
        let told = format!(
            "{name}, whose flush {at} of {count} failed: {:?}",
            traced.calls
        );
        let store = opened(&work::config(lab.dir.path()));
        let view = store.view();
        let suspects = view.disks.iter().filter(|disk| disk.state == "suspect");
        assert_eq!(suspects.count(), 1, "{told}");
        let done = sure.after(&work);
        let fresh = done.held.difference(&sure.held);
        assert!(
            { fresh }.all(|object| store.holds(work::digest(*object))),
            "{told}"
        );
        for file in view.disks.iter().flat_map(|disk| objects_on(&disk.path)) {
            let digest = Digest::of(&std::fs::read(&file).unwrap()).to_string();
            assert!(file.ends_with(digest), "{told}: {}", file.display());
        }
    }
    format!("{name}: each of {count} flushes failed")
}

/// One flush fails, each once: the object is served from the disk whose flushes succeeded.
#[test]
fn a_flush_of_a_move_that_fails_costs_no_object() {
    let (before, _) = case("retire");
    let (lab, _) = prepared(&before);
    let all = traced(&lab, "retire", None, &FLUSHES).calls;
    let count = all.iter().filter(|name| FLUSHES.contains(name)).count();
    assert!(count >= 6, "{all:?}");
    for at in 1..=count {
        let (lab, sure) = prepared(&before);
        let fails = Some((at, Fault::Fails(libc::EIO)));
        let traced = traced(&lab, "retire", fails, &FLUSHES);
        assert!(traced.was_struck, "{:?}", traced.calls);
        let told = format!("flush {at} of {count} failed: {:?}", traced.calls);
        let store = opened(&work::config(lab.dir.path()));
        assert!({ sure.held.iter() }.all(|object| store.holds(work::digest(*object))));
        for object in &sure.held {
            let held = block(store.open(work::digest(*object))).unwrap();
            assert!(read_all(&held).unwrap() == work::content(*object), "{told}");
        }
    }
}

#[test]
fn a_disk_that_retires_and_is_killed_at_any_system_call_loses_nothing_and_is_emptied() {
    println!("{}", killed_everywhere("retire"));
}

#[test]
fn a_second_copy_killed_at_any_system_call_is_whole_or_absent_and_made_then() {
    println!("{}", killed_everywhere("copy"));
}

#[test]
fn a_spare_copy_whose_removal_is_killed_at_any_system_call_leaves_the_other_and_goes() {
    println!("{}", killed_everywhere("spare"));
}

#[test]
fn a_deletion_of_two_copies_killed_at_any_system_call_leaves_none_in_the_end() {
    println!("{}", killed_everywhere("delete-two"));
}

#[test]
fn a_disk_that_retires_with_second_copies_and_is_killed_at_any_system_call_leaves_the_others() {
    println!("{}", killed_everywhere("retire-two"));
}

#[test]
fn a_deletion_that_meets_a_full_disk_at_any_system_call_is_done_when_there_is_room() {
    println!("{}", full_everywhere("delete"));
}

#[test]
fn keys_bound_when_a_disk_is_full_at_any_system_call_are_bound_when_there_is_room() {
    println!("{}", full_everywhere("bind"));
}

#[test]
fn a_move_that_meets_a_full_disk_at_any_system_call_succeeds_when_there_is_room() {
    println!("{}", full_everywhere("retire"));
}

#[test]
fn a_flush_of_a_publication_that_fails_is_final_for_its_disk_and_the_other_takes_the_object() {
    println!("{}", flushes_fail_everywhere("publish"));
}

#[test]
fn a_flush_of_a_transfer_that_fails_is_final_for_its_disk_and_the_other_takes_the_object() {
    println!("{}", flushes_fail_everywhere("receive"));
}

#[test]
fn a_publication_killed_at_any_system_call_is_whole_or_absent() {
    println!("{}", killed_everywhere("publish"));
}

#[test]
fn a_transfer_killed_at_any_system_call_is_gone_on_with() {
    println!("{}", killed_everywhere("receive"));
}

#[test]
fn keys_bound_when_a_kill_comes_at_any_system_call_are_all_there_or_none() {
    println!("{}", killed_everywhere("bind"));
}

#[test]
fn an_adoption_killed_at_any_system_call_leaves_one_manifest_or_the_other() {
    println!("{}", killed_everywhere("adopt"));
}

#[test]
fn a_deletion_killed_at_any_system_call_takes_nothing_else_with_it() {
    println!("{}", killed_everywhere("delete"));
}

#[test]
fn a_ledger_killed_at_any_system_call_is_the_old_one_or_the_new_one() {
    println!("{}", killed_everywhere("keep"));
}

#[test]
fn a_publication_that_meets_a_full_disk_at_any_system_call_succeeds_when_there_is_room() {
    println!("{}", full_everywhere("publish"));
}

#[test]
fn a_transfer_that_meets_a_full_disk_at_any_system_call_succeeds_when_there_is_room() {
    println!("{}", full_everywhere("receive"));
}

#[test]
fn a_manifest_that_meets_a_full_disk_at_any_system_call_is_adopted_when_there_is_room() {
    println!("{}", full_everywhere("adopt"));
}

#[test]
fn a_ledger_that_meets_a_full_disk_at_any_system_call_is_kept_when_there_is_room() {
    println!("{}", full_everywhere("keep"));
}
