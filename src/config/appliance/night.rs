//! The keys of `oca.toml` that tell how a box is filled, and how it fills others.

use super::super::keys::Fallback::Absent;
use super::super::keys::Fallback::Default;
use super::super::keys::Key;
use super::super::keys::Kind;
use super::super::keys::key;
use super::super::keys::time;

/// Below a megabit no night brings a film; above 100 gigabits no box has such a port.
const RATE_MIN: u64 = 125_000;
const LINE_MAX: u64 = 12_500_000_000;

/// The fastest profile's cap: [`super::rules`] holds each box to its own.
const CAP_MAX: u64 = 150_000_000;

const TB: u64 = 1_000_000_000_000;

pub(super) const FILL: &[Key] = &[
    key(
        "window_start",
        Kind::TimeOfDay { max_s: 4 * 3_600 },
        Default(r#""02:00""#),
        false,
        "/fill/window/start_s",
        "the site's local time at which the fill window opens",
    ),
    // Twelve hours are what providers were promised.
    key(
        "window_length",
        time(1_000, 12 * 3_600),
        Default(r#""12h""#),
        false,
        "/fill/window/length",
        "how long the fill window is open",
    ),
    key(
        "rate_limit",
        Kind::Rate {
            min: RATE_MIN,
            max: CAP_MAX,
        },
        Absent(r#""1.2 Gbit/s""#),
        false,
        "/fill/rate_limit",
        "the rate at which the box is filled",
    ),
    // More than a night brings would be no exception.
    key(
        "urgent",
        Kind::Bytes {
            min: 1,
            max: 6 * TB,
        },
        Default(r#""200 GB""#),
        false,
        "/fill/urgent_bytes",
        "the bytes of any 24 hours that may come outside the window",
    ),
    // More connections than this gain nothing under the cap.
    key(
        "streams",
        Kind::Integer { min: 1, max: 64 },
        Default("8"),
        false,
        "/fill/streams",
        "the transfers at a time",
    ),
    // A control plane names four boxes for an object.
    key(
        "sources_at_once",
        Kind::Integer { min: 1, max: 4 },
        Default("3"),
        false,
        "/fill/sources_at_once",
        "the sources of one large object at a time",
    ),
    key(
        "count_peers",
        Kind::Boolean,
        Default("true"),
        false,
        "/fill/count_peers",
        "whether bytes from boxes of the same cluster count against the cap",
    ),
    // Shorter than a viewer's token for laboratories; after a week nobody remembers the order.
    key(
        "deletion_grace",
        time(0, 7 * 86_400),
        Default(r#""3h""#),
        false,
        "/fill/deletion_grace",
        "the time between a deletion's acknowledgement and the deletion",
    ),
    key(
        "deletion_share",
        Kind::Integer { min: 0, max: 5 },
        Default("5"),
        false,
        "/fill/deletion_share",
        "the percent of held bytes that 24 hours may delete",
    ),
    key(
        "private_sources",
        Kind::Boolean,
        Default("false"),
        false,
        "/fill/private_sources",
        "whether sources may have private addresses",
    ),
    key(
        "plain_origin",
        Kind::Boolean,
        Default("false"),
        false,
        "/fill/plain_origin",
        "whether the origin may be asked over plain HTTP",
    ),
    key(
        "origin_ca",
        Kind::Path,
        Absent(r#""/etc/oca/origin-ca.pem""#),
        false,
        "/fill/origin_ca",
        "the PEM file of the origin's certificate authorities",
    ),
];

pub(super) const PEER: &[Key] = &[
    key(
        "listen",
        Kind::Addresses,
        Default("[]"),
        false,
        "/peer/listen",
        "the addresses where other boxes fetch",
    ),
    key(
        "connections",
        Kind::Integer {
            min: 1,
            max: 10_000,
        },
        Default("64"),
        false,
        "/peer/connections",
        "the connections of other boxes at a time",
    ),
    key(
        "rate_limit",
        Kind::Rate {
            min: RATE_MIN,
            max: LINE_MAX,
        },
        Default(r#""1.2 Gbit/s""#),
        false,
        "/peer/rate_limit",
        "the rate at which other boxes are filled, all together",
    ),
];
