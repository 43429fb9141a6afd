//! The body of an answer, gathered into chunks that verify.
//!
//! [`super::transfer`] asks for one chunk after another. Bytes are read to where the disk takes
//! them from, and hashed there as they come. While they are waited for, turns are bought and the
//! source's patience runs; neither happens while nobody asks.
//!
//! I/O: reads the answer, waits for turns.

use super::Parts;
use super::body::Body;
use super::dial;
use super::dial::Io;
use super::norm::Norm;
use super::purse::Purse;
use super::watch::Watch;
use crate::clock;
use crate::fill::Fault;
use crate::object::ChunkTree;
use crate::sys::blocks::Block;
use crate::units::BytesPerSecond;
use bytes::Bytes;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead as _;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

/// Hashed at a time, if so many are there: what BLAKE3 does side by side with the widest vectors.
const HASHED_BYTES: usize = 16 << 10;

pub(super) struct Gather {
    body: Body,
    /// Has not arrived.
    rest: u64,
    watch: Watch,
    norm: Arc<Norm>,
    /// Of the cap, for this stream.
    part: BytesPerSecond,
    is_waiting: bool,
    every: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Gather {
    /// `length`: of the body, as it was asked for. `part`: of the cap, for this stream.
    pub(super) fn new(body: Body, length: u64, parts: &Parts, part: BytesPerSecond) -> Self {
        Self {
            body,
            rest: length,
            watch: Watch::new(parts.limits),
            norm: Arc::clone(&parts.norm),
            part,
            is_waiting: false,
            every: Watch::look_every(&parts.limits),
            timer: Box::pin(clock::timer(clock::now())),
        }
    }

    /// The next bytes, which are chunk `index` of the tree's object, in one piece that a disk can
    /// read by itself.
    pub(super) async fn chunk(
        &mut self,
        purse: &mut Purse,
        (tree, index): (&ChunkTree, u64),
    ) -> Result<Bytes, Fault> {
        let mut check = tree.check(index);
        let length = usize::try_from(check.length()).unwrap_or(usize::MAX);
        let (mut chunk, mut hashed) = (Block::take(), 0);
        loop {
            let is_whole = chunk.len() == length;
            let fresh = &chunk.as_ref()[hashed..];
            let due = match is_whole {
                true => fresh.len(),
                false => fresh.len() - fresh.len() % HASHED_BYTES,
            };
            check.update(&fresh[..due]);
            hashed += due;
            if is_whole {
                if self.rest == 0 {
                    purse.withdraw();
                }
                return match check.verifies() {
                    true => Ok(Bytes::from_owner(chunk)),
                    false => Err(Fault::WrongBytes(format!("chunk {index} does not verify"))),
                };
            }
            let count = self.read(purse, chunk.room(length - chunk.len())).await?;
            if count == 0 {
                let problem = format!("it ended {} bytes too early", self.rest);
                return Err(Fault::Broken(problem));
            }
            chunk.grow(count);
        }
    }

    /// After the last chunk: nothing else may come. The stream, if it can carry another request.
    pub(super) async fn end(mut self, purse: &mut Purse) -> Result<Option<Box<dyn Io>>, Fault> {
        if !self.body.is_at_end() {
            self.read(purse, &mut [0]).await?;
        }
        Ok(self.body.into_io())
    }

    /// Reads once; zero bytes are the end.
    async fn read(&mut self, purse: &mut Purse, room: &mut [u8]) -> Result<usize, Fault> {
        poll_fn(|context| self.poll_read(purse, room, context)).await
    }

    fn poll_read(
        &mut self,
        purse: &mut Purse,
        room: &mut [u8],
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, Fault>> {
        if let Poll::Ready(Err(_)) = purse.poll_pay(context, self.rest) {
            return Poll::Ready(Err(Fault::Stopped));
        }
        let mut into = ReadBuf::new(room);
        let Poll::Ready(read) = Pin::new(&mut self.body).poll_read(context, &mut into) else {
            return self.poll_patience(purse, context).map(Err);
        };
        let count = into.filled().len();
        self.look(purse)?;
        self.is_waiting = false;
        read.map_err(|error| dial::fault(&error))?;
        let rest = self.rest.checked_sub(count as u64);
        let more = || Fault::Broken("it sends more than was asked for".to_owned());
        self.rest = rest.ok_or_else(more)?;
        Poll::Ready(Ok(count))
    }

    fn poll_patience(&mut self, purse: &Purse, context: &mut Context<'_>) -> Poll<Fault> {
        let now = clock::now();
        if !self.is_waiting {
            self.is_waiting = true;
            self.watch.open(now, purse.blocked(now));
            self.timer.as_mut().reset(now + self.every);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if let Err(fault) = self.look(purse) {
                return Poll::Ready(fault);
            }
            self.timer.as_mut().reset(clock::now() + self.every);
        }
        Poll::Pending
    }

    fn look(&mut self, purse: &Purse) -> Result<(), Fault> {
        if !self.is_waiting {
            return Ok(());
        }
        let now = clock::now();
        self.watch.set_floor(self.norm.floor(self.part));
        let judged = self.watch.step(now, purse.read(), purse.blocked(now));
        let (bytes, time) = self.watch.news();
        self.norm.add(bytes, time);
        judged
    }
}
