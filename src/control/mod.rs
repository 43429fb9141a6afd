//! THE CONTROL PLANE: what each box holds, and which box each viewer gets.
//!
//! `import` and `popularity` bring in what there is → `store` keeps it with the registry of
//! partners, sites, clusters and boxes → `allocate` decides what each box holds and `publish` signs
//! it → boxes report to `fleet` over `api::link` and get their `orders` for the night → `steer`
//! answers viewers over `api::public` from one immutable snapshot, `signing` signs their URLs,
//! `liveness` says what may be shown to them. `authority` makes certificates; `api::admin` is the
//! operator's socket.

pub mod allocate;
pub mod api;
pub mod authority;
pub mod books;
pub mod fleet;
pub mod iata;
pub mod import;
pub mod liveness;
pub mod model;
pub mod orders;
mod parts;
pub mod popularity;
pub mod publish;
mod run;
pub mod signing;
pub mod sources;
pub mod steer;
pub mod store;

use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use run::ControlError;
pub use run::run;

/// `config/control.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `[control] state_dir`: the database (`control.sqlite`), the certificate authority, keys.
    /// Default `/var/lib/oca-control`.
    pub state_dir: PathBuf,
    /// `[control] domain`: what box names end in, for example `oca.example.net`.
    pub domain: String,
    /// `[control] lease`: default 30 min.
    pub lease: Duration,
    /// `[control] report_every`: default 5 min.
    pub report_every: Duration,
    /// `[control] manifest_validity`: default 30 days.
    pub manifest_validity: Duration,
    pub link: LinkConfig,
    pub public: PublicConfig,
    pub admin: AdminConfig,
    pub staleness: StalenessConfig,
    pub import: ImportConfig,
    pub fill: FillConfig,
    pub tokens: TokensConfig,
    pub telemetry: crate::telemetry::Config,
}

/// `[link]`: where boxes report, over mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkConfig {
    /// Default `[::]:8443`.
    pub listen: Vec<SocketAddr>,
    /// Names and addresses in the listener's certificate: what boxes have in their `url`.
    pub names: Vec<String>,
    /// Compressed bytes of a body: a full report of 3 million objects has 106 MB. Default 256 MiB.
    pub body: u64,
    /// Decompressed bytes of a body. Default 512 MiB.
    pub body_decompressed: u64,
}

/// `[public]`: where viewers ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicConfig {
    /// HTTPS; needs a certificate. Default none.
    pub listen: Vec<SocketAddr>,
    /// Plain HTTP. Default `127.0.0.1:8080`.
    pub plain_listen: Vec<SocketAddr>,
    /// `[[public.certificate]]`.
    pub tls: crate::tls::Config,
    /// Boxes in an answer when the viewer does not say. Default 3.
    pub answers: usize,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdminConfig {
    /// Default `/run/oca-control/control.sock`.
    pub socket: PathBuf,
}

/// `[staleness]`: when a silent box stops counting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StalenessConfig {
    /// Without a heartbeat or a report for so long a box is dead to steering. Default 25 s.
    pub heartbeat: Duration,
    /// Missed reports, counted while the control plane itself was receiving. Default 3.
    pub reports: u32,
    /// Percent of boxes that may go stale at once; more, and the last state is frozen with an
    /// alarm. Default 30.
    pub share: u32,
    /// So many boxes may always go stale, whatever their share. Default 3.
    pub always: u32,
}

/// `[import]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportConfig {
    /// S3 endpoint for `s3://` sources; none: Amazon's.
    pub endpoint: Option<String>,
    /// Default `us-east-1`.
    pub region: String,
    /// Two lines, access key and secret key. None: anonymous.
    pub credentials_file: Option<PathBuf>,
}

/// `[fill]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FillConfig {
    /// How soon a box asks again for what has no source yet. Default 10 s.
    pub ask_again: Duration,
    /// Titles that may be urgent at a time: every reply carries their names. Default 16.
    pub urgent_max: usize,
}

/// `[tokens]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokensConfig {
    /// The fleet's secrets for viewers' URLs. None: nothing is signed.
    pub secret_file: Option<PathBuf>,
    /// How long a signed URL is good. Default 3 h.
    pub lifetime: Duration,
}
