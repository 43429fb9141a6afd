//! Bytes are paid for before they may reach the wire, and no byte twice.

use crate::lab::fetcher;
use crate::proxy::Behind;
use crate::proxy::Proxy;
use crate::proxy::Spoil;
use crate::world::LIMITS;
use crate::world::SHARE;
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

/// What is lent to a transfer that is cut off may still be on its way: it is not saved up a second
/// time before it must have come.
#[tokio::test]
async fn what_may_still_come_to_a_transfer_that_was_cut_off_is_told_later() {
    let content = bytes(1, LENGTH);
    let proxy = Proxy::start(Behind::Object(content.clone())).await;
    proxy.spoil([Spoil::Stall(1_000_000)]);
    let till = Till::open();
    let job = job(&content, format!("http://127.0.0.1:{}/x", proxy.port));
    let fetching = fetcher(&Shelf::default()).fetch(job, till.clone());
    let cut = clock::within(LIMITS.stall / 2, fetching).await;
    assert!(cut.is_err(), "it waits for the rest");
    let (came, spent) = (till.money().came, till.spent());
    let buffer = 2 * u64::from(SHARE.receive_buffer);
    assert!(came >= 1_000_000, "{came}");
    assert!(came <= 1_100_000, "{came}: what has come, and no more");
    assert!(
        spent >= came + buffer - 100_000,
        "{spent} counted, {came} came"
    );
    clock::sleep(Duration::from_millis(1_500)).await;
    assert_eq!((till.money().came, till.spent()), (spent, spent));
}

/// As on one that was made for it: nothing of the answer was read yet.
#[tokio::test]
async fn what_may_still_come_on_a_kept_connection_is_told_later() {
    let content = bytes(1, LENGTH);
    let proxy = Proxy::start(Behind::Object(content.clone())).await;
    let (shelf, till) = (Shelf::default(), Till::open());
    let fetcher = fetcher(&shelf);
    let job = job(&content, format!("http://127.0.0.1:{}/x", proxy.port));
    assert_eq!(fetcher.fetch(job.clone(), till.clone()).await.end, Ok(()));
    let before = till.spent();
    shelf.lose(job.want.digest, 0);
    proxy.spoil([Spoil::Silent]);
    let fetching = fetcher.fetch(job, till.clone());
    assert!(clock::within(LIMITS.stall / 2, fetching).await.is_err());
    assert_eq!(proxy.connections(), 1);
    let buffer = 2 * u64::from(SHARE.receive_buffer);
    let held = till.spent() - before;
    assert!(held >= buffer.min(LENGTH as u64) - 1_000, "{held} counted");
    let told = till.money().came - before;
    assert!(told < 1_000, "{told} have come");
}

/// A source that answers each request of one connection, with so much more than the answer.
async fn generous_source(content: bytes::Bytes, more: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let length = content.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let mut answer = head.into_bytes();
        answer.extend_from_slice(&content);
        answer.resize(answer.len() + more, b'x');
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            // In one piece: all of it is there before a byte of it is read.
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    });
    port
}

#[tokio::test]
async fn junk_behind_a_good_answer_is_paid_for_and_its_source_is_broken() {
    const MORE: usize = 48 << 10;
    let content = bytes(1, 8 << 10);
    let port = generous_source(content.clone(), MORE).await;
    let (shelf, till) = (Shelf::default(), Till::open());
    let fetcher = fetcher(&shelf);
    let job = job(&content, format!("http://127.0.0.1:{port}/x"));
    let digest = job.want.digest;
    let outcome = fetcher.fetch(job.clone(), till.clone()).await;
    assert!(matches!(outcome.end, Err(Fault::Broken(_))), "{outcome:?}");
    let carried = (content.len() + MORE) as u64;
    assert!(outcome.received >= carried, "{outcome:?}, {carried} came");
    assert_eq!(till.spent(), outcome.received, "{:?}", till.money());
    assert_eq!(till.money().came, till.spent(), "all of it has come");
    // The right bytes are there: another try has nothing to ask for.
    assert_eq!(shelf.staged(digest), content.len() as u64);
    let outcome = fetcher.fetch(job, till).await;
    assert_eq!((outcome.end, outcome.received), (Ok(()), 0));
}

/// A source that has always another part, and refuses with as much as the connection takes.
async fn wordy_source() -> (u16, Arc<AtomicU64>, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = socket2::SockRef::from(&listener);
    socket.set_send_buffer_size(SEND_BUFFER).unwrap();
    let held = socket.send_buffer_size().unwrap() as u64;
    let written = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&written);
    tokio::spawn(async move {
        let parts = ["0-1048575", "2097152-3145727"];
        for part in parts.into_iter().cycle() {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let head = format!(
                "HTTP/1.1 404 Not Found\r\nOCA-Held: {part}\r\nContent-Length: 60000000\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            while let Ok(sent) = stream.write(&[b'x'; 4096]).await {
                counting.fetch_add(sent as u64, Ordering::Relaxed);
            }
        }
    });
    (port, written, held)
}

#[tokio::test]
async fn long_refusals_are_paid_for_one_after_the_other() {
    let content = bytes(1, LENGTH);
    let (port, written, held) = wordy_source().await;
    let till = Till::open();
    let job = job(&content, format!("http://127.0.0.1:{port}/x"));
    let outcome = fetcher(&Shelf::default()).fetch(job, till.clone()).await;
    assert!(
        matches!(outcome.end, Err(Fault::NotYet { .. })),
        "{outcome:?}"
    );
    let carried = settled(&written).await - 2 * held;
    assert!(carried > 150_000, "{carried}: it had something to say");
    assert!(outcome.received >= carried, "{outcome:?}, {carried} came");
    assert_eq!(till.spent(), outcome.received, "{:?}", till.money());
}

#[tokio::test]
async fn a_kept_connection_is_for_transfers_of_its_own_receive_buffer() {
    let content = bytes(1, 100_000);
    let proxy = Proxy::start(Behind::Object(content.clone())).await;
    let shelf = Shelf::default();
    let fetcher = fetcher(&shelf);
    let small = 64 << 10;
    for (buffer, connections) in [(128 << 10, 1), (128 << 10, 1), (small, 2), (small, 2)] {
        let mut job = job(&content, format!("http://127.0.0.1:{}/x", proxy.port));
        job.share.receive_buffer = buffer;
        let digest = job.want.digest;
        let outcome = fetcher.fetch(job, Till::open()).await;
        assert_eq!(outcome.end, Ok(()));
        assert_eq!(proxy.connections(), connections, "{buffer} bytes");
        // It has to come again.
        shelf.lose(digest, 0);
    }
}
