//! Text for people and for pipes: tables on a terminal, tab-separated columns elsewhere.
//!
//! Text from outside cannot steer the terminal. Called by `show` and `act`.

use serde_json::Value;
use std::fmt::Write as _;

/// What is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Terminal,
    Pipe,
}

impl Medium {
    pub(super) fn of_stdout() -> Self {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            Self::Terminal
        } else {
            Self::Pipe
        }
    }
}

/// `text` with everything that could steer a terminal or reorder a line escaped; line breaks too.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        let steers = char.is_control()
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(char, '\u{2066}'..='\u{2069}' | '\u{feff}');
        if steers {
            let _ = write!(out, "{}", char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// [`safe`], but several lines stay several lines.
pub(super) fn safe_lines(text: &str) -> String {
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}

/// Rows under a header.
pub(super) fn table(medium: Medium, header: &[&str], rows: &[Vec<String>]) -> String {
    match medium {
        Medium::Terminal => {
            let mut table = comfy_table::Table::new();
            table
                .load_style(comfy_table::TableStyle::new())
                .set_content_arrangement(comfy_table::ContentArrangement::Disabled)
                .set_header(header.iter().map(|name| name.to_uppercase()));
            for row in rows {
                table.add_row(row.iter().map(|cell| safe(cell)));
            }
            format!("{}\n", table.trim_fmt())
        }
        Medium::Pipe => {
            let mut text = header.join("\t");
            text.push('\n');
            for row in rows {
                let cells: Vec<_> = row.iter().map(|cell| safe(cell)).collect();
                let _ = writeln!(text, "{}", cells.join("\t"));
            }
            text
        }
    }
}

/// Another member of an answer, below the rows for people; for whom rows are read by a program the
/// JSON form has it.
pub(super) fn below(medium: Medium, answer: &Value, member: &str) -> String {
    let value = answer.get(member).filter(|_| medium == Medium::Terminal);
    let shown = value.map(|value| properties(medium, &serde_json::json!({ (member): value })));
    shown.map_or_else(String::new, |shown| format!("\n{shown}"))
}

/// Any JSON as one line a value, its path in front: `gate.state  serving`.
pub(super) fn properties(medium: Medium, value: &Value) -> String {
    let mut rows = Vec::new();
    flatten(String::new(), value, &mut rows);
    // Whether it serves, and what its control plane says to that, is what people ask; the rest
    // stays in its order.
    let first =
        |path: &str| matches!(path, "state" | "control.summary") || path.starts_with("gate.");
    rows.sort_by_key(|(path, _)| !first(path));
    let width = rows
        .iter()
        .map(|(path, _)| path.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (path, value) in rows {
        let _ = match medium {
            Medium::Terminal => writeln!(text, "{path:width$}  {value}"),
            Medium::Pipe => writeln!(text, "{path}\t{value}"),
        };
    }
    text
}

/// A value as one cell; nothing is shown as `-`.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn flatten(path: String, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |name: &str| {
        let name = safe(name);
        if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                flatten(below(name), value, rows);
            }
        }
        Value::Array(values) if values.iter().any(|v| v.is_object() || v.is_array()) => {
            for (index, value) in values.iter().enumerate() {
                flatten(format!("{path}[{index}]"), value, rows);
            }
        }
        Value::Object(_) => rows.push((path, "-".to_owned())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            rows.push((path, safe(&cell(value))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal_or_add_a_row() {
        let hostile = "a\u{1b}[2J\n\u{9b}31m\u{202e}b é";
        let shown = safe(hostile);
        assert_eq!(shown, "a\\u{1b}[2J\\n\\u{9b}31m\\u{202e}b é");
        for medium in [Medium::Terminal, Medium::Pipe] {
            let text = table(medium, &["key"], &[vec![hostile.to_owned()]]);
            assert!(!text.contains('\u{1b}'), "{text:?}");
            assert_eq!(text.lines().count(), 2, "{text:?}");
            let text = properties(medium, &json!({"x\n": hostile}));
            assert_eq!(text.lines().count(), 1, "{text:?}");
        }
    }

    #[test]
    fn what_stands_below_rows_is_for_people_alone() {
        let answer = json!({"disks": [], "moves": {"reason": "it is day"}});
        let shown = below(Medium::Terminal, &answer, "moves");
        assert!(
            shown.starts_with('\n') && shown.contains("moves.reason"),
            "{shown}"
        );
        assert_eq!(below(Medium::Pipe, &answer, "moves"), "");
        assert_eq!(below(Medium::Terminal, &answer, "other"), "");
    }

    #[test]
    fn values_are_shown_with_their_paths_and_pipes_get_tabs() {
        let value = json!({"gate": {"state": "closed", "reasons": ["disks", "clock"]}, "n": [],
            "certificates": [{"name": "a"}, {"name": "b"}]});
        let text = properties(Medium::Pipe, &value);
        let expected = "gate.reasons\tdisks, clock\ngate.state\tclosed\n\
            certificates[0].name\ta\ncertificates[1].name\tb\nn\t-\n";
        assert_eq!(text, expected);
        let rows = [vec!["1".to_owned(), "2".to_owned()]];
        assert_eq!(table(Medium::Pipe, &["a", "b"], &rows), "a\tb\n1\t2\n");
    }
}
