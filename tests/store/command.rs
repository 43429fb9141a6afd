//! `oca prefill` as a process: what it prints, how it ends, and that no signal loses anything.

use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::until;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

const FILES: [(&str, usize); 2] = [("a.m4s", 5000), ("v/b.m4s", 70_000)];

/// A configuration whose daemon does not run.
fn configured(lab: &Lab) -> PathBuf {
    let file = lab.path("oca.toml");
    let dir = lab.dir.path().display();
    let text = format!(
        "[appliance]\nid = \"c009-tls001-example-isp\"\nsite = \"TLS001.example.ISP\"\n\
         timezone = \"UTC\"\nprofile = \"flash\"\n\
         state_dir = \"{dir}/state\"\n\
         [serve]\nlisten = []\nplain_listen = [\"127.0.0.1:0\"]\n\
         [[disk]]\npath = \"{dir}/disk0\"\nclass = \"ssd\"\nplain_directory = true\n\
         [gate]\nrequire = []\n\
         [admin]\nsocket = \"{dir}/oca.sock\"\nread_only_socket = \"{dir}/oca-ro.sock\"\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn command(media: &Path, config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oca"));
    command
        .arg("prefill")
        .arg(media)
        .arg("--config")
        .arg(config);
    command
}

fn json(output: &Output) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

#[test]
fn it_prefills_tells_what_it_did_and_does_it_once() {
    let lab = Lab::new(1);
    let (media, config) = (lab.media(&FILES), configured(&lab));
    let first = command(&media, &config).arg("--json").output().unwrap();
    let told = json(&first);
    assert_eq!((first.status.code(), &told["v"]), (Some(0), &1.into()));
    assert_eq!(
        (&told["files"], &told["bytes"]),
        (&2.into(), &75_000.into())
    );
    assert_eq!(
        (&told["published"], &told["generation"]),
        (&2.into(), &1.into())
    );
    let second = command(&media, &config).output().unwrap();
    let text = String::from_utf8_lossy(&second.stdout);
    assert!(
        text.contains("0 published, 2 already held, 0 refused"),
        "{text}"
    );
    assert_serves(&lab.open(), &FILES);
}

#[test]
fn a_refused_file_is_named_with_its_remedy_and_the_exit_code_is_1() {
    let lab = Lab::new(1);
    let (media, config) = (
        lab.media(&[("a.m4s", 10), ("b.html", 10)]),
        configured(&lab),
    );
    let output = command(&media, &config).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("b.html: a browser would run"), "{text}");
    assert!(text.contains("1 published"), "{text}");
    let output = command(&media, &config).arg("--json").output().unwrap();
    let refused = &json(&output)["refused"][0];
    assert!(refused["path"].as_str().unwrap().ends_with("b.html"));
    assert!(refused["problem"].is_string() && refused["remedy"].is_string());
}

#[test]
fn locked_disks_refused_disks_and_bad_configuration_have_their_exit_codes() {
    let lab = Lab::new(1);
    let (media, config) = (lab.media(&FILES), configured(&lab));
    let owner = lab.open();
    let locked = command(&media, &config).output().unwrap();
    let told = String::from_utf8_lossy(&locked.stderr);
    assert_eq!(locked.status.code(), Some(5), "{told}");
    assert!(told.contains("in use by another oca process"), "{told}");
    owner.stop();
    std::fs::write(lab.path("disk0/foreign"), "x").unwrap();
    std::fs::remove_file(lab.path("disk0/DISK.json")).unwrap();
    let refused = command(&media, &config).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(5), "{told}");
    assert!(told.contains("no DISK.json"), "{told}");
    std::fs::write(&config, "[appliance\n").unwrap();
    assert_eq!(command(&media, &config).status().unwrap().code(), Some(78));
}

/// A process that is ended when its test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// A daemon that answers on its socket.
    fn start(lab: &Lab, config: &Path) -> Self {
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_oca"));
        daemon.arg("run").arg("--config").arg(config);
        let mut daemon = Self(daemon.stderr(Stdio::null()).spawn().unwrap());
        until("the socket is there", || {
            assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon ended");
            std::os::unix::net::UnixStream::connect(lab.path("oca.sock")).is_ok()
        });
        daemon
    }
}

#[test]
fn with_a_daemon_the_daemon_does_it_and_serves_it_at_once() {
    let lab = Lab::new(1);
    let (media, config) = (lab.media(&FILES), configured(&lab));
    std::fs::write(media.join("c.html"), "x").unwrap();
    let daemon = Running::start(&lab, &config);
    let output = command(&media, &config).arg("--json").output().unwrap();
    let told = json(&output);
    assert_eq!(output.status.code(), Some(1), "one file is refused: {told}");
    assert_eq!(
        (&told["published"], &told["refused_total"]),
        (&2.into(), &1.into())
    );
    let mut show = Command::new(env!("CARGO_BIN_EXE_oca"));
    show.args(["show", "catalogue", "--json", "--socket"])
        .arg(lab.path("oca.sock"));
    let shown = String::from_utf8(show.output().unwrap().stdout).unwrap();
    assert!(shown.contains("v/b.m4s"), "{shown}");
    drop(daemon);
    assert_serves(&lab.open(), &FILES);
}

#[test]
fn a_disk_that_another_process_owns_is_refused_with_its_number_until_that_is_gone() {
    let lab = Lab::new(1);
    let (media, config) = (lab.media(&FILES), configured(&lab));
    let daemon = Running::start(&lab, &config);
    // Another box on the same disk: neither its state nor its socket is the daemon's.
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text
        .replace("/state", "/other-state")
        .replace("/oca", "/other");
    let other = lab.path("other.toml");
    std::fs::write(&other, text).unwrap();
    let refused = command(&media, &other).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(5), "{told}");
    let owner = format!("in use by another oca process (pid {});", daemon.0.id());
    assert!(told.contains(&owner), "{told}");
    assert_eq!(published(&lab), 0);
    // A second one of the same box is refused by its state directory.
    let mut second = Command::new(env!("CARGO_BIN_EXE_oca"));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&other, text.replace("/oca", "/other")).unwrap();
    let second = second
        .arg("run")
        .arg("--config")
        .arg(&other)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && told.contains(&owner), "{told}");
    drop(daemon);
    let taken = command(&media, &config).output().unwrap();
    assert_eq!(taken.status.code(), Some(0));
    assert_eq!(published(&lab), FILES.len());
}

#[test]
fn with_no_writable_disk_the_daemon_s_refusal_has_the_exit_code_of_a_local_one() {
    let lab = Lab::new(1);
    let (media, config) = (lab.media(&FILES), configured(&lab));
    std::fs::write(lab.path("disk0/foreign"), "x").unwrap();
    let daemon = Running::start(&lab, &config);
    let by_daemon = command(&media, &config).output().unwrap();
    drop(daemon);
    let here = command(&media, &config).output().unwrap();
    for output in [by_daemon, here] {
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{told}");
        assert!(told.contains("no DISK.json"), "{told}");
    }
}

/// Files enough that a signal comes in the middle.
fn many(lab: &Lab) -> (PathBuf, usize) {
    let media = lab.path("media");
    std::fs::create_dir(&media).unwrap();
    let count = 3000;
    for n in 0..count {
        std::fs::write(media.join(format!("{n:04}.m4s")), n.to_string()).unwrap();
    }
    (media, count)
}

fn published(lab: &Lab) -> usize {
    let objects = crate::tools::objects(&lab.path("disk0"));
    objects
        .keys()
        .filter(|path| path.extension().is_none())
        .count()
}

fn ended_by(lab: &Lab, media: &Path, ending: Signal) -> Output {
    let mut command = command(media, &configured(lab));
    command
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let before = published(lab);
    let mut running = Running(command.spawn().unwrap());
    until("some are published", || {
        let ended = running.0.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before the signal: {ended:?}");
        published(lab) > before + 20
    });
    let pid = Pid::from_raw(i32::try_from(running.0.id()).unwrap());
    nix::sys::signal::kill(pid, ending).unwrap();
    let status = running.0.wait().unwrap();
    let mut output = Output {
        status,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let mut stdout = running.0.stdout.take().unwrap();
    std::io::Read::read_to_end(&mut stdout, &mut output.stdout).unwrap();
    output
}

#[test]
fn terminated_it_keeps_what_is_done_and_killed_it_loses_nothing_published() {
    let lab = Lab::new(1);
    let (media, count) = many(&lab);
    let stopped = ended_by(&lab, &media, Signal::SIGTERM);
    assert_eq!(stopped.status.code(), Some(1));
    let told = json(&stopped);
    assert_eq!(told["interrupted"], true);
    let done = usize::try_from(told["published"].as_u64().unwrap()).unwrap();
    assert!(done < count, "the signal came too late to show anything");
    assert_eq!(published(&lab), done);
    assert_eq!(
        lab.open().view().objects,
        done as u64,
        "what is done is bound"
    );

    let killed = ended_by(&lab, &media, Signal::SIGKILL);
    assert_eq!(killed.status.code(), None);
    let held = published(&lab);
    let last = command(&media, &configured(&lab))
        .arg("--json")
        .output()
        .unwrap();
    let told = json(&last);
    assert_eq!(told["published"].as_u64(), Some((count - held) as u64));
    assert_eq!(told["already_held"].as_u64(), Some(held as u64));
    assert_eq!(lab.open().view().objects, count as u64);
}

#[test]
fn a_disk_is_retired_by_command_and_shown_until_it_may_be_pulled() {
    let lab = Lab::new(2);
    let (media, config) = (lab.media(&FILES), configured(&lab));
    let prefilled = command(&media, &config).output().unwrap();
    assert_eq!(prefilled.status.code(), Some(0));
    let disks = lab.disks.iter().map(|disk| disk.path.display().to_string());
    let [old, fresh]: [String; 2] = disks.collect::<Vec<_>>().try_into().unwrap();
    let more = format!("[[disk]]\npath = \"{fresh}\"\nclass = \"hdd\"\nplain_directory = true\n");
    let text = std::fs::read_to_string(&config).unwrap() + &more;
    std::fs::write(&config, text).unwrap();
    let daemon = Running::start(&lab, &config);
    let oca = |arguments: &[&str]| {
        let mut oca = Command::new(env!("CARGO_BIN_EXE_oca"));
        let output = oca
            .args(arguments)
            .arg("--socket")
            .arg(lab.path("oca.sock"));
        output.output().unwrap()
    };
    let none = oca(&["disk", "retire", "/nowhere"]);
    assert_eq!(none.status.code(), Some(4));
    let none = oca(&["disk", "retire", "--undo", &old]);
    assert_eq!(none.status.code(), Some(5));
    let retired = oca(&["disk", "retire", &old]);
    let told = String::from_utf8_lossy(&retired.stdout).into_owned();
    assert_eq!(retired.status.code(), Some(0), "{told}");
    assert!(told.contains("tells what is left"), "{told}");
    until("it may be pulled", || {
        let shown = json(&oca(&["show", "disks", "--json"]));
        shown["disks"][0]["retire"]["state"] == "retired"
    });
    let shown = oca(&["show", "disks"]);
    let told = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(told.contains("retired: it may be pulled"), "{told}");
    let undone = oca(&["disk", "retire", "--undo", &old]);
    assert_eq!(undone.status.code(), Some(0));
    drop(daemon);
    assert_eq!(crate::tools::objects_on(&lab.disks[0].path).len(), 0);
    assert_eq!(crate::tools::objects_on(&lab.disks[1].path).len(), 2);
}
