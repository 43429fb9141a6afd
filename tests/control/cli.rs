//! `oca control` end to end: a real `oca control run` and the command line against its socket.

use oca::clock;
use serde_json::Value;
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

const OCA: &str = env!("CARGO_BIN_EXE_oca");

/// For a start or a stop on a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// A control plane below a directory of its own. Dropping it kills it by process id.
pub(crate) struct Plane {
    pub(crate) dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Plane {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut plane = Self { dir, process: None };
        let toml = format!(
            "[control]\nstate_dir = {:?}\ndomain = \"oca.example.net\"\n\
             [link]\nlisten = [\"127.0.0.1:0\"]\nnames = [\"control.example.net\"]\n\
             [public]\nplain_listen = [\"127.0.0.1:0\"]\n[admin]\nsocket = {:?}\n\
             [telemetry]\nlog_format = \"json\"\n",
            plane.dir.path().join("state"),
            plane.socket(),
        );
        std::fs::write(plane.config(), toml).unwrap();
        plane.run();
        plane
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("control.toml")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn run(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let process = Command::new(OCA)
            .args(["control", "run", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        self.until("it answers", || {
            self.oca(&["status"]).status.success().then_some(())
        });
    }

    fn until<T>(&self, what: &str, mut is: impl FnMut() -> Option<T>) -> T {
        let deadline = clock::now() + PATIENCE;
        loop {
            if let Some(found) = is() {
                return found;
            }
            let log = self.log();
            assert!(clock::now() < deadline, "never: {what}\n{log}");
            clock::block_for(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// TERM, and the exit code.
    fn stop(&mut self) -> i32 {
        let mut process = self.process.take().unwrap();
        let id = i32::try_from(process.id()).unwrap();
        let id = nix::unistd::Pid::from_raw(id);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        let ended = self.until("it stops", || process.try_wait().unwrap());
        ended.code().unwrap()
    }

    pub(crate) fn oca(&self, args: &[&str]) -> Output {
        Command::new(OCA)
            .arg("control")
            .args(args)
            .arg("--socket")
            .arg(self.socket())
            .output()
            .unwrap()
    }

    /// A command that has to succeed, as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.oca(&[args, &["--json"]].concat());
        assert!(
            output.status.success(),
            "{args:?}: {output:?}\n{}",
            self.log()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A command that has to fail: its exit code and what it said.
    pub(crate) fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.oca(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?} succeeded");
        assert!(output.stdout.is_empty(), "{output:?}");
        (output.status.code().unwrap(), said)
    }

    pub(crate) fn furnish(&self) {
        self.json(&["partner", "add", "example", "--title", "Example ISP"]);
        self.json(&["site", "add", "TLS001.example.ISP", "--partner", "example"]);
        self.json(&["cluster", "add", "south"]);
        self.json(&[
            "appliance",
            "add",
            BOX,
            "--cluster",
            "south",
            "--profile",
            "flash",
            "--ipv4",
            "192.0.2.9",
            "--capacity",
            "2 TB",
        ]);
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

pub(crate) const BOX: &str = "c009-tls001-example-isp";

#[test]
fn an_operator_registers_a_box_and_everything_is_there_after_a_restart() {
    let mut plane = Plane::start();
    plane.furnish();
    let approved = plane.json(&[
        "partner",
        "approve",
        "example",
        "192.0.2.0/24",
        "2001:db8::/32",
        "AS64496",
    ]);
    let expected = json!({"name": "example", "title": "Example ISP",
        "prefixes": ["192.0.2.0/24", "2001:db8::/32"], "origins": [64496]});
    assert_eq!(approved["partner"], expected);
    // The airport says where the site is.
    let sites = plane.json(&["site", "list"]);
    let site = &sites["sites"][0];
    assert_eq!(site["timezone"], "Europe/Paris");
    assert!(
        (site["latitude"].as_f64().unwrap() - 43.6).abs() < 0.2,
        "{site}"
    );
    let enabled = plane.json(&["appliance", "enable", BOX]);
    assert_eq!(enabled["appliance"]["enabled"], true);
    let host = &enabled["appliance"]["host_ipv4"];
    assert_eq!(host, &format!("ipv4-{BOX}.oca.example.net"));

    let provision = plane.json(&["appliance", "token", BOX]);
    let url = provision["url"].as_str().unwrap();
    assert!(url.starts_with("https://control.example.net:"), "{url}");
    let ca = provision["ca"].as_str().unwrap().to_owned();
    assert!(ca.starts_with("sha256:") && ca.len() == 71, "{ca}");
    let token = provision["token"].as_str().unwrap();
    assert_eq!((token.len(), &provision["id"]), (64, &json!(BOX)));
    assert!(provision["expires"].as_str().unwrap().ends_with('Z'));
    assert!(!plane.log().contains(token), "a token is in the log");
    let database = std::fs::read(plane.dir.path().join("state/control.sqlite")).unwrap();
    let has = database
        .windows(token.len())
        .any(|bytes| bytes == token.as_bytes());
    assert!(!has, "a token is in the database");

    assert_eq!(plane.stop(), 0, "{}", plane.log());
    assert!(!plane.socket().exists());
    plane.run();
    let list = plane.json(&["appliance", "list"]);
    assert_eq!(list["appliances"], json!([enabled["appliance"]]));
    assert_eq!(
        plane.json(&["partner", "list"])["partners"],
        json!([expected])
    );
    let status = plane.json(&["status"]);
    assert_eq!(status["link"]["ca"], ca);
    assert_eq!(
        status["boxes"],
        json!({"total": 1, "states": {"not enrolled": 1}})
    );
}

#[test]
fn refusals_have_their_reason_and_their_exit_code() {
    let plane = Plane::start();
    plane.furnish();
    plane.json(&["partner", "add", "other"]);
    plane.json(&["partner", "approve", "example", "192.0.2.0/24"]);
    let (code, said) = plane.fails(&["partner", "approve", "other", "192.0.2.128/25"]);
    assert_eq!(code, 5, "{said}");
    assert!(
        said.contains("`example`") && said.contains("`other`"),
        "{said}"
    );
    for (args, expected, word) in [
        (
            &["partner", "approve", "nobody", "AS64500"][..],
            4,
            "partner `nobody`",
        ),
        (
            &["partner", "approve", "other", "192.0.2.1/24"],
            2,
            "192.0.2.0/24",
        ),
        (&["partner", "approve", "other"], 2, "PREFIX|AS"),
        (&["partner", "add", "Bad Name"], 5, "lower-case"),
        (
            &["site", "add", "QQQ001.isp", "--partner", "example"],
            2,
            "latitude",
        ),
        (
            &["site", "add", "nonsense", "--partner", "example"],
            2,
            "IATA",
        ),
        (
            &["appliance", "enable", "c001-tls001-example-isp"],
            4,
            "does not exist",
        ),
        (&["appliance", "enable", "nonsense"], 2, "not a box name"),
        (&["import", "s3://"], 2, "not a source"),
        (&["routes", "nonsense"], 2, "box, a prefix or an address"),
        (&["routes", "c001-tls001-example-isp"], 4, "does not exist"),
    ] {
        let (code, said) = plane.fails(args);
        assert_eq!(code, expected, "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
    }
    // A box of another site, and a capacity nobody understands.
    let add = |id: &str, capacity: &str| {
        let args = [
            "appliance",
            "add",
            id,
            "--cluster",
            "south",
            "--profile",
            "flash",
        ];
        plane.fails(&[&args[..], &["--capacity", capacity]].concat())
    };
    let (code, said) = add("c001-lhr001-isp", "1 TB");
    assert_eq!(code, 4, "{said}");
    assert_eq!(add("c001-tls001-example-isp", "much").0, 2);
}

#[test]
fn a_control_plane_that_cannot_run_and_one_that_does_not_are_told_apart() {
    let mut plane = Plane::start();
    let second = Command::new(OCA)
        .args(["control", "run", "--config"])
        .arg(plane.config())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another control plane"), "{said}");
    plane.json(&["status"]);

    let broken = plane.dir.path().join("broken.toml");
    std::fs::write(&broken, "[control]\ndomian = 1\n").unwrap();
    let run = Command::new(OCA)
        .args(["control", "run", "--config"])
        .arg(&broken)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(78), "{run:?}");

    plane.stop();
    let (code, said) = plane.fails(&["status"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("systemctl status oca-control"), "{said}");
}

#[test]
fn content_and_popularity_come_in_over_the_command_line() {
    let plane = Plane::start();
    let media = plane.dir.path().join("media");
    let write = |path: &str, text: &str| {
        let path = media.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("film/hd/1.m4s", "one");
    write("film/hd/2.m4s", "two");
    write("film/sd/1.m4s", "one");
    let import = |plane: &Plane| plane.oca(&["import", media.to_str().unwrap(), "--json"]);
    let output = import(&plane);
    assert!(output.status.success(), "{output:?}\n{}", plane.log());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["files"], &summary["keys_new"]),
        (&json!(3), &json!(3))
    );
    let library = &plane.json(&["status"])["library"];
    let expected = json!({"bundles": 2, "objects": 2, "keys": 3, "bytes": 6});
    assert_eq!(library, &expected);

    // A key keeps its bytes.
    write("film/hd/1.m4s", "other");
    let (code, said) = plane.fails(&["import", media.to_str().unwrap()]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("film/hd/1.m4s"), "{said}");
    assert_eq!(plane.json(&["status"])["library"], expected);

    let feed = plane.dir.path().join("feed.csv");
    std::fs::write(&feed, "bundle,popularity\nfilm/hd,9\nfilm/uhd,3\n").unwrap();
    let answer = plane.json(&["popularity", feed.to_str().unwrap()]);
    assert_eq!(
        (&answer["bundles"], &answer["unknown"]),
        (&json!(2), &json!(1))
    );
    std::fs::write(&feed, "bundle,popularity\nfilm/hd,much\n").unwrap();
    let (code, said) = plane.fails(&["popularity", feed.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("line 2"), "{said}");
}

#[test]
fn tokens_do_not_push_out_a_box_unless_told_to() {
    let plane = Plane::start();
    plane.furnish();
    let first = plane.json(&["appliance", "token", BOX]);
    // Lost paper: another one, while nobody has enrolled.
    let second = plane.json(&["appliance", "token", BOX]);
    assert_ne!(first["token"], second["token"]);
    let revoked = plane.json(&["appliance", "revoke", BOX]);
    assert_eq!(revoked["appliance"]["revoked"], true);
    let (code, said) = plane.fails(&["appliance", "token", BOX]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("appliance replace"), "{said}");
    plane.json(&["appliance", "replace", BOX]);
    let quarantined = plane.json(&["appliance", "quarantine", BOX, "--reason", "smells"]);
    assert_eq!(quarantined["appliance"]["quarantined"], "smells");
    let lifted = plane.json(&["appliance", "unquarantine", BOX]);
    let row = &lifted["appliance"];
    assert_eq!(
        (&row["quarantined"], &row["revoked"]),
        (&Value::Null, &json!(false))
    );
}

#[test]
fn sockets_have_their_modes_people_get_rows_and_orders_are_logged_with_who_gave_them() {
    let plane = Plane::start();
    plane.furnish();
    let read_only = plane.dir.path().join("control-ro.sock");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&plane.socket()), 0o660);
    assert_eq!(mode(&read_only), 0o666);
    let state = plane.dir.path().join("state");
    assert_eq!(mode(&state), 0o700);

    let ask = |args: &[&str]| {
        Command::new(OCA)
            .arg("control")
            .args(args)
            .arg("--socket")
            .arg(&read_only)
            .output()
            .unwrap()
    };
    assert!(ask(&["appliance", "list"]).status.success());
    let refused = ask(&["cluster", "add", "north"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");

    let list = plane.oca(&["appliance", "list"]);
    let text = String::from_utf8(list.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("id\tsite\tcluster\t"), "{text}");
    assert!(
        lines[1].starts_with(&format!("{BOX}\ttls001-example-isp\tsouth\t")),
        "{text}"
    );
    let boxes = plane.oca(&["boxes"]);
    assert!(
        String::from_utf8(boxes.stdout)
            .unwrap()
            .contains("not enrolled")
    );
    assert_eq!(plane.json(&["routes"])["routes"], json!([]));
    assert_eq!(plane.json(&["quality"])["quality"], json!([]));
    assert_eq!(plane.oca(&["quality", BOX]).status.code(), Some(4));
    assert_eq!(plane.oca(&["quality", "no box"]).status.code(), Some(2));
    let uid = nix::unistd::getuid().as_raw();
    let log = plane.log();
    let order = log
        .lines()
        .find(|line| line.contains("cluster add"))
        .unwrap();
    assert!(order.contains(&format!("\"uid\":{uid}")), "{order}");
}
