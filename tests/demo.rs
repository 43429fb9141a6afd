//! `oca demo` as somebody runs it: what it prints, how it ends, and that it leaves nothing behind.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use oca::clock;
use oca::demo::Scratch;
use serde_json::Value;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

/// Steps that the documentation promises of the first two acts. The night takes minutes where
/// nothing is optimised: `tests/run` runs it whole, with the release build.
const PROMISED: [&str; 35] = [
    "certificate",
    "prefill",
    "prefill again",
    "start",
    "play",
    "every file",
    "ranges",
    "conditional",
    "unknown key",
    "TLS versions",
    "kill -9",
    "restart",
    "nothing lost",
    "play on",
    "drain refuses",
    "drain lets finish",
    "undrain",
    "stop",
    "control plane",
    "import",
    "registry",
    "enrol",
    "routes",
    "steer by prefix length",
    "steer by AS path",
    "steer by MED",
    "steer by distance",
    "unapproved partner",
    "play where steered",
    "withdrawal",
    "box killed",
    "box back",
    "control plane away",
    "lease end lets finish",
    "control plane back",
];

/// The demo with its temporary directory below `scratch`, where it must leave nothing.
fn demo(scratch: &Scratch) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oca"));
    command
        .args(["demo", "--brisk"])
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn steps(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

/// No file below the directory, and no process that was started for it.
fn nothing_is_left(scratch: &Scratch) {
    let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    // A process that was just killed may take a moment to disappear.
    for _ in 0..100 {
        if processes_with(scratch.path()).is_empty() {
            return;
        }
        clock::block_for(Duration::from_millis(50));
    }
    panic!("still running: {:?}", processes_with(scratch.path()));
}

/// Command lines that name the directory.
fn processes_with(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(dir))
        .collect()
}

fn interrupt(child: &Child) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
}

#[test]
fn the_proof_holds_prints_one_json_line_a_step_and_leaves_nothing() {
    let scratch = Scratch::new("t-demo").unwrap();
    let arguments = ["--check", "--json", "--without-night"];
    let output = demo(&scratch).args(arguments).output().unwrap();
    let steps = steps(&output);
    for step in &steps {
        assert_eq!(step["ok"], true, "{step}");
        assert!(step["measured"].is_string() && step["expected"].is_string());
    }
    let names: Vec<&str> = steps.iter().filter_map(|s| s["step"].as_str()).collect();
    for promised in PROMISED {
        assert!(
            names.contains(&promised),
            "{promised} is not among {names:?}"
        );
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    nothing_is_left(&scratch);
}

#[test]
fn a_real_bird_plays_the_routers() {
    let scratch = Scratch::new("t-demo").unwrap();
    let arguments = ["--check", "--json", "--router", "bird", "--without-night"];
    let output = demo(&scratch).args(arguments).output().unwrap();
    for step in &steps(&output) {
        assert_eq!(step["ok"], true, "{step}");
    }
    assert!(output.status.success());
    nothing_is_left(&scratch);
}

#[test]
fn ctrl_c_in_the_middle_of_the_proof_cleans_up_and_is_not_a_success() {
    let scratch = Scratch::new("t-demo").unwrap();
    let mut child = demo(&scratch).args(["--check", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = lines.by_ref().map_while(Result::ok);
    // The box runs from this step on.
    let started = begun.into_iter().any(|line| line.contains("\"start\""));
    assert!(started, "the demo ended before its box started");
    interrupt(&child);
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("stopped by Ctrl-C"), "{said}");
    nothing_is_left(&scratch);
}

#[test]
fn without_check_the_box_goes_on_serving_until_ctrl_c() {
    let scratch = Scratch::new("t-demo").unwrap();
    let mut child = demo(&scratch).arg("--without-night").spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut shown = String::new();
    for line in lines.map_while(Result::ok) {
        shown += &line;
        shown.push('\n');
        if line.starts_with("Configuration") {
            break;
        }
    }
    let plain = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("http://localhost:"))
        .unwrap_or_else(|| panic!("no plain URL in {shown}"));
    let port = plain.split('/').next().unwrap();
    let request =
        b"HEAD /title/master.m3u8 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    std::io::Write::write_all(&mut stream, request).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for words in ["oca show status", "curl --cacert", "ffplay", "oca drain"] {
        assert!(shown.contains(words), "no `{words}` in {shown}");
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    nothing_is_left(&scratch);
}

#[test]
fn somebodys_own_media_are_played_byte_ranges_included() {
    let scratch = Scratch::new("t-demo").unwrap();
    let media = Scratch::new("t-media").unwrap();
    let film: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    fs::create_dir(media.path().join("film")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(media.path().join(name), bytes).unwrap();
    write("film/all.mp4", &film);
    // The same bytes under another name: one object, two keys.
    write("film/copy.mp4", &film);
    write(
        "film/index.m3u8",
        b"#EXTM3U\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"1000@0\"\n#EXTINF:2,\n\
          #EXT-X-BYTERANGE:150000@1000\nall.mp4\n#EXTINF:2,\n#EXT-X-BYTERANGE:149000\nall.mp4\n",
    );
    write("notes.html", b"<p>never served</p>");
    let mut command = demo(&scratch);
    command.args(["--check", "--json", "--without-night", "--content"]);
    let output = command.arg(media.path()).output().unwrap();
    let steps = steps(&output);
    assert!(output.status.success(), "{steps:#?}");
    let play = steps.iter().find(|step| step["step"] == "play").unwrap();
    let measured = play["measured"].as_str().unwrap();
    assert!(measured.contains("3 pieces, 300 kB"), "{measured}");
    nothing_is_left(&scratch);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let scratch = Scratch::new("t-demo").unwrap();
    let mut command = demo(&scratch);
    command.args(["--check", "--content", "/nonexistent/media"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/nonexistent/media"), "{said}");
    nothing_is_left(&scratch);
}
