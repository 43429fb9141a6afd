//! A connection that sends objects to somebody who is no viewer.
//!
//! For `peer`: the same handshake, handover to the kernel, wait for the disk and send loop as a
//! viewer's, without a viewer's rules. Who may have what, when it is its turn, and what is counted,
//! is the caller's. A carrier stays on the thread where it was made.
//!
//! I/O: reads and writes the stream, waits for disks.

use super::Content;
use super::alarm::Alarm;
use super::at_once::Begun;
use super::handshake;
use super::handshake::HandshakeError;
use super::kernel;
use super::kernel::Counts;
use super::kernel::Handover;
use super::kernel::Offload;
use super::kernel::Verdict;
use super::kernel::Wanted;
use super::listener::ViewerStream;
use super::pages::Pages;
use super::range::Part;
use super::send;
use super::send::Body;
use super::send::Cut;
use super::send::Patience;
use super::session::SessionError;
use super::transport::Transport;
use crate::clock;
use crate::clock::Instant;
use crate::store::Household;
use crate::store::ObjectFile;
use crate::task::Heartbeat;
use crate::units::BytesPerSecond;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What all carriers of one listener share.
#[derive(Debug)]
pub struct Terms {
    offload: Wanted,
    counts: Counts,
    heart: Heartbeat,
    patience: Patience,
}

/// One connection after its handshake.
pub struct Carrier {
    transport: Transport,
    alarm: Alarm,
    terms: Arc<Terms>,
    remote: SocketAddr,
    /// What the kernel was told.
    rate: Option<BytesPerSecond>,
}

/// The bytes of one response.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    pub content: &'a dyn Content,
    pub object: &'a Arc<ObjectFile>,
    pub first: u64,
    /// Inclusive, and not before `first`.
    pub last: u64,
    /// Whose share of the disk it takes.
    pub household: Household,
}

/// What [`Carrier::receive`] ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    More,
    /// The other side has said that it sends no more, or TLS failed and an alert is to be sent.
    End,
    Late,
    Broken,
}

/// Why there is no connection, or why it cannot be used further. The store knows already what
/// concerns its disks.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    #[error("no handshake: {0}")]
    Handshake(String),
    #[error("the other side does not read")]
    Slow,
    #[error("the other side left")]
    Gone,
    #[error("the object could not be read: {0}")]
    Disk(String),
    #[error("the host could not send: {0}")]
    Host(io::Error),
    #[error("TLS: {0}")]
    Tls(String),
}

impl Terms {
    /// `stall`: who takes not one byte for so long is cut. `heart` is that of the thread on which
    /// all of them run.
    pub fn new(word: Offload, verdict: Verdict, heart: Heartbeat, stall: Duration) -> Self {
        Self {
            offload: Wanted { word, verdict },
            counts: Counts::default(),
            heart,
            patience: Patience {
                time: stall,
                bytes: 1,
            },
        }
    }

    /// Where large bodies are sealed, in words.
    pub fn path(&self) -> &'static str {
        self.offload.path()
    }

    /// Connections whose large bodies the kernel seals, since the start.
    pub fn sealed_by_kernel(&self) -> u64 {
        self.counts.kernel()
    }
}

impl<'a> Load<'a> {
    /// Waits until the first bytes are in memory: what fails here can still be answered.
    pub async fn begin(self) -> Result<(), CarryError> {
        self.pages(self.first, self.last)
            .begin()
            .await
            .map_err(|error| {
                let message = error.to_string();
                if let Some(error) = error.into_io() {
                    self.content.read_failed(self.object, &error);
                }
                CarryError::Disk(message)
            })
    }

    /// Of a piece. What follows it is asked for in time.
    fn pages(self, first: u64, last: u64) -> Pages<'a> {
        let piece = Part { first, last };
        let mut pages = Pages::new(self.content, self.object, piece, false, clock::now());
        pages.read_for(self.household);
        pages.followed_up_to(self.last)
    }
}

impl Carrier {
    /// Shakes hands until `until`.
    pub async fn meet(
        (stream, remote): (Box<dyn ViewerStream>, SocketAddr),
        config: Arc<ServerConfig>,
        until: Instant,
        terms: Arc<Terms>,
    ) -> Result<Self, CarryError> {
        let mut alarm = Alarm::new(until);
        let met = handshake::run(stream, config, &mut alarm).await;
        let tls = met.map_err(|error: HandshakeError| CarryError::Handshake(error.to_string()))?;
        Ok(Self {
            transport: Transport::Tls(tls),
            alarm,
            terms,
            remote,
            rate: None,
        })
    }

    /// The leaf that the other end has shown. To be asked before anything is sent.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.transport {
            Transport::Tls(tls) => tls.session.certificate(),
            Transport::Plain(_) | Transport::Kernel(_) | Transport::Closed => None,
        }
    }

    /// The session's keys are used up: the response that runs is the last one.
    pub fn is_used_up(&self) -> bool {
        self.transport.is_used_up()
    }

    /// Appends what the other side sends to `into`. May be dropped at any time.
    pub async fn receive(&mut self, into: &mut Vec<u8>, until: Instant) -> Received {
        self.alarm.set(until);
        poll_fn(|cx| match self.transport.poll_fill(cx, into) {
            Poll::Ready(Ok(0)) => Poll::Ready(Received::End),
            Poll::Ready(Ok(_)) => Poll::Ready(Received::More),
            // A TLS fault leaves an alert to be sent; a broken socket leaves nothing.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Other => {
                Poll::Ready(Received::End)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Received::Broken),
            Poll::Pending => self.alarm.poll(cx).map(|()| Received::Late),
        })
        .await
    }

    /// No faster than `rate` from here on, where the kernel keeps it. Only a smoother flow: the
    /// average is the caller's to keep.
    pub fn pace(&mut self, rate: BytesPerSecond) {
        if self.rate != Some(rate)
            && let Some(stream) = self.transport.stream()
            && stream.set_pacing(Some(rate)).is_ok()
        {
            self.rate = Some(rate);
        }
    }

    /// Sends `head`, and nothing of an object.
    pub async fn send_head(&mut self, head: &[u8]) -> Result<(), CarryError> {
        self.send(head, None).await.map_err(CarryError::of)
    }

    /// Sends `head` and then the next bytes of `load`: from `at`, `bytes` of them. The head may be
    /// empty.
    pub async fn send_piece(
        &mut self,
        head: &[u8],
        load: Load<'_>,
        at: u64,
        bytes: u64,
    ) -> Result<(), CarryError> {
        let whole = load.last - load.first + 1;
        if whole >= kernel::BODY_BYTES_MIN {
            let Terms {
                offload, counts, ..
            } = &*self.terms;
            let transport = &mut self.transport;
            match kernel::hand_over(transport, offload, counts, self.remote).await {
                Handover::Unchanged | Handover::Kernel | Handover::Stays(_) => {}
                Handover::Refused(_) | Handover::Lost => {
                    return Err(CarryError::of(Cut::Tls(SessionError::NoOffload)));
                }
            }
        }
        let last = load.last.min((at + bytes).saturating_sub(1));
        let terms = Arc::clone(&self.terms);
        let mut piece = Body {
            object: load.object,
            part: Part { first: at, last },
            heart: &terms.heart,
            pages: load.pages(at, last),
        };
        match self.send(head, Some(&mut piece)).await {
            Ok(()) => Ok(()),
            Err(Cut::Read(error)) => {
                load.content.read_failed(load.object, &error);
                Err(CarryError::Disk(error.to_string()))
            }
            Err(cut) => Err(CarryError::of(cut)),
        }
    }

    async fn send(&mut self, head: &[u8], body: Option<&mut Body<'_>>) -> Result<(), Cut> {
        let patience = self.terms.patience;
        let (transport, alarm) = (&mut self.transport, &mut self.alarm);
        let sent = send::send(
            transport,
            alarm,
            patience,
            head,
            body,
            Begun::default(),
            clock::now(),
        )
        .await;
        if matches!(sent.outcome, Err(Cut::Slow)) {
            self.transport.give_up();
        }
        sent.outcome
    }

    /// Says goodbye, and waits a little for the other side to do so.
    pub async fn close(mut self) {
        self.transport.close(&mut self.alarm).await;
    }
}

impl CarryError {
    fn of(cut: Cut) -> Self {
        match cut {
            Cut::Slow => Self::Slow,
            Cut::Peer => Self::Gone,
            Cut::Read(error) => Self::Disk(error.to_string()),
            Cut::Disk(error) => Self::Disk(error.to_string()),
            Cut::Host(error) => Self::Host(error),
            Cut::Tls(error) => Self::Tls(error.to_string()),
        }
    }
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Load<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::super::listener::Bind;
    use super::super::memory::MemoryNet;
    use super::super::tests_support::Files;
    use super::*;
    use crate::object::Digest;
    use tokio::io::AsyncReadExt;

    /// A connection on which nothing is sealed here: as with a kernel that seals.
    async fn carried(content: Files, digest: Digest, pieces: &[(u64, u64)]) -> Vec<u8> {
        let (net, any) = (MemoryNet::default(), SocketAddr::from(([192, 0, 2, 1], 1)));
        let mut listener = net.bind(any).unwrap().listen().unwrap();
        let mut far = net.connect(any, any).await.unwrap();
        let (stream, remote) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        let heart = Heartbeat::new("test", clock::now());
        let verdict = Verdict::none("a test");
        let terms = Terms::new(Offload::Auto, verdict, heart, Duration::from_secs(9));
        let mut carrier = Carrier {
            transport: Transport::Plain(stream),
            alarm: Alarm::new(clock::now()),
            terms: Arc::new(terms),
            remote,
            rate: None,
        };
        let object = content.open(digest).await.unwrap();
        let load = Load {
            content: &content,
            object: &object,
            first: 0,
            last: object.length - 1,
            household: Household::default(),
        };
        let sending = async {
            load.begin().await.unwrap();
            for (at, bytes) in pieces {
                let sent = carrier.send_piece(b"|", load, *at, *bytes).await;
                sent.unwrap();
            }
            carrier.close().await;
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(sending, async {
            let read = far.read_to_end(&mut got).await;
            drop(far);
            read
        });
        read.unwrap();
        got
    }

    #[tokio::test]
    async fn a_piece_is_exactly_its_bytes_wherever_the_pages_of_its_object_end() {
        let mut bytes = vec![0; 1_200_000];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        let content = Files::new(&[("object", &bytes)]);
        let pieces = [
            (0, 100_000),
            (100_000, 500_001),
            (600_001, 1),
            (600_002, 900_000),
        ];
        let got = carried(content, Digest::of(&bytes), &pieces).await;
        let mut expected = Vec::new();
        for (at, count) in pieces {
            let (at, end) = (at as usize, ((at + count) as usize).min(bytes.len()));
            expected.push(b'|');
            expected.extend_from_slice(&bytes[at..end]);
        }
        assert_eq!(got.len(), expected.len());
        assert!(got == expected);
    }
}
