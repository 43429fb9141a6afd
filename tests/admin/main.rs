//! The admin room over real sockets: questions, commands, the read-only twin, hostile peers, a
//! wedged daemon, the command line and curl.
#![allow(clippy::unwrap_used)]

mod command_line;
mod commands;
mod host;
mod hostile;
mod questions;
mod routing;
