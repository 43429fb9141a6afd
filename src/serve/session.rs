//! One TLS session: ciphertext in, plain bytes out, and back. Sans-IO.
//!
//! [`super::transport`] moves the bytes. rustls' unbuffered API is used so that a session owns no
//! buffers of its own while it is idle, and so that its keys can be handed to the kernel
//! (`UnbufferedServerConnection::dangerous_into_kernel_connection`): [`super::kernel`] takes a
//! session apart before the first large body.

use super::scratch;
use crate::sys::ktls::Cipher;
use crate::sys::ktls::Version;
use rustls::CipherSuite;
use rustls::ExtractedSecrets;
use rustls::ServerConfig;
use rustls::kernel::KernelConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::ServerConnectionData as Side;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::unbuffered::EncodeError;
use rustls::unbuffered::EncodeTlsData;
use rustls::unbuffered::EncryptError;
use rustls::unbuffered::UnbufferedStatus;
use rustls::unbuffered::WriteTraffic;
use std::sync::Arc;

/// Ciphertext held unread: a fragmented handshake message may have 64 KiB, a record 16 KiB.
const INCOMING_MAX: usize = 84 * 1024;

/// Room for most messages of the protocol itself; what needs more says so and gets it.
const MESSAGE_BYTES: usize = 2 * 1024;

/// Plain bytes of one record at most (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// More than any record's header, nonce, type and tag together.
const RECORD_OVERHEAD: usize = 64;

/// Messages that a failure finds waiting: a whole flight of a handshake, and the alert.
const WAITING_MESSAGES_MAX: usize = 16;

/// TLS record type of a handshake (RFC 8446 section 5.1): the first byte of every ClientHello.
const HANDSHAKE_RECORD: u8 = 22;

/// Why a session cannot go on. The alert for the peer is already in [`Session::outgoing`].
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("no TLS: the first byte is not that of a ClientHello")]
    NotTls,
    #[error("more ciphertext than a record or handshake message may have")]
    TooMuch,
    #[error("the session's keys are used up or it is closing")]
    CannotSend,
    #[error("the kernel does not take this session, and `tls_offload` requires it")]
    NoOffload,
}

/// The bytes of a session that wait to be written.
#[derive(Debug, Default)]
struct Outgoing {
    /// Initialised in full; `start..end` is waiting.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// One viewer's TLS session.
pub(super) struct Session {
    tls: UnbufferedServerConnection,
    incoming: Vec<u8>,
    plain: Vec<u8>,
    outgoing: Outgoing,
    begun: bool,
    not_tls: bool,
    failed: bool,
    peer_closed: bool,
    close_queued: bool,
}

/// A session taken apart: what [`super::kernel`] goes on with.
pub(super) struct Parts {
    pub(super) secrets: ExtractedSecrets,
    pub(super) connection: KernelConnection<Side>,
    /// Ciphertext that came and was not opened.
    pub(super) incoming: Vec<u8>,
    /// What was opened and nobody took.
    pub(super) plain: Vec<u8>,
}

/// What a turn of the machine may do when it reaches the state in which data can be sent.
enum Send<'a> {
    Nothing,
    Settle,
    Plain(&'a [u8]),
    CloseNotify,
}

impl Outgoing {
    /// At least `more` free bytes behind what waits.
    fn room(&mut self, more: usize) -> &mut [u8] {
        if self.buffer.len() - self.end < more {
            let mut larger = scratch::take(self.end - self.start + more);
            let waiting = &self.buffer[self.start..self.end];
            larger[..waiting.len()].copy_from_slice(waiting);
            (self.start, self.end) = (0, waiting.len());
            self.release();
            self.buffer = larger;
        }
        &mut self.buffer[self.end..]
    }

    /// A handshake message, key update or alert.
    fn encode(&mut self, mut data: EncodeTlsData<'_, Side>) -> Result<(), SessionError> {
        let written = match data.encode(self.room(MESSAGE_BYTES)) {
            Err(EncodeError::InsufficientSize(need)) => data.encode(self.room(need.required_size)),
            outcome => outcome,
        };
        self.end += written.map_err(|_| SessionError::CannotSend)?;
        Ok(())
    }

    fn encrypt(
        &mut self,
        mut to: WriteTraffic<'_, Side>,
        plain: &[u8],
    ) -> Result<(), SessionError> {
        let records = plain.len() / RECORD_BYTES + 2;
        let most = plain.len() + records * RECORD_OVERHEAD;
        let written = match to.encrypt(plain, self.room(most)) {
            // A key update waits to be sent along.
            Err(EncryptError::InsufficientSize(need)) => {
                to.encrypt(plain, self.room(need.required_size))
            }
            outcome => outcome,
        };
        self.end += written.map_err(|_| SessionError::CannotSend)?;
        Ok(())
    }

    fn close(&mut self, mut to: WriteTraffic<'_, Side>) -> Result<(), SessionError> {
        let written = to.queue_close_notify(self.room(MESSAGE_BYTES));
        self.end += written.map_err(|_| SessionError::CannotSend)?;
        Ok(())
    }

    /// The library keeps the answer to a key update back until data is to be sealed. Asking it to
    /// seal a byte into no room is refused, and brings the answer out at the next turn.
    fn settle(to: &mut WriteTraffic<'_, Side>) -> Result<(), SessionError> {
        match to.encrypt(&[0], &mut []) {
            Err(EncryptError::InsufficientSize(_)) => Ok(()),
            Ok(_) | Err(_) => Err(SessionError::CannotSend),
        }
    }

    fn release(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            scratch::give_back(buffer);
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.release();
    }
}

impl Session {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, SessionError> {
        Ok(Self {
            tls: UnbufferedServerConnection::new(config)?,
            incoming: Vec::new(),
            plain: Vec::new(),
            outgoing: Outgoing::default(),
            begun: false,
            not_tls: false,
            failed: false,
            peer_closed: false,
            close_queued: false,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The first byte was that of something else, most likely plain HTTP on a TLS port.
    pub(super) fn is_not_tls(&self) -> bool {
        self.not_tls
    }

    /// The peer has said that it sends no more.
    pub(super) fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whom the other end showed itself to be; `None` where nobody was asked.
    pub(super) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates()?.first()
    }

    /// Negotiated version and cipher, by their registered names.
    pub(super) fn suite(&self) -> (&'static str, &'static str) {
        let version = match self.tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(_) | None => "unknown",
        };
        let suite = self.tls.negotiated_cipher_suite();
        let cipher = suite.and_then(|suite| suite.suite().as_str());
        (version, cipher.unwrap_or("unknown"))
    }

    /// Version and cipher as the kernel knows them; `None` before the end of the handshake.
    pub(super) fn kind(&self) -> Option<(Version, Cipher)> {
        let versions = [
            (rustls::ProtocolVersion::TLSv1_3, Version::Tls13),
            (rustls::ProtocolVersion::TLSv1_2, Version::Tls12),
        ];
        let known = self.tls.protocol_version()?;
        let (_, version) = versions.into_iter().find(|(ours, _)| *ours == known)?;
        Some((
            version,
            cipher(self.tls.negotiated_cipher_suite()?.suite())?,
        ))
    }

    /// Ciphertext arrived.
    pub(super) fn receive(&mut self, ciphertext: &[u8]) -> Result<(), SessionError> {
        if !std::mem::replace(&mut self.begun, true)
            && ciphertext.first() != Some(&HANDSHAKE_RECORD)
        {
            self.not_tls = true;
            self.failed = true;
            return Err(SessionError::NotTls);
        }
        if self.incoming.len() + ciphertext.len() > INCOMING_MAX {
            self.failed = true;
            return Err(SessionError::TooMuch);
        }
        self.incoming.extend_from_slice(ciphertext);
        self.turn(&mut Send::Nothing)?;
        if self.incoming.is_empty() {
            // An idle session keeps no buffer.
            self.incoming = Vec::new();
        }
        Ok(())
    }

    /// Hands over the plain bytes received so far.
    pub(super) fn take_plain(&mut self, into: &mut Vec<u8>) -> usize {
        hand_over(&mut self.plain, into)
    }

    /// Encrypts `plain`; the ciphertext waits in [`Session::outgoing`].
    pub(super) fn seal(&mut self, plain: &[u8]) -> Result<(), SessionError> {
        // The library would encrypt it; the peer would drop it unread.
        if self.close_queued {
            return Err(SessionError::CannotSend);
        }
        self.send(Send::Plain(plain))
    }

    /// Says that nothing more will be sent. Once; the second time it does nothing.
    pub(super) fn close(&mut self) -> Result<(), SessionError> {
        if std::mem::replace(&mut self.close_queued, true) {
            return Ok(());
        }
        self.send(Send::CloseNotify)
    }

    /// Brings out whatever the library still has to send; it waits in [`Session::outgoing`].
    pub(super) fn settle(&mut self) -> Result<(), SessionError> {
        self.send(Send::Settle)
    }

    /// Ends the session. Its last record must have been written.
    pub(super) fn into_parts(self) -> Result<Parts, SessionError> {
        if self.failed || self.close_queued || !self.outgoing().is_empty() {
            return Err(SessionError::CannotSend);
        }
        let (secrets, connection) = self.tls.dangerous_into_kernel_connection()?;
        Ok(Parts {
            secrets,
            connection,
            incoming: self.incoming,
            plain: self.plain,
        })
    }

    fn send(&mut self, what: Send<'_>) -> Result<(), SessionError> {
        let mut what = what;
        self.turn(&mut what)?;
        match what {
            Send::Nothing => Ok(()),
            Send::Settle | Send::Plain(_) | Send::CloseNotify => Err(SessionError::CannotSend),
        }
    }

    /// Ciphertext to be written, from the front.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outgoing.buffer[self.outgoing.start..self.outgoing.end]
    }

    /// The first `count` bytes of [`Session::outgoing`] are written.
    pub(super) fn sent(&mut self, count: usize) {
        let outgoing = &mut self.outgoing;
        outgoing.start = (outgoing.start + count).min(outgoing.end);
        if outgoing.start == outgoing.end {
            (outgoing.start, outgoing.end) = (0, 0);
            outgoing.release();
        }
    }

    /// Lets rustls go on until it waits for the peer or has nothing to do.
    fn turn(&mut self, send: &mut Send<'_>) -> Result<(), SessionError> {
        if self.failed {
            return Err(SessionError::CannotSend);
        }
        let outcome = loop {
            match self.step(send) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if outcome.is_err() {
            self.failed = true;
            self.fetch_alert();
        }
        outcome
    }

    /// After a failure: takes what waits, of which the last is the alert that tells the peer what
    /// was wrong. rustls gives that before it reads on; were it to read on, in bytes of which it
    /// remembers positions, it would fail for the second time, and that it asserts against. So
    /// where bytes are left one call must do: there, the alert is the first.
    fn fetch_alert(&mut self) {
        for _ in 0..WAITING_MESSAGES_MAX {
            let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut self.incoming);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else {
                return;
            };
            // No alert is no further trouble: the connection ends either way.
            if self.outgoing.encode(data).is_err() || !self.incoming.is_empty() {
                return;
            }
        }
    }

    /// One state of rustls' machine. False once it waits for somebody.
    fn step(&mut self, send: &mut Send<'_>) -> Result<bool, SessionError> {
        let UnbufferedStatus { mut discard, state } =
            self.tls.process_tls_records(&mut self.incoming);
        let goes_on = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    self.plain.extend_from_slice(record.payload);
                }
                Ok(true)
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                self.outgoing.encode(data)?;
                Ok(true)
            }
            // What was encoded waits in `outgoing`, and the caller writes that, in order, before
            // anything else.
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(true)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.peer_closed = true;
                Ok(true)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let goes_on = matches!(send, Send::Settle);
                match std::mem::replace(send, Send::Nothing) {
                    Send::Nothing => {}
                    Send::Settle => Outgoing::settle(&mut traffic)?,
                    Send::Plain(plain) => self.outgoing.encrypt(traffic, plain)?,
                    Send::CloseNotify => self.outgoing.close(traffic)?,
                }
                Ok(goes_on)
            }
            // Early data is off (`max_early_data_size` is 0), so it and whatever a later rustls
            // may add are as good as closed.
            Ok(
                ConnectionState::BlockedHandshake
                | ConnectionState::Closed
                | ConnectionState::ReadEarlyData(_),
            ) => Ok(false),
            Ok(_) => Ok(false),
            Err(error) => Err(error.into()),
        };
        self.incoming.drain(..discard.min(self.incoming.len()));
        goes_on
    }
}

/// What each suite of the library seals with.
const SUITES: [(CipherSuite, Cipher); 9] = {
    use Cipher::Aes128Gcm;
    use Cipher::Aes256Gcm;
    use Cipher::ChaCha20Poly1305;
    use CipherSuite as Suite;
    [
        (Suite::TLS13_AES_128_GCM_SHA256, Aes128Gcm),
        (Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, Aes128Gcm),
        (Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, Aes128Gcm),
        (Suite::TLS13_AES_256_GCM_SHA384, Aes256Gcm),
        (Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, Aes256Gcm),
        (Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, Aes256Gcm),
        (Suite::TLS13_CHACHA20_POLY1305_SHA256, ChaCha20Poly1305),
        (
            Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            ChaCha20Poly1305,
        ),
        (
            Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ChaCha20Poly1305,
        ),
    ]
};

fn cipher(suite: CipherSuite) -> Option<Cipher> {
    let known = SUITES.into_iter().find(|(ours, _)| *ours == suite);
    known.map(|(_, cipher)| cipher)
}

/// Moves what lies in `plain` behind `into`, and leaves no buffer behind.
pub(super) fn hand_over(plain: &mut Vec<u8>, into: &mut Vec<u8>) -> usize {
    let count = plain.len();
    if into.is_empty() {
        std::mem::swap(into, plain);
    } else {
        into.append(plain);
    }
    *plain = Vec::new();
    count
}

#[cfg(test)]
mod tests;
