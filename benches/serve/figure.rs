//! Figures: the median of paired ratios, with its spread and the bar it is held against.

use comfy_table::Table;
use serde_json::json;

/// The cost of the same work in one round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pair {
    pub ours: f64,
    pub peer: f64,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    name: &'static str,
    ours: f64,
    peer: f64,
    ratio: f64,
    /// Least and greatest ratio of a round.
    spread: (f64, f64),
    bar: f64,
}

impl Figure {
    pub(crate) fn new(name: &'static str, bar: f64, pairs: Vec<Pair>) -> Self {
        let median = |of: fn(&Pair) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            let first = values.first().copied().unwrap_or(f64::NAN);
            let last = values.last().copied().unwrap_or(f64::NAN);
            let middle = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
            (first, middle, last)
        };
        let (least, ratio, greatest) = median(|pair| pair.ours / pair.peer);
        Self {
            name,
            ours: median(|pair| pair.ours).1,
            peer: median(|pair| pair.peer).1,
            ratio,
            spread: (least, greatest),
            bar,
        }
    }

    fn ok(&self) -> bool {
        self.ratio <= self.bar
    }

    pub(crate) fn json(&self) -> String {
        let short = |value: f64| (value * 1_000.0).round() / 1_000.0;
        json!({
            "name": self.name,
            "ours": short(self.ours),
            "peer": short(self.peer),
            "ratio": short(self.ratio),
            "spread": [short(self.spread.0), short(self.spread.1)],
            "bar": self.bar,
            "ok": self.ok(),
        })
        .to_string()
    }
}

pub(crate) fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.set_header(["figure", "oca", "nginx", "ratio", "spread", "bar", ""]);
    for figure in figures {
        table.add_row([
            figure.name.to_owned(),
            format!("{:.3}", figure.ours),
            format!("{:.3}", figure.peer),
            format!("{:.2}", figure.ratio),
            format!("{:.2} to {:.2}", figure.spread.0, figure.spread.1),
            format!("{:.2}", figure.bar),
            if figure.ok() { "ok" } else { "above" }.to_owned(),
        ]);
    }
    table
}
