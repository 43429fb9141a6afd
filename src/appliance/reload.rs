//! Reload: everything that can fail is prepared first, then everything is switched at once.

use super::Appliance;
use super::start;
use crate::command::Refusal;
use crate::config;
use crate::config::Change;
use crate::config::Loaded;
use crate::config::Setting;
use crate::serve;
use crate::telemetry;
use serde_json::Value;
use serde_json::json;

impl Appliance {
    /// Reads the configuration again. On any problem nothing changes and the answer says why.
    pub(super) fn reload(&mut self) -> Result<Value, Refusal> {
        self.notifier.reloading();
        let outcome = self.try_reload();
        match &outcome {
            Ok(answer) => tracing::info!(%answer, "configuration reloaded"),
            Err(error) => tracing::error!(%error, "reload refused; the old configuration goes on"),
        }
        self.refresh();
        self.notifier.ready(&self.gate_words());
        outcome
    }

    fn try_reload(&mut self) -> Result<Value, Refusal> {
        let refused = |error: &dyn std::fmt::Display| Refusal::BadRequest(error.to_string());
        // Opening a pipe would wait for its writer, and with it every command and signal.
        if std::fs::metadata(&self.main_file).is_ok_and(|about| !about.is_file()) {
            let file = self.main_file.display();
            return Err(refused(&format!(
                "{file} is not a file; put the configuration there"
            )));
        }
        let loaded = config::load(&self.main_file).map_err(|problems| refused(&problems))?;
        let old = start::effective(&self.effective).config.clone();
        let changes = config::changes(&old, &loaded.config);
        let serve = self
            .serve
            .prepare(&loaded.config.serve)
            .map_err(|error| refused(&error))?;
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
        self.gatekeeper.require(&loaded.config.health);
        let answer = told(&changes);
        self.adopt(loaded, &old);
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
