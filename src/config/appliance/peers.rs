//! The keys of a box's peers: `[bgp]` with its neighbours, and `[control]`.
//!
//! Both sections may be left out as a whole: then there is no such peer. A range is given where a
//! value outside it can only be a slip; its message tells the range.

use super::super::keys::Fallback::Absent;
use super::super::keys::Fallback::Default;
use super::super::keys::Fallback::Required;
use super::super::keys::Key;
use super::super::keys::Kind;
use super::super::keys::key;
use super::super::keys::time;

pub(super) const BGP: &[Key] = &[
    key(
        "asn",
        Kind::Asn,
        Required("64500"),
        false,
        "/bgp/asn",
        "the box's own AS number",
    ),
    key(
        "router_id",
        Kind::RouterId,
        Required(r#""192.0.2.9""#),
        false,
        "/bgp/router_id",
        "the BGP identifier of this box",
    ),
    key(
        "listen",
        Kind::Addresses,
        Default(r#"["[::]:179"]"#),
        false,
        "/bgp/listen",
        "where routers may connect to this box",
    ),
];

pub(super) const NEIGHBOUR: &[Key] = &[
    key(
        "name",
        Kind::Label,
        Required(r#""edge-1""#),
        false,
        "/name",
        "what the router is called in answers, logs and reports",
    ),
    key(
        "address",
        Kind::Router,
        Required(r#""192.0.2.1""#),
        false,
        "/address",
        "the router's address",
    ),
    key(
        "port",
        Kind::Integer {
            min: 1,
            max: 65_535,
        },
        Default("179"),
        false,
        "/port",
        "the router's TCP port",
    ),
    key(
        "asn",
        Kind::Asn,
        Required("64501"),
        false,
        "/asn",
        "the router's AS number",
    ),
    key(
        "class",
        Kind::Word(&["embedded", "peering", "transit"]),
        Required(r#""embedded""#),
        false,
        "/class",
        "what the neighbour is to the box; its routes are preferred accordingly",
    ),
    key(
        "local_address",
        Kind::Ip,
        Absent(r#""192.0.2.9""#),
        false,
        "/local_address",
        "the box's own address on this session",
    ),
    key(
        "passive",
        Kind::Boolean,
        Default("false"),
        false,
        "/passive",
        "whether only the router connects",
    ),
    // RFC 4271 section 4.2: at least three seconds, and two octets on the wire.
    key(
        "hold_time",
        time(3_000, 65_535),
        Default(r#""90s""#),
        false,
        "/hold_time",
        "the silence after which the router is gone",
    ),
    // Above an hour a router that came back would wait for nothing.
    key(
        "connect_retry",
        time(100, 3_600),
        Default(r#""30s""#),
        false,
        "/connect_retry",
        "the time between attempts to connect",
    ),
    // Ten times the internet's table; a route costs memory.
    key(
        "max_prefixes",
        Kind::Integer {
            min: 1,
            max: 10_000_000,
        },
        Default("1_500_000"),
        false,
        "/max_prefixes",
        "the routes of one family at which the session ends",
    ),
    key(
        "bogons",
        Kind::Word(&["default", "none"]),
        Default(r#""default""#),
        false,
        "/bogons",
        "the address space whose routes never steer",
    ),
    key(
        "password_file",
        Kind::Path,
        Absent(r#""/etc/oca/edge-1.password""#),
        false,
        "/transport/password_file",
        "the file of the password that both sides sign their packets with",
    ),
    key(
        "tcp_ao_id",
        Kind::Integer { min: 0, max: 255 },
        Absent("1"),
        false,
        "/transport/tcp_ao_id",
        "the identifier of the password as a key of TCP-AO",
    ),
    key(
        "ttl_security",
        Kind::Boolean,
        Default("true"),
        false,
        "/transport/ttl_security",
        "whether packets from farther away are dropped",
    ),
    key(
        "multihop",
        Kind::Integer { min: 1, max: 255 },
        Default("1"),
        false,
        "/transport/multihop",
        "the hops to the router",
    ),
    key(
        "interface",
        Kind::Label,
        Absent(r#""eth0""#),
        false,
        "/transport/interface",
        "the only interface of this session",
    ),
    // RFC 4271 section 8.1.1 knows no bound; above a hold time nobody waits.
    key(
        "delay_open",
        time(0, 240),
        Default(r#""0ms""#),
        false,
        "/session/delay_open",
        "how long the router's OPEN is waited for before ours is sent",
    ),
    key(
        "idle_hold",
        time(0, 120),
        Default(r#""1s""#),
        false,
        "/session/idle_hold",
        "the first wait after a session that failed",
    ),
    key(
        "add_path",
        Kind::Boolean,
        Default("false"),
        false,
        "/session/add_path",
        "whether several routes of one prefix are asked for",
    ),
    key(
        "graceful_restart",
        time(0, 3_600),
        Default(r#""5m""#),
        false,
        "/session/graceful_restart",
        "the longest time that routes outlive their session",
    ),
    // RFC 9494 allows half a year; a box that steers by routes of last week misleads.
    key(
        "long_lived_restart",
        time(0, 86_400),
        Default(r#""0ms""#),
        false,
        "/session/long_lived",
        "how much longer routes outlive their session where the router asks for it",
    ),
    key(
        "role",
        Kind::Word(&[
            "auto",
            "none",
            "provider",
            "rs",
            "rs-client",
            "customer",
            "peer",
        ]),
        Default(r#""auto""#),
        false,
        "/session/role",
        "what the box is to the router",
    ),
    key(
        "role_strict",
        Kind::Boolean,
        Default("false"),
        false,
        "/session/role_strict",
        "whether a router that does not tell its role is refused",
    ),
];

pub(super) const CONTROL: &[Key] = &[
    key(
        "url",
        Kind::Url { plain: false },
        Required(r#""https://control.example.net:8443""#),
        false,
        "/control/url",
        "where the control plane takes reports",
    ),
    key(
        "ca",
        Kind::Fingerprint,
        Required(r#""sha256:0000000000000000000000000000000000000000000000000000000000000000""#),
        false,
        "/control/ca",
        "the fingerprint of the control plane's certificate authority",
    ),
    key(
        "token_file",
        Kind::Path,
        Absent(r#""/etc/oca/token""#),
        false,
        "/control/token_file",
        "the file of the one-time token for the first contact",
    ),
    key(
        "identity",
        Kind::Path,
        Default(r#""/var/lib/oca/identity""#),
        false,
        "/control/identity",
        "the directory of the box's key and certificate",
    ),
    // Below a second a box would only report; above an hour nobody knows what it holds.
    key(
        "report_every",
        time(1_000, 3_600),
        Default(r#""5m""#),
        false,
        "/control/report_every",
        "the time between reports until the control plane says otherwise",
    ),
    // A control plane takes a box for dead after 25 s of silence, and a minute is its laboratory's.
    key(
        "heartbeat_every",
        time(100, 60),
        Default(r#""10s""#),
        false,
        "/control/heartbeat_every",
        "the time between heartbeats",
    ),
    // Below a second a fill would be one long report; above an hour nobody fetches here at night.
    key(
        "growth_every",
        time(1_000, 3_600),
        Default(r#""1m""#),
        false,
        "/control/growth_every",
        "the time between reports that only tell of objects that came",
    ),
];
