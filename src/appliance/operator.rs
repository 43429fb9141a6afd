//! Commands of operators, carried out.

use super::Appliance;
use super::drain_saver::Saving;
use super::night::Verb;
use crate::command::Command;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Request;
use crate::units;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

impl Appliance {
    /// Does one command. Never waits: what takes long is begun, and answered when it has ended.
    pub(super) fn carry_out(&mut self, request: Request) {
        let answer = match request.command {
            Command::Drain { time } => return self.drain(time, request.reply),
            Command::Undrain => return self.undrain(request.reply),
            Command::Reload => return self.begin_reload(Some(request.reply)),
            Command::LogLevel { filter } => self.log_level(&filter),
            Command::Prefill { dir } => self.prefill.begin(&self.store, dir),
            Command::PrefillStop => {
                self.prefill.stop();
                Ok(json!({ "stopping": true }))
            }
            Command::FillStart => return self.fill(Verb::Start, request.reply),
            Command::FillPause => return self.fill(Verb::Pause, request.reply),
            Command::FillResume => return self.fill(Verb::Resume, request.reply),
        };
        // Whoever asked may have gone; the command was carried out all the same.
        let _ = request.reply.send(answer);
    }

    fn fill(&self, verb: Verb, reply: Reply) {
        let night = self.night.clone();
        tokio::spawn(async move {
            let answer = match night {
                Some(night) => night.carry_out(verb).await,
                None => Err(Refusal::State(
                    "this box does not fill: it has no control plane ([control] url)".to_owned(),
                )),
            };
            let _ = reply.send(answer);
        });
    }

    fn drain(&mut self, time: Option<Duration>, reply: Reply) {
        let saving = self.gatekeeper.drain(time);
        self.refresh();
        let until = time.map(units::show_duration);
        let answer = json!({ "drained": true, "for": until, "gate": self.gate_words() });
        answer_saved(
            saving,
            answer,
            "drained, but a restart would forget it",
            reply,
        );
    }

    fn undrain(&mut self, reply: Reply) {
        let saving = self.gatekeeper.undrain();
        self.refresh();
        let answer = json!({ "drained": false, "gate": self.gate_words() });
        answer_saved(
            saving,
            answer,
            "undrained, but a restart would drain again",
            reply,
        );
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

/// Answers once the record is durable; `otherwise` begins the sentence when it is not.
fn answer_saved(saving: Option<Saving>, answer: Value, otherwise: &'static str, reply: Reply) {
    tokio::spawn(async move {
        let saved = match saving {
            Some(saving) => saving.done().await,
            None => Ok(()),
        };
        let told = saved.map(|()| answer);
        let told = told.map_err(|error| Refusal::Failed(format!("{otherwise}: {error}")));
        // Whoever asked may have gone; the command was carried out all the same.
        let _ = reply.send(told);
    });
}
