//! A kernel without the module: the box serves all the same, from user space.

use crate::curl;
use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::stage::sha256;
use crate::suites;
use crate::viewer;
use crate::viewer::Viewer;

const OTHER: &str = "film/other.mp4";
const MIDDLE: &str = "film/middle-0.m4s";

/// Every suite, both clients, right to the byte, and nothing of it in the kernel.
pub(crate) fn serves(stage: &mut Stage) -> String {
    assert!(!TlsStat::is_there(), "the module is loaded already");
    stage.serve(Offload::Auto);
    let [other, middle] = [OTHER, MIDDLE].map(|key| sha256(&stage.media[key]));
    for choice in suites::ALL {
        let body = curl::fetch(stage, choice, MIDDLE);
        assert_eq!(sha256(&body), middle, "{:?}", choice.curl);
        let client = viewer::client(stage, viewer::suite(choice.rustls));
        let body = Viewer::open(stage, &client).get(OTHER, "").body;
        assert_eq!(sha256(&body), other, "{}", choice.rustls);
    }
    assert!(!TlsStat::is_there(), "something loaded the module");
    let told = stage.ask("/v1/tls");
    assert_eq!(told["path"], "user-space", "{told}");
    let offload = &told["offload"];
    let verdict = offload["verdict"].as_str().unwrap();
    assert!(verdict.contains("modprobe tls"), "{told}");
    let fetches = 2 * suites::ALL.len();
    assert_eq!(offload["user_space"]["kernel-cannot"], fetches, "{told}");
    assert_eq!(offload["kernel"], 0, "{told}");
    format!("{} suites", suites::ALL.len())
}

/// Who asked for the kernel must not be served without it.
pub(crate) fn required(stage: &mut Stage) -> String {
    assert!(!TlsStat::is_there(), "the module is loaded already");
    let (code, said) = stage.refused(Offload::Require);
    assert!(
        code.is_some_and(|code| code != 0 && code != 124),
        "{code:?}: {said}"
    );
    assert!(said.contains("tls_offload"), "{said}");
    assert!(said.contains("modprobe tls"), "{said}");
    said.trim().to_owned()
}
