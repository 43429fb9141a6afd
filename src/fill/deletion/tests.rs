//! Deletion against values: grace, pace, epochs and overrides.

use super::*;
use crate::clock::Wall;
use crate::ids::BoxId;
use crate::link::manifest::Signer;

const HOUR: u64 = 3_600;
const GRACE: Duration = Duration::from_secs(3 * HOUR);

/// A calendar and an uptime that tests move.
#[derive(Clone, Copy)]
struct Time {
    wall: u64,
    boot: u64,
}

impl Time {
    fn both(seconds: u64) -> Self {
        Self {
            wall: 1_800_000_000 + seconds,
            boot: 50 + seconds,
        }
    }

    fn moment(self) -> Moment {
        Moment {
            wall: Wall::from_second(i64::try_from(self.wall).unwrap()).unwrap(),
            boot: Boot::default() + Duration::from_secs(self.boot),
        }
    }
}

fn at(epoch: u64, generation: u64) -> Position {
    Position { epoch, generation }
}

fn surplus(range: std::ops::Range<u32>, length: u64) -> Vec<(Digest, u64)> {
    range
        .map(|number| (Digest::of(&number.to_le_bytes()), length))
        .collect()
}

fn fresh() -> Deletion {
    Deletion::restore(&[], GRACE, 5, Time::both(0).moment().boot)
}

fn seen(surplus: &[(Digest, u64)], manifest: Position, told: bool) -> Seen<'_> {
    Seen {
        manifest: Some(manifest),
        acknowledged: told.then_some(manifest),
        surplus,
        held: 10_000,
        permit: None,
    }
}

/// One look as the survey does it; what was due is deleted.
fn look(deletion: &mut Deletion, time: Time, seen: &Seen<'_>) -> Vec<Digest> {
    let now = time.moment();
    deletion.look(now, seen);
    let due = deletion.due(now, seen);
    let announced = deletion.announced();
    let fresh = seen
        .surplus
        .iter()
        .filter(|(digest, _)| !announced.contains(digest));
    let fresh: Vec<_> = fresh.copied().collect();
    if let Some(position) = seen.manifest {
        deletion.announce(now, position, &fresh);
    }
    deletion.spend(now, seen, &due);
    due
}

#[test]
fn the_grace_begins_with_the_acknowledgement_and_counts_both_clocks() {
    let list = surplus(0..2, 100);
    let (told, untold) = (seen(&list, at(1, 1), true), seen(&list, at(1, 1), false));
    let mut deletion = fresh();
    assert!(look(&mut deletion, Time::both(0), &untold).is_empty());
    assert!(look(&mut deletion, Time::both(100 * HOUR), &untold).is_empty());
    assert!(look(&mut deletion, Time::both(100 * HOUR), &told).is_empty());
    assert!(look(&mut deletion, Time::both(103 * HOUR - 1), &told).is_empty());
    // The calendar jumps a year ahead, the uptime does not; and the other way round.
    for (wall, boot) in [(9_000 * HOUR, 101 * HOUR), (101 * HOUR, 9_000 * HOUR)] {
        let jump = Time {
            wall: Time::both(wall).wall,
            boot: Time::both(boot).boot,
        };
        assert!(deletion.due(jump.moment(), &told).is_empty());
    }
    assert_eq!(look(&mut deletion, Time::both(103 * HOUR), &told).len(), 2);
}

#[test]
fn an_older_acknowledgement_starts_no_grace_and_a_listed_object_leaves_no_more() {
    let list = surplus(0..2, 100);
    let mut deletion = fresh();
    let old = Seen {
        acknowledged: Some(at(1, 1)),
        ..seen(&list, at(1, 2), true)
    };
    look(&mut deletion, Time::both(0), &old);
    assert!(look(&mut deletion, Time::both(50 * HOUR), &old).is_empty());
    // The first is listed again, and surplus once more: everything begins anew for it.
    look(
        &mut deletion,
        Time::both(50 * HOUR),
        &seen(&list, at(1, 2), true),
    );
    look(
        &mut deletion,
        Time::both(51 * HOUR),
        &seen(&list[1..], at(1, 3), true),
    );
    assert_eq!(deletion.leaving(), (1, 100));
    look(
        &mut deletion,
        Time::both(52 * HOUR),
        &seen(&list, at(1, 4), true),
    );
    let due = look(
        &mut deletion,
        Time::both(53 * HOUR),
        &seen(&list, at(1, 4), true),
    );
    assert_eq!(due, [list[1].0]);
}

#[test]
fn a_restart_shortens_nothing_and_a_torn_copy_counts_as_absent() {
    let list = surplus(0..2, 100);
    let told = seen(&list, at(1, 1), true);
    let mut deletion = fresh();
    look(&mut deletion, Time::both(0), &told);
    look(&mut deletion, Time::both(1), &told);
    let first = deletion.seal(Time::both(1).moment());
    let second = deletion.seal(Time::both(HOUR).moment());
    // Off for two days; the boot clock begins at nothing.
    let later = |seconds| Time {
        wall: Time::both(48 * HOUR + seconds).wall,
        boot: 10 + seconds,
    };
    let torn = second[..second.len() - 1].to_vec();
    let mut changed = second.clone();
    changed[60] ^= 1;
    let copies = [torn, first, second, changed, Vec::new()];
    let mut deletion = Deletion::restore(&copies, GRACE, 5, later(0).moment().boot);
    assert_eq!(deletion.leaving(), (2, 200));
    assert!(look(&mut deletion, later(2 * HOUR - 10), &told).is_empty());
    assert_eq!(look(&mut deletion, later(2 * HOUR + 1), &told).len(), 2);
    let copies = [b"nothing of ours".to_vec()];
    let deletion = Deletion::restore(&copies, GRACE, 5, later(0).moment().boot);
    assert_eq!(deletion.leaving(), (0, 0));
}

#[test]
fn a_hundred_shrinking_generations_in_an_hour_delete_five_percent_in_a_day() {
    let mut deletion = fresh();
    let (mut held, mut gone) = (surplus(0..1_000, 10), 0);
    let day = |hours: u64| Time::both(hours * HOUR);
    for generation in 1..=100_u64 {
        let shrunken = u32::try_from(generation * 9).unwrap();
        let list = surplus(0..shrunken, 10);
        let time = Time::both(generation * 36);
        look(&mut deletion, time, &seen(&list, at(1, generation), true));
    }
    let list = surplus(0..900, 10);
    let mut per_day = Vec::new();
    for hour in 2..(24 * 4) {
        let left: Vec<_> = list
            .iter()
            .filter(|object| held.contains(object))
            .copied()
            .collect();
        let now = Seen {
            held: 10 * u64::try_from(held.len()).unwrap(),
            ..seen(&left, at(1, 100), true)
        };
        let due = look(&mut deletion, day(hour), &now);
        held.retain(|(digest, _)| !due.contains(digest));
        gone += due.len();
        if hour % 24 == 3 {
            per_day.push(gone);
        }
        // A restart in every hour changes nothing.
        let copy = deletion.seal(day(hour).moment());
        deletion = Deletion::restore(&[copy], GRACE, 5, day(hour).moment().boot);
    }
    // Of 1,000, of 950 and of 903; the first hours are the grace.
    assert_eq!(per_day, [0, 50, 97, 142]);
    assert!(gone <= 186, "{gone} of four days");
}

#[test]
fn neither_an_own_manifest_nor_none_nor_another_epoch_deletes_anything() {
    let list = surplus(0..2, 100);
    let mut deletion = fresh();
    for manifest in [None, Some(at(0, 5))] {
        let unsigned = Seen {
            manifest,
            acknowledged: manifest,
            ..seen(&list, at(1, 1), true)
        };
        deletion.look(Time::both(0).moment(), &unsigned);
        assert!(
            deletion
                .due(Time::both(90 * HOUR).moment(), &unsigned)
                .is_empty()
        );
    }
    // The first signed epoch is the box's own.
    let first = seen(&list, at(4, 1), true);
    look(&mut deletion, Time::both(0), &first);
    look(&mut deletion, Time::both(1), &first);
    let other = seen(&list, at(5, 1), true);
    assert!(look(&mut deletion, Time::both(90 * HOUR), &other).is_empty());
    let signer = Signer::generate().unwrap();
    let id = BoxId::parse("c001-tls001-example-isp").unwrap();
    let permit = signer.permit(&id, at(5, 1), 150, 0, u64::MAX);
    let permitted = Seen {
        permit: Some(&permit),
        ..seen(&list, at(5, 1), true)
    };
    assert_eq!(
        look(&mut deletion, Time::both(91 * HOUR), &permitted).len(),
        2
    );
}

#[test]
fn an_override_is_spent_once_whatever_restarts() {
    let list = surplus(0..100, 100);
    let signer = Signer::generate().unwrap();
    let id = BoxId::parse("c001-tls001-example-isp").unwrap();
    let permit = signer.permit(&id, at(1, 1), 1_000, 0, u64::MAX);
    let permitted = |list| Seen {
        permit: Some(&permit),
        ..seen(list, at(1, 1), true)
    };
    let mut deletion = fresh();
    look(&mut deletion, Time::both(0), &permitted(&list));
    look(&mut deletion, Time::both(1), &permitted(&list));
    // Five percent of 10,000 bytes, and 1,000 more.
    let due = look(&mut deletion, Time::both(4 * HOUR), &permitted(&list));
    assert_eq!(due.len(), 15);
    let time = Time::both(4 * HOUR + 1);
    let copy = deletion.seal(time.moment());
    let mut deletion = Deletion::restore(&[copy], GRACE, 5, time.moment().boot);
    let left = &list[15..];
    assert_eq!(look(&mut deletion, time, &permitted(left)).len(), 0);
}

#[test]
fn deletions_all_night_leave_the_next_night_its_pace() {
    let mut list = surplus(0..1_000, 10);
    let mut deletion = fresh();
    fn night(list: &[(Digest, u64)], held: u64) -> Seen<'_> {
        Seen {
            held,
            ..seen(list, at(1, 1), true)
        }
    }
    look(&mut deletion, Time::both(0), &night(&list, 10_000));
    look(&mut deletion, Time::both(1), &night(&list, 10_000));
    let mut per_night = [0, 0];
    for (which, gone) in (0_u64..).zip(&mut per_night) {
        // What comes meanwhile lets a little more go, again and again.
        for minute in 0..720 {
            let time = Time::both(4 * HOUR + which * 24 * HOUR + minute * 60);
            let held = 10_000 + minute * 20;
            let due = look(&mut deletion, time, &night(&list, held));
            list.retain(|(digest, _)| !due.contains(digest));
            *gone += due.len();
        }
    }
    assert!(per_night[1] >= per_night[0] * 9 / 10, "{per_night:?}");
}

#[test]
fn a_record_that_nobody_can_read_costs_a_day() {
    let list = surplus(0..2, 100);
    let told = seen(&list, at(1, 1), true);
    let copies = [b"nothing of ours".to_vec()];
    let mut deletion = Deletion::restore(&copies, GRACE, 5, Time::both(0).moment().boot);
    look(&mut deletion, Time::both(0), &told);
    look(&mut deletion, Time::both(1), &told);
    assert!(look(&mut deletion, Time::both(24 * HOUR - 1), &told).is_empty());
    assert_eq!(look(&mut deletion, Time::both(24 * HOUR), &told).len(), 2);
}
