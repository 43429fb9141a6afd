//! `oca control cluster|policy …`.
//!
//! I/O: asks the control plane, writes standard output.

use super::super::Exit;
use super::SocketArgs;
use super::ask;
use clap::Args;
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Add a cluster, or give it another policy.
    Add {
        /// Lower-case letters, digits and hyphens.
        name: String,
        /// How its nights go; at first `default`.
        #[arg(long)]
        policy: Option<String>,
        #[command(flatten)]
        socket: SocketArgs,
    },
    List(SocketArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    List(SocketArgs),
    /// Make a policy, or change what is given of it.
    Set(PolicyArgs),
    /// Remove one that no cluster has.
    Remove {
        name: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// Lower-case letters, digits and hyphens; `default` is what clusters have at first.
    name: String,
    /// Boxes elected for each title to fetch it first, from the origin if need be. At first 1.
    #[arg(long)]
    masters: Option<u32>,
    /// The longest AS path to a source outside the cluster. At first 1.
    #[arg(long)]
    hops: Option<u32>,
    /// When such a source may be asked, after the object was first wanted. At first 0s.
    #[arg(long, value_name = "TIME")]
    hops_wait: Option<String>,
    /// When any box may be asked. At first 30m.
    #[arg(long, value_name = "TIME|never")]
    network_wait: Option<String>,
    /// When boxes that are no masters may ask the origin. At first 1h.
    #[arg(long, value_name = "TIME|never")]
    origin_wait: Option<String>,
    /// Percent of clusters that must hold a title before it is live. At first 50.
    #[arg(long, value_name = "PERCENT")]
    live_share: Option<u32>,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn cluster(command: ClusterCommand) -> anyhow::Result<Exit> {
    match command {
        ClusterCommand::Add {
            name,
            policy,
            socket,
        } => {
            let body = json!({ "name": name, "policy": policy });
            ask::post(&socket, "/v1/clusters", &body, |medium, answer| {
                ask::members(medium, answer, "cluster")
            })
        }
        ClusterCommand::List(socket) => ask::get(&socket, "/v1/clusters", |medium, answer| {
            ask::rows(medium, answer, "clusters", &["name", "policy", "boxes"])
        }),
    }
}

pub(super) fn policy(command: PolicyCommand) -> anyhow::Result<Exit> {
    match command {
        PolicyCommand::List(socket) => ask::get(&socket, "/v1/policies", |medium, answer| {
            let columns = [
                "name",
                "masters",
                "hops",
                "hops_wait_s",
                "network_wait_s",
                "origin_wait_s",
                "live_share",
                "clusters",
            ];
            ask::rows(medium, answer, "policies", &columns)
        }),
        PolicyCommand::Set(args) => {
            let body = json!({
                "name": args.name,
                "masters": args.masters,
                "hops": args.hops,
                "hops_wait": args.hops_wait,
                "network_wait": args.network_wait,
                "origin_wait": args.origin_wait,
                "live_share": args.live_share,
            });
            ask::post(&args.socket, "/v1/policies", &body, |medium, answer| {
                ask::members(medium, answer, "policy")
            })
        }
        PolicyCommand::Remove { name, socket } => {
            let body = json!({ "name": name });
            ask::post(&socket, "/v1/policies/remove", &body, |medium, answer| {
                ask::members(medium, answer, "removed")
            })
        }
    }
}
