//! Rules of the domain that one value can be checked for by itself.
//!
//! Whoever adds a value gets a sentence that says what to write instead. Pure.

use super::fault::Fault;
use crate::control::model::Appliance;
use crate::control::model::Approval;
use crate::control::model::FillCluster;
use crate::control::model::Grant;
use crate::control::model::Site;
use crate::help::printable;
use crate::prefix::Prefix;
use crate::route::Asn;
use crate::window::Window;
use crate::window::WindowError;
use std::net::IpAddr;
use std::time::Duration;

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
    let zone = printable(site.timezone.as_bytes(), 60);
    let window = Window::new(&site.timezone, site.fill.start_s, site.fill.length);
    match window {
        Ok(_) => {}
        Err(WindowError::Zone(_)) => {
            return Err(Fault::refused(format!(
                "`{zone}` is not a time zone: write an IANA name such as `Europe/Paris`"
            )));
        }
        Err(error @ (WindowError::Time(_) | WindowError::Start(_) | WindowError::Length)) => {
            return Err(Fault::refused(error.to_string()));
        }
    }
    match site.fill.rate_limit_bps {
        Some(rate) if rate < RATE_MIN || i64::try_from(rate).is_err() => {
            Err(Fault::refused(format!(
                "{rate} bit/s is no rate to fill at: write at least `1 Mbit/s`, or `none` for no \
                 limit of the site's own"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// Slower, and a day's window brings less than a film: a slip of the unit.
const RATE_MIN: u64 = 1_000_000;

/// More masters than this fetch everything many times from the origin.
const MASTERS_MAX: u32 = 64;

/// An AS path that long is no neighbourhood.
const HOPS_MAX: u32 = 64;

/// What has not come within a day will not be asked for in another night's window either.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) fn fill_cluster(policy: &FillCluster) -> Result<(), Fault> {
    name("policy", &policy.name)?;
    let refused = |message: String| Err(Fault::refused(message));
    if !(1..=MASTERS_MAX).contains(&policy.masters) {
        return refused(format!(
            "a title has 1 to {MASTERS_MAX} masters in a region, not {}",
            policy.masters
        ));
    }
    if !(1..=100).contains(&policy.live_share) {
        let share = policy.live_share;
        return refused(format!("the live share is 1 to 100 percent, not {share}"));
    }
    let how_far = policy.escalation;
    if how_far.hops_allowed > HOPS_MAX {
        let hops = how_far.hops_allowed;
        return refused(format!(
            "an AS path of {hops} hops: write at most {HOPS_MAX}"
        ));
    }
    // What is never allowed comes after everything.
    let after = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
    let waits = [
        ("hops", how_far.hops_wait),
        ("network", after(how_far.network_wait)),
        ("origin", after(how_far.origin_wait)),
    ];
    for (what, wait) in waits {
        if wait > WAIT_MAX && wait != Duration::MAX {
            return refused(format!(
                "the {what} wait is longer than 24h; write less, or `never`"
            ));
        }
    }
    // Without the network a box may still go to the origin.
    let network = how_far.network_wait.unwrap_or(how_far.hops_wait);
    if how_far.hops_wait > network || network > after(how_far.origin_wait) {
        return refused(
            "each step waits at least as long as the nearer one: the hops wait, then the network \
             wait, then the origin wait"
                .to_owned(),
        );
    }
    Ok(())
}

/// An operator looks again before a longer one would do harm.
const GRANT_TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn grant(grant: Grant) -> Result<(), Fault> {
    if grant.bytes == 0 || i64::try_from(grant.bytes).is_err() {
        return Err(Fault::refused(
            "a leave to delete is for more than nothing and less than 8 EiB, for example `2 TB`",
        ));
    }
    let time = grant.expires.duration_since(grant.issued);
    if !time.is_positive() || time.unsigned_abs() > GRANT_TIME_MAX {
        return Err(Fault::refused(
            "a leave to delete lasts more than nothing and at most 7d, for example 24h",
        ));
    }
    Ok(())
}

pub(super) fn appliance(appliance: &Appliance) -> Result<(), Fault> {
    if appliance.https_port == 0 || appliance.peer_port == 0 {
        return Err(Fault::refused(
            "port 0 is no port: write the one that viewers use, and the one that other boxes use",
        ));
    }
    if appliance.https_port == appliance.peer_port {
        return Err(Fault::refused(format!(
            "viewers and other boxes cannot share port {}: give the peer listener its own",
            appliance.https_port
        )));
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
