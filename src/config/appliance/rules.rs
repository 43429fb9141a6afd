//! What the values of `oca.toml` must mean together.
//!
//! [`super::super::cross`] calls [`check`] when what must be written has been asked for. A rule
//! that needs a value which is wrong by itself says nothing. Never looks at the machine.

use super::super::cross;
use super::super::problem::At;
use super::super::problem::Report;
use super::super::settings::Settings;
use super::super::value::show_rate;
use super::build;
use super::sessions;
use super::tokens;
use crate::ids::Profile;
use std::path::PathBuf;

/// Every address that the box itself listens on.
const LISTENERS: &[(&str, &str)] = &[
    ("serve", "listen"),
    ("serve", "plain_listen"),
    ("serve.peer", "listen"),
    ("bgp", "listen"),
    ("admin", "metrics_listen"),
];

pub(super) fn check(settings: &Settings, report: &mut Report) {
    if report.is_complete() {
        no_disk(settings, report);
        no_listener(settings, report);
        cross::certificates(settings, "serve", "serve.tls.certificate", report);
        sessions::absent(settings, report);
        required(settings, report);
        tokens::check(settings, report);
    }
    names(settings, report);
    fill_cap(settings, report);
    cross::addresses(settings, LISTENERS, report);
    sockets(settings, report);
    disks(settings, report);
    zones(settings, report);
    sessions::check(settings, report);
}

fn no_disk(settings: &Settings, report: &mut Report) {
    let disks = settings.repeated("disk").unwrap_or_default();
    if disks.is_empty() && settings.is_well_formed("disk") {
        let problem = "is missing: no disk to keep content on";
        let remedy = "add `[[disk]]` with `path = \"/srv/oca/disk1\"` and `class = \"nvme\"`";
        report.add(At::START, "disk", problem, remedy);
    }
}

fn no_listener(settings: &Settings, report: &mut Report) {
    let Some(serve) = settings.section("serve") else {
        return;
    };
    let (Some(secure), Some(plain)) = (serve.addresses("listen"), serve.addresses("plain_listen"))
    else {
        return;
    };
    if secure.is_empty() && plain.is_empty() && settings.is_well_formed("serve") {
        let at = serve.at_or_above("listen");
        let remedy = "write `listen = [\"[::]:443\"]`, or give `plain_listen` an address";
        let problem = "no address to serve viewers on: `listen` and `plain_listen` are empty";
        report.add(at, "serve.listen", problem, remedy);
    }
}

/// The gate waits for nobody who is not configured.
fn required(settings: &Settings, report: &mut Report) {
    let Some(gate) = settings.section("gate") else {
        return;
    };
    let words = gate.words("require").unwrap_or_default();
    if !settings.is_well_formed("gate") {
        return;
    }
    for (word, whom) in [("control", "a control plane"), ("bgp", "a router")] {
        let is_absent = !settings.is_written(word) && settings.is_well_formed(word);
        if !is_absent || !words.contains(&word) {
            continue;
        }
        let others: Vec<String> = words
            .iter()
            .filter(|other| settings.is_written(other) || **other == "clock")
            .map(|other| format!("\"{other}\""))
            .collect();
        let problem = format!("waits for {whom}, and there is no `[{word}]`");
        let remedy = format!(
            "write the section `[{word}]`, or `require = [{}]` in `[gate]`; a stand-alone box \
             writes `require = []`",
            others.join(", ")
        );
        report.add(gate.at_or_above("require"), "gate.require", problem, remedy);
    }
}

/// The box must stand at its site.
fn names(settings: &Settings, report: &mut Report) {
    let Some(appliance) = settings.section("appliance") else {
        return;
    };
    let (Some(id), Some(site)) = (appliance.box_id("id"), appliance.site("site")) else {
        return;
    };
    if id.belongs_to(&site).is_err() {
        let problem = format!("box `{id}` does not belong to site `{site}`");
        let number = id.as_str().split('-').next().unwrap_or("c001");
        let remedy = format!(
            "write `id = \"{number}-{}\"`, or correct `site`",
            site.label()
        );
        report.add(appliance.at_or_above("id"), "appliance.id", problem, remedy);
    }
}

/// `rate_limit` lowers the profile's cap, which is what the provider was promised.
fn fill_cap(settings: &Settings, report: &mut Report) {
    let (Some(appliance), Some(fill)) = (settings.section("appliance"), settings.section("fill"))
    else {
        return;
    };
    let word = appliance.word("profile");
    let (Some(word), Some(rate)) = (word, fill.number::<u64>("rate_limit")) else {
        return;
    };
    let Some(cap) = build::profile(word).map(Profile::cap) else {
        return;
    };
    if rate > cap.0 {
        let (rate, cap) = (show_rate(rate), show_rate(cap.0));
        let problem = format!("`{rate}` is above the cap of profile `{word}`, {cap}");
        let remedy = format!("write at most `\"{cap}\"`, or leave the key out");
        let at = fill.at_or_above("rate_limit");
        report.add(at, "fill.rate_limit", problem, remedy);
    }
}

fn sockets(settings: &Settings, report: &mut Report) {
    let Some(admin) = settings.section("admin") else {
        return;
    };
    let full = admin.path("socket");
    if full.is_some() && full == admin.path("read_only_socket") {
        let key = if admin.is_written("read_only_socket") {
            "read_only_socket"
        } else {
            "socket"
        };
        let problem = "`socket` and `read_only_socket` are one path";
        let remedy = "give the read-only socket a path of its own, \
                      for example `/run/oca/oca-ro.sock`";
        let name = admin.section.dotted(key);
        report.add(admin.at_or_above(key), &name, problem, remedy);
    }
}

/// No disk twice, and none inside another: both would count one disk's space twice.
fn disks(settings: &Settings, report: &mut Report) {
    let mut seen: Vec<PathBuf> = Vec::new();
    for disk in settings.repeated("disk").unwrap_or_default() {
        let Some(path) = disk.path("path") else {
            continue;
        };
        let overlap = |other: &&PathBuf| other.starts_with(&path) || path.starts_with(other);
        if let Some(other) = seen.iter().find(overlap) {
            let relation = if *other == path {
                "is the path of two disks".to_owned()
            } else {
                format!("overlaps with disk `{}`", other.display())
            };
            let problem = format!("`{}` {relation}", path.display());
            let remedy = "name each disk once, by the directory where it is mounted";
            report.add(disk.at_or_above("path"), "disk.path", problem, remedy);
        }
        seen.push(path);
    }
}

/// Only a platter has a rim and a hub.
fn zones(settings: &Settings, report: &mut Report) {
    for disk in settings.repeated("disk").unwrap_or_default() {
        let (Some(class), Some(zone)) = (disk.word("class"), disk.word("zone")) else {
            continue;
        };
        if class != "hdd" && zone != "none" {
            let problem = format!("`{zone}` is a part of a hard disk, and this one is `{class}`");
            let remedy = "leave the key out, or write `class = \"hdd\"`";
            report.add(disk.at_or_above("zone"), "disk.zone", problem, remedy);
        }
    }
}
