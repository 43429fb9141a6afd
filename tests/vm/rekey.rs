//! KeyUpdate on a connection that the kernel sends on.
//!
//! Receiving is the box's own, so a client's new keys are never a question of the kernel. A client
//! who asks for new keys in return needs a kernel that can change them (6.14); with an older one
//! the box finishes what it answers and closes in order.
//!
//! I/O: runs openssl as a client, which updates its keys on a word at its standard input.

use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::stage::sha256;
use crate::support::peer;
use crate::viewer;
use crate::viewer::End;
use crate::viewer::Viewer;
use crate::viewer::request;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::process::Child;
use std::process::Stdio;

const MIDDLE: &str = "film/middle-0.m4s";
const OTHER: &str = "film/other.mp4";
const SMALL: &str = "film/small-3.m4s";

/// `openssl s_client`, fed line by line.
struct OpenSsl {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl OpenSsl {
    fn open(stage: &Stage) -> Self {
        let address = stage.https().to_string();
        let mut command = peer("timeout", "coreutils");
        command.args(["30", "openssl", "s_client", "-brief", "-tls1_3"]);
        command.args([
            "-servername",
            "localhost",
            "-verify_return_error",
            "-connect",
            &address,
        ]);
        command.arg("-CAfile").arg(&stage.bundle);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let mut client = Self { child, said };
        client.hears("CONNECTION ESTABLISHED");
        client
    }

    /// Waits for a line of its standard error.
    fn hears(&mut self, word: &str) {
        let mut all = String::new();
        while !all.contains(word) {
            let count = self.said.read_line(&mut all).unwrap();
            assert!(count > 0, "openssl ended without {word}: {all}");
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(bytes).unwrap();
        input.flush().unwrap();
    }

    /// New keys for what it sends; `K` asks for new keys in return, `k` does not.
    fn updates_keys(&mut self, letter: &str) {
        self.write(format!("{letter}\n").as_bytes());
        self.hears("KEYUPDATE");
    }

    /// Asks, and reads a body of this length.
    fn get(&mut self, key: &str, length: usize) -> Vec<u8> {
        self.write(&request("GET", key, ""));
        let mut bytes = Vec::new();
        let output = self.child.stdout.as_mut().unwrap();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        let head = String::from_utf8(bytes).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut body = vec![0; length];
        output.read_exact(&mut body).unwrap();
        body
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client's own keys change again and again, between bodies; nothing is asked in return.
pub(crate) fn unasked(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let before = TlsStat::read();
    let mut client = OpenSsl::open(stage);
    let get = |client: &mut OpenSsl, key: &str| {
        let bytes = &stage.media[key];
        let body = client.get(key, bytes.len());
        assert_eq!(sha256(&body), sha256(bytes), "{key}");
    };
    // Before the handover, then after it.
    client.updates_keys("k");
    get(&mut client, SMALL);
    get(&mut client, MIDDLE);
    for key in [SMALL, OTHER, SMALL] {
        client.updates_keys("k");
        get(&mut client, key);
    }
    drop(client);
    assert_eq!(TlsStat::read().since(&before), TlsStat::handed_over(1));
    "4 updates on one connection".to_owned()
}

/// Before the handover, the box answers with new keys of its own and hands those over.
pub(crate) fn asked_before(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let before = TlsStat::read();
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    for key in [SMALL, MIDDLE, OTHER] {
        if key != OTHER {
            viewer.tls.refresh_traffic_keys().unwrap();
        }
        let body = viewer.get(key, "").body;
        assert_eq!(sha256(&body), sha256(&stage.media[key]), "{key}");
    }
    assert_eq!(TlsStat::read().since(&before), TlsStat::handed_over(1));
    "two updates, then a body by the kernel".to_owned()
}

/// What follows the first answer after new keys were asked for: the end, where the kernel has no
/// new keys to give.
fn ends_unless_rekeyed(stage: &Stage, viewer: &mut Viewer) -> String {
    if stage.ask("/v1/tls")["offload"]["rekey"] != true {
        assert_eq!(viewer.end(), End::CloseNotify);
        return "answered in full, then closed in order".to_owned();
    }
    let body = viewer.get(OTHER, "").body;
    assert_eq!(sha256(&body), sha256(&stage.media[OTHER]));
    "answered in full, and on under new keys".to_owned()
}

/// After it: the answer at hand is whole.
pub(crate) fn asked_after(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    let body = viewer.get(MIDDLE, "").body;
    assert_eq!(sha256(&body), sha256(&stage.media[MIDDLE]));
    viewer.tls.refresh_traffic_keys().unwrap();
    let answer = viewer.get(OTHER, "");
    assert_eq!(sha256(&answer.body), sha256(&stage.media[OTHER]));
    ends_unless_rekeyed(stage, &mut viewer)
}

/// The same while a body is on the way: not a byte of it is lost.
pub(crate) fn asked_within(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    viewer.send(&request("GET", OTHER, ""));
    viewer.more();
    viewer.tls.refresh_traffic_keys().unwrap();
    // On its way before the rest is read.
    viewer.tls.write_tls(&mut viewer.tcp).unwrap();
    let answer = viewer.answer();
    assert_eq!(sha256(&answer.body), sha256(&stage.media[OTHER]));
    let answer = viewer.get(SMALL, "");
    assert_eq!(sha256(&answer.body), sha256(&stage.media[SMALL]));
    ends_unless_rekeyed(stage, &mut viewer)
}
