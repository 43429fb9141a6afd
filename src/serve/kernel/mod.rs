//! Kernel TLS: after the handshake the kernel seals what is sent, this program opens what comes.
//!
//! ```text
//! probe (at start) → Verdict ─┐
//! first large body ───────────┴→ handover: rustls ends → key to the kernel, rest to Opened
//!                                                      → transport: plain writes and sendfile out,
//!                                                        records in, alerts and key updates
//! ```
//! `exchange` calls [`super::connection::Connection::hand_over`] before a large body; from then on
//! `send` takes the plain path over the same socket. Never back: a socket whose kernel seals is
//! closed when something fails.
//!
//! All that depends on the library's form is in `handover`, `opened`, `super::session` and
//! `tls::record::parts_of` (for fills, in `fill::fetch`'s `handshake` and `sealed`). rustls
//! 0.23 gives the secrets by `UnbufferedServerConnection::dangerous_into_kernel_connection`. 0.24
//! takes the unbuffered API away and hangs the same function on its split connection: `handover`
//! then takes a write half that has nothing to send, the ciphertext the read half has not used, and
//! the same `KernelConnection` for later keys; `records`, `transport` and `probe` do not change.

mod handover;
mod offload;
mod opened;
mod probe;
mod records;
mod stat;
mod transport;

pub(super) use handover::Handover;
pub(super) use handover::hand_over;
pub use offload::CipherView;
pub(super) use offload::Counts;
pub use offload::Offload;
pub(super) use offload::Path;
pub use offload::TlsOffloadView;
pub use offload::Verdict;
pub(super) use offload::Wanted;
pub(super) use offload::Why;
pub(super) use offload::gather;
pub(super) use probe::probe;
pub(super) use transport::KernelTransport;

/// Bodies from this size on are worth the handover. It costs two system calls and the kernel's
/// set-up of a cipher, and a small response in one record is cheaper in user space: others who
/// measured it lose 5 to 20 % on them. At 64 KiB the saved copies pay for it, and every segment of
/// video is larger.
pub(super) const BODY_BYTES_MIN: u64 = 64 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_in_result)]
mod tests;
#[cfg(test)]
mod tests_support;
