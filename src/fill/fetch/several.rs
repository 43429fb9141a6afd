//! One large object from several sources at a time, each on a stream of its own.
//!
//! [`super::transfer`] hands it over. Every stream asks its source for one piece after another, as
//! [`super::work`] gives them out; chunks are verified before they are staged. A source that fails
//! or is far slower than the others is given up: what it has not brought goes to the others, and
//! its stream asks the next source, if there is one. The transfer fails when nobody is left, and
//! when one lies: whoever gave it the job hears of that at once, and goes on with the others.
//!
//! No stream holds more than its share of the cap, whatever connections it gives up: it waits until
//! what may be on its way there has come.
//!
//! I/O: sends requests, reads answers, writes to the staging.

use super::Parts;
use super::gather::Gather;
use super::meter::Meter;
use super::purse::Purse;
use super::stream::Answer;
use super::stream::Stream;
use super::work::Turn;
use super::work::Work;
use crate::clock;
use crate::fill::Fault;
use crate::fill::Job;
use crate::fill::Outcome;
use crate::fill::Part;
use crate::fill::Staging;
use crate::fill::Turns;
use crate::lock::lock;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;

/// What is left of an object after an earlier transfer may be too little to be parted.
const REST_BYTES_MIN: u64 = 8 << 20;

/// How often a stream looks whether it is too slow, or its work another's.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the streams share.
struct Common<'a> {
    parts: &'a Parts,
    job: &'a Job,
    work: Mutex<Work>,
    /// Until it is committed.
    staging: tokio::sync::Mutex<Option<Box<dyn Staging>>>,
    /// Work is free, taken over or done.
    changed: Notify,
    next_source: AtomicUsize,
    /// Verified bytes that are staged, by source.
    given: Vec<AtomicU64>,
}

/// A stream and what it has done.
struct Slot<'a> {
    number: usize,
    /// Until no source is left for it.
    stream: Option<Stream<'a>>,
    /// The source that it asks.
    source: Option<usize>,
    done: Done,
    /// What those before did.
    parts: Vec<Part>,
    received: u64,
    wasted: u64,
    seconds: f64,
}

/// What one source did.
#[derive(Debug, Default)]
struct Done {
    is_asked: bool,
    wasted: u64,
}

/// Is it worth the requests?
pub(super) fn is_for(job: &Job, missing: &[Range<u64>]) -> bool {
    let bytes: u64 = missing.iter().map(|range| range.end - range.start).sum();
    job.streams > 1 && !job.others.is_empty() && bytes >= REST_BYTES_MIN
}

pub(super) async fn run(
    parts: &Parts,
    job: &Job,
    turns: Arc<dyn Turns>,
    staging: Box<dyn Staging>,
    missing: &[Range<u64>],
) -> Outcome {
    let streams = job.streams.min(1 + job.others.len());
    let work = Work::new(job.want.length, missing, streams, job.share.part);
    let common = Common {
        parts,
        job,
        work: Mutex::new(work),
        staging: tokio::sync::Mutex::new(Some(staging)),
        changed: Notify::new(),
        next_source: AtomicUsize::new(0),
        given: (0..=job.others.len()).map(|_| AtomicU64::new(0)).collect(),
    };
    let mut slots: Vec<Slot<'_>> = (0..streams)
        .map(|number| Slot::new(number, Stream::new(parts, job, Arc::clone(&turns))))
        .collect();
    let ours = all(&common, &mut slots).await;
    let is_done = common.work().is_done();
    let mut outcome = Outcome {
        received: 0,
        verified: 0,
        wasted: 0,
        seconds: 0.0,
        end: Ok(()),
        parts: Vec::new(),
    };
    // Before any of them asks for a turn, to settle: none of the others looks after its own.
    slots.iter_mut().for_each(Slot::detach);
    // The object is there, whatever its streams wait for.
    let committed = if is_done {
        common.commit().await
    } else {
        Ok(())
    };
    for slot in slots {
        slot.close(&common, is_done, &mut outcome).await;
    }
    outcome.verified = common
        .given
        .iter()
        .map(|given| given.load(Ordering::Relaxed))
        .sum();
    outcome.end = match (is_done, ours) {
        (true, _) => committed,
        (false, Some(fault)) => Err(fault),
        (false, None) => {
            let mut faults = outcome.parts.iter().rev();
            let last = faults.find_map(|part| part.end.clone().err());
            Err(last.unwrap_or(Fault::NotFound))
        }
    };
    outcome
}

/// Until everything is staged, nobody is left to ask, one lies, or something of ours fails.
async fn all(common: &Common<'_>, slots: &mut [Slot<'_>]) -> Option<Fault> {
    let streams = slots.iter_mut().map(|slot| slot.run(common));
    let mut streams: FuturesUnordered<_> = streams.collect();
    while let Some(ended) = streams.next().await {
        if let Err(fault) = ended {
            return Some(fault);
        }
        if common.work().is_done() {
            // One that waits for a source that is silent has nothing to do any more.
            return None;
        }
    }
    None
}

impl Common<'_> {
    fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.work)
    }

    /// Each source is asked by one stream, once.
    fn next_source(&self) -> Option<usize> {
        let next = self.next_source.fetch_add(1, Ordering::Relaxed);
        (next <= self.job.others.len()).then_some(next)
    }

    fn give_up(&self, stream: usize) {
        self.work().give_up(stream);
        self.changed.notify_waiters();
    }

    /// A source has no more than this: is that nothing that is missing?
    fn is_through(&self, stream: usize, held: &[Range<u64>]) -> bool {
        let is_through = self.work().limit(stream, held);
        self.changed.notify_waiters();
        is_through
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.changed.notified() => {}
            () = clock::sleep(LOOK_EVERY) => {}
        }
    }

    async fn write(&self, source: usize, chunk: u64, bytes: Bytes) -> Result<(), Fault> {
        let length = bytes.len() as u64;
        if let Some(staging) = self.staging.lock().await.as_mut() {
            staging.write(chunk, bytes).await?;
        }
        if let Some(given) = self.given.get(source) {
            given.fetch_add(length, Ordering::Relaxed);
        }
        if self.work().written() {
            self.changed.notify_waiters();
        }
        Ok(())
    }

    async fn commit(&self) -> Result<(), Fault> {
        match self.staging.lock().await.take() {
            Some(staging) => Ok(staging.commit().await?),
            None => Ok(()),
        }
    }

    fn given(&self, source: usize) -> u64 {
        let given = self.given.get(source);
        given.map_or(0, |given| given.load(Ordering::Relaxed))
    }

    /// The next chunk of a stream; none: it is another's by now.
    async fn chunk(
        &self,
        (stream, index): (usize, u64),
        gather: &mut Gather,
        (purse, meter): (&mut Purse, &Meter),
    ) -> Result<Option<Bytes>, Fault> {
        if !self.work().holds(stream, index) {
            return Ok(None);
        }
        let mut chunk = pin!(gather.chunk(purse, (&self.job.tree, index)));
        loop {
            let chunk = tokio::select! {
                biased;
                chunk = &mut chunk => Some(chunk?),
                () = self.pause() => None,
            };
            let now = clock::now();
            let mut work = self.work();
            work.note(now, stream, meter.read(), meter.blocked(now));
            if chunk.is_some() {
                return Ok(chunk);
            }
            if !work.holds(stream, index) {
                return Ok(None);
            }
            if let Some((own, others)) = work.far_below(stream) {
                let problem = format!("{own} bytes a second, and others give {others}");
                return Err(Fault::Slow(problem));
            }
        }
    }
}

impl<'a> Slot<'a> {
    fn new(number: usize, stream: Stream<'a>) -> Self {
        Self {
            number,
            stream: Some(stream),
            source: None,
            done: Done::default(),
            parts: Vec::new(),
            received: 0,
            wasted: 0,
            seconds: 0.0,
        }
    }

    /// One source after another. `Err`: a fault of ours, or a lie.
    async fn run(&mut self, common: &Common<'_>) -> Result<(), Fault> {
        while let Some(mut stream) = self.stream.take() {
            let Some(source) = common.next_source() else {
                self.seconds = stream.seconds();
                self.received += stream.close().await;
                return Ok(());
            };
            stream.turn_to(source);
            self.source = Some(source);
            let stream = self.stream.insert(stream);
            let end = pieces(common, (self.number, source), stream, &mut self.done).await;
            common.give_up(self.number);
            match end {
                Err(Fault::Stopped | Fault::Store(_)) => return end,
                Ok(()) => return Ok(()),
                Err(Fault::WrongBytes(_)) => {
                    self.part(common, end.clone());
                    return end;
                }
                Err(
                    Fault::NotFound
                    | Fault::NotYet { .. }
                    | Fault::Busy { .. }
                    | Fault::Refused(_)
                    | Fault::Changed(_)
                    | Fault::Slow(_)
                    | Fault::Broken(_),
                ) => self.part(common, end),
            }
            if let Some(stream) = &mut self.stream {
                stream.leave().await;
            }
        }
        Ok(())
    }

    /// The source is done with.
    fn part(&mut self, common: &Common<'_>, end: Result<(), Fault>) {
        let done = std::mem::take(&mut self.done);
        self.wasted += done.wasted;
        if let Some(source) = self.source.take() {
            self.parts.push(Part {
                source,
                verified: common.given(source),
                end,
            });
        }
    }

    /// Nothing more comes of it, and its time is over.
    fn detach(&mut self) {
        if let Some(stream) = &mut self.stream {
            self.seconds = stream.seconds();
            stream.detach();
        }
    }

    async fn close(mut self, common: &Common<'_>, is_done: bool, outcome: &mut Outcome) {
        if let Some(stream) = self.stream.take() {
            self.received += stream.close().await;
        }
        // Who was interrupted for a reason of ours has done nothing wrong.
        if self.source.is_some_and(|source| common.given(source) > 0) {
            self.part(common, Ok(()));
        } else if is_done && self.done.is_asked {
            let problem = "nothing came of it before others gave all";
            self.part(common, Err(Fault::Slow(problem.to_owned())));
        }
        outcome.received += self.received;
        outcome.wasted += self.wasted + self.done.wasted;
        outcome.seconds = outcome.seconds.max(self.seconds);
        outcome.parts.append(&mut self.parts);
    }
}

/// Everything that one source is to bring.
async fn pieces(
    common: &Common<'_>,
    (number, source): (usize, usize),
    stream: &mut Stream<'_>,
    done: &mut Done,
) -> Result<(), Fault> {
    let mut has_part = false;
    loop {
        let turn = common.work().take(clock::now(), number);
        match turn {
            Turn::Done => return Ok(()),
            Turn::Wait => common.pause().await,
            Turn::Through => return Err(not_yet()),
            Turn::Take(chunks) => {
                done.is_asked = true;
                let mut piece = Piece {
                    common,
                    number,
                    source,
                    done,
                };
                match piece.bring(stream, chunks).await {
                    Ok(true) => {}
                    Ok(false) => stream.leave().await,
                    // It gives what it has. Of what it says to have it refuses nothing, or it could
                    // be asked for one part after another for ever.
                    Err(Fault::NotYet { held, .. })
                        if !has_part && !common.is_through(number, &held) =>
                    {
                        has_part = true;
                    }
                    Err(fault) => return Err(fault),
                }
            }
        }
    }
}

/// The end of a source that has given all that it has.
fn not_yet() -> Fault {
    Fault::NotYet {
        held: Vec::new(),
        retry_after: None,
    }
}

/// One request and its answer.
struct Piece<'a> {
    common: &'a Common<'a>,
    number: usize,
    source: usize,
    done: &'a mut Done,
}

impl Piece<'_> {
    /// `false`: others brought its end, and the connection is broken off.
    async fn bring(&mut self, stream: &mut Stream<'_>, chunks: Range<u64>) -> Result<bool, Fault> {
        let Common { job, parts, .. } = *self.common;
        let range = self.common.work().bytes(&chunks);
        let Answer { connection, body } = stream.ask(&range).await?;
        let meter = Arc::clone(&connection.meter);
        let (now, before) = (clock::now(), meter.read());
        if let Some(tempo) = self.common.work().tempo(self.number) {
            tempo.flow(now, before, meter.blocked(now));
        }
        let mut gather = Gather::new(body, range.end - range.start, parts, job.share.part);
        let mut useful = 0;
        let purse = &mut stream.purse;
        let brought = self.chunks(chunks, &mut gather, (purse, &meter), &mut useful);
        let brought = brought.await;
        if let Some(tempo) = self.common.work().tempo(self.number) {
            tempo.end();
        }
        if let Ok(true) = brought {
            stream.finish(connection, gather).await?;
        } else {
            let came = meter.read() + meter.beyond() - before;
            self.done.wasted += came.saturating_sub(useful);
        }
        brought
    }

    async fn chunks(
        &mut self,
        chunks: Range<u64>,
        gather: &mut Gather,
        (purse, meter): (&mut Purse, &Meter),
        useful: &mut u64,
    ) -> Result<bool, Fault> {
        let (common, number) = (self.common, self.number);
        let mut index = chunks.start;
        let mut chunk = common
            .chunk((number, index), gather, (purse, meter))
            .await?;
        loop {
            let Some(bytes) = chunk else {
                return Ok(false);
            };
            let length = bytes.len() as u64;
            if !common.work().claim(number, index) {
                return Ok(false);
            }
            *useful += length;
            let writing = common.write(self.source, index, bytes);
            index += 1;
            if index == chunks.end {
                writing.await?;
                return Ok(true);
            }
            let next = common.chunk((number, index), gather, (purse, meter));
            let (written, next) = join(writing, next).await;
            written?;
            chunk = next?;
        }
    }
}
