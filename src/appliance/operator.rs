//! Commands of operators, carried out.

use super::Appliance;
use crate::command::Command;
use crate::command::Refusal;
use crate::command::Request;
use crate::units;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

impl Appliance {
    /// Does one command and answers it. Never waits: what takes long is begun.
    pub(super) fn carry_out(&mut self, request: Request) {
        let answer = match request.command {
            Command::Drain { time } => self.drain(time),
            Command::Undrain => self.undrain(),
            Command::Reload => self.reload(),
            Command::LogLevel { filter } => self.log_level(&filter),
            Command::Prefill { dir } => self.prefill.begin(&self.store, dir),
            Command::PrefillStop => {
                self.prefill.stop();
                Ok(json!({ "stopping": true }))
            }
        };
        // Whoever asked may have gone; the command was carried out all the same.
        let _ = request.reply.send(answer);
    }

    fn drain(&mut self, time: Option<Duration>) -> Result<Value, Refusal> {
        let saved = self.gatekeeper.drain(time);
        self.refresh();
        let until = time.map(units::show_duration);
        saved.map_err(|error| {
            Refusal::Failed(format!("drained, but a restart would forget it: {error}"))
        })?;
        Ok(json!({ "drained": true, "for": until, "gate": self.gate_words() }))
    }

    fn undrain(&mut self) -> Result<Value, Refusal> {
        let saved = self.gatekeeper.undrain();
        self.refresh();
        saved.map_err(|error| {
            Refusal::Failed(format!(
                "undrained, but a restart would drain again: {error}"
            ))
        })?;
        Ok(json!({ "drained": false, "gate": self.gate_words() }))
    }

    fn log_level(&mut self, filter: &str) -> Result<Value, Refusal> {
        let Some(logs) = &self.logs else {
            return Err(Refusal::State(
                "this process does not own its logs".to_owned(),
            ));
        };
        let old = logs
            .set_filter(filter)
            .map_err(|error| Refusal::BadRequest(error.to_string()))?;
        Ok(json!({ "old": old, "level": filter }))
    }

    /// The gate in words, for answers and for systemd.
    pub(super) fn gate_words(&self) -> String {
        self.gatekeeper.subscribe().borrow().to_string()
    }
}
