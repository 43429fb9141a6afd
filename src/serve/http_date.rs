//! Dates as HTTP writes them (RFC 9110 section 5.6.7), for every response head.
//!
//! `reply` writes `Last-Modified` with [`text`]; a worker keeps the present one in a [`DateLine`].
//! Sans-IO, and without the formatting machinery of the standard library: two dates a response
//! would cost more than the parse of its request.

use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use std::time::Duration;

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) const LENGTH: usize = 29;

/// The last second of the year 9999: later ones, which a manifest may name, are written as this.
const LAST_SECOND: u64 = 253_402_300_799;

const DAY_SECONDS: u64 = 86_400;

const WEEKDAYS: [[u8; 3]; 7] = [
    *b"Thu", *b"Fri", *b"Sat", *b"Sun", *b"Mon", *b"Tue", *b"Wed",
];

const MONTHS: [[u8; 3]; 12] = [
    *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct",
    *b"Nov", *b"Dec",
];

/// `00` to `99`: looked up, because a date has seven of them.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut at = 0;
    while at < 100_u8 {
        pairs[at as usize] = [b'0' + at / 10, b'0' + at % 10];
        at += 1;
    }
    pairs
};

/// The date of this second, written once a second.
#[derive(Debug)]
pub(super) struct DateLine {
    /// When the second ends. A calendar that is set while it runs is noticed then.
    until: Option<Instant>,
    text: [u8; LENGTH],
}

impl DateLine {
    pub(super) fn new() -> Self {
        Self {
            until: None,
            text: text(0),
        }
    }

    /// The date at `now`; `wall` is asked once a second.
    pub(super) fn at(&mut self, now: Instant, wall: impl FnOnce() -> Wall) -> &[u8] {
        if self.until.is_none_or(|until| now >= until) {
            let wall = wall();
            let gone = u64::try_from(wall.subsec_nanosecond()).unwrap_or(0);
            let left = Duration::from_secs(1).saturating_sub(Duration::from_nanos(gone));
            self.until = Some(now + left);
            self.text = text(clock::unix_seconds(wall));
        }
        &self.text
    }
}

/// The date of `unix_second`.
pub(super) fn text(unix_second: u64) -> [u8; LENGTH] {
    let second = unix_second.min(LAST_SECOND);
    let (days, rest) = (second / DAY_SECONDS, second % DAY_SECONDS);
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    text[..3].copy_from_slice(&WEEKDAYS[index(days % 7)]);
    text[5..7].copy_from_slice(&two(day));
    text[8..11].copy_from_slice(&MONTHS[index(month - 1)]);
    text[12..14].copy_from_slice(&two(year / 100));
    text[14..16].copy_from_slice(&two(year % 100));
    text[17..19].copy_from_slice(&two(rest / 3600));
    text[20..22].copy_from_slice(&two(rest / 60 % 60));
    text[23..25].copy_from_slice(&two(rest % 60));
    text
}

/// Year, month and day of a day since 1970, all from one. Years begin in March here, so that the
/// leap day is the last of a year: 400 of them have 146,097 days, and every five months 153.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// A number below 100.
fn two(value: u64) -> [u8; 2] {
    PAIRS.get(index(value)).copied().unwrap_or(*b"00")
}

#[cfg(test)]
mod tests {
    use super::*;
    use httpdate::HttpDate;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn said(unix_second: u64) -> String {
        String::from_utf8(text(unix_second).to_vec()).unwrap()
    }

    #[test]
    fn the_date_is_written_once_a_second_and_never_panics() {
        assert_eq!(said(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(said(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        let start = clock::now();
        let wall = |millis: i64| move || Wall::from_millisecond(784_111_777_000 + millis).unwrap();
        let mut date = DateLine::new();
        let mut at = |after, millis: i64| {
            let now = start + Duration::from_millis(after);
            String::from_utf8(date.at(now, wall(millis)).to_vec()).unwrap()
        };
        assert!(at(0, 300).ends_with("08:49:37 GMT"));
        // Nobody looks at the calendar before the second has ended.
        assert!(at(699, 50_000).ends_with("08:49:37 GMT"));
        assert!(at(700, 1_000).ends_with("08:49:38 GMT"));
        assert!(at(1_700, 2_000).ends_with("08:49:39 GMT"));
    }

    proptest! {
        #[test]
        fn every_second_is_written_as_another_library_writes_it(second in 0..=LAST_SECOND) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            prop_assert_eq!(said(second), HttpDate::from(at).to_string());
        }

        #[test]
        fn so_is_every_day_of_this_age(day in 0_u64..80_000) {
            let second = day * DAY_SECONDS + DAY_SECONDS - 1;
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            prop_assert_eq!(said(second), HttpDate::from(at).to_string());
        }
    }
}
