//! Tests of the schedule: explicit time, seeded randomness, no runtime.

use super::*;
use crate::clock;
use proptest::prelude::*;

const PACE: Pace = Pace {
    report_every: Duration::from_secs(300),
    heartbeat_every: Duration::from_secs(10),
};

const PASSING: Fault = Fault::Passing { retry_after: None };

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A schedule with a good certificate, its first report under way.
fn begun(seed: u64, now: Instant) -> Schedule {
    let mut schedule = Schedule::new(PACE, seed);
    assert_eq!(schedule.deadline(), None);
    let calls = schedule.step(now, Input::Certificate(Certificate::Fine));
    assert_eq!(calls, [Call::Report], "the first report goes at once");
    schedule
}

/// Runs until `end`, answering each call with what `answer` says; when each call was made.
fn run(
    schedule: &mut Schedule,
    from: Instant,
    end: Instant,
    mut answer: impl FnMut(Instant, Call) -> Input,
) -> Vec<(Instant, Call)> {
    let (mut now, mut made, mut pending) = (from, Vec::new(), Vec::new());
    loop {
        while let Some(call) = pending.pop() {
            made.push((now, call));
            let input = answer(now, call);
            pending.extend(schedule.step(now, input));
            assert!(made.len() < 100_000, "a busy loop");
        }
        match schedule.deadline() {
            Some(at) if at <= end => now = now.max(at),
            Some(_) | None => return made,
        }
        pending.extend(schedule.step(now, Input::Tick));
    }
}

fn good(_: Instant, call: Call) -> Input {
    match call {
        Call::Report => Input::Reported { next: seconds(300) },
        Call::Enrol | Call::Renew | Call::Heartbeat | Call::Manifest => Input::Done(call),
    }
}

fn count(made: &[(Instant, Call)], wanted: Call) -> usize {
    made.iter().filter(|(_, call)| *call == wanted).count()
}

fn next_of(made: &[(Instant, Call)], wanted: Call) -> Option<Instant> {
    made.iter()
        .find(|(_, call)| *call == wanted)
        .map(|(at, _)| *at)
}

#[test]
fn a_day_has_a_report_every_five_minutes_and_a_heartbeat_every_ten_seconds() {
    let now = clock::now();
    let mut schedule = begun(1, now);
    schedule.step(now, Input::Reported { next: seconds(300) });
    let made = run(&mut schedule, now, now + seconds(86_400), good);
    let (reports, beats) = (count(&made, Call::Report), count(&made, Call::Heartbeat));
    assert!((270..=310).contains(&reports), "{reports}");
    assert!((8_640..=10_800).contains(&beats), "{beats}");
    assert_eq!(count(&made, Call::Manifest), 0);
}

#[test]
fn a_burst_of_changes_is_one_report_and_many_bursts_are_spaced() {
    let now = clock::now();
    let mut schedule = begun(2, now);
    schedule.step(now, Input::Reported { next: seconds(300) });
    let later = now + seconds(5);
    for millis in [0, 50, 100, 250] {
        let at = later + Duration::from_millis(millis);
        let calls = schedule.step(at, Input::Changed);
        assert!(!calls.contains(&Call::Report));
    }
    let made = run(&mut schedule, later + DEBOUNCE, later + seconds(1), good);
    assert_eq!(next_of(&made, Call::Report), Some(later + DEBOUNCE));
    assert_eq!(count(&made, Call::Report), 1);
    let mut reports = 0;
    for step in 0..100 {
        let at = later + seconds(1) + Duration::from_millis(100 * step);
        let mut calls = schedule.step(at, Input::Changed);
        while let Some(call) = calls.pop() {
            reports += usize::from(call == Call::Report);
            calls.extend(schedule.step(at, good(at, call)));
        }
    }
    assert!((4..=6).contains(&reports), "{reports} in ten seconds");
}

#[test]
fn a_loss_right_after_a_report_is_told_at_once_and_losses_all_the_time_are_not() {
    let now = clock::now();
    let mut schedule = begun(3, now);
    schedule.step(now, Input::Reported { next: seconds(300) });
    let lost = now + Duration::from_millis(100);
    schedule.step(lost, Input::Changed);
    let made = run(&mut schedule, lost, lost + seconds(1), good);
    let told = next_of(&made, Call::Report).unwrap();
    assert_eq!(told, lost + DEBOUNCE);
    schedule.step(told, Input::Changed);
    let made = run(&mut schedule, told, told + seconds(10), good);
    let next = next_of(&made, Call::Report);
    assert_eq!(next, Some(now + REPORT_SPACING * 2));
}

#[test]
fn a_change_while_a_report_is_under_way_is_told_right_after_it() {
    let now = clock::now();
    let mut schedule = begun(3, now);
    schedule.step(now + seconds(4), Input::Changed);
    let done = now + seconds(5);
    schedule.step(done, Input::Reported { next: seconds(300) });
    let made = run(&mut schedule, done, done + seconds(1), good);
    assert_eq!(next_of(&made, Call::Report), Some(done + DEBOUNCE));
}

#[test]
fn growth_is_told_soon_but_spaced_even_when_a_report_is_under_way() {
    let now = clock::now();
    let mut schedule = begun(12, now);
    let grew = Input::Grew {
        spacing: seconds(20),
    };
    schedule.step(now + seconds(1), grew);
    schedule.step(now + seconds(2), Input::Reported { next: seconds(300) });
    let made = run(&mut schedule, now + seconds(2), now + seconds(21), good);
    assert_eq!(next_of(&made, Call::Report), Some(now + seconds(20)));
    schedule.step(now + seconds(50), grew);
    let made = run(&mut schedule, now + seconds(50), now + seconds(60), good);
    assert_eq!(next_of(&made, Call::Report), Some(now + seconds(52)));
    // What is lost counts more than what grew.
    schedule.step(now + seconds(60), grew);
    schedule.step(now + seconds(60), Input::Changed);
    let made = run(&mut schedule, now + seconds(60), now + seconds(70), good);
    assert_eq!(
        next_of(&made, Call::Report),
        Some(now + seconds(60) + DEBOUNCE)
    );
}

#[test]
fn nothing_is_said_in_another_boxs_name() {
    let now = clock::now();
    let mut schedule = begun(13, now);
    schedule.step(now, Input::Reported { next: seconds(300) });
    schedule.step(now, Input::Certificate(Certificate::Foreign));
    assert_eq!(schedule.deadline(), None);
    assert_eq!(schedule.step(now + seconds(900), Input::Changed), []);
}

#[test]
fn a_wish_for_a_report_goes_at_once_but_never_breaks_the_spacing() {
    let now = clock::now();
    let mut schedule = begun(4, now);
    let wish = Input::Orders {
        wanted: None,
        renew: false,
        report_now: true,
    };
    assert!(
        !schedule.step(now, wish).contains(&Call::Report),
        "one is under way"
    );
    schedule.step(now, Input::Reported { next: seconds(300) });
    let at = now + seconds(1);
    assert!(!schedule.step(at, wish).contains(&Call::Report));
    // A control plane that always wishes gets one in two seconds and no more.
    let made = run(&mut schedule, at, now + seconds(60), |_, call| match call {
        Call::Report => Input::Reported { next: seconds(300) },
        Call::Enrol | Call::Renew | Call::Heartbeat | Call::Manifest => Input::Done(call),
    });
    assert_eq!(next_of(&made, Call::Report), Some(now + REPORT_SPACING));
}

#[test]
fn a_report_out_of_step_is_followed_by_another_at_once_and_one_that_was_whole_is_not() {
    let now = clock::now();
    let mut schedule = begun(5, now);
    let elsewhere = Input::Failed(Call::Report, Fault::OutOfStep { again: true });
    let whole = Input::Failed(Call::Report, Fault::OutOfStep { again: false });
    assert_eq!(schedule.step(now, elsewhere), [Call::Report]);
    assert_eq!(schedule.step(now, elsewhere), [Call::Report]);
    assert_eq!(schedule.step(now, whole), []);
    let made = run(&mut schedule, now, now + seconds(3_600), |_, call| {
        if call == Call::Report {
            whole
        } else {
            Input::Done(call)
        }
    });
    let reports = count(&made, Call::Report);
    assert!((5..60).contains(&reports), "{reports} in an hour");
}

#[test]
fn after_a_long_outage_a_report_out_of_step_is_still_followed_at_once() {
    let now = clock::now();
    let mut schedule = begun(14, now);
    schedule.step(now, Input::Failed(Call::Report, PASSING));
    let mut at = now;
    for _ in 0..20 {
        at += seconds(300);
        assert!(schedule.step(at, Input::Tick).contains(&Call::Report));
        schedule.step(at, Input::Failed(Call::Report, PASSING));
    }
    at += seconds(300);
    assert!(schedule.step(at, Input::Tick).contains(&Call::Report));
    let failed = |again| Input::Failed(Call::Report, Fault::OutOfStep { again });
    assert_eq!(schedule.step(at, failed(true)), [Call::Report]);
    assert_eq!(schedule.step(at, failed(false)), []);
}

#[test]
fn retry_after_is_honoured_whatever_changes_or_is_wished() {
    let now = clock::now();
    let mut schedule = begun(6, now);
    let busy = Fault::Passing {
        retry_after: Some(seconds(40)),
    };
    schedule.step(now, Input::Failed(Call::Report, busy));
    schedule.step(now, Input::Changed);
    let wish = Input::Orders {
        wanted: None,
        renew: false,
        report_now: true,
    };
    schedule.step(now + seconds(3), wish);
    let made = run(&mut schedule, now, now + seconds(300), good);
    let at = next_of(&made, Call::Report).unwrap();
    assert!(at >= now + seconds(40) && at < now + seconds(43));
}

#[test]
fn a_refused_box_asks_seldom_and_a_box_without_a_certificate_only_enrols() {
    let now = clock::now();
    let mut schedule = Schedule::new(PACE, 7);
    let missing = Input::Certificate(Certificate::Missing);
    assert_eq!(schedule.step(now, missing), [Call::Enrol]);
    let refused = Fault::Refused { retry_after: None };
    let mut tries = 0;
    schedule.step(now, Input::Failed(Call::Enrol, refused));
    for second in 0..3_600 {
        let at = now + seconds(second);
        // As the task does: it tells the certificate's standing every time it wakes.
        for call in schedule.step(at, missing) {
            assert_eq!(call, Call::Enrol);
            tries += 1;
            schedule.step(at, Input::Failed(call, refused));
        }
    }
    assert!((10..40).contains(&tries), "{tries} in an hour");
    let at = now + seconds(3_600);
    let calls = schedule.step(at, Input::Certificate(Certificate::Fine));
    assert_eq!(calls, [Call::Report]);
}

#[test]
fn an_ended_certificate_is_renewed_and_used_for_nothing_else() {
    let now = clock::now();
    let mut schedule = Schedule::new(PACE, 8);
    let ended = schedule.step(now, Input::Certificate(Certificate::Ended));
    assert_eq!(ended, [Call::Renew]);
    schedule.step(now, Input::Failed(Call::Renew, PASSING));
    let made = run(&mut schedule, now, now + seconds(600), |_, call| {
        assert_eq!(call, Call::Renew);
        Input::Failed(call, PASSING)
    });
    assert!((10..200).contains(&made.len()), "{}", made.len());
}

#[test]
fn a_renewal_that_is_due_happens_once_beside_everything_else() {
    let now = clock::now();
    let mut schedule = begun(9, now);
    schedule.step(now, Input::Reported { next: seconds(300) });
    schedule.step(now, Input::Certificate(Certificate::RenewalDue));
    let mut renewed = 0;
    let made = run(&mut schedule, now, now + seconds(400), good);
    renewed += count(&made, Call::Renew);
    // The files could not be written, say: it stays due, and is not tried in a loop.
    schedule.step(
        now + seconds(400),
        Input::Certificate(Certificate::RenewalDue),
    );
    let again = run(&mut schedule, now + seconds(400), now + seconds(500), good);
    renewed += count(&again, Call::Renew);
    assert_eq!(renewed, 1);
    assert!(count(&made, Call::Heartbeat) > 30);
}

#[test]
fn a_newer_manifest_is_fetched_until_it_is_held_and_an_older_one_never() {
    let now = clock::now();
    let mut schedule = begun(10, now);
    let place = |generation| {
        Some(Position {
            epoch: 1,
            generation,
        })
    };
    let orders = |wanted| Input::Orders {
        wanted,
        renew: false,
        report_now: false,
    };
    // It may be the one that is just read from the disk.
    assert_eq!(schedule.step(now, orders(place(5))), []);
    let first = schedule.step(now, Input::Held(None));
    assert_eq!(first, [Call::Manifest], "a box without any fetches at once");
    schedule.step(now, Input::Held(place(5)));
    schedule.step(now, Input::Done(Call::Manifest));
    for wanted in [place(4), place(5), None] {
        schedule.step(now, orders(wanted));
        let made = run(&mut schedule, now, now + seconds(9), good);
        assert_eq!(count(&made, Call::Manifest), 0, "{wanted:?}");
    }
    let at = now + seconds(10);
    schedule.step(at, orders(place(6)));
    // The answers never bring what was announced.
    let made = run(&mut schedule, at, at + seconds(1_000), good);
    let fetched = next_of(&made, Call::Manifest).unwrap();
    assert!(fetched >= at && fetched <= at + MANIFEST_SPREAD);
    let fetches = count(&made, Call::Manifest);
    assert!((5..100).contains(&fetches), "{fetches}");
}

#[test]
fn a_fleet_does_not_stampede_when_its_control_plane_returns() {
    let start = clock::now();
    let (outage, boxes) = (seconds(7_200), 2_000_u64);
    let back = start + outage;
    let (mut reports, mut beats) = (vec![0_u32; 400], vec![0_u32; 400]);
    for seed in 0..boxes {
        let mut schedule = Schedule::new(PACE, seed);
        let first = schedule.step(start, Input::Certificate(Certificate::Fine));
        assert_eq!(first, [Call::Report]);
        schedule.step(start, Input::Failed(Call::Report, PASSING));
        let made = run(&mut schedule, start, back + seconds(399), |at, call| {
            if at < back {
                Input::Failed(call, PASSING)
            } else {
                good(at, call)
            }
        });
        for (at, call) in made.into_iter().filter(|(at, _)| *at >= back) {
            let second = usize::try_from((at - back).as_secs()).unwrap();
            if call == Call::Report {
                reports[second] += 1;
            } else {
                beats[second] += 1;
            }
        }
    }
    // Spread evenly, a second has 2,000 / 300 reports and 2,000 / 10 heartbeats at most twice over.
    let (most, beating) = (reports.iter().max().unwrap(), beats.iter().max().unwrap());
    assert!(*most <= 60, "{most} reports in one second");
    assert!(*beating <= 700, "{beating} heartbeats in one second");
    let soon: u32 = reports[..310].iter().sum();
    assert!(u64::from(soon) >= boxes, "all are back within one interval");
}

fn any_input() -> impl Strategy<Value = Input> {
    let call = prop::sample::select(Call::ALL.to_vec());
    let after = prop::option::of(0..100_000_u64).prop_map(|after| after.map(seconds));
    let fault = (0..3, after).prop_map(|(kind, retry_after)| match kind {
        0 => Fault::Passing { retry_after },
        1 => Fault::OutOfStep {
            again: retry_after.is_some(),
        },
        _ => Fault::Refused { retry_after },
    });
    let place = prop::option::of((1..3_u64, 0..5_u64))
        .prop_map(|place| place.map(|(epoch, generation)| Position { epoch, generation }));
    let certificate = prop::sample::select(vec![
        Certificate::Missing,
        Certificate::Fine,
        Certificate::RenewalDue,
        Certificate::Ended,
        Certificate::Foreign,
    ]);
    prop_oneof![
        Just(Input::Tick),
        Just(Input::Changed),
        (0..90_u64).prop_map(|spacing| Input::Grew {
            spacing: seconds(spacing)
        }),
        certificate.prop_map(Input::Certificate),
        (place.clone(), any::<[bool; 2]>()).prop_map(|(wanted, flags)| Input::Orders {
            wanted,
            renew: flags[0],
            report_now: flags[1],
        }),
        place.prop_map(Input::Held),
        call.clone().prop_map(Input::Done),
        any::<u64>().prop_map(|next| Input::Reported {
            next: seconds(next)
        }),
        (call, fault).prop_map(|(call, fault)| Input::Failed(call, fault)),
    ]
}

proptest! {
    #[test]
    fn no_call_is_made_twice_at_a_time_and_reports_keep_their_distance(
        inputs in prop::collection::vec((0..30_000_u64, any_input()), 0..200),
        seed in any::<u64>(),
    ) {
        let mut now = clock::now();
        let mut schedule = Schedule::new(PACE, seed);
        let mut under_way: Vec<Call> = Vec::new();
        let mut answers = 0_usize;
        let mut made = 0_usize;
        for (millis, input) in inputs {
            now += Duration::from_millis(millis);
            // An answer without a question does not happen.
            let answered = match input {
                Input::Done(call) | Input::Failed(call, _) => Some(call),
                Input::Reported { .. } => Some(Call::Report),
                Input::Tick | Input::Changed | Input::Grew { .. } | Input::Certificate(_)
                | Input::Orders { .. } | Input::Held(_) => None,
            };
            if let Some(call) = answered {
                if !under_way.contains(&call) {
                    continue;
                }
                under_way.retain(|other| *other != call);
                answers += 1;
            }
            for call in schedule.step(now, input) {
                prop_assert!(!under_way.contains(&call), "{:?} twice", call);
                under_way.push(call);
                made += 1;
            }
            prop_assert_eq!(made, answers + under_way.len());
            // What is due is under way: the deadline lies ahead.
            prop_assert!(schedule.deadline().is_none_or(|at| at > now));
        }
    }
}
