//! `oca show status|catalogue|disks|connections|tls|config`.

use super::Exit;
use super::SocketArgs;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// `status`, `catalogue [KEY]`, `disks`, `config`, …; an unambiguous beginning is enough.
    what: String,
    /// A key or the beginning of keys, for `catalogue`.
    argument: Option<String>,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let _ = args;
    todo!()
}
