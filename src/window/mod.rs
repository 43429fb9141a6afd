//! The fill window: when a site's boxes may fetch content in bulk.
//!
//! A window is kept in wall-clock time of the site and recomputed at each edge, so that neither a
//! change of daylight saving nor a moved clock is ever remembered wrongly. Pure: the box's `fill`
//! and the control plane ask [`Window::standing`] with their `now`.

use crate::clock::Wall;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::civil::Time;
use jiff::tz::AmbiguousOffset;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::time::Duration;

/// No window is longer (FACTS 1.1: 02:00 to 14:00).
pub const LENGTH_MAX: Duration = Duration::from_secs(12 * 3600);

/// A start may be shifted within these hours of the night.
pub const START_SECONDS_MAX: u32 = 4 * 3600;

/// When the bulk of a site's content may be fetched, every day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// IANA name, for people and configurations.
    zone_name: String,
    #[serde(skip)]
    zone: TimeZone,
    /// Seconds after midnight by the wall clock; at most [`START_SECONDS_MAX`].
    start_s: u32,
    /// At most [`LENGTH_MAX`].
    length: Duration,
}

/// Why there is no such window; the message names the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("`{0}` is not a time zone of the IANA database; write for example `Europe/Paris`")]
    Zone(String),
    #[error("`{0}` is not a time of day; write for example `02:00`")]
    Time(String),
    #[error("a fill window starts between 00:00 and 04:00, not at {0}")]
    Start(String),
    #[error("a fill window is at least 1 s and at most 12 h long")]
    Length,
}

/// The window as seen from one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The opening that this moment is in.
    pub open: Option<Opening>,
    /// When this answer changes: the end of that opening, or the next start.
    pub next_edge: Wall,
}

/// One night.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// The site's date on which it opens: names the night.
    pub date: Date,
    pub opens: Wall,
    pub closes: Wall,
}

impl Window {
    /// `start_s`: seconds after midnight.
    pub fn new(zone: &str, start_s: u32, length: Duration) -> Result<Self, WindowError> {
        let found = TimeZone::get(zone).map_err(|_| WindowError::Zone(zone.to_owned()))?;
        if start_s > START_SECONDS_MAX {
            return Err(WindowError::Start(time_of_day(start_s)));
        }
        if length < Duration::from_secs(1) || length > LENGTH_MAX {
            return Err(WindowError::Length);
        }
        Ok(Self {
            zone_name: zone.to_owned(),
            zone: found,
            start_s,
            length,
        })
    }

    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    /// `HH:MM`, or `HH:MM:SS` where seconds matter.
    pub fn start(&self) -> String {
        time_of_day(self.start_s)
    }

    pub fn length(&self) -> Duration {
        self.length
    }

    /// The day of the site.
    pub fn date(&self, now: Wall) -> Date {
        now.to_zoned(self.zone.clone()).date()
    }

    /// Is it open, and when does that change?
    pub fn standing(&self, now: Wall) -> Standing {
        let today = now.to_zoned(self.zone.clone()).date();
        // A clock set back over midnight shows yesterday's date in a night that has begun, and a
        // night can be skipped: four dates always hold the next edge.
        for days in -1..=2 {
            let opening = self.opening(today.saturating_add(days.days()));
            if now < opening.opens && opening.opens < opening.closes {
                return Standing {
                    open: None,
                    next_edge: opening.opens,
                };
            }
            if opening.opens <= now && now < opening.closes {
                return Standing {
                    open: Some(opening),
                    next_edge: opening.closes,
                };
            }
        }
        // The calendar ends.
        Standing {
            open: None,
            next_edge: Wall::MAX,
        }
    }

    /// The night that begins on `date`: ends at the earlier of the length elapsed and the wall
    /// clock's end, so that a skipped hour makes it shorter and a repeated one no longer.
    pub fn opening(&self, date: Date) -> Opening {
        let opens = self.instant(date, self.start_s);
        let elapsed = opens.checked_add(self.length).unwrap_or(Wall::MAX);
        let end_s = u64::from(self.start_s) + self.length.as_secs();
        let by_clock = self.instant(date, u32::try_from(end_s).unwrap_or(u32::MAX));
        Opening {
            date,
            opens,
            closes: elapsed.min(by_clock).max(opens),
        }
    }

    /// A wall-clock time in a gap is the first instant after it; in a fold the first occurrence.
    fn instant(&self, date: Date, second: u32) -> Wall {
        let hour = i8::try_from(second / 3600 % 24).unwrap_or(0);
        let minute = i8::try_from(second / 60 % 60).unwrap_or(0);
        let time = Time::constant(hour, minute, i8::try_from(second % 60).unwrap_or(0), 0);
        let there = date.to_datetime(time);
        let ambiguous = self.zone.to_ambiguous_timestamp(there);
        let found = match ambiguous.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the offset after it, a time in the gap lies before the gap's end.
                let inside = after.to_timestamp(there).unwrap_or(Wall::MAX);
                self.zone.following(inside).next().map(|t| t.timestamp())
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => None,
        };
        found
            .or_else(|| ambiguous.compatible().ok())
            .unwrap_or(Wall::MAX)
    }
}

/// Parses `HH:MM` or `HH:MM:SS` into seconds after midnight.
pub fn seconds_of_day(text: &str) -> Result<u32, WindowError> {
    let refused = || WindowError::Time(text.chars().take(40).collect());
    let parts: Vec<&str> = text.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] => (hours, minutes, "00"),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return Err(refused()),
    };
    let number = |text: &str, most: u32| {
        let good = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let value: Option<u32> = good.then(|| text.parse().ok()).flatten();
        value.filter(|value| *value <= most).ok_or_else(refused)
    };
    Ok(number(hours, 23)? * 3600 + number(minutes, 59)? * 60 + number(seconds, 59)?)
}

/// `HH:MM`, or `HH:MM:SS` where seconds matter: [`seconds_of_day`] reads it back.
pub fn time_of_day(second: u32) -> String {
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    if seconds == 0 {
        format!("{hours:02}:{minutes:02}")
    } else {
        format!("{hours:02}:{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests;
