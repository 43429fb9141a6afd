//! Figures: the median of paired ratios, with its spread and the bar it is held against.

use serde_json::json;

/// The cost of the same work in one round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pair {
    pub ours: f64,
    pub peer: f64,
}

/// One line of the report. The unit ends the name.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    /// Medians of the rounds; NaN where nothing could be measured.
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    pub(crate) ratio: f64,
    /// Least and greatest ratio of a round, where there are rounds.
    pub(crate) spread: Option<(f64, f64)>,
    /// The ratio may be this at most; `None`: told, not judged.
    pub(crate) bar: Option<f64>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, bar: Option<f64>, pairs: &[Pair]) -> Self {
        let of = |value: fn(&Pair) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let middle = |values: &[f64]| values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
        let ratios = of(|pair| pair.ours / pair.peer);
        let ends = ratios.first().copied().zip(ratios.last().copied());
        Self {
            name: name.into(),
            ours: middle(&of(|pair| pair.ours)),
            peer: middle(&of(|pair| pair.peer)),
            ratio: middle(&ratios),
            spread: ends.filter(|_| ratios.len() > 1),
            bar,
        }
    }

    /// A figure that was not taken: a bar that is not shown to hold does not hold.
    pub(crate) fn missing(name: impl Into<String>, bar: f64) -> Self {
        Self::new(name, Some(bar), &[])
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.bar.is_none_or(|bar| self.ratio <= bar)
    }

    pub(crate) fn json(&self) -> String {
        let spread = self.spread.map(|(least, most)| [short(least), short(most)]);
        json!({
            "name": self.name,
            "ours": short(self.ours),
            "peer": short(self.peer),
            "ratio": short(self.ratio),
            "spread": spread,
            "bar": self.bar,
            "ok": self.is_ok(),
        })
        .to_string()
    }

    /// Ours, peer's, ratio, spread and verdict, as cells of a table.
    pub(crate) fn cells(&self) -> [String; 5] {
        let spread = self
            .spread
            .map(|(least, most)| format!("{least:.2} to {most:.2}"));
        let verdict = self.bar.map(|bar| match self.is_ok() {
            true => format!("ok, at most {bar}"),
            false => format!("MISSED, at most {bar}"),
        });
        [
            short(self.ours).to_string(),
            short(self.peer).to_string(),
            format!("{:.2}", self.ratio),
            spread.unwrap_or_default(),
            verdict.unwrap_or_default(),
        ]
    }
}

/// Four significant digits are more than a shared machine can promise.
pub(crate) fn short(value: f64) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    let digits = (3.0 - value.abs().log10().floor()).max(0.0);
    let scale = 10_f64.powf(digits);
    (value * scale).round() / scale
}
