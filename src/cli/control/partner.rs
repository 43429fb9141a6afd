//! `oca control partner …`.
//!
//! I/O: asks the control plane, writes standard output.

use super::super::Exit;
use super::SocketArgs;
use super::ask;
use clap::Args;
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(super) enum PartnerCommand {
    /// Add a partner, or change its title.
    Add {
        /// Lower-case letters, digits and hyphens.
        name: String,
        /// For people.
        #[arg(long, default_value = "")]
        title: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
    List(SocketArgs),
    /// Let a partner's routes steer viewers: prefixes, or all that an AS originates.
    Approve(ApprovalArgs),
    /// Take an approval back.
    Disapprove(ApprovalArgs),
}

#[derive(Debug, Args)]
pub(super) struct ApprovalArgs {
    partner: String,
    /// `192.0.2.0/24`, `2001:db8::/32`, `AS64496`.
    #[arg(required = true, value_name = "PREFIX|AS")]
    subjects: Vec<String>,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn partner(command: PartnerCommand) -> anyhow::Result<Exit> {
    match command {
        PartnerCommand::Add {
            name,
            title,
            socket,
        } => {
            let body = json!({"name": name, "title": title});
            ask::post(&socket, "/v1/partners", &body, |medium, answer| {
                ask::members(medium, answer, "partner")
            })
        }
        PartnerCommand::List(socket) => ask::get(&socket, "/v1/partners", |medium, answer| {
            let columns = ["name", "title", "prefixes", "origins"];
            ask::rows(medium, answer, "partners", &columns)
        }),
        PartnerCommand::Approve(args) => approval("/v1/partners/approve", &args),
        PartnerCommand::Disapprove(args) => approval("/v1/partners/disapprove", &args),
    }
}

fn approval(path: &str, args: &ApprovalArgs) -> anyhow::Result<Exit> {
    let (mut prefixes, mut origins) = (Vec::new(), Vec::new());
    for subject in &args.subjects {
        match origin(subject) {
            Some(origin) => origins.push(origin),
            None => prefixes.push(subject),
        }
    }
    let body = json!({"partner": args.partner, "prefixes": prefixes, "origins": origins});
    ask::post(&args.socket, path, &body, |medium, answer| {
        ask::members(medium, answer, "partner")
    })
}

/// `AS64496`, `as64496` or `64496`.
fn origin(text: &str) -> Option<u32> {
    let cut = text
        .get(..2)
        .is_some_and(|two| two.eq_ignore_ascii_case("as"));
    let digits = if cut { text.get(2..)? } else { text };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_as_number_is_told_from_a_prefix() {
        assert_eq!(origin("AS64496"), Some(64496));
        assert_eq!(origin("as64496"), Some(64496));
        assert_eq!(origin("64496"), Some(64496));
        for prefix in [
            "192.0.2.0/24",
            "2001:db8::/32",
            "AS",
            "",
            "é1",
            "99999999999",
        ] {
            assert_eq!(origin(prefix), None, "{prefix}");
        }
    }
}
