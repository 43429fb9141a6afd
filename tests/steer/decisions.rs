//! What decides: each step, trust, closed boxes, content.

use crate::stage::Fleet;
use crate::stage::KEY;
use crate::stage::Stage;
use crate::stage::names;
use crate::stage::route;
use oca::control::model::Approval;
use oca::route::Asn;
use oca::route::Route;
use serde_json::Value;

async fn asked(fleet: &Fleet, query: &str) -> Value {
    let stage = Stage::of(fleet);
    let reply = stage.get(&format!("/v1/steer?key={KEY}&{query}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[tokio::test]
async fn each_step_decides_when_those_before_it_are_equal() {
    let here = "192.0.2.0/24";
    let cases: [(&str, Route, Route, &str, &str); 4] = [
        (
            "prefix-length",
            route("192.0.2.0/25", "64501 64500", 90),
            route(here, "64500", 0),
            "at=51.5,-0.1",
            "192.0.2.0/25 is longer than 192.0.2.0/24",
        ),
        (
            "as-path",
            route(here, "64500", 90),
            route(here, "64501 64500", 0),
            "at=51.5,-0.1",
            "an AS path of 1 is shorter than 2",
        ),
        (
            "med",
            route(here, "64500", 10),
            route(here, "64500", 20),
            "at=51.5,-0.1",
            "MED 10 is lower than 20",
        ),
        (
            "distance",
            route(here, "64500", 10),
            route(here, "64500", 10),
            "at=43.6,1.4",
            "km is nearer than",
        ),
    ];
    for (step, toulouse, london, at, words) in cases {
        let fleet = Fleet::new(vec![toulouse], vec![london]);
        let answer = asked(&fleet, &format!("client=192.0.2.7&{at}")).await;
        let (order, decided_by) = names(&answer);
        assert_eq!(decided_by, step, "{answer:#}");
        assert!(order[0].ends_with("tls001-isp"), "{answer:#}");
        let reason = &answer["boxes"][0]["reason"];
        assert_eq!(reason["against"], "c001-lhr001-isp");
        let said = reason["words"].as_str().unwrap();
        assert!(said.contains(words), "{said}");
        for fact in [
            "prefix",
            "neighbour",
            "class",
            "as_path_length",
            "med",
            "distance_km",
        ] {
            assert!(!reason[fact].is_null(), "{fact}: {reason}");
        }
    }
}

#[tokio::test]
async fn a_partner_who_is_not_approved_changes_nothing() {
    let mut fleet = Fleet::new(vec![route("192.0.2.0/24", "64500", 0)], Vec::new());
    fleet.partner(
        "isp",
        vec![Approval::Prefix("192.0.2.0/24".parse().unwrap())],
    );
    let before = asked(&fleet, "client=192.0.2.7&explain=1").await;
    for approvals in [vec![], vec![Approval::Origin(Asn(64501))]] {
        fleet.partner("other", approvals.clone());
        let site = fleet.site("MUC001.isp", "other", (48.35, 11.79));
        let stolen = ["192.0.2.0/25", "192.0.2.7/32", "192.0.0.0/16"];
        let stolen = stolen.map(|prefix| route(prefix, "64501", 0));
        fleet.appliance(1, &site, stolen.to_vec());
        let after = asked(&fleet, "client=192.0.2.7&explain=1").await;
        assert_eq!(before["boxes"], after["boxes"]);
        let refused = after["explain"]["refused_routes"].as_array().unwrap();
        assert_eq!(refused.len(), 3);
        let expected = if approvals.is_empty() {
            "not-approved"
        } else {
            "conflict:isp"
        };
        assert!(
            refused.iter().all(|row| row["reason"] == expected),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_box_that_shuts_gives_its_place_to_the_next() {
    let mut fleet = Fleet::new(
        vec![route("192.0.2.0/24", "64500", 0)],
        vec![route("192.0.2.0/24", "64500", 10)],
    );
    let stage = Stage::of(&fleet);
    let target = format!("/v1/steer?client=192.0.2.7&key={KEY}&explain=1");
    let before = stage.get(&target).await.json();
    let (order, _) = names(&before);
    assert_eq!(order.len(), 3);
    fleet.shut(&order[0]);
    stage.steering.refresh(fleet.inputs());
    let after = stage.get(&target).await.json();
    assert_eq!(names(&after).0, order[1..]);
    assert_eq!(
        after["generation"],
        before["generation"].as_u64().unwrap() + 1
    );
    let considered = after["explain"]["considered"].as_array().unwrap();
    let gone = considered
        .iter()
        .find(|row| row["box"] == order[0].as_str());
    assert_eq!(gone.unwrap()["stage"], "open");
    assert_eq!(gone.unwrap()["words"], "sends no heartbeat");
}

#[tokio::test]
async fn nobody_s_client_gets_an_open_site_or_an_empty_list_with_the_reason() {
    let mut fleet = Fleet::new(vec![route("192.0.2.0/24", "64500", 0)], Vec::new());
    let answer = asked(&fleet, "client=203.0.113.9").await;
    assert_eq!(answer["boxes"], serde_json::json!([]));
    assert_eq!(answer["empty"]["reason"], "no-route");
    fleet.registry.sites.get_mut("lhr001-isp").unwrap().open = true;
    let answer = asked(&fleet, "client=203.0.113.9").await;
    assert_eq!(names(&answer).0, ["c001-lhr001-isp"]);
    assert_eq!(answer["empty"], Value::Null);
}
