//! Rates on real sockets: how long a response takes, that the next one is free again, what the log
//! and the table of delivery say afterwards.

use super::serving::Server;
use super::serving::Viewer;
use super::serving::limits;
use super::serving::noise;
use oca::clock;
use oca::units::BytesPerSecond;
use std::time::Duration;

/// 12.5 MB/s, as a player asks for it.
const HINT: &str = "CMCD-Status: rtp=100000\r\n";

/// Tries for a response to take as long as it should: other work on the machine can only make it
/// take longer.
const TRIES: usize = 4;

fn timed(viewer: &mut Viewer, path: &str, fields: &str, bytes: &[u8]) -> Duration {
    let begun = clock::now();
    let got = viewer.get(path, fields);
    let taken = begun.elapsed();
    assert_eq!(got.status, 200);
    assert!(got.body == bytes, "the bytes differ");
    taken
}

/// Never much faster than `exact`, and at least once not much slower.
fn takes(exact: Duration, mut once: impl FnMut() -> Duration) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let taken = once();
        assert!(
            taken >= exact.mul_f64(0.9),
            "{taken:?} instead of {exact:?}"
        );
        if taken <= exact.mul_f64(1.1) {
            return;
        }
        seen.push(taken);
    }
    panic!("{seen:?} instead of {exact:?}");
}

#[test]
fn a_response_takes_the_time_that_its_rate_says_and_the_next_one_is_free() {
    let titles = vec![("title/a".to_owned(), noise(10_000_000))];
    let server = Server::start(limits(), &titles);
    let bytes = &titles[0].1;
    let mut viewer = server.plain();
    timed(&mut viewer, "/title/a", "", bytes);
    takes(Duration::from_millis(800), || {
        timed(&mut viewer, "/title/a", HINT, bytes)
    });
    // The first may still find the congestion window that fitted the rate.
    let free = (0..TRIES).map(|_| timed(&mut viewer, "/title/a", "", bytes));
    let fastest = free.min().unwrap();
    assert!(fastest < Duration::from_millis(400), "{fastest:?}");

    // On loopback it takes many to be busy for as long as a measure of throughput needs.
    for _ in 0..200 {
        if server.handle.quality(1).total.p50_kbps.is_some() {
            break;
        }
        timed(&mut viewer, "/title/a", "", bytes);
    }
    let view = server.handle.quality(10);
    assert_eq!(view.networks, 1);
    assert_eq!(view.rows[0].prefix.to_string(), "127.0.0.0/24");
    let delivery = view.rows[0].delivery;
    assert!(delivery.paced >= 1 && delivery.paced < delivery.responses);
    assert!(delivery.acked_bytes > 10_000_000 && delivery.busy_ms >= 700);
    assert!(delivery.rtt_us.is_some() && delivery.min_rtt_us.is_some());
    // Held to 100 Mbit/s: that is no throughput of the path.
    assert!(delivery.p10_kbps.unwrap() > 110_000, "{delivery:?}");
    assert!(view.congestion_control.is_some());
}

#[test]
fn the_operators_cap_holds_for_every_connection_and_a_hint_above_it_does_not_win() {
    let titles = vec![("title/a".to_owned(), noise(2_500_000))];
    let server = Server::start(limits(), &titles);
    let bytes = &titles[0].1;
    let mut config = server.config.clone();
    config.pacing.rate_limit = Some(BytesPerSecond(5_000_000));
    server.handle.prepare(&config).unwrap().commit();
    let exact = Duration::from_millis(500);
    // The kernel does not pace the first ten segments of a connection, and on loopback they are
    // large: each connection has a response behind it before time is taken.
    let mut viewer = server.plain();
    timed(&mut viewer, "/title/a", "", bytes);
    takes(exact, || timed(&mut viewer, "/title/a", "", bytes));
    takes(exact, || timed(&mut viewer, "/title/a", HINT, bytes));
    let mut viewer = server.secure(&rustls::version::TLS13);
    timed(&mut viewer, "/title/a", "", bytes);
    takes(exact, || timed(&mut viewer, "/title/a", HINT, bytes));
}

#[test]
fn what_a_player_says_is_in_the_log_escaped_and_changes_no_byte() {
    let titles = vec![("title/a".to_owned(), noise(300))];
    let server = Server::start(limits(), &titles);
    let mut viewer = server.plain();
    let path = "/title/a?CMCD=br%3D3200%2Cbs%2Csid%3D%22x%1b%5b31m%0a%22%2Cpr%3D1.5";
    assert_eq!(viewer.get(path, "").body, titles[0].1);
    assert_eq!(viewer.get("/title/a", "").body, titles[0].1);
    server.until(|view| view.access_log.written >= 2);
    let log = std::fs::read_to_string(&server.access_log).unwrap();
    let lines = log.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines: Vec<_> = lines.map(Result::unwrap).collect();
    let said = serde_json::json!({"br": 3200, "bs": true, "pr": 1.5, "sid": "x\\x1b[31m\\n"});
    assert_eq!(lines[0]["cmcd"], said);
    assert_eq!(lines[1].get("cmcd"), None);
}
