//! The routing policy of `[bgp]` and of each neighbour, from settings without a problem.
//!
//! [`super::build`] calls these. `None` is a disagreement with the schema, which the tests over all
//! keys would show.

use super::super::settings::Fields;
use crate::bgp::Accept;
use crate::bgp::Lengths;
use crate::bgp::LimitAction;
use crate::bgp::OwnPolicy;
use crate::bgp::Policy;
use crate::units::Bytes;
use std::str::FromStr;

pub(super) fn own(bgp: Fields<'_>) -> Option<OwnPolicy> {
    Some(OwnPolicy {
        service_addresses: parsed(bgp, "service_addresses")?,
        kernel_routes: parsed(bgp, "kernel_routes")?,
        kernel_metric: bgp.number("kernel_metric")?,
    })
}

pub(super) fn of_neighbour(fields: Fields<'_>) -> Option<Policy> {
    Some(Policy {
        import: accept(fields.word("import")?)?,
        prefixes: parsed(fields, "prefixes")?,
        ipv4_lengths: lengths(fields, "ipv4_lengths")?,
        ipv6_lengths: lengths(fields, "ipv6_lengths")?,
        private_space: fields.boolean("private_space")?,
        first_as_check: fields.boolean("first_as_check")?,
        no_steer: parsed(fields, "no_steer")?,
        max_prefixes_ipv6: fields.number("max_prefixes_ipv6")?,
        limit_warn: fields.number("limit_warn")?,
        limit_action: action(fields.word("limit_action")?)?,
        limit_idle: fields.time("limit_idle")?,
        attribute_memory: fields.number("attribute_memory").map(Bytes)?,
        announce: fields.boolean("announce")?,
        announce_communities: parsed(fields, "announce_communities")?,
    })
}

fn parsed<T: FromStr>(fields: Fields<'_>, key: &str) -> Option<Vec<T>> {
    let texts = fields.texts(key)?.into_iter();
    texts.map(|text| text.parse().ok()).collect()
}

fn lengths(fields: Fields<'_>, key: &str) -> Option<Lengths> {
    fields.text(key)?.parse().ok()
}

fn accept(word: &str) -> Option<Accept> {
    match word {
        "all" => Some(Accept::All),
        "none" => Some(Accept::None),
        _ => None,
    }
}

fn action(word: &str) -> Option<LimitAction> {
    match word {
        "restart" => Some(LimitAction::Restart),
        "stop" => Some(LimitAction::Stop),
        "drop" => Some(LimitAction::Drop),
        _ => None,
    }
}
