//! SIGKILL at each durable step: an object is absent or whole, nothing published is lost, and the
//! next run completes.

use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::objects;
use crate::tools::run;
use crate::victim;
use oca::object::Digest;
use oca::store;
use oca::store::Step;

const FILES: [(&str, usize); 4] = [
    ("s/a.m4s", 700_000),
    ("s/b.m4s", 10),
    ("s/c.m4s", 300_000),
    ("s/d.m4s", 1_500_000),
];

/// Runs only as the child of the test below: prefills, and kills itself at the step it is told.
#[test]
fn the_child_that_is_killed() {
    let Some(told) = victim::told() else {
        return;
    };
    let store = store::start_probed(&told.config(2), &told.probe()).unwrap();
    run(&store, &told.dir.join("media"));
}

/// Kills a prefill when it reaches `step` for the given time.
fn kill_at(lab: &Lab, step: Step, times: u32) {
    let child = "killed::the_child_that_is_killed";
    victim::kill_at(child, lab.dir.path(), "", step, times);
}

/// What lies under an object's name is that object, with a sidecar beside it.
fn assert_whole(lab: &Lab, step: Step) -> usize {
    let mut whole = 0;
    for disk in &lab.disks {
        let found = objects(&disk.path);
        for (path, bytes) in &found {
            if path.extension().is_some() {
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(Digest::of(bytes).to_string(), name, "{step:?}");
            assert!(found.contains_key(&path.with_extension("meta")), "{step:?}");
            whole += 1;
        }
    }
    whole
}

#[test]
fn a_prefill_killed_at_any_durable_step_leaves_only_whole_objects_and_is_completed_by_the_next() {
    for step in Step::PREFILLING {
        for times in [1, 2] {
            let lab = Lab::new(2);
            let media = lab.media(&FILES);
            kill_at(&lab, step, times);
            let whole = assert_whole(&lab, step);
            let committed = step >= Step::ObjectRenamed;
            let times = times as usize;
            let expected = if step < Step::DirectoryMade {
                0
            } else if step < Step::ManifestWritten {
                times - usize::from(!committed)
            } else {
                FILES.len()
            };
            assert_eq!(whole, expected, "{step:?} {times}");

            let store = lab.open();
            for disk in &store.view().disks {
                assert_eq!((disk.state, disk.quarantined), ("online", 0), "{step:?}");
                let staging = std::fs::read_dir(disk.path.join("staging")).unwrap();
                assert_eq!(staging.count(), 0, "{step:?}");
            }
            let held: u64 = store.view().disks.iter().map(|disk| disk.objects).sum();
            assert_eq!(held, expected as u64, "{step:?}: nothing published is lost");
            if step < Step::ManifestRenamed {
                assert!(store.view().manifest.is_none() || times == 2, "{step:?}");
            }
            let summary = run(&store, &media);
            assert_eq!(
                summary.published,
                (FILES.len() - expected) as u64,
                "{step:?}"
            );
            assert_eq!(summary.already_held, expected as u64, "{step:?}");
            assert_eq!(summary.generation, 1, "{step:?}");
            assert_serves(&store, &FILES);
        }
    }
}
