//! How a guest says what became of a check: one line on its console.
//!
//! `MARK <boot> <name> ok|FAILED <milliseconds> <text>`. The number of the boot comes from the
//! kernel's command line, so that no line of another boot, or of the host, is believed. Written by
//! [`super::guest`] inside, read by [`super::machine`] outside.

const WORD: &str = "MARK";

/// A mark is for reading; the console has the rest.
const TEXT_CHARS_MAX: usize = 400;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub name: String,
    pub has_passed: bool,
    pub milliseconds: u128,
    /// What it measured, or why it failed.
    pub text: String,
    /// Where its line begins on the console.
    pub at: usize,
}

/// The line of a mark, without its end.
pub(crate) fn line(
    boot: &str,
    name: &str,
    outcome: &Result<String, String>,
    milliseconds: u128,
) -> String {
    let (word, text) = match outcome {
        Ok(text) => ("ok", text),
        Err(text) => ("FAILED", text),
    };
    let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
    let text = text.replace(['\n', '\r'], " | ");
    format!("{WORD} {boot} {name} {word} {milliseconds} {text}")
}

/// The marks of one boot on a console.
pub(crate) fn all(console: &str, boot: &str) -> Vec<Mark> {
    let start = format!("{WORD} {boot} ");
    console
        .match_indices(&start)
        .filter_map(|(at, _)| parse(&console[at + start.len()..], at))
        .collect()
}

fn parse(rest: &str, at: usize) -> Option<Mark> {
    let line = rest.lines().next()?;
    let mut words = line.splitn(4, ' ');
    let (name, word) = (words.next()?, words.next()?);
    Some(Mark {
        name: name.to_owned(),
        has_passed: match word {
            "ok" => true,
            "FAILED" => false,
            _ => return None,
        },
        milliseconds: words.next()?.parse().ok()?,
        text: words.next().unwrap_or_default().to_owned(),
        at,
    })
}

#[test]
fn a_mark_survives_the_console_and_one_of_another_boot_is_not_believed() {
    let good = line("1f", "tea_is_hot", &Ok("61 C".to_owned()), 7);
    let bad = line("1f", "milk_is_cold", &Err("it is\r\n40 C".to_owned()), 8);
    let other = line("2e", "milk_is_cold", &Ok(String::new()), 9);
    let cut = &good[..12];
    let console = format!("boot\r\n[ 1.0] x{good}\r\n{other}\r\n{bad}\r\n{cut}");
    let marks = all(&console, "1f");
    assert_eq!(marks.len(), 2, "{marks:?}");
    assert_eq!(
        (marks[0].has_passed, marks[0].text.as_str()),
        (true, "61 C")
    );
    assert_eq!(marks[1].name, "milk_is_cold");
    assert_eq!((marks[1].has_passed, marks[1].milliseconds), (false, 8));
    assert!(marks[1].text.contains("40 C"), "{marks:?}");
}
