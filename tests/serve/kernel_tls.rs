//! TLS under the kernel's hands where it has the module `tls`, and the way back to user space where
//! it has not: the same bytes either way, and the counts say which way it was.
//!
//! I/O: loopback sockets and temporary directories.

use crate::play;
use crate::serving::Server;
use crate::serving::Viewer;
use crate::serving::limits;
use crate::serving::noise;
use oca::serve::Config;
use oca::serve::ConnectionView;
use oca::serve::Offload;
use oca::serve::ServeError;
use oca::serve::TlsOffloadView;

/// Large enough for the kernel, and for many records.
const LARGE: usize = 3_000_000;

fn titles() -> Vec<(String, Vec<u8>)> {
    let sizes = [100, 64 * 1024 - 1, 64 * 1024, LARGE];
    let title = |size: &usize| (format!("title/{size}.m4s"), noise(*size));
    sizes.iter().map(title).collect()
}

fn large() -> Vec<(String, Vec<u8>)> {
    vec![("title/a".to_owned(), noise(LARGE))]
}

fn offload(server: &Server) -> TlsOffloadView {
    server.handle.view().tls.offload
}

fn has_kernel(server: &Server) -> bool {
    !offload(server).ciphers.is_empty()
}

/// `connections` have had a large body.
fn assert_counted(server: &Server, connections: u64) {
    let view = offload(server);
    let counts = (view.kernel, view.user_space["kernel-cannot"], view.lost);
    match has_kernel(server) {
        true => assert_eq!(counts, (connections, 0, 0)),
        false => assert_eq!(counts, (0, connections, 0)),
    }
}

#[test]
fn every_cipher_of_both_versions_delivers_the_same_bytes_on_the_path_that_is_told() {
    let titles = titles();
    let server = Server::start(limits(), &titles);
    let before = offload(&server).tls_stat.get("TlsTxSw").copied();
    let mut suites = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
    // The test's certificate has an ECDSA key.
    suites.retain(|suite| !format!("{:?}", suite.suite()).contains("_RSA_"));
    let mut viewers = Vec::new();
    for suite in &suites {
        let mut viewer = server.secure_with(*suite);
        let rows = server.handle.connections(100);
        let small = |row: &ConnectionView| row.tls_path == "user-space (small)";
        assert_eq!(rows.iter().filter(|row| small(row)).count(), 1);
        for _ in 0..3 {
            play(&mut viewer, &titles);
        }
        viewers.push(viewer);
    }
    let count = suites.len() as u64;
    assert_counted(&server, count);
    let view = offload(&server);
    assert_eq!(view.user_space["small"], 0);
    let path = match has_kernel(&server) {
        true => "kernel",
        false => "user-space (kernel-cannot)",
    };
    let rows = server.handle.connections(100);
    assert!(rows.iter().all(|row| row.tls_path == path), "{rows:?}");
    if let Some(before) = before {
        // The kernel's own count, of this network namespace.
        assert!(view.tls_stat["TlsTxSw"] >= before + count);
        assert!(view.tls_stat["TlsCurrTxSw"] >= count);
        assert_eq!(view.tls_stat["TlsCurrRxSw"], 0);
    }
    drop(viewers);
    server.until(|view| view.connections.open == 0);
    server.stop();
    let log = std::fs::read_to_string(&server.access_log).unwrap();
    let word = path.split(' ').next().unwrap();
    let said = format!(r#""tls_path":"{word}""#);
    assert!(log.lines().last().unwrap().contains(&said), "{log}");
}

#[test]
fn a_viewer_may_change_its_keys_at_any_time() {
    let titles = large();
    let server = Server::start(limits(), &titles);
    let rekeys = offload(&server).rekey || !has_kernel(&server);
    let mut viewer = server.secure(&rustls::version::TLS13);
    // Before the handover, and together with the request that brings it about.
    viewer.refresh_keys();
    play(&mut viewer, &titles);
    viewer.refresh_keys();
    if rekeys {
        (0..3).for_each(|_| play(&mut viewer, &titles));
    } else {
        let got = viewer.get("/title/a", "");
        assert!(got.status == 200 && got.body == titles[0].1);
        assert_eq!(viewer.read_to_end(), Ok(Vec::new()));
    }
    assert_counted(&server, 1);
}

#[test]
fn a_record_that_is_half_there_at_the_handover_is_not_lost() {
    let titles = large();
    let server = Server::start(limits(), &titles);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut viewer = server.secure(version);
        viewer.hold_half_back(b"GET /title/a HTTP/1.1\r\nHost: h\r\n\r\n");
        play(&mut viewer, &titles);
    }
    assert_counted(&server, 2);
}

#[test]
fn damaged_records_get_an_alert_and_close_the_connection() {
    let titles = large();
    let server = Server::start(limits(), &titles);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut viewer = server.secure(version);
        play(&mut viewer, &titles);
        let mut record = vec![23, 3, 3, 0, 100];
        record.extend([7; 100]);
        viewer.write_raw(&record);
        let error = viewer.read_to_end().unwrap_err();
        assert_eq!(error, std::io::ErrorKind::InvalidData);
        assert!(
            viewer.heard().contains("BadRecordMac"),
            "{}",
            viewer.heard()
        );
    }
    server.until(|view| view.connections.open == 0);
}

#[test]
fn the_last_response_ends_with_a_close_notify() {
    let titles = large();
    let limits = oca::serve::Limits {
        requests: 3,
        ..limits()
    };
    let server = Server::start(limits, &titles);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut viewer = server.secure(version);
        play(&mut viewer, &titles);
        assert_eq!(viewer.read_to_end(), Ok(Vec::new()));
    }
}

#[test]
fn a_viewer_that_leaves_in_the_middle_leaves_nothing_behind() {
    let titles = vec![("title/a".to_owned(), noise(20_000_000))];
    let server = Server::start(limits(), &titles);
    for _ in 0..5 {
        let mut viewer: Viewer = server.secure(&rustls::version::TLS13);
        viewer.write(b"GET /title/a HTTP/1.1\r\nHost: h\r\n\r\n");
        server.until(|view| view.connections.open == 1);
        drop(viewer);
        server.until(|view| view.connections.open == 0);
    }
    assert_eq!(server.handle.view().panics, 0);
}

#[test]
fn off_stays_in_user_space_and_require_refuses_a_kernel_that_cannot() {
    let titles = large();
    let server = Server::start_sealed(limits(), &titles, 1, Offload::Off);
    play(&mut server.secure(&rustls::version::TLS13), &titles);
    let view = server.handle.view().tls;
    assert_eq!(
        (view.path, view.offload.user_space["off"]),
        ("user-space", 1)
    );
    let require = Config {
        tls_offload: Offload::Require,
        ..server.config.clone()
    };
    match server.handle.prepare(&require) {
        Ok(prepared) => {
            prepared.commit();
            assert!(has_kernel(&server));
            play(&mut server.secure(&rustls::version::TLS13), &titles);
            assert_eq!(server.handle.view().tls.path, "kernel");
            assert_eq!(offload(&server).kernel, 1);
        }
        Err(error) => {
            assert!(matches!(error, ServeError::TlsOffload(_)));
            let text = error.to_string();
            assert!(
                text.contains("modprobe tls") && text.contains("tls_offload"),
                "{text}"
            );
            play(&mut server.secure(&rustls::version::TLS13), &titles);
        }
    }
}
