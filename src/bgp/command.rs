//! What an operator may ask of one neighbour's session. `handle` passes it on, the neighbour's task
//! does it.

use tokio::sync::oneshot;

/// Commands on their way to one neighbour: operators are few.
pub(super) const QUEUE: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Connect, and let in, again.
    Up,
    /// No session until [`Command::Up`]; the text goes to the neighbour's operator (RFC 9003).
    Down(String),
    /// End the session and begin another.
    Reset(String),
    /// Ask for all routes again (RFC 2918).
    Refresh,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("no neighbour is named `{name}`; `oca show bgp` has their names")]
    Unknown { name: String },
    #[error("the session with `{name}` is not established; `oca show bgp` says why")]
    NotEstablished { name: String },
    #[error(
        "`{name}` cannot send its routes again (it does not offer route refresh); a reset makes it"
    )]
    NoRefresh { name: String },
    #[error("`{name}` is not dealt with at the moment; try again")]
    Busy { name: String },
}

/// With the way back.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<(), CommandError>>,
}
