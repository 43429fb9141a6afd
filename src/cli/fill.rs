//! `oca show fill`: the night in a few lines, its transfers, and the nights that were.

use super::table;
use super::table::Medium;
use crate::units::Bytes;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Width of a progress bar, in characters.
const BAR_WIDTH: u64 = 20;

/// Where the history is, with its sum.
pub(super) const NIGHTS: &str = "/v1/fill/nights";

/// Asked first, shown first; the other figures follow by name.
const FIRST: [&str; 7] = [
    "window", "paused", "reason", "load", "problem", "rate_bps", "cap_bps",
];

/// The view as text: figures and transfers, or the history.
pub(super) fn shown(view: &Value, nights: bool, medium: Medium) -> String {
    if nights {
        return history(view, medium);
    }
    let mut figures = view.as_object().cloned().unwrap_or_default();
    for tabled in [
        "v",
        "nights",
        "nights_total",
        "transfers",
        "received",
        "certificate",
    ] {
        figures.remove(tabled);
    }
    if medium == Medium::Terminal {
        round(&mut figures, false);
    }
    let first = FIRST.iter().filter_map(|name| figures.remove_entry(*name));
    let first: Map<String, Value> = first.collect();
    let mut text = table::properties(medium, &Value::Object(first));
    if medium == Medium::Terminal {
        text.push('\n');
    }
    text.push_str(&table::properties(medium, &Value::Object(figures)));
    let transfers = rows(view, "transfers");
    if !transfers.is_empty() {
        let header = [
            "digest", "rank", "class", "kind", "source", "bytes", "done", "seconds",
        ];
        let rows: Vec<_> = transfers.iter().map(|row| transfer(row, medium)).collect();
        text.push('\n');
        text.push_str(&table::table(medium, &header, &rows));
    }
    text
}

/// A night a line, the latest first, and all of them in the last.
fn history(view: &Value, medium: Medium) -> String {
    let header = [
        "date",
        "peer",
        "tier",
        "network",
        "origin",
        "urgent",
        "done",
        "wanted",
        "carried_over",
        "carried_over_bytes",
        "outside",
        "done_bytes",
        "wanted_bytes",
        "no_room",
        "refused",
        "highest",
        "egress",
        "egress_per_fill",
        "p95",
        "p95_without",
    ];
    let total = Some(&view["total"]).filter(|_| !rows(view, "nights").is_empty());
    let nights = rows(view, "nights").iter().chain(total);
    let nights: Vec<_> = nights.map(|night| night_row(night, medium)).collect();
    table::table(medium, &header, &nights)
}

fn night_row(night: &Value, medium: Medium) -> Vec<String> {
    let size = |name: &str| bytes(&night[name], medium);
    let speed = |name: &str| match (medium, night[name].as_u64()) {
        (Medium::Terminal, Some(bits)) => rate(bits),
        (Medium::Terminal | Medium::Pipe, _) => table::cell(&night[name]),
    };
    let mut row = vec![table::cell(&night["date"])];
    for kind in ["peer", "tier", "network", "origin"] {
        row.push(bytes(&night["bytes"][kind], medium));
    }
    row.push(size("urgent_bytes"));
    for count in ["done", "wanted", "carried_over"] {
        row.push(table::cell(&night[count]));
    }
    for name in [
        "carried_over_bytes",
        "outside_bytes",
        "done_bytes",
        "wanted_bytes",
    ] {
        row.push(size(name));
    }
    row.push(table::cell(&night["no_room"]));
    row.push(refused(&night["refused"]));
    row.push(speed("highest_second_bps"));
    row.push(size("egress_bytes"));
    let ratio = night["egress_per_fill"].as_f64();
    row.push(ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
    row.push(speed("inbound_p95_bps"));
    row.push(speed("inbound_p95_without_fill_bps"));
    row
}

/// `busy 3, slow 1`: reasons that there were.
fn refused(counts: &Value) -> String {
    let counts = counts.as_object().into_iter().flatten();
    let counts = counts.filter(|(_, count)| count.as_u64() != Some(0));
    let words: Vec<String> = counts
        .map(|(word, count)| format!("{word} {count}"))
        .collect();
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(", "),
    }
}

fn transfer(row: &Value, medium: Medium) -> Vec<String> {
    let digest = table::cell(&row["digest"]);
    let digest = match medium {
        Medium::Terminal => digest.chars().take(12).collect(),
        Medium::Pipe => digest,
    };
    let (all, done) = (&row["bytes"], &row["bytes_done"]);
    let progress = match medium {
        Medium::Terminal => bar(done.as_u64().unwrap_or(0), all.as_u64().unwrap_or(0)),
        Medium::Pipe => table::cell(done),
    };
    let cell = |name: &str| table::cell(&row[name]);
    vec![
        digest,
        cell("rank"),
        cell("class"),
        cell("kind"),
        cell("source"),
        bytes(all, medium),
        progress,
        cell("seconds"),
    ]
}

/// `########------------  40 %`
fn bar(done: u64, all: u64) -> String {
    let part = |of: u64| u128::from(done.min(all)) * u128::from(of) / u128::from(all.max(1));
    let full = usize::try_from(part(BAR_WIDTH)).unwrap_or(0);
    let rest = usize::try_from(BAR_WIDTH).unwrap_or(0).saturating_sub(full);
    format!("{}{} {:3} %", "#".repeat(full), "-".repeat(rest), part(100))
}

/// Figures of bytes and rates as people read them; `are_bytes`: all of these are.
fn round(members: &mut Map<String, Value>, are_bytes: bool) {
    for (name, value) in members.iter_mut() {
        if let Some(inner) = value.as_object_mut() {
            round(inner, name == "bytes");
        } else if are_bytes || name.ends_with("_bytes") || name.starts_with("bytes_") {
            *value = json!(bytes(value, Medium::Terminal));
        } else if let Some(bits) = value.as_u64().filter(|_| name.ends_with("_bps")) {
            *value = json!(rate(bits));
        }
    }
}

fn rate(bits: u64) -> String {
    format!("{} Mbit/s", bits / 1_000_000)
}

fn bytes(value: &Value, medium: Medium) -> String {
    match value.as_u64() {
        Some(count) if medium == Medium::Terminal => Bytes(count).to_string(),
        Some(_) | None => table::cell(value),
    }
}

fn rows<'a>(view: &'a Value, member: &str) -> &'a [Value] {
    view[member].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_its_part_and_never_more_than_all() {
        assert_eq!(bar(8, 20), "########------------  40 %");
        assert_eq!(bar(30, 20), "#################### 100 %");
        assert_eq!(bar(0, 0), "--------------------   0 %");
    }

    #[test]
    fn a_night_is_a_line_and_the_last_one_is_the_sum() {
        let night = json!({"date": "2026-03-02", "bytes": {"peer": 1_000_000, "origin": 0},
            "refused": {"busy": 3, "slow": 0, "wrong-bytes": 1}, "egress_per_fill": 12.345,
            "highest_second_bps": 1_200_000_000_u64, "inbound_p95_bps": 7_000_000});
        let total = json!({"date": "2026-03-02/2026-03-02", "egress_per_fill": null});
        let view = json!({"nights": [night], "total": total});
        let text = shown(&view, true, Medium::Terminal);
        for part in [
            "1.00 MB",
            "busy 3, wrong-bytes 1",
            "12.35",
            "1200 Mbit/s",
            "7 Mbit/s",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let text = shown(&view, true, Medium::Pipe);
        assert!(
            text.lines()
                .last()
                .unwrap()
                .starts_with("2026-03-02/2026-03-02\t"),
            "{text}"
        );
        assert!(text.contains("\t1200000000\t"), "{text}");
        let none = shown(&json!({"nights": [], "total": total}), true, Medium::Pipe);
        assert!(none.lines().count() <= 1, "{none}");
    }

    #[test]
    fn people_read_rounded_figures_and_pipes_get_exact_ones() {
        let view = json!({"v": 1, "cap_bps": 1_200_000_000_u64, "wanted_bytes": 2_500_000,
            "bytes": {"peer": 1_000_000}, "pace": {"night": {"limit_bytes": 3_000_000}},
            "peer": {"bytes_sent": 4_000_000}, "reason": null, "transfers": [{"digest": "abcdef0123456789",
            "bytes": 4_000_000, "bytes_done": 1_000_000}], "nights": []});
        let text = shown(&view, false, Medium::Terminal);
        for part in [
            "1200 Mbit/s",
            "2.50 MB",
            "1.00 MB",
            "3.00 MB",
            "4.00 MB",
            "abcdef012345 ",
            "#####---",
            "25 %",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.contains("reason   -\n\nbytes.peer"), "{text}");
        let text = shown(&view, false, Medium::Pipe);
        for part in [
            "cap_bps\t1200000000\n",
            "bytes.peer\t1000000\n",
            "\t4000000\t1000000\t",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
