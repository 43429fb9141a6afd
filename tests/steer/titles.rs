//! Titles that are leaving, withdrawn, or not yet held by enough clusters, as viewers and back ends
//! see them.

use crate::stage::Fleet;
use crate::stage::KEY;
use crate::stage::Stage;
use crate::stage::names;
use crate::stage::route;
use oca::control::allocate::Listed;
use oca::control::model::Cluster;
use oca::control::model::FILL_CLUSTER;
use oca::control::model::FillCluster;
use oca::control::model::TitleState;
use oca::control::steer::Inputs;
use serde_json::Value;
use std::sync::Arc;

/// Two boxes in Toulouse, one in London; each site is a cluster of the default policy.
fn fleet() -> Fleet {
    let heard = vec![route("192.0.2.0/24", "64500", 0)];
    let mut fleet = Fleet::new(heard.clone(), heard);
    let policy = FillCluster::named(FILL_CLUSTER);
    fleet
        .registry
        .fill_clusters
        .insert(policy.name.clone(), policy);
    for label in ["tls001-isp", "lhr001-isp"] {
        let cluster = Cluster {
            name: label.to_owned(),
            fill_cluster: FILL_CLUSTER.to_owned(),
        };
        fleet.registry.clusters.insert(label.to_owned(), cluster);
    }
    fleet
}

/// What `names` list: everything, or nothing.
fn listed(mut inputs: Inputs, ids: &[&str], chosen: &[u32]) -> Inputs {
    let listed = Arc::new(Listed::new(&inputs.library, chosen));
    let mut all = inputs.listed.as_ref().clone();
    for id in ids {
        let id = oca::ids::BoxId::parse(id).unwrap();
        all.insert(id, listed.clone());
    }
    inputs.listed = Arc::new(all);
    inputs
}

const TOULOUSE: [&str; 2] = ["c001-tls001-isp", "c002-tls001-isp"];
const LONDON: &str = "c001-lhr001-isp";

async fn steer(stage: &Stage, explain: &str) -> Value {
    let target = format!("/v1/steer?client=192.0.2.7&key={KEY}&explain={explain}");
    stage.get(&target).await.json()
}

#[tokio::test]
async fn nobody_is_sent_to_a_box_whose_manifest_lets_the_content_go() {
    let stage = Stage::of(&fleet());
    assert_eq!(names(&steer(&stage, "0").await).0.len(), 3);
    // London has no manifest: it is taken by what it holds.
    stage.take(listed(fleet().inputs(), &TOULOUSE, &[]));
    let answer = steer(&stage, "1").await;
    assert_eq!(answer["boxes"].as_array().unwrap().len(), 1);
    assert_eq!(answer["boxes"][0]["box"], LONDON);
    let considered = answer["explain"]["considered"].as_array().unwrap();
    let stages: Vec<&Value> = considered.iter().map(|row| &row["stage"]).collect();
    assert_eq!(stages, ["chosen", "leaving", "leaving"]);
    // A question without a key is not about content.
    let any = stage.get("/v1/steer?client=192.0.2.7").await.json();
    assert_eq!(names(&any).0.len(), 3);

    let inputs = listed(fleet().inputs(), &TOULOUSE, &[]);
    stage.take(listed(inputs, &[LONDON], &[]));
    let answer = steer(&stage, "0").await;
    assert_eq!(answer["empty"]["reason"], "leaving");
    stage.take(listed(fleet().inputs(), &TOULOUSE, &[0]));
    assert_eq!(names(&steer(&stage, "0").await).0.len(), 3);
}

#[tokio::test]
async fn content_that_came_after_the_manifest_was_made_is_not_leaving() {
    let empty = Fleet {
        library: oca::control::model::Library::default(),
        ..fleet()
    };
    let old = listed(empty.inputs(), &TOULOUSE, &[]);
    let mut inputs = fleet().inputs();
    inputs.listed = old.listed;
    let stage = Stage::without_fleet(oca::control::api::public::Limits::default());
    stage.take(inputs);
    assert_eq!(names(&steer(&stage, "0").await).0.len(), 3);
}

#[tokio::test]
async fn a_withdrawn_title_is_shown_to_nobody_and_says_so() {
    let mut fleet = fleet();
    let state = TitleState {
        withdrawn: true,
        urgent_until: None,
    };
    fleet.library.titles.insert("film".to_owned(), state);
    let stage = Stage::of(&fleet);
    let answer = steer(&stage, "1").await;
    assert_eq!(answer["empty"]["reason"], "withdrawn");
    assert_eq!(answer["boxes"], serde_json::json!([]));
    let page = stage.metrics.render();
    let line = "oca_steer_empty_total{reason=\"withdrawn\"} 1";
    assert!(page.contains(line), "{page}");
    let title = stage.get("/v1/title/film").await.json();
    assert_eq!(title["live"], false);
}

#[tokio::test]
async fn a_back_end_asks_whether_a_title_may_be_shown() {
    let mut fleet = fleet();
    let stage = Stage::of(&fleet);
    let reply = stage.get("/v1/title/film").await;
    assert_eq!(reply.status, 200);
    let region = |holding: u32, live: bool| {
        serde_json::json!({"v": 1, "title": "film", "live": live, "regions":
            [{"name": "default", "holding": holding, "clusters": 2, "needed": 1, "live": live}]})
    };
    assert_eq!(reply.json(), region(2, true));
    assert!(reply.head.contains("access-control-allow-origin: *"));
    fleet.shut(LONDON);
    stage.take(fleet.inputs());
    assert_eq!(stage.get("/v1/title/film").await.json(), region(1, true));
    for id in TOULOUSE {
        fleet.shut(id);
    }
    stage.take(fleet.inputs());
    assert_eq!(stage.get("/v1/title/film").await.json(), region(0, false));

    for nothing in ["/v1/title/other", "/v1/title/film/v1", "/v1/title/"] {
        let reply = stage.get(nothing).await;
        assert_eq!(reply.status, 404, "{nothing}");
        assert!(reply.body.contains("first segment"), "{reply:?}");
    }
    assert_eq!(stage.post("/v1/title/film", b"").await.status, 405);
}
