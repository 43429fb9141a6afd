//! Bytes are paid for before they may reach the wire, and no byte twice.

use crate::lab::fetcher;
use crate::proxy::Behind;
use crate::proxy::Proxy;
use crate::proxy::Spoil;
use crate::world::LIMITS;
use crate::world::Shelf;
use crate::world::Till;
use crate::world::bytes;
use crate::world::job;
use oca::clock;
use oca::fill::Fault;
use oca::fill::Fetch as _;
use oca::object::CHUNK_BYTES;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

const LENGTH: usize = 6_000_000;

/// What this side of a connection may hold unsent, so that what was written has arrived but for
/// this.
const SEND_BUFFER: usize = 16 << 10;

/// A source that sends as fast as it can and counts what the kernel took. `segment`: the largest
/// that it sends; none: as the interface has it.
async fn eager_source(content: bytes::Bytes, segment: Option<u32>) -> (u16, Arc<AtomicU64>, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = socket2::SockRef::from(&listener);
    if let Some(bytes) = segment {
        socket.set_tcp_mss(bytes).unwrap();
    }
    socket.set_send_buffer_size(SEND_BUFFER).unwrap();
    let held = socket.send_buffer_size().unwrap() as u64;
    let written = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&written);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let last = content.len() - 1;
        let head = format!(
            "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-{last}/{}\r\nContent-Length: {}\r\n\r\n",
            content.len(),
            content.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut rest = &content[..];
        while !rest.is_empty() {
            let Ok(sent) = stream.write(&rest[..rest.len().min(4096)]).await else {
                return;
            };
            counting.fetch_add(sent as u64, Ordering::Relaxed);
            rest = &rest[sent..];
        }
        let _ = stream.read(&mut request).await;
    });
    (port, written, held)
}

/// Waits until it does not change any more.
async fn settled(figure: &AtomicU64) -> u64 {
    let mut before = figure.load(Ordering::Relaxed);
    loop {
        clock::sleep(Duration::from_millis(100)).await;
        let now = figure.load(Ordering::Relaxed);
        if now == before {
            return now;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_source_never_gets_more_onto_the_wire_than_was_paid_for() {
    let content = bytes(1, LENGTH);
    let (port, written, held) = eager_source(content.clone(), None).await;
    let shelf = Shelf::default();
    let till = Till::tight();
    let job = job(&content, format!("http://127.0.0.1:{port}/x"));
    let fetching = fetcher(&shelf).fetch(job, till.clone());
    let fetching = tokio::spawn(fetching);
    // Longer without turns than a silent source may be silent.
    clock::sleep(LIMITS.stall + Duration::from_millis(200)).await;
    assert_eq!(settled(&written).await, 0, "nothing is asked for unpaid");
    let mut grown = 0;
    for _ in 0..4 {
        till.hand_out(1_000);
        let sent = settled(&written).await;
        let paid = till.money().taken;
        assert!(sent <= paid + held, "{sent} sent, {paid} paid");
        assert!(sent > grown, "turns move it on");
        grown = sent;
    }
    till.hand_out(100_000);
    let outcome = fetching.await.unwrap();
    assert_eq!(outcome.end, Ok(()), "waiting for turns is not slowness");
    let money = till.money();
    assert_eq!(till.spent(), outcome.received, "{money:?}");
    assert!(outcome.received > LENGTH as u64, "the frames count");
    assert!(outcome.received < LENGTH as u64 * 11 / 10, "{outcome:?}");
    // Turns of 64 KiB, and the rest in a few shorter ones.
    assert!(money.taken / money.takes >= 60 << 10, "{money:?}");
    assert!(outcome.seconds < 2.0, "{outcome:?}");
    assert!(money.takes < 120, "{money:?}");
}

/// The judge is arithmetic: so many bytes in segments of at most so many have at least so many
/// frames, whatever the box thinks of its path.
#[tokio::test]
async fn short_segments_are_paid_for_as_the_wire_carries_them_and_long_ones_are_no_dearer() {
    const SEGMENT: u32 = 536;
    const FRAME: u64 = 14 + 20 + 32;
    let content = bytes(1, LENGTH);
    for segment in [Some(SEGMENT), None] {
        let (port, _, _) = eager_source(content.clone(), segment).await;
        let till = Till::open();
        let job = job(&content, format!("http://127.0.0.1:{port}/x"));
        let outcome = fetcher(&Shelf::default()).fetch(job, till.clone()).await;
        assert_eq!(outcome.end, Ok(()));
        assert_eq!(till.spent(), outcome.received, "{:?}", till.money());
        let length = LENGTH as u64;
        let carried = match segment {
            Some(most) => length + length / u64::from(most) * FRAME,
            None => length,
        };
        assert!(
            outcome.received >= carried,
            "{outcome:?}, {carried} carried"
        );
        assert!(
            outcome.received < carried * 102 / 100,
            "{outcome:?}, {carried} carried"
        );
        // What is bought and never comes is nobody's for as long.
        let money = till.money();
        assert!(money.given_back < length / 50, "{money:?}");
    }
}

#[tokio::test]
async fn when_the_turns_end_the_transfer_stops_and_goes_on_another_night() {
    let content = bytes(1, LENGTH);
    let proxy = Proxy::start(Behind::Object(content.clone())).await;
    let shelf = Shelf::default();
    let fetcher = fetcher(&shelf);
    let job = job(&content, format!("http://127.0.0.1:{}/x", proxy.port));
    let mut nights = 0;
    let mut spent = 0;
    while shelf.published(job.want.digest).is_none() {
        let till = Till::closing_at(2_000_000);
        let before = shelf.staged(job.want.digest);
        let outcome = fetcher.fetch(job.clone(), till.clone()).await;
        let staged = shelf.staged(job.want.digest) - before;
        assert_eq!(outcome.verified, staged);
        assert_eq!(till.spent(), outcome.received);
        assert!(outcome.received <= 2_000_000);
        let fine = matches!(outcome.end, Ok(()) | Err(Fault::Stopped));
        assert!(fine, "{outcome:?}");
        spent += till.spent();
        nights += 1;
        assert!(nights < 10, "no progress");
    }
    assert_eq!(shelf.published(job.want.digest), Some(content));
    assert!(nights >= 4, "{nights}");
    // Each stop costs a chunk in part and one receive buffer, counted as if it had come.
    let most = LENGTH as u64 * 11 / 10 + nights * (CHUNK_BYTES + 700_000);
    assert!(spent < most, "{spent} spent, {most} expected");
}

#[tokio::test]
async fn small_objects_cost_little_and_what_did_not_come_is_given_back() {
    let content = bytes(1, 2_000);
    let proxy = Proxy::start(Behind::Object(content.clone())).await;
    let shelf = Shelf::default();
    let till = Till::open();
    let job = job(&content, format!("http://127.0.0.1:{}/x", proxy.port));
    proxy.spoil([Spoil::Status("404 No")]);
    let fetcher = fetcher(&shelf);
    let outcome = fetcher.fetch(job.clone(), till.clone()).await;
    assert_eq!(outcome.end, Err(Fault::NotFound));
    assert!(till.spent() < 1_000, "{:?}", till.money());
    let outcome = fetcher.fetch(job, till.clone()).await;
    assert_eq!(outcome.end, Ok(()));
    assert!(till.spent() < 4_000, "{:?}", till.money());
    assert!(till.money().taken < 100_000, "{:?}", till.money());
}
