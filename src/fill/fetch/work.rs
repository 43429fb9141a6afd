//! Which stream fetches which chunks of one object, when several sources give it at a time.
//!
//! [`super::several`] takes pieces for its streams, says what came, and returns what a source that
//! failed has left. A piece is as long as its stream's rate makes worth a request, and shorter
//! towards the end. When none is free, a stream that is done takes over the end of another's piece
//! if the object is complete sooner by it: that is the one way in which bytes come twice, and those
//! are what was on its way. Sans-IO.

use super::tempo::Tempo;
use crate::clock::Instant;
use crate::object::CHUNK_BYTES;
use crate::units::BytesPerSecond;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// The first piece of a source whose rate is not known: 1 MiB.
const FIRST_CHUNKS: u64 = 4;

/// A piece: enough that the pause between two requests is little of it, and no more than what is
/// lost little with a source that fails to give the end.
const PIECE_TIME: Duration = Duration::from_secs(2);
const PIECE_CHUNKS_MIN: u64 = 4;
const PIECE_CHUNKS_MAX: u64 = 256;

/// What a request costs before its bytes come.
const SETUP: Duration = Duration::from_millis(200);

/// Taking over is worth a broken connection if the object is complete so much sooner.
const GAIN: Duration = Duration::from_millis(500);

/// A source may be so many times slower than the mean of the others before it is dropped.
const FAR: u64 = 4;

/// Who is done before its rate is known is believed to give a chunk a second at the least: where
/// the only one left is silent, nobody else's rate says more.
const GUESS: u64 = CHUNK_BYTES;

/// No rate is so low that it is no rate: an hour is as good as for ever.
const FOREVER: Duration = Duration::from_secs(3_600);

/// One object's missing chunks.
#[derive(Debug)]
pub(super) struct Work {
    length: u64,
    /// In nobody's hands, in order.
    free: VecDeque<Range<u64>>,
    /// By stream.
    desks: Vec<Desk>,
    /// Chunks that are not staged.
    unwritten: u64,
    /// Of the cap, for one stream: none needs more.
    part: BytesPerSecond,
}

/// One stream's.
#[derive(Debug, Default)]
struct Desk {
    /// Chunks that it is to bring, the one on its way included.
    held: Range<u64>,
    /// Chunks that its source has, if that is not all.
    has: Option<Vec<Range<u64>>>,
    /// Bytes of the chunk on its way that have come.
    ahead: u64,
    tempo: Tempo,
}

/// What a stream is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// These chunks.
    Take(Range<u64>),
    /// Others have what is left; it may have to come from here yet.
    Wait,
    /// What its source has is there, or with others.
    Through,
    /// Everything is staged.
    Done,
}

impl Work {
    /// `missing`: byte ranges, as the staging tells them. `part`: of the cap, for one stream.
    pub(super) fn new(
        length: u64,
        missing: &[Range<u64>],
        streams: usize,
        part: BytesPerSecond,
    ) -> Self {
        let chunks = missing.iter();
        let free: VecDeque<Range<u64>> = chunks
            .map(|range| range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES))
            .collect();
        Self {
            length,
            unwritten: free.iter().map(count).sum(),
            free,
            desks: (0..streams).map(|_| Desk::default()).collect(),
            part,
        }
    }

    /// Of chunks.
    pub(super) fn bytes(&self, chunks: &Range<u64>) -> Range<u64> {
        let at = |chunk: u64| (chunk * CHUNK_BYTES).min(self.length);
        at(chunks.start)..at(chunks.end)
    }

    /// The next piece of a stream that has none.
    pub(super) fn take(&mut self, now: Instant, stream: usize) -> Turn {
        if self.is_done() {
            return Turn::Done;
        }
        let has = self.desks.get(stream).and_then(|desk| desk.has.clone());
        let taken = match has {
            Some(has) => match self.of(&has) {
                None => return Turn::Through,
                taken => taken,
            },
            None if self.free.is_empty() => self.steal(now, stream),
            None => self.next(now, stream),
        };
        let (Some(taken), Some(desk)) = (taken, self.desks.get_mut(stream)) else {
            return Turn::Wait;
        };
        (desk.held, desk.ahead) = (taken.clone(), 0);
        desk.tempo.begin(now);
        Turn::Take(taken)
    }

    /// Is the stream to bring this chunk still?
    pub(super) fn holds(&self, stream: usize, chunk: u64) -> bool {
        let desk = self.desks.get(stream);
        desk.is_some_and(|desk| desk.held.contains(&chunk))
    }

    /// A verified chunk is here. `false`: it is another stream's by now.
    #[must_use]
    pub(super) fn claim(&mut self, stream: usize, chunk: u64) -> bool {
        let size = self.size(&(chunk..chunk + 1));
        let Some(desk) = self.desks.get_mut(stream) else {
            return false;
        };
        let is_next = desk.held.start == chunk && !desk.held.is_empty();
        if is_next {
            desk.held.start += 1;
            desk.ahead = desk.ahead.saturating_sub(size);
        }
        is_next
    }

    /// A claimed chunk is staged. True if it was the last one.
    pub(super) fn written(&mut self) -> bool {
        self.unwritten = self.unwritten.saturating_sub(1);
        self.is_done()
    }

    pub(super) fn is_done(&self) -> bool {
        self.unwritten == 0
    }

    /// The stream's source fails: others bring the rest, and nothing is known of the next source.
    pub(super) fn give_up(&mut self, stream: usize) {
        let Some(desk) = self.desks.get_mut(stream) else {
            return;
        };
        let Desk { held, .. } = std::mem::take(desk);
        if !held.is_empty() {
            self.put_back(held);
        }
    }

    /// Neighbours are joined: a piece is as long as what is free there.
    fn put_back(&mut self, mut held: Range<u64>) {
        let mut place = self.free.partition_point(|free| free.start < held.start);
        if let Some(next) = self.free.get(place).filter(|next| next.start == held.end) {
            held.end = next.end;
            self.free.remove(place);
        }
        let before = place
            .checked_sub(1)
            .and_then(|at| Some((at, self.free.get(at)?)));
        if let Some((at, before)) = before.filter(|(_, before)| before.end == held.start) {
            held.start = before.start;
            self.free.remove(at);
            place = at;
        }
        self.free.insert(place, held);
    }

    /// The stream's source has only these bytes. True if none of them is free.
    pub(super) fn limit(&mut self, stream: usize, held: &[Range<u64>]) -> bool {
        self.give_up(stream);
        let whole = |range: &Range<u64>| {
            let end = if range.end >= self.length {
                self.length.div_ceil(CHUNK_BYTES)
            } else {
                range.end / CHUNK_BYTES
            };
            range.start.div_ceil(CHUNK_BYTES)..end
        };
        let has: Vec<Range<u64>> = held.iter().map(whole).collect();
        let mut all = has
            .iter()
            .flat_map(|has| self.free.iter().map(move |free| (has, free)));
        let is_through = !all.any(|(has, free)| !common(has, free).is_empty());
        if let Some(desk) = self.desks.get_mut(stream) {
            desk.has = Some(has);
        }
        is_through
    }

    /// So much has been read of the stream's connection, and turns were waited for so long.
    pub(super) fn note(&mut self, now: Instant, stream: usize, read: u64, blocked: Duration) {
        if let Some(desk) = self.desks.get_mut(stream) {
            desk.ahead += desk.tempo.note(now, read, blocked);
        }
    }

    pub(super) fn tempo(&mut self, stream: usize) -> Option<&mut Tempo> {
        self.desks.get_mut(stream).map(|desk| &mut desk.tempo)
    }

    /// Its source gives far less than the others would in its place: its rate, and theirs.
    pub(super) fn far_below(&self, stream: usize) -> Option<(u64, u64)> {
        let own = self.desks.get(stream)?.tempo.given()?;
        let others = self.desks.iter().enumerate();
        let others = others.filter(|(number, _)| *number != stream);
        let rates: Vec<u64> = { others }
            .filter_map(|(_, desk)| desk.tempo.given())
            .collect();
        let mean = rates.iter().sum::<u64>().checked_div(rates.len() as u64)?;
        (own < mean.min(self.part.0) / FAR).then_some((own, mean))
    }

    /// A piece of what is free that a source has which has not all.
    fn of(&mut self, has: &[Range<u64>]) -> Option<Range<u64>> {
        let free = self.free.iter().enumerate();
        let mut pieces = free.flat_map(|(place, free)| {
            let pieces = has.iter().map(move |has| (place, common(has, free)));
            pieces.filter(|(_, piece)| !piece.is_empty())
        });
        let (place, mut piece) = pieces.next()?;
        piece.end = piece.end.min(piece.start + PIECE_CHUNKS_MAX);
        let whole = self.free.remove(place)?;
        let rests = [piece.end..whole.end, whole.start..piece.start];
        for rest in rests.into_iter().filter(|rest| !rest.is_empty()) {
            self.free.insert(place, rest);
        }
        Some(piece)
    }

    /// A piece of what is free. None: the others are done with it before this stream would be.
    fn next(&mut self, now: Instant, stream: usize) -> Option<Range<u64>> {
        let free: u64 = self.free.iter().map(|range| self.size(range)).sum();
        let most = match self.rate(now, stream) {
            None => FIRST_CHUNKS,
            Some(own) => {
                // Who waits brings nothing.
                let others = self.rates_of_others(now, stream);
                let all = own.saturating_add(others);
                let least = free.min(PIECE_CHUNKS_MIN * CHUNK_BYTES);
                let theirs = free.saturating_add(self.held_by_others(stream));
                if others > 0 && time(least, own) > time(theirs, others) + GAIN {
                    return None;
                }
                let share = u128::from(free) * u128::from(own) / u128::from(all.max(1));
                let share = u64::try_from(share).unwrap_or(u64::MAX);
                let piece = own.saturating_mul(PIECE_TIME.as_secs()).min(share);
                (piece / CHUNK_BYTES).clamp(PIECE_CHUNKS_MIN, PIECE_CHUNKS_MAX)
            }
        };
        let first = self.free.front_mut()?;
        let end = first.end.min(first.start.saturating_add(most));
        let taken = first.start..end;
        first.start = end;
        if first.is_empty() {
            self.free.pop_front();
        }
        Some(taken)
    }

    /// The end of the piece that would be complete last, for its source: under the cap whoever is
    /// left has all turns, and a connection that is broken off only costs.
    fn steal(&mut self, now: Instant, stream: usize) -> Option<Range<u64>> {
        let own = self.rate(now, stream);
        let known = self.desks.iter().filter_map(|desk| desk.tempo.rate(now));
        // Who has not shown its rate is believed to be as good as any, for little.
        let (rate, most) = match own {
            Some(own) => (own, u64::MAX),
            None => (known.max()?.max(GUESS), FIRST_CHUNKS),
        };
        let (mut last, mut victim) = (Duration::ZERO, None);
        for (number, desk) in self.desks.iter().enumerate() {
            let Some(theirs) = desk.tempo.alone(now) else {
                continue;
            };
            let ends = time(self.left(desk, &desk.held), theirs);
            if number != stream && !desk.held.is_empty() && ends > last {
                (last, victim) = (ends, Some((number, theirs)));
            }
        }
        let (number, theirs) = victim?;
        let desk = self.desks.get(number)?;
        let held = desk.held.clone();
        let ends = |from: u64| {
            let left = time(self.left(desk, &(held.start..from)), theirs);
            left.max(SETUP + time(self.size(&(from..held.end)), rate))
        };
        let first = held.start.max(held.end.saturating_sub(most));
        let from = (first..held.end).min_by_key(|from| ends(*from))?;
        // The chunk on its way would come twice; and twice as soon, or two would take it from each
        // other for ever.
        let worth = if from == held.start {
            ends(from) * 2
        } else {
            ends(from)
        };
        if worth + GAIN > last {
            return None;
        }
        let desk = self.desks.get_mut(number)?;
        desk.held.end = from;
        Some(from..held.end)
    }

    fn rate(&self, now: Instant, stream: usize) -> Option<u64> {
        self.desks.get(stream)?.tempo.rate(now)
    }

    /// Of the other streams that are at work.
    fn rates_of_others(&self, now: Instant, stream: usize) -> u64 {
        let others = self.desks.iter().enumerate();
        let others = others.filter(|(number, desk)| *number != stream && !desk.held.is_empty());
        others.filter_map(|(_, desk)| desk.tempo.rate(now)).sum()
    }

    /// Bytes of these chunks, the first of a stream's, that have not come.
    fn left(&self, desk: &Desk, chunks: &Range<u64>) -> u64 {
        self.size(chunks).saturating_sub(desk.ahead)
    }

    fn held_by_others(&self, stream: usize) -> u64 {
        let others = self.desks.iter().enumerate();
        let others = others.filter(|(number, _)| *number != stream);
        others.map(|(_, desk)| self.size(&desk.held)).sum()
    }

    fn size(&self, chunks: &Range<u64>) -> u64 {
        let bytes = self.bytes(chunks);
        bytes.end.saturating_sub(bytes.start)
    }
}

fn common(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    one.start.max(other.start)..one.end.min(other.end)
}

fn count(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// For so many bytes at a rate.
fn time(bytes: u64, rate: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    let micros = u64::try_from(micros).unwrap_or(u64::MAX);
    Duration::from_micros(micros).min(FOREVER)
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
