//! The keys of `oca.toml`: everything a box's configuration may say, once, but for its network,
//! which is [`super::peers`]'s.
//!
//! Reading, suggestions for misspelt keys, defaults, `config/oca.toml` (by its test), the notes of
//! a reload and `oca show config` all come from it. A key that is not here does not exist.
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
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Any real connection count, and far above what memory allows.
const CONNECTIONS: Kind = Kind::Integer {
    min: 1,
    max: 10_000_000,
};

pub(super) const APPLIANCE: &[Key] = &[
    key(
        "id",
        Kind::BoxName,
        Required(r#""c009-tls001-example-isp""#),
        false,
        "/appliance/id",
        "the name of this box, `c<number>-<site>`",
    ),
    key(
        "site",
        Kind::SiteName,
        Required(r#""TLS001.example.ISP""#),
        false,
        "/appliance/site",
        "the place where this box stands",
    ),
    key(
        "profile",
        Kind::Word(&["storage", "global", "flash"]),
        Required(r#""storage""#),
        false,
        "/appliance/profile",
        "the hardware profile, which sets the fill cap",
    ),
    key(
        "timezone",
        Kind::Zone,
        Required(r#""Europe/Paris""#),
        false,
        "/appliance/timezone",
        "the site's time zone, in which its fill window is kept",
    ),
    key(
        "state_dir",
        Kind::Path,
        Default(r#""/var/lib/oca""#),
        false,
        "/store/state_dir",
        "the directory of the small node state",
    ),
    // Above ten minutes systemd, and the operator, would have given up.
    key(
        "stop_time",
        time(0, 600),
        Default(r#""30s""#),
        true,
        "/stop_time",
        "how long TERM lets running responses finish",
    ),
];

pub(super) const SERVE: &[Key] = &[
    key(
        "listen",
        Kind::Addresses,
        Default(r#"["[::]:443"]"#),
        true,
        "/serve/listen",
        "the HTTPS addresses",
    ),
    key(
        "plain_listen",
        Kind::Addresses,
        Default("[]"),
        true,
        "/serve/plain_listen",
        "the plain HTTP addresses",
    ),
    // No machine has more cores than this.
    key(
        "workers",
        Kind::Integer { min: 0, max: 1_024 },
        Default("0"),
        false,
        "/serve/workers",
        "the data-plane workers, 0 for one a core",
    ),
    key(
        "access_log",
        Kind::Path,
        Absent(r#""/var/log/oca/access.log""#),
        true,
        "/serve/access_log",
        "the file that gets one line a request",
    ),
    key(
        "access_log_sample",
        Kind::Integer {
            min: 1,
            max: 1_000_000,
        },
        Default("1"),
        true,
        "/serve/access_log_sample",
        "of how many successful answers one has a line",
    ),
    key(
        "drop_behind",
        Kind::Boolean,
        Default("false"),
        true,
        "/serve/drop_behind",
        "whether what one viewer alone streams from a disk leaves memory behind it",
    ),
];

pub(super) const TLS: &[Key] = &[key(
    "tls_offload",
    Kind::Word(&["auto", "off", "require"]),
    Default(r#""auto""#),
    true,
    "/serve/tls_offload",
    "whether the kernel seals large responses",
)];

/// Times start at a tenth of a second: a shorter one cuts off honest viewers.
pub(super) const LIMITS: &[Key] = &[
    key(
        "connections",
        CONNECTIONS,
        Default("100_000"),
        true,
        "/serve/limits/connections",
        "the open connections in all",
    ),
    key(
        "connections_per_address",
        CONNECTIONS,
        Default("1_000"),
        true,
        "/serve/limits/connections_per_address",
        "the open connections from one address",
    ),
    key(
        "handshakes_per_address",
        CONNECTIONS,
        Default("200"),
        true,
        "/serve/limits/handshakes_per_address",
        "the TLS handshakes under way from one address",
    ),
    // Below 1 KiB no browser's request fits; above 1 MiB one connection costs too much memory.
    key(
        "head",
        Kind::Bytes { min: KIB, max: MIB },
        Default(r#""16 KiB""#),
        true,
        "/serve/limits/head",
        "the size of a request's head",
    ),
    // Browsers send some twenty fields; 128 is the parser's room (`serve::request::FIELDS_MAX`).
    key(
        "headers",
        Kind::Integer { min: 8, max: 128 },
        Default("64"),
        true,
        "/serve/limits/headers",
        "the header fields of one request",
    ),
    key(
        "handshake_time",
        time(100, 600),
        Default(r#""10s""#),
        true,
        "/serve/limits/handshake_time",
        "the time for a TLS handshake",
    ),
    key(
        "head_time",
        time(100, 600),
        Default(r#""10s""#),
        true,
        "/serve/limits/head_time",
        "the time for a request's head, first byte to last",
    ),
    key(
        "idle_time",
        time(100, 3_600),
        Default(r#""1m""#),
        true,
        "/serve/limits/idle_time",
        "the keep-alive silence between requests",
    ),
    key(
        "progress_time",
        time(100, 600),
        Default(r#""20s""#),
        true,
        "/serve/limits/progress_time",
        "the time in which a response must move `progress` bytes",
    ),
    key(
        "progress",
        Kind::Bytes { min: 1, max: GIB },
        Default(r#""16 KiB""#),
        true,
        "/serve/limits/progress",
        "what a response must move in `progress_time`",
    ),
    key(
        "requests",
        Kind::Integer {
            min: 1,
            max: 1_000_000_000,
        },
        Default("10_000"),
        true,
        "/serve/limits/requests",
        "the requests on one connection",
    ),
    key(
        "linger_time",
        time(0, 86_400),
        Default(r#""10m""#),
        true,
        "/serve/limits/linger_time",
        "how recently a viewer must have fetched to be served by a closed box",
    ),
    key(
        "linger_limit",
        time(0, 7 * 86_400),
        Default(r#""2h""#),
        true,
        "/serve/limits/linger_limit",
        "how long a closed box serves such viewers",
    ),
];

pub(super) const PACING: &[Key] = &[
    // Slower than 1 Mbit/s is no video; faster than 100 Gbit/s is no one connection.
    key(
        "rate_limit",
        Kind::Rate {
            min: 125_000,
            max: 12_500_000_000,
        },
        Absent(r#""100 Mbit/s""#),
        true,
        "/serve/pacing/rate_limit",
        "the most that one connection gets",
    ),
    key(
        "cmcd",
        Kind::Boolean,
        Default("true"),
        true,
        "/serve/pacing/cmcd",
        "whether players may ask for less",
    ),
];

pub(super) const SPEEDTEST: &[Key] = &[
    key(
        "enabled",
        Kind::Boolean,
        Default("true"),
        true,
        "/serve/speedtest/enabled",
        "whether `/speedtest` is answered",
    ),
    // The rates of ports; slower than the first, a test would measure this limit.
    key(
        "rate_limit",
        Kind::Rate {
            min: 125_000,
            max: 50_000_000_000,
        },
        Default(r#""1 Gbit/s""#),
        true,
        "/serve/speedtest/rate_limit",
        "the rate of all its downloads together, and of all its uploads",
    ),
    key(
        "connections",
        Kind::Integer {
            min: 1,
            max: 100_000,
        },
        Default("64"),
        true,
        "/serve/speedtest/connections",
        "its transfers at a time",
    ),
    key(
        "upload_max",
        Kind::Bytes { min: KIB, max: GIB },
        Default(r#""64 MiB""#),
        true,
        "/serve/speedtest/upload_max",
        "the largest upload",
    ),
];

pub(super) const DISK: &[Key] = &[
    key(
        "path",
        Kind::Path,
        Required(r#""/srv/oca/disk1""#),
        false,
        "/path",
        "the directory where the disk is mounted",
    ),
    key(
        "class",
        Kind::Word(&["nvme", "ssd", "hdd"]),
        Required(r#""nvme""#),
        false,
        "/class",
        "the kind of disk; the more popular an object the faster its disk",
    ),
    key(
        "zone",
        Kind::Word(&["none", "outer", "inner"]),
        Default(r#""none""#),
        false,
        "/zone",
        "which part of a hard disk it is, where partitions of one are disks of their own",
    ),
    key(
        "plain_directory",
        Kind::Boolean,
        Default("false"),
        false,
        "/plain_directory",
        "whether a directory that is not a mount point is accepted",
    ),
];

/// In seconds.
const DAY: u64 = 24 * 3_600;

pub(super) const STORE: &[Key] = &[
    // Shorter than a spinning disk's own retries, and a healthy disk would be taken for a sick one.
    key(
        "deadline",
        time(100, 300),
        Default(r#""10s""#),
        false,
        "/store/deadline",
        "the time after which a disk that does not answer is isolated",
    ),
    key(
        "scrub_every",
        time(3_600_000, 30 * DAY),
        Default(r#""30d""#),
        false,
        "/store/upkeep/scrub_every",
        "the time within which each object is read and verified",
    ),
    // Slower, a large disk would not be through in its time.
    key(
        "scrub_rate",
        Kind::Rate {
            min: 1_000_000,
            max: 1_250_000_000,
        },
        Default(r#""256 Mbit/s""#),
        false,
        "/store/upkeep/scrub_rate",
        "the rate at which a disk is verified",
    ),
    key(
        "quarantine_time",
        time(3_600_000, 90 * DAY),
        Default(r#""7d""#),
        false,
        "/store/upkeep/quarantine_time",
        "how long damaged objects are kept",
    ),
    key(
        "quarantine_bytes",
        Kind::Bytes {
            min: 1,
            max: 1_000_000_000_000,
        },
        Default(r#""10 GB""#),
        false,
        "/store/upkeep/quarantine_bytes",
        "how much of a disk damaged objects may take",
    ),
    key(
        "refill_after",
        time(0, 7 * DAY),
        Default(r#""1d""#),
        false,
        "/store/upkeep/refill_after",
        "the time after which the objects of a lost disk are fetched again",
    ),
    key(
        "refill_hot_after",
        time(0, 7 * DAY),
        Default(r#""1h""#),
        false,
        "/store/upkeep/refill_hot_after",
        "the same for the most popular objects",
    ),
    key(
        "moves_per_night",
        Kind::Bytes {
            min: 0,
            max: 10_000_000_000_000,
        },
        Default(r#""200 GB""#),
        false,
        "/store/upkeep/moves_per_night",
        "what a night's moves between disks may write",
    ),
    key(
        "replicas_percent",
        Kind::Integer { min: 0, max: 50 },
        Default("2"),
        false,
        "/store/upkeep/replicas_percent",
        "the part of all disks that second copies may take",
    ),
];

pub(super) const GATE: &[Key] = &[key(
    "require",
    Kind::Words(&["control", "bgp", "clock"]),
    Default(r#"["control", "bgp", "clock"]"#),
    true,
    "/health/require",
    "what must hold before viewers are served",
)];

pub(super) const ADMIN: &[Key] = &[
    key(
        "socket",
        Kind::SocketPath,
        Default(r#""/run/oca/oca.sock""#),
        false,
        "/admin/socket",
        "the admin socket",
    ),
    key(
        "read_only_socket",
        Kind::SocketPath,
        Default(r#""/run/oca/oca-ro.sock""#),
        false,
        "/admin/read_only_socket",
        "the admin socket that only answers questions",
    ),
    key(
        "metrics_listen",
        Kind::Address,
        Absent(r#""127.0.0.1:9273""#),
        false,
        "/admin/metrics_listen",
        "the TCP address of the metrics",
    ),
];
