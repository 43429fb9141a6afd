//! The control plane reads every message of the contract that boxes send, and writes those that
//! they read: the golden files of the link, from this side.

#[path = "../support/golden.rs"]
mod files;

use crate::lab::Lab;
use crate::lab::fleet_config;
use crate::lab::refusal;
use oca::clock;
use oca::control::fleet::Fleet;
use oca::control::model::Registry;
use oca::ids::BoxId;
use oca::link::message::Ack;
use oca::link::message::Code;
use oca::link::message::Enrol;
use oca::link::message::Heartbeat;
use oca::link::message::Renew;
use oca::link::message::Report;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

const BOX: &str = "c009-tls001-example-isp";

fn names(value: &Value) -> BTreeSet<String> {
    let object = value.as_object().unwrap();
    object.keys().cloned().collect()
}

fn known() -> (BoxId, Registry) {
    let id = BoxId::parse(BOX).unwrap();
    let mut registry = crate::lab::registry(1);
    let mut appliance = registry.appliances.pop_first().unwrap().1;
    appliance.id = id.clone();
    registry.appliances.insert(id.clone(), appliance);
    (id, registry)
}

#[tokio::test]
async fn the_golden_report_and_heartbeat_are_taken_as_they_stand() {
    let (id, registry) = known();
    let mut fleet = Fleet::new(clock::now(), fleet_config(), Arc::default());
    fleet.registry(Arc::new(registry));
    let report: Report = files::read("report");
    let expected = (report.catalogue.to, report.routes.to);
    let reply = fleet.report(clock::now(), clock::wall(), &id, report.clone());
    let reply = reply.unwrap();
    let position = |ack: Option<Ack>| ack.unwrap().position;
    let acked = (
        position(reply.acked.catalogue),
        position(reply.acked.routes),
    );
    assert_eq!(acked, expected);
    let beat: Heartbeat = files::read("heartbeat");
    let beat = fleet.heartbeat(clock::now(), clock::wall(), &id, beat);
    let view = &fleet.view().boxes[&id];
    assert_eq!(view.objects, report.catalogue.count);
    assert_eq!(view.routes.len() as u64, report.routes.count);
    assert_eq!(view.manifest, report.manifest);
    // What is written has the fields that the contract shows, no more and no fewer.
    let written = serde_json::to_value(&reply).unwrap();
    assert_eq!(names(&written), names(&files::read("report-reply")));
    let written = serde_json::to_value(beat.unwrap()).unwrap();
    assert_eq!(names(&written), names(&files::read("heartbeat-reply")));
}

#[tokio::test]
async fn golden_enrolments_and_renewals_reach_the_authority() {
    let lab = Lab::new(1).listen();
    let mut stranger = lab.dial_with(None).await.unwrap();
    let enrol: Enrol = files::read("enrol");
    let answer = stranger.say("/v1/enrol", &enrol).await;
    // The lab's authority knows another token: it was asked, and said so.
    assert_eq!(refusal(&answer).1, Code::Token);
    let mut wire = lab.dial(1).await;
    let renew: Renew = files::read("renew");
    let answer = wire.say("/v1/renew", &renew).await;
    let written: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(names(&written), names(&files::read("enrolled")));
}

#[tokio::test]
async fn refusals_look_as_the_contract_shows_them() {
    let lab = Lab::new(1).listen();
    let mut wire = lab.dial(1).await;
    let answer = wire.post("/v1/nothing", None, "").await.unwrap();
    let written: Value = serde_json::from_slice(answer.body()).unwrap();
    let golden: Value = files::read("refusal-not-found");
    assert_eq!(names(&written), names(&golden));
    assert_eq!(names(&written["error"]), names(&golden["error"]));
    assert_eq!(written["error"]["code"], golden["error"]["code"]);
}
