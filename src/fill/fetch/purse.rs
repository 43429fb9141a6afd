//! Pays for bytes before they may come.
//!
//! A source can put on the wire what has been read plus one receive buffer. [`Purse::poll_pay`]
//! therefore buys turns for that much and a little more, ahead of the reading, and raises the
//! connection's allowance ([`super::meter`]) by what was bought, less the buffer. Turns are told
//! what has come: what is bought and has not may come in a burst. What was bought and never came
//! goes back when the purse is dropped, however the transfer ends.
//!
//! I/O: waits for turns.

use super::meter::IDLE_BYTES;
use super::meter::Meter;
use crate::clock;
use crate::clock::Instant;
use crate::fill::Class;
use crate::fill::Closed;
use crate::fill::Turns;
use crate::fill::overhead::Framing;
use futures_util::future::BoxFuture;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;

/// Bought beyond the receive buffer, so that reading goes on while the next turn is waited for: a
/// quarter of the buffer within these. The least is what nobody buys turns in the middle of.
const LEAD_BYTES_MIN: u64 = HEAD_BYTES;
const LEAD_BYTES_MAX: u64 = 64 << 10;

/// One turn: a quarter of the receive buffer, and no more than this. A shorter one only for what
/// is left.
const QUANTUM_BYTES_MAX: u64 = 128 << 10;

/// Handshake and head of an answer.
const HEAD_BYTES: u64 = 24 << 10;

/// What TLS adds if records are as short as a segment: 22 bytes in 1,400.
const RECORD_SHARE: u64 = 60;

/// As long as part of the body is missing, this much more may be on its way.
const TAIL_BYTES: u64 = 16 << 10;

/// What frames the last of it.
const END_BYTES: u64 = 1 << 10;

/// The other end of a connection that is gone hears of it within a round trip, and what it sent
/// until then has come.
pub(super) const LATE: Duration = Duration::from_secs(1);

/// Counts in bytes at the socket; pays for the frames around them too, as they turn out to be.
pub(super) struct Purse {
    turns: Arc<dyn Turns>,
    class: Class,
    /// What the kernel may hold of a connection.
    buffer: u64,
    paid: u64,
    paid_wire: u64,
    /// What turns know to have come.
    told_wire: u64,
    /// On connections that are done with: at the socket, and as the cap counts.
    used_before: u64,
    wire_before: u64,
    connection: Option<Arc<Meter>>,
    /// A request is out on it: an answer may be on its way although nothing was read.
    is_asked: bool,
    /// Of the answer at hand, as it was asked for.
    body: u64,
    /// What that answer needs in all, `used_before` included.
    whole: u64,
    paying: Option<Paying>,
    waited: Duration,
    blocked_before: Duration,
}

struct Paying {
    bytes: u64,
    wire: u64,
    turn: BoxFuture<'static, Result<(), Closed>>,
}

/// What the kernel may hold of a connection, for a purse that never has more than `ahead` bytes
/// bought that have not come: buffer, lead and turn.
pub(super) fn buffer_for(ahead: u64) -> u64 {
    let with_quarters = ahead * 2 / 3;
    let with_least_lead = ahead.saturating_sub(LEAD_BYTES_MIN) * 4 / 5;
    with_quarters.min(with_least_lead)
}

/// The most that a purse has bought and not received: buffer, lead, and the turn that goes beyond
/// them. `buffer`: as `SO_RCVBUF` is set.
pub(super) fn hold_of(buffer: u32) -> u64 {
    let buffer = 2 * u64::from(buffer);
    buffer + lead(buffer) + turn(buffer)
}

fn lead(buffer: u64) -> u64 {
    (buffer / 4).clamp(LEAD_BYTES_MIN, LEAD_BYTES_MAX)
}

fn turn(buffer: u64) -> u64 {
    (buffer / 4).clamp(1, QUANTUM_BYTES_MAX)
}

impl Purse {
    /// `buffer`: as `SO_RCVBUF` is set, which the kernel doubles.
    pub(super) fn new(turns: Arc<dyn Turns>, class: Class, buffer: u32) -> Self {
        Self {
            turns,
            class,
            buffer: 2 * u64::from(buffer),
            paid: 0,
            paid_wire: 0,
            told_wire: 0,
            used_before: 0,
            wire_before: 0,
            connection: None,
            is_asked: false,
            body: 0,
            whole: 0,
            paying: None,
            waited: Duration::ZERO,
            blocked_before: Duration::ZERO,
        }
    }

    /// An answer of `body` bytes is to be asked for: waits for its first turn.
    pub(super) async fn begin(&mut self, body: u64) -> Result<(), Closed> {
        self.body = body;
        self.whole = self.used() + body + body / RECORD_SHARE + HEAD_BYTES;
        let start = clock::now();
        let paid = poll_fn(|context| self.poll_pay(context, body)).await;
        self.waited += clock::now() - start;
        paid
    }

    /// The connection on which bytes come from here on. SAFETY: cap. The one before it is counted:
    /// it was read to its end, or detached.
    pub(super) fn attach(&mut self, meter: Arc<Meter>) {
        debug_assert!(self.connection.is_none(), "bytes that count for nobody");
        meter.start(0);
        self.is_asked = false;
        self.connection = Some(meter);
        self.allow();
    }

    /// A request goes out, or no answer comes to it any more.
    pub(super) fn asked(&mut self, is_asked: bool) {
        self.is_asked = is_asked;
    }

    /// Nothing came while the connection waited to be used, but perhaps a goodbye.
    pub(super) fn is_fresh(&self) -> bool {
        let meter = self.connection.as_ref();
        meter.is_none_or(|meter| meter.beyond() <= IDLE_BYTES)
    }

    /// The answer is read to its end. `false`: its connection had better not be used again, for the
    /// source has sent more than was asked for; that counts, and is paid for with what comes next.
    #[must_use]
    pub(super) fn finish(&mut self) -> bool {
        self.withdraw();
        let Some(meter) = self.connection.clone() else {
            return false;
        };
        let beyond = meter.beyond();
        self.part_with(&meter, meter.read() + beyond);
        self.tell();
        meter.rest();
        beyond <= IDLE_BYTES
    }

    /// The connection is done with in the middle of an answer: what the kernel may hold of it
    /// counts, for it may be on its way. Returns that: it is over after [`LATE`].
    pub(super) fn detach(&mut self) -> u64 {
        self.withdraw();
        let Some(meter) = self.connection.clone() else {
            return 0;
        };
        let beyond = meter.beyond();
        self.tell();
        let read = meter.read();
        let may_come = self.is_asked || read > 0;
        let left = if may_come { self.buffer } else { 0 };
        let most = self.paid.saturating_sub(self.used_before);
        self.part_with(&meter, (read + left).min(most).max(read + beyond));
        let late = self.wire(self.used_before).min(self.paid_wire);
        let late = late.saturating_sub(self.told_wire);
        self.told_wire += late;
        tell_later(&self.turns, late);
        late
    }

    /// Nothing more is wanted for now. An ask that nobody looks after any more holds up those
    /// behind it: of all who wait one wakes up for the others.
    pub(super) fn withdraw(&mut self) {
        self.paying = None;
    }

    /// `used`: bytes of it that count.
    fn part_with(&mut self, meter: &Meter, used: u64) {
        self.connection = None;
        self.used_before += used;
        self.wire_before += meter.framing().wire(used);
        self.blocked_before += meter.blocked(clock::now());
    }

    /// Buys what is due while `rest` bytes of the body are missing. Pending: a turn is waited for.
    pub(super) fn poll_pay(
        &mut self,
        context: &mut Context<'_>,
        rest: u64,
    ) -> Poll<Result<(), Closed>> {
        self.tell();
        loop {
            if self.paying.is_none() {
                let bytes = self.due(rest);
                if bytes == 0 {
                    self.allow();
                    return Poll::Ready(Ok(()));
                }
                let wire = self.price(bytes);
                let (turns, class) = (Arc::clone(&self.turns), self.class);
                let turn = Box::pin(async move { turns.lend(class, wire).await });
                self.paying = Some(Paying { bytes, wire, turn });
            }
            if let Some(paying) = &mut self.paying {
                let taken = std::task::ready!(paying.turn.as_mut().poll(context));
                let (bytes, wire) = (paying.bytes, paying.wire);
                self.paying = None;
                taken?;
                self.paid += bytes;
                self.paid_wire += wire;
                self.allow();
            }
        }
    }

    /// Frames that came after the last payment and were more than was thought.
    pub(super) async fn settle(&mut self) {
        let short = self.wire(self.used()).saturating_sub(self.paid_wire);
        if short > 0 && self.turns.lend(self.class, short).await.is_ok() {
            self.paid_wire += short;
        }
    }

    /// Bytes at the socket, all connections together.
    pub(super) fn used(&self) -> u64 {
        let read = self.connection.as_ref().map_or(0, |meter| meter.read());
        self.used_before + read
    }

    /// Of the connection at hand.
    pub(super) fn read(&self) -> u64 {
        self.connection.as_ref().map_or(0, |meter| meter.read())
    }

    /// Of the connection at hand.
    pub(super) fn blocked(&self, now: Instant) -> Duration {
        let meter = self.connection.as_ref();
        meter.map_or(Duration::ZERO, |meter| meter.blocked(now))
    }

    /// Time without turns, from the first connection on.
    pub(super) fn waited(&self) -> Duration {
        self.waited + self.blocked_before + self.blocked(clock::now())
    }

    /// As the cap counts them.
    pub(super) fn received(&self) -> u64 {
        let received = self.wire(self.used()).min(self.paid_wire);
        received.max(self.told_wire)
    }

    /// The first `bytes` of the transfer as the cap counts them.
    fn wire(&self, bytes: u64) -> u64 {
        let framing = self.connection.as_ref().map(|meter| meter.framing());
        let here = bytes.saturating_sub(self.used_before);
        self.wire_before + framing.unwrap_or(Framing::UNKNOWN).wire(here)
    }

    /// What so many bytes more cost. The frames of those before are known better each time: too
    /// little for them is made up for, too much is set off.
    fn price(&self, bytes: u64) -> u64 {
        let wire = self.wire(self.paid + bytes);
        wire.saturating_sub(self.paid_wire).max(bytes)
    }

    fn due(&mut self, rest: u64) -> u64 {
        let used = self.used();
        self.whole = if rest < self.body {
            // The head is there, and whatever is not body: bought turns that nothing comes in
            // are lost to everybody.
            used + rest + rest / RECORD_SHARE + END_BYTES
        } else {
            // Records shorter than was thought; and the end of a body is more than its last byte.
            self.whole.max(used + rest.min(TAIL_BYTES) + END_BYTES)
        };
        let wanted = (used + self.buffer + lead(self.buffer)).min(self.whole);
        if self.paid >= wanted {
            return 0;
        }
        turn(self.buffer).min(self.whole - self.paid)
    }

    /// What has come was bought before; framing that is known better may make it less.
    fn tell(&mut self) {
        let arrived = self.connection.as_ref().map_or(0, |meter| meter.arrived());
        let came = self.wire(self.used_before + arrived).min(self.paid_wire);
        if came > self.told_wire {
            self.turns.came(came - self.told_wire);
            self.told_wire = came;
        }
    }

    fn allow(&self) {
        if let Some(meter) = &self.connection {
            let here = self.paid.saturating_sub(self.used_before);
            // When all that can come is paid for, the buffer is in it.
            let kept = if self.paid >= self.whole {
                0
            } else {
                self.buffer
            };
            meter.allow(here.saturating_sub(kept));
        }
    }
}

/// What may be on its way to a connection that is gone is over after [`LATE`].
fn tell_later(turns: &Arc<dyn Turns>, bytes: u64) {
    if bytes == 0 {
        return;
    }
    let turns = Arc::clone(turns);
    match Handle::try_current() {
        Ok(runtime) => {
            runtime.spawn(async move {
                clock::sleep(LATE).await;
                turns.came(bytes);
            });
        }
        // The process ends.
        Err(_) => turns.came(bytes),
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.detach();
        self.tell();
        let unused = self.paid_wire - self.told_wire;
        if unused > 0 {
            self.turns.give_back(self.class, unused);
        }
    }
}

impl fmt::Debug for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purse")
            .field("paid", &self.paid)
            .field("used_before", &self.used_before)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::BUILT;
    use crate::fill::Limits;
    use crate::fill::MemoryKeeper;
    use crate::fill::Pace;
    use crate::units::Bytes;
    use crate::units::BytesPerSecond;
    use std::pin::pin;

    /// The first of those who wait wakes up for all; one that goes on to other things must not.
    #[tokio::test(start_paused = true)]
    async fn a_purse_that_is_done_or_given_up_holds_up_nobodys_turn() {
        for is_finished in [true, false] {
            let limits = Limits {
                rate: BytesPerSecond(1_000_000),
                night: Bytes(1 << 40),
                urgent: Bytes(0),
            };
            let pace = Pace::load(limits, Arc::new(MemoryKeeper::default()), BUILT);
            pace.open(Class::Night, None);
            let turns: Arc<dyn Turns> = Arc::new(pace);
            let purse = || Purse::new(Arc::clone(&turns), Class::Night, 16 << 10);
            let (mut first, mut second) = (purse(), purse());
            {
                let mut asking = pin!(first.begin(1 << 20));
                assert!(futures_util::poll!(&mut asking).is_pending());
            }
            if is_finished {
                let _ = first.finish();
            } else {
                first.detach();
            }
            let paid = clock::within(Duration::from_secs(10), second.begin(1 << 20)).await;
            assert_eq!(paid, Ok(Ok(())), "nobody woke up");
        }
    }
}
