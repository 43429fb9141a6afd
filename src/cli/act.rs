//! `oca drain|undrain|reload|log-level`: one command sent to the daemon.

use super::Exit;
use super::SocketArgs;

pub(super) fn drain(time: Option<&str>, socket: &SocketArgs) -> anyhow::Result<Exit> {
    let _ = (time, socket);
    todo!()
}

pub(super) fn undrain(socket: &SocketArgs) -> anyhow::Result<Exit> {
    let _ = socket;
    todo!()
}

pub(super) fn reload(socket: &SocketArgs) -> anyhow::Result<Exit> {
    let _ = socket;
    todo!()
}

pub(super) fn log_level(level: &str, socket: &SocketArgs) -> anyhow::Result<Exit> {
    let _ = (level, socket);
    todo!()
}
