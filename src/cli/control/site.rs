//! `oca control site …`.
//!
//! I/O: asks the control plane, writes standard output.

use super::super::Exit;
use super::SocketArgs;
use super::ask;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(super) enum SiteCommand {
    /// Add a site, or say again where it is; its window stays unless it is given.
    Add(SiteArgs),
    /// Change what is given, and nothing else.
    Change(ChangeArgs),
    List(SocketArgs),
}

#[derive(Debug, Args)]
pub(super) struct SiteArgs {
    /// `<IATA>NNN[.<provider>].<isp|ix>`, for example `TLS001.example.ISP`.
    name: String,
    /// Whose routers the boxes there listen to.
    #[arg(long)]
    partner: String,
    /// Degrees north; without it, the airport's.
    #[arg(long, allow_hyphen_values = true)]
    latitude: Option<f64>,
    /// Degrees east; without it, the airport's.
    #[arg(long, allow_hyphen_values = true)]
    longitude: Option<f64>,
    /// IANA name; without it, the airport's.
    #[arg(long)]
    timezone: Option<String>,
    /// Serves clients that nobody announces, when nobody else can.
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    fill: FillArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// Its name, or its label.
    name: String,
    #[arg(long)]
    partner: Option<String>,
    #[arg(long, allow_hyphen_values = true)]
    latitude: Option<f64>,
    #[arg(long, allow_hyphen_values = true)]
    longitude: Option<f64>,
    #[arg(long)]
    timezone: Option<String>,
    /// Serves clients that nobody announces, when nobody else can.
    #[arg(long, value_name = "true|false")]
    open: Option<bool>,
    #[command(flatten)]
    fill: FillArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

/// The night of a site.
#[derive(Debug, Args)]
struct FillArgs {
    /// When its boxes begin to fill, by the site's clock: 00:00 to 04:00. First 02:00.
    #[arg(long, value_name = "HH:MM")]
    window_start: Option<String>,
    /// For how long: at most 12h, which it is at first.
    #[arg(long, value_name = "TIME")]
    window_length: Option<String>,
    /// What the provider allows each box: `1 Gbit/s`; lowers the box's own cap. Or `none`.
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<String>,
}

impl FillArgs {
    fn add_to(&self, body: &mut Value) {
        body["window_start"] = json!(self.window_start);
        body["window_length"] = json!(self.window_length);
        body["rate_limit"] = json!(self.rate_limit);
    }
}

pub(super) fn site(command: SiteCommand) -> anyhow::Result<Exit> {
    match command {
        SiteCommand::Add(args) => {
            let mut body = json!({
                "name": args.name,
                "partner": args.partner,
                "latitude": args.latitude,
                "longitude": args.longitude,
                "timezone": args.timezone,
                "open": args.open,
            });
            args.fill.add_to(&mut body);
            put(&args.socket, "/v1/sites", &body)
        }
        SiteCommand::Change(args) => {
            let mut body = json!({
                "name": args.name,
                "partner": args.partner,
                "latitude": args.latitude,
                "longitude": args.longitude,
                "timezone": args.timezone,
                "open": args.open,
            });
            args.fill.add_to(&mut body);
            put(&args.socket, "/v1/sites/change", &body)
        }
        SiteCommand::List(socket) => ask::get(&socket, "/v1/sites", |medium, answer| {
            let columns = [
                "name",
                "label",
                "partner",
                "latitude",
                "longitude",
                "timezone",
                "open",
                "window_start",
                "window_s",
                "rate_limit_bps",
            ];
            ask::rows(medium, answer, "sites", &columns)
        }),
    }
}

fn put(socket: &SocketArgs, path: &str, body: &Value) -> anyhow::Result<Exit> {
    ask::post(socket, path, body, |medium, answer| {
        ask::members(medium, answer, "site")
    })
}
