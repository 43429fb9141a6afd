//! Dates as HTTP writes them (RFC 9110 section 5.6.7), quickly: `reply` puts one of an object's own
//! into every head.

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) const DATE_BYTES: usize = 29;

const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
const MONTHS: &[u8; 36] = b"MarAprMayJunJulAugSepOctNovDecJanFeb";

/// The last second that four digits of a year can say.
const LAST_SECOND: u64 = 253_402_300_799;

const DAY: u64 = 86_400;

/// Four hundred years, after which the calendar repeats.
const ERA_DAYS: u64 = 146_097;

/// From 1 March 0000, where eras begin, to 1 January 1970.
const EPOCH_DAYS: u64 = 719_468;

/// A time later than the form can say is written as the last one it can.
pub(super) fn http_date(unix_second: u64) -> [u8; DATE_BYTES] {
    let second = unix_second.min(LAST_SECOND);
    let (days, time) = (second / DAY, second % DAY);
    // A year that begins in March has its leap day at its end, and months of a regular length.
    let day = days + EPOCH_DAYS;
    let (era, day) = (day / ERA_DAYS, day % ERA_DAYS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    let mut text = *b"Xxx, 00 Xxx 0000 00:00:00 GMT";
    text[..3].copy_from_slice(three(DAYS, days % 7));
    two(&mut text[5..7], day_of_month);
    text[8..11].copy_from_slice(three(MONTHS, month));
    two(&mut text[12..14], year / 100);
    two(&mut text[14..16], year % 100);
    two(&mut text[17..19], time / 3_600);
    two(&mut text[20..22], time / 60 % 60);
    two(&mut text[23..25], time % 60);
    text
}

fn three(names: &[u8], number: u64) -> &[u8] {
    let at = usize::try_from(number).unwrap_or(0) * 3;
    &names[at..at + 3]
}

fn two(into: &mut [u8], value: u64) {
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or(0);
    into.copy_from_slice(&[digit(value / 10), digit(value)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use std::time::UNIX_EPOCH;

    fn text(second: u64) -> String {
        String::from_utf8(http_date(second).to_vec()).unwrap()
    }

    #[test]
    fn dates_of_the_standard_and_at_the_edges_are_written_as_they_should_be() {
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(text(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(text(LAST_SECOND), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(u64::MAX), text(LAST_SECOND));
    }

    proptest! {
        #[test]
        fn every_date_is_written_as_the_library_writes_it(second in 0..LAST_SECOND) {
            let library = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            prop_assert_eq!(text(second), library);
        }
    }
}
