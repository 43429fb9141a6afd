//! TOML to each module's `Config`, or every problem at once.
//!
//! `source` reads the main file and its drop-ins → `walk` holds each file against a schema (of
//! `keys`: [`APPLIANCE`] or [`CONTROL_PLANE`]) → `value` and `network` read each value by its kind
//! → `settings` merges, with the place of every value → `cross` checks what must be written, and
//! the schema's rules what values mean together → the schema's builder makes the configuration.
//! `render` goes the way back: TOML, settings with their origin, changes of a reload. `files` asks
//! the machine whether what is named can be read.
//!
//! Nothing here stops at the first problem, and nothing outside this room knows TOML.

mod appliance;
mod common;
mod cross;
mod files;
mod keys;
mod network;
mod plane;
mod problem;
mod render;
mod routing;
mod settings;
mod source;
mod value;
mod walk;

#[cfg(test)]
mod tests;

use crate::admin;
use crate::bgp;
use crate::control;
use crate::fill;
use crate::health;
use crate::ids::Identity;
use crate::link;
use crate::peer;
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

pub use appliance::APPLIANCE;
pub use files::check_control_files;
pub use files::check_files;
pub use keys::Described;
pub use keys::Fallback;
pub use keys::Key;
pub use keys::Kind;
pub use keys::Schema;
pub use keys::Section;
pub use keys::Shape;
pub use plane::CONTROL_PLANE;
pub use problem::Problem;
pub use problem::Problems;
pub use render::Change;
pub use render::changes;
pub use render::to_toml;

/// The whole configuration of a box, valid by construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    pub appliance: Identity,
    /// `[appliance] stop_time`: how long TERM lets running responses finish. Default 30 s.
    pub stop_time: Duration,
    pub serve: serve::Config,
    pub store: store::Config,
    pub health: health::Config,
    /// `[bgp]`: `None` when it is not written.
    pub bgp: Option<bgp::Config>,
    /// `[control]`: `None` when it is not written.
    pub control: Option<link::Config>,
    /// `[fill]`: without `[control]` nothing asks for it.
    pub fill: fill::Config,
    /// `[serve.peer]`.
    pub peer: peer::Config,
    pub admin: admin::Config,
    pub telemetry: telemetry::Config,
}

/// A configuration and where it comes from.
#[derive(Clone, Debug)]
pub struct Loaded<C = Config> {
    pub config: C,
    /// The files read, in their order: the main file first.
    pub files: Vec<PathBuf>,
    /// Every key, for `oca show config`.
    pub settings: Vec<Setting>,
}

/// The same of a control plane.
pub type LoadedControl = Loaded<control::Config>;

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

/// Reads a box's configuration, `main` and `conf.d/*.toml` beside it (lexical order): sections
/// merge, repeated sections append, values override. All problems of all files come back together.
///
/// Blocks on small reads; a daemon that reloads calls it where blocking is allowed.
pub fn load(main: &Path) -> Result<Loaded, Problems> {
    load_as(main, appliance::config)
}

/// The same for a control plane's configuration. Its drop-ins are `control.d/*.toml`, so that both
/// sorts may stand in one directory.
pub fn load_control(main: &Path) -> Result<LoadedControl, Problems> {
    load_as(main, plane::config)
}

fn load_as<C: Described>(
    main: &Path,
    build: fn(&Settings) -> Option<C>,
) -> Result<Loaded<C>, Problems> {
    let mut report = Report::default();
    let sources = source::read(C::SCHEMA, main, &mut report);
    assemble(sources, report, build)
}

/// Everything that comes after reading the files.
fn assemble<C: Described>(
    sources: Vec<Source>,
    mut report: Report,
    build: fn(&Settings) -> Option<C>,
) -> Result<Loaded<C>, Problems> {
    let mut settings = Settings::new(C::SCHEMA);
    for (index, source) in sources.iter().enumerate() {
        walk::walk(source, index, &mut settings, &mut report);
    }
    cross::check(&settings, &mut report);
    if report.is_empty() {
        if let Some(config) = build(&settings) {
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
