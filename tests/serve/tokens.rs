//! docs/TOKENS.md against the program and against a second implementation in Python; `oca token`
//! and `oca control secret` as an operator uses them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use oca::tls::token;
use oca::tls::token::Asked;
use oca::tls::token::Claim;
use oca::tls::token::FleetKey;
use oca::tls::token::KeyId;
use oca::tls::token::Keyring;
use oca::tls::token::Presented;
use oca::tls::token::Scope;
use oca::tls::token::Secret;
use oca::tls::token::Signed;
use oca::units::BytesPerSecond;
use serde_json::Value;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

const DOCUMENT: &str = include_str!("../../docs/TOKENS.md");

const PYTHON_SIGNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/sign.py");

/// What is signed, and the four lines that come of it.
fn vectors() -> Vec<(Value, [String; 4])> {
    let blocks = DOCUMENT.split("```vector\n").skip(1);
    let vectors: Vec<_> = blocks
        .map(|block| {
            let (block, _) = block.split_once("```").unwrap();
            let mut lines = block.lines().map(str::to_owned);
            let said = serde_json::from_str(&lines.next().unwrap()).unwrap();
            (said, std::array::from_fn(|_| lines.next().unwrap()))
        })
        .collect();
    assert!(vectors.len() >= 4);
    vectors
}

fn text<'v>(said: &'v Value, name: &str) -> &'v str {
    said[name].as_str().unwrap()
}

fn number(said: &Value, name: &str) -> u64 {
    text(said, name).parse().unwrap()
}

fn fleet_key(said: &Value) -> FleetKey {
    FleetKey {
        id: KeyId::parse(text(said, "k")).unwrap(),
        from: 0,
        until: u64::MAX,
        secret: Secret::from_hex(text(said, "secret")).unwrap(),
    }
}

/// `c0000200-24` as the program's type, from the text of the contract.
fn client(said: &Value) -> Option<token::ClientPrefix> {
    let (digits, length) = said["c"].as_str()?.split_once('-')?;
    let address = match digits.len() {
        8 => std::net::IpAddr::from(u32::from_str_radix(digits, 16).unwrap().to_be_bytes()),
        _ => std::net::IpAddr::from(u128::from_str_radix(digits, 16).unwrap().to_be_bytes()),
    };
    let prefix = oca::prefix::Prefix::new(address, length.parse().unwrap()).unwrap();
    Some(token::ClientPrefix::new(prefix))
}

/// What the program makes of a vector: host key, text, MAC, URL.
fn ours(said: &Value) -> [String; 4] {
    let host = text(said, "host");
    let host_key = fleet_key(said).host_key(host).unwrap();
    let path = text(said, "path");
    let claim = Claim {
        scope: match text(said, "kind") {
            "key" => Scope::Key(path),
            "directory" => Scope::Directory(path),
            other => panic!("{other}"),
        },
        issued: number(said, "i"),
        expires: number(said, "e"),
        session: said["s"].as_str(),
        client: client(said),
        rate: said["r"]
            .as_str()
            .map(|rate| BytesPerSecond(rate.parse().unwrap())),
    };
    let Signed(token) = token::sign(&host_key, &claim).unwrap();
    let (presented, url) = match claim.scope {
        Scope::Key(key) => (
            Presented::from_query(token.as_bytes()).unwrap().unwrap(),
            format!("https://{host}/{key}?{token}"),
        ),
        Scope::Directory(_) => (
            Presented::from_path(&token).unwrap(),
            format!("https://{host}/t/{token}/{}", text(said, "key")),
        ),
    };
    let input = token::input(host, claim.scope, &presented);
    let mac =
        aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &bytes(&host_key.key.to_hex()));
    let mac = aws_lc_rs::hmac::sign(&mac, input.as_bytes());
    [
        host_key.key.to_hex().to_string(),
        input,
        hex(mac.as_ref()),
        url,
    ]
}

fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The second implementation's answers.
fn python(questions: &[Value]) -> Vec<[String; 4]> {
    let started = Command::new("python3")
        .arg(PYTHON_SIGNER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{error}: apt-get install python3"));
    let lines: String = questions.iter().map(|one| format!("{one}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let read = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        ["host_key", "text", "mac", "url"].map(|name| text(&answer, name).to_owned())
    };
    answers.lines().map(read).collect()
}

#[test]
fn the_vectors_of_the_document_are_what_the_program_signs_and_admits() {
    for (said, lines) in vectors() {
        assert_eq!(ours(&said), lines, "{said}");
        let host = text(&said, "host");
        let ring = Keyring::new(vec![fleet_key(&said).host_key(host).unwrap()]);
        let [_, _, _, url] = &lines;
        let rest = url.strip_prefix(&format!("https://{host}/")).unwrap();
        let (presented, key) = match rest.strip_prefix("t/") {
            Some(rest) => {
                let (token, key) = rest.split_once('/').unwrap();
                (Presented::from_path(token).unwrap(), key)
            }
            None => {
                let (key, query) = rest.split_once('?').unwrap();
                (
                    Presented::from_query(query.as_bytes()).unwrap().unwrap(),
                    key,
                )
            }
        };
        let asked = Asked {
            host: Some(host.as_bytes()),
            key,
            client: match said["c"].as_str() {
                Some(text) if text.len() > 20 => "2001:db8:1::9".parse().unwrap(),
                Some(_) | None => "192.0.2.9".parse().unwrap(),
            },
            now: Some(number(&said, "i")),
        };
        let pass = token::check(&[&ring], &presented, &asked).unwrap();
        assert_eq!(pass.session.as_deref(), said["s"].as_str());
    }
}

#[test]
fn a_second_implementation_signs_the_same() {
    let mut questions: Vec<Value> = vectors().into_iter().map(|(said, _)| said).collect();
    let mut random = fastrand::Rng::with_seed(5);
    for number in 0_u32..200 {
        let secret: Vec<u8> = (0..32).map(|_| random.u8(..)).collect();
        let depth = random.usize(1..5);
        let path: Vec<String> = (0..depth).map(|at| format!("d{at}.{number}")).collect();
        let path = path.join("/");
        let issued = random.u64(0..4_000_000_000);
        let mut one = json!({
            "secret": hex(&secret), "k": format!("k{number}"),
            "host": format!("c{:03}-lhr001-ix.oca.example.net", number + 1),
            "kind": if number % 2 == 0 { "key" } else { "directory" },
            "key": format!("{path}/x"), "path": path,
            "i": issued.to_string(), "e": (issued + 1 + random.u64(0..100_000)).to_string(),
        });
        if random.bool() {
            one["s"] = json!("s".repeat(random.usize(1..65)));
        }
        if random.bool() {
            one["r"] = json!(random.u64(1..1_000_000_000_000).to_string());
        }
        if random.bool() {
            one["c"] = json!(format!("{:08x}-32", random.u32(..)));
        }
        questions.push(one);
    }
    for (said, theirs) in questions.iter().zip(python(&questions)) {
        assert_eq!(ours(said), theirs, "{said}");
    }
}

fn oca(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oca"))
        .args(args)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .trim()
        .to_owned()
}

fn path(of: &Path) -> &str {
    of.to_str().unwrap()
}

#[test]
fn an_operator_makes_rotates_signs_checks_and_derives() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, keys) = (dir.path().join("secret"), dir.path().join("keys"));
    let (secret, keys) = (path(&secret), path(&keys));
    let host = "c001-lhr001-ix.oca.example.net";
    said(&oca(&["control", "secret", "make", secret]));
    let mode = std::fs::metadata(secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = oca(&["control", "secret", "make", secret]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let shown = said(&oca(&[
        "control", "secret", "rotate", secret, "--in", "1h", "--json",
    ]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let ids: Vec<_> = shown["keys"].as_array().unwrap().iter().collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(
        (&ids[0]["signs"], &ids[1]["signs"]),
        (&json!(true), &json!(false))
    );
    let text = std::fs::read_to_string(secret).unwrap();
    let digits = text.split_ascii_whitespace().last().unwrap();
    assert!(digits.len() == 64 && !shown.to_string().contains(digits));

    said(&oca(&[
        "token", "derive", "--secret", secret, "--output", keys, host,
    ]));
    assert!(!std::fs::read_to_string(keys).unwrap().contains(digits));
    let make = [
        "token",
        "make",
        "--keys",
        keys,
        "--host",
        host,
        "film/v1/hd/a.m3u8",
    ];
    let url = said(&oca(&[
        &make[..],
        &["--below", "film/v1", "--session", "s1"],
    ]
    .concat()));
    assert!(
        url.starts_with(&format!("https://{host}/t/d=2,e=")),
        "{url}"
    );
    let check = |url: &str, more: &[&str]| {
        oca(&[&["token", "check", "--secret", secret, "--json", url], more].concat())
    };
    let good: Value = serde_json::from_str(&said(&check(&url, &[]))).unwrap();
    assert_eq!(
        (&good["good"], &good["reason"]),
        (&json!(true), &Value::Null)
    );
    let other = url.replace("film/v1", "film/v2");
    for (url, more, reason) in [
        (other.as_str(), &[][..], "bad MAC"),
        (
            url.as_str(),
            &["--at", "2100-01-01T00:00:00Z"][..],
            "unknown key id",
        ),
        (
            &format!("https://{host}/film/v1/a"),
            &[][..],
            "a token is needed",
        ),
        (&url.replace("c001", "c002"), &[][..], "bad MAC"),
    ] {
        let output = check(url, more);
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(text_of(&told).starts_with(reason), "{told}");
    }
    let one = said(&oca(&make));
    let (_, query) = one.split_once('?').unwrap();
    assert!(query.starts_with("e="), "{one}");
    assert!(check(&one, &[]).status.success());
    let wrong = oca(&[&make[..], &["--below", "film/v"]].concat());
    assert_eq!(wrong.status.code(), Some(1));
    // A key file that others may read is not used.
    std::fs::set_permissions(keys, PermissionsExt::from_mode(0o644)).unwrap();
    let open = oca(&make);
    let told = String::from_utf8(open.stderr).unwrap();
    assert!(told.contains("chmod 600"), "{told}");
}

fn text_of(told: &Value) -> &str {
    told["reason"].as_str().unwrap()
}
