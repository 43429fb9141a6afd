//! Places by IATA code: where a site is, and what its clocks show.
//!
//! `TLS001.example.ISP` stands in Toulouse: its name gives coordinates for steering and the zone of
//! its fill window, unless the operator says otherwise. The table is part of the binary
//! (`tests/tools/iata.py` makes it) and is searched where it lies, without being parsed first.

/// `code,latitude,longitude,zone`, a line each, sorted by code, after a head of `#` lines.
const TABLE: &str = include_str!("iata.csv");

/// An airport's place, which is its city's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
    /// IANA name.
    pub timezone: &'static str,
}

/// The place of a code in either case; `None` when no airport has it.
pub fn find(code: &str) -> Option<Place> {
    if code.len() != 3 || !code.is_ascii() {
        return None;
    }
    let wanted = code.to_ascii_uppercase();
    let (mut low, mut high) = (0, TABLE.len());
    // Every line from `low` up to `high` may be it; both are beginnings of lines.
    while low < high {
        let before = &TABLE.as_bytes()[..usize::midpoint(low, high)];
        let newline = before.iter().rposition(|byte| *byte == b'\n');
        let begin = newline.map_or(0, |at| at + 1);
        let begin = begin.max(low);
        let line = TABLE[begin..].lines().next().unwrap_or_default();
        let end = begin + line.len() + 1;
        // `#` sorts before every code, and so does its line.
        match line.get(..3).cmp(&Some(wanted.as_str())) {
            std::cmp::Ordering::Equal => return place(line),
            std::cmp::Ordering::Less => low = end,
            std::cmp::Ordering::Greater => high = begin,
        }
    }
    None
}

fn place(line: &'static str) -> Option<Place> {
    let mut fields = line.split(',').skip(1);
    Some(Place {
        latitude: fields.next()?.parse().ok()?,
        longitude: fields.next()?.parse().ok()?,
        timezone: fields.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> impl Iterator<Item = &'static str> {
        TABLE.lines().filter(|line| !line.starts_with('#'))
    }

    #[test]
    fn well_known_places_are_where_they_are() {
        let near = |code: &str, latitude: f64, longitude: f64, timezone: &str| {
            let place = find(code).unwrap();
            let close = |a: f64, b: f64| (a - b).abs() < 0.01;
            assert!(close(place.latitude, latitude), "{code}: {place:?}");
            assert!(close(place.longitude, longitude), "{code}: {place:?}");
            assert_eq!(place.timezone, timezone, "{code}");
        };
        near("LHR", 51.4706, -0.4619, "Europe/London");
        near("lhr", 51.4706, -0.4619, "Europe/London");
        near("TLS", 43.629, 1.364, "Europe/Paris");
        near("SYD", -33.946, 151.177, "Australia/Sydney");
        for nowhere in ["", "LH", "LHRX", "QQQ", "###", "# P", "ÄB", "999"] {
            assert_eq!(find(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn every_line_is_found_and_is_a_place_with_a_zone() {
        let mut before = "";
        for line in lines() {
            let code = &line[..3];
            assert!(code.bytes().all(|b| b.is_ascii_uppercase()), "{line}");
            assert!(code > before, "{line} comes after {before}");
            before = code;
            assert_eq!(line.split(',').count(), 4, "{line}");
            let place = find(code).unwrap_or_else(|| panic!("{line} is not found"));
            assert_eq!(Some(place), super::place(line));
            assert!((-90.0..=90.0).contains(&place.latitude), "{line}");
            assert!((-180.0..=180.0).contains(&place.longitude), "{line}");
            assert!(jiff::tz::TimeZone::get(place.timezone).is_ok(), "{line}");
        }
        assert!(lines().count() > 7_500);
    }
}
