//! `oca control title …`.
//!
//! I/O: asks the control plane, writes standard output.

use super::super::Exit;
use super::super::table::Medium;
use super::SocketArgs;
use super::ask;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(super) enum TitleCommand {
    List(SocketArgs),
    /// One title, with the regions where it is live.
    Show(TitleArgs),
    /// Keep viewers from it, and take it from the boxes' manifests.
    Withdraw(TitleArgs),
    /// Take that back.
    Restore(TitleArgs),
    /// Let boxes fetch it at any hour.
    Urgent {
        title: String,
        /// For how long: at most 7d.
        #[arg(long = "for", value_name = "TIME")]
        time: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Leave it to the night again.
    Calm(TitleArgs),
}

#[derive(Debug, Args)]
pub(super) struct TitleArgs {
    /// The first segment of its keys.
    title: String,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn title(command: TitleCommand) -> anyhow::Result<Exit> {
    match command {
        TitleCommand::List(socket) => ask::get(&socket, "/v1/titles", |medium, answer| {
            let columns = [
                "title",
                "live",
                "withdrawn",
                "urgent_until",
                "bundles",
                "bytes",
                "boxes",
                "popularity",
            ];
            ask::rows(medium, answer, "titles", &columns)
        }),
        TitleCommand::Show(args) => {
            let path = format!("/v1/titles?title={}", ask::encoded(&args.title));
            ask::get(&args.socket, &path, shown)
        }
        TitleCommand::Withdraw(args) => order("withdraw", &args),
        TitleCommand::Restore(args) => order("restore", &args),
        TitleCommand::Calm(args) => order("calm", &args),
        TitleCommand::Urgent {
            title,
            time,
            socket,
        } => {
            let body = json!({"title": title, "for": time});
            ask::post(&socket, "/v1/titles/urgent", &body, shown)
        }
    }
}

fn order(verb: &str, args: &TitleArgs) -> anyhow::Result<Exit> {
    let path = format!("/v1/titles/{verb}");
    let body = json!({"title": args.title});
    ask::post(&args.socket, &path, &body, shown)
}

/// The title, then its regions.
fn shown(medium: Medium, answer: &Value) -> String {
    let mut title = answer.clone();
    let regions = title["title"]["regions"].take();
    if let Some(members) = title["title"].as_object_mut() {
        members.remove("regions");
    }
    let mut text = ask::members(medium, &title, "title");
    let regions = json!({ "regions": regions });
    let columns = ["name", "live", "holding", "needed", "clusters"];
    text.push('\n');
    text.push_str(&ask::rows(medium, &regions, "regions", &columns));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_shown_with_a_row_for_each_region() {
        let region = json!({"name": "default", "live": true, "holding": 1, "needed": 1,
            "clusters": 2});
        let answer = json!({"v": 1, "title": {"title": "film", "live": true,
            "regions": [region]}});
        let text = shown(Medium::Pipe, &answer);
        assert!(text.contains("film"), "{text}");
        assert!(text.ends_with("default\ttrue\t1\t1\t2\n"), "{text}");
        assert!(!text.contains("regions"), "{text}");
    }
}
