//! The world in first form: a whole appliance, its operator and its viewers on one paused runtime,
//! over in-memory streams. Time moves only where a test moves it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod world {
    pub(crate) mod viewer;
    pub(crate) mod world_box;
}

use oca::appliance::Signal;
use oca::clock;
use oca::command::Command;
use oca::tls::token;
use oca::tls::token::Claim;
use oca::tls::token::FleetKey;
use oca::tls::token::HostKey;
use oca::tls::token::KeyId;
use oca::tls::token::Scope;
use oca::tls::token::Secret;
use serde_json::json;
use std::time::Duration;
use world::viewer::Viewer;
use world::world_box::WorldBox;

const ANNA: &str = "192.0.2.10:4000";
const BERT: &str = "198.51.100.7:4000";

#[tokio::test(start_paused = true)]
async fn a_blank_box_is_closed_until_it_is_prefilled_and_then_plays_what_it_was_given() {
    let mut box_ = WorldBox::start("require = []").await;
    let mut anna = Viewer::plain(&box_.net, ANNA).await;
    let refused = anna.get("title/v1/seg-1.m4s").await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("no-manifest"), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());

    box_.prefill().await;
    for mut viewer in [
        Viewer::plain(&box_.net, ANNA).await,
        Viewer::tls(&box_.net, BERT, &box_.authority).await,
    ] {
        for (key, bytes) in box_.media() {
            let answer = viewer.get(&key).await;
            assert_eq!(answer.status, 200, "{key}");
            assert_eq!(answer.body, bytes, "{key}");
        }
        assert_eq!(viewer.get("title/v1/none.m4s").await.status, 404);
    }
    box_.terminate().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_running_viewers_finish_and_ends_by_itself() {
    let mut box_ = WorldBox::start("require = []").await;
    box_.prefill().await;
    let (key, bytes) = box_.media().remove(0);
    let mut anna = Viewer::plain(&box_.net, ANNA).await;
    assert_eq!(anna.get(&key).await.body, bytes);

    let three_hours = Duration::from_secs(3 * 3600);
    let drain = Command::Drain {
        time: Some(three_hours),
    };
    assert_eq!(box_.ask(drain).await.unwrap()["drained"], json!(true));
    let mut bert = Viewer::plain(&box_.net, BERT).await;
    let refused = bert.get(&key).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("drained"), "{}", refused.text());
    assert_eq!(anna.get(&key).await.body, bytes, "a running viewer goes on");
    let mut anna_again = Viewer::plain(&box_.net, ANNA).await;
    assert_eq!(
        anna_again.get(&key).await.status,
        200,
        "on another connection, too"
    );

    box_.pass(Duration::from_secs(11 * 60)).await;
    let mut anna_late = Viewer::plain(&box_.net, ANNA).await;
    assert_eq!(
        anna_late.get(&key).await.status,
        503,
        "silent for over ten minutes"
    );

    box_.pass(three_hours).await;
    let mut bert = Viewer::plain(&box_.net, BERT).await;
    assert_eq!(
        bert.get(&key).await.status,
        200,
        "the drain ended by itself"
    );
    box_.terminate().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_reload_changes_nothing_and_a_good_one_counts() {
    let mut box_ = WorldBox::start("require = []").await;
    box_.prefill().await;
    let (key, _) = box_.media().remove(0);

    box_.write_config("require = [\"cloks\"]");
    let refusal = box_.ask(Command::Reload).await.unwrap_err();
    assert!(refusal.to_string().contains("clock"), "{refusal}");
    assert_eq!(
        Viewer::plain(&box_.net, ANNA).await.get(&key).await.status,
        200
    );

    let nobody = "[control]\nurl = \"https://control.example.net\"\nca = \"sha256:".to_owned();
    let nobody = nobody + &"0".repeat(64) + "\"\n";
    box_.write_config(&format!("require = [\"control\"]\n{nobody}"));
    let answer = box_.ask(Command::Reload).await.unwrap();
    assert_eq!(answer["changed"], json!(["gate.require"]));
    assert_eq!(answer["restart_needed"], json!(["control"]));
    let refused = Viewer::plain(&box_.net, BERT).await.get(&key).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("not-enabled"), "{}", refused.text());
    box_.terminate().await;
}

#[tokio::test(start_paused = true)]
async fn term_waits_for_a_running_response_and_not_for_a_stalled_one() {
    let mut box_ = WorldBox::start("require = []").await;
    box_.prefill().await;
    let (key, bytes) = box_.largest();

    let mut slow = Viewer::plain(&box_.net, ANNA).await;
    let mut running = slow.begin(&key).await;
    let mut stalled = Viewer::plain(&box_.net, BERT).await;
    let _stalled = stalled.begin(&key).await;
    box_.signal(Signal::Terminate).await;
    assert_eq!(
        running.rest().await,
        bytes,
        "the running response was finished"
    );
    let refused = Viewer::try_plain(&box_.net, ANNA).await;
    assert!(refused.is_none(), "a stopping box takes no connections");

    let asked = clock::now();
    box_.ended(Duration::from_secs(40)).await.unwrap();
    let waited = clock::now() - asked;
    assert!(waited <= Duration::from_secs(34), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_term_stops_at_once() {
    let mut box_ = WorldBox::start("require = []").await;
    box_.prefill().await;
    let (key, _) = box_.largest();
    let mut stalled = Viewer::plain(&box_.net, BERT).await;
    let _stalled = stalled.begin(&key).await;
    let asked = clock::now();
    box_.signal(Signal::Terminate).await;
    box_.signal(Signal::Terminate).await;
    box_.ended(Duration::from_secs(5)).await.unwrap();
    assert!(clock::now() - asked <= Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn one_dead_worker_of_two_ends_the_process_with_an_error() {
    let mut box_ = WorldBox::start("require = []").await;
    box_.workers.kill_one();
    let error = box_.ended(Duration::from_secs(60)).await.unwrap_err();
    assert!(error.to_string().contains("worker"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_box_admits_by_its_own_keys_and_takes_others_at_a_reload_under_a_viewer() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("keys");
    let key = |id: &str, host: &str| {
        let fleet = FleetKey {
            id: KeyId::parse(id).unwrap(),
            from: 0,
            until: 4_000_000_000,
            secret: Secret::from_bytes([5; 32]),
        };
        fleet.host_key(host).unwrap()
    };
    let (old, young) = (key("old", "box.example"), key("young", "box.example"));
    token::save_host(&file, std::slice::from_ref(&old)).unwrap();
    let sections = format!(
        "require = []\n[serve.tokens]\nmode = \"optional\"\nkey_file = \"{}\"\n",
        file.display()
    );
    let mut box_ = WorldBox::start(&sections).await;
    box_.prefill().await;
    let (media, bytes) = box_.media().remove(0);
    let (directory, _) = media.rsplit_once('/').unwrap();
    let signed = |key: &HostKey| {
        let claim = Claim {
            scope: Scope::Directory(directory),
            issued: clock::unix_seconds(clock::wall()),
            expires: clock::unix_seconds(clock::wall()) + 600,
            session: None,
            client: None,
            rate: None,
        };
        format!("t/{}/{media}", token::sign(key, &claim).unwrap().0)
    };
    let mut anna = Viewer::tls(&box_.net, ANNA, &box_.authority).await;
    assert_eq!(anna.get(&signed(&old)).await.body, bytes);
    assert_eq!(anna.get(&signed(&young)).await.status, 403);
    // The key of another box, under this one's name.
    let stolen = HostKey {
        host: "box.example".to_owned(),
        ..key("old", "other.example")
    };
    let refused = anna.get(&signed(&stolen)).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().starts_with("bad MAC"), "{}", refused.text());

    token::save_host(&file, std::slice::from_ref(&young)).unwrap();
    box_.ask(Command::Reload).await.unwrap();
    assert_eq!(anna.get(&signed(&young)).await.body, bytes);
    assert_eq!(anna.get(&signed(&old)).await.status, 403);
    box_.terminate().await;
}
