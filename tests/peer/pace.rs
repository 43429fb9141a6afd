//! How fast it goes: what all share, and what a ticket allows.

use crate::lab::Client;
use crate::lab::Lab;
use crate::lab::Setting;
use crate::lab::get;
use oca::clock;
use oca::units::BytesPerSecond;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// What a pacer makes up for, in time, and what it lets go at once.
const CATCH_UP: Duration = Duration::from_millis(20);
const PIECE_BYTES: f64 = 256.0 * 1024.0;

/// Fetches an object and forgets it; how long it took.
async fn fetch(mut client: Client, request: String, length: usize) -> Duration {
    let begun = clock::now();
    client.send(request.as_bytes()).await.unwrap();
    assert_eq!(client.answer(false).await.unwrap().body.len(), length);
    begun.elapsed()
}

#[tokio::test]
async fn no_second_has_more_than_its_share_and_none_is_wasted() {
    let rate = 12e6;
    let lab = Lab::with(Setting {
        rate_limit: BytesPerSecond(12_000_000),
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, 12 * MIB);
    let ticket = lab.good(&[digest]);
    let mut fetching = Vec::new();
    for _ in 0..2 {
        let client = lab.connect().await;
        let request = get(digest, &ticket, "");
        fetching.push(tokio::spawn(fetch(client, request, bytes.len())));
    }
    // Counted where it is sent: before and after each look, so that a late look proves nothing
    // wrong.
    let mut looks = Vec::new();
    while !fetching.iter().all(tokio::task::JoinHandle::is_finished) {
        let before = clock::now();
        let sent = lab.handle.view().bytes_sent as f64;
        looks.push((before, sent, clock::now()));
        clock::sleep(Duration::from_millis(10)).await;
    }
    for (index, (_, from, begun)) in looks.iter().enumerate() {
        let begun = begun.checked_sub(Duration::from_millis(1)).unwrap();
        for (ended, to, _) in &looks[index..] {
            let time = ended.saturating_duration_since(begun) + Duration::from_millis(2);
            let most = rate * (time + CATCH_UP).as_secs_f64() + 2.0 * PIECE_BYTES;
            let sent = to - from;
            assert!(sent <= most, "{sent} B in {time:?}");
        }
    }
    for took in fetching {
        let took = took.await.unwrap();
        assert!(took < Duration::from_secs(4), "2 s of bytes took {took:?}");
    }
}

#[tokio::test]
async fn a_ticket_with_a_rate_has_it_once_over_all_connections_and_slows_nobody_else() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 4 * MIB);
    let mut slow = lab.ticket(&[digest], 1 << 40);
    // 8 MB/s.
    slow.rate_bps = Some(64_000_000);
    let slow = lab.sign(&slow);
    let mut fetching = Vec::new();
    for _ in 0..2 {
        let client = lab.connect().await;
        let request = get(digest, &slow, "");
        fetching.push(tokio::spawn(fetch(client, request, bytes.len())));
    }
    let mut other = lab.connect().await;
    let free = lab.good(&[digest]);
    let begun = clock::now();
    for _ in 0..2 {
        assert!(other.get(digest, &free, "").await.body == bytes);
    }
    let unpaced = begun.elapsed();
    let mut last = Duration::ZERO;
    for took in fetching {
        last = last.max(took.await.unwrap());
    }
    let least = (2 * 4 * MIB - 2 * 256 * 1024) as f64 / 8e6;
    assert!(last.as_secs_f64() >= least, "{last:?}, not {least} s");
    assert!(last < Duration::from_secs(3), "{last:?}");
    assert!(unpaced < last, "{unpaced:?} without a rate, {last:?} with");
}
