//! Requests on a connection that the kernel sends on: what a player asks, in every order and cut.

use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::stage::sha256;
use crate::suites;
use crate::viewer;
use crate::viewer::Answer;
use crate::viewer::End;
use crate::viewer::Viewer;
use crate::viewer::request;
use rustls::HandshakeKind;
use std::io::Write as _;

const LARGE: &str = "film/large.mp4";
const OTHER: &str = "film/other.mp4";
const MIDDLE: &str = "film/middle-1.m4s";

/// A keep-alive connection of an evening.
const REQUESTS: usize = 200;

fn is_whole(stage: &Stage, key: &str, answer: &Answer) {
    assert_eq!(answer.status, 200, "{key}: {}", answer.head);
    let same = sha256(&answer.body) == sha256(&stage.media[key]);
    assert!(same, "{key}: other bytes, {} of them", answer.body.len());
}

/// Parts, heads, conditions and refusals between large bodies keep the records in step.
pub(crate) fn mixed(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let before = TlsStat::read();
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    is_whole(stage, LARGE, &viewer.get(LARGE, ""));
    let file = &stage.media[LARGE];
    for (range, first, last) in [
        ("0-0", 0, 1),
        ("100-199999", 100, 200_000),
        ("-1", file.len() - 1, file.len()),
        ("4000000-", 4_000_000, file.len()),
    ] {
        let answer = viewer.get(LARGE, &format!("Range: bytes={range}\r\n"));
        assert_eq!(answer.status, 206, "{range}: {}", answer.head);
        assert!(answer.body == file[first..last], "{range}: other bytes");
    }
    let head = viewer.head(OTHER);
    assert_eq!(head.status, 200, "{}", head.head);
    let etag = head.head.lines().find(|line| line.starts_with("ETag: "));
    let condition = etag.unwrap().replace("ETag", "If-None-Match") + "\r\n";
    let statuses = [
        (viewer.get(OTHER, &condition).status, 304),
        (viewer.get("film/none.mp4", "").status, 404),
        (viewer.get(OTHER, "Range: bytes=99999999-\r\n").status, 416),
    ];
    for (status, expected) in statuses {
        assert_eq!(status, expected);
    }
    is_whole(stage, OTHER, &viewer.get(OTHER, ""));
    assert_eq!(TlsStat::read().since(&before), TlsStat::handed_over(1));
    "4 ranges, HEAD, 304, 404 and 416 on one connection".to_owned()
}

/// Small and large bodies in turn on one connection, which is handed over once.
pub(crate) fn many(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let before = TlsStat::read();
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    let mut bytes = 0;
    for number in 0..REQUESTS {
        let key = match number {
            60 | 160 => LARGE.to_owned(),
            _ if number % 10 == 7 => format!("film/middle-{}.m4s", number % 4),
            _ => format!("film/small-{}.m4s", number % 8),
        };
        let answer = viewer.get(&key, "");
        is_whole(stage, &key, &answer);
        bytes += answer.body.len();
    }
    assert_eq!(TlsStat::read().since(&before), TlsStat::handed_over(1));
    format!("{REQUESTS} requests, {bytes} B")
}

/// Requests that come before the answers to those before them.
pub(crate) fn pipelined(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    let keys: Vec<String> = (0..12)
        .map(|number| match number {
            1 | 7 => OTHER.to_owned(),
            _ if number % 3 == 0 => format!("film/middle-{}.m4s", number % 4),
            _ => format!("film/small-{}.m4s", number % 8),
        })
        .collect();
    for _ in 0..2 {
        let all: Vec<u8> = keys
            .iter()
            .flat_map(|key| request("GET", key, ""))
            .collect();
        viewer.send(&all);
        for key in &keys {
            is_whole(stage, key, &viewer.answer());
        }
    }
    format!("twice {} requests at once", keys.len())
}

/// Heads cut over records, and records cut over packets, before and after the handover.
pub(crate) fn split(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let before = TlsStat::read();
    let whole = request("GET", MIDDLE, "");
    for choice in suites::ALL {
        let client = viewer::client(stage, viewer::suite(choice.rustls));
        let mut viewer = Viewer::open(stage, &client);
        for byte in &whole {
            viewer.send(&[*byte]);
        }
        is_whole(stage, MIDDLE, &viewer.answer());
        // One record, in packets of seven bytes; two requests in it.
        let twice = [whole.as_slice(), &request("HEAD", OTHER, "")].concat();
        viewer.tls.writer().write_all(&twice).unwrap();
        let mut record = Vec::new();
        viewer.tls.write_tls(&mut record).unwrap();
        for piece in record.chunks(7) {
            viewer.tcp.write_all(piece).unwrap();
        }
        is_whole(stage, MIDDLE, &viewer.answer());
        let head = viewer.answer_to(true);
        assert_eq!(head.status, 200, "{}: {}", choice.rustls, head.head);
    }
    let connections = suites::ALL.len() as u64;
    assert_eq!(
        TlsStat::read().since(&before),
        TlsStat::handed_over(connections)
    );
    format!(
        "{} records of a byte a request, {connections} suites",
        whole.len()
    )
}

/// The first request in one packet with the end of the handshake, whole or cut in its record, on a
/// full handshake and on a resumed one.
pub(crate) fn early(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let before = TlsStat::read();
    let client = viewer::usual(stage);
    let mut kinds = Vec::new();
    for cut in [0, 1, 30] {
        let mut viewer = Viewer::over(viewer::connect(stage.https()), &client);
        while viewer.tls.is_handshaking() {
            viewer.tls.write_tls(&mut viewer.tcp).unwrap();
            while viewer.tls.is_handshaking() && !viewer.tls.wants_write() {
                viewer.tls.read_tls(&mut viewer.tcp).unwrap();
                viewer.tls.process_new_packets().unwrap();
            }
        }
        viewer
            .tls
            .writer()
            .write_all(&request("GET", MIDDLE, ""))
            .unwrap();
        let mut packet = Vec::new();
        while viewer.tls.wants_write() {
            viewer.tls.write_tls(&mut packet).unwrap();
        }
        let (first, rest) = packet.split_at(packet.len() - cut);
        viewer.tcp.write_all(first).unwrap();
        oca::clock::block_for(std::time::Duration::from_millis(20));
        viewer.tcp.write_all(rest).unwrap();
        is_whole(stage, MIDDLE, &viewer.answer());
        is_whole(stage, OTHER, &viewer.get(OTHER, "Connection: close\r\n"));
        assert_eq!(viewer.end(), End::CloseNotify);
        kinds.push(viewer.tls.handshake_kind().unwrap());
    }
    let expected = [
        HandshakeKind::Full,
        HandshakeKind::Resumed,
        HandshakeKind::Resumed,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(TlsStat::read().since(&before), TlsStat::handed_over(3));
    "once on a full handshake, twice on a resumed one".to_owned()
}

/// What a small answer saves by the kernel is less than the handover costs.
pub(crate) fn small(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let before = TlsStat::read();
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    for number in 0..8 {
        let key = format!("film/small-{number}.m4s");
        is_whole(stage, &key, &viewer.get(&key, ""));
    }
    assert_eq!(TlsStat::read().since(&before), TlsStat::handed_over(0));
    is_whole(stage, OTHER, &viewer.get(OTHER, ""));
    assert_eq!(TlsStat::read().since(&before), TlsStat::handed_over(1));
    "handed over at the first large body".to_owned()
}
