//! What must be written, how often, and which addresses are taken: the rules of every schema.
//!
//! The engine calls [`check`] once all files are merged; it ends in the rules of the schema itself.
//! A rule that needs a value which is wrong by itself says nothing; a rule about something absent
//! says nothing when a file could not be read whole. Never looks at the machine.

use super::keys::Fallback;
use super::keys::Section;
use super::keys::Shape;
use super::problem::Report;
use super::settings::Fields;
use super::settings::Settings;
use std::net::SocketAddr;

/// Elements of one repeated section: no machine holds as many disks, no box as many names.
const ELEMENTS_MAX: usize = 256;

/// Adds every problem of the merged settings to `report`.
pub(super) fn check(settings: &Settings, report: &mut Report) {
    if report.is_complete() {
        missing(settings, report);
    }
    // The schema's rules compare each with each.
    if counts(settings, report) {
        (settings.schema.rules)(settings, report);
    }
}

fn missing(settings: &Settings, report: &mut Report) {
    for section in settings.schema.sections {
        match section.shape {
            Shape::Repeated(_) => {
                for element in settings.elements(section) {
                    missing_keys(element, report);
                }
            }
            Shape::Optional(_) if !settings.is_written(section.name) => {}
            Shape::Single | Shape::Optional(_) => {
                if settings.is_well_formed(section.name) {
                    missing_keys(settings.fields(section), report);
                }
            }
        }
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
    for section in settings.schema.sections {
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

/// HTTPS needs a certificate: `listen` of `section` against the repeated section `certificates`.
/// The remedy names the other key of `section` that takes plain HTTP.
pub(super) fn certificates(
    settings: &Settings,
    section: &str,
    certificates: &str,
    report: &mut Report,
) {
    let (Some(fields), Some(listed)) = (settings.section(section), settings.repeated(certificates))
    else {
        return;
    };
    let hidden = [section, certificates].map(|name| settings.is_well_formed(name));
    let parent = certificates.rsplit_once('.').map_or("", |(above, _)| above);
    let may_be_hidden = hidden.contains(&false) || !settings.is_well_formed(parent);
    let secure = fields.addresses("listen").unwrap_or_default();
    if !secure.is_empty() && listed.is_empty() && !may_be_hidden {
        let remedy = format!(
            "add `[[{certificates}]]` with `chain` and `key`, or write `listen = []` and give \
             `plain_listen` an address"
        );
        let name = format!("{section}.listen");
        let at = fields.at_or_above("listen");
        report.add(at, &name, "HTTPS has no certificate", remedy);
    }
}

/// One address, one use, over these (section, key). Port 0 lets the kernel choose and so is never
/// used twice.
pub(super) fn addresses(settings: &Settings, keys: &[(&str, &str)], report: &mut Report) {
    let mut used: Vec<(String, SocketAddr)> = Vec::new();
    for (section, key) in keys {
        let fields = settings.section(section);
        let listed = fields
            .filter(|_| settings.is_in_force(section))
            .and_then(|fields| fields.addresses(key));
        let name = format!("{section}.{key}");
        for (at, address) in listed.unwrap_or_default() {
            let taken = used.iter().find(|(_, other)| *other == address);
            match taken {
                Some((by, _)) if address.port() != 0 => {
                    let problem = format!("`{address}` is already used by `{by}`");
                    report.add(at, &name, problem, "give each its own address or port");
                }
                Some(_) | None => used.push((name.clone(), address)),
            }
        }
    }
}
