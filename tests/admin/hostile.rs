//! Peers that do harm, and what else may be in the way of the sockets.

use super::host::Host;
use super::host::config;
use super::host::deps;
use super::host::raw;
use oca::admin;
use oca::cli::client::Client;
use oca::clock;
use oca::gate::Gate;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

#[test]
fn hostile_requests_are_refused_and_harm_nobody_else() {
    let host = Host::start(1);
    let chunked = b"POST /v1/drain HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = [
        chunked.as_slice(),
        "ffff\r\n".as_bytes(),
        &[b' '; 0xffff],
        b"\r\nffff\r\n",
        &[b' '; 0xffff],
    ]
    .concat();
    let large = format!(
        "POST /v1/drain HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\n\r\n{}",
        " ".repeat(70_000)
    );
    let deep = "[".repeat(60_000);
    let deep = format!("POST /v1/drain HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n{deep}");
    let head = format!(
        "GET /v1/status HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(100_000)
    );
    let line = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(100_000));
    let escape = "GET /\u{1b}[2J HTTP/1.1\r\nhost: x\r\n\r\n";
    for (bytes, expected) in [
        (endless.as_slice(), "HTTP/1.1 413"),
        (large.as_bytes(), "HTTP/1.1 413"),
        (deep.as_bytes(), "HTTP/1.1 400"),
        (head.as_bytes(), "HTTP/1.1 431"),
        (line.as_bytes(), "HTTP/1.1 4"),
        (escape.as_bytes(), "HTTP/1.1 400"),
        (b"\0\0\0\0\xff\xfe\r\n\r\n".as_slice(), "HTTP/1.1 400"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
            "",
        ),
        (
            b"GET /v1/prefill HTTP/1.1\r\nhost: x\r\n\r\n".as_slice(),
            "",
        ),
    ] {
        let answer = raw(&host.socket(), bytes);
        assert!(
            answer.starts_with(expected),
            "{expected} expected, not {answer:.80}"
        );
        assert!(!answer.contains('\u{1b}'));
        assert_eq!(host.client().get("/v1/status").unwrap()["v"], 1);
    }
}

#[test]
fn idle_connections_cannot_shut_out_others_for_long_nor_the_other_socket() {
    let host = Host::start(1);
    let idle: Vec<_> = (0..200)
        .map(|_| UnixStream::connect(host.read_only()).unwrap())
        .collect();
    // The full socket has slots of its own.
    assert_eq!(host.client().get("/v1/status").unwrap()["v"], 1);
    let answer = raw(
        &host.read_only(),
        b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(serde_json::from_str::<Value>(body).unwrap()["error"].is_string());
    // Silence ends with the time for a head, and the slots are free again.
    let begun = clock::now();
    while Client::new(&host.read_only())
        .unwrap()
        .get("/v1/status")
        .is_err()
    {
        assert!(
            clock::now() - begun < Duration::from_secs(15),
            "slots are never freed"
        );
        clock::block_for(Duration::from_millis(100));
    }
    let page = host.client().get_text("/metrics").unwrap();
    assert!(!page.contains("oca_admin_refused_total 0.0"), "{page}");
    drop(idle);
}

#[test]
fn socket_files_have_their_modes_live_ones_are_respected_and_stop_removes_them() {
    let mut host = Host::start(1);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(host.socket()), 0o660);
    assert_eq!(mode(host.read_only()), 0o666);
    let (sender, _commands) = mpsc::channel(1);
    let second = admin::start(&config(host.dir.path()), deps(&host.gate, sender));
    let error = second.unwrap_err().to_string();
    assert!(error.contains("another oca answers"), "{error}");
    assert_eq!(host.client().get("/v1/status").unwrap()["v"], 1);
    host.room.take().unwrap().stop();
    assert_eq!(std::fs::read_dir(host.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_start_that_fails_late_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (gate, _) = watch::channel(Gate::Serving);
    let (sender, _commands) = mpsc::channel(1);
    let config = admin::Config {
        metrics_listen: Some(taken.local_addr().unwrap()),
        ..config(dir.path())
    };
    let error = admin::start(&config, deps(&gate, sender)).unwrap_err();
    assert!(error.to_string().contains("metrics_listen"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
