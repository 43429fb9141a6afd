//! `oca check` as an operator runs it: positions, remedies, exit codes, `conf.d`.

// A helper of a test may fail the test.
#![allow(clippy::unwrap_used)]

use oca::config;
use std::path::Path;
use std::process::Command;
use std::process::Output;

/// Three mistakes: a wrong type, an unknown key, a unit that does not exist.
const THREE_MISTAKES: &str = r#"[appliance]
id = "c009-tls001-example-isp"
site = "TLS001.example.ISP"
profile = "storage"
timezone = "Europe/Paris"
stop_time = "30 seconds"

[serve]
listen = "[::]:443"
plain_lisen = ["[::]:80"]

[[serve.tls.certificate]]
chain = "/etc/oca/tls/chain.pem"
key = "/etc/oca/tls/key.pem"

[[disk]]
path = "/srv/oca/disk1"
class = "nvme"

[gate]
require = []
"#;

fn check(main: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oca"))
        .args(["check", "--config"])
        .arg(main)
        .args(more)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A directory with a valid configuration whose certificate files exist.
fn valid() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    std::fs::create_dir(&tls).unwrap();
    for name in ["chain.pem", "key.pem"] {
        std::fs::write(tls.join(name), "PEM").unwrap();
    }
    let right = THREE_MISTAKES
        .replace("30 seconds", "30s")
        .replace("listen = \"[::]:443\"", "listen = [\"[::]:443\"]")
        .replace("plain_lisen", "plain_listen")
        .replace("/etc/oca", dir.path().to_str().unwrap());
    let main = dir.path().join("oca.toml");
    std::fs::write(&main, right).unwrap();
    (dir, main)
}

#[test]
fn three_different_mistakes_are_told_with_their_places_and_exit_code_78() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("oca.toml");
    std::fs::write(&main, THREE_MISTAKES).unwrap();
    let output = check(&main, &[]);
    assert_eq!(output.status.code(), Some(78));
    let name = main.display();
    let expected = format!(
        "{name}:6:13: appliance.stop_time: `seconds` is not a unit known here\n    \
         use one of ms, s, m, h, d\n\
         {name}:9:10: serve.listen: must be a list of IP addresses and ports in quotes, \
         not the text `[::]:443`\n    write for example `listen = [\"[::]:443\"]`\n\
         {name}:10:1: serve.plain_lisen: is not a known key of `[serve]`\n    \
         did you mean `plain_listen`?\n\
         3 problems\n"
    );
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "");

    let output = check(&main, &["--json"]);
    assert_eq!(output.status.code(), Some(78));
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = problems.as_array().unwrap();
    let place = |one: &serde_json::Value| (one["line"].as_u64(), one["column"].as_u64());
    let places: Vec<_> = problems.iter().map(place).collect();
    let at = |line, column| (Some(line), Some(column));
    assert_eq!(places, [at(6, 13), at(9, 10), at(10, 1)]);
    for problem in problems {
        let mut fields: Vec<_> = problem.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(
            fields,
            ["column", "file", "key", "line", "problem", "remedy"]
        );
        assert_eq!(problem["file"], name.to_string());
    }
}

#[test]
fn broken_syntax_does_not_hide_the_other_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("oca.toml");
    let broken = THREE_MISTAKES.replace("listen = \"[::]:443\"", "listen = [::]:443");
    std::fs::write(&main, broken).unwrap();
    let output = check(&main, &["--json"]);
    assert_eq!(output.status.code(), Some(78));
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = problems
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["line"].as_u64().unwrap());
    assert_eq!(lines.collect::<Vec<_>>(), [6, 9, 10]);
    assert!(
        problems[1]["problem"]
            .as_str()
            .unwrap()
            .starts_with("not TOML")
    );
    assert_eq!(problems[1]["key"], "serve.listen");
}

#[test]
fn a_right_file_is_summed_up_and_the_exit_code_is_0() {
    let (_dir, main) = valid();
    let output = check(&main, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let summary = "c009-tls001-example-isp: 1 HTTPS address, 1 plain address, 1 disk, 12 keys \
                   written, no problems\n";
    let read = format!("read {}\n", main.display());
    assert_eq!(text(&output.stdout), read + summary);
    let output = check(&main, &["--json"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "[]\n".to_owned())
    );
}

#[test]
fn a_certificate_file_that_is_not_there_is_told_at_the_key_that_names_it() {
    let (dir, main) = valid();
    std::fs::remove_file(dir.path().join("tls/key.pem")).unwrap();
    let output = check(&main, &[]);
    assert_eq!(output.status.code(), Some(78));
    let told = text(&output.stdout);
    assert!(
        told.contains("oca.toml:14:7: serve.tls.certificate.key: "),
        "{told}"
    );
    assert!(told.ends_with("\n1 problem\n"), "{told}");
    assert!(config::load(&main).is_ok());
}

/// The smallest control plane, with a mistake where `names` is given one.
fn control_plane(names: &str) -> String {
    format!(
        "[control]\ndomain = \"oca.example.net\"\n\n[link]\nnames = {names}\n\n\
         [public]\nlisten = [\"192.0.2.1:443\"]\n\n\
         [[public.certificate]]\nchain = \"/nonexistent/chain.pem\"\nkey = \"/dev/null\"\n"
    )
}

#[test]
fn a_control_planes_file_is_checked_by_its_own_table_and_with_its_own_drop_ins() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("control.toml");
    std::fs::write(&main, control_plane("\"control.example.net\"")).unwrap();
    for (folder, text) in [("conf.d", "not read"), ("control.d", "[serve]\n")] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
        std::fs::write(dir.path().join(folder).join("1.toml"), text).unwrap();
    }
    let output = check(&main, &["--control"]);
    assert_eq!(output.status.code(), Some(78));
    let told = text(&output.stdout);
    let starts: Vec<&str> = told.lines().filter(|line| line.starts_with('/')).collect();
    let at = dir.path().display();
    assert_eq!(
        starts,
        [
            format!(
                "{at}/control.toml:5:9: link.names: must be a list of host names in quotes, not \
                 the text `control.example.net`"
            ),
            format!("{at}/control.d/1.toml:1:2: serve: is not a known section"),
        ]
    );

    std::fs::write(&main, control_plane("[\"control.example.net\"]")).unwrap();
    std::fs::remove_file(dir.path().join("control.d/1.toml")).unwrap();
    let told = text(&check(&main, &["--control"]).stdout);
    assert!(told.contains(":11:9: public.certificate.chain: "), "{told}");
    assert!(told.contains(":12:7: public.certificate.key: "), "{told}");
    let plain = control_plane("[\"control.example.net\"]");
    let plain = plain.split("[public]").next().unwrap();
    std::fs::write(&main, plain).unwrap();
    let output = check(&main, &["--control"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let summary = "control plane of oca.example.net: 1 link address, 1 public address, \
                   2 keys written, no problems\n";
    assert!(
        text(&output.stdout).ends_with(summary),
        "{}",
        text(&output.stdout)
    );
    let output = check(&main, &[]);
    assert_eq!(output.status.code(), Some(78), "a box knows no such file");
}

#[test]
fn a_missing_file_is_a_problem_and_not_a_crash() {
    let output = check(Path::new("/nonexistent/oca.toml"), &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stdout).contains("/nonexistent/oca.toml:1:1: cannot be read"));
    assert!(text(&output.stdout).ends_with("\n1 problem\n"));
}

#[test]
fn files_of_conf_d_merge_append_and_override_in_lexical_order() {
    let (dir, main) = valid();
    let drop_in = dir.path().join("conf.d");
    std::fs::create_dir(&drop_in).unwrap();
    let write = |name: &str, text: &str| std::fs::write(drop_in.join(name), text).unwrap();
    write(
        "20-later.toml",
        "[serve]\nplain_listen = []\n[serve.limits]\nheaders = 32\n",
    );
    write(
        "10-disk.toml",
        "[serve]\nplain_listen = [\"[::]:81\"]\n[[disk]]\npath = \"/b\"\nclass = \"hdd\"\n",
    );
    write("README", "not read");
    let loaded = config::load(&main).unwrap();
    let names = loaded
        .files
        .iter()
        .map(|path| path.strip_prefix(dir.path()).unwrap());
    let names: Vec<_> = names.map(|name| name.to_str().unwrap()).collect();
    assert_eq!(
        names,
        ["oca.toml", "conf.d/10-disk.toml", "conf.d/20-later.toml"]
    );
    assert!(loaded.config.serve.plain_listen.is_empty());
    assert_eq!(loaded.config.serve.limits.headers, 32);
    assert_eq!(loaded.config.store.disks.len(), 2);

    write(
        "30-wrong.toml",
        "\n[[disk]]\npath = \"/b\"\nclass = \"hd\"\n",
    );
    let problems = config::load(&main).unwrap_err().0;
    let told: Vec<_> = problems
        .iter()
        .map(|one| (one.line, one.column, one.key.as_str()))
        .collect();
    assert_eq!(told, [(3, 8, "disk.path"), (4, 9, "disk.class")]);
    assert!(
        problems
            .iter()
            .all(|one| one.file.ends_with("conf.d/30-wrong.toml"))
    );
}
