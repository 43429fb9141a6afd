//! The whole system on one machine: `oca demo`.

use crate::cli::Exit;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Play this directory of media instead of the built-in title.
    #[arg(long, value_name = "DIR")]
    pub content: Option<PathBuf>,
    /// End after the proof; the exit code tells whether every step held.
    #[arg(long)]
    pub check: bool,
    /// One JSON line a step: {"step","ok","measured","expected"}.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let _ = args;
    todo!()
}
