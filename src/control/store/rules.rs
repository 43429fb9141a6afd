//! Rules of the domain that one value can be checked for by itself.
//!
//! Whoever adds a value gets a sentence that says what to write instead. Pure.

use super::fault::Fault;
use crate::control::model::Appliance;
use crate::control::model::Approval;
use crate::control::model::Site;
use crate::help::printable;
use crate::prefix::Prefix;
use crate::route::Asn;
use std::net::IpAddr;

/// As long as a DNS label may be: partners and clusters may become part of names.
const NAME_BYTES_MAX: usize = 63;

/// A title fits a line of a table.
const TITLE_BYTES_MAX: usize = 200;

/// Lower-case letters, digits and inner hyphens.
pub(super) fn name(kind: &str, name: &str) -> Result<(), Fault> {
    let good = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "`{}` is not a {kind} name: write at most {NAME_BYTES_MAX} lower-case letters, digits and \
         inner hyphens",
        printable(name.as_bytes(), 80)
    )))
}

pub(super) fn title(title: &str) -> Result<(), Fault> {
    if title.len() <= TITLE_BYTES_MAX && !title.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "the title must have at most {TITLE_BYTES_MAX} bytes and no control characters"
    )))
}

/// `192.0.2.0/24` or `AS64496`.
pub(super) fn subject(approval: Approval) -> String {
    match approval {
        Approval::Prefix(prefix) => prefix.to_string(),
        Approval::Origin(asn) => format!("AS{asn}"),
    }
}

pub(super) fn approval(approval: Approval) -> Result<(), Fault> {
    match approval {
        Approval::Prefix(prefix) if prefix.is_default() => Err(Fault::refused(format!(
            "{prefix} covers everybody's addresses and never steers; approve the partner's own \
             prefixes"
        ))),
        // RFC 7607; AS_TRANS stands for many (RFC 6793).
        Approval::Origin(Asn(0 | 23456 | u32::MAX)) => Err(Fault::refused(format!(
            "{} belongs to nobody; approve the AS that originates the partner's prefixes",
            subject(approval)
        ))),
        Approval::Prefix(_) | Approval::Origin(_) => Ok(()),
    }
}

/// Would two partners share address space? An origin and a prefix are compared where routes are.
pub(super) fn conflict(one: Approval, other: Approval) -> bool {
    match (one, other) {
        (Approval::Prefix(one), Approval::Prefix(other)) => overlap(&one, &other),
        (Approval::Origin(one), Approval::Origin(other)) => one == other,
        (Approval::Prefix(_), Approval::Origin(_)) | (Approval::Origin(_), Approval::Prefix(_)) => {
            false
        }
    }
}

fn overlap(one: &Prefix, other: &Prefix) -> bool {
    one.covers(other) || other.covers(one)
}

pub(super) fn site(site: &Site) -> Result<(), Fault> {
    let within = |value: f64, most: f64| value.is_finite() && value.abs() <= most;
    if !within(site.latitude, 90.0) || !within(site.longitude, 180.0) {
        return Err(Fault::refused(format!(
            "{}, {} is not a place: latitude is -90 to 90 degrees, longitude -180 to 180",
            site.latitude, site.longitude
        )));
    }
    if jiff::tz::TimeZone::get(&site.timezone).is_err() {
        return Err(Fault::refused(format!(
            "`{}` is not a time zone: write an IANA name such as `Europe/Paris`",
            printable(site.timezone.as_bytes(), 60)
        )));
    }
    Ok(())
}

pub(super) fn appliance(appliance: &Appliance) -> Result<(), Fault> {
    if appliance.https_port == 0 {
        return Err(Fault::refused(
            "port 0 is no port: write the one that viewers use",
        ));
    }
    if appliance.capacity == 0 || i64::try_from(appliance.capacity).is_err() {
        return Err(Fault::refused(
            "the capacity must be more than nothing and less than 8 EiB, for example `100 TB`",
        ));
    }
    let addresses = [
        appliance.ipv4.map(IpAddr::V4),
        appliance.ipv6.map(IpAddr::V6),
    ];
    for address in addresses.into_iter().flatten() {
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || broadcast {
            return Err(Fault::refused(format!(
                "{address} is not the address of one box; write the one that viewers reach"
            )));
        }
    }
    Ok(())
}
