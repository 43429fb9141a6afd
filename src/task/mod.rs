//! Supervision words: phases of shutdown, and tasks that end with their handle.
//!
//! [`phase`] is the typed shutdown `Serving → Draining { deadline } → Stopped`; [`heartbeat`]
//! lets the watchdog ask each scheduler whether it still turns; [`notify`] is that watchdog and
//! what else systemd is told.

pub mod heartbeat;
pub mod notify;
pub mod phase;

pub use heartbeat::Heartbeat;
pub use phase::Phase;
pub use phase::PhaseRx;
pub use phase::PhaseTx;
