//! Commands of operators, carried out.

use super::Appliance;
use super::drain_saver::Saving;
use super::night::Verb;
use crate::bgp;
use crate::bgp::Order;
use crate::bgp::OrderError;
use crate::command::BgpOrder;
use crate::command::Command;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::Request;
use crate::store::DiskOrderError;
use crate::store::RetireError;
use crate::units;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
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
            Command::FillStart { prefill: false } => return self.fill(Verb::Start, request.reply),
            Command::FillStart { prefill: true } => return self.fill(Verb::Prefill, request.reply),
            Command::CertificateCheck { path } => {
                return self.fill(Verb::CheckCertificate(path), request.reply);
            }
            Command::FillPause => return self.fill(Verb::Pause, request.reply),
            Command::FillResume => return self.fill(Verb::Resume, request.reply),
            Command::Bgp { neighbour, order } => {
                return self.bgp_order(neighbour, order, request.reply);
            }
            Command::DiskCheck { path } => return self.recheck(path, request.reply),
            Command::DiskRetire { path, undo } => return self.retire(path, undo, request.reply),
            Command::DiskAdopt { path } => return self.disk(path, false, request.reply),
            Command::DiskFormat { path } => return self.disk(path, true, request.reply),
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

    fn bgp_order(&self, neighbour: String, order: BgpOrder, reply: Reply) {
        let bgp = self.bgp.clone();
        tokio::spawn(async move {
            let answer = match bgp {
                Some(bgp) => bgp_order(&bgp, &neighbour, order).await,
                None => Err(Refusal::State(
                    "this box has no BGP neighbours: it has no [bgp]".to_owned(),
                )),
            };
            let _ = reply.send(answer);
        });
    }

    fn disk(&self, path: PathBuf, format: bool, reply: Reply) {
        let store = self.store.clone();
        tokio::spawn(async move {
            let admitted = store.admit(&path, format).await;
            // Whoever asked may have gone; the command was carried out all the same.
            let _ = reply.send(disk_answer(&path, admitted));
        });
    }

    fn recheck(&self, path: PathBuf, reply: Reply) {
        let store = self.store.clone();
        tokio::spawn(async move {
            let checked = store.recheck(&path).await;
            // Whoever asked may have gone; the command was carried out all the same.
            let _ = reply.send(disk_answer(&path, checked));
        });
    }

    fn retire(&self, path: PathBuf, undo: bool, reply: Reply) {
        let store = self.store.clone();
        tokio::spawn(async move {
            let disk = path.clone();
            // The record is flushed.
            let retired = tokio::task::spawn_blocking(move || store.retire(&disk, undo));
            let answer = match retired.await {
                Ok(Ok(view)) => Ok(json!({ "disk": path, "retires": !undo, "retire": view })),
                Ok(Err(error)) => Err(match &error {
                    RetireError::Unknown(_) => Refusal::NotFound(error.to_string()),
                    RetireError::Unidentified { .. } | RetireError::NotRetiring { .. } => {
                        Refusal::State(error.to_string())
                    }
                    RetireError::State { .. } => Refusal::Failed(error.to_string()),
                }),
                Err(error) => Err(Refusal::Failed(error.to_string())),
            };
            // Whoever asked may have gone; the command was carried out all the same.
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

fn disk_answer(path: &Path, outcome: Result<(), DiskOrderError>) -> Result<Value, Refusal> {
    match outcome {
        Ok(()) => Ok(json!({ "disk": path, "admitted": true })),
        Err(error @ DiskOrderError::Unknown(_)) => Err(Refusal::NotFound(error.to_string())),
        Err(error @ (DiskOrderError::State { .. } | DiskOrderError::Refused { .. })) => {
            Err(Refusal::State(error.to_string()))
        }
        Err(error @ DiskOrderError::NoAnswer { .. }) => Err(Refusal::Failed(error.to_string())),
    }
}

async fn bgp_order(bgp: &bgp::Handle, neighbour: &str, order: BgpOrder) -> Result<Value, Refusal> {
    let (word, order) = match order {
        BgpOrder::Up => ("up", Order::Up),
        BgpOrder::Down { text } => ("down", Order::Down(text)),
        BgpOrder::Refresh { family } => ("refresh", Order::Refresh(family)),
    };
    let done = bgp.order(neighbour, order).await;
    let told = done.map(|name| json!({ "neighbour": name, "order": word }));
    told.map_err(|error| match error {
        OrderError::Unknown { .. } => Refusal::NotFound(error.to_string()),
        OrderError::Ambiguous { .. } => Refusal::BadRequest(error.to_string()),
        OrderError::NotEstablished
        | OrderError::NoRefresh
        | OrderError::Busy
        | OrderError::Stopping => Refusal::State(error.to_string()),
    })
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
