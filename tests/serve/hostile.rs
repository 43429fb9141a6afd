//! Hostile request heads: each file of the corpus gets the answer that this table says, once.
//!
//! I/O: loopback sockets and temporary directories.

use crate::play;
use crate::serving::Server;
use crate::serving::limits;
use crate::serving::noise;
use std::collections::BTreeSet;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// What each file of the corpus is answered with.
const HOSTILE: [(&str, &str); 56] = [
    ("bare-cr-as-line-end.raw", "400"),
    ("bare-cr-in-value.raw", "400"),
    ("bare-lf-end.raw", "400"),
    ("bare-lf-in-field.raw", "400"),
    ("bare-lf-lines.raw", "400"),
    ("binary.raw", "400"),
    ("double-space.raw", "400"),
    ("empty-lines.raw", "400"),
    ("escape-in-agent.raw", "400"),
    ("expect-continue.raw", "417"),
    ("field-empty-name.raw", "400"),
    ("field-name-with-bracket.raw", "400"),
    ("field-no-colon.raw", "400"),
    ("fields-many.raw", "431"),
    ("get-with-body.raw", "413"),
    ("head-huge-no-end.raw", "431"),
    ("head-huge.raw", "431"),
    ("host-empty.raw", "400"),
    ("host-missing.raw", "400"),
    ("host-twice.raw", "400"),
    ("host-with-path.raw", "400"),
    ("host-with-user.raw", "400"),
    ("leading-space.raw", "400"),
    ("method-connect.raw", "405"),
    ("method-lower-case.raw", "501"),
    ("method-post.raw", "405"),
    ("method-trace.raw", "405"),
    ("method-unknown.raw", "501"),
    ("nul-in-target.raw", "400"),
    ("nul-in-value.raw", "400"),
    ("obs-fold-transfer-encoding.raw", "400"),
    ("obs-fold.raw", "400"),
    ("smuggle-cl-cl.raw", "400"),
    ("smuggle-cl-list.raw", "400"),
    ("smuggle-cl-negative.raw", "400"),
    ("smuggle-cl-overflow.raw", "413"),
    ("smuggle-cl-plus.raw", "400"),
    ("smuggle-cl-te.raw", "400"),
    ("smuggle-te-cl.raw", "400"),
    ("smuggle-te-identity.raw", "400"),
    ("smuggle-te-tab.raw", "400"),
    ("smuggle-te-te.raw", "400"),
    ("space-before-colon.raw", "400"),
    ("space-before-first-field.raw", "400"),
    ("target-absolute-bad-host.raw", "400"),
    ("target-asterisk-get.raw", "400"),
    ("target-fragment.raw", "400"),
    ("target-ftp.raw", "400"),
    ("target-huge.raw", "414"),
    ("target-no-slash.raw", "400"),
    ("target-space.raw", "400"),
    ("tls-client-hello.raw", "400"),
    ("version-0-9.raw", "400"),
    ("version-1-2.raw", "505"),
    ("version-2-preface.raw", "505"),
    ("version-lower-case.raw", "400"),
];

#[test]
fn every_hostile_head_is_refused_and_the_server_goes_on() {
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits(), &titles);
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/http");
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut stream = TcpStream::connect(server.plain_address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(&std::fs::read(&path).unwrap()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        let told = text
            .strip_prefix("HTTP/1.1 ")
            .map_or("close", |rest| &rest[..3]);
        let expected = HOSTILE.iter().find(|(file, _)| *file == name);
        if expected.map(|(_, answer)| *answer) != Some(told) {
            wrong.push(format!("{name}: {told}"));
        }
        assert_eq!(answer.is_empty(), told == "close", "{name}: {text}");
        assert!(
            answer.is_empty() || text.contains("Connection: close"),
            "{name}: {text}"
        );
        let answers = text.matches("\r\nDate: ").count();
        assert_eq!(answers, usize::from(!answer.is_empty()), "{name}");
        seen.insert(name);
    }
    assert!(wrong.is_empty(), "answered otherwise: {wrong:?}");
    assert_eq!(seen.len(), HOSTILE.len());
    play(&mut server.plain(), &titles);
    assert_eq!(server.handle.view().panics, 0);
}
