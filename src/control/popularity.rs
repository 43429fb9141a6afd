//! The popularity feed: a CSV file with a number for each bundle.
//!
//! ```text
//! bundle,popularity
//! # a comment
//! title/v1/1080p,1234.5
//! ```
//!
//! UTF-8, lines ending in LF or CRLF, fields in double quotes where somebody's tool writes them.
//! Greater is more popular; what the numbers count is the operator's business. Every problem is
//! told with its line, and a feed with a problem changes nothing. Called by the operator's socket.
//!
//! I/O: reads what it is given.

use crate::key;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

/// A million bundles with long names. Longer is not a feed.
pub const FEED_BYTES_MAX: u64 = 128 << 20;

/// Problems that are told; more are counted.
pub const PROBLEMS_SHOWN_MAX: usize = 100;

const HEADER: [&str; 2] = ["bundle", "popularity"];

/// Letters of a field that a message repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// Why a feed was refused. Nothing of it was taken.
#[derive(Debug, thiserror::Error)]
pub enum PopularityError {
    #[error("the popularity feed cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("the popularity feed is longer than {FEED_BYTES_MAX} bytes; leave the tail out")]
    TooLong,
    #[error("the popularity feed is refused as a whole:{}", Listed(.0, *.1))]
    Problems(Vec<Problem>, usize),
}

/// One problem of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    pub problem: String,
}

/// Problems and how many more there are.
struct Listed<'a>(&'a [Problem], usize);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.0 {
            write!(f, "\n  line {}: {}", problem.line, problem.problem)?;
        }
        match self.1 {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Reads a whole feed: directory of the bundle → popularity.
pub fn parse(feed: &mut dyn Read) -> Result<BTreeMap<String, f64>, PopularityError> {
    let mut bytes = Vec::new();
    feed.take(FEED_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FEED_BYTES_MAX {
        return Err(PopularityError::TooLong);
    }
    // The mark that spreadsheets write before UTF-8.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut reader = Feed::default();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        reader.line(number + 1, line.strip_suffix(b"\r").unwrap_or(line));
    }
    reader.finish()
}

#[derive(Default)]
struct Feed<'a> {
    has_header: bool,
    /// Directory → popularity and the line it stands in.
    rows: BTreeMap<std::borrow::Cow<'a, str>, (f64, usize)>,
    problems: Vec<Problem>,
    more: usize,
}

impl<'a> Feed<'a> {
    fn line(&mut self, number: usize, line: &'a [u8]) {
        let text = match std::str::from_utf8(line) {
            Ok(text) => text.trim(),
            Err(_) => {
                return self.problem(number, "it is not UTF-8; save the file as UTF-8".into());
            }
        };
        if text.is_empty() || text.starts_with('#') {
            return;
        }
        let outcome = fields(text).and_then(|[bundle, popularity]| {
            if !self.has_header {
                self.has_header = true;
                return header(&bundle, &popularity);
            }
            self.row(number, bundle, &popularity)
        });
        if let Err(problem) = outcome {
            self.problem(number, problem);
        }
    }

    fn row(&mut self, number: usize, bundle: Field<'a>, popularity: &str) -> Result<(), String> {
        // The bundle of keys without a directory has an empty name.
        if !bundle.is_empty() {
            key::check(bundle.as_bytes()).map_err(|error| {
                format!("`{}` is no bundle's directory: {error}", shown(&bundle))
            })?;
        }
        let value: f64 = popularity
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite() && *value >= 0.0)
            .ok_or_else(|| format!("`{}` is not a number from 0 up", shown(popularity)))?;
        if let Some((_, before)) = self.rows.get(&bundle) {
            let bundle = shown(&bundle);
            return Err(format!("`{bundle}` stands in line {before} already"));
        }
        self.rows.insert(bundle, (value, number));
        Ok(())
    }

    fn problem(&mut self, line: usize, problem: String) {
        if self.problems.len() < PROBLEMS_SHOWN_MAX {
            self.problems.push(Problem { line, problem });
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Result<BTreeMap<String, f64>, PopularityError> {
        if !self.has_header {
            let header = HEADER.join(",");
            self.problem(1, format!("there is no header; write `{header}` first"));
        }
        if !self.problems.is_empty() {
            return Err(PopularityError::Problems(self.problems, self.more));
        }
        let rows = self.rows.into_iter();
        Ok(rows
            .map(|(bundle, (value, _))| (bundle.into_owned(), value))
            .collect())
    }
}

type Field<'a> = std::borrow::Cow<'a, str>;

fn header(bundle: &str, popularity: &str) -> Result<(), String> {
    if [bundle, popularity] == HEADER {
        return Ok(());
    }
    Err(format!(
        "the first line is to be `{}`, but says `{},{}`",
        HEADER.join(","),
        shown(bundle),
        shown(popularity)
    ))
}

/// Cuts a line in two. RFC 4180, but for line breaks inside quotes, which no bundle has.
fn fields(line: &str) -> Result<[Field<'_>; 2], String> {
    let (first, rest) = field(line)?;
    let rest = rest.ok_or("there is one field; two are expected: bundle,popularity")?;
    let (second, rest) = field(rest)?;
    match rest {
        None => Ok([first, second]),
        Some(_) => Err("there are more than two fields; quote a name that has a comma".into()),
    }
}

/// The first field of `text`, and what follows its comma.
fn field(text: &str) -> Result<(Field<'_>, Option<&str>), String> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let (field, rest) = match text.split_once(',') {
            Some((field, rest)) => (field, Some(rest)),
            None => (text, None),
        };
        if field.contains('"') {
            return Err("a quote inside a field that does not begin with one".into());
        }
        return Ok((field.trim_end().into(), rest));
    };
    let mut from = 0;
    loop {
        let Some(at) = quoted[from..].find('"') else {
            return Err("a quote is not closed".into());
        };
        let end = from + at;
        let after = &quoted[end + 1..];
        if after.starts_with('"') {
            from = end + 2;
            continue;
        }
        let field = quoted[..end].replace("\"\"", "\"");
        let after = after.trim_start();
        return match after.strip_prefix(',') {
            Some(rest) => Ok((field.into(), Some(rest))),
            None if after.is_empty() => Ok((field.into(), None)),
            None => Err("text after a closing quote".into()),
        };
    }
}

/// Text from outside, bounded and printable.
fn shown(text: &str) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(printable).take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<(usize, String)> {
        match parse(&mut text.as_bytes()).unwrap_err() {
            PopularityError::Problems(problems, 0) => {
                let pairs = problems.into_iter().map(|p| (p.line, p.problem));
                pairs.collect()
            }
            other @ (PopularityError::Problems(..)
            | PopularityError::Read(_)
            | PopularityError::TooLong) => panic!("{other}"),
        }
    }

    #[test]
    fn feeds_of_people_and_of_spreadsheets_are_read() {
        let feed = "\u{feff}# week 12\r\nbundle,popularity\r\n\r\nf/v1,12.5\r\n\"f/v2\", 1e3 \r\n \
                    f/v3 ,0\r\n\"\",7\r\n";
        let read = parse(&mut feed.as_bytes()).unwrap();
        let expected = [("", 7.0), ("f/v1", 12.5), ("f/v2", 1000.0), ("f/v3", 0.0)];
        let expected = expected.map(|(bundle, value)| (bundle.to_owned(), value));
        assert_eq!(read, BTreeMap::from(expected));
        let empty = parse(&mut &b"bundle,popularity"[..]).unwrap();
        assert!(empty.is_empty());
    }

    #[test]
    fn all_problems_come_at_once_with_their_lines() {
        let told = problems(
            "bundle,popularity\nf/v1,1\nf/../v1,2\nf/v2,-1\nf/v3,nan\nf/v4\nf/v5,1,2\nf/v1,3\n\
             \"f/v6,4\n\"f/v7\"x,5\nf/\"v8,6\nf/v9,inf\n",
        );
        let lines: Vec<usize> = told.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12], "{told:?}");
        assert!(told[5].1.contains("line 2"), "{told:?}");
        let told = problems("title,score\na,1\n");
        assert_eq!(told[0].0, 1, "{told:?}");
        assert!(told[0].1.contains("`bundle,popularity`"), "{told:?}");
        assert_eq!(problems("").len(), 1);
    }

    #[test]
    fn a_feed_of_nothing_but_problems_is_cut_and_counted() {
        let feed = format!("bundle,popularity\n{}", "x y,1\n".repeat(250));
        let error = parse(&mut feed.as_bytes()).unwrap_err();
        assert!(matches!(&error, PopularityError::Problems(shown, 150) if shown.len() == 100));
        assert!(error.to_string().ends_with("and 150 more"), "{error}");
        let mut endless = std::io::repeat(b'#');
        let error = parse(&mut endless).unwrap_err();
        assert!(matches!(error, PopularityError::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&mut &bytes[..]);
        }

        #[test]
        fn a_feed_written_is_a_feed_read(
            rows in proptest::collection::btree_map("[a-z]{1,5}(/[a-z0-9]{1,5}){0,3}", 0.0..1e12, 0..30)
        ) {
            prop_assume!(rows.keys().all(|bundle| key::check(bundle.as_bytes()).is_ok()));
            let lines = rows.iter().map(|(bundle, value)| format!("{bundle},{value}\r\n"));
            let feed = format!("bundle,popularity\r\n{}", lines.collect::<String>());
            prop_assert_eq!(parse(&mut feed.as_bytes()).unwrap(), rows);
        }
    }
}
