//! A viewer gets a segment.
//!
//! `listener` accepts → `admit` counts and refuses → `handshake` speaks TLS → `connection` loops
//! over requests → `request` parses the head → `range` and the preconditions decide → `reply`
//! writes the head → `send` moves the file's bytes → `access` writes the line.
//! (`token` comes before `range` once URLs are signed; kernel TLS takes over inside `send`.)
//!
//! Serving never waits for the control plane, BGP or fill: it sees a `watch` of the gate and a
//! handle to the store, nothing else.

pub mod listener;

use crate::tls;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `[serve]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// HTTPS. Default `["[::]:443"]`.
    pub listen: Vec<SocketAddr>,
    /// Plain HTTP. Default none.
    pub plain_listen: Vec<SocketAddr>,
    /// Data-plane workers; 0 means one a core.
    pub workers: usize,
    /// One line a request, JSON; none when absent.
    pub access_log: Option<PathBuf>,
    pub limits: Limits,
    pub tls: tls::Config,
}

/// `[serve.limits]`. Every one of them ends in a counted, visible refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Open connections in all; more are refused at once. Default 100,000.
    pub connections: usize,
    /// Open connections from one address (IPv6: one /64). Default 1,000.
    pub connections_per_address: usize,
    /// Request line and headers together. Default 16 KiB.
    pub head: usize,
    /// Header fields of one request. Default 64.
    pub headers: usize,
    /// TLS handshake, from accept to Finished. Default 10 s.
    pub handshake_time: Duration,
    /// From the first byte of a head to its last: absolute, so slow senders gain nothing. 10 s.
    pub head_time: Duration,
    /// Keep-alive silence between requests. Default 60 s.
    pub idle_time: Duration,
    /// A response that moves fewer bytes than `progress` in this time is cut. Default 20 s.
    pub progress_time: Duration,
    /// See `progress_time`. Default 16 KiB.
    pub progress: u64,
    /// Requests on one connection; then it is closed. Default 10,000.
    pub requests: u32,
    /// A closed box still serves addresses that fetched within this time … Default 10 min.
    pub linger_time: Duration,
    /// … until the box has been closed this long. Default 2 h.
    pub linger_limit: Duration,
}
