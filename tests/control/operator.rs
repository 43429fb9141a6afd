//! The operator's side of the night over the command line: windows, policies, titles, leaves.

use crate::cli::BOX;
use crate::cli::Plane;
use serde_json::Value;
use serde_json::json;

#[test]
fn a_site_has_its_window_and_what_is_not_said_of_it_stays() {
    let plane = Plane::start();
    plane.furnish();
    let site = &plane.json(&["site", "list"])["sites"][0];
    let night = |site: &Value| {
        let of = |name: &str| site[name].clone();
        [of("window_start"), of("window_s"), of("rate_limit_bps")]
    };
    let default = [json!("02:00"), json!(43_200), Value::Null];
    assert_eq!(night(site), default);
    let change = |args: &[&str]| {
        let args = [&["site", "change", "TLS001.example.ISP"], args].concat();
        plane.json(&args)["site"].clone()
    };
    change(&["--window-start", "01:30", "--rate-limit", "1 Gbit/s"]);
    let changed = change(&["--window-length", "6h"]);
    let expected = [json!("01:30"), json!(21_600), json!(1_000_000_000)];
    assert_eq!(
        (night(&changed), &changed["partner"]),
        (expected.clone(), &json!("example"))
    );
    // To say again where it is does not touch its night.
    let again = plane.json(&["site", "add", "TLS001.example.ISP", "--partner", "example"]);
    assert_eq!(night(&again["site"]), expected);
    assert_eq!(night(&change(&["--rate-limit", "none"]))[2], Value::Null);
}

#[test]
fn policies_and_leaves_to_delete_are_given_shown_and_refused_with_a_remedy() {
    let plane = Plane::start();
    plane.furnish();
    let policy = plane.json(&[
        "policy",
        "set",
        "south-west",
        "--masters",
        "2",
        "--hops-wait",
        "5m",
        "--network-wait",
        "never",
    ]);
    let expected = json!({"name": "south-west", "masters": 2, "hops": 1, "hops_wait_s": 300,
        "network_wait_s": null, "origin_wait_s": 3600, "live_share": 50, "clusters": 0});
    assert_eq!(policy["policy"], expected);
    let moved = plane.json(&["cluster", "add", "south", "--policy", "south-west"]);
    assert_eq!(
        moved["cluster"],
        json!({"name": "south", "policy": "south-west", "boxes": 1})
    );
    plane.json(&["cluster", "add", "south"]);
    let policies = plane.json(&["policy", "list"]);
    let clusters: Vec<&Value> = policies["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| &policy["clusters"])
        .collect();
    assert_eq!(clusters, [0, 1], "default, south-west");

    let granted = plane.json(&["appliance", "allow-deletion", BOX, "--bytes", "2 TB"]);
    assert_eq!(
        granted["appliance"]["may_delete"]["bytes"],
        2_000_000_000_000_u64
    );
    refusals_of_the_night(&plane);
}

/// Cluster `south` has policy `south-west`.
fn refusals_of_the_night(plane: &Plane) {
    let allow = format!("appliance allow-deletion {BOX} --bytes");
    let (nothing, endless) = (format!("{allow} 0B"), format!("{allow} 1TB --for 30d"));
    for (line, code, word) in [
        ("site change LHR001.isp --open true", 4, "does not exist"),
        (
            "site change TLS001.example.ISP --window-start 05:00",
            5,
            "04:00",
        ),
        (
            "site change TLS001.example.ISP --window-start 5",
            2,
            "02:00",
        ),
        (
            "site change TLS001.example.ISP --rate-limit fast",
            2,
            "none",
        ),
        (
            "policy set south-west --origin-wait 1s",
            5,
            "at least as long",
        ),
        ("policy set south-west --hops-wait never", 2, "hops"),
        ("policy remove south-west", 5, "cluster `south`"),
        ("policy remove north", 4, "policy `north`"),
        ("cluster add north --policy north", 4, "policy `north`"),
        (&nothing, 5, "more than nothing"),
        (&endless, 5, "7d"),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let (exit, said) = plane.fails(&args);
        assert_eq!(exit, code, "{line}: {said}");
        assert!(said.contains(word), "{line}: {said}");
    }
}

#[test]
fn an_operator_takes_a_title_away_and_makes_one_urgent() {
    let plane = Plane::start();
    plane.furnish();
    let media = plane.dir.path().join("media");
    for (path, text) in [
        ("film/hd/1.m4s", "one"),
        ("film/sd/1.m4s", "two"),
        ("song/1.mp4", "x"),
    ] {
        let path = media.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    assert!(
        plane
            .oca(&["import", media.to_str().unwrap()])
            .status
            .success()
    );
    plane.json(&["appliance", "enable", BOX]);
    let titles = plane.json(&["title", "list"]);
    let names: Vec<&Value> = titles["titles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|title| &title["title"])
        .collect();
    assert_eq!(names, ["film", "song"]);
    let region = json!({"name": "default", "holding": 0, "clusters": 1, "needed": 1,
        "live": false});
    let film = json!({"title": "film", "live": false, "withdrawn": false, "urgent_until": null,
        "bundles": 2, "bytes": 6, "popularity": 0.0, "boxes": 0, "regions": [region]});
    assert_eq!(plane.json(&["title", "show", "film"])["title"], film);
    let shown = plane.oca(&["title", "show", "film"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.ends_with("default\tfalse\t0\t1\t1\n"), "{shown}");

    let withdrawn = plane.json(&["title", "withdraw", "film"]);
    assert_eq!(withdrawn["title"]["withdrawn"], true);
    let steered = plane.json(&["steer", "192.0.2.1", "film/hd/1.m4s"]);
    assert_eq!(steered["empty"]["reason"], "withdrawn");
    let (code, said) = plane.fails(&["title", "urgent", "film", "--for", "6h"]);
    assert_eq!((code, said.contains("restore it")), (5, true), "{said}");
    plane.json(&["title", "restore", "film"]);
    let urgent = plane.json(&["title", "urgent", "film", "--for", "6h"]);
    let until = urgent["title"]["urgent_until"].as_str().unwrap();
    assert!(until.ends_with('Z'), "{until}");
    assert_eq!(plane.json(&["title", "calm", "film"])["title"], film);
    for (args, code, word) in [
        (&["title", "show", "nobody"][..], 4, "first segment"),
        (&["title", "withdraw", "nobody"], 4, "title `nobody`"),
        (&["title", "urgent", "film", "--for", "30d"], 2, "7d"),
        (&["title", "urgent", "film", "--for", "soon"], 2, "for:"),
    ] {
        let (exit, said) = plane.fails(args);
        assert_eq!(exit, code, "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
    }
}
