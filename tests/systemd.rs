//! The unit files under `systemd/`: accepted by systemd's own tools without a word, and hardened.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A tool of the systemd package; a missing one is a failure, not a pass.
fn run(tool: &str, args: &[&str], file: &Path) -> Output {
    Command::new(tool)
        .args(args)
        .arg(file)
        .env("SYSTEMD_PAGER", "")
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}; install it: apt-get install -y systemd"))
}

fn words(out: &Output) -> String {
    let bytes = [out.stdout.as_slice(), &out.stderr].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Each unit with the beginning of its command.
const UNITS: &[(&str, &str)] = &[
    ("oca.service", "oca run --config /etc/oca/oca.toml"),
    (
        "oca-control.service",
        "oca control run --config /etc/oca/control.toml",
    ),
];

fn unit(name: &str) -> String {
    std::fs::read_to_string(repository().join("systemd").join(name)).unwrap()
}

/// The unit with the binary that was built, as `verify` insists that it exists.
fn rendered(dir: &Path, name: &str, change: impl Fn(String) -> String) -> PathBuf {
    let unit = unit(name);
    let unit = unit.replace("/usr/bin/oca ", &format!("{} ", env!("CARGO_BIN_EXE_oca")));
    let path = dir.join(name);
    std::fs::write(&path, change(unit)).unwrap();
    path
}

#[test]
fn the_units_are_accepted_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    for (name, command) in UNITS {
        assert!(unit(name).contains(&format!("\nExecStart=/usr/bin/{command}\n")));
        let file = rendered(dir.path(), name, |unit| unit);
        let out = run("systemd-analyze", &["verify"], &file);
        assert!(out.status.success(), "{name}: {}", words(&out));
        // Unknown keys are only warned about, with exit code 0.
        assert_eq!(words(&out), "", "{name}");
    }
}

#[test]
fn an_unknown_key_would_be_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let misspelt = |unit: String| unit.replace("TimeoutStopSec=", "TimeoutStopSecs=");
    for (name, _) in UNITS {
        let file = rendered(dir.path(), name, misspelt);
        let out = run("systemd-analyze", &["verify"], &file);
        assert!(words(&out).contains("TimeoutStopSecs"), "{}", words(&out));
    }
}

#[test]
fn the_units_are_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["security", "--offline=true", "--no-pager", "--threshold=40"];
    for (name, _) in UNITS {
        let file = rendered(dir.path(), name, |unit| unit);
        let out = run("systemd-analyze", &args, &file);
        assert!(out.status.success(), "{name}: {}", words(&out));
    }
}

#[test]
fn what_the_daemon_relies_on_stands_in_the_unit() {
    let unit = unit("oca.service");
    for line in [
        "Type=notify",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "WatchdogSec=30",
        "RestartPreventExitStatus=78",
        "LimitCORE=0",
        "LimitNOFILE=1048576",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "SystemCallFilter=adjtimex",
        "User=oca",
        "RuntimeDirectory=oca",
        "StateDirectory=oca",
    ] {
        assert!(unit.lines().any(|have| have == line), "{line} is missing");
    }
}

#[test]
fn what_the_control_plane_relies_on_stands_in_its_unit() {
    let unit = unit("oca-control.service");
    for line in [
        "Type=notify",
        "RestartPreventExitStatus=78",
        "LimitCORE=0",
        "LimitNOFILE=1048576",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "User=oca-control",
        "RuntimeDirectory=oca-control",
        "StateDirectory=oca-control",
        "StateDirectoryMode=0700",
    ] {
        assert!(unit.lines().any(|have| have == line), "{line} is missing");
    }
}

#[test]
fn the_user_and_the_directories_can_be_made() {
    // One root for both: a directory belongs to the user that was made before it.
    let root = tempfile::tempdir().unwrap();
    for dir in ["etc", "srv"] {
        std::fs::create_dir(root.path().join(dir)).unwrap();
    }
    for (tool, part) in [
        ("systemd-sysusers", "sysusers.d"),
        ("systemd-tmpfiles", "tmpfiles.d"),
    ] {
        let root_arg = format!("--root={}", root.path().display());
        let create: &[&str] = match part {
            "sysusers.d" => &[&root_arg],
            _ => &[&root_arg, "--create"],
        };
        let file = repository().join("systemd").join(part).join("oca.conf");
        let out = run(tool, create, &file);
        assert!(out.status.success(), "{tool}: {}", words(&out));
        if part == "sysusers.d" {
            let passwd = std::fs::read_to_string(root.path().join("etc/passwd")).unwrap();
            for user in ["oca:", "oca-control:"] {
                assert!(
                    passwd.lines().any(|line| line.starts_with(user)),
                    "{passwd}"
                );
            }
        } else {
            for made in ["srv/oca", "var/lib/oca", "var/lib/oca-control"] {
                assert!(root.path().join(made).is_dir(), "{made}");
            }
        }
    }
}
