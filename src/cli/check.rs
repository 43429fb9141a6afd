//! `oca check`: every problem of the configuration at once.

use super::ConfigArgs;
use super::Exit;

pub(super) fn check(args: &ConfigArgs, json: bool) -> anyhow::Result<Exit> {
    let _ = (args, json);
    todo!()
}
