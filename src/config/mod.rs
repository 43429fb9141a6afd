//! TOML to each module's `Config`, or every problem at once.
//!
//! `source` reads the main file and `conf.d/*.toml` → `walk` holds each file against `table` →
//! `value` reads each value by its kind → `settings` merges, with the place of every value →
//! `cross` checks what must be written and what values mean together → `build` makes [`Config`].
//! `render` goes the way back: TOML, settings with their origin, changes of a reload. `files` asks
//! the machine whether what is named can be read.
//!
//! Nothing here stops at the first problem, and nothing outside this room knows TOML.

mod build;
mod cross;
mod files;
mod keys;
mod problem;
mod render;
mod settings;
mod source;
mod table;
mod value;
mod walk;

#[cfg(test)]
mod tests;

use crate::admin;
use crate::health;
use crate::ids::Identity;
use crate::serve;
use crate::store;
use crate::telemetry;
use problem::At;
use problem::Report;
use serde::Serialize;
use settings::Settings;
use source::Source;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

pub use files::check_files;
pub use keys::Fallback;
pub use keys::Key;
pub use keys::Kind;
pub use keys::Section;
pub use problem::Problem;
pub use problem::Problems;
pub use render::Change;
pub use render::changes;
pub use render::to_toml;
pub use table::SECTIONS;

/// The whole configuration, valid by construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    pub appliance: Identity,
    /// `[appliance] stop_time`: how long TERM lets running responses finish. Default 30 s.
    pub stop_time: Duration,
    pub serve: serve::Config,
    pub store: store::Config,
    pub health: health::Config,
    pub admin: admin::Config,
    pub telemetry: telemetry::Config,
}

/// A configuration and where it comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The files read, in their order: the main file first.
    pub files: Vec<PathBuf>,
    /// Every key, for `oca show config`.
    pub settings: Vec<Setting>,
}

/// One key's value and origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// `serve.limits.head`, `disk[0].path`.
    pub key: String,
    /// In TOML; `none` for an optional key that is not set.
    pub value: String,
    /// `None`: the default.
    pub origin: Option<Place>,
    /// A reload changes it; otherwise the daemon must be restarted.
    pub reload: bool,
}

/// A position in a file: line and column from 1, the column in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub column: usize,
}

/// Reads `main` and `conf.d/*.toml` beside it (lexical order): sections merge, repeated sections
/// append, values override. All problems of all files come back together.
///
/// Blocks on small reads; a daemon that reloads calls it where blocking is allowed.
pub fn load(main: &Path) -> Result<Loaded, Problems> {
    let mut report = Report::default();
    let sources = source::read(main, &mut report);
    assemble(sources, report)
}

/// Everything that comes after reading the files.
fn assemble(sources: Vec<Source>, mut report: Report) -> Result<Loaded, Problems> {
    let mut settings = Settings::default();
    for (index, source) in sources.iter().enumerate() {
        walk::walk(source, index, &mut settings, &mut report);
    }
    cross::check(&settings, &mut report);
    if report.is_empty() {
        if let Some(config) = build::config(&settings) {
            return Ok(Loaded {
                settings: render::settings(&config, &settings, &sources),
                files: sources.into_iter().map(|source| source.path).collect(),
                config,
            });
        }
        let problem = "is right, but oca cannot make a configuration of it: a fault of oca";
        report.add(At::START, "", problem, "report it with this file");
    }
    Err(report.finish(&sources))
}
