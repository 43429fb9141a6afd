//! The real daemon and its signals: HUP reloads all or nothing, USR1 opens the access log anew,
//! TERM ends it in time, a second daemon is refused; and what ten thousand viewers cost it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod support;

use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use oca::clock;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::Lab;
use support::OCA;

/// For a signal to show its effect.
const PATIENCE: Duration = Duration::from_secs(10);

fn signal(lab: &Lab, signal: Signal) {
    let process = i32::try_from(lab.appliance.process().unwrap()).unwrap();
    kill(Pid::from_raw(process), signal).unwrap();
}

/// Waits until a question's answer satisfies `is`.
async fn until(lab: &Lab, path: &str, is: impl Fn(&serde_json::Value) -> bool) {
    let deadline = clock::now() + PATIENCE;
    loop {
        let answer = lab.appliance.ask(path).await.unwrap();
        if is(&answer) {
            return;
        }
        assert!(clock::now() < deadline, "{path} stays {answer}");
        clock::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn hup_switches_to_a_good_configuration_and_ignores_a_bad_one() {
    let lab = Lab::start("oca-hup").await;
    let file = lab.appliance.config();
    let good = fs::read_to_string(&file).unwrap();
    assert!(good.contains("require = []"), "{good}");

    let closed = good.replace("require = []", "require = [\"bgp\"]")
        + "\n[bgp]\nasn = 64500\nrouter_id = \"192.0.2.9\"\n[[bgp.neighbour]]\n\
           name = \"edge-1\"\naddress = \"192.0.2.1\"\nasn = 64501\nclass = \"embedded\"\n\
           import = \"all\"\n";
    fs::write(&file, &closed).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/status", |status| {
        status["gate"]["reasons"][0] == "no-routes"
    })
    .await;

    fs::write(&file, closed.replace("[\"bgp\"]", "[]\nspeed = 9")).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/status", |_| {
        lab.appliance.tail().contains("reload refused")
    })
    .await;
    let status = lab.appliance.ask("/v1/status").await.unwrap();
    assert_eq!(status["gate"]["reasons"][0], "no-routes", "{status}");

    fs::write(&file, good).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/status", |status| status["state"] == "serving").await;
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_leaves_the_first_alone() {
    let mut lab = Lab::start("oca-second").await;
    let second = Command::new(OCA)
        .args(["run", "--config"])
        .arg(lab.appliance.config())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another"), "{said}");
    let status = lab.appliance.ask("/v1/status").await.unwrap();
    assert_eq!(status["state"], "serving", "{status}");
    let (exit, _) = lab.appliance.terminate(PATIENCE).await.unwrap();
    assert!(exit.success(), "{exit}");
}

/// A request that is answered and whose connection stays open.
fn idle(from: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let near: SocketAddr = format!("{from}:0").parse().unwrap();
    socket.bind(&near.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let ask = b"HEAD /absent HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(ask).unwrap();
    stream
}

fn answered(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&piece[..count]);
    }
    assert!(head.starts_with(b"HTTP/1.1 404 "));
}

fn resident_bytes(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn usr1_opens_the_access_log_anew_and_the_last_line_is_written_before_the_end() {
    let mut lab = Lab::start("oca-usr1").await;
    let to = lab.addresses().plain;
    let log = lab.appliance.access_log();
    let mut asked = 0;
    let rotations = 5;
    for number in 0..rotations {
        for _ in 0..20 {
            answered(&mut idle("127.0.0.1", to));
            asked += 1;
        }
        fs::rename(&log, log.with_extension(number.to_string())).unwrap();
        signal(&lab, Signal::SIGUSR1);
        until(&lab, "/v1/connections", |view| {
            view["access_log"]["reopened"] == number + 1
        })
        .await;
    }
    answered(&mut idle("127.0.0.1", to));
    let (exit, _) = lab.appliance.terminate(PATIENCE).await.unwrap();
    assert!(exit.success(), "{exit}");
    let lines = |path: &Path| -> usize {
        let text = fs::read_to_string(path).unwrap();
        let whole = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert!(text.lines().all(whole), "{text}");
        text.lines().count()
    };
    let last = lines(&log);
    assert!(last >= 1, "the last line is lost");
    let old = (0..rotations).map(|number| lines(&log.with_extension(number.to_string())));
    // A viewer can have its answer before the line of it is written.
    assert_eq!(old.sum::<usize>() + last, asked + 1);
}

#[tokio::test]
async fn term_ends_within_its_bound_though_a_player_has_stalled() {
    let mut lab = Lab::start("oca-stalled").await;
    let file = lab.appliance.config();
    let text = fs::read_to_string(&file).unwrap();
    let begins = text.find("stop_time").unwrap();
    let ends = begins + text[begins..].find('\n').unwrap();
    let short = format!("{}stop_time = \"1s\"{}", &text[..begins], &text[ends..]);
    fs::write(&file, short).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/config", |config| {
        config["config"]["stop_time"]["secs"] == 1
    })
    .await;
    until(&lab, "/v1/connections", |view| {
        view["speedtest"]["state"] == "ready"
    })
    .await;
    // Far more than the kernel holds for a player that takes none of it.
    let mut stalled = TcpStream::connect(lab.addresses().plain).unwrap();
    let ask = b"GET /speedtest HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stalled.write_all(ask).unwrap();
    stalled.read_exact(&mut [0; 1]).unwrap();
    let begun = clock::now();
    let (exit, _) = lab.appliance.terminate(PATIENCE).await.unwrap();
    let took = begun.elapsed();
    assert!(exit.success(), "{exit}");
    assert!(
        took >= Duration::from_millis(900),
        "it was let finish: {took:?}"
    );
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// What one idle connection costs the daemon: its task, its card, its place in the tables.
const IDLE_BYTES_MAX: u64 = 4 * 1024;

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_and_all_are_still_answered() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let count = usize::try_from(hard)
        .unwrap()
        .saturating_sub(1_000)
        .min(10_000);
    assert!(count >= 1_000, "raise the limit on open files: {hard}");
    let lab = Lab::start("oca-idle").await;
    let file = lab.appliance.config();
    let limits = "\n[serve.limits]\nconnections_per_address = 4000\nidle_time = \"10m\"\n";
    let text = fs::read_to_string(&file).unwrap() + limits;
    fs::write(&file, text).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/config", |config| {
        config["config"]["serve"]["limits"]["connections_per_address"] == 4_000
    })
    .await;
    let to = lab.addresses().plain;
    let open = |from: usize, most: usize| -> Vec<TcpStream> {
        // Addresses of their own: none has more than its share, nor runs out of ports.
        let who = |number: usize| format!("127.0.0.{}", 2 + number / 3_000);
        let mut opened: Vec<_> = (from..most).map(|n| idle(&who(n), to)).collect();
        opened.iter_mut().for_each(answered);
        opened
    };
    // What is allocated once, tables and stacks, is allocated by the first thousandth.
    let process = lab.appliance.process().unwrap();
    let mut held = open(0, count / 10);
    let before = resident_bytes(process);
    held.extend(open(count / 10, count));
    let grown = resident_bytes(process).saturating_sub(before);
    let each = grown / (count - count / 10) as u64;
    println!("{count} idle connections, {each} bytes of the daemon each");
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes each");
    until(&lab, "/v1/connections", |view| {
        view["connections"]["open"] == count
    })
    .await;
    for stream in held.iter_mut().step_by(97) {
        stream
            .write_all(b"HEAD /absent HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        answered(stream);
    }
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn trusting(root: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(client)
}

/// A session, or why there is none.
fn secure(client: &Arc<ClientConfig>, to: SocketAddr) -> std::io::Result<Secure> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let session = ClientConnection::new(Arc::clone(client), name);
    let session = session.map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(session, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_by_hup_while_a_transfer_goes_on() {
    let lab = Lab::start("oca-renewal").await;
    let to = lab.addresses().https;
    until(&lab, "/v1/serving", |view| {
        view["speedtest"]["state"] == "ready"
    })
    .await;
    let old = trusting(lab.appliance.authority().root.clone());
    let mut running = secure(&old, to).unwrap();
    let ask = b"GET /speedtest HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    running.write_all(ask).unwrap();
    running.read_exact(&mut [0; 100]).unwrap();
    // The certificate alone: its key is not the one beside it.
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let renewed = params.self_signed(&key).unwrap();
    fs::write(&lab.appliance.authority().chain, renewed.pem()).unwrap();
    signal(&lab, Signal::SIGHUP);
    until(&lab, "/v1/status", |_| {
        let said = lab.appliance.tail();
        said.contains("reload refused") && said.contains("is not the key of")
    })
    .await;
    drop(secure(&old, to).unwrap());
    fs::write(&lab.appliance.authority().key, key.serialize_pem()).unwrap();
    signal(&lab, Signal::SIGHUP);
    let new = trusting(renewed.der().clone());
    let deadline = clock::now() + PATIENCE;
    while secure(&new, to).is_err() {
        assert!(
            clock::now() < deadline,
            "the renewed certificate is not offered"
        );
        clock::sleep(Duration::from_millis(20)).await;
    }
    let mut rest = Vec::new();
    running.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 26_214_401 - 100, "{} bytes came", rest.len());
}

/// What one idle TLS connection costs the daemon: the session with its keys, besides the above.
const IDLE_TLS_BYTES_MAX: u64 = 24 * 1024;

#[tokio::test]
async fn an_idle_tls_connection_costs_its_session_and_no_buffers() {
    const COUNT: usize = 1_000;
    let lab = Lab::start("oca-idle-tls").await;
    let to = lab.addresses().https;
    let client = trusting(lab.appliance.authority().root.clone());
    let open = |count: usize| -> Vec<Secure> {
        let one = |_| {
            let mut viewer = secure(&client, to).unwrap();
            let ask = b"HEAD /absent HTTP/1.1\r\nHost: localhost\r\n\r\n";
            viewer.write_all(ask).unwrap();
            viewer.read_exact(&mut [0; 12]).unwrap();
            viewer
        };
        (0..count).map(one).collect()
    };
    let process = lab.appliance.process().unwrap();
    let mut held = open(COUNT / 10);
    let before = resident_bytes(process);
    held.extend(open(COUNT - COUNT / 10));
    let grown = resident_bytes(process).saturating_sub(before);
    let each = grown / (COUNT - COUNT / 10) as u64;
    println!("{COUNT} idle TLS connections, {each} bytes of the daemon each");
    assert!(each <= IDLE_TLS_BYTES_MAX, "{each} bytes each");
}
