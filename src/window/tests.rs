//! The window over every zone of the database, and the nights that are not like the others.

use super::*;
use crate::units::Bytes;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn window(zone: &str, start: &str, hours: f64) -> Window {
    let length = Duration::from_secs_f64(hours * 3_600.0);
    Window::new(zone, seconds_of_day(start).unwrap(), length).unwrap()
}

fn wall(text: &str) -> Wall {
    text.parse().unwrap()
}

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

/// The night's edges in UTC.
fn edges(window: &Window, night: &str) -> (Wall, Wall) {
    let opening = window.opening(date(night));
    assert_eq!(opening.date, date(night));
    (opening.opens, opening.closes)
}

/// What a cap of 1.2 Gbit/s brings in it.
fn bytes(window: &Window, night: &str) -> Bytes {
    let (opens, closes) = edges(window, night);
    let seconds = opens.duration_until(closes).as_secs();
    Bytes(u64::try_from(seconds).unwrap() * 150_000_000)
}

#[test]
fn the_spring_night_of_new_york_opens_at_three_and_brings_5_94_terabytes() {
    let window = window("America/New_York", "02:00", 12.0);
    let (opens, closes) = edges(&window, "2026-03-08");
    assert_eq!(opens, wall("2026-03-08T03:00:00-04:00"));
    assert_eq!(closes, wall("2026-03-08T14:00:00-04:00"));
    assert_eq!(bytes(&window, "2026-03-08"), Bytes(5_940_000_000_000));
    assert_eq!(bytes(&window, "2026-03-09"), Bytes(6_480_000_000_000));
}

#[test]
fn the_autumn_night_is_twelve_hours_and_opens_with_the_first_of_two_equal_times() {
    let new_york = window("America/New_York", "01:30", 12.0);
    let (opens, closes) = edges(&new_york, "2026-11-01");
    assert_eq!(opens, wall("2026-11-01T01:30:00-04:00"));
    // Half past twelve by the wall clock.
    assert_eq!(closes, wall("2026-11-01T12:30:00-05:00"));
    let paris = window("Europe/Paris", "02:00", 12.0);
    let (opens, closes) = edges(&paris, "2026-10-25");
    assert_eq!(opens, wall("2026-10-25T02:00:00+02:00"));
    assert_eq!(opens.duration_until(closes).as_hours(), 12);
}

#[test]
fn a_window_whose_end_lies_in_a_gap_or_fold_ends_with_the_earlier_of_both() {
    // 02:30 does not exist: the clock's end is 03:00, 90 minutes are over at 02:30 standard time.
    let gap = window("Europe/Paris", "01:00", 1.5);
    let (opens, closes) = edges(&gap, "2026-03-29");
    assert_eq!(opens, wall("2026-03-29T01:00:00+01:00"));
    assert_eq!(closes, wall("2026-03-29T03:00:00+02:00"));
    // 02:30 comes twice: the first of them.
    let fold = window("Europe/Paris", "01:00", 1.5);
    let (opens, closes) = edges(&fold, "2026-10-25");
    assert_eq!(opens.duration_until(closes).as_mins(), 90);
    // A window that lies in the gap as a whole does not open that night.
    let inside = window("Europe/Paris", "02:10", 0.5);
    let (opens, closes) = edges(&inside, "2026-03-29");
    assert_eq!(opens, closes);
    assert_eq!(inside.standing(opens).open, None);
    assert_eq!(
        inside.standing(opens).next_edge,
        wall("2026-03-30T02:10:00+02:00")
    );
}

#[test]
fn half_hours_and_their_half_hour_of_summer_time() {
    let lord_howe = window("Australia/Lord_Howe", "02:00", 12.0);
    // 02:00 becomes 02:30 on 4 October 2026, and 02:00 becomes 01:30 on 5 April.
    let (opens, closes) = edges(&lord_howe, "2026-10-04");
    assert_eq!(opens, wall("2026-10-04T02:30:00+11:00"));
    assert_eq!(opens.duration_until(closes).as_mins(), 11 * 60 + 30);
    let (opens, closes) = edges(&lord_howe, "2026-04-05");
    assert_eq!(opens, wall("2026-04-05T02:00:00+10:30"));
    assert_eq!(opens.duration_until(closes).as_mins(), 12 * 60);
    let early = window("Australia/Lord_Howe", "01:45", 12.0);
    let (opens, _) = edges(&early, "2026-04-05");
    assert_eq!(opens, wall("2026-04-05T01:45:00+11:00"));
    let kolkata = window("Asia/Kolkata", "02:00", 12.0);
    let (opens, closes) = edges(&kolkata, "2026-06-01");
    assert_eq!(opens, wall("2026-05-31T20:30:00Z"));
    assert_eq!(closes, wall("2026-06-01T08:30:00Z"));
    let st_johns = window("America/St_Johns", "02:00", 12.0);
    let (opens, closes) = edges(&st_johns, "2026-03-08");
    assert_eq!(opens, wall("2026-03-08T03:00:00-02:30"));
    assert_eq!(opens.duration_until(closes).as_hours(), 11);
}

#[test]
fn a_day_that_a_site_skipped_has_no_night_of_its_own() {
    // Samoa went from the 29th to the 31st of December 2011.
    let apia = window("Pacific/Apia", "02:00", 12.0);
    let before = apia.opening(date("2011-12-29"));
    let after = apia.opening(date("2011-12-31"));
    assert_eq!(before.opens.duration_until(after.opens).as_hours(), 24);
    let noon = before.closes;
    assert_eq!(apia.standing(noon).open, None);
    let seen = nights(&apia, noon, after.closes);
    assert_eq!(seen, [after]);
    // A late window is open at the midnight that was skipped.
    let late = window("Pacific/Apia", "00:00", 12.0);
    let seen = nights(&late, noon, after.closes);
    assert_eq!(
        seen.iter().map(|night| night.date).collect::<Vec<_>>(),
        [after.date]
    );
}

/// The openings between two moments, from edge to edge.
fn nights(window: &Window, from: Wall, to: Wall) -> Vec<Opening> {
    let (mut at, mut seen) = (from, Vec::new());
    while at < to {
        let standing = window.standing(at);
        assert!(standing.next_edge > at, "{at} {standing:?}");
        seen.extend(standing.open);
        at = standing.next_edge;
    }
    seen
}

#[test]
fn starts_and_lengths_outside_their_limits_are_refused_with_what_to_write() {
    let refused = |zone, start, length| Window::new(zone, start, length).unwrap_err().to_string();
    assert!(Window::new("UTC", 4 * 3_600, LENGTH_MAX).is_ok());
    assert!(Window::new("UTC", 0, Duration::from_secs(1)).is_ok());
    assert!(refused("UTC", 4 * 3_600 + 1, HOUR).contains("not at 04:00:01"));
    assert!(refused("UTC", 0, LENGTH_MAX + Duration::from_millis(1)).contains("at most 12 h"));
    assert!(refused("UTC", 0, Duration::from_millis(999)).contains("at least 1 s"));
    assert!(refused("Europe/Pari", 0, HOUR).contains("Europe/Paris"));
    for bad in [
        "",
        "2:00",
        "24:00",
        "02:60",
        "02:00:60",
        "02",
        "02:00:00:00",
        "+2:00",
        "０２:00",
    ] {
        assert!(seconds_of_day(bad).is_err(), "{bad}");
    }
    assert_eq!(seconds_of_day("03:59:59"), Ok(4 * 3_600 - 1));
}

/// What every moment must show, and its neighbours.
fn consistent(window: &Window, now: Wall) -> Result<(), TestCaseError> {
    let standing = window.standing(now);
    prop_assert!(standing.next_edge > now, "{window:?} {now} {standing:?}");
    if let Some(open) = standing.open {
        prop_assert!(open.opens <= now && now < open.closes);
        prop_assert_eq!(standing.next_edge, open.closes);
        prop_assert_eq!(window.opening(open.date), open);
        let time = Duration::try_from(open.opens.duration_until(open.closes));
        prop_assert!(time.is_ok_and(|time| time <= window.length()));
        // The site's clock shows the start, or the first moment after a gap around it.
        let local = open.opens.to_zoned(window.zone.clone());
        let start = i64::from(window.start_s);
        let shown = local.time().duration_since(Time::midnight()).as_secs();
        prop_assert!(local.date() == open.date && (start..start + 24 * 3_600).contains(&shown));
    }
    // The answer holds until the edge, and is another one at it.
    let last = standing.next_edge - 1.nanosecond();
    prop_assert_eq!(window.standing(last), standing);
    prop_assert_ne!(window.standing(standing.next_edge), standing);
    let between = now.duration_until(standing.next_edge) / 2;
    prop_assert_eq!(window.standing(now + between), standing);
    Ok(())
}

#[test]
fn every_zone_has_a_night_for_each_of_its_days_around_every_change_of_its_clocks() {
    let from = wall("2005-01-01T00:00:00Z");
    let to = wall("2030-01-01T00:00:00Z");
    let windows = [
        ("00:00", 12.0),
        ("02:00", 12.0),
        ("04:00", 12.0),
        ("01:59:59", 0.25),
    ];
    let mut changes = 0;
    for zone in jiff::tz::db().available() {
        let tz = TimeZone::get(zone.as_str()).unwrap();
        for change in tz
            .following(from)
            .take_while(|change| change.timestamp() < to)
        {
            changes += 1;
            let at = change.timestamp();
            // Four windows in turn: each change sees one, each zone all.
            let (start, hours) = windows[changes % windows.len()];
            let window = window(zone.as_str(), start, hours);
            let (before, after) = (at - 60 * HOUR, at + 60 * HOUR);
            for pair in nights(&window, before, after).windows(2) {
                assert!(pair[0].closes <= pair[1].opens, "{zone}: {pair:?}");
                assert!(pair[0].date < pair[1].date, "{zone}: {pair:?}");
            }
            for offset in [-1, 0, 1] {
                consistent(&window, at.checked_add(offset.seconds()).unwrap()).unwrap();
            }
        }
    }
    assert!(changes > 5_000, "{changes}");
}

fn zones() -> Vec<String> {
    let names = jiff::tz::db().available();
    names.map(|name| name.as_str().to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn every_moment_of_every_zone_agrees_with_its_neighbours(
        zone in prop::sample::select(zones()),
        start in 0..=START_SECONDS_MAX,
        length in prop_oneof![1_u64..=12 * 3_600, Just(12 * 3_600), 1_u64..600],
        second in 0_i64..4_000_000_000,
        nanosecond in 0_i32..1_000_000_000,
    ) {
        let window = Window::new(&zone, start, Duration::from_secs(length)).unwrap();
        consistent(&window, Wall::new(second, nanosecond).unwrap())?;
    }

    #[test]
    fn times_of_day_are_read_as_they_are_shown(second in 0_u32..86_400) {
        prop_assert_eq!(seconds_of_day(&time_of_day(second)), Ok(second));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,12}") {
        let _ = seconds_of_day(&text);
    }
}

#[test]
fn the_ends_of_time_are_answered_too() {
    let window = window("Pacific/Kiritimati", "04:00", 12.0);
    for at in [Wall::MIN, Wall::UNIX_EPOCH, Wall::MAX] {
        let _ = window.standing(at);
    }
}
