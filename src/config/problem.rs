//! What is wrong with a configuration, where, and what to write instead.
//!
//! Every step of [`super::load`] adds what it finds to one [`Report`]; nothing stops at the first.
//! Text from the files reaches a terminal only through [`clean`]. Never reads a file.

use super::source::Source;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

/// More problems than this are counted, not kept: a file of noise has one per byte.
const PROBLEMS_MAX: usize = 200;

/// Characters of one message; a message may quote a value from the file.
const MESSAGE_MAX: usize = 400;

/// One problem, as `oca check --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Dotted, `serve.limits.head`; empty when no key can be named.
    pub key: String,
    pub problem: String,
    /// What to write or do.
    pub remedy: String,
}

/// Every problem found, in the order of the files and of the positions in them. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

/// A position in one of the files, before it is turned into a line and a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// Index into the files in the order they are read.
    pub(super) file: usize,
    /// In bytes.
    pub(super) offset: usize,
}

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<Finding>,
    overflow: usize,
    incomplete: bool,
}

#[derive(Debug)]
struct Finding {
    at: At,
    is_syntax: bool,
    key: String,
    problem: String,
    remedy: String,
}

impl At {
    /// Where something absent is reported when no section holds it.
    pub(super) const START: Self = Self { file: 0, offset: 0 };
}

impl Report {
    /// A value, a key or a section is wrong.
    pub(super) fn add(
        &mut self,
        at: At,
        key: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(at, false, key, problem.into(), remedy.into());
    }

    /// A file could not be read: what is absent may only be hidden.
    pub(super) fn add_unread(
        &mut self,
        at: At,
        key: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.incomplete = true;
        self.push(at, false, key, problem.into(), remedy.into());
    }

    /// The text is not TOML here: what else is said of this line follows from that.
    pub(super) fn add_syntax(&mut self, at: At, key: &str, problem: &str, remedy: String) {
        self.incomplete = true;
        self.push(at, true, key, problem.to_owned(), remedy);
    }

    /// More would be kept; otherwise finding out the words for it is wasted.
    pub(super) fn has_room(&self) -> bool {
        self.found.len() < PROBLEMS_MAX
    }

    /// Everything was read, so that an absent key is missing and not merely hidden.
    pub(super) fn is_complete(&self) -> bool {
        !self.incomplete
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems with their places, sorted. On a line whose syntax is broken only the first
    /// syntax problem is kept: the others follow from it.
    pub(super) fn finish(mut self, sources: &[Source]) -> Problems {
        self.found.sort_by_key(|finding| finding.at);
        let line_of = |at: At| sources.get(at.file).map(|source| source.line(at.offset));
        let mut broken = BTreeMap::new();
        for (index, finding) in self.found.iter().enumerate() {
            if finding.is_syntax {
                let line = (finding.at.file, line_of(finding.at));
                broken.entry(line).or_insert(index);
            }
        }
        let mut seen = BTreeSet::new();
        let mut problems = Vec::new();
        for (index, finding) in self.found.into_iter().enumerate() {
            let line = (finding.at.file, line_of(finding.at));
            let hidden = broken.get(&line).is_some_and(|kept| *kept != index);
            let fresh = seen.insert((finding.at, finding.key.clone(), finding.problem.clone()));
            if let (false, true, Some(source)) = (hidden, fresh, sources.get(finding.at.file)) {
                problems.push(finding.placed(source));
            }
        }
        if let (1.., Some(source)) = (self.overflow, sources.first()) {
            problems.push(Problem {
                file: source.name(),
                line: 1,
                column: 1,
                key: String::new(),
                problem: format!("{} more problems are not shown", self.overflow),
                remedy: "correct those above and check again".to_owned(),
            });
        }
        Problems(problems)
    }

    fn push(&mut self, at: At, is_syntax: bool, key: &str, problem: String, remedy: String) {
        if !self.has_room() {
            self.overflow += 1;
            return;
        }
        let (key, problem, remedy) = (clean(key), clean(&problem), clean(&remedy));
        self.found.push(Finding {
            at,
            is_syntax,
            key,
            problem,
            remedy,
        });
    }
}

impl Finding {
    fn placed(self, source: &Source) -> Problem {
        let (line, column) = source.place(self.at.offset);
        Problem {
            file: source.name(),
            line,
            column,
            key: self.key,
            problem: self.problem,
            remedy: self.remedy,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl fmt::Display for Problems {
    /// One line a problem: `file:line:column: key: problem; remedy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}; {}", problem.remedy)?;
        }
        Ok(())
    }
}

/// Control characters escaped and the length bounded: a file may hold anything.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::new();
    for (count, c) in text.chars().enumerate() {
        if count >= MESSAGE_MAX {
            clean.push_str("...");
            break;
        }
        if c.is_control() || is_direction(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Characters that reorder the text around them on a terminal.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: usize) -> At {
        At { file: 0, offset }
    }

    #[test]
    fn problems_come_sorted_and_a_broken_line_says_one_thing() {
        let sources = [Source::from_text("a.toml", "one\ntwo\nthree\n")];
        let mut report = Report::default();
        report.add(at(9), "c", "wrong", "right");
        report.add(at(5), "b", "follows from the syntax", "");
        report.add_syntax(at(6), "b", "broken again", String::new());
        report.add_syntax(at(4), "b", "broken", "mend".to_owned());
        report.add(at(0), "a", "wrong", "right");
        assert!(!report.is_complete());
        let text = report.finish(&sources).to_string();
        assert_eq!(
            text,
            "a.toml:1:1: a: wrong; right\na.toml:2:1: b: broken; mend\na.toml:3:2: c: wrong; right"
        );
    }

    #[test]
    fn noise_is_counted_and_not_kept() {
        let sources = [Source::from_text("a.toml", "")];
        let mut report = Report::default();
        for n in 0..PROBLEMS_MAX + 7 {
            report.add(at(0), &n.to_string(), "wrong", "right");
        }
        let problems = report.finish(&sources).0;
        assert_eq!(problems.len(), PROBLEMS_MAX + 1);
        assert!(problems[PROBLEMS_MAX].problem.starts_with("7 more"));
    }

    #[test]
    fn what_a_file_holds_cannot_reach_a_terminal_as_it_is() {
        assert_eq!(clean("a\u{1b}[31m\u{202e}é\n"), "a\\u{1b}[31m\\u{202e}é\\n");
        assert_eq!(clean(&"x".repeat(5_000)).len(), MESSAGE_MAX + 3);
    }
}
