//! What the speed test shows: a line that moves while it runs, and what it found.
//!
//! I/O: writes standard output and the terminal.

use super::Findings;
use super::estimate::Latency;
use super::load::Direction;
use super::load::Measured;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use serde_json::Value;
use serde_json::json;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::Duration;

/// The spinner turns this often.
const TICK: Duration = Duration::from_millis(100);

/// The progress line: on a terminal, and not with `--json`.
pub(super) struct Shown(Option<ProgressBar>);

impl Shown {
    pub(super) fn new(json: bool) -> Self {
        let wanted = std::io::stderr().is_terminal() && !json;
        Self(wanted.then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let line = ProgressBar::new_spinner().with_style(style);
            line.enable_steady_tick(TICK);
            line
        }))
    }

    pub(super) fn says(&self, text: &'static str) {
        if let Some(line) = &self.0 {
            line.set_message(text);
        }
    }

    pub(super) fn rate(&self, direction: Direction, rate: BytesPerSecond, connections: usize) {
        if let Some(line) = &self.0 {
            let direction = direction.as_str();
            line.set_message(format!("{direction} {rate}, {connections} connections"));
        }
    }

    pub(super) fn ends(&self) {
        if let Some(line) = &self.0 {
            line.finish_and_clear();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.ends();
    }
}

pub(super) fn tell(findings: &Findings, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", as_json(findings))?;
        return Ok(());
    }
    let Findings {
        url, server, idle, ..
    } = findings;
    let over = findings.tls.unwrap_or("no TLS");
    writeln!(out, "{url} ({server}, {over})")?;
    let (median, jitter) = (shown(idle.median_ms()), shown(idle.jitter_ms()));
    writeln!(out, "latency   {median}, jitter {jitter}")?;
    writeln!(out, "download  {}", in_words(&findings.download))?;
    if let Some(upload) = &findings.upload {
        writeln!(out, "upload    {}", in_words(upload))?;
    }
    Ok(())
}

fn in_words(measured: &Measured) -> String {
    let Measured {
        rate,
        bytes,
        time,
        connections,
        ..
    } = measured;
    let seconds = time.as_secs_f64();
    let latency = shown(measured.latency.median_ms());
    let doubt = if measured.agreed {
        ""
    } else {
        "; the line is not steady"
    };
    let moved = Bytes(*bytes);
    format!(
        "{rate} ({moved} in {seconds:.1} s, {connections} connections, latency {latency}){doubt}"
    )
}

fn shown(ms: Option<f64>) -> String {
    ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms:.1} ms"))
}

fn as_json(findings: &Findings) -> Value {
    let upload = findings.upload.as_ref();
    let median = |latency: &Latency| latency.median_ms().map(rounded);
    json!({
        "v": 1,
        "url": findings.url,
        "server": findings.server,
        "tls": findings.tls,
        "latency_ms": {
            "idle": median(&findings.idle),
            "jitter": findings.idle.jitter_ms().map(rounded),
            "download": median(&findings.download.latency),
            "upload": upload.and_then(|upload| median(&upload.latency)),
        },
        "download": direction(&findings.download),
        "upload": upload.map(direction),
    })
}

fn direction(measured: &Measured) -> Value {
    json!({
        "bits_per_second": measured.rate.0.saturating_mul(8),
        "bytes": measured.bytes,
        "seconds": rounded(measured.time.as_secs_f64()),
        "connections": measured.connections,
        "agreed": measured.agreed,
    })
}

/// To a thousandth.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
