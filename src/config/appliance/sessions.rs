//! What the values of `[bgp]` and its neighbours must mean together.
//!
//! [`super::rules`] calls [`absent`] when all files were read, and [`check`] always. A connection
//! that comes in belongs to the neighbour with its addresses, so no two may look the same.

use super::super::problem::At;
use super::super::problem::Report;
use super::super::settings::Fields;
use super::super::settings::Settings;
use crate::prefix::Family;
use std::net::IpAddr;

/// `IFNAMSIZ` without its NUL.
const INTERFACE_BYTES_MAX: usize = 15;

/// A BGP speaker needs somebody to listen to.
pub(super) fn absent(settings: &Settings, report: &mut Report) {
    let Some(bgp) = settings.section("bgp") else {
        return;
    };
    let neighbours = settings.repeated("bgp.neighbour").unwrap_or_default();
    let is_whole = ["bgp", "bgp.neighbour"]
        .iter()
        .all(|name| settings.is_well_formed(name));
    if settings.is_written("bgp") && neighbours.is_empty() && is_whole {
        let problem = "is missing: no router to learn routes from";
        let remedy = "add `[[bgp.neighbour]]` with `name`, `address`, `asn`, `class` and `import`, or \
                      remove `[bgp]`";
        report.add(bgp.at_or_above(""), "bgp.neighbour", problem, remedy);
    }
}

pub(super) fn check(settings: &Settings, report: &mut Report) {
    let neighbours = settings.repeated("bgp.neighbour").unwrap_or_default();
    let listens = settings
        .section("bgp")
        .and_then(|bgp| bgp.addresses("listen"))
        .is_none_or(|listen| !listen.is_empty());
    let mut names: Vec<String> = Vec::new();
    let mut sessions: Vec<(IpAddr, u16, Option<IpAddr>)> = Vec::new();
    for neighbour in neighbours {
        own_address(neighbour, report);
        whole_seconds(neighbour, report);
        transport(neighbour, report);
        if neighbour.boolean("passive") == Some(true) && !listens {
            let remedy = "give `[bgp] listen` an address, or write `passive = false`";
            let problem = "waits for the router to connect, and `[bgp] listen` is empty";
            add(neighbour, "passive", problem, remedy, report);
        }
        if let Some(name) = neighbour.text("name") {
            if names.contains(&name) {
                let problem = format!("`{name}` is the name of two neighbours");
                add(neighbour, "name", problem, "give each its own name", report);
            }
            names.push(name);
        }
        if let Some(session) = session(neighbour) {
            if sessions.contains(&session) {
                let (address, port, _) = session;
                let problem = format!("`{address}` port {port} is the router of two neighbours");
                let remedy = "keep one of them, or tell them apart by `local_address`";
                add(neighbour, "address", problem, remedy, report);
            }
            sessions.push(session);
        }
    }
}

fn session(neighbour: Fields<'_>) -> Option<(IpAddr, u16, Option<IpAddr>)> {
    Some((
        neighbour.ip("address")?,
        neighbour.number("port")?,
        neighbour.optional("local_address", Fields::ip)?,
    ))
}

fn own_address(neighbour: Fields<'_>, report: &mut Report) {
    let (Some(theirs), Some(Some(ours))) = (
        neighbour.ip("address"),
        neighbour.optional("local_address", Fields::ip),
    ) else {
        return;
    };
    if Family::of(theirs) != Family::of(ours) {
        let problem = format!("`{ours}` cannot reach `{theirs}`: one is IPv4, the other IPv6");
        let remedy = "write an address of this box of the router's family, or leave the key out";
        add(neighbour, "local_address", problem, remedy, report);
    }
}

/// What of the packets' conditions cannot be together.
fn transport(neighbour: Fields<'_>, report: &mut Report) {
    let link_local = |key: &str| match neighbour.ip(key) {
        Some(IpAddr::V6(v6)) => v6.is_unicast_link_local(),
        Some(IpAddr::V4(_)) | None => false,
    };
    if link_local("address") && !neighbour.is_written("interface") {
        let problem = "is a link-local address, which means nothing without its interface";
        let remedy = "name the interface: `interface = \"eth0\"`";
        add(neighbour, "address", problem, remedy, report);
    }
    if link_local("address") && neighbour.number::<u8>("multihop").is_some_and(|n| n > 1) {
        let problem = "is more than one, and a link-local address is on the same link";
        add(neighbour, "multihop", problem, "leave the key out", report);
    }
    if neighbour.number::<u8>("tcp_ao_id").is_some() && !neighbour.is_written("password_file") {
        let problem = "names a key, and there is no `password_file`";
        let remedy = "add `password_file` with the key, or leave `tcp_ao_id` out";
        add(neighbour, "tcp_ao_id", problem, remedy, report);
    }
    let name = neighbour.optional("interface", Fields::text).flatten();
    if let Some(name) = name.filter(|name| name.len() > INTERFACE_BYTES_MAX) {
        let problem = format!("`{name}` is longer than an interface's name can be");
        let remedy = format!("write a name of at most {INTERFACE_BYTES_MAX} letters");
        add(neighbour, "interface", problem, remedy, report);
    }
}

/// The hold time is whole seconds on the wire.
fn whole_seconds(neighbour: Fields<'_>, report: &mut Report) {
    if let Some(time) = neighbour.time("hold_time")
        && time.subsec_nanos() > 0
    {
        let remedy = format!("write for example `\"{}s\"`", time.as_secs());
        add(
            neighbour,
            "hold_time",
            "is not whole seconds",
            remedy,
            report,
        );
    }
}

fn add(
    neighbour: Fields<'_>,
    key: &str,
    problem: impl Into<String>,
    remedy: impl Into<String>,
    report: &mut Report,
) {
    let at: At = neighbour.at_or_above(key);
    report.add(at, &neighbour.section.dotted(key), problem, remedy);
}
