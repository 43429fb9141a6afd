//! One stream of a transfer: it asks one source at a time, and pays for what comes.
//!
//! [`super::transfer`] has one, [`super::several`] some. A request is answered by a body that is
//! the range, or by a [`Fault`]; the connection goes back to [`super::pool`] when its answer was
//! read to the end.
//!
//! I/O: sends requests, reads answers.

use super::Parts;
use super::answer;
use super::answer::Asked;
use super::body::Body;
use super::dial::Connection;
use super::dial::Io;
use super::exchange::Unanswered;
use super::exchange::exchange;
use super::gather::Gather;
use super::place::Place;
use super::pool;
use super::pool::Heard;
use super::purse;
use super::purse::Purse;
use crate::clock;
use crate::clock::Instant;
use crate::fill::Closed;
use crate::fill::Fault;
use crate::fill::Job;
use crate::fill::Turns;
use crate::help::printable;
use crate::link::message::FillSource;
use crate::link::ticket;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::header;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// URLs of one source that are tried.
const URLS_MAX: usize = 4;

/// What a source says when it refuses, and the time for saying it.
const REFUSAL_BYTES_MAX: usize = 4 << 10;
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);

const AGENT: &str = concat!("oca/", env!("CARGO_PKG_VERSION"));

pub(super) struct Stream<'a> {
    parts: &'a Parts,
    job: &'a Job,
    source: &'a FillSource,
    ticket: Option<&'a str>,
    pub(super) purse: Purse,
    /// The first request, and the time without turns until then.
    begun: Option<(Instant, Duration)>,
    /// By then what may be on its way to a connection that was given up has come.
    late: Option<Instant>,
}

/// An answer whose body is what was asked for.
pub(super) struct Answer {
    pub(super) connection: Connection,
    pub(super) body: Body,
}

/// Why no answer is at hand.
enum Failed {
    /// Another URL of the source may do.
    Unreached(Fault),
    /// A kept connection had ended.
    Unanswered(Fault),
    Final(Fault),
}

impl<'a> Stream<'a> {
    /// Asks the job's first source until it is told another one.
    pub(super) fn new(parts: &'a Parts, job: &'a Job, turns: Arc<dyn Turns>) -> Self {
        Self {
            parts,
            job,
            source: &job.source,
            ticket: job.ticket.as_deref(),
            purse: Purse::new(turns, job.class, job.share.receive_buffer),
            begun: None,
            late: None,
        }
    }

    /// From here on another of the job's sources is asked: 0 is the first, then the others.
    pub(super) fn turn_to(&mut self, source: usize) {
        let other = source.checked_sub(1);
        let offer = other.and_then(|other| self.job.others.get(other));
        (self.source, self.ticket) = match offer {
            Some(offer) => (&offer.source, offer.ticket.as_deref()),
            None => (&self.job.source, self.job.ticket.as_deref()),
        };
    }

    /// The connection is given up in the middle of an answer. [`Stream::leave`] waits for what may
    /// be on its way there.
    pub(super) fn detach(&mut self) {
        if self.purse.detach() > 0 {
            self.late = Some(clock::now() + purse::LATE);
        }
    }

    /// SAFETY: cap. What may be on its way to connections that are given up has come when this
    /// returns: the stream holds no more than its share. One that is cut off waits the next time.
    pub(super) async fn leave(&mut self) {
        self.detach();
        if let Some(late) = self.late {
            clock::sleep_until(late).await;
            self.late = None;
        }
    }

    /// What it received, as the cap counts. Then the stream is free for others.
    pub(super) async fn close(mut self) -> u64 {
        self.leave().await;
        self.purse.settle().await;
        self.purse.received()
    }

    /// After the last byte that was asked for.
    pub(super) async fn finish(
        &mut self,
        connection: Connection,
        gather: Gather,
    ) -> Result<(), Fault> {
        let io = gather.end(&mut self.purse).await?;
        if !self.purse.finish() {
            let problem = "it sends more than was asked for";
            return Err(Fault::Broken(problem.to_owned()));
        }
        if let Some(io) = io {
            self.parts.pool.put(connection, io);
        }
        Ok(())
    }

    /// Asks each URL until one can be reached.
    pub(super) async fn ask(&mut self, range: &Range<u64>) -> Result<Answer, Fault> {
        let (want, source) = (&self.job.want, self.source);
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

    async fn ask_at(&mut self, place: &Place, range: &Range<u64>) -> Result<Answer, Failed> {
        self.purse.begin(range.end - range.start).await?;
        self.begun = self.begun.or(Some((clock::now(), self.purse.waited())));
        let buffer = self.job.share.receive_buffer;
        while let Some((kept, mut io)) = self.parts.pool.take(&place.door, buffer) {
            self.purse.attach(Arc::clone(&kept.meter));
            // What is read of it here counts for this answer.
            let heard = match self.purse.is_fresh() {
                true => pool::listen(io.as_mut()),
                false => Heard::Words,
            };
            match heard {
                Heard::Nothing => match self.send(place, range, (kept, io), true).await {
                    Err(Failed::Unanswered(fault)) => {
                        tracing::debug!(%fault, "a kept connection ends; trying another");
                        self.detach();
                    }
                    other => return other,
                },
                Heard::Words => self.detach(),
                // Nothing more comes, and what came counts.
                Heard::End => drop(self.purse.finish()),
            }
            self.purse.begin(range.end - range.start).await?;
        }
        let meter = Arc::default();
        self.purse.attach(Arc::clone(&meter));
        let dialler = &self.parts.dialler;
        match dialler.open(self.source, place, meter, buffer).await {
            Ok(fresh) => self.send(place, range, fresh, false).await,
            Err(fault) => {
                self.detach();
                Err(Failed::Unreached(fault))
            }
        }
    }

    async fn send(
        &mut self,
        place: &Place,
        range: &Range<u64>,
        (connection, io): (Connection, Box<dyn Io>),
        is_kept: bool,
    ) -> Result<Answer, Failed> {
        let request = self.request(place, range).map_err(Failed::Final)?;
        let within = self.parts.limits.head;
        self.purse.asked(true);
        let (head, body) = match exchange(io, request, within).await {
            Ok(answer) => answer,
            Err(Unanswered { has_ended, fault }) => {
                self.purse.asked(!has_ended);
                return Err(match has_ended && is_kept {
                    true => Failed::Unanswered(fault),
                    false => Failed::Final(fault),
                });
            }
        };
        let asked = Asked {
            range: range.clone(),
            length: self.job.want.length,
            etag: self.source.etag.as_deref(),
            digest: self.job.want.digest,
        };
        match answer::check(head.status, &head.headers, &asked) {
            Ok(()) => Ok(Answer { connection, body }),
            Err(fault) => Err(Failed::Final(self.refused(connection, body, fault).await)),
        }
    }

    /// A short refusal leaves the connection as good as it was, and may say why. A long one ends
    /// it: the next request has one of its own, and what came on this one counts.
    async fn refused(&mut self, connection: Connection, mut body: Body, fault: Fault) -> Fault {
        let mut told = Vec::new();
        let mut reading = (&mut body).take(REFUSAL_BYTES_MAX as u64);
        let read = clock::within(REFUSAL_TIME_MAX, reading.read_to_end(&mut told)).await;
        let is_whole = matches!(read, Ok(Ok(_))) && body.is_at_end();
        if is_whole && self.purse.finish() {
            if let Some(io) = body.into_io() {
                self.parts.pool.put(connection, io);
            }
        } else {
            drop((connection, body));
            self.leave().await;
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
        if let Some(etag) = &self.source.etag {
            request = request.header(header::IF_MATCH, etag);
        }
        if let Some(text) = self.ticket {
            let scheme = ticket::SCHEME;
            request = request.header(header::AUTHORIZATION, format!("{scheme} {text}"));
        }
        let refused = |_| Fault::Refused("its URL, ETag or ticket cannot be sent".into());
        request.body(Empty::new()).map_err(refused)
    }

    /// From its first request on, without waiting for turns.
    pub(super) fn seconds(&self) -> f64 {
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
