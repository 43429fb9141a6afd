//! One job from its first request to its commit.
//!
//! [`super::Fetcher`] runs it. Each missing range is asked for in turn; its chunks are verified
//! before they are staged, and one is written while the next is on its way. It asks one source:
//! whatever goes wrong ends it with a [`Fault`], and what was verified stays staged. A large object
//! that may come from several sources is handed to [`super::several`].
//!
//! I/O: sends requests, reads answers, writes to the staging.

use super::Parts;
use super::gather::Gather;
use super::several;
use super::stream::Answer;
use super::stream::Stream;
use crate::fill::Fault;
use crate::fill::Job;
use crate::fill::Outcome;
use crate::fill::Staging;
use crate::fill::Turns;
use crate::object::CHUNK_BYTES;
use futures_util::future::join;
use std::ops::Range;
use std::sync::Arc;

struct Transfer<'a> {
    parts: &'a Parts,
    job: &'a Job,
    stream: Stream<'a>,
    verified: u64,
}

pub(super) async fn run(parts: Arc<Parts>, job: Job, turns: Arc<dyn Turns>) -> Outcome {
    let staging = match open(&parts, &job).await {
        Ok(staging) => staging,
        Err(fault) => return nothing(fault),
    };
    let missing = staging.missing();
    if several::is_for(&job, &missing) {
        return several::run(&parts, &job, turns, staging, &missing).await;
    }
    let mut transfer = Transfer {
        parts: &parts,
        job: &job,
        stream: Stream::new(&parts, &job, turns),
        verified: 0,
    };
    let end = transfer.object(staging, missing).await;
    let seconds = transfer.stream.seconds();
    Outcome {
        received: transfer.stream.close().await,
        verified: transfer.verified,
        wasted: 0,
        seconds,
        end,
        parts: Vec::new(),
    }
}

async fn open(parts: &Parts, job: &Job) -> Result<Box<dyn Staging>, Fault> {
    let Job { want, tree, .. } = job;
    if tree.digest() != want.digest || tree.length() != want.length {
        let problem = "the chunk tree that came with the source is another object's";
        return Err(Fault::Refused(problem.into()));
    }
    let receive = &parts.receive;
    let received = receive.receive(want.digest, want.length, want.rank, tree.clone());
    Ok(received.await?)
}

/// The end of a job that asked nobody.
fn nothing(fault: Fault) -> Outcome {
    Outcome {
        received: 0,
        verified: 0,
        wasted: 0,
        seconds: 0.0,
        end: Err(fault),
        parts: Vec::new(),
    }
}

impl Transfer<'_> {
    async fn object(
        &mut self,
        mut staging: Box<dyn Staging>,
        missing: Vec<Range<u64>>,
    ) -> Result<(), Fault> {
        for range in missing {
            match self.range(staging.as_mut(), range).await {
                Err(Fault::NotYet { held, retry_after }) => {
                    self.what_is_there(staging.as_mut(), &held).await?;
                    if !staging.missing().is_empty() {
                        return Err(Fault::NotYet { held, retry_after });
                    }
                }
                end => end?,
            }
        }
        staging.commit().await?;
        Ok(())
    }

    /// Of a source that is itself receiving the object: the whole chunks that it has.
    async fn what_is_there(
        &mut self,
        staging: &mut dyn Staging,
        held: &[Range<u64>],
    ) -> Result<(), Fault> {
        for missing in staging.missing() {
            for held in held {
                let start = missing.start.max(held.start.next_multiple_of(CHUNK_BYTES));
                let whole = held.end - held.end % CHUNK_BYTES;
                let end = if held.end < self.job.want.length {
                    whole
                } else {
                    held.end
                };
                let range = start..missing.end.min(end);
                if !range.is_empty() {
                    self.range(staging, range).await?;
                }
            }
        }
        Ok(())
    }

    async fn range(&mut self, staging: &mut dyn Staging, range: Range<u64>) -> Result<(), Fault> {
        let Answer { connection, body } = self.stream.ask(&range).await?;
        let (length, part) = (range.end - range.start, self.job.share.part);
        let mut gather = Gather::new(body, length, self.parts, part);
        self.chunks(staging, range, &mut gather).await?;
        self.stream.finish(connection, gather).await
    }

    async fn chunks(
        &mut self,
        staging: &mut dyn Staging,
        range: Range<u64>,
        gather: &mut Gather,
    ) -> Result<(), Fault> {
        let mut index = range.start / CHUNK_BYTES;
        let (tree, purse) = (&self.job.tree, &mut self.stream.purse);
        let mut chunk = gather.chunk(purse, (tree, index)).await?;
        loop {
            let length = chunk.len() as u64;
            let writing = staging.write(index, chunk);
            index += 1;
            if index * CHUNK_BYTES >= range.end {
                writing.await?;
                self.verified += length;
                return Ok(());
            }
            let next = gather.chunk(purse, (tree, index));
            let (written, next) = join(writing, next).await;
            written?;
            self.verified += length;
            chunk = next?;
        }
    }
}
