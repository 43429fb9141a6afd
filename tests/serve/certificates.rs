//! Certificates that are renewed under load: transfers go on, sessions resume, what is wrong is
//! refused and named.
//!
//! I/O: loopback sockets and temporary directories.

// Support code of tests is a test, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use crate::serving::Server;
use crate::serving::limits;
use crate::serving::noise;
use oca::tls::CertificateConfig;
use std::path::Path;

/// A self-signed pair for `name` as files below `dir`; valid for the years given.
fn pair(dir: &Path, stem: &str, name: &str, years: (i32, i32)) -> CertificateConfig {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let made = CertificateConfig {
        chain: dir.join(format!("{stem}.pem")),
        key: dir.join(format!("{stem}.key")),
    };
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(&made.chain, certificate.pem()).unwrap();
    std::fs::write(&made.key, key.serialize_pem()).unwrap();
    made
}

#[test]
fn a_transfer_in_flight_survives_renewals_and_those_who_come_later_see_the_renewed_one() {
    let titles = vec![("title/big".to_owned(), noise(24 << 20))];
    let server = Server::start(limits(), &titles);
    let dir = tempfile::tempdir().unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = server.client(version);
        // Read to its end, so that its tickets have come.
        let mut first = server.secure_as(&client);
        assert_eq!(first.get("/title/big/range/0-9", "").status, 206);
        drop(first);
        server.until(|view| view.connections.open == 0);
        let mut running = server.secure_as(&client);
        running.write(b"GET /title/big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        server.until(|view| view.connections.open == 1);
        let mut new = server.config.clone();
        for number in 0..5 {
            let stem = format!("new{number}");
            let renewed = pair(dir.path(), &stem, "localhost", (2020, 2090));
            new.tls.certificates = vec![renewed];
            server.handle.prepare(&new).unwrap().commit();
        }
        // A client that trusts the old certificate alone is offered the renewed one …
        let strict = server.client(version);
        assert!(
            server.refuses(&strict),
            "the old certificate is still offered"
        );
        assert_eq!(
            server.handle.view().tls.certificates[0].not_after[..4],
            *"2090"
        );
        // … and a session made under the old one goes on: nothing is verified again.
        let mut resumed = server.secure_as(&client);
        assert_eq!(
            resumed.get("/title/big/range/0-9", "").body,
            titles[0].1[..10]
        );
        let kind = resumed.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Resumed), "{version:?}");
        drop(resumed);
        let got = running.read_to_end().unwrap();
        assert!(got.ends_with(&titles[0].1), "{} bytes came", got.len());
        server.handle.prepare(&server.config).unwrap().commit();
        server.until(|view| view.connections.open == 0);
    }
}

#[test]
fn a_pair_that_is_wrong_refuses_the_reload_with_the_file_and_the_reason() {
    let titles = vec![("title/a".to_owned(), noise(1000))];
    let server = Server::start(limits(), &titles);
    let dir = tempfile::tempdir().unwrap();
    let good = pair(dir.path(), "good", "a.example.net", (2020, 2090));
    let past = pair(dir.path(), "past", "b.example.net", (2020, 2021));
    let future = pair(dir.path(), "future", "c.example.net", (2080, 2090));
    let mixed = CertificateConfig {
        chain: good.chain.clone(),
        key: past.key.clone(),
    };
    for (wrong, file, reason) in [
        (mixed, "good.pem", "is not the key of"),
        (past, "past.pem", "ended at 2021"),
        (future, "future.pem", "begins at 2080"),
    ] {
        let mut new = server.config.clone();
        // One that is wrong among others refuses them all.
        new.tls.certificates.push(good.clone());
        new.tls.certificates.push(wrong);
        let told = server.handle.prepare(&new).unwrap_err().to_string();
        assert!(told.contains(file) && told.contains(reason), "{told}");
    }
    let mut viewer = server.secure(&rustls::version::TLS13);
    assert_eq!(viewer.get("/title/a", "").status, 200);
    assert_eq!(server.handle.view().tls.certificates.len(), 1);
}
