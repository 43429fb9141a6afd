//! What the kernel knows of a TCP connection: `TCP_INFO`, and which congestion control runs.
//! Called by `serve` at the end of some responses; changes nothing.
//!
//! I/O: one system call each that never waits.

use super::socket_option;
use crate::units::BytesPerSecond;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The part of the kernel's figures that somebody reads. Counts are since the connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed round trip.
    pub rtt: Duration,
    /// The shortest round trip of late; `None` before the first.
    pub min_rtt: Option<Duration>,
    /// What the kernel last saw delivered.
    pub delivery_rate: BytesPerSecond,
    /// `delivery_rate` was bounded by what there was to send, not by the path.
    pub is_app_limited: bool,
    /// The cap in force; `None`: none.
    pub max_pacing_rate: Option<BytesPerSecond>,
    /// Handed to the network, repetitions included.
    pub bytes_sent: u64,
    /// Of these, sent again.
    pub bytes_retrans: u64,
    /// What the other end has confirmed.
    pub bytes_acked: u64,
    /// Segments that are unacknowledged repetitions.
    pub retrans: u32,
    /// Segments believed lost.
    pub lost: u32,
    /// Segments sent again.
    pub total_retrans: u32,
    /// Time with something under way or waiting to go. The kernel counts in ticks of 1 to 10 ms.
    pub busy_time: Duration,
    /// Of it: waiting for the other end to read.
    pub rwnd_limited: Duration,
    /// Of it: waiting for room in our own socket buffer.
    pub sndbuf_limited: Duration,
}

/// The head of `struct tcp_info` of `linux/tcp.h`, whose layout only ever grows at its end. The
/// fields up to `bytes_retrans` are there since Linux 4.19.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    states: [u8; 6],
    scales: u8,
    /// The lowest bit: the delivery rate is limited by the application.
    flags: u8,
    timers_and_segments: [u32; 6],
    lost: u32,
    retrans: u32,
    fackets_to_rcv_ssthresh: [u32; 7],
    rtt: u32,
    rttvar_to_rcv_space: [u32; 7],
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out_in_notsent: [u32; 3],
    min_rtt: u32,
    data_segs_in_out: [u32; 2],
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
    delivered: [u32; 2],
    bytes_sent: u64,
    bytes_retrans: u64,
}

/// `TCP_INFO`. An error from a kernel that is too old to know all of [`TcpInfo`].
pub fn info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut bytes = [0_u8; size_of::<Raw>()];
    let length = socket_option::read(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut bytes)?;
    if length != bytes.len() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: `Raw` is plain integers, for which every value of their bytes is valid.
    let raw: Raw = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
    Ok(TcpInfo::from(raw))
}

/// `TCP_CONGESTION`: `cubic`, `bbr` …
pub fn congestion_control(socket: BorrowedFd<'_>) -> io::Result<String> {
    // TCP_CA_NAME_MAX of the kernel.
    let mut name = [0_u8; 16];
    socket_option::read(socket, libc::IPPROTO_TCP, libc::TCP_CONGESTION, &mut name)?;
    let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

impl From<Raw> for TcpInfo {
    fn from(raw: Raw) -> Self {
        let micros = Duration::from_micros;
        Self {
            rtt: micros(raw.rtt.into()),
            min_rtt: (raw.min_rtt != u32::MAX).then(|| micros(raw.min_rtt.into())),
            delivery_rate: BytesPerSecond(raw.delivery_rate),
            is_app_limited: raw.flags & 1 != 0,
            max_pacing_rate: (raw.max_pacing_rate != u64::MAX)
                .then_some(BytesPerSecond(raw.max_pacing_rate)),
            bytes_sent: raw.bytes_sent,
            bytes_retrans: raw.bytes_retrans,
            bytes_acked: raw.bytes_acked,
            retrans: raw.retrans,
            lost: raw.lost,
            total_retrans: raw.total_retrans,
            busy_time: micros(raw.busy_time),
            rwnd_limited: micros(raw.rwnd_limited),
            sndbuf_limited: micros(raw.sndbuf_limited),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pacing;
    use std::io::Read;
    use std::io::Write;
    use std::mem::offset_of;
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(offset_of!(Raw, lost), 32);
        assert_eq!(offset_of!(Raw, rtt), 68);
        assert_eq!(offset_of!(Raw, total_retrans), 100);
        assert_eq!(offset_of!(Raw, max_pacing_rate), 112);
        assert_eq!(offset_of!(Raw, bytes_acked), 120);
        assert_eq!(offset_of!(Raw, min_rtt), 148);
        assert_eq!(offset_of!(Raw, delivery_rate), 160);
        assert_eq!(offset_of!(Raw, busy_time), 168);
        assert_eq!(offset_of!(Raw, sndbuf_limited), 184);
        assert_eq!(offset_of!(Raw, bytes_sent), 200);
        assert_eq!(size_of::<Raw>(), 216);
    }

    #[test]
    fn a_connection_tells_what_it_sent_and_how_fast_it_may() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let before = info(near.as_fd()).unwrap();
        assert_eq!(before.max_pacing_rate, None);
        let rate = BytesPerSecond(1_000_000);
        pacing::set_max_pacing_rate(near.as_fd(), rate).unwrap();
        near.write_all(&[7; 5_000]).unwrap();
        far.read_exact(&mut [0; 5_000]).unwrap();
        // The answer acknowledges what it answers.
        far.write_all(b"done").unwrap();
        near.read_exact(&mut [0; 4]).unwrap();
        let after = info(near.as_fd()).unwrap();
        assert_eq!(after.max_pacing_rate, Some(rate));
        assert_eq!(after.bytes_sent - after.bytes_retrans, 5_000);
        assert_eq!(after.bytes_acked - before.bytes_acked, 5_000);
        // Shorter than a tick: it may be nothing.
        assert!(after.busy_time < Duration::from_secs(5));
        assert!(after.rtt > Duration::ZERO);
        assert!(after.min_rtt.is_some());
        pacing::lift_max_pacing_rate(near.as_fd()).unwrap();
        assert_eq!(info(near.as_fd()).unwrap().max_pacing_rate, None);
        assert!(!congestion_control(near.as_fd()).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_tcp_socket_has_no_figures() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(info(near.as_fd()).is_err());
        assert!(congestion_control(near.as_fd()).is_err());
    }
}
