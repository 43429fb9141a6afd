//! curl as a client: what an operator types first.

use crate::support::Lab;
use crate::support::finished;
use crate::support::peer;
use crate::support::title;
use std::fs;
use std::process::Command;

const KEY: &str = "480p/seg-3.m4s";

/// Verifies the certificate, speaks for itself, ends in time.
fn curl(lab: &Lab) -> Command {
    let mut command = peer("curl", "curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]);
    command.arg(lab.ca());
    command
}

/// Body, and what `--write-out FORMAT` told.
fn fetch(lab: &Lab, arguments: &[&str], format: &str) -> (Vec<u8>, String) {
    let file = lab.scratch.path().join("curl.out");
    let _ = fs::remove_file(&file);
    let mut command = curl(lab);
    command.arg("--output").arg(&file);
    command.args(["--write-out", format]).args(arguments);
    let output = finished(&mut command);
    let body = fs::read(&file).unwrap_or_default();
    (body, String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn curl_fetches_a_whole_segment_over_both_tls_versions() {
    let lab = Lab::start("oca-curl").await;
    let (url, file) = (lab.url(KEY), fs::read(title().join(KEY)).unwrap());
    let format = "%{http_code} %{http_version} %{ssl_verify_result} %{content_type}";
    for versions in [
        ["--tlsv1.2", "--tls-max", "1.2"],
        ["--tlsv1.3", "--tls-max", "1.3"],
    ] {
        let arguments = [&versions[..], &[&url]].concat();
        let (body, told) = fetch(&lab, &arguments, format);
        assert_eq!(told, "200 1.1 0 video/iso.segment", "{versions:?}");
        assert!(body == file, "{versions:?}: other bytes than the file");
    }
    // A client that offers HTTP/2 gets HTTP/1.1 by ALPN; one that insists on it gets it too.
    for option in ["--http2", "--http1.1"] {
        let (body, told) = fetch(&lab, &[option, &url], format);
        assert_eq!(told, "200 1.1 0 video/iso.segment", "{option}");
        assert!(body == file);
    }
}

#[tokio::test]
async fn curl_refuses_the_box_without_its_ca() {
    let lab = Lab::start("oca-curl").await;
    let mut command = peer("curl", "curl");
    let output = command
        .args(["--silent", "--max-time", "30", &lab.url(KEY)])
        .output()
        .unwrap();
    // 60: peer certificate cannot be authenticated. The other tests do verify.
    assert_eq!(output.status.code(), Some(60));
}

#[tokio::test]
async fn curl_fetches_parts_and_resumes() {
    let lab = Lab::start("oca-curl").await;
    let (url, file) = (lab.url(KEY), fs::read(title().join(KEY)).unwrap());
    let end = file.len();
    for (range, first, last) in [
        ("0-0", 0, 1),
        ("100-199", 100, 200),
        ("-100", end - 100, end),
        ("1000-", 1000, end),
    ] {
        let (body, told) = fetch(&lab, &["--range", range, &url], "%{http_code}");
        assert_eq!(told, "206", "{range}");
        assert!(body == file[first..last], "{range}: other bytes");
    }
    let half = lab.scratch.path().join("half");
    fs::write(&half, &file[..end / 2]).unwrap();
    let mut command = curl(&lab);
    command.args(["--continue-at", "-", "--output"]);
    finished(command.arg(&half).arg(&url));
    assert!(fs::read(&half).unwrap() == file, "the resumed file differs");
}

#[tokio::test]
async fn curl_asks_for_the_head_and_revalidates() {
    let lab = Lab::start("oca-curl").await;
    let (url, length) = (lab.url(KEY), fs::metadata(title().join(KEY)).unwrap().len());
    let head = finished(curl(&lab).args(["--head", &url])).stdout;
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains(&format!("content-length: {length}\r\n")),
        "{head}"
    );
    assert!(
        head.contains("access-control-allow-origin: *\r\n"),
        "{head}"
    );
    let line = head
        .lines()
        .find(|line| line.starts_with("etag: "))
        .unwrap();
    let condition = format!("If-None-Match: {}", &line["etag: ".len()..]);
    let told = fetch(&lab, &["--header", &condition, &url], "%{http_code}");
    assert_eq!(told, (Vec::new(), "304".to_owned()));
    let other = ["--header", "If-None-Match: \"other\"", &url];
    assert_eq!(fetch(&lab, &other, "%{http_code}").1, "200");
}

#[tokio::test]
async fn curl_reuses_its_connection_and_hears_of_unknown_keys() {
    let lab = Lab::start("oca-curl").await;
    let output = finished(curl(&lab).args([
        "--output",
        "/dev/null",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code} %{num_connects}\n",
        &lab.url("no/such/key.mp4"),
        &lab.url(KEY),
    ]));
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, "404 1\n200 0\n");
}

#[tokio::test]
async fn curl_reads_plain_http_where_it_is_configured() {
    let lab = Lab::start("oca-curl").await;
    let url = format!("http://{}/{KEY}", lab.addresses().plain);
    let (body, told) = fetch(&lab, &[&url], "%{http_code} %{http_version}");
    assert_eq!(told, "200 1.1");
    assert!(body == fs::read(title().join(KEY)).unwrap());
}
