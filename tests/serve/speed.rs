//! `oca speedtest` against a real server that is paced to a known rate, and what it says when there
//! is nothing to measure.
//!
//! I/O: loopback sockets, child processes that end by themselves.

// Support code of tests is a test, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use crate::serving::Server;
use crate::serving::limits;
use oca::serve::SpeedtestConfig;
use oca::units::Bytes;
use oca::units::BytesPerSecond;
use serde_json::Value;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

const OCA: &str = env!("CARGO_BIN_EXE_oca");

fn server(rate: u64, connections: usize) -> Server {
    let config = SpeedtestConfig {
        enabled: true,
        rate_limit: BytesPerSecond(rate),
        connections,
        upload_max: Bytes(64 << 20),
    };
    let server = Server::start_measured(limits(), &[], 1, config);
    server.until(|view| view.speedtest.state == "ready");
    server
}

fn run(url: &str, more: &[&str]) -> Output {
    let mut command = Command::new(OCA);
    command.args(["speedtest", url]).args(more);
    command.output().unwrap()
}

fn chain(server: &Server) -> PathBuf {
    server.config.tls.certificates[0].chain.clone()
}

fn secure(server: &Server) -> String {
    format!("https://127.0.0.1:{}", server.tls_address.port())
}

/// Both directions of `--json` lie within 15 % of `rate` bytes a second.
fn found(output: &Output, rate: u64) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for direction in ["download", "upload"] {
        let told = found[direction]["bits_per_second"].as_f64().unwrap();
        let ratio = told / (rate as f64 * 8.0);
        assert!(
            (0.85..1.15).contains(&ratio),
            "{direction} {ratio}: {found}"
        );
        let seconds = found[direction]["seconds"].as_f64().unwrap();
        assert!(seconds <= 7.5, "{found}");
        assert_eq!(found[direction]["connections"], 8, "{found}");
        assert!(found["latency_ms"][direction].as_f64().is_some(), "{found}");
    }
    let idle = found["latency_ms"]["idle"].as_f64().unwrap();
    assert!(idle > 0.0 && idle < 1_000.0, "{found}");
    found
}

#[test]
fn the_rate_that_is_found_is_the_rate_that_the_operator_allows() {
    let (plain_rate, secure_rate) = (5_000_000, 12_000_000);
    let (plain_server, secure_server) = (server(plain_rate, 64), server(secure_rate, 64));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let url = format!("http://127.0.0.1:{}", plain_server.plain_address.port());
            let output = run(&url, &["--json", "--time", "7s"]);
            let found = found(&output, plain_rate);
            assert_eq!(found["tls"], Value::Null);
        });
        scope.spawn(|| {
            let ca = chain(&secure_server);
            let more = ["--json", "--time", "7s", "--ca", ca.to_str().unwrap()];
            let output = run(&secure(&secure_server), &more);
            let found = found(&output, secure_rate);
            assert_eq!(found["tls"], "TLSv1.3");
        });
    });
    // The clients are gone; the last of their connections are being noticed.
    plain_server.until(|view| view.speedtest.running == 0);
    let view = plain_server.handle.view();
    assert_eq!(view.panics, 0);
    assert!(view.speedtest.downloads >= 8 && view.speedtest.uploads >= 8);
}

#[test]
fn what_cannot_be_measured_is_said_with_its_remedy() {
    let told = |output: &Output, code, words: &[&str]| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(output.stdout.is_empty());
    };
    told(&run("cache.example.net", &[]), 2, &["https://"]);
    told(&run("https://127.0.0.1", &["--time", "1h"]), 2, &["--time"]);
    // Bound and closed again: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("http://127.0.0.1:{port}");
    told(
        &run(&url, &[]),
        3,
        &["cannot be reached", &url["http://".len()..]],
    );
    let server = server(10_000_000, 1);
    told(&run(&secure(&server), &[]), 1, &["--ca", "--insecure"]);
    // Another has the only place.
    let mut other = TcpStream::connect(server.plain_address).unwrap();
    let ask = b"GET /speedtest HTTP/1.1\r\nHost: h\r\n\r\n";
    other.write_all(ask).unwrap();
    other.read_exact(&mut [0; 10]).unwrap();
    let busy = run(&secure(&server), &["--insecure", "--time", "2s"]);
    told(&busy, 5, &["503", "too many speed tests", "again in 15 s"]);
    drop(other);
    let mut off = server.config.clone();
    off.speedtest.enabled = false;
    server.handle.prepare(&off).unwrap().commit();
    let absent = run(&secure(&server), &["--insecure"]);
    told(&absent, 4, &["[serve.speedtest] enabled = false"]);
}
