//! What the box says of its TLS, and after everything what its log and the kernel say of it.

use crate::stage;
use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::suites;
use crate::support::finished;
use crate::viewer;
use crate::viewer::Viewer;
use std::process::Command;

const LARGE: &str = "film/large.mp4";
const SMALL: &str = "film/small-3.m4s";

/// Words of a kernel in trouble.
const TROUBLE: &[&str] = &["WARNING:", "BUG:", "Oops", "Call Trace"];

/// `oca show tls` and `oca show connections`: which way each connection takes, and the totals.
pub(crate) fn shown(stage: &mut Stage) -> String {
    stage::load_tls();
    // A running box keeps to what it found at its start.
    stage.stop();
    stage.serve(Offload::Auto);
    let before = stage.ask("/v1/tls");
    assert_eq!(before["path"], "kernel", "{before}");
    let offload = &before["offload"];
    assert_eq!(offload["wanted"], "auto", "{before}");
    let ciphers = offload["ciphers"].as_object().unwrap();
    let sealed = ciphers.values().filter(|what| *what == "kernel").count();
    assert_eq!(sealed, suites::ALL.len(), "{before}");
    assert_eq!(offload["kernel"], 0, "{before}");

    let counted = TlsStat::read();
    let client = viewer::usual(stage);
    let mut large = Viewer::open(stage, &client);
    assert_eq!(large.get(LARGE, "").status, 200);
    let mut small = Viewer::open(stage, &client);
    assert_eq!(small.get(SMALL, "").status, 200);
    let connections = stage.ask("/v1/connections");
    let path = |viewer: &Viewer| {
        let own = viewer.tcp.local_addr().unwrap().to_string();
        let rows = connections["viewers"].as_array().unwrap();
        let row = rows.iter().find(|row| row["peer"] == own.as_str());
        row.unwrap_or_else(|| panic!("no {own} in {connections}"))["tls_path"].clone()
    };
    assert_eq!(path(&large), "kernel", "{connections}");
    assert_eq!(path(&small), "user-space (small)", "{connections}");
    let after = stage.ask("/v1/tls");
    let offload = &after["offload"];
    assert_eq!(offload["kernel"], 1, "{after}");
    assert_eq!(offload["user_space"]["small"], 1, "{after}");
    assert_eq!(offload["lost"], 0, "{after}");
    let sent = TlsStat::read().sent;
    assert_eq!(offload["tls_stat"]["TlsTxSw"], sent, "{after}");
    assert_eq!(sent - counted.sent, 1);
    offload["verdict"].to_string()
}

pub(crate) fn nothing_left(stage: &mut Stage) -> String {
    stage.stop();
    let log = stage.log();
    let panicked = log.lines().find(|line| line.contains("panicked"));
    assert_eq!(panicked, None, "the box's log");
    let kernel = finished(&mut Command::new("dmesg"));
    let kernel = String::from_utf8(kernel.stdout).unwrap();
    let trouble = kernel
        .lines()
        .find(|line| TROUBLE.iter().any(|word| line.contains(word)));
    assert_eq!(trouble, None, "the kernel's log");
    let counted = TlsStat::read();
    assert_eq!((counted.received, counted.errors), (0, 0), "{counted:?}");
    assert_eq!(TlsStat::open(), 0, "connections are left in the kernel");
    format!("{counted:?}")
}
