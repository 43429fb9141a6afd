//! HTTP over the daemon's Unix socket, for the commands.
