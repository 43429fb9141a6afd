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

const HOST: &str = "c001-lhr001-ix.oca.example.net";

/// A fleet's secret and the key file of [`HOST`].
struct Keys {
    secret: String,
    keys: String,
    _dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let below = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (secret, keys) = (below("secret"), below("keys"));
        said(&oca(&["control", "secret", "make", &secret]));
        let derive = ["token", "derive", "--secret", &secret, "--output", &keys];
        said(&oca(&[&derive[..], &[HOST]].concat()));
        let _dir = dir;
        Self { secret, keys, _dir }
    }

    fn make(&self, more: &[&str]) -> Output {
        let make = ["token", "make", "--keys", &self.keys, "--host", HOST];
        oca(&[&make[..], &["film/v1/hd/a.m3u8"], more].concat())
    }

    fn check(&self, url: &str, more: &[&str]) -> (Option<i32>, Value) {
        let check = ["token", "check", "--secret", &self.secret, "--json", url];
        let output = oca(&[&check[..], more].concat());
        let told = serde_json::from_slice(&output.stdout);
        (output.status.code(), told.unwrap())
    }
}

fn digits(file: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let last = text.split_ascii_whitespace().last().unwrap();
    assert_eq!(last.len(), 64);
    last.to_owned()
}

#[test]
fn an_operator_makes_and_rotates_a_secret_that_nobody_is_shown() {
    let own = Keys::new();
    let mode = std::fs::metadata(&own.secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = oca(&["control", "secret", "make", &own.secret]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let rotate = ["control", "secret", "rotate", &own.secret, "--in", "1h"];
    let shown = said(&oca(&[&rotate[..], &["--json"]].concat()));
    assert!(!shown.contains(&digits(&own.secret)));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let keys = shown["keys"].as_array().unwrap();
    let signs: Vec<_> = keys.iter().map(|key| key["signs"].as_bool()).collect();
    assert_eq!(signs, [Some(true), Some(false)]);
    let of_box = std::fs::read_to_string(&own.keys).unwrap();
    assert!(!of_box.contains(&digits(&own.secret)));
}

#[test]
fn an_operator_signs_and_is_told_why_a_url_is_refused() {
    let own = Keys::new();
    let below = ["--below", "film/v1", "--session", "s1"];
    let url = said(&own.make(&below));
    assert!(
        url.starts_with(&format!("https://{HOST}/t/d=2,e=")),
        "{url}"
    );
    let (code, good) = own.check(&url, &[]);
    assert_eq!((code, &good["good"]), (Some(0), &json!(true)));
    assert_eq!(good["reason"], Value::Null);
    let later = ["--at", "2100-01-01T00:00:00Z"];
    let unsigned = format!("https://{HOST}/film/v1/a");
    for (url, more, reason) in [
        (url.replace("film/v1", "film/v2"), &[][..], "bad MAC"),
        (url.clone(), &later[..], "unknown key id"),
        (unsigned, &[][..], "a token is needed"),
        (url.replace("c001", "c002"), &[][..], "bad MAC"),
    ] {
        let (code, told) = own.check(&url, more);
        assert_eq!(code, Some(5), "{told}");
        assert!(text(&told, "reason").starts_with(reason), "{told}");
    }
    let one = said(&own.make(&[]));
    assert!(one.contains("?e="), "{one}");
    assert_eq!(own.check(&one, &[]).0, Some(0));
    assert_eq!(own.make(&["--below", "film/v"]).status.code(), Some(1));
    // A key file that others may read is not used.
    std::fs::set_permissions(&own.keys, PermissionsExt::from_mode(0o644)).unwrap();
    let told = String::from_utf8(own.make(&[]).stderr).unwrap();
    assert!(told.contains("chmod 600"), "{told}");
}
