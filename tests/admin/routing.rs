//! Neighbours and routes, over the socket and on the command line.

use super::host::Host;
use super::host::raw;
use super::host::text;
use oca::cli::Exit;
use serde_json::Value;
use serde_json::json;

fn prefixes(answer: &Value) -> Vec<&str> {
    let rows = answer["routes"].as_array().unwrap();
    rows.iter()
        .map(|row| row["prefix"].as_str().unwrap())
        .collect()
}

#[test]
fn neighbours_are_shown_as_checks_rely_on() {
    let host = Host::start(1);
    let answer = host.client().get("/v1/bgp").unwrap();
    let expected = json!({"name": "edge-2", "address": "192.0.2.1", "asn": 64500,
        "class": "peering", "state": "active", "routes": 5, "filtered": 1, "uptime_s": null,
        "last_error": "connect: refused", "session": {"capabilities": [], "end_of_rib": [],
        "hold_time_s": null, "hostname": null, "role": null, "stale": []}});
    assert_eq!(answer["bgp"][1], expected);
    let shown = host.oca(&["show", "bgp"]);
    let shown = text(&shown.stdout);
    assert!(shown.starts_with("name\taddress\tasn\t"), "{shown}");
    assert!(shown.contains("edge-1\t192.0.2.1\t64500\tpeering\testablished\t5\t1\t60\t-"));
}

#[test]
fn an_address_is_answered_longest_first_and_a_prefix_with_what_it_covers() {
    let host = Host::start(1);
    let client = host.client();
    let covers = client.get("/v1/routes?address=203.0.113.9").unwrap();
    let expected = [
        "203.0.113.0/25",
        "203.0.113.0/24",
        "203.0.113.0/24",
        "0.0.0.0/0",
    ];
    assert_eq!(prefixes(&covers), expected);
    let row = json!({"prefix": "203.0.113.0/25", "neighbour": "edge-1", "class": "peering",
        "as_path": "64500 64501 {64502 64503}", "med": 20,
        "communities": ["64500:1", "64500:2"], "next_hop": "198.51.100.1", "origin": "igp",
        "steerable": true, "filtered": null});
    assert_eq!(covers["routes"][0], row);
    assert_eq!(covers["routes"][3]["filtered"], "default-route");
    assert_eq!(covers["routes"][3]["steerable"], false);
    assert_eq!(covers["steerable"], "203.0.113.0/25");
    assert_eq!(covers["reachable"], "203.0.113.0/25");
    let beyond = client.get("/v1/routes?address=198.51.100.9").unwrap();
    assert_eq!(
        (&beyond["steerable"], &beyond["reachable"]),
        (&json!(null), &json!("0.0.0.0/0"))
    );
    let below = client.get("/v1/routes?prefix=203.0.113.0/24").unwrap();
    let expected = [
        "203.0.113.0/24",
        "203.0.113.0/24",
        "203.0.113.0/25",
        "203.0.113.128/25",
    ];
    assert_eq!(prefixes(&below), expected);
    let half = client.get("/v1/routes?prefix=203.0.113.128/25").unwrap();
    assert_eq!(prefixes(&half), ["203.0.113.128/25"]);
    let absent = client.get("/v1/routes?address=2001:db9::1").unwrap_err();
    assert_eq!(absent.exit(), Exit::NotFound);
    let absent = client.get("/v1/routes?prefix=192.0.2.0/24").unwrap_err();
    assert_eq!(absent.exit(), Exit::NotFound);
    for bad in [
        "prefix=x",
        "address=x",
        "after=x",
        "limit=-1",
        "colour=red",
        "prefix=192.0.2.0/24&address=192.0.2.1",
    ] {
        let question = format!("GET /v1/routes?{bad} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = raw(&host.socket(), question.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{bad}: {answer}");
    }
}

#[test]
fn all_routes_come_in_bounded_pages_without_loss_or_repeat() {
    let host = Host::start(1);
    let client = host.client();
    let (mut all, mut after) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = client
            .get(&format!("/v1/routes?limit=99999{after}"))
            .unwrap();
        let rows = page["routes"].as_array().unwrap();
        assert!(rows.len() <= 1_000);
        all.extend(
            rows.iter()
                .map(|row| format!("{} {}", row["prefix"], row["neighbour"])),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(all.len(), 2_505);
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn the_command_line_shows_routes_for_people_pipes_and_programs() {
    let host = Host::start(1);
    let shown = host.oca(&["show", "routes"]);
    assert_eq!(text(&shown.stdout).lines().count(), 2_506);
    let shown = host.oca(&["show", "r", "203.0.113.200"]);
    let expected = "203.0.113.128/25\tedge-1\tpeering\t64500 64501 {64502 64503}\t20\t\
        64500:1, 64500:2\t198.51.100.1\t-\n";
    assert!(
        text(&shown.stdout).contains(expected),
        "{}",
        text(&shown.stdout)
    );
    let shown = host.oca(&["show", "routes", "2001:db8::/32", "--json"]);
    let value: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (
            value["v"].clone(),
            value["routes"].as_array().unwrap().len()
        ),
        (json!(1), 2_500)
    );
    assert_eq!(
        host.oca(&["show", "routes", "10.9.8.7/33"]).status.code(),
        Some(2)
    );
    let absent = host.oca(&["show", "routes", "192.0.2.0/24"]);
    assert_eq!(absent.status.code(), Some(4));
    assert!(text(&absent.stderr).contains("no route for 192.0.2.0/24"));
}
