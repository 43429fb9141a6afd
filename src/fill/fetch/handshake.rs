//! The client's handshake: rustls says what to send, until its keys are ours.
//!
//! [`super::dial`] awaits it on each connection; what comes out is a [`Sealed`] stream.
//!
//! I/O: reads and writes the stream.

use super::buffers::READ_BYTES;
use super::sealed::Keys;
use super::sealed::Sealed;
use crate::sys::ktls::Version;
use crate::tls::record::Key;
use rustls::ClientConfig;
use rustls::ProtocolVersion;
use rustls::client::ClientConnectionData as Side;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::ConnectionState;
use rustls::unbuffered::EncodeError;
use rustls::unbuffered::EncodeTlsData;
use rustls::unbuffered::UnbufferedStatus;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;

/// Room for most messages; one that needs more says so.
const MESSAGE_BYTES: usize = 2 << 10;

/// Messages that a failure finds waiting: a whole flight, and the alert.
const WAITING_MESSAGES_MAX: usize = 16;

/// A handshake under way.
struct Handshake {
    tls: UnbufferedClientConnection,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

/// What a turn of rustls' machine has come to.
enum Turn {
    Again,
    Read,
    Done,
}

/// `name`: of the server, as its certificate must have it. A refused certificate and an alert are
/// a [`rustls::Error`] within.
pub(super) async fn shake<S>(
    config: &ClientConfig,
    name: ServerName<'static>,
    mut stream: S,
) -> io::Result<Sealed<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut config = config.clone();
    config.enable_secret_extraction = true;
    let tls = UnbufferedClientConnection::new(Arc::new(config), name);
    let mut handshake = Handshake {
        tls: tls.map_err(failed)?,
        incoming: Vec::new(),
        outgoing: Vec::new(),
    };
    let mut lost = None;
    loop {
        let turn = handshake.turn();
        if turn.is_err() {
            handshake.fetch_alert();
        }
        let sent = stream.write_all(&handshake.outgoing).await;
        lost = lost.or(sent.and(stream.flush().await).err());
        handshake.outgoing.clear();
        match (turn?, lost.take()) {
            (Turn::Done, None) => return handshake.end(stream),
            (Turn::Read, None) => handshake.read(&mut stream).await?,
            // Who has hung up may have said why.
            (Turn::Read, Some(error)) if is_hung_up(&error) => {
                handshake.read(&mut stream).await?;
                lost = Some(error);
            }
            (Turn::Again, error) => lost = error,
            (Turn::Read | Turn::Done, Some(error)) => return Err(error),
        }
    }
}

impl Handshake {
    /// One state of rustls' machine. What is to be sent is in `outgoing`.
    fn turn(&mut self) -> io::Result<Turn> {
        let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.incoming);
        let turn = match state.map_err(failed)? {
            ConnectionState::EncodeTlsData(data) => {
                encode(data, &mut self.outgoing)?;
                Turn::Again
            }
            // It is written before anything else is read.
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Turn::Again
            }
            ConnectionState::BlockedHandshake => Turn::Read,
            ConnectionState::WriteTraffic(_) => Turn::Done,
            ConnectionState::PeerClosed | ConnectionState::Closed => {
                let problem = "it closed TLS in the handshake";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
            }
            // A server that talks before it was asked, or a state of a later library.
            ConnectionState::ReadTraffic(_) | ConnectionState::ReadEarlyData(_) | _ => {
                let problem = "it sent data before the first request";
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        };
        self.incoming.drain(..discard.min(self.incoming.len()));
        Ok(turn)
    }

    /// After a failure: what waits, of which the last is the alert that says what was wrong. Where
    /// bytes are left it is the first, and rustls must not read on: it remembers positions in them.
    fn fetch_alert(&mut self) {
        for _ in 0..WAITING_MESSAGES_MAX {
            let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut self.incoming);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else {
                return;
            };
            if encode(data, &mut self.outgoing).is_err() || !self.incoming.is_empty() {
                return;
            }
        }
    }

    async fn read<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        let room = READ_BYTES - self.incoming.len();
        if room == 0 {
            let problem = "its TLS handshake is longer than any";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let at = self.incoming.len();
        self.incoming.resize(READ_BYTES, 0);
        let count = stream.read(&mut self.incoming[at..]).await;
        self.incoming
            .truncate(at + count.as_ref().map_or(0, |count| *count));
        match count? {
            0 => {
                let problem = "it closed the connection in the TLS handshake";
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem))
            }
            _ => Ok(()),
        }
    }

    fn end<S>(self, stream: S) -> io::Result<Sealed<S>> {
        let version = match self.tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            Some(_) | None => {
                return Err(io::Error::other(
                    "a TLS version that this box cannot open: a fault of ours",
                ));
            }
        };
        let taken = self.tls.dangerous_into_kernel_connection();
        let (secrets, later) = taken.map_err(failed)?;
        let key = |(sequence, secret): &(u64, _)| {
            let key = Key::of(version, secret, *sequence);
            key.ok_or_else(|| {
                io::Error::other("a TLS cipher that this box cannot open: a fault of ours")
            })
        };
        let keys = Keys {
            opening: key(&secrets.rx)?,
            sealing: key(&secrets.tx)?,
            later,
        };
        Ok(Sealed::new(stream, keys, &self.incoming))
    }
}

/// Adds a message of the protocol behind `outgoing`.
fn encode(mut data: EncodeTlsData<'_, Side>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    let at = outgoing.len();
    outgoing.resize(at + MESSAGE_BYTES, 0);
    let written = match data.encode(&mut outgoing[at..]) {
        Err(EncodeError::InsufficientSize(need)) => {
            outgoing.resize(at + need.required_size, 0);
            data.encode(&mut outgoing[at..])
        }
        outcome => outcome,
    };
    outgoing.truncate(at + *written.as_ref().unwrap_or(&0));
    written.map(drop).map_err(io::Error::other)
}

fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A write to a connection that the other end has closed.
fn is_hung_up(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    kinds.contains(&error.kind())
}
