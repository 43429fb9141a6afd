//! What other boxes fetch takes a viewer's way: from disk to socket inside the kernel.
//!
//! The listener of `tests/peer`, with its client, in the guest's own process: the calls of both are
//! seen, and a client touches no object.

use crate::lab::Lab;
use crate::lab::Setting;
use crate::lab::get;
use crate::stage;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::stage::until;
use crate::trace::Account;
use crate::trace::BYTES_A_PROBE;
use crate::trace::Trace;
use oca::serve::Offload;

/// No multiple of anything.
const BYTES: usize = 5_000_003;

/// Both ends' handshakes, requests and closing alerts.
const OVERHEAD_BYTES_MAX: u64 = 64 * 1024;

/// Where they differ says more than that they do.
fn same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len());
    let Some(at) = got.iter().zip(expected).position(|(a, b)| a != b) else {
        return;
    };
    let end = got.len().min(at + 16);
    let found = expected.windows(16).position(|part| *part == got[at..end]);
    let wrong = got.iter().zip(expected).filter(|(a, b)| a != b).count();
    panic!("{wrong} B differ from byte {at} on, which are those of {found:?}");
}

/// The whole of an object and a part of it over one connection; the length of both.
fn watched(stage: &Stage, offload: Offload) -> (Account, TlsStat, u64) {
    stage::load_tls();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let setting = Setting {
            offload,
            ..Setting::default()
        };
        let lab = Lab::with(setting).await;
        let (digest, bytes) = lab.publish(1, BYTES);
        let ticket = lab.good(&[digest]);
        let before = TlsStat::read();
        let trace = Trace::start(std::process::id(), &stage.dir);
        let mut client = lab.connect().await;
        let request = get(digest, &ticket, "");
        client.send(request.as_bytes()).await.unwrap();
        let whole = client.answer(false).await;
        let whole = whole.unwrap_or_else(|error| panic!("{error}: {:?}", lab.handle.view()));
        let whole = whole.body;
        same(&whole, &bytes);
        let range = "Range: bytes=300000-2299999\r\n";
        let part = client.get(digest, &ticket, range).await.body;
        same(&part, &bytes[300_000..2_300_000]);
        // The giver's one thread is past the call that sent the last byte.
        let head = get(digest, &ticket, "").replace("GET", "HEAD");
        assert_eq!(client.ask(&head).await.status, 200);
        // Whether the disk is there is asked of another file of it.
        let account = trace.stop(&lab.disk.join("objects"));
        let sealed = u64::from(offload == Offload::Require);
        assert_eq!(lab.handle.view().sealed_by_kernel, sealed);
        let moved = u64::try_from(whole.len() + part.len()).unwrap();
        (account, TlsStat::read().since(&before), moved)
    });
    drop(runtime);
    until("the end of its connection", || match TlsStat::open() {
        0 => Ok(()),
        open => Err(format!("{open} connections")),
    });
    outcome
}

pub(crate) fn no_byte(stage: &mut Stage) -> String {
    stage.stop();
    let (account, grown, bytes) = watched(stage, Offload::Require);
    assert_eq!(grown, TlsStat::handed_over(1));
    assert_eq!(account.in_kernel, bytes, "{account:?} for {bytes} B");
    assert_eq!(account.to_user_space, 0, "{account:?}");
    assert!(account.probes <= bytes / BYTES_A_PROBE, "{account:?}");
    assert!(account.from_user_space <= OVERHEAD_BYTES_MAX, "{account:?}");
    format!("{bytes} B, {account:?}")
}

pub(crate) fn control(stage: &mut Stage) -> String {
    stage.stop();
    let (account, grown, bytes) = watched(stage, Offload::Off);
    assert_eq!(grown, TlsStat::handed_over(0));
    assert_eq!(account.in_kernel, 0, "{account:?}");
    assert!(account.to_user_space >= bytes, "{account:?} for {bytes} B");
    assert!(account.from_user_space > bytes, "{account:?} for {bytes} B");
    format!("{bytes} B, {account:?}")
}
