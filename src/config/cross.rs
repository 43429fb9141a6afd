//! What must be written, and what values must mean together.
//!
//! [`super::load`] calls [`check`] once all files are merged. A rule that needs a value which is
//! wrong by itself says nothing; a rule about something absent says nothing when a file could not
//! be read whole. Never looks at the machine.

use super::keys::Fallback;
use super::keys::Section;
use super::problem::At;
use super::problem::Report;
use super::settings::Fields;
use super::settings::Settings;
use super::table::SECTIONS;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Elements of one repeated section: no machine holds as many disks, no box as many names.
const ELEMENTS_MAX: usize = 256;

/// Adds every problem of the merged settings to `report`.
pub(super) fn check(settings: &Settings, report: &mut Report) {
    if report.is_complete() {
        missing(settings, report);
        listeners(settings, report);
    }
    if !counts(settings, report) {
        // The rules below compare each with each.
        return;
    }
    names(settings, report);
    addresses(settings, report);
    sockets(settings, report);
    disks(settings, report);
}

fn missing(settings: &Settings, report: &mut Report) {
    for section in SECTIONS {
        if section.repeated {
            for element in settings.elements(section) {
                missing_keys(element, report);
            }
        } else if settings.is_well_formed(section.name) {
            missing_keys(settings.fields(section), report);
        }
    }
    let disks = settings.repeated("disk").unwrap_or_default();
    if disks.is_empty() && settings.is_well_formed("disk") {
        let problem = "is missing: no disk to keep content on";
        let remedy = "add `[[disk]]` with `path = \"/srv/oca/disk1\"` and `class = \"nvme\"`";
        report.add(At::START, "disk", problem, remedy);
    }
}

fn missing_keys(fields: Fields<'_>, report: &mut Report) {
    let section: &Section = fields.section;
    for key in section.keys {
        let Fallback::Required(example) = key.fallback else {
            continue;
        };
        if !fields.is_written(key.name) {
            let problem = format!("is missing: {}", key.doc);
            let remedy = format!("add `{} = {example}` to `{}`", key.name, section.header());
            let at = fields.at_or_above(key.name);
            report.add(at, &section.dotted(key.name), problem, remedy);
        }
    }
}

/// Whether no section is repeated beyond all reason.
fn counts(settings: &Settings, report: &mut Report) -> bool {
    let mut within = true;
    for section in SECTIONS {
        if let Some(one) = settings.elements(section).get(ELEMENTS_MAX) {
            let problem = format!(
                "there are more than {ELEMENTS_MAX} of `{}`",
                section.header()
            );
            let remedy = format!("write at most {ELEMENTS_MAX}");
            report.add(one.at_or_above(""), section.name, problem, remedy);
            within = false;
        }
    }
    within
}

/// Something must listen, and HTTPS needs a certificate.
fn listeners(settings: &Settings, report: &mut Report) {
    let (Some(serve), Some(certificates)) = (
        settings.section("serve"),
        settings.repeated("serve.tls.certificate"),
    ) else {
        return;
    };
    if !settings.is_well_formed("serve") {
        return;
    }
    let (Some(secure), Some(plain)) = (serve.addresses("listen"), serve.addresses("plain_listen"))
    else {
        return;
    };
    let at = serve.at_or_above("listen");
    if secure.is_empty() && plain.is_empty() {
        let remedy = "write `listen = [\"[::]:443\"]`, or give `plain_listen` an address";
        let problem = "no address to serve viewers on: `listen` and `plain_listen` are empty";
        report.add(at, "serve.listen", problem, remedy);
    }
    let is_bare = certificates.is_empty()
        && settings.is_well_formed("serve.tls")
        && settings.is_well_formed("serve.tls.certificate");
    if !secure.is_empty() && is_bare {
        let remedy = "add `[[serve.tls.certificate]]` with `chain` and `key`, or write \
                      `listen = []` and give `plain_listen` an address";
        report.add(at, "serve.listen", "HTTPS has no certificate", remedy);
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

/// One address, one use. Port 0 lets the kernel choose and so is never used twice.
fn addresses(settings: &Settings, report: &mut Report) {
    let mut used: Vec<(&str, SocketAddr)> = Vec::new();
    for (section, key, name) in [
        ("serve", "listen", "serve.listen"),
        ("serve", "plain_listen", "serve.plain_listen"),
        ("admin", "metrics_listen", "admin.metrics_listen"),
    ] {
        let fields = settings.section(section);
        let listed = fields.and_then(|fields| fields.addresses(key));
        for (at, address) in listed.unwrap_or_default() {
            let taken = used.iter().find(|(_, other)| *other == address);
            match taken {
                Some((by, _)) if address.port() != 0 => {
                    let problem = format!("`{address}` is already used by `{by}`");
                    report.add(at, name, problem, "give each its own address or port");
                }
                Some(_) | None => used.push((name, address)),
            }
        }
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
