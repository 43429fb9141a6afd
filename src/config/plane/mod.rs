//! The configuration of a control plane, `control.toml`: its schema.
//!
//! `table` has the keys → `rules` says what values must mean together → `build` makes
//! [`control::Config`] of them.

mod build;
mod rules;
mod table;

use super::common;
use super::keys::Described;
use super::keys::Key;
use super::keys::Schema;
use super::keys::Section;
use super::keys::Shape;
use crate::control;

pub(super) use build::config;

/// `config/control.toml`.
pub static CONTROL_PLANE: Schema = Schema {
    sections: SECTIONS,
    later: &["database", "portal"],
    rules: rules::check,
    example: "config/control.toml",
    drop_ins: "control.d",
};

impl Described for control::Config {
    const SCHEMA: &'static Schema = &CONTROL_PLANE;
}

const SECTIONS: &[Section] = &[
    section("control", Shape::Single, table::CONTROL),
    section("link", Shape::Single, table::LINK),
    section("public", Shape::Single, table::PUBLIC),
    section(
        "public.certificate",
        Shape::Repeated("/public/tls/certificates"),
        &common::certificate(false),
    ),
    section("admin", Shape::Single, table::ADMIN),
    section("staleness", Shape::Single, table::STALENESS),
    section("import", Shape::Single, table::IMPORT),
    section("fill", Shape::Single, table::FILL),
    section("tokens", Shape::Single, table::TOKENS),
    section("telemetry", Shape::Single, &common::telemetry(false)),
];

const fn section(name: &'static str, shape: Shape, keys: &'static [Key]) -> Section {
    Section { name, shape, keys }
}
