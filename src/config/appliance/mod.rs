//! The configuration of a box, `oca.toml`: its schema.
//!
//! `table`, `tokens`, `peers` and `night` have the keys → `rules` and `sessions` say what values
//! must mean together → `build` makes [`Config`] of them.

mod build;
mod night;
mod peers;
mod policy;
mod rules;
mod sessions;
mod table;
mod tokens;

use super::Config;
use super::common;
use super::keys::Described;
use super::keys::Key;
use super::keys::Schema;
use super::keys::Section;
use super::keys::Shape;

pub(super) use build::config;

/// `config/oca.toml`.
pub static APPLIANCE: Schema = Schema {
    sections: SECTIONS,
    later: &["bgp.neighbour.families", "control.outage", "origin"],
    rules: rules::check,
    example: "config/oca.toml",
    drop_ins: "conf.d",
};

impl Described for Config {
    const SCHEMA: &'static Schema = &APPLIANCE;
}

const SECTIONS: &[Section] = &[
    section("appliance", Shape::Single, table::APPLIANCE),
    section("serve", Shape::Single, table::SERVE),
    section("serve.tls", Shape::Single, table::TLS),
    section(
        "serve.tls.certificate",
        Shape::Repeated("/serve/tls/certificates"),
        &common::certificate(true),
    ),
    section("serve.limits", Shape::Single, table::LIMITS),
    section("serve.tokens", Shape::Single, tokens::TOKENS),
    section("serve.speedtest", Shape::Single, table::SPEEDTEST),
    section("serve.pacing", Shape::Single, table::PACING),
    section("serve.peer", Shape::Single, night::PEER),
    section("disk", Shape::Repeated("/store/disks"), table::DISK),
    section("store", Shape::Single, table::STORE),
    section("bgp", Shape::Optional("/bgp"), peers::BGP),
    section(
        "bgp.neighbour",
        Shape::Repeated("/bgp/neighbours"),
        peers::NEIGHBOUR,
    ),
    section("control", Shape::Optional("/control"), peers::CONTROL),
    section("fill", Shape::Single, night::FILL),
    section("gate", Shape::Single, table::GATE),
    section("admin", Shape::Single, table::ADMIN),
    section("telemetry", Shape::Single, &common::telemetry(true)),
];

const fn section(name: &'static str, shape: Shape, keys: &'static [Key]) -> Section {
    Section { name, shape, keys }
}
