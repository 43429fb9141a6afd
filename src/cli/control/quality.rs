//! `oca control quality [BOX]`.
//!
//! I/O: asks the control plane, writes standard output.

use super::super::Exit;
use super::SocketArgs;
use super::ask;
use crate::ids::BoxId;
use clap::Args;

/// The figures of a row, whatever it is of.
const FIGURES: [&str; 11] = [
    "responses",
    "bytes",
    "starvations",
    "cmcd",
    "paced",
    "p10_kbps",
    "p50_kbps",
    "p90_kbps",
    "rtt_us",
    "sent_bytes",
    "retransmitted_bytes",
];

#[derive(Debug, Args)]
pub(super) struct QualityArgs {
    /// The client networks of this box; without it, all boxes.
    #[arg(value_name = "BOX")]
    id: Option<String>,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn quality(args: &QualityArgs) -> anyhow::Result<Exit> {
    let (path, first) = match args.id.as_deref() {
        None => ("/v1/quality".to_owned(), ["box", "networks"].as_slice()),
        Some(id) if BoxId::parse(id).is_ok() => {
            let path = format!("/v1/quality?box={}", ask::encoded(id));
            (path, ["prefix"].as_slice())
        }
        Some(_) => {
            eprintln!("oca: write the name of a box, or nothing for all of them");
            return Ok(Exit::Usage);
        }
    };
    let columns = [first, &FIGURES].concat();
    ask::get(&args.socket, &path, move |medium, answer| {
        ask::rows(medium, answer, "quality", &columns)
    })
}
