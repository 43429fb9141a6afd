//! What was proven: a line a step while it runs, a table at the end, or JSON lines.
//!
//! I/O: writes to standard output; progress for people goes to standard error.

use anyhow::Context as _;
use comfy_table::ContentArrangement;
use comfy_table::Table;
use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Longest `measured` text; an error chain with a log's end in it would tear the table.
const MEASURED_CHARS_MAX: usize = 1_000;

/// One step and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    pub step: &'static str,
    pub ok: bool,
    pub measured: String,
    pub expected: String,
}

/// What a step returns: did it hold, and what was measured. An error is a step that failed.
pub(super) type Outcome = anyhow::Result<(bool, String)>;

/// Collects the steps and shows them.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    steps: Vec<Step>,
}

/// Where the demo left the box, for the words at the end.
#[derive(Debug)]
pub(super) struct Places {
    pub https: String,
    pub plain: String,
    pub ca: PathBuf,
    pub config: PathBuf,
    pub socket: PathBuf,
    pub access_log: PathBuf,
    pub control_socket: PathBuf,
    /// URL of the steering of the whole system.
    pub steer: String,
    /// The key to try first.
    pub key: String,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            steps: Vec::new(),
        }
    }

    /// Shows one step at once and keeps it. Tells whether it held.
    pub(super) fn record(
        &mut self,
        step: &'static str,
        expected: impl Into<String>,
        outcome: Outcome,
    ) -> anyhow::Result<bool> {
        let (ok, measured) = outcome.unwrap_or_else(|error| (false, format!("{error:#}")));
        let step = Step {
            step,
            ok,
            measured: measured.chars().take(MEASURED_CHARS_MAX).collect(),
            expected: expected.into(),
        };
        if self.json {
            let line = serde_json::to_string(&step).context("a step cannot be written as JSON")?;
            print_line(&line)?;
        } else {
            eprintln!("{} {}: {}", mark(ok), step.step, step.measured);
        }
        self.steps.push(step);
        Ok(ok)
    }

    pub(super) fn all_ok(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.ok)
    }

    /// The table, unless JSON lines were asked for.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut table = Table::new();
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.load_style(if std::io::stdout().is_terminal() {
            UTF8_FULL_CONDENSED
        } else {
            ASCII_FULL_CONDENSED
        });
        table.set_header(["", "step", "measured", "expected"]);
        for step in &self.steps {
            table.add_row([mark(step.ok), step.step, &step.measured, &step.expected]);
        }
        let failed = self.steps.iter().filter(|step| !step.ok).count();
        print_line(&format!(
            "\n{table}\n{} steps proven, {failed} failed",
            self.steps.len() - failed
        ))
    }
}

/// What somebody may try while the demo goes on. JSON lines stay alone on standard output.
pub(super) fn invite(places: &Places, json: bool) -> anyhow::Result<()> {
    let text = invitation(places);
    if json {
        eprintln!("{text}");
        return Ok(());
    }
    print_line(&text)
}

fn invitation(places: &Places) -> String {
    let Places {
        https,
        plain,
        ca,
        config,
        socket,
        access_log,
        control_socket,
        steer,
        key,
    } = places;
    let (ca, socket, control) = (ca.display(), socket.display(), control_socket.display());
    format!(
        "\nThe box goes on serving until Ctrl-C.\n\
         \n  {https}/{key}\n  {plain}/{key}\n\
         \nTry:\n\
         \n  curl --cacert {ca} -i -r 0-99 {https}/{key}\
         \n  ffplay -ca_file {ca} -tls_verify 1 {https}/{key}\
         \n  oca show status --socket {socket}\
         \n  oca show catalogue --socket {socket}\
         \n  oca show disks --socket {socket}\
         \n  oca drain --socket {socket}      then   oca undrain --socket {socket}\
         \n\nAnd of the whole system, four boxes at three sites:\n\
         \n  curl '{steer}?client=192.0.2.10&key={key}'\
         \n  oca control boxes --socket {control}\
         \n  oca control routes --socket {control}\
         \n  oca control explain 192.0.2.10 {key} --socket {control}\
         \n\nConfiguration {}, access log {}, CA {ca}; all of it goes with the demo.",
        config.display(),
        access_log.display(),
    )
}

fn mark(ok: bool) -> &'static str {
    if ok { "ok" } else { "FAILED" }
}

fn print_line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_or_none_at_all_is_no_proof() {
        let mut report = Report::new(true);
        assert!(!report.all_ok());
        report
            .record("one", "x", Ok((true, "x".to_owned())))
            .unwrap();
        assert!(report.all_ok());
        let error = anyhow::anyhow!("the box is gone").context("no answer");
        assert!(!report.record("two", "y", Err(error)).unwrap());
        assert!(!report.all_ok());
        assert_eq!(report.steps[1].measured, "no answer: the box is gone");
    }

    #[test]
    fn a_step_is_one_json_object_with_the_four_documented_fields() {
        let step = Step {
            step: "ready",
            ok: true,
            measured: "0.2 s".to_owned(),
            expected: "within 10 s".to_owned(),
        };
        let text = serde_json::to_string(&step).unwrap();
        let expected = r#"{"step":"ready","ok":true,"measured":"0.2 s","expected":"within 10 s"}"#;
        assert_eq!(text, expected);
    }
}
