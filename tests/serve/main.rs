//! Serving over real sockets: bytes identical with `sendfile` and TLS, hostile bytes, slow readers,
//! reload.
//!
//! I/O: loopback sockets and temporary directories. Nothing here sleeps for luck.

mod certificates;
mod cold;
mod differential;
#[path = "../support/held_pages.rs"]
mod held_pages;
mod hostile;
mod kernel_tls;
mod limits;
#[path = "../support/loop_disk.rs"]
mod loop_disk;
mod pacing;
mod rotation;
mod serving;
mod slow_disk;
mod speed;
mod tokens;

use oca::serve::Config;
use oca::serve::Offload;
use serving::Server;
use serving::Viewer;
use serving::limits;
use serving::noise;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Sizes at which the paths differ: nothing, one byte, one TLS record, more than one turn, many.
const SIZES: [usize; 6] = [0, 1, 16 * 1024, 16 * 1024 + 1, (1 << 20) + 1, 10 << 20];

fn titles() -> Vec<(String, Vec<u8>)> {
    SIZES
        .iter()
        .map(|size| (format!("title/{size}.m4s"), noise(*size)))
        .collect()
}

/// Whole objects, ranges of both kinds and keep-alive, over one connection.
fn play(viewer: &mut Viewer, titles: &[(String, Vec<u8>)]) {
    for (key, bytes) in titles {
        let got = viewer.get(&format!("/{key}"), "");
        assert_eq!(got.status, 200, "{key}");
        assert!(got.body == *bytes, "{key} differs");
        if bytes.len() < 2 {
            continue;
        }
        let middle = bytes.len() / 2;
        let got = viewer.get(&format!("/{key}"), &format!("Range: bytes={middle}-\r\n"));
        assert_eq!(got.status, 206);
        assert!(got.body == bytes[middle..], "{key} from {middle} differs");
        let got = viewer.get(&format!("/{key}/range/1-{middle}"), "");
        assert_eq!(got.status, 206);
        assert!(got.body == bytes[1..=middle], "{key} to {middle} differs");
    }
}

#[test]
fn plain_http_delivers_the_same_bytes_through_sendfile() {
    let titles = titles();
    let server = Server::start(limits(), &titles);
    play(&mut server.plain(), &titles);
    let view = server.handle.view();
    assert_eq!((view.panics, view.handshakes.ok), (0, 0));
    assert_eq!(view.statuses[&200], SIZES.len() as u64);
}

#[test]
fn tls_1_3_and_1_2_deliver_the_same_bytes() {
    let titles = titles();
    let server = Server::start(limits(), &titles);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut viewer = server.secure(version);
        play(&mut viewer, &titles);
        drop(viewer);
    }
    let view = server.handle.view();
    assert_eq!(view.handshakes.ok, 2);
    assert_eq!(view.tls.versions["TLSv1.3"], 1);
    assert_eq!(view.tls.versions["TLSv1.2"], 1);
    assert_eq!(view.tls.ciphers["TLS13_AES_128_GCM_SHA256"], 1);
    let names = &view.tls.certificates[0].names;
    assert_eq!(names, &["localhost", "127.0.0.1"]);
}

#[test]
fn every_cipher_delivers_the_same_bytes() {
    let titles = vec![("title/a".to_owned(), noise(300_000))];
    let server = Server::start(limits(), &titles);
    for suite in rustls::crypto::aws_lc_rs::default_provider().cipher_suites {
        // The test's certificate has an ECDSA key.
        if format!("{:?}", suite.suite()).contains("_RSA_") {
            continue;
        }
        play(&mut server.secure_with(suite), &titles);
    }
    assert_eq!(server.handle.view().tls.ciphers.len(), 6);
}

#[test]
fn a_session_resumes_across_a_reload_of_the_certificates() {
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits(), &titles);
    let client = server.client(&rustls::version::TLS13);
    let mut first = server.secure_as(&client);
    play(&mut first, &titles);
    assert_eq!(first.handshake_kind(), Some(rustls::HandshakeKind::Full));
    server.handle.prepare(&server.config).unwrap().commit();
    play(&mut first, &titles);
    let mut second = server.secure_as(&client);
    play(&mut second, &titles);
    assert_eq!(
        second.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );
}

#[test]
fn a_key_update_asked_for_by_the_viewer_is_survived() {
    let titles = vec![("title/a".to_owned(), noise(200_000))];
    let server = Server::start_sealed(limits(), &titles, 1, Offload::Off);
    let mut viewer = server.secure(&rustls::version::TLS13);
    for _ in 0..5 {
        viewer.refresh_keys();
        play(&mut viewer, &titles);
    }
    assert_eq!(server.handle.view().handshakes.ok, 1);
}

#[test]
fn many_viewers_at_once_get_their_own_bytes() {
    let titles: Vec<_> = (0..8)
        .map(|n| (format!("title/{n}"), noise(200_000 + n)))
        .collect();
    let server = Server::start(limits(), &titles);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let (server, titles) = (&server, &titles);
            scope.spawn(move || {
                let mut viewer = match n % 2 {
                    0 => server.plain(),
                    _ => server.secure(&rustls::version::TLS13),
                };
                for _ in 0..4 {
                    play(&mut viewer, titles);
                }
            });
        }
    });
    let view = server.handle.view();
    assert_eq!(view.connections.total, 16);
    assert_eq!(view.panics, 0);
}

#[test]
fn plain_http_on_the_tls_port_fails_quietly_and_is_counted() {
    let server = Server::start(limits(), &[]);
    let mut stream = TcpStream::connect(server.tls_address).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut rest = Vec::new();
    // A reset is as quiet as an end.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    server.until(|view| view.refusals["not-tls"] == 1 && view.connections.open == 0);
}

#[test]
fn damaged_tls_is_answered_with_an_alert_and_nobody_else_notices() {
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits(), &titles);
    let mut neighbour = server.secure(&rustls::version::TLS13);
    play(&mut neighbour, &titles);
    let mut stream = TcpStream::connect(server.tls_address).unwrap();
    stream.write_all(&[22, 3, 1, 0, 4, 1, 0, 0, 200]).unwrap();
    stream.write_all(&[0xff; 300]).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest.first(), Some(&21), "an alert record: {rest:?}");
    server.until(|view| view.handshakes.failed == 1);
    play(&mut neighbour, &titles);
}

#[test]
fn a_refusal_reaches_a_viewer_that_is_still_sending() {
    let server = Server::start(limits(), &[]);
    let mut stream = TcpStream::connect(server.plain_address).unwrap();
    let head = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 150000\r\n\r\n";
    stream.write_all(head).unwrap();
    // Closing with these unread would reset the connection and could take the answer along.
    stream.write_all(&[b'x'; 150_000]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("Allow: GET, HEAD, OPTIONS\r\n"), "{answer}");
}

#[test]
fn a_reader_that_stops_is_cut_by_the_progress_limit_and_a_lost_one_leaves_nothing() {
    let mut limits = limits();
    limits.progress_time = Duration::from_millis(300);
    let titles = vec![("title/big".to_owned(), noise(64 << 20))];
    let server = Server::start(limits, &titles);
    let ask = b"GET /title/big HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut stalled = TcpStream::connect(server.plain_address).unwrap();
    stalled.write_all(ask).unwrap();
    let mut secure = server.secure(&rustls::version::TLS13);
    secure.write(ask);
    server.until(|view| view.refusals["progress"] == 2 && view.connections.open == 0);
    // A viewer that resets in mid-response: no signal ends the process.
    for _ in 0..20 {
        let mut lost = TcpStream::connect(server.plain_address).unwrap();
        lost.write_all(ask).unwrap();
        let mut some = [0; 100];
        lost.read_exact(&mut some).unwrap();
        drop(lost);
    }
    server.until(|view| view.connections.open == 0);
    assert_eq!(server.handle.view().panics, 0);
}

#[test]
fn one_fast_viewer_does_not_hold_up_another_on_the_same_worker() {
    let titles = vec![
        ("title/big".to_owned(), noise(32 << 20)),
        ("title/a".to_owned(), noise(10)),
    ];
    let mut limits = limits();
    limits.requests = u32::MAX;
    let server = Server::start_with(limits, &titles, 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (mut greedy, done) = (server.plain(), &done);
            scope.spawn(move || {
                // Bounded, so that a small viewer that fails or is never served ends the test too.
                for _ in 0..200 {
                    assert_eq!(greedy.get("/title/big", "").status, 200);
                    if done.load(Relaxed) {
                        return;
                    }
                }
                panic!("200 large bodies went out before 20 small ones");
            });
        }
        let mut small = server.plain();
        for _ in 0..20 {
            assert_eq!(small.get("/title/a", "").status, 200);
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn a_reload_whose_third_bind_fails_changes_nothing() {
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits(), &titles);
    let mut open = server.plain();
    play(&mut open, &titles);
    let before = server.handle.view().listeners;
    // Somebody else's socket, without SO_REUSEPORT.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = |host: &str| -> SocketAddr { format!("{host}:0").parse().unwrap() };
    let mut new = server.config.clone();
    new.plain_listen = vec![
        free("127.0.0.4"),
        free("127.0.0.5"),
        taken.local_addr().unwrap(),
    ];
    let error = server.handle.prepare(&new).unwrap_err().to_string();
    assert!(
        error.contains(&taken.local_addr().unwrap().to_string()),
        "{error}"
    );
    assert_eq!(server.handle.view().listeners, before);
    play(&mut open, &titles);
    play(&mut server.plain(), &titles);
    // Without the bad one the same change goes through.
    new.plain_listen.pop();
    server.handle.prepare(&new).unwrap().commit();
    play(&mut open, &titles);
    let view = server.handle.view();
    assert_eq!(view.listeners.iter().filter(|one| !one.tls).count(), 2);
    let moved = view.listeners.iter().find(|one| !one.tls).unwrap().address;
    play(&mut Viewer::plain(moved), &titles);
}

#[test]
fn a_reload_with_a_bad_certificate_or_log_is_refused_with_the_file_named() {
    let server = Server::start(limits(), &[]);
    let refused = |new: &Config| server.handle.prepare(new).unwrap_err().to_string();
    let mut new = server.config.clone();
    new.tls.certificates[0].chain = "/nonexistent/chain.pem".into();
    assert!(refused(&new).contains("/nonexistent/chain.pem"));
    let mut new = server.config.clone();
    new.access_log = Some("/nonexistent/access.log".into());
    assert!(refused(&new).contains("/nonexistent/access.log"));
    let mut new = server.config.clone();
    new.plain_listen = vec!["192.0.2.1:80".parse().unwrap()];
    assert!(refused(&new).contains("192.0.2.1:80"));
    let address = "127.0.0.1:9".parse().unwrap();
    (new.listen, new.plain_listen) = (vec![address], vec![address]);
    assert!(refused(&new).contains("twice"));
}

#[test]
fn the_access_log_has_a_line_a_request_and_is_reopened_by_a_reload() {
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits(), &titles);
    let mut viewer = server.secure(&rustls::version::TLS13);
    let fields = "Range: bytes=0-9\r\nUser-Agent: a\"b\r\n";
    assert_eq!(viewer.get("/title/a?CMCD=x", fields).status, 206);
    assert_eq!(viewer.get("/absent", "").status, 404);
    server.until(|view| view.access_log.written == 2);
    let rotated = server.access_log.with_extension("1");
    std::fs::rename(&server.access_log, &rotated).unwrap();
    server.handle.prepare(&server.config).unwrap().commit();
    assert_eq!(viewer.get("/title/a", "").status, 200);
    server.until(|view| view.access_log.written == 3);
    let read = |path| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let (old, new) = (read(&rotated), read(&server.access_log));
    assert_eq!((old.len(), new.len()), (2, 1));
    assert_eq!(old[0]["status"], 206);
    assert_eq!(old[0]["path"], "/title/a");
    assert_eq!(old[0]["bytes"], 10);
    assert_eq!(old[0]["range"], "bytes=0-9");
    assert_eq!(old[0]["tls"], "TLSv1.3");
    assert_eq!(old[1]["reason"], "not found");
    assert!(old[0]["agent"].as_str().unwrap().starts_with("a\\\"b") || old[0]["agent"] == "a\"b");
    assert!(old[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn metrics_are_told_under_their_names() {
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits(), &titles);
    play(&mut server.plain(), &titles);
    let _open = server.secure(&rustls::version::TLS13);
    server.until(|view| view.handshakes.ok == 1);
    let registry = oca::telemetry::Registry::new("0", oca::clock::now());
    server.handle.register(&registry);
    let text = registry.render();
    for line in [
        "oca_http_requests_total{code=\"200\"} 1",
        "oca_http_requests_total{code=\"206\"} 2",
        "oca_http_response_bytes_total 2000",
        "oca_tls_handshakes_total{result=\"ok\"} 1",
        "oca_tls_handshakes_total{result=\"failed\"} 0",
        "oca_refusals_total{reason=\"gate\"} 0",
        "oca_connection_panics_total 0",
        "oca_tls_offload_connections_total{path=\"kernel\",reason=\"\"} 0",
        "oca_tls_offload_connections_total{path=\"user-space\",reason=\"refused\"} 0",
        "oca_connections_open ",
        "oca_refusals_total{reason=\"handshakes-per-address\"} 0",
        "oca_tls_certificate_end_seconds{chain=",
        "oca_speedtest_bytes_total{direction=\"up\"} 0",
        "oca_access_log_left_out_total 0",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn idle_sessions_are_closed_with_close_notify_and_workers_end_on_stop() {
    let mut limits = limits();
    limits.idle_time = Duration::from_millis(200);
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits, &titles);
    let mut viewer = server.secure(&rustls::version::TLS13);
    play(&mut viewer, &titles);
    // rustls tells an end without close_notify as an error.
    assert_eq!(viewer.read_to_end(), Ok(Vec::new()));
    assert!(server.handle.heartbeats().len() == 2);
    server.stop();
}

#[test]
fn one_address_serves_both_families_and_ipv4_viewers_keep_their_address() {
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits(), &titles);
    let mut new = server.config.clone();
    new.plain_listen.push("[::]:0".parse().unwrap());
    server.handle.prepare(&new).unwrap().commit();
    let listeners = server.handle.view().listeners;
    let both = listeners
        .iter()
        .find(|one| one.address.is_ipv6())
        .unwrap()
        .address;
    let mut four = Viewer::plain(SocketAddr::new("127.0.0.1".parse().unwrap(), both.port()));
    play(&mut four, &titles);
    let rows = server.handle.connections(10);
    assert!(
        rows.iter()
            .all(|row| row.peer.ip().to_string() == "127.0.0.1"),
        "{rows:?}"
    );
    // The IPv4 wildcard beside it is no conflict.
    new.plain_listen
        .push(SocketAddr::new("0.0.0.0".parse().unwrap(), both.port()));
    server.handle.prepare(&new).unwrap().commit();
}
