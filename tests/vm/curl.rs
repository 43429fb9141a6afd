//! curl inside the guest: a client on OpenSSL, told which version and cipher to offer.
//!
//! I/O: runs curl, which writes below the guest's directory.

use crate::stage::RSA_NAME;
use crate::stage::Stage;
use crate::suites::Choice;
use crate::support::finished;
use crate::support::peer;
use std::fs;

/// One object by one version and one cipher.
pub(crate) fn fetch(stage: &Stage, choice: &Choice, key: &str) -> Vec<u8> {
    let name = if choice.needs_rsa {
        RSA_NAME
    } else {
        "localhost"
    };
    let (file, port) = (stage.dir.join("curl.out"), stage.https().port());
    let mut command = peer("curl", "curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "30"]);
    command.args(choice.curl).arg("--cacert").arg(&stage.bundle);
    for host in ["localhost", RSA_NAME] {
        command.args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
    }
    command.arg("--output").arg(&file);
    finished(command.arg(format!("https://{name}:{port}/{key}")));
    let body = fs::read(&file).unwrap();
    fs::remove_file(file).unwrap();
    body
}
