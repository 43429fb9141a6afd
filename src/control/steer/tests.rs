//! The four decisions, trust, content, closed boxes and names, as answers show them.

use super::Config;
use super::RawQuestion;
use super::Steering;
use super::testing::World;
use super::testing::of_class;
use super::testing::prefix;
use super::testing::route;
use crate::clock::Wall;
use crate::control::fleet::Shut;
use crate::control::model::Approval;
use crate::route::Asn;
use crate::route::Class;
use serde_json::Value;

const TOULOUSE: (f64, f64) = (43.6291, 1.3638);
const LONDON: (f64, f64) = (51.4706, -0.4619);

fn ask(world: &World, raw: &RawQuestion) -> Value {
    let steering = Steering::new(Config {
        domain: "oca.example.net".to_owned(),
        answers: 3,
    });
    steering.refresh(world.inputs());
    steering.question(raw, None, Wall::UNIX_EPOCH).unwrap()
}

fn question(client: &str) -> RawQuestion {
    RawQuestion {
        client: Some(client.to_owned()),
        key: Some("film/hd/seg-1.m4s".to_owned()),
        explain: Some("1".to_owned()),
        ..RawQuestion::default()
    }
}

/// Box of each rank, and what decided the first.
fn names(answer: &Value) -> (Vec<&str>, Option<&str>) {
    let boxes = answer["boxes"].as_array().unwrap();
    let names = boxes.iter().map(|row| row["box"].as_str().unwrap());
    (
        names.collect(),
        answer["boxes"][0]["reason"]["decided_by"].as_str(),
    )
}

/// Two sites of one partner; what the two hear is the caller's.
fn two(first: Vec<crate::route::Route>, second: Vec<crate::route::Route>) -> World {
    let mut world = World::new();
    let toulouse = world.site("TLS001.isp", "isp", TOULOUSE);
    let london = world.site("LHR001.isp", "isp", LONDON);
    world.appliance(1, &toulouse, first.clone());
    world.appliance(2, &toulouse, first);
    world.appliance(1, &london, second);
    world
}

#[test]
fn the_longer_prefix_wins_against_the_shorter_as_path() {
    let world = two(
        vec![route("192.0.2.0/25", "r1", "64502 64500", 90)],
        vec![route("192.0.2.0/24", "r1", "64500", 0)],
    );
    let answer = ask(&world, &question("192.0.2.1"));
    let (order, decided_by) = names(&answer);
    assert_eq!(decided_by, Some("prefix-length"));
    assert!(order[0].ends_with("tls001-isp") && order[1].ends_with("tls001-isp"));
    assert_eq!(order[2], "c001-lhr001-isp");
    let reason = &answer["boxes"][0]["reason"];
    assert_eq!(reason["prefix"], "192.0.2.0/25");
    assert_eq!(reason["neighbour"], "r1");
    assert_eq!(reason["class"], "embedded");
    assert_eq!(reason["as_path_length"], 2);
    assert_eq!(reason["med"], 90);
    assert_eq!(reason["against"], "c001-lhr001-isp");
    let words = "192.0.2.0/25 is longer than 192.0.2.0/24 of c001-lhr001-isp";
    assert_eq!(reason["words"], words);
    assert_eq!(answer["boxes"][2]["reason"]["decided_by"], "last");
    // The same is said when the box it won against has no place in the answer.
    let mut one = question("192.0.2.1");
    one.n = Some("1".to_owned());
    let answer = ask(&world, &one);
    assert_eq!(names(&answer), (vec![order[0]], Some("prefix-length")));
    assert_eq!(answer["boxes"][0]["reason"]["words"], words);
}

#[test]
fn the_shorter_as_path_wins_against_the_lower_med() {
    let world = two(
        vec![route("192.0.2.0/24", "r1", "64500", 90)],
        vec![route("192.0.2.0/24", "r1", "64500 64500", 0)],
    );
    let answer = ask(&world, &question("192.0.2.1"));
    assert_eq!(names(&answer).1, Some("as-path"));
    let words = "an AS path of 1 is shorter than 2 of c001-lhr001-isp";
    assert_eq!(answer["boxes"][0]["reason"]["words"], words);
}

#[test]
fn the_lower_med_wins_with_the_class_added_against_the_nearer_box() {
    let world = two(
        vec![of_class(
            Class::Peering,
            route("192.0.2.0/24", "r1", "64500", 0),
        )],
        vec![route("192.0.2.0/24", "r1", "64500", 49)],
    );
    let mut asked = question("192.0.2.1");
    asked.at = Some("43.6,1.4".to_owned());
    let answer = ask(&world, &asked);
    let (order, decided_by) = names(&answer);
    assert_eq!((order[0], decided_by), ("c001-lhr001-isp", Some("med")));
    assert_eq!(answer["boxes"][1]["reason"]["med"], 50);
}

#[test]
fn the_nearer_box_wins_where_the_client_s_place_is_known() {
    let heard = || vec![route("192.0.2.0/24", "r1", "64500", 0)];
    let mut world = two(heard(), heard());
    let mut asked = question("192.0.2.1");
    asked.at = Some("51.5,-0.1".to_owned());
    let answer = ask(&world, &asked);
    let (order, decided_by) = names(&answer);
    assert_eq!(
        (order[0], decided_by),
        ("c001-lhr001-isp", Some("distance"))
    );
    assert_eq!(answer["boxes"][0]["reason"]["distance_km"], 25);
    assert_eq!(answer["at_source"], "question");

    // Without a position nothing is said of distances, and the hash decides.
    let answer = ask(&world, &question("192.0.2.1"));
    assert_eq!(names(&answer).1, Some("hash"));
    assert_eq!(answer["boxes"][0]["reason"]["distance_km"], Value::Null);
    let words = answer["boxes"][0]["reason"]["words"].as_str().unwrap();
    assert!(words.contains("position is not known"), "{words}");

    // The operator's table knows it.
    let near_toulouse = "43.6,1.4".parse().unwrap();
    world.locator.insert(prefix("192.0.2.0/24"), near_toulouse);
    let answer = ask(&world, &question("192.0.2.1"));
    assert!(names(&answer).0[0].ends_with("tls001-isp"));
    assert_eq!(answer["at_source"], "table");
}

#[test]
fn a_partner_without_approval_changes_nothing() {
    let mut world = two(vec![route("192.0.2.0/24", "r1", "64500", 0)], Vec::new());
    let before = ask(&world, &question("192.0.2.1"));
    world.partner("other", vec![Approval::Prefix(prefix("203.0.113.0/24"))]);
    let theirs = world.site("MUC001.isp", "other", TOULOUSE);
    // A more specific prefix, even with the rightful origin AS in its path.
    let forged = route("192.0.2.0/25", "r1", "64500", 0);
    world.appliance(1, &theirs, vec![forged]);
    let after = ask(&world, &question("192.0.2.1"));
    assert_eq!(before["boxes"], after["boxes"]);
    let refused = &after["explain"]["refused_routes"][0];
    assert_eq!(refused["box"], "c001-muc001-isp");
    assert_eq!(refused["prefix"], "192.0.2.0/25");
    assert_eq!(refused["reason"], "not-approved");
}

#[test]
fn an_approved_origin_does_not_reach_into_another_partner_s_prefix() {
    let mut world = two(vec![route("192.0.2.0/24", "r1", "64500", 0)], Vec::new());
    world.partner("isp", vec![Approval::Prefix(prefix("192.0.2.0/24"))]);
    world.partner("other", vec![Approval::Origin(Asn(64510))]);
    let theirs = world.site("MUC001.isp", "other", TOULOUSE);
    let announced = ["192.0.2.0/25", "192.0.0.0/16"].map(|text| route(text, "r1", "64510", 0));
    world.appliance(1, &theirs, announced.to_vec());
    // The shorter route would take over whenever the rightful boxes are closed.
    let ours: Vec<_> = world.view.boxes.keys().cloned().collect();
    for id in ours.iter().filter(|id| id.as_str().ends_with("tls001-isp")) {
        world.shut(id, Shut::Silent);
    }
    let answer = ask(&world, &question("192.0.2.1"));
    assert_eq!(names(&answer).0, [""; 0]);
    assert_eq!(answer["empty"]["reason"], "no-open-box");
    for row in answer["explain"]["refused_routes"].as_array().unwrap() {
        assert_eq!(row["reason"], "conflict:isp", "{row}");
    }
    // Outside of it the approval counts.
    let answer = ask(&world, &question("192.0.77.1"));
    assert_eq!(
        names(&answer),
        (vec!["c001-muc001-isp"], Some("only-candidate"))
    );
}

#[test]
fn content_goes_before_the_longest_prefix_and_closed_boxes_are_passed_over() {
    let mut world = two(
        vec![route("192.0.2.0/25", "r1", "64500", 0)],
        vec![route("192.0.2.0/24", "r1", "64500", 0)],
    );
    let ids: Vec<_> = world.view.boxes.keys().cloned().collect();
    let [london, first, second] = &ids[..] else {
        panic!("three boxes")
    };
    world.empty(first);
    world.shut(second, Shut::Gate("closed: drained".to_owned()));
    let answer = ask(&world, &question("192.0.2.1"));
    assert_eq!(
        names(&answer),
        (vec![london.as_str()], Some("only-candidate"))
    );
    let considered = answer["explain"]["considered"].as_array().unwrap();
    let stage = |id: &crate::ids::BoxId| {
        let row = considered
            .iter()
            .find(|row| row["box"] == id.as_str())
            .unwrap();
        (
            row["stage"].as_str().unwrap(),
            row["words"].as_str().unwrap(),
        )
    };
    assert_eq!(stage(first), ("content", "does not hold the whole bundle"));
    assert_eq!(stage(second), ("open", "closed: drained"));
    assert_eq!(stage(london).0, "chosen");
}

#[test]
fn nobody_announces_the_client() {
    let mut world = two(vec![route("192.0.2.0/24", "r1", "64500", 0)], Vec::new());
    let mut asked = question("203.0.113.5");
    let answer = ask(&world, &asked);
    assert_eq!(answer["empty"]["reason"], "no-route");
    for site in world.registry.sites.values_mut() {
        site.open = true;
    }
    asked.at = Some("51.5,-0.1".to_owned());
    let answer = ask(&world, &asked);
    assert_eq!(names(&answer).0[0], "c001-lhr001-isp");
    assert_eq!(names(&answer).1, Some("distance"));
    assert_eq!(answer["boxes"][0]["reason"]["prefix"], Value::Null);
    assert_eq!(answer["explain"]["fallback"], true);
    for id in world.view.boxes.keys().cloned().collect::<Vec<_>>() {
        world.empty(&id);
    }
    let answer = ask(&world, &asked);
    assert_eq!(answer["empty"]["reason"], "no-box-holds-it");
    asked.key = Some("film/hd/seg-2.m4s".to_owned());
    assert_eq!(ask(&world, &asked)["empty"]["reason"], "unknown-key");
}

#[test]
fn names_match_the_client_s_family() {
    let heard = vec![
        route("192.0.2.0/24", "r1", "64500", 0),
        route("2001:db8::/32", "r1", "64500", 0),
    ];
    let mut world = World::new();
    let site = world.site("TLS001.example.ISP", "isp", TOULOUSE);
    let id = world.appliance(9, &site, heard);
    world.registry.appliances.get_mut(&id).unwrap().https_port = 8443;
    let urls = |world: &World, asked: &RawQuestion| {
        let answer = ask(world, asked);
        let urls = answer["boxes"][0]["urls"].as_array().cloned();
        let texts = urls.unwrap_or_default().into_iter();
        texts
            .map(|url| url.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let dual = "https://c009-tls001-example-isp.oca.example.net:8443/film/hd/seg-1.m4s";
    let of = |family: &str| dual.replace("//", &format!("//{family}-"));
    assert_eq!(urls(&world, &question("192.0.2.1")), [&of("ipv4"), dual]);
    assert_eq!(
        urls(&world, &question("::ffff:192.0.2.1")),
        [&of("ipv4"), dual]
    );
    assert_eq!(urls(&world, &question("2001:db8::1")), [&of("ipv6"), dual]);
    let mut wanted = question("192.0.2.1");
    wanted.family = Some("ipv6".to_owned());
    assert_eq!(urls(&world, &wanted), [&of("ipv6"), dual]);
    world.registry.appliances.get_mut(&id).unwrap().ipv6 = None;
    assert_eq!(urls(&world, &question("2001:db8::1")), [dual]);
    let answer = ask(&world, &wanted);
    assert_eq!(answer["empty"]["reason"], "no-open-box");
    assert_eq!(answer["explain"]["considered"][0]["stage"], "family");
}

#[test]
fn among_equals_the_share_follows_the_weight_and_stays() {
    let mut world = World::new();
    let site = world.site("TLS001.isp", "isp", TOULOUSE);
    let heard = vec![route("198.51.0.0/16", "r1", "64500", 0)];
    let big = world.appliance(1, &site, heard.clone());
    let small = world.appliance(2, &site, heard.clone());
    let profile = crate::ids::Profile::Global;
    world.registry.appliances.get_mut(&small).unwrap().profile = profile;
    let steering = Steering::new(Config {
        domain: "oca.example.net".to_owned(),
        answers: 1,
    });
    let firsts = |world: &World| -> Vec<String> {
        steering.refresh(world.inputs());
        (0..=255_u8)
            .flat_map(|third| [("film/hd", third), ("film/sd", third)])
            .map(|(key, third)| {
                let mut asked = question(&format!("198.51.{third}.1"));
                asked.key = Some(key.to_owned());
                let answer = steering.question(&asked, None, Wall::UNIX_EPOCH).unwrap();
                names(&answer).0[0].to_owned()
            })
            .collect()
    };
    let before = firsts(&world);
    let share = before.iter().filter(|name| *name == big.as_str()).count();
    // 200 : 80 of 512 questions is 366; four standard deviations are 41.
    assert!((325..=407).contains(&share), "{share}");
    let third = world.appliance(3, &site, heard);
    let after = firsts(&world);
    for (before, after) in before.iter().zip(&after) {
        assert!(after == before || after == third.as_str());
    }
    assert!(after.iter().any(|name| name == third.as_str()));
    assert_eq!(steering.counters().read("hash"), 1024);
}
