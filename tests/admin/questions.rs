//! What is asked and answered, by our client, a metrics scraper and curl.

use super::host::Host;
use super::host::raw;
use super::host::text;
use oca::cli::Exit;
use oca::gate::Gate;
use oca::gate::Reason;
use oca::object::Digest;
use serde_json::Value;
use serde_json::json;
use std::io::Read as _;
use std::io::Write as _;

#[test]
fn status_tells_what_checks_rely_on() {
    let host = Host::start(1);
    let status = host.client().get("/v1/status").unwrap();
    assert_eq!(status["v"], 1);
    assert_eq!(status["id"], "c009-tls001-example-isp");
    assert_eq!(status["site"], "TLS001.example.ISP");
    assert_eq!(status["version"], "9.9.9");
    assert_eq!(status["state"], "serving");
    assert_eq!(status["gate"], json!({"state": "serving", "reasons": []}));
    assert_eq!(status["control"]["summary"], "the control plane is silent");
    let catalogue = json!({"generation": 5, "objects": 7, "bytes": 1_500_000});
    assert_eq!(status["catalogue"], catalogue);
    let bgp = json!({"neighbours": 2, "established": 1, "routes": 2505, "steerable": 2504,
        "generation": 3, "kernel_routes_refused": 1});
    assert_eq!(status["bgp"], bgp);
    let fill = json!({"window_open": true, "window_bytes": 5_000_010,
        "rate_bps": 1_100_000_000, "cap_bps": 1_200_000_000, "reason": null});
    assert_eq!(status["fill"], fill);
    let disks = json!({"total": 2, "states": {"online": 1, "refused": 1}});
    assert_eq!(status["disks"], disks);
    assert_eq!(status["connections"]["open"], 3);
    assert_eq!(status["manifest"]["missing"], 1);
    assert!(status["uptime_s"].is_u64());
    assert_eq!(
        status["schedulers"][1],
        json!({"name": "admin", "alive": true})
    );

    let reasons = vec![Reason::Drained, Reason::Disks];
    host.gate.send_replace(Gate::from_reasons(reasons));
    let status = host.client().get("/v1/status").unwrap();
    assert_eq!(status["state"], "drained");
    let gate = json!({"state": "closed", "reasons": ["drained", "disks"]});
    assert_eq!(status["gate"], gate);
}

#[test]
fn the_catalogue_comes_in_bounded_pages_and_an_absent_key_is_not_found() {
    let host = Host::start(1);
    let client = host.client();
    let page = client.get("/v1/catalogue?limit=999999").unwrap();
    assert_eq!(page["catalogue"].as_array().unwrap().len(), 1_000);
    assert_eq!(page["next"], "k0999");
    let page = client.get("/v1/catalogue?prefix=k24&after=k2498").unwrap();
    assert_eq!(page["catalogue"][0]["key"], "k2499");
    assert_eq!(page["next"], Value::Null);
    let exact = client.get("/v1/catalogue?key=k0007").unwrap();
    assert_eq!(exact["catalogue"][0]["digest"], json!(Digest::of(b"k0007")));
    let absent = client.get("/v1/catalogue?key=k000").unwrap_err();
    assert_eq!(absent.exit(), Exit::NotFound);
    for bad in ["limit=many", "limit=-1", "colour=red", "key=%ff"] {
        let answer = raw(
            &host.socket(),
            format!("GET /v1/catalogue?{bad} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes(),
        );
        let expected = ["HTTP/1.1 400", "HTTP/1.1 404"];
        assert!(
            expected.iter().any(|code| answer.starts_with(code)),
            "{bad}: {answer}"
        );
    }
}

/// A line is a comment of a known kind, or a name, labels and a number (OpenMetrics 1.0).
fn assert_is_open_metrics(page: &str) {
    let mut families = std::collections::BTreeSet::new();
    let mut series = std::collections::BTreeSet::new();
    assert!(page.ends_with("# EOF\n"));
    for line in page.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let kind = comment.split(' ').next().unwrap();
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            assert!(
                families.insert(comment.split(' ').take(2).collect::<Vec<_>>()),
                "{line}"
            );
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(
                name.starts_with("oca_") || name.starts_with("process_"),
                "{line}"
            );
            assert!(series.insert(name), "{line} is told twice");
        }
    }
    assert!(series.len() > 10, "{page}");
}

#[test]
fn metrics_are_open_metrics_text_over_the_socket_and_over_tcp() {
    let host = Host::start(1);
    host.gate
        .send_replace(Gate::from_reasons(vec![Reason::Disks]));
    let page = host.client().get_text("/metrics").unwrap();
    assert_is_open_metrics(&page);
    for part in [
        "oca_build_info{version=\"9.9.9\"} 1.0",
        "oca_gate_open 0.0",
        "oca_gate_closed{reason=\"disks\"} 1.0",
        "oca_disk_up{disk=\"/srv/oca/disk1\"} 1.0",
        "oca_disk_up{disk=\"/srv/oca/disk2\"} 0.0",
        "oca_catalogue_objects 7.0",
        "oca_scheduler_alive{scheduler=\"admin\"} 1.0",
        "process_resident_memory_bytes ",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    let address = host.room.as_ref().unwrap().metrics_address().unwrap();
    let tcp = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = tcp("/metrics");
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert_is_open_metrics(answer.split_once("\r\n\r\n").unwrap().1);
    assert!(tcp("/v1/status").starts_with("HTTP/1.1 404"));
}

#[test]
fn curl_speaks_to_the_socket() {
    let host = Host::start(1);
    let out = std::process::Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "10",
            "--unix-socket",
        ])
        .arg(host.read_only())
        .arg("http://localhost/v1/status")
        .output()
        .unwrap_or_else(|error| panic!("curl: {error}; install it: apt-get install -y curl"));
    assert!(out.status.success(), "{}", text(&out.stderr));
    let status: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(status["gate"]["state"], "serving");
}
