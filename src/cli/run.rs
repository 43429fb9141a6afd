//! `oca run`: the daemon.

use super::ConfigArgs;
use super::Exit;

pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<Exit> {
    let _ = args;
    todo!()
}
