//! A time zone in which the day has just begun, wherever this machine is: fill windows open between
//! 00:00 and 04:00 of a site's clock, and a night of the demo or of a test is wanted at once.
//!
//! [`super::camp`] and the tests with real boxes order their windows with it.

use crate::clock;

/// The zone, and the site's time there so many seconds from here: `HH:MM:SS`, not before midnight.
pub fn time_from_here(seconds: i64) -> (String, String) {
    let (zone, past) = after_midnight();
    let then = past.saturating_add(seconds).max(0);
    let time = format!("{:02}:{:02}:{:02}", then / 3600, then / 60 % 60, then % 60);
    (zone, time)
}

/// A zone in which it is between midnight and one, and how many seconds past.
fn after_midnight() -> (String, i64) {
    let now = clock::unix_seconds(clock::wall());
    let hour = now / 3600 % 24;
    // POSIX turns the sign round: Etc/GMT+5 is five hours behind.
    let zone = match hour {
        0 => "Etc/GMT".to_owned(),
        1..=12 => format!("Etc/GMT+{hour}"),
        _ => format!("Etc/GMT-{}", 24 - hour),
    };
    (zone, i64::try_from(now % 3600).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_just_past_midnight() {
        let (zone, seconds) = after_midnight();
        let there = clock::wall().in_tz(&zone).unwrap();
        assert_eq!(there.hour(), 0, "{zone}");
        let shown = i64::from(there.minute()) * 60;
        assert!(seconds.abs_diff(shown) < 62);
    }

    #[test]
    fn a_time_before_midnight_is_midnight() {
        assert_eq!(time_from_here(-7_200).1, "00:00:00");
        assert!(time_from_here(3_600).1.starts_with("01:"));
    }
}
