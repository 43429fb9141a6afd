//! Figures of the control plane: it has no peer, each stands beside its bar alone.

use comfy_table::Table;
use serde_json::Value;
use serde_json::json;

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Told, not judged.
    None,
}

/// One line of the table. The unit ends the name.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    /// The median of the rounds.
    pub(crate) ours: f64,
    /// Least and greatest of the rounds, where there are rounds.
    pub(crate) spread: Option<(f64, f64)>,
    pub(crate) bar: Bar,
}

impl Figure {
    pub(crate) fn one(name: impl Into<String>, ours: f64, bar: Bar) -> Self {
        Self {
            name: name.into(),
            ours,
            spread: None,
            bar,
        }
    }

    /// Of one value a round.
    pub(crate) fn rounds(name: impl Into<String>, mut values: Vec<f64>, bar: Bar) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            name: name.into(),
            ours: at(values.len() / 2),
            spread: Some((at(0), at(values.len().saturating_sub(1)))),
            bar,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        match self.bar {
            Bar::AtLeast(bar) => self.ours >= bar,
            Bar::AtMost(bar) => self.ours <= bar,
            Bar::None => true,
        }
    }

    pub(crate) fn json(&self) -> String {
        let bar = match self.bar {
            Bar::AtLeast(bar) | Bar::AtMost(bar) => json!(bar),
            Bar::None => Value::Null,
        };
        let spread = self.spread.map(|(least, most)| [short(least), short(most)]);
        json!({
            "name": self.name,
            "ours": short(self.ours),
            "peer": null,
            "ratio": null,
            "spread": spread,
            "bar": bar,
            "ok": self.is_ok(),
        })
        .to_string()
    }
}

pub(crate) fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.set_header(["figure", "oca", "spread", "bar", ""]);
    for figure in figures {
        let spread = figure.spread.map(|(least, most)| {
            let (least, most) = (short(least), short(most));
            format!("{least} to {most}")
        });
        table.add_row([
            figure.name.clone(),
            short(figure.ours).to_string(),
            spread.unwrap_or_default(),
            match figure.bar {
                Bar::AtLeast(bar) => format!("at least {bar}"),
                Bar::AtMost(bar) => format!("at most {bar}"),
                Bar::None => String::new(),
            },
            match figure.bar {
                Bar::None => "",
                Bar::AtLeast(_) | Bar::AtMost(_) if figure.is_ok() => "ok",
                Bar::AtLeast(_) | Bar::AtMost(_) => "missed",
            }
            .to_owned(),
        ]);
    }
    table
}

/// Four significant digits are more than a shared machine can promise.
fn short(value: f64) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    let digits = 3.0 - value.abs().log10().floor();
    let scale = 10_f64.powf(digits.max(0.0));
    (value * scale).round() / scale
}
