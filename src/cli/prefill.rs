//! `oca prefill DIR`: put a directory of media on the disks.

use super::ConfigArgs;
use super::Exit;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct PrefillArgs {
    /// Directory of media; paths below it become keys.
    dir: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object at the end instead of progress and text.
    #[arg(short, long)]
    json: bool,
}

pub(super) fn prefill(args: &PrefillArgs) -> anyhow::Result<Exit> {
    let _ = args;
    todo!()
}
