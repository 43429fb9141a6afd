//! Where clients and sites are, and how far apart.
//!
//! `snapshot` keeps a [`Point`] a site; `decide` measures from the client's. A client's position is
//! what the question says (`at=`), else what the operator's table says of its prefix; without
//! either the distance step is skipped. Nothing here guesses a position from an address.

use crate::prefix::Prefix;
use crate::prefix::PrefixError;
use crate::prefix_map::PrefixMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Mean radius of the Earth (IUGG), km.
const EARTH_KM: f64 = 6371.009;

/// Rows of a table of positions. Larger ones are a mistake, not a table kept by people.
const TABLE_ROWS_MAX: usize = 1_000_000;

/// Degrees; always finite and in range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    latitude: f64,
    longitude: f64,
}

/// Why a text is no position or no table; the message gives the form to write.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PositionError {
    #[error(
        "`{0}` is not a position: write `<latitude>,<longitude>` in degrees, such as `43.6,1.4`"
    )]
    Text(String),
    #[error("line {line}: {problem}; write `<prefix>,<latitude>,<longitude>`")]
    Line { line: usize, problem: String },
    #[error("the table has more than {TABLE_ROWS_MAX} rows; use shorter prefixes")]
    TooManyRows,
}

/// The operator's table: prefix → position; the longest prefix counts.
#[derive(Clone, Debug, Default)]
pub struct Locator(PrefixMap<Position>);

/// A position on the unit sphere, ready to be measured from.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Point([f64; 3]);

impl Position {
    /// `None` outside ±90 and ±180 degrees.
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let good = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        good.then_some(Self {
            latitude,
            longitude,
        })
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let refused = || PositionError::Text(crate::help::printable(text.as_bytes(), 60));
        let (latitude, longitude) = text.split_once(',').ok_or_else(refused)?;
        let degrees = |text: &str| text.trim().parse::<f64>().map_err(|_| refused());
        Self::new(degrees(latitude)?, degrees(longitude)?).ok_or_else(refused)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.latitude, self.longitude)
    }
}

impl Locator {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn insert(&mut self, prefix: Prefix, position: Position) {
        self.0.insert(prefix, position);
    }

    /// Reads `<prefix>,<latitude>,<longitude>` lines; `#` begins a comment, empty lines are
    /// skipped.
    pub fn parse(text: &str) -> Result<Self, PositionError> {
        let mut table = Self::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let refused = |problem: String| PositionError::Line {
                line: index + 1,
                problem,
            };
            let (prefix, position) = line
                .split_once(',')
                .ok_or_else(|| refused("a field is missing".to_owned()))?;
            let prefix = prefix
                .trim()
                .parse()
                .map_err(|error: PrefixError| refused(error.to_string()))?;
            let position = position
                .parse()
                .map_err(|error: PositionError| refused(error.to_string()))?;
            table.insert(prefix, position);
            if table.0.len() > TABLE_ROWS_MAX {
                return Err(PositionError::TooManyRows);
            }
        }
        Ok(table)
    }

    pub(super) fn locate(&self, client: IpAddr) -> Option<Position> {
        self.0.matches(client).next().map(|(_, position)| *position)
    }
}

impl Point {
    pub(in crate::control) fn of(position: Position) -> Self {
        let (latitude, longitude) = (
            position.latitude.to_radians(),
            position.longitude.to_radians(),
        );
        Self([
            latitude.cos() * longitude.cos(),
            latitude.cos() * longitude.sin(),
            latitude.sin(),
        ])
    }

    /// Great-circle distance in whole kilometres: nobody knows a viewer's place more exactly. The
    /// haversine of the angle is a quarter of the squared chord between the two points.
    pub(in crate::control) fn distance_km(&self, other: &Self) -> u32 {
        let squares = self.0.iter().zip(other.0).map(|(a, b)| (a - b) * (a - b));
        let haversine = (squares.sum::<f64>() / 4.0).min(1.0);
        let km = 2.0 * EARTH_KM * haversine.sqrt().asin();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 20,016"
        )]
        let whole = km.round() as u32;
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn km(from: &str, to: &str) -> u32 {
        let point = |text: &str| Point::of(text.parse().unwrap());
        point(from).distance_km(&point(to))
    }

    #[test]
    fn known_distances_come_out() {
        // Toulouse-Blagnac to London Heathrow, and to the other side of the Earth.
        assert!((880..=900).contains(&km("43.6291,1.3638", "51.4706,-0.4619")));
        assert_eq!(km("43.6,1.4", "43.6,1.4"), 0);
        assert_eq!(km("0,0", "0,180"), 20_015);
        assert_eq!(km("90,0", "-90,0"), 20_015);
        assert_eq!(km("0,179.5", "0,-179.5"), 111);
    }

    #[test]
    fn only_positions_on_earth_are_read() {
        for bad in ["", "1", "91,0", "0,181", "NaN,0", "inf,0", "1;2", "1,2,3"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
        assert!(" 1.5 , -2 ".parse::<Position>().is_ok());
    }

    #[test]
    fn the_table_answers_with_its_longest_prefix_and_names_bad_lines() {
        let text = "# people\n192.0.2.0/24, 10, 20\n\n192.0.2.128/25,30,40 # east\n";
        let table = Locator::parse(text).unwrap();
        let at = |client: &str| table.locate(client.parse().unwrap());
        assert_eq!(at("192.0.2.1"), Position::new(10.0, 20.0));
        assert_eq!(at("192.0.2.129"), Position::new(30.0, 40.0));
        assert_eq!(at("198.51.100.1"), None);
        let error = Locator::parse("192.0.2.0/24,1,1\n192.0.2.1/24,1,1").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(Locator::parse("192.0.2.0/24").is_err());
    }
}
