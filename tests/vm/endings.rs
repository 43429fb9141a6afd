//! How connections end that the kernel sends on: in order, cut off, slowly, with an alert.

use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::stage::sha256;
use crate::stage::until;
use crate::viewer;
use crate::viewer::Viewer;
use crate::viewer::request;
use oca::clock;
use rustls::AlertDescription;
use rustls::Error;
use serde_json::Value;
use socket2::Domain;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;
use std::io::Write as _;
use std::net::Shutdown;
use std::net::TcpStream;
use std::time::Duration;

const LARGE: &str = "film/large.mp4";
const OTHER: &str = "film/other.mp4";

/// Viewers who go away in mid-body.
const LEAVERS: usize = 8;

/// Nothing of the past is left in the kernel or in the box.
fn is_tidy(stage: &Stage) {
    until("the end of all connections", || {
        let open = TlsStat::open();
        let held = stage.connections();
        if open == 0 && held == 0 {
            return Ok(());
        }
        Err(format!("{open} in the kernel, {held} sockets in the box"))
    });
}

/// A reset in mid-body ends that connection and leaves nothing behind.
pub(crate) fn reset(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    is_tidy(stage);
    let (before, process) = (TlsStat::read(), stage.process());
    for _ in 0..LEAVERS {
        let mut viewer = Viewer::open(stage, &viewer::usual(stage));
        viewer.send(&request("GET", LARGE, ""));
        viewer.more();
        let linger = Some(Duration::ZERO);
        SockRef::from(&viewer.tcp).set_linger(linger).unwrap();
        drop(viewer);
    }
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    let body = viewer.get(OTHER, "").body;
    assert_eq!(sha256(&body), sha256(&stage.media[OTHER]));
    drop(viewer);
    is_tidy(stage);
    assert_eq!(stage.process(), process);
    let grown = TlsStat::read().since(&before);
    assert_eq!(grown, TlsStat::handed_over(LEAVERS as u64 + 1));
    format!("{LEAVERS} resets, none left open")
}

/// A viewer with a small window who reads a little now and then gets all of it, and holds up
/// nobody.
pub(crate) fn slow(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.connect(&stage.https().into()).unwrap();
    let tcp = TcpStream::from(socket);
    tcp.set_read_timeout(Some(crate::stage::PATIENCE)).unwrap();
    let mut slow = Viewer::over(tcp, &viewer::usual(stage));
    slow.handshake();
    slow.send(&request("GET", LARGE, "Range: bytes=0-1499999\r\n"));
    let mut quick = Viewer::open(stage, &viewer::usual(stage));
    let mut longest = Duration::ZERO;
    for number in 0..20 {
        slow.more();
        let begun = clock::now();
        let answer = quick.get(&format!("film/middle-{}.m4s", number % 4), "");
        assert_eq!(answer.status, 200);
        longest = longest.max(begun.elapsed());
        clock::block_for(Duration::from_millis(10));
    }
    let answer = slow.answer();
    assert_eq!(answer.status, 206);
    assert_eq!(
        sha256(&answer.body),
        sha256(&stage.media[LARGE][..1_500_000])
    );
    assert!(
        longest < Duration::from_secs(2),
        "{longest:?} beside a slow viewer"
    );
    format!("beside it, {} ms at most", longest.as_millis())
}

/// Bytes that no key opens are answered with the alert, which the kernel has to send.
pub(crate) fn alert(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    let body = viewer.get(OTHER, "").body;
    assert_eq!(sha256(&body), sha256(&stage.media[OTHER]));
    // A record of 32 bytes that are not what they claim to be.
    let record = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
    viewer.tcp.write_all(&record).unwrap();
    let error = loop {
        let count = viewer.tls.read_tls(&mut viewer.tcp).unwrap();
        match viewer.tls.process_new_packets() {
            Err(error) => break error,
            Ok(_) => assert!(count > 0, "the connection ended without an alert"),
        }
    };
    assert_eq!(error, Error::AlertReceived(AlertDescription::BadRecordMac));
    drop(viewer);
    is_tidy(stage);
    error.to_string()
}

/// A viewer who closes in order while nothing is on the way.
pub(crate) fn close(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    let body = viewer.get(OTHER, "").body;
    assert_eq!(sha256(&body), sha256(&stage.media[OTHER]));
    viewer.tls.send_close_notify();
    viewer.tls.complete_io(&mut viewer.tcp).unwrap();
    assert_eq!(viewer.end(), viewer::End::CloseNotify);
    drop(viewer);
    is_tidy(stage);
    "answered with close_notify".to_owned()
}

/// A viewer who says all he has to say at once, closes his half and waits for the answer. The
/// kernel takes no such connection; user space serves it.
pub(crate) fn half_closed(stage: &mut Stage) -> String {
    stage.serve(Offload::Auto);
    let before = (TlsStat::read(), stage.ask("/v1/tls"));
    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    viewer
        .tls
        .writer()
        .write_all(&request("GET", OTHER, ""))
        .unwrap();
    viewer.tls.send_close_notify();
    let mut packet = Vec::new();
    while viewer.tls.wants_write() {
        viewer.tls.write_tls(&mut packet).unwrap();
    }
    viewer.tcp.write_all(&packet).unwrap();
    viewer.tcp.shutdown(Shutdown::Write).unwrap();
    let body = viewer.answer().body;
    assert_eq!(sha256(&body), sha256(&stage.media[OTHER]));
    assert_eq!(viewer.end(), viewer::End::CloseNotify);
    drop(viewer);
    is_tidy(stage);
    let told = stage.ask("/v1/tls");
    let count = |view: &Value| view["offload"]["user_space"]["half-closed"].as_u64();
    assert_eq!(
        count(&told),
        count(&before.1).map(|count| count + 1),
        "{told}"
    );
    assert_eq!(TlsStat::read().since(&before.0), TlsStat::handed_over(0));
    "served from user space".to_owned()
}
