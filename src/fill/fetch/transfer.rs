//! One job from its first request to its commit.
//!
//! [`super::Fetcher`] runs it. Each missing range is asked for in turn; its chunks are verified
//! before they are staged, and one is written while the next is on its way. It asks one source:
//! whatever goes wrong ends it with a [`Fault`], and what was verified stays staged.
//!
//! I/O: sends requests, reads answers, writes to the staging.

use super::Parts;
use super::answer;
use super::answer::Asked;
use super::dial;
use super::dial::Connection;
use super::gather::Gather;
use super::place::Place;
use super::purse::Purse;
use crate::clock;
use crate::clock::Instant;
use crate::fill::Closed;
use crate::fill::Fault;
use crate::fill::Job;
use crate::fill::Outcome;
use crate::fill::Staging;
use crate::fill::Turns;
use crate::help::printable;
use crate::link::ticket;
use crate::object::CHUNK_BYTES;
use bytes::Bytes;
use futures_util::future::join;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// URLs of one source that are tried.
const URLS_MAX: usize = 4;

/// What a source says when it refuses, and the time for saying it.
const REFUSAL_BYTES_MAX: usize = 4 << 10;
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);

/// A kept connection is ready at once, unless its other end has closed it.
const READY_TIME_MAX: Duration = Duration::from_secs(1);

const AGENT: &str = concat!("oca/", env!("CARGO_PKG_VERSION"));

struct Transfer<'a> {
    parts: &'a Parts,
    job: &'a Job,
    purse: Purse,
    verified: u64,
    /// The first request, and the time without turns until then.
    begun: Option<(Instant, Duration)>,
}

/// Why no answer is at hand.
enum Failed {
    /// Another URL of the source may do.
    Unreached(Fault),
    /// A kept connection had ended.
    Unanswered(Fault),
    Final(Fault),
}

pub(super) async fn run(parts: Arc<Parts>, job: Job, turns: Arc<dyn Turns>) -> Outcome {
    let purse = Purse::new(turns, job.class, parts.limits.receive_buffer);
    let mut transfer = Transfer {
        parts: &parts,
        job: &job,
        purse,
        verified: 0,
        begun: None,
    };
    let end = transfer.object().await;
    transfer.purse.detach(false);
    transfer.purse.settle().await;
    Outcome {
        received: transfer.purse.received(),
        verified: transfer.verified,
        seconds: transfer.seconds(),
        end,
    }
}

impl Transfer<'_> {
    async fn object(&mut self) -> Result<(), Fault> {
        let Job { want, tree, .. } = self.job;
        if tree.digest() != want.digest || tree.length() != want.length {
            let problem = "the chunk tree that came with the source is another object's";
            return Err(Fault::Refused(problem.into()));
        }
        let receive = &self.parts.receive;
        let received = receive.receive(want.digest, want.length, tree.clone());
        let mut staging = received.await?;
        for range in staging.missing() {
            self.range(staging.as_mut(), range).await?;
        }
        staging.commit().await?;
        Ok(())
    }

    async fn range(&mut self, staging: &mut dyn Staging, range: Range<u64>) -> Result<(), Fault> {
        let (connection, incoming) = self.ask(&range).await?;
        let mut gather = Gather::new(incoming, range.end - range.start, self.parts);
        self.chunks(staging, range, &mut gather).await?;
        gather.end(&mut self.purse).await?;
        self.purse.detach(true);
        self.parts.pool.put(connection);
        Ok(())
    }

    async fn chunks(
        &mut self,
        staging: &mut dyn Staging,
        range: Range<u64>,
        gather: &mut Gather,
    ) -> Result<(), Fault> {
        let mut index = range.start / CHUNK_BYTES;
        let size = |index: u64| (range.end - index * CHUNK_BYTES).min(CHUNK_BYTES);
        let mut chunk = gather.chunk(&mut self.purse, size(index)).await?;
        loop {
            let length = chunk.len() as u64;
            if !self.job.tree.verify_chunk(index, &chunk) {
                let problem = format!("chunk {index} does not verify");
                return Err(Fault::WrongBytes(problem));
            }
            let writing = staging.write(index, chunk);
            index += 1;
            if index * CHUNK_BYTES >= range.end {
                writing.await?;
                self.verified += length;
                return Ok(());
            }
            let next = gather.chunk(&mut self.purse, size(index));
            let (written, next) = join(writing, next).await;
            written?;
            self.verified += length;
            chunk = next?;
        }
    }

    /// Asks each URL until one can be reached.
    async fn ask(&mut self, range: &Range<u64>) -> Result<(Connection, Incoming), Fault> {
        let Job { want, source, .. } = self.job;
        let mut failure = Fault::Refused("the source came without a URL".into());
        for url in source.urls.iter().take(URLS_MAX) {
            let config = &self.parts.dialler.config;
            let place = match Place::of(source, url, want.digest, config) {
                Ok(place) => place,
                Err(fault) => {
                    failure = fault;
                    continue;
                }
            };
            match self.ask_at(&place, range).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Unreached(fault)) => failure = fault,
                Err(Failed::Unanswered(fault) | Failed::Final(fault)) => return Err(fault),
            }
        }
        Err(failure)
    }

    async fn ask_at(
        &mut self,
        place: &Place,
        range: &Range<u64>,
    ) -> Result<(Connection, Incoming), Failed> {
        self.purse.begin(range.end - range.start).await?;
        self.begun = self.begun.or(Some((clock::now(), self.purse.waited())));
        if let Some(kept) = self.parts.pool.take(&place.door) {
            self.purse.attach(Arc::clone(&kept.meter));
            match self.send(place, range, kept, true).await {
                Err(Failed::Unanswered(fault)) => {
                    tracing::debug!(%fault, "a kept connection had ended; dialling again");
                    self.purse.detach(false);
                    self.purse.begin(range.end - range.start).await?;
                }
                other => return other,
            }
        }
        let meter = Arc::default();
        self.purse.attach(Arc::clone(&meter));
        let dialler = &self.parts.dialler;
        match dialler.open(&self.job.source, place, meter).await {
            Ok(fresh) => self.send(place, range, fresh, false).await,
            Err(fault) => {
                self.purse.detach(false);
                Err(Failed::Unreached(fault))
            }
        }
    }

    async fn send(
        &mut self,
        place: &Place,
        range: &Range<u64>,
        mut connection: Connection,
        is_kept: bool,
    ) -> Result<(Connection, Incoming), Failed> {
        let request = self.request(place, range).map_err(Failed::Final)?;
        let within = self.parts.limits.head;
        let ready = clock::within(READY_TIME_MAX, connection.sender.ready()).await;
        let sent = match ready {
            Ok(Ok(())) => clock::within(within, connection.sender.send_request(request)).await,
            Ok(Err(error)) => Ok(Err(error)),
            Err(elapsed) => Err(elapsed),
        };
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_parse() => {
                return Err(Failed::Final(dial::fault(&error)));
            }
            Ok(Err(error)) => {
                let fault = connection.last_words(&error).await;
                return Err(if is_kept {
                    Failed::Unanswered(fault)
                } else {
                    Failed::Final(fault)
                });
            }
            Err(_) => {
                let problem = format!("no answer within {within:?}");
                return Err(Failed::Final(Fault::Slow(problem)));
            }
        };
        let (head, incoming) = response.into_parts();
        let asked = Asked {
            range: range.clone(),
            length: self.job.want.length,
            etag: self.job.source.etag.as_deref(),
        };
        match answer::check(head.status, &head.headers, &asked) {
            Ok(()) => Ok((connection, incoming)),
            Err(fault) => Err(Failed::Final(
                self.refused(connection, incoming, fault).await,
            )),
        }
    }

    /// A short refusal leaves the connection as good as it was, and may say why.
    async fn refused(
        &mut self,
        connection: Connection,
        mut incoming: Incoming,
        fault: Fault,
    ) -> Fault {
        let mut told = Vec::new();
        let reading = async {
            while told.len() <= REFUSAL_BYTES_MAX {
                match incoming.frame().await {
                    None => return true,
                    Some(Err(_)) => return false,
                    Some(Ok(frame)) => {
                        let data = frame.into_data().unwrap_or_default();
                        told.extend_from_slice(&data[..data.len().min(REFUSAL_BYTES_MAX + 1)]);
                    }
                }
            }
            false
        };
        let whole = clock::within(REFUSAL_TIME_MAX, reading).await;
        if whole == Ok(true) {
            self.purse.detach(true);
            self.parts.pool.put(connection);
        }
        let told = printable(&told, 300);
        if let Fault::Refused(problem) = &fault
            && !told.is_empty()
        {
            return Fault::Refused(format!("{problem}: {told}"));
        }
        fault
    }

    fn request(&self, place: &Place, range: &Range<u64>) -> Result<Request<Empty<Bytes>>, Fault> {
        let (first, last) = (range.start, range.end.saturating_sub(1));
        let mut request = Request::get(&place.target)
            .header(header::HOST, &place.authority)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::RANGE, format!("bytes={first}-{last}"));
        if let Some(etag) = &self.job.source.etag {
            request = request.header(header::IF_MATCH, etag);
        }
        if let Some(text) = &self.job.ticket {
            let scheme = ticket::SCHEME;
            request = request.header(header::AUTHORIZATION, format!("{scheme} {text}"));
        }
        let refused = |_| Fault::Refused("its URL, ETag or ticket cannot be sent".into());
        request.body(Empty::new()).map_err(refused)
    }

    fn seconds(&self) -> f64 {
        let Some((begun, waited)) = self.begun else {
            return 0.0;
        };
        let passed = clock::now() - begun;
        let without = self.purse.waited().saturating_sub(waited);
        passed.saturating_sub(without).as_secs_f64()
    }
}

impl From<Closed> for Failed {
    fn from(_: Closed) -> Self {
        Self::Final(Fault::Stopped)
    }
}
