//! One response on its way out: at what rate, and how it went.
//!
//! `exchange` calls [`Connection::pace`] before each response and [`Connection::note`] after it. A
//! rate holds for one response: the next one without a word from anybody is sent as fast as the
//! network takes it. The kernel is told of changes only, and asked for its figures only when enough
//! was sent for them to say something.
//!
//! I/O: asks and tells the kernel.

use super::connection::Connection;
use super::counters::add;
use super::exchange::Exchange;
use super::listener::ViewerStream;
use super::pacing;
use super::quality;
use super::quality::Note;
use super::quality::Sample;
use crate::prefix::Prefix;
use crate::sys::tcp::TcpInfo;
use crate::units::BytesPerSecond;
use std::net::IpAddr;
use std::time::Duration;

/// The kernel is asked once in so many bytes of a connection: a system call of half a microsecond
/// against the 30 that it takes to send these.
const SAMPLE_BYTES: u64 = 256 * 1024;

/// Throughput is measured over at least so much: the kernel counts time in ticks of up to 10 ms,
/// and less than a window's worth says nothing of a path.
const RATE_BYTES_MIN: u64 = 64 * 1024;
const RATE_TIME_MIN: Duration = Duration::from_millis(40);

/// What a connection remembers from one response to the next.
#[derive(Debug)]
pub(super) struct Delivery {
    network: Prefix,
    /// The rate that the kernel has.
    rate: Option<BytesPerSecond>,
    /// Sent since the kernel was asked.
    unsampled: u64,
    last: TcpInfo,
    /// Where the measure of throughput begins: no response since then was paced.
    free_since: TcpInfo,
}

impl Delivery {
    pub(super) fn new(peer: IpAddr) -> Self {
        Self {
            network: quality::network(peer),
            rate: None,
            unsampled: 0,
            last: TcpInfo::default(),
            free_since: TcpInfo::default(),
        }
    }

    /// After `bytes` more: what the kernel saw since it was last asked, if it is time to ask.
    fn sample(&mut self, bytes: u64, stream: &dyn ViewerStream) -> Option<Sample> {
        self.unsampled += bytes;
        if self.unsampled < SAMPLE_BYTES {
            return None;
        }
        self.unsampled = 0;
        let info = stream.tcp_info()?;
        let last = std::mem::replace(&mut self.last, info);
        let kbps = match self.rate {
            Some(_) => None,
            None => kbps(&self.free_since, &info),
        };
        if kbps.is_some() {
            self.free_since = info;
        }
        Some(Sample {
            acked: info.bytes_acked.saturating_sub(last.bytes_acked),
            sent: info.bytes_sent.saturating_sub(last.bytes_sent),
            retransmitted: info.bytes_retrans.saturating_sub(last.bytes_retrans),
            busy: info.busy_time.saturating_sub(last.busy_time),
            rtt: info.rtt,
            min_rtt: info.min_rtt,
            kbps,
        })
    }
}

impl Connection {
    /// Tells the kernel the rate of this response, where it is another than the last one's.
    pub(super) fn pace(&mut self, exchange: &Exchange) {
        let cmcd = exchange.cmcd.as_deref();
        let decided = pacing::rate(self.settings.pacing, exchange.token_rate, cmcd);
        let rate = decided.map(|(rate, _)| rate);
        let tally = &self.worker.quality.tally;
        if rate != self.delivery.rate {
            let set = |stream: &dyn ViewerStream| stream.set_pacing(rate).is_ok();
            if !self.transport.stream().is_some_and(set) {
                add(&tally.unpaced, 1);
                return;
            }
            self.delivery.rate = rate;
            if rate.is_none() {
                // What was sent at the old rate has arrived: the viewer asks for more.
                let now = self.transport.stream().and_then(ViewerStream::tcp_info);
                self.delivery.free_since = now.unwrap_or_default();
            }
        }
        if let Some((_, bound)) = decided {
            tally.paced(bound);
        }
    }

    /// After `bytes` of an object were sent, `self.since` now.
    pub(super) fn note(&mut self, exchange: &Exchange, bytes: u64) {
        let Some(stream) = self.transport.stream() else {
            return;
        };
        let quality = &self.worker.quality;
        let sample = self.delivery.sample(bytes, stream);
        if sample.is_some() && quality.congestion_control.get().is_none() {
            let name = stream.congestion_control();
            // Another connection of this worker cannot have been faster, and would say the same.
            let _ = name.map(|name| quality.congestion_control.set(name));
        }
        let note = Note {
            bytes,
            is_paced: self.delivery.rate.is_some(),
            cmcd: exchange.cmcd.as_deref(),
            sample,
        };
        quality.record(self.delivery.network, self.since, &note);
    }
}

/// Throughput between two looks while there was something to send, once it can be told.
fn kbps(from: &TcpInfo, to: &TcpInfo) -> Option<u64> {
    let acked = to.bytes_acked.saturating_sub(from.bytes_acked);
    let busy = to.busy_time.saturating_sub(from.busy_time);
    if acked < RATE_BYTES_MIN || busy < RATE_TIME_MIN {
        return None;
    }
    // Bits in a microsecond are Mbit/s.
    u64::try_from(u128::from(acked) * 8 * 1000 / busy.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_needs_bytes_and_time() {
        let at = |acked, millis| TcpInfo {
            bytes_acked: acked,
            busy_time: Duration::from_millis(millis),
            ..TcpInfo::default()
        };
        let since = at(1_000_000, 1_000);
        assert_eq!(kbps(&since, &at(2_250_000, 2_000)), Some(10_000));
        assert_eq!(kbps(&since, &at(1_500_000, 1_040)), Some(100_000));
        assert_eq!(kbps(&since, &at(9_000_000, 1_039)), None);
        assert_eq!(kbps(&since, &at(1_065_535, 9_000)), None);
        // A connection's figures never go back; if they did, nothing would be told.
        assert_eq!(kbps(&since, &at(0, 0)), None);
    }
}
