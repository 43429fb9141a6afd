//! Responses that are over in one turn, and those that begin so and have to wait.

use crate::clock;
use crate::serve::tests_support::World;
use crate::serve::tests_support::limits;
use std::time::Duration;

/// More than the pipe holds, with the answers of the sizes below.
const REQUESTS: usize = 9;

/// Bytes that do not repeat where a response could go on at a wrong place.
fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * at % 251).to_le_bytes()[0])
        .collect()
}

/// The pipe of 64 KiB is full in the midst of a head or of a body, at another place for each size.
#[tokio::test(start_paused = true)]
async fn what_has_begun_at_once_goes_on_where_it_stopped() {
    let sizes = (8_000..16_000).step_by(161);
    let objects: Vec<(String, Vec<u8>)> = sizes
        .map(|size| (format!("a/{size}"), bytes(size)))
        .collect();
    let borrowed: Vec<(&str, &[u8])> = objects
        .iter()
        .map(|(key, bytes)| (key.as_str(), bytes.as_slice()))
        .collect();
    let world = World::new(limits(), &borrowed);
    for (key, expected) in &objects {
        let mut viewer = world.viewer("192.0.2.1").await;
        // Open from here on, so that the next ones need not wait for anything but the viewer.
        let first = viewer.get(&format!("/{key}"), "").await.unwrap();
        assert!(first.body == *expected, "{key}");
        let ask = format!("GET /{key} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(REQUESTS);
        viewer.say(&ask).await;
        // The box answers until the pipe is full.
        clock::sleep(Duration::from_millis(1)).await;
        for number in 0..REQUESTS {
            let got = viewer.hear(true).await.unwrap();
            assert_eq!(got.status, 200, "{key}, answer {number}");
            assert!(got.body == *expected, "{key}, answer {number}");
        }
    }
    let total: u64 = objects.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let counted = world.handle.view().bytes_sent;
    assert_eq!(counted, total * (REQUESTS as u64 + 1));
}
