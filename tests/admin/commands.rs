//! What may be commanded, by whom, and what happens when nobody carries it out.

use super::host::Host;
use super::host::raw;
use oca::cli::Exit;
use oca::cli::client::Client;
use oca::clock;
use oca::command::Command;
use oca::command::Refusal;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

pub(crate) fn daemon(command: &Command) -> Result<Value, Refusal> {
    match command {
        Command::Drain { time } => Ok(json!({"seconds": time.map(|time| time.as_secs())})),
        Command::Undrain => Err(Refusal::State("it is not drained".to_owned())),
        Command::Reload => Err(Refusal::BadRequest("oca.toml:3: no such key".to_owned())),
        Command::LogLevel { filter } => Ok(json!({"filter": filter, "was": "info"})),
        Command::Prefill { dir } => {
            Err(Refusal::NotFound(format!("{} is not there", dir.display())))
        }
        Command::FillStart { .. } => Err(Refusal::State("it opens at 02:00".to_owned())),
        Command::CertificateCheck { .. } => Err(Refusal::State("another box".to_owned())),
        Command::FillPause => Ok(json!({"paused": true})),
        Command::FillResume => Ok(json!({"paused": false})),
        Command::Bgp { neighbour, order } => {
            if neighbour == "nobody" {
                return Err(Refusal::NotFound(
                    "no BGP neighbour is called `nobody`".to_owned(),
                ));
            }
            Ok(json!({"neighbour": neighbour, "order": format!("{order:?}")}))
        }
        Command::DiskAdopt { path } | Command::DiskCheck { path } => {
            Ok(json!({"disk": path, "admitted": true}))
        }
        Command::DiskRetire { path, undo } => Ok(json!({"disk": path, "retires": !undo})),
        Command::DiskFormat { .. } => Err(Refusal::State("it is online".to_owned())),
        Command::PrefillStop => Err(Refusal::Failed("the disk is full".to_owned())),
    }
}

#[test]
fn commands_arrive_parsed_and_their_replies_return() {
    let mut host = Host::start(4);
    host.answer_commands(daemon);
    let client = host.client();
    let post = |path, body| client.post(path, &body);
    assert_eq!(
        post("/v1/drain", json!({"for": "3h"})).unwrap()["seconds"],
        10_800
    );
    let for_good = post("/v1/drain", json!({"for": null})).unwrap();
    assert_eq!(for_good, json!({"v": 1, "seconds": null}));
    assert!(
        raw(
            &host.socket(),
            b"POST /v1/drain HTTP/1.1\r\nhost: x\r\n\r\n"
        )
        .contains("200 OK")
    );
    let level = post("/v1/log-level", json!({"level": "oca=debug"})).unwrap();
    assert_eq!(level["filter"], "oca=debug");
}

#[test]
fn refusals_and_bad_requests_return_with_their_reason() {
    let mut host = Host::start(4);
    host.answer_commands(daemon);
    let client = host.client();
    for (path, body, exit, part) in [
        ("/v1/undrain", json!({}), Exit::Refused, "it is not drained"),
        ("/v1/reload", json!({}), Exit::Usage, "oca.toml:3"),
        (
            "/v1/prefill",
            json!({"dir": "/media"}),
            Exit::NotFound,
            "/media",
        ),
        (
            "/v1/prefill",
            json!({"dir": "media"}),
            Exit::Usage,
            "absolute",
        ),
        ("/v1/prefill/stop", json!({}), Exit::Failed, "disk is full"),
        (
            "/v1/disks/format",
            json!({"path": "/d"}),
            Exit::Refused,
            "it is online",
        ),
        (
            "/v1/drain",
            json!({"for": "soon"}),
            Exit::Usage,
            "no number",
        ),
        (
            "/v1/drain",
            json!({"for": "0s"}),
            Exit::Usage,
            "more than nothing",
        ),
        ("/v1/drain", json!({"for": "900d"}), Exit::Usage, "366 days"),
        (
            "/v1/drain",
            json!({"four": "3h"}),
            Exit::Usage,
            "unknown field",
        ),
        (
            "/v1/log-level",
            json!({"level": "inof"}),
            Exit::Usage,
            "did you mean `info`",
        ),
        ("/v1/statsu", json!({}), Exit::NotFound, "/v1/status"),
        ("/v1/status", json!({}), Exit::Failed, "questions are GET"),
    ] {
        let error = client.post(path, &body).unwrap_err();
        assert_eq!(error.exit(), exit, "{path}: {error}");
        assert!(error.to_string().contains(part), "{path}: {error}");
    }
}

#[test]
fn the_read_only_twin_answers_questions_and_refuses_everything_else() {
    let mut host = Host::start(1);
    let twin = Client::new(&host.read_only()).unwrap();
    assert_eq!(twin.get("/v1/status").unwrap()["state"], "serving");
    assert!(twin.get_text("/metrics").unwrap().ends_with("# EOF\n"));
    let error = twin.post("/v1/drain", &json!({})).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.to_string().contains("oca.sock"), "{error}");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"] {
        for path in [
            "/v1/drain",
            "/v1/undrain",
            "/v1/reload",
            "/v1/prefill",
            "/v1/status",
            "/x",
        ] {
            let head =
                format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}");
            let answer = raw(&host.read_only(), head.as_bytes());
            assert!(
                answer.starts_with("HTTP/1.1 403"),
                "{method} {path}: {answer}"
            );
        }
    }
    assert!(
        host.commands.try_recv().is_err(),
        "a command came through the read-only twin"
    );
}

#[test]
fn a_wedged_daemon_is_still_asked_and_a_command_ends_with_a_clear_error() {
    let host = Host::start(1);
    let begun = clock::now();
    let unread = host.client().post("/v1/undrain", &json!({})).unwrap_err();
    assert!(
        unread.to_string().contains("may still carry it out"),
        "{unread}"
    );
    assert!(clock::now() - begun >= Duration::from_millis(300));
    let full = host.client().post("/v1/undrain", &json!({})).unwrap_err();
    assert!(full.to_string().contains("has not taken up"), "{full}");
    assert_eq!(full.exit(), Exit::Failed);
    assert_eq!(host.client().get("/v1/status").unwrap()["v"], 1);
    assert!(clock::now() - begun < Duration::from_secs(10));
}

#[test]
fn a_stopping_daemon_says_so() {
    let mut host = Host::start(1);
    host.commands.close();
    let error = host.client().post("/v1/undrain", &json!({})).unwrap_err();
    assert!(error.to_string().contains("stopping"), "{error}");
}
