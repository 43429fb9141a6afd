//! `oca show`, `drain`, `undrain`, `reload` and `log-level` as a user runs them.

use super::host::Host;
use super::host::KEYS;
use super::host::text;
use oca::command::Command;
use oca::command::Refusal;
use serde_json::Value;
use serde_json::json;

#[test]
fn show_prints_rows_for_pipes_and_the_daemons_json_unchanged() {
    let host = Host::start(1);
    let out = host.oca(&["show", "stat"]);
    assert!(out.status.success());
    assert!(text(&out.stdout).contains("gate.state\tserving\n"));
    let json_text = text(&host.oca(&["show", "disks", "--json"]).stdout);
    assert_eq!(json_text, host.client().get_text("/v1/disks").unwrap());
    let disks = text(&host.oca(&["show", "disks"]).stdout);
    let rows: Vec<_> = disks.lines().collect();
    assert!(
        rows[0].starts_with("path\tclass\tzone\tstate\tobjects\tbytes\tfree"),
        "{disks}"
    );
    assert!(
        rows[1].starts_with("/srv/oca/disk1\tnvme\tnone\tonline\t7\t1500000\t9"),
        "{disks}"
    );
    assert!(disks.contains("wrong\\u{1b}[2J uuid"), "{disks}");

    let networks = text(&host.oca(&["show", "qual"]).stdout);
    assert!(networks.starts_with("prefix\tresponses\t"), "{networks}");
    assert!(networks.contains("\n192.0.2.0/24\t"), "{networks}");
    let viewers = text(&host.oca(&["show", "conn"]).stdout);
    assert!(
        viewers.ends_with("192.0.2.7:4711\t-\ttrue\t-\t-\t-\t-\t-\n"),
        "{viewers}"
    );

    let all = text(&host.oca(&["show", "cat"]).stdout);
    assert_eq!(all.lines().count(), KEYS + 1);
    assert!(all.lines().last().unwrap().starts_with("k2499\t"));
    let all = host.oca(&["show", "catalogue", "k1", "--json"]).stdout;
    let all: Value = serde_json::from_slice(&all).unwrap();
    assert_eq!(all["catalogue"].as_array().unwrap().len(), 1_000);
    assert_eq!((&all["v"], &all["next"]), (&json!(1), &Value::Null));
    let none = host.oca(&["show", "catalogue", "x y", "--json"]);
    assert_eq!(none.status.code(), Some(4));
    assert_eq!(text(&none.stdout), "");

    let fill = text(&host.oca(&["show", "fill"]).stdout);
    assert!(
        fill.contains("window.closes\t2026-03-01T13:00:00Z\n"),
        "{fill}"
    );
    assert!(fill.contains("carried_over_bytes\t1000000\n"), "{fill}");
    assert!(
        fill.contains("\t7\tnight\torigin\torigin\t2000000\t500000\t3\n"),
        "{fill}"
    );
    assert!(!fill.contains('\u{1b}'), "{fill}");
    let json_text = text(&host.oca(&["show", "fill", "--json"]).stdout);
    assert_eq!(json_text, host.client().get_text("/v1/fill").unwrap());
    let nights = text(&host.oca(&["show", "fill", "--nights"]).stdout);
    assert!(
        nights.contains("2026-02-28\t1\t2\t3\t6480000000000\t0\t9\t10\t1\t77\t"),
        "{nights}"
    );

    let config = host.oca(&["show", "config", "--json"]).stdout;
    assert!(
        !text(&config).chars().any(|c| c.is_control() && c != '\n'),
        "{config:?}"
    );
    let config = text(&host.oca(&["show", "config"]).stdout);
    assert!(
        config.contains(
            "serve.workers\t2\ta\\u{1b}[31m\\u{9b}b\\n:7\ttrue\ngate.require\t[]\tdefault\t"
        ),
        "{config}"
    );
    assert!(
        !config.contains('\u{1b}') && !config.contains('\u{9b}'),
        "{config:?}"
    );
}

#[test]
fn the_command_line_ends_with_the_documented_exit_codes() {
    let mut host = Host::start(4);
    host.answer_commands(|command| match command {
        Command::Drain { .. } => Ok(json!({"drained": true, "for": "3h"})),
        Command::Undrain => Err(Refusal::State("it is stopping".to_owned())),
        Command::Reload => Err(Refusal::BadRequest("a.toml:1:1\nb.toml:2:2".to_owned())),
        Command::LogLevel { .. } => Ok(json!({"level": "debug", "old": "info"})),
        Command::FillStart { .. } => Err(Refusal::State("it opens at 02:00".to_owned())),
        Command::CertificateCheck { .. } => Err(Refusal::State("another box".to_owned())),
        Command::FillPause => Ok(json!({"paused": true})),
        Command::FillResume => Ok(json!({"paused": false})),
        Command::DiskAdopt { path } | Command::DiskCheck { path } => {
            Ok(json!({"disk": path, "admitted": true}))
        }
        Command::DiskRetire { path, undo } => Ok(json!({"disk": path, "retires": !undo})),
        Command::DiskFormat { path } => {
            Err(Refusal::NotFound(format!("{} is no disk", path.display())))
        }
        Command::Bgp { .. } | Command::Prefill { .. } | Command::PrefillStop => {
            Err(Refusal::Failed(String::new()))
        }
    });
    for (args, code, part) in [
        (&["drain", "--for", "3h"] as &[&str], 0, "drained for 3h"),
        (&["drain", "--for", "soon"], 2, "no number"),
        (&["undrain"], 5, "it is stopping"),
        (&["disk", "adopt", "/d"], 0, "disk /d joins"),
        (&["disk", "format", "/d"], 4, "/d is no disk"),
        (&["disk", "retire", "/d"], 0, "disk /d retires"),
        (&["disk", "retire", "--undo", "/d"], 0, "disk /d stays"),
        (
            &["reload"],
            78,
            "a.toml:1:1\nb.toml:2:2\noca: the running configuration stays",
        ),
        (&["log-level", "debug"], 0, "log filter is debug (was info)"),
        (&["log-level", "inof"], 2, "did you mean `info`"),
        (&["fill", "start"], 5, "it opens at 02:00"),
        (&["fill", "pause"], 0, "paused: nothing is received"),
        (&["fill", "resume"], 0, "resumed"),
        (&["show", "disks", "--nights"], 2, "takes --nights"),
        (&["show", "con"], 2, "connections or config"),
        (
            &["show", "status", "k1"],
            2,
            "only `oca show catalogue` takes a key",
        ),
    ] {
        let out = host.oca(args);
        let told = text(&out.stdout) + &text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(part), "{args:?}: {told}");
    }
    host.room.take().unwrap().stop();
    let out = host.oca(&["show", "status"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out.stderr).contains("is the daemon running?"));
}
