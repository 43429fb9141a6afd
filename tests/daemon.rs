//! The real daemon and its signals: HUP reloads all or nothing, TERM ends it, a second daemon is
//! refused.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod support;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use oca::clock;
use std::fs;
use std::process::Command;
use std::time::Duration;
use support::Lab;
use support::OCA;

/// For a signal to show its effect.
const PATIENCE: Duration = Duration::from_secs(10);

fn signal(lab: &Lab, signal: Signal) {
    let process = i32::try_from(lab.appliance.process().unwrap()).unwrap();
    kill(Pid::from_raw(process), signal).unwrap();
}

/// Waits until a question's answer satisfies `is`.
async fn until(lab: &Lab, path: &str, is: impl Fn(&serde_json::Value) -> bool) {
    let deadline = clock::now() + PATIENCE;
    loop {
        let answer = lab.appliance.ask(path).await.unwrap();
        if is(&answer) {
            return;
        }
        assert!(clock::now() < deadline, "{path} stays {answer}");
        clock::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn hup_switches_to_a_good_configuration_and_ignores_a_bad_one() {
    let lab = Lab::start("oca-hup").await;
    let file = lab.appliance.config();
    let good = fs::read_to_string(&file).unwrap();
    assert!(good.contains("require = []"), "{good}");

    let closed = good.replace("require = []", "require = [\"bgp\"]")
        + "\n[bgp]\nasn = 64500\nrouter_id = \"192.0.2.9\"\n[[bgp.neighbour]]\n\
           name = \"edge-1\"\naddress = \"192.0.2.1\"\nasn = 64501\nclass = \"embedded\"\n";
    fs::write(&file, &closed).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/status", |status| {
        status["gate"]["reasons"][0] == "no-routes"
    })
    .await;

    fs::write(&file, closed.replace("[\"bgp\"]", "[]\nspeed = 9")).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/status", |_| {
        lab.appliance.tail().contains("reload refused")
    })
    .await;
    let status = lab.appliance.ask("/v1/status").await.unwrap();
    assert_eq!(status["gate"]["reasons"][0], "no-routes", "{status}");

    fs::write(&file, good).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/status", |status| status["state"] == "serving").await;
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_leaves_the_first_alone() {
    let mut lab = Lab::start("oca-second").await;
    let second = Command::new(OCA)
        .args(["run", "--config"])
        .arg(lab.appliance.config())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another"), "{said}");
    let status = lab.appliance.ask("/v1/status").await.unwrap();
    assert_eq!(status["state"], "serving", "{status}");
    let (exit, _) = lab.appliance.terminate(PATIENCE).await.unwrap();
    assert!(exit.success(), "{exit}");
}
