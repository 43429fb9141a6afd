//! `GET /v1/origin/<digest>`: files of a directory origin, for boxes that show a ticket.
//!
//! The ticket says which box may have which objects, when, and how many bytes of them (SAFETY:
//! fill); whose connection it is, the link listener knows from the certificate. A file is given
//! out only while it is the one that was imported.
//!
//! I/O: asks the store, reads files on blocking threads, a piece at a time.

use super::Deps;
use super::ORIGIN_ID;
use super::Shelves;
use super::budget::BudgetError;
use super::budget::Budgets;
use super::metrics::Counters;
use super::origins;
use super::origins::Origins;
use super::origins::Place;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::control::api::link::OriginAsk;
use crate::control::api::link::OriginBody;
use crate::control::api::link::OriginRefusal;
use crate::control::fleet::Refused;
use crate::control::store::Location;
use crate::ids::BoxId;
use crate::link::manifest::ManifestError;
use crate::link::manifest::Verifier;
use crate::link::message::Code;
use crate::link::ticket;
use crate::link::ticket::Ticket;
use crate::lock::lock;
use crate::object::Digest;
use crate::origin::Entry;
use crate::origin::OriginError;
use crate::origin::Reading;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

/// Files that are sent at once: each has at most a MiB in memory and a blocking thread.
const SENDING_MAX: usize = 128;

/// Of them, for one box: as many as it has transfers, and one that is just ending for each.
const SENDING_PER_BOX_MAX: usize = 32;

/// A box that takes nothing for so long is gone, or does as if it were.
const STALL: Duration = Duration::from_secs(30);

const RETRY: Duration = Duration::from_secs(2);

pub(super) struct Gateway {
    shelves: Arc<dyn Shelves>,
    verifier: Verifier,
    origins: Arc<Origins>,
    counters: Arc<Counters>,
    budgets: Arc<Mutex<Budgets>>,
    sending: Arc<Semaphore>,
    /// Files under way by box; without entries for those that have none.
    boxes: Arc<Mutex<BTreeMap<BoxId, usize>>>,
}

/// One of the box's places.
struct BoxPlace {
    boxes: Arc<Mutex<BTreeMap<BoxId, usize>>>,
    id: BoxId,
}

/// A body on its way. Dropped, what was not sent goes back to the ticket.
struct Sending {
    left: AtomicU64,
    digest: Digest,
    ticket: Digest,
    budgets: Arc<Mutex<Budgets>>,
    counters: Arc<Counters>,
    _places: (OwnedSemaphorePermit, BoxPlace),
}

impl Gateway {
    pub(super) fn new(
        deps: &Deps,
        origins: &Arc<Origins>,
        counters: &Arc<Counters>,
    ) -> Result<Self, ManifestError> {
        Ok(Self {
            shelves: Arc::clone(&deps.shelves),
            verifier: Verifier::new(&[deps.signer.public_hex()])?,
            origins: Arc::clone(origins),
            counters: Arc::clone(counters),
            budgets: Arc::default(),
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
            boxes: Arc::default(),
        })
    }

    /// Everything that can refuse is done before the first byte.
    pub(super) async fn open(
        &self,
        id: &BoxId,
        ask: OriginAsk,
        now: Instant,
        wall: Wall,
    ) -> Result<OriginBody, OriginRefusal> {
        let (ticket, hash) = self.believe(id, &ask, wall)?;
        let places = self.places(id)?;
        let location = self.location(ask.digest).await?;
        let etag = origins::etag(&location);
        if ask
            .if_match
            .as_ref()
            .is_some_and(|tag| !matches(tag, &etag))
        {
            return Err(OriginRefusal::Changed);
        }
        let length = location.size;
        let (first, end, part) = match select(ask.range.as_deref(), length) {
            Selected::Whole => (0, length, None),
            Selected::Part(first, last) => (first, last + 1, Some((first, last))),
            Selected::Unsatisfiable => return Err(OriginRefusal::Unsatisfiable { length }),
        };
        let left = end - first;
        let until = now + until_end(&ticket, wall);
        let taken = lock(&self.budgets).take(now, hash, ticket.bytes, until, left);
        taken.map_err(|error| match error {
            BudgetError::Spent(_) => refused(Code::Token, error.to_string()),
            BudgetError::Crowded => busy(),
        })?;
        // From here on what is not sent is given back.
        let sending = Arc::new(Sending {
            left: AtomicU64::new(left),
            digest: ask.digest,
            ticket: hash,
            budgets: Arc::clone(&self.budgets),
            counters: Arc::clone(&self.counters),
            _places: places,
        });
        let reading = self.read(now, &location, first, end).await?;
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(pump(reading, sender, Arc::clone(&sending)));
        Ok(OriginBody {
            length,
            part,
            etag,
            pieces: stream::unfold((pieces, sending), next).boxed(),
        })
    }

    pub(super) fn bytes(&self) -> BTreeMap<Digest, u64> {
        self.counters.objects()
    }

    fn believe(
        &self,
        id: &BoxId,
        ask: &OriginAsk,
        wall: Wall,
    ) -> Result<(Ticket, Digest), OriginRefusal> {
        let header = ask.authorization.as_deref().unwrap_or_default();
        let text = header.strip_prefix(ticket::SCHEME).map(str::trim);
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            let message = "the origin is given out for tickets only; ask for fill sources";
            return Err(refused(Code::Token, message));
        };
        let told = |error: ticket::TicketError| refused(Code::Token, error.to_string());
        let ticket = self.verifier.ticket(text).map_err(told)?;
        let checked = ticket.check(id, ORIGIN_ID, ask.digest, wall);
        checked.map_err(told)?;
        Ok((ticket, Digest::of(text.as_bytes())))
    }

    fn places(&self, id: &BoxId) -> Result<(OwnedSemaphorePermit, BoxPlace), OriginRefusal> {
        let sending = Arc::clone(&self.sending).try_acquire_owned();
        let sending = sending.map_err(|_| busy())?;
        let mut boxes = lock(&self.boxes);
        let own = boxes.entry(id.clone()).or_default();
        if *own >= SENDING_PER_BOX_MAX {
            return Err(busy());
        }
        *own += 1;
        let place = BoxPlace {
            boxes: Arc::clone(&self.boxes),
            id: id.clone(),
        };
        Ok((sending, place))
    }

    async fn location(&self, digest: Digest) -> Result<Location, OriginRefusal> {
        let found = self.shelves.locations(vec![digest]).await;
        let mut found = found.map_err(|error| {
            tracing::error!(%error, "origin: the store cannot be asked where an object is");
            let message = "the control plane cannot read its store";
            refused(Code::Internal, message)
        })?;
        let location = found.remove(&digest);
        location.ok_or_else(|| refused(Code::NotFound, "the origin of the object is not known"))
    }

    async fn read(
        &self,
        now: Instant,
        at: &Location,
        first: u64,
        end: u64,
    ) -> Result<Reading, OriginRefusal> {
        let place = self
            .origins
            .place(now, &at.source)
            .await
            .map_err(|e| told(&e))?;
        let Place::Directory(directory) = place else {
            let message = "the object is in a bucket; ask for fill sources, and fetch it there";
            return Err(refused(Code::NotFound, message));
        };
        let entry = Entry {
            name: at.path.clone(),
            size: at.size,
            tag: at.tag.clone(),
            last_modified: 0,
        };
        let reading = directory.read_range(&entry, first, end).await;
        reading.map_err(|error| told(&error))
    }
}

type Piece = Result<Bytes, OriginError>;

/// Hands pieces on while the box takes them. One that takes none for a while gets no more, so that
/// it does not keep a place from others.
async fn pump(mut reading: Reading, sender: mpsc::Sender<Piece>, sending: Arc<Sending>) {
    while let Some(piece) = reading.next().await {
        let is_last = piece.is_err();
        let handed = clock::within(STALL, sender.send(piece)).await;
        if is_last || !matches!(handed, Ok(Ok(()))) {
            break;
        }
    }
    drop(sending);
}

/// The next piece, counted as sent: the connection asks for it when it has room.
async fn next(
    (mut pieces, sending): (mpsc::Receiver<Piece>, Arc<Sending>),
) -> Option<(Piece, (mpsc::Receiver<Piece>, Arc<Sending>))> {
    let piece = pieces.recv().await?;
    if let Ok(bytes) = &piece {
        let count = bytes.len() as u64;
        sending.left.fetch_sub(count, Ordering::Relaxed);
        sending.counters.sent(sending.digest, count);
    }
    Some((piece, (pieces, sending)))
}

impl Drop for Sending {
    fn drop(&mut self) {
        let left = self.left.load(Ordering::Relaxed);
        lock(&self.budgets).give_back(self.ticket, left);
    }
}

impl Drop for BoxPlace {
    fn drop(&mut self) {
        let mut boxes = lock(&self.boxes);
        let Some(own) = boxes.get_mut(&self.id) else {
            return;
        };
        *own = own.saturating_sub(1);
        if *own == 0 {
            boxes.remove(&self.id);
        }
    }
}

/// What of a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    Whole,
    /// First and last byte.
    Part(u64, u64),
    Unsatisfiable,
}

/// One range of RFC 9110 section 14.1.2; anything else is ignored, as section 14.2 allows.
fn select(header: Option<&[u8]>, length: u64) -> Selected {
    let Some((first, last)) = header.and_then(range) else {
        return Selected::Whole;
    };
    let (first, last) = match (first, last) {
        (Some(first), last) => (first, last.unwrap_or(u64::MAX)),
        (None, Some(0)) => return Selected::Unsatisfiable,
        (None, Some(suffix)) => (length.saturating_sub(suffix), u64::MAX),
        (None, None) => return Selected::Whole,
    };
    if first > last {
        return Selected::Whole;
    }
    if first >= length {
        return Selected::Unsatisfiable;
    }
    Selected::Part(first, last.min(length - 1))
}

fn range(header: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let text = std::str::from_utf8(header).ok()?;
    let (unit, set) = text.split_once('=')?;
    let (first, last) = set.trim().split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let is_bytes = unit.trim().eq_ignore_ascii_case("bytes");
    is_bytes.then_some((number(first)?, number(last)?))
}

/// RFC 9110 section 13.1.1, strong comparison.
fn matches(header: &[u8], etag: &str) -> bool {
    let mut tags = header.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tags.any(|tag| tag == b"*" || tag == etag.as_bytes())
}

fn until_end(ticket: &Ticket, wall: Wall) -> Duration {
    let end = ticket.expires.saturating_add(ticket::CLOCK_SLACK_S);
    let left = end.saturating_sub(clock::unix_seconds(wall));
    // A ticket of ours does not last longer; its memory need not either.
    Duration::from_secs(left).min(2 * super::GRANTED)
}

fn told(error: &OriginError) -> OriginRefusal {
    if let OriginError::Changed { .. } = error {
        return OriginRefusal::Changed;
    }
    tracing::warn!(%error, "origin: a file cannot be given out");
    match error {
        OriginError::NotFound { .. } => refused(Code::NotFound, "the file is gone; import again"),
        OriginError::Changed { .. }
        | OriginError::Config { .. }
        | OriginError::Credentials { .. }
        | OriginError::Denied { .. }
        | OriginError::Unreadable { .. }
        | OriginError::Damaged { .. }
        | OriginError::Failed { .. } => refused(Code::Internal, "the origin cannot be read"),
    }
}

fn refused(code: Code, message: impl Into<String>) -> OriginRefusal {
    OriginRefusal::Refused(Refused::new(code, message))
}

fn busy() -> OriginRefusal {
    let more = Duration::from_millis(fastrand::u64(0..2_000));
    let message = "as many files are sent as may be; come again";
    OriginRefusal::Refused(Refused::busy(message, RETRY + more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_taken_and_others_are_ignored() {
        for (header, selected) in [
            ("bytes=0-0", Selected::Part(0, 0)),
            ("bytes=5-", Selected::Part(5, 9)),
            ("Bytes=2-100", Selected::Part(2, 9)),
            ("bytes=-3", Selected::Part(7, 9)),
            ("bytes=-300", Selected::Part(0, 9)),
            ("bytes=10-", Selected::Unsatisfiable),
            ("bytes=-0", Selected::Unsatisfiable),
            ("bytes=3-2", Selected::Whole),
            ("bytes=0-1,3-4", Selected::Whole),
            ("bytes=+1-2", Selected::Whole),
            ("lines=0-1", Selected::Whole),
            ("bytes=99999999999999999999999-", Selected::Whole),
            ("", Selected::Whole),
        ] {
            assert_eq!(select(Some(header.as_bytes()), 10), selected, "{header}");
        }
        assert_eq!(select(None, 0), Selected::Whole);
        assert_eq!(select(Some(b"bytes=-1"), 0), Selected::Unsatisfiable);
    }

    #[test]
    fn only_the_imported_state_matches() {
        assert!(matches(b"\"17\"", "\"17\"") && matches(b"*", "\"17\""));
        assert!(matches(b"\"1\", \"17\"", "\"17\""));
        assert!(!matches(b"W/\"17\"", "\"17\"") && !matches(b"17", "\"17\""));
    }
}
