//! The point of it all: no byte of a file comes to user space on its way to a viewer.
//!
//! The proof is every system call of the box while objects are fetched. The same proof on the same
//! box with `tls_offload = "off"` has to come out the other way, or it would prove nothing.

use crate::curl;
use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::stage::sha256;
use crate::suites;
use crate::suites::Choice;
use crate::trace::Account;
use crate::trace::BYTES_A_PROBE;
use crate::trace::Trace;
use crate::viewer;
use crate::viewer::Viewer;

const LARGE: &str = "film/large.mp4";
const OTHER: &str = "film/other.mp4";
const MIDDLE: &str = "film/middle-1.m4s";

/// Handshakes, heads and closing alerts of the connections that are watched.
const OVERHEAD_BYTES_MAX: u64 = 64 * 1024;

/// Two clients, whole files and a part, by each suite; the length of all bodies.
fn watched(stage: &Stage, choices: &[&Choice]) -> (Account, u64) {
    let mapped = format!("/proc/{}/maps", stage.process());
    // Whether the disk is there is asked of another file of it.
    let objects = stage.disk().join("objects");
    let trace = Trace::start(stage.process(), &stage.dir);
    let mut bytes = 0;
    for choice in choices {
        let body = curl::fetch(stage, choice, OTHER);
        assert_eq!(sha256(&body), sha256(&stage.media[OTHER]));
        bytes += body.len();
        let client = viewer::client(stage, viewer::suite(choice.rustls));
        let mut viewer = Viewer::open(stage, &client);
        let body = viewer.get(MIDDLE, "").body;
        assert_eq!(sha256(&body), sha256(&stage.media[MIDDLE]));
        bytes += body.len();
        let part = viewer.get(LARGE, "Range: bytes=300000-2299999\r\n").body;
        assert_eq!(
            sha256(&part),
            sha256(&stage.media[LARGE][300_000..2_300_000])
        );
        bytes += part.len();
        // The box's one worker is past the call that sent the last byte.
        assert_eq!(viewer.head(MIDDLE).status, 200);
    }
    let account = trace.stop(&objects);
    let maps = std::fs::read_to_string(mapped).unwrap();
    let is_mapped = maps.contains(objects.to_str().unwrap());
    assert!(!is_mapped, "an object is mapped into the box");
    (account, u64::try_from(bytes).unwrap())
}

pub(crate) fn no_byte(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let before = TlsStat::read();
    let (account, bytes) = watched(stage, &suites::ALL);
    assert_eq!(
        TlsStat::read().since(&before),
        TlsStat::handed_over(2 * suites::ALL.len() as u64)
    );
    assert_eq!(
        account.in_kernel, bytes,
        "{account:?} for {bytes} B of bodies"
    );
    assert_eq!(account.to_user_space, 0, "{account:?}");
    assert!(account.probes <= bytes / BYTES_A_PROBE, "{account:?}");
    assert!(account.from_user_space <= OVERHEAD_BYTES_MAX, "{account:?}");
    format!("{bytes} B of bodies, {account:?}")
}

pub(crate) fn control(stage: &mut Stage) -> String {
    stage.serve(Offload::Off);
    let before = TlsStat::read();
    let (account, bytes) = watched(stage, &suites::ALL[..1]);
    assert_eq!(TlsStat::read().since(&before), TlsStat::handed_over(0));
    assert_eq!(account.in_kernel, 0, "{account:?}");
    assert!(
        account.to_user_space >= bytes,
        "{account:?} for {bytes} B of bodies"
    );
    assert!(
        account.from_user_space > bytes,
        "{account:?} for {bytes} B of bodies"
    );
    format!("{bytes} B of bodies, {account:?}")
}
