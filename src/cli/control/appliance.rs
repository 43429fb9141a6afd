//! `oca control appliance …`.
//!
//! I/O: asks the control plane, writes standard output.

use super::super::Exit;
use super::SocketArgs;
use super::ask;
use clap::Args;
use clap::Subcommand;
use serde_json::json;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

#[derive(Debug, Subcommand)]
pub(super) enum ApplianceCommand {
    /// Register a box, or change what is said of it.
    Add(AddArgs),
    List(SocketArgs),
    /// Let it serve viewers.
    Enable(BoxArgs),
    /// Let it serve nobody.
    Disable(BoxArgs),
    /// It stands where it is filled: `oca fill start --prefill` on it knows neither window nor cap.
    Prefilling(BoxArgs),
    /// It leaves for its site: window and cap hold again.
    Shipped(BoxArgs),
    /// Print the provisioning file of a box that has never enrolled: JSON, good for 72 hours.
    Token(BoxArgs),
    /// The same for another machine under this name; the one that has it is out.
    Replace(BoxArgs),
    /// Never believe its certificate again.
    Revoke(BoxArgs),
    /// Keep viewers from it until somebody has looked.
    Quarantine {
        id: String,
        /// For whoever looks.
        #[arg(long, default_value = "by an operator")]
        reason: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Somebody has looked: let it back.
    Unquarantine(BoxArgs),
    /// Let it delete more than a day's twentieth, or under another control plane's first manifest.
    AllowDeletion {
        id: String,
        /// How much beyond its own pace: `2 TB`.
        #[arg(long)]
        bytes: String,
        /// How long it is good for: `24h`.
        #[arg(long = "for", value_name = "TIME", default_value = "24h")]
        time: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// `c<number>-<site>`, for example `c009-tls001-example-isp`.
    id: String,
    #[arg(long)]
    cluster: String,
    /// `storage`, `global` or `flash`.
    #[arg(long, value_parser = ["storage", "global", "flash"])]
    profile: String,
    /// Where viewers reach it.
    #[arg(long)]
    ipv4: Option<Ipv4Addr>,
    #[arg(long)]
    ipv6: Option<Ipv6Addr>,
    #[arg(long, default_value_t = 443)]
    https_port: u16,
    /// Where other boxes fetch.
    #[arg(long, default_value_t = 7443)]
    peer_port: u16,
    /// Content it can hold: `100 TB`.
    #[arg(long)]
    capacity: String,
    /// Let it serve viewers as soon as it can; later: `enable`.
    #[arg(long)]
    enabled: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Args)]
pub(super) struct BoxArgs {
    id: String,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn appliance(command: ApplianceCommand) -> anyhow::Result<Exit> {
    match command {
        ApplianceCommand::Add(args) => add(&args),
        ApplianceCommand::List(socket) => ask::get(&socket, "/v1/appliances", |medium, answer| {
            let columns = [
                "id",
                "site",
                "cluster",
                "profile",
                "ipv4",
                "ipv6",
                "https_port",
                "peer_port",
                "capacity",
                "enabled",
                "prefilling",
                "enrolled",
                "revoked",
                "quarantined",
                "certificate_ends",
                "may_delete.bytes",
                "may_delete.until",
            ];
            ask::rows(medium, answer, "appliances", &columns)
        }),
        ApplianceCommand::Enable(args) => order("enable", &args),
        ApplianceCommand::Disable(args) => order("disable", &args),
        ApplianceCommand::Prefilling(args) => order("prefilling", &args),
        ApplianceCommand::Shipped(args) => order("shipped", &args),
        ApplianceCommand::Revoke(args) => order("revoke", &args),
        ApplianceCommand::Unquarantine(args) => order("unquarantine", &args),
        ApplianceCommand::Token(args) => provision("token", &args),
        ApplianceCommand::Replace(args) => provision("replace", &args),
        ApplianceCommand::Quarantine { id, reason, socket } => {
            let body = json!({"id": id, "reason": reason});
            let path = "/v1/appliances/quarantine";
            ask::post(&socket, path, &body, |medium, answer| {
                ask::members(medium, answer, "appliance")
            })
        }
        ApplianceCommand::AllowDeletion {
            id,
            bytes,
            time,
            socket,
        } => {
            let body = json!({"id": id, "bytes": bytes, "for": time});
            let path = "/v1/appliances/allow-deletion";
            ask::post(&socket, path, &body, |medium, answer| {
                ask::members(medium, answer, "appliance")
            })
        }
    }
}

fn add(args: &AddArgs) -> anyhow::Result<Exit> {
    let body = json!({
        "id": args.id,
        "cluster": args.cluster,
        "profile": args.profile,
        "ipv4": args.ipv4,
        "ipv6": args.ipv6,
        "https_port": args.https_port,
        "peer_port": args.peer_port,
        "capacity": args.capacity,
        "enabled": args.enabled,
    });
    ask::post(&args.socket, "/v1/appliances", &body, |medium, answer| {
        ask::members(medium, answer, "appliance")
    })
}

fn order(verb: &str, args: &BoxArgs) -> anyhow::Result<Exit> {
    let path = format!("/v1/appliances/{verb}");
    ask::post(
        &args.socket,
        &path,
        &json!({"id": args.id}),
        |medium, answer| ask::members(medium, answer, "appliance"),
    )
}

/// The provisioning file is JSON in any case: `… > provision.json`.
fn provision(verb: &str, args: &BoxArgs) -> anyhow::Result<Exit> {
    let path = format!("/v1/appliances/{verb}");
    ask::post(&args.socket, &path, &json!({"id": args.id}), |_, answer| {
        format!("{answer}\n")
    })
}
