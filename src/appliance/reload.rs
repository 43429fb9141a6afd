//! Reload: everything that can fail is prepared first, then everything is switched at once.
//!
//! I/O: reads files and binds sockets, on a blocking task.

use super::Appliance;
use super::start;
use crate::bgp;
use crate::command::Refusal;
use crate::command::Reply;
use crate::config;
use crate::config::Change;
use crate::config::Loaded;
use crate::config::Setting;
use crate::serve;
use crate::telemetry;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

/// What was read and prepared off the control runtime, and whom it is for.
#[derive(Debug)]
pub(super) struct Outcome {
    prepared: Result<Prepared, Refusal>,
    reply: Option<Reply>,
}

#[derive(Debug)]
struct Prepared {
    loaded: Box<Loaded>,
    serve: serve::Prepared,
    /// Of the neighbours in effect.
    keys: Option<bgp::Keys>,
}

impl Outcome {
    /// Of a reload whose task is gone, and whoever waited for it with it.
    pub(super) fn failed(error: &tokio::task::JoinError) -> Self {
        Self {
            prepared: Err(Refusal::Failed(format!("the reload failed: {error}"))),
            reply: None,
        }
    }
}

impl Appliance {
    /// Reads the configuration again, off this runtime; [`Appliance::finish_reload`] switches.
    pub(super) fn begin_reload(&mut self, reply: Option<Reply>) {
        if self.reloading.is_some() {
            tracing::warn!("a reload is under way; this one is refused");
            if let Some(reply) = reply {
                let text = "a reload is under way; give the command again when it has ended";
                let _ = reply.send(Err(Refusal::State(text.to_owned())));
            }
            return;
        }
        self.notifier.reloading();
        let (main_file, serve, bgp) =
            (self.main_file.clone(), self.serve.clone(), self.bgp.clone());
        self.reloading = Some(tokio::spawn(async move {
            let work =
                tokio::task::spawn_blocking(move || prepare(&main_file, &serve, bgp.as_ref()));
            let prepared = work.await.unwrap_or_else(|error| {
                Err(Refusal::Failed(format!("the reload failed: {error}")))
            });
            Outcome { prepared, reply }
        }));
    }

    /// On any problem nothing changes and the answer says why.
    pub(super) fn finish_reload(&mut self, outcome: Outcome) {
        let switched = outcome.prepared.and_then(|prepared| self.switch(prepared));
        match &switched {
            Ok(answer) => tracing::info!(%answer, "configuration reloaded"),
            Err(error) => tracing::error!(%error, "reload refused; the old configuration goes on"),
        }
        self.refresh();
        self.notifier.ready(&self.gate_words());
        if let Some(reply) = outcome.reply {
            let _ = reply.send(switched);
        }
    }

    fn switch(&mut self, prepared: Prepared) -> Result<Value, Refusal> {
        let Prepared {
            loaded,
            serve,
            keys,
        } = prepared;
        let old = start::effective(&self.effective).config.clone();
        let changes = config::changes(&old, &loaded.config);
        // A filter is the last thing that can be refused, and switching it is its own check.
        let level = &loaded.config.telemetry.log_level;
        if let Some(logs) = self
            .logs
            .as_ref()
            .filter(|_| old.telemetry.log_level != *level)
        {
            logs.set_filter(level).map_err(|error| refused(&error))?;
        }
        serve.commit();
        if let (Some(bgp), Some(keys)) = (&self.bgp, keys) {
            bgp.use_keys(keys);
        }
        self.gatekeeper.require(&loaded.config.health);
        let answer = told(&changes);
        self.adopt(*loaded, &old);
        Ok(answer)
    }

    /// What is shown as effective keeps the old values of keys that wait for a restart.
    fn adopt(&self, loaded: Loaded, old: &config::Config) {
        let mut effective = start::effective(&self.effective);
        let new = loaded.config;
        effective.config = config::Config {
            appliance: old.appliance.clone(),
            store: old.store.clone(),
            bgp: old.bgp.clone(),
            control: old.control.clone(),
            fill: old.fill.clone(),
            peer: old.peer.clone(),
            admin: old.admin.clone(),
            serve: serve::Config {
                workers: old.serve.workers,
                ..new.serve
            },
            telemetry: telemetry::Config {
                log_format: old.telemetry.log_format,
                ..new.telemetry
            },
            ..new
        };
        let kept = std::mem::take(&mut effective.settings);
        effective.settings = in_effect(kept, loaded.settings);
    }
}

/// Everything that reads files or binds sockets, and so may wait or fail.
fn prepare(
    main_file: &Path,
    serve: &serve::Handle,
    bgp: Option<&bgp::Handle>,
) -> Result<Prepared, Refusal> {
    // Opening a pipe would wait for its writer.
    if std::fs::metadata(main_file).is_ok_and(|about| !about.is_file()) {
        let file = main_file.display();
        return Err(refused(&format!(
            "{file} is not a file; put the configuration there"
        )));
    }
    let loaded = config::load(main_file).map_err(|problems| refused(&problems))?;
    let keys = bgp.map(bgp::Handle::read_keys).transpose();
    let keys = keys.map_err(|error| refused(&error))?;
    let prepared = serve.prepare(&loaded.config.serve);
    Ok(Prepared {
        loaded: Box::new(loaded),
        serve: prepared.map_err(|error| refused(&error))?,
        keys,
    })
}

fn refused(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::BadRequest(error.to_string())
}

/// Reloadable keys as the new file has them, the others as the running process has them.
fn in_effect(old: Vec<Setting>, new: Vec<Setting>) -> Vec<Setting> {
    let fixed = old.into_iter().filter(|setting| !setting.reload);
    let mut settings: Vec<Setting> = fixed.collect();
    settings.extend(new.into_iter().filter(|setting| setting.reload));
    settings
}

/// `{changed: [key], restart_needed: [key]}`.
fn told(changes: &[Change]) -> Value {
    let keys = |reloadable: bool| -> Vec<&str> {
        changes
            .iter()
            .filter(|change| change.reloadable == reloadable)
            .map(|change| change.key.as_str())
            .collect()
    };
    json!({ "changed": keys(true), "restart_needed": keys(false) })
}
