//! Every cipher suite through the kernel: bytes identical, for curl and for rustls, and counted.

use crate::curl;
use crate::stage;
use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::stage::sha256;
use crate::viewer;
use crate::viewer::End;
use crate::viewer::Viewer;
use crate::viewer::request;

const KEY: &str = "film/large.mp4";

/// One suite as each client names it. Where TLS 1.2 ties it to a kind of certificate, curl takes
/// the one and rustls the other.
pub(crate) struct Choice {
    pub rustls: &'static str,
    pub curl: [&'static str; 5],
    pub needs_rsa: bool,
}

const fn tls13(rustls: &'static str, cipher: &'static str, needs_rsa: bool) -> Choice {
    let curl = ["--tlsv1.3", "--tls-max", "1.3", "--tls13-ciphers", cipher];
    Choice {
        rustls,
        curl,
        needs_rsa,
    }
}

const fn tls12(rustls: &'static str, cipher: &'static str, needs_rsa: bool) -> Choice {
    let curl = ["--tlsv1.2", "--tls-max", "1.2", "--ciphers", cipher];
    Choice {
        rustls,
        curl,
        needs_rsa,
    }
}

const TLS13_AES_128: Choice = tls13("TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", false);
const TLS13_AES_256: Choice = tls13("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", true);
const TLS13_CHACHA20: Choice = tls13(
    "TLS13_CHACHA20_POLY1305_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    false,
);
const TLS12_AES_128: Choice = tls12(
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    false,
);
const TLS12_AES_256: Choice = tls12(
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    true,
);
const TLS12_CHACHA20: Choice = tls12(
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    false,
);

pub(crate) const ALL: [&Choice; 6] = [
    &TLS13_AES_128,
    &TLS13_AES_256,
    &TLS13_CHACHA20,
    &TLS12_AES_128,
    &TLS12_AES_256,
    &TLS12_CHACHA20,
];

pub(crate) fn tls13_aes_128(stage: &mut Stage) -> String {
    sent_by_the_kernel(stage, &TLS13_AES_128)
}

pub(crate) fn tls13_aes_256(stage: &mut Stage) -> String {
    sent_by_the_kernel(stage, &TLS13_AES_256)
}

pub(crate) fn tls13_chacha20(stage: &mut Stage) -> String {
    sent_by_the_kernel(stage, &TLS13_CHACHA20)
}

pub(crate) fn tls12_aes_128(stage: &mut Stage) -> String {
    sent_by_the_kernel(stage, &TLS12_AES_128)
}

pub(crate) fn tls12_aes_256(stage: &mut Stage) -> String {
    sent_by_the_kernel(stage, &TLS12_AES_256)
}

pub(crate) fn tls12_chacha20(stage: &mut Stage) -> String {
    sent_by_the_kernel(stage, &TLS12_CHACHA20)
}

/// Two connections, one of each client; the kernel counts both, and nothing else.
fn sent_by_the_kernel(stage: &mut Stage, choice: &Choice) -> String {
    stage::load_tls();
    stage.serve(Offload::Require);
    let (before, whole) = (TlsStat::read(), sha256(&stage.media[KEY]));
    let body = curl::fetch(stage, choice, KEY);
    assert_eq!(sha256(&body), whole, "curl has other bytes");

    let client = viewer::client(stage, viewer::suite(choice.rustls));
    let mut viewer = Viewer::open(stage, &client);
    let answer = viewer.get(KEY, "");
    assert_eq!((answer.status, sha256(&answer.body)), (200, whole.clone()));
    viewer.send(&request(
        "GET",
        KEY,
        "Range: bytes=1000000-\r\nConnection: close\r\n",
    ));
    let answer = viewer.answer();
    assert_eq!(answer.status, 206, "{}", answer.head);
    assert_eq!(sha256(&answer.body), sha256(&stage.media[KEY][1_000_000..]));
    assert_eq!(viewer.end(), End::CloseNotify);

    let grown = TlsStat::read().since(&before);
    assert_eq!(grown, TlsStat::handed_over(2), "curl and rustls");
    format!("{} and curl's {}: {grown:?}", choice.rustls, choice.curl[4])
}
