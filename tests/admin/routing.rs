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
        "last_error": "connect: refused", "session": {"capabilities": [], "disabled": [],
         "end_of_rib": [], "families": [], "hold_time_s": null, "hostname": null, "role": null,
         "router_id": null, "stale": []}});
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

#[test]
fn orders_for_a_session_arrive_parsed_and_only_on_the_full_socket() {
    let mut host = Host::start(4);
    host.answer_commands(super::commands::daemon);
    let client = host.client();
    let post = |verb: &str, body| client.post(&format!("/v1/bgp/{verb}"), &body);
    let told = |answer: Value| answer["order"].as_str().unwrap().to_owned();
    assert_eq!(
        told(post("up", json!({"neighbour": "edge-1"})).unwrap()),
        "Up"
    );
    let down = post("down", json!({"neighbour": "e", "text": "disk work"})).unwrap();
    assert_eq!(told(down), "Down { text: \"disk work\" }");
    let refresh = post("refresh", json!({"neighbour": "e", "family": "ipv6"})).unwrap();
    assert_eq!(told(refresh), "Refresh { family: Some(Ipv6) }");
    let absent = post("up", json!({"neighbour": "nobody"})).unwrap_err();
    assert_eq!(absent.exit(), Exit::NotFound);
    let wrong = post("refresh", json!({"neighbour": "e", "family": "x25"})).unwrap_err();
    assert_eq!(wrong.exit(), Exit::Usage);
    let request = b"POST /v1/bgp/down HTTP/1.1\r\nhost: x\r\n\r\n{}";
    assert!(raw(&host.read_only(), request).starts_with("HTTP/1.1 403"));

    let done = host.oca(&["bgp", "down", "edge-1", "--text", "noon"]);
    let expected = "edge-1 is down until `oca bgp up edge-1` or a restart\n";
    assert_eq!(text(&done.stdout), expected);
    let done = host.oca(&["bgp", "refresh", "edge-2", "--family", "ipv4"]);
    assert!(text(&done.stdout).contains("asked to send its routes again"));
    assert_eq!(host.oca(&["bgp", "up", "nobody"]).status.code(), Some(4));
}

#[test]
fn one_neighbour_or_all_are_shown_in_full() {
    let host = Host::start(1);
    let answer = host.client().get("/v1/bgp/all").unwrap();
    assert_eq!(answer["bgp"].as_array().unwrap().len(), 2);
    assert_eq!(answer["bgp"][1]["name"], "edge-2");
    assert_eq!(answer["bgp"][1]["history"][0]["to"], "down");
    let shown = host.oca(&["show", "bgp", "edge-2"]);
    let shown = text(&shown.stdout);
    assert!(shown.starts_with("edge-2\n"), "{shown}");
    assert!(
        shown.contains("  history[0].why\tsent 4/0 hold timer expired\n"),
        "{shown}"
    );
    assert!(!shown.contains("edge-1"), "{shown}");
    let shown = host.oca(&["show", "bgp", "all", "-j"]);
    let value: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(value["bgp"][1]["dropped"], 7);
    let shown = host.oca(&["show", "bgp", "edge"]);
    assert_eq!(shown.status.code(), Some(2));
    assert!(text(&shown.stderr).contains("edge-1 or edge-2"));
    assert_eq!(host.oca(&["show", "bgp", "peer"]).status.code(), Some(4));
}

#[test]
fn routes_are_counted_and_chosen_by_neighbour_and_by_filter() {
    let host = Host::start(1);
    let client = host.client();
    let counts = client.get("/v1/routes/count").unwrap();
    let row = json!({"neighbour": "edge-1", "family": "ipv4", "state": "default-route",
        "routes": 1});
    assert_eq!(counts["counts"][0], row);
    let shown = host.oca(&["show", "routes", "count"]);
    let shown = text(&shown.stdout);
    assert!(shown.contains("edge-2\tipv6\tsteerable\t2499\n"), "{shown}");
    let filtered = client.get("/v1/routes?filtered=true").unwrap();
    assert_eq!(prefixes(&filtered), ["0.0.0.0/0"]);
    let shown = host.oca(&["show", "routes", "filtered"]);
    assert_eq!(text(&shown.stdout).lines().count(), 2);
    let shown = host.oca(&["show", "routes", "from", "edge-1"]);
    assert_eq!(text(&shown.stdout).lines().count(), 6);
    let shown = host.oca(&["show", "routes", "from", "edge-2", "-j"]);
    let value: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(value["routes"].as_array().unwrap().len(), 2_500);
    assert_eq!(host.oca(&["show", "routes", "from"]).status.code(), Some(2));
    assert_eq!(
        host.oca(&["show", "routes", "from", "x"]).status.code(),
        Some(4)
    );
    assert_eq!(
        host.oca(&["show", "bgp", "all", "x"]).status.code(),
        Some(2)
    );
}

#[test]
fn mrt_comes_as_bytes_into_a_file_that_is_new_and_whole() {
    let host = Host::start(1);
    let file = host.dir.path().join("live.mrt");
    let path = file.to_str().unwrap();
    let done = host.oca(&["bgp", "mrt", path, "--live", "1s"]);
    // The host's tap has "mrt" for every question but the first.
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"mrtmrt") || bytes == b"mrt", "{bytes:?}");
    assert!(text(&done.stdout).contains("records were lost"));
    let again = host.oca(&["bgp", "mrt", path]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // A box without neighbours has no table, and no file is left behind.
    let none = host.dir.path().join("none.mrt");
    let refused = host.oca(&["bgp", "mrt", none.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(5));
    assert!(!none.exists());
    for bad in ["0s", "2h", "soon"] {
        let refused = host.oca(&["bgp", "mrt", none.to_str().unwrap(), "--live", bad]);
        assert_eq!(refused.status.code(), Some(2), "{bad}");
    }
}
