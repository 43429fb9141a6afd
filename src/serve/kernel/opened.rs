//! One session after the handover: what was received, what is to be said, which key is next.
//! Sans-IO.
//!
//! [`super::transport`] moves its bytes. It never seals anything: the kernel does.

use super::super::session;
use super::handover;
use super::records::Records;
use crate::sys::ktls::TransmitKey;
use crate::sys::ktls::Version;
use crate::tls::record;
use crate::tls::record::CLOSE_NOTIFY;
use crate::tls::record::Content;
use crate::tls::record::FATAL;
use crate::tls::record::Key;
use crate::tls::record::RECORDS_MAX;
use crate::tls::record::RecordFault;
use crate::tls::record::Said;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData as Side;

/// Bytes of one record that the kernel seals.
const RECORD_BYTES: u64 = 16 * 1024;

/// Key updates of one peer without a byte of data between them; other libraries draw the line there
/// too. And on one connection in all: one a record limit would last for a petabyte.
const KEY_UPDATES_IN_A_ROW_MAX: u32 = 32;
const KEY_UPDATES_MAX: u32 = 1024;

/// Warnings other than close_notify.
const WARNINGS_MAX: u32 = 4;

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenedError {
    #[error("the viewer sent {0}")]
    Record(#[from] RecordFault),
    #[error("the viewer's TLS said alert {0}")]
    Alert(u8),
    #[error("the session has failed before")]
    Failed,
}

/// What must be sent as a record of its own, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// And then the next key is to be given to the kernel.
    KeyUpdate,
    Alert([u8; 2]),
}

pub(in crate::serve) struct Opened {
    connection: KernelConnection<Side>,
    records: Records,
    plain: Vec<u8>,
    /// The kernel takes a second key (Linux 6.14).
    can_rekey: bool,
    key_update_due: bool,
    alert_due: Option<[u8; 2]>,
    /// Ends with the response that runs, or the next one.
    is_used_up: bool,
    is_failed: bool,
    is_closing: bool,
    is_peer_closed: bool,
    /// Sealed under the present key, at most.
    sealed: u64,
    updates: u32,
    updates_in_a_row: u32,
    warnings: u32,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Opened {
    /// `sealed` records went out before the handover.
    pub(super) fn new(
        connection: KernelConnection<Side>,
        records: Records,
        plain: Vec<u8>,
        sealed: u64,
        can_rekey: bool,
    ) -> Self {
        let can_rekey = can_rekey && records.version() == Version::Tls13;
        Self {
            connection,
            records,
            plain,
            can_rekey,
            key_update_due: false,
            alert_due: None,
            is_used_up: false,
            is_failed: false,
            is_closing: false,
            is_peer_closed: false,
            sealed,
            updates: 0,
            updates_in_a_row: 0,
            warnings: 0,
        }
    }

    /// Ciphertext arrived.
    pub(super) fn receive(&mut self, ciphertext: &[u8]) -> Result<(), OpenedError> {
        if self.is_failed {
            return Err(OpenedError::Failed);
        }
        // RFC 8446 section 6.1: what comes after close_notify is ignored.
        if self.is_peer_closed {
            return Ok(());
        }
        self.records.push(ciphertext);
        let outcome = self.read();
        if let Err(error) = outcome {
            self.is_failed = true;
            self.key_update_due = false;
            match error {
                OpenedError::Record(fault) => self.alert_due = Some([FATAL, fault.alert()]),
                OpenedError::Alert(_) | OpenedError::Failed => self.alert_due = None,
            }
        }
        outcome
    }

    fn read(&mut self) -> Result<(), OpenedError> {
        while !self.is_peer_closed {
            match self.records.next()? {
                None => return Ok(()),
                Some(Content::Data(data)) => {
                    self.plain.extend_from_slice(data);
                    if !data.is_empty() {
                        self.updates_in_a_row = 0;
                    }
                }
                Some(Content::Tickets(_) | Content::HelloRequest) => {
                    return Err(RecordFault::Unexpected.into());
                }
                Some(Content::KeyUpdate { is_answer_asked }) => self.key_update(is_answer_asked)?,
                Some(Content::Alert {
                    is_fatal,
                    description,
                }) => self.alert(is_fatal, description)?,
            }
        }
        Ok(())
    }

    /// RFC 8446 section 4.6.3.
    fn key_update(&mut self, is_answer_asked: bool) -> Result<(), RecordFault> {
        self.updates += 1;
        self.updates_in_a_row += 1;
        if self.updates > KEY_UPDATES_MAX || self.updates_in_a_row > KEY_UPDATES_IN_A_ROW_MAX {
            return Err(RecordFault::TooMany);
        }
        let next = self.connection.update_rx_secret();
        let (sequence, secret) = next.map_err(|_| RecordFault::Key)?;
        let key = Key::of(self.records.version(), &secret, sequence);
        self.records.rekey(key.ok_or(RecordFault::Key)?);
        if is_answer_asked {
            self.change_key();
        }
        Ok(())
    }

    /// Changes the transmit key before anything else is sent; where the kernel cannot, what was
    /// asked is still answered under the old one and the connection ends.
    fn change_key(&mut self) {
        if self.can_rekey {
            self.key_update_due = true;
        } else {
            self.is_used_up = true;
        }
    }

    fn alert(&mut self, is_fatal: bool, description: u8) -> Result<(), OpenedError> {
        match record::said(self.records.version(), is_fatal, description) {
            Said::Goodbye => {
                self.is_peer_closed = true;
                return Ok(());
            }
            Said::Failure => return Err(OpenedError::Alert(description)),
            Said::Warning => {}
        }
        self.warnings += 1;
        if self.warnings > WARNINGS_MAX {
            return Err(RecordFault::TooMany.into());
        }
        Ok(())
    }

    /// Hands over the plain bytes received so far.
    pub(super) fn take_plain(&mut self, into: &mut Vec<u8>) -> usize {
        session::hand_over(&mut self.plain, into)
    }

    /// The peer has said that it sends no more.
    pub(super) fn is_peer_closed(&self) -> bool {
        self.is_peer_closed
    }

    /// No further request may be answered after the one that runs.
    pub(in crate::serve) fn is_used_up(&self) -> bool {
        self.is_used_up
    }

    /// Nothing has failed, and nothing was said that ends the session.
    pub(in crate::serve) fn may_send(&self) -> bool {
        !self.is_failed && !self.is_closing
    }

    /// Says that nothing more will be sent. Once; and not after a failure, which has said its own.
    pub(super) fn close(&mut self) {
        if !self.is_failed && !std::mem::replace(&mut self.is_closing, true) {
            self.alert_due = Some(CLOSE_NOTIFY);
        }
    }

    pub(super) fn due(&self) -> Option<Due> {
        if self.key_update_due {
            return Some(Due::KeyUpdate);
        }
        self.alert_due.map(Due::Alert)
    }

    /// The alert that was due is sent.
    pub(super) fn alert_sent(&mut self) {
        self.alert_due = None;
    }

    /// The key update that was due is sent: the key of everything after it. Whoever cannot give it
    /// to the kernel calls [`Opened::fail`].
    pub(super) fn next_key(&mut self) -> Result<TransmitKey, OpenedError> {
        self.key_update_due = false;
        let next = self.connection.update_tx_secret().ok();
        let key = next.and_then(|(sequence, secret)| {
            handover::transmit_key(self.records.version(), &secret, sequence)
        });
        self.sealed = 0;
        key.ok_or_else(|| {
            self.fail();
            OpenedError::Record(RecordFault::Key)
        })
    }

    /// The kernel and the peer disagree: nothing may be sent, not even an alert.
    pub(super) fn fail(&mut self) {
        self.is_failed = true;
        self.key_update_due = false;
        self.alert_due = None;
    }

    /// The kernel took `bytes` in `writes` calls: each call ends a record at most, beyond those
    /// that are full.
    pub(in crate::serve) fn sealed(&mut self, bytes: u64, writes: u64) {
        self.sealed = self.sealed.saturating_add(bytes / RECORD_BYTES + writes);
        if self.sealed >= RECORDS_MAX {
            self.change_key();
        }
    }
}
