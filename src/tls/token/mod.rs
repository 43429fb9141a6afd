//! Tokens of signed URLs: who may fetch what, where and until when. docs/TOKENS.md is the contract.
//!
//! `claims` is what a URL says, parsed once and strictly → `mac` puts it into the one text that is
//! authenticated → `keys` has the keys of a fleet and of a host → `check` decides → `sign` makes
//! the URLs → `file` reads and writes key files.
//!
//! `serve` checks, the control plane and `oca token` sign. A box holds the keys of its own names
//! and never the fleet's secret; no key is ever shown, and its memory is cleared when it is
//! dropped. Nothing in here reads a clock.

mod base64;
mod check;
mod claims;
mod file;
mod keys;
mod mac;
mod secret;
mod sign;

pub use check::Asked;
pub use check::Pass;
pub use check::TokenFault;
pub use check::check;
pub use claims::ClientPrefix;
pub use claims::Presented;
pub use claims::is_session;
pub use file::KeyFileError;
pub use file::load_fleet;
pub use file::load_host;
pub use file::parse_host;
pub use file::save_fleet;
pub use file::save_host;
pub use file::write_host;
pub use keys::FleetKey;
pub use keys::FleetSecret;
pub use keys::HostKey;
pub use keys::HostKeyView;
pub use keys::KeyId;
pub use keys::Keyring;
pub use mac::Scope;
pub use mac::canonical_host;
pub use mac::input;
pub use secret::Secret;
pub use sign::Claim;
pub use sign::SignError;
pub use sign::Signed;
pub use sign::sign;

/// Clocks of signers and boxes may differ by so much: what the link tolerates.
pub const SKEW_SECONDS: u64 = 60;

/// Why a key, a key id or a client's network was refused. The message says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeyError {
    #[error("`{0}` is not a key id; write 1 to 16 letters, digits, `-` and `_`")]
    KeyId(String),
    #[error("a key is 32 bytes: write 64 hexadecimal digits")]
    Secret,
    #[error("`{0}` is not a host name in lower case, without a port")]
    Host(String),
    #[error("key `{0}` is good for no time: write a `from` that is before `until`")]
    Period(String),
    #[error("key id `{0}` is given twice; each key has an id of its own")]
    Twice(String),
    #[error("the system gives no random numbers; look at its log")]
    Random,
}

#[cfg(test)]
mod tests;
