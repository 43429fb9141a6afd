//! The keys of `control.toml`: everything a control plane's configuration may say, once.
//!
//! A range is given where a value outside it can only be a slip; its message tells the range.

use super::super::keys::Fallback::Absent;
use super::super::keys::Fallback::Default;
use super::super::keys::Fallback::Required;
use super::super::keys::Key;
use super::super::keys::Kind;
use super::super::keys::key;
use super::super::keys::time;

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

pub(super) const CONTROL: &[Key] = &[
    key(
        "state_dir",
        Kind::Path,
        Default(r#""/var/lib/oca-control""#),
        false,
        "/state_dir",
        "the directory of the database, the certificate authority and the keys",
    ),
    key(
        "domain",
        Kind::Domain,
        Required(r#""oca.example.net""#),
        false,
        "/domain",
        "what the boxes' host names end in",
    ),
    // A second is a laboratory's; above a week a box that was taken away would serve on for long.
    key(
        "lease",
        time(1_000, 7 * 86_400),
        Default(r#""30m""#),
        false,
        "/lease",
        "how long a box serves on without a word from here",
    ),
    key(
        "report_every",
        time(1_000, 3_600),
        Default(r#""5m""#),
        false,
        "/report_every",
        "the time between a box's reports",
    ),
    // Shorter than an hour, and every hiccup of publishing would let manifests end.
    key(
        "manifest_validity",
        time(3_600_000, 365 * 86_400),
        Default(r#""30d""#),
        false,
        "/manifest_validity",
        "how long a signed manifest is good for",
    ),
];

pub(super) const LINK: &[Key] = &[
    key(
        "listen",
        Kind::Addresses,
        Default(r#"["[::]:8443"]"#),
        false,
        "/link/listen",
        "the addresses where boxes report",
    ),
    key(
        "names",
        Kind::Hosts,
        Required(r#"["control.example.net"]"#),
        false,
        "/link/names",
        "the names and addresses by which boxes reach this control plane",
    ),
    // A report of an empty box fits the least; above the most one box could take all memory.
    key(
        "body",
        Kind::Bytes {
            min: 64 * KIB,
            max: GIB,
        },
        Default(r#""256 MiB""#),
        false,
        "/link/body",
        "the size of a compressed body",
    ),
    key(
        "body_decompressed",
        Kind::Bytes {
            min: 64 * KIB,
            max: 4 * GIB,
        },
        Default(r#""512 MiB""#),
        false,
        "/link/body_decompressed",
        "the size of a body once it is decompressed",
    ),
];

pub(super) const PUBLIC: &[Key] = &[
    key(
        "listen",
        Kind::Addresses,
        Default("[]"),
        false,
        "/public/listen",
        "the HTTPS addresses where viewers ask",
    ),
    key(
        "plain_listen",
        Kind::Addresses,
        Default(r#"["127.0.0.1:8080"]"#),
        false,
        "/public/plain_listen",
        "the plain HTTP addresses where viewers ask",
    ),
    // A player tries a few boxes, not a fleet.
    key(
        "answers",
        Kind::Integer { min: 1, max: 16 },
        Default("3"),
        false,
        "/public/answers",
        "the boxes in an answer when the viewer does not say",
    ),
];

pub(super) const ADMIN: &[Key] = &[key(
    "socket",
    Kind::SocketPath,
    Default(r#""/run/oca-control/control.sock""#),
    false,
    "/admin/socket",
    "the admin socket",
)];

pub(super) const STALENESS: &[Key] = &[
    key(
        "heartbeat",
        time(1_000, 600),
        Default(r#""25s""#),
        false,
        "/staleness/heartbeat",
        "the silence after which a box gets no viewers",
    ),
    key(
        "reports",
        Kind::Integer { min: 1, max: 100 },
        Default("3"),
        false,
        "/staleness/reports",
        "the missed reports after which a box is stale",
    ),
    key(
        "share",
        Kind::Integer { min: 1, max: 100 },
        Default("30"),
        false,
        "/staleness/share",
        "the percentage of boxes that may go stale at once",
    ),
    key(
        "always",
        Kind::Integer {
            min: 0,
            max: 1_000_000,
        },
        Default("3"),
        false,
        "/staleness/always",
        "the number of boxes that may go stale at once whatever their share",
    ),
];

pub(super) const IMPORT: &[Key] = &[
    key(
        "endpoint",
        Kind::Url { plain: true },
        Absent(r#""https://s3.example.net""#),
        false,
        "/import/endpoint",
        "the S3 service of `s3://` sources",
    ),
    key(
        "region",
        Kind::Label,
        Default(r#""us-east-1""#),
        false,
        "/import/region",
        "the S3 region",
    ),
    key(
        "credentials_file",
        Kind::Path,
        Absent(r#""/etc/oca/s3-credentials""#),
        false,
        "/import/credentials_file",
        "the file of the S3 access key and secret key",
    ),
];

pub(super) const FILL: &[Key] = &[
    // Longer than an hour, and a box would sleep through a good part of its window.
    key(
        "ask_again",
        time(1_000, 3_600),
        Default(r#""10s""#),
        false,
        "/fill/ask_again",
        "how soon a box asks again for what has no source yet",
    ),
    // Every reply to every box carries their names.
    key(
        "urgent_max",
        Kind::Integer { min: 1, max: 1_000 },
        Default("16"),
        false,
        "/fill/urgent_max",
        "the titles that may be urgent at a time",
    ),
];

pub(super) const TOKENS: &[Key] = &[
    key(
        "secret_file",
        Kind::Path,
        Absent(r#""/var/lib/oca-control/viewer-secret""#),
        false,
        "/tokens/secret_file",
        "the file of the secrets that viewers' URLs are signed with",
    ),
    // Below a minute clocks decide; above a week a URL that got out is good for too long.
    key(
        "lifetime",
        time(60_000, 7 * 86_400),
        Default(r#""3h""#),
        false,
        "/tokens/lifetime",
        "how long a signed URL is good",
    ),
];
