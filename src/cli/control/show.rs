//! `oca control status|boxes|routes|steer|explain`.
//!
//! I/O: asks the control plane, writes standard output.

use super::super::Exit;
use super::super::client::Client;
use super::super::show::told;
use super::super::table;
use super::super::table::Medium;
use super::SocketArgs;
use super::ask;
use crate::ids::BoxId;
use crate::prefix::Prefix;
use clap::Args;
use serde_json::Value;
use serde_json::json;
use std::net::IpAddr;

#[derive(Debug, Args)]
pub(super) struct RoutesArgs {
    /// A box: its routes. A prefix: it and what it covers. An address: what contains it.
    #[arg(value_name = "BOX|PREFIX|IP")]
    what: Option<String>,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Args)]
pub(super) struct SteerArgs {
    /// The viewer's address.
    client: String,
    /// A key or a directory; without it, boxes whatever they hold.
    key: Option<String>,
    /// Boxes in the answer.
    #[arg(short)]
    n: Option<u32>,
    /// Where the viewer is: `<latitude>,<longitude>`.
    #[arg(long, allow_hyphen_values = true)]
    at: Option<String>,
    /// `ipv4` or `ipv6`.
    #[arg(long)]
    family: Option<String>,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn status(socket: &SocketArgs) -> anyhow::Result<Exit> {
    ask::get(socket, "/v1/status", |medium, answer| {
        let mut answer = answer.clone();
        if let Some(members) = answer.as_object_mut() {
            members.remove("v");
        }
        table::properties(medium, &answer)
    })
}

pub(super) fn boxes(socket: &SocketArgs) -> anyhow::Result<Exit> {
    ask::get(socket, "/v1/boxes", |medium, answer| {
        let columns = [
            "id",
            "site",
            "cluster",
            "state",
            "objects",
            "bundles",
            "routes",
            "connections",
            "last_report",
            "last_heartbeat",
            "version",
        ];
        let mut text = ask::rows(medium, answer, "boxes", &columns);
        if let Some(frozen) = answer["frozen"].as_str() {
            text.push_str(&table::safe(frozen));
            text.push('\n');
        }
        text
    })
}

/// Every page, so that the answer is whole whatever its size.
pub(super) fn routes(args: &RoutesArgs) -> anyhow::Result<Exit> {
    let what = match args.what.as_deref().map(question) {
        Some(Some(what)) => what,
        None => String::new(),
        Some(None) => {
            eprintln!("oca: write the name of a box, a prefix or an address");
            return Ok(Exit::Usage);
        }
    };
    let client = Client::of_control(&args.socket.socket)?;
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let page = match client.get(&format!("/v1/routes?after={after}{what}")) {
            Ok(page) => page,
            Err(error) => return Ok(told(&error)),
        };
        rows.extend(page["routes"].as_array().into_iter().flatten().cloned());
        match page["next"].as_u64() {
            Some(next) if next > after => after = next,
            Some(_) | None => break,
        }
    }
    let whole = json!({"v": 1, "routes": rows});
    ask::finish(&args.socket, Ok(whole), |medium, answer| {
        let columns = [
            "box",
            "prefix",
            "neighbour",
            "class",
            "as_path",
            "med",
            "next_hop",
            "filtered",
        ];
        ask::rows(medium, answer, "routes", &columns)
    })
}

fn question(what: &str) -> Option<String> {
    let member = if BoxId::parse(what).is_ok() {
        "box"
    } else if what.parse::<Prefix>().is_ok() {
        "prefix"
    } else if what.parse::<IpAddr>().is_ok() {
        "ip"
    } else {
        return None;
    };
    Some(format!("&{member}={}", ask::encoded(what)))
}

pub(super) fn steer(args: &SteerArgs, explain: bool) -> anyhow::Result<Exit> {
    let mut path = format!("/v1/steer?client={}", ask::encoded(&args.client));
    let n = args.n.map(|n| n.to_string());
    let flag = explain.then(|| "1".to_owned());
    let members = [
        ("key", &args.key),
        ("n", &n),
        ("at", &args.at),
        ("family", &args.family),
        ("explain", &flag),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", ask::encoded(value)));
        }
    }
    ask::get(&args.socket, &path, answered)
}

/// The order, or why there is none; then, if asked for, everybody who was looked at.
fn answered(medium: Medium, answer: &Value) -> String {
    let columns = ["rank", "box", "site", "reason.decided_by", "reason.words"];
    let mut text = match answer["empty"]["words"].as_str() {
        Some(words) => format!("no box: {}\n", table::safe(words)),
        None => ask::rows(medium, answer, "boxes", &columns),
    };
    let explain = &answer["explain"];
    if explain.is_object() {
        text.push('\n');
        let columns = ["box", "site", "stage", "words"];
        text.push_str(&ask::rows(medium, explain, "considered", &columns));
        if explain["refused_routes"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
        {
            text.push('\n');
            let columns = ["box", "prefix", "words"];
            text.push_str(&ask::rows(medium, explain, "refused_routes", &columns));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_a_prefix_and_an_address_are_told_apart() {
        let box_name = question("c001-tls001-example-isp");
        assert_eq!(box_name.as_deref(), Some("&box=c001-tls001-example-isp"));
        let prefix = question("2001:db8::/32");
        assert_eq!(prefix.as_deref(), Some("&prefix=2001%3Adb8%3A%3A%2F32"));
        assert_eq!(question("192.0.2.1").as_deref(), Some("&ip=192.0.2.1"));
        assert_eq!(question("nonsense"), None);
    }

    #[test]
    fn an_empty_answer_says_why() {
        let answer = json!({"boxes": [], "empty": {"reason": "no-route", "words": "nobody"}});
        assert_eq!(answered(Medium::Pipe, &answer), "no box: nobody\n");
    }
}
