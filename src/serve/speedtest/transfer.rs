//! The bytes of a speed test on their way: down in turns, up and forgotten.
//!
//! `exchange` and `connection` call it. A transfer that takes longer than any honest test needs is
//! cut, so that its place is free again.
//!
//! I/O: reads and writes the stream, sleeps until its turn.

use super::super::answer::Answer;
use super::super::answer::Refused;
use super::super::at_once::Begun;
use super::super::connection::Connection;
use super::super::exchange::Exchange;
use super::super::pages::Pages;
use super::super::range::Part;
use super::super::request::Fault;
use super::super::send;
use super::super::send::Body;
use super::super::send::Cut;
use super::Measure;
use super::is_probe;
use super::piece;
use crate::clock;
use crate::clock::Instant;
use crate::store::ObjectFile;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

/// No transfer takes longer, however it goes on: clients measure for some fifteen seconds.
const TRANSFER_TIME: Duration = Duration::from_secs(60);

/// RFC 9110 section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes that arrived within the present period of `limits.progress_time`.
struct Progress {
    since: Instant,
    moved: u64,
}

impl Connection {
    /// Sends the head that waits in `out` and then `part` of the file, in turns with others.
    pub(in crate::serve) async fn send_measured(
        &mut self,
        file: &Arc<ObjectFile>,
        part: Part,
    ) -> send::Sent {
        let speedtest = Arc::clone(&self.worker.house.speedtest);
        let ends = clock::now() + TRANSFER_TIME;
        let (mut first, mut body) = (part.first, 0);
        loop {
            let rate = self.settings.speedtest.rate_limit;
            let last = part.last.min(first + piece::bytes(rate) - 1);
            if !is_probe(Some(part)) {
                let (now, bytes) = (clock::now(), last - first + 1);
                let turn = speedtest.down.turn(now, bytes, rate);
                if turn >= ends {
                    let outcome = Err(Cut::Slow);
                    return send::Sent { body, outcome };
                }
                if turn > now {
                    clock::sleep_until(turn).await;
                }
            }
            let piece = Part { first, last };
            let heart = &Arc::clone(&self.worker).heart;
            let now = clock::now();
            let mut piece = Body {
                object: file,
                part: piece,
                heart,
                // A small file that every test reads stays in memory.
                pages: Pages::in_memory(file, piece, now),
            };
            let left = ends.saturating_duration_since(now);
            let sent = self.send(Some(&mut piece), Begun::default(), now);
            // What was moved of a piece that is cut here is not known, and counts as nothing.
            let sent = clock::within(left, sent).await;
            let send::Sent {
                body: moved,
                outcome,
            } = sent.unwrap_or(send::Sent {
                body: 0,
                outcome: Err(Cut::Slow),
            });
            self.out.clear();
            body += moved;
            speedtest.counts.bytes_sent.fetch_add(moved, Relaxed);
            if let Err(Cut::Read(error)) = &outcome {
                speedtest.damaged(error, clock::now());
            }
            if outcome.is_err() || last == part.last {
                return send::Sent { body, outcome };
            }
            first = last + 1;
        }
    }

    /// Receives the body of an upload, if the exchange is one: exactly that many bytes, which are
    /// counted and forgotten. Tells where in the buffer the next request begins.
    pub(in crate::serve) async fn receive(
        &mut self,
        exchange: &mut Exchange,
        head_end: usize,
    ) -> usize {
        let Answer::Speedtest(Measure::Upload(upload)) = exchange.answer else {
            return head_end;
        };
        self.buffer.drain(..head_end);
        // RFC 9110 section 10.1.1: a client that has begun to send does not wait for leave.
        if upload.expects_continue && self.buffer.is_empty() {
            self.out.clear();
            self.out.extend_from_slice(CONTINUE);
            let sent = self.send(None, Begun::default(), clock::now()).await;
            if sent.outcome.is_err() {
                exchange.answer = Answer::Refused(Refused::cut_short());
                return self.buffer.len();
            }
        }
        if let Err(refused) = self.swallow(upload.length).await {
            exchange.answer = Answer::Refused(refused);
            return self.buffer.len();
        }
        0
    }

    /// Reads and forgets `length` bytes, at the pace of all uploads.
    async fn swallow(&mut self, length: u64) -> Result<(), Refused> {
        let speedtest = Arc::clone(&self.worker.house.speedtest);
        let (begun, mut left) = (clock::now(), length);
        let ends = begun + TRANSFER_TIME;
        let mut progress = Progress {
            since: begun,
            moved: 0,
        };
        loop {
            let here =
                usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            self.buffer.drain(..here);
            left -= here as u64;
            progress.moved += here as u64;
            speedtest
                .counts
                .bytes_received
                .fetch_add(here as u64, Relaxed);
            if left == 0 {
                return Ok(());
            }
            let (now, rate) = (clock::now(), self.settings.speedtest.rate_limit);
            if now >= ends {
                return Err(Fault::SlowBody.into());
            }
            let turn = speedtest.up.turn(now, here as u64, rate);
            if turn > now {
                // The wait is ours: it is not held against the viewer.
                clock::sleep_until(turn.min(ends)).await;
                progress.since += turn - now;
            }
            self.more_of_body(ends, &mut progress).await?;
        }
    }

    /// Waits for bytes; no longer than until `ends`, and no longer than progress allows.
    async fn more_of_body(
        &mut self,
        ends: Instant,
        progress: &mut Progress,
    ) -> Result<(), Refused> {
        let limits = &self.settings.limits;
        let (transport, alarm, buffer) = (&mut self.transport, &mut self.alarm, &mut self.buffer);
        poll_fn(|cx| {
            loop {
                match transport.poll_fill(cx, buffer) {
                    Poll::Ready(Ok(0) | Err(_)) => {
                        return Poll::Ready(Err(Refused::cut_short()));
                    }
                    Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
                    Poll::Pending => {}
                }
                alarm.set(ends.min(progress.since + limits.progress_time));
                if alarm.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let now = clock::now();
                if now >= ends || progress.moved < limits.progress {
                    return Poll::Ready(Err(Fault::SlowBody.into()));
                }
                progress.since = now;
                progress.moved = 0;
            }
        })
        .await
    }
}
