//! Two speakers of ours over real sockets: they meet if password and hops fit, and say what to look
//! at if not.

use super::learning::until;
use oca::bgp;
use oca::bgp::BgpError;
use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::Handle;
use oca::bgp::NeighbourConfig;
use oca::bgp::Order;
use oca::bgp::OwnPolicy;
use oca::bgp::Seams;
use oca::bgp::Snapshot;
use oca::bgp::TransportConfig;
use oca::clock;
use oca::route::Asn;
use oca::route::Class;
use oca::sys::tcp_ao;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

const LEFT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 21);
const RIGHT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 22);

fn free_port(ip: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// One side, whose neighbour is the other.
fn side(own: SocketAddr, other: SocketAddr, transport: TransportConfig) -> Config {
    let asn = |at: SocketAddr| Asn(64_500 + u32::from(at.ip() == LEFT));
    Config {
        asn: asn(own),
        router_id: if own.ip() == LEFT { LEFT } else { RIGHT },
        listen: vec![own],
        neighbours: vec![NeighbourConfig {
            port: other.port(),
            local_address: Some(own.ip()),
            hold_time: Duration::from_secs(9),
            connect_retry: Duration::from_millis(500),
            max_prefixes: 10,
            bogons: Bogons::None,
            transport,
            ..NeighbourConfig::new("other", other.ip(), asn(other), Class::Peering)
        }],
        policy: OwnPolicy::default(),
    }
}

fn password(dir: &Path, name: &str, text: &str) -> TransportConfig {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    TransportConfig {
        password_file: Some(path),
        ..TransportConfig::default()
    }
}

fn pair(left: TransportConfig, right: TransportConfig) -> [Handle; 2] {
    let (at_left, at_right) = (
        SocketAddr::from((LEFT, free_port(LEFT))),
        SocketAddr::from((RIGHT, free_port(RIGHT))),
    );
    let left = side(at_left, at_right, left);
    let right = side(at_right, at_left, right);
    [left, right].map(|config| bgp::start(&config, Seams::real()).unwrap())
}

#[tokio::test]
async fn two_sides_with_one_password_and_ttl_security_meet() {
    let dir = tempfile::tempdir().unwrap();
    let key = |name: &str| password(dir.path(), name, "s3cret\n");
    let pair = pair(key("left"), key("right"));
    for handle in &pair {
        until(handle, |s| s.neighbours[0].state == "established").await;
        let session = handle.snapshot().neighbours[0].session.clone();
        assert!(session.capabilities.contains(&"graceful-restart"));
        assert_eq!((session.role, session.hold_time_s), (Some("peer"), Some(9)));
    }
    // The end of each other's table, of which there is none.
    let ended = |s: &Snapshot| s.neighbours[0].session.end_of_rib == ["ipv4", "ipv6"];
    for handle in &pair {
        until(handle, ended).await;
        handle.stop("done").await;
    }
}

#[tokio::test]
async fn another_password_is_for_the_next_connection_and_ends_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let key = |name: &str, text: &str| password(dir.path(), name, text);
    let handles = pair(key("left", "first"), key("right", "first"));
    let is_up = |s: &Snapshot| s.neighbours[0].state == "established";
    let again = |handle: &Handle| handle.read_keys().map(|keys| handle.use_keys(keys));
    for handle in &handles {
        until(handle, is_up).await;
    }
    // With one side alone, what stands goes on and nothing new comes.
    key("left", "second");
    again(&handles[0]).unwrap();
    clock::sleep(Duration::from_millis(1_200)).await;
    assert!(is_up(&handles[0].snapshot()) && is_up(&handles[1].snapshot()));
    let reset = Order::Reset("new password".to_owned());
    handles[0].order("other", reset).await.unwrap();
    clock::sleep(Duration::from_millis(1_500)).await;
    assert!(!is_up(&handles[0].snapshot()) && !is_up(&handles[1].snapshot()));
    // What cannot be a password changes nothing.
    key("right", "");
    assert!(again(&handles[1]).is_err());
    key("right", "second");
    again(&handles[1]).unwrap();
    // Both, before one of them ends it.
    for handle in &handles {
        until(handle, is_up).await;
    }
    for handle in &handles {
        handle.stop("done").await;
    }
}

#[tokio::test]
async fn a_wrong_password_or_missing_hops_let_nobody_in_and_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let one = password(dir.path(), "one", "s3cret");
    let other = password(dir.path(), "other", "another");
    let none = TransportConfig::default();
    let far = TransportConfig {
        ttl_security: false,
        ..TransportConfig::default()
    };
    for (left, right, words) in [
        (one.clone(), other, Some("the password must be the same")),
        (one, none.clone(), Some("the password must be the same")),
        // Answers to who connects have all hops; nothing that comes after them does.
        (none, far, None),
    ] {
        let pair = pair(left, right);
        let told = |s: &Snapshot| {
            let error = s.neighbours[0].last_error.as_deref();
            words.is_none_or(|words| error.is_some_and(|error| error.contains(words)))
        };
        clock::sleep(Duration::from_secs(1)).await;
        until(&pair[0], told).await;
        for handle in &pair {
            assert_ne!(handle.snapshot().neighbours[0].state, "established");
            handle.stop("done").await;
        }
    }
}

#[tokio::test]
async fn what_this_machine_cannot_do_ends_the_start_with_what_to_do() {
    let at = SocketAddr::from((LEFT, free_port(LEFT)));
    let other = SocketAddr::from((RIGHT, 179));
    let start = |transport| bgp::start(&side(at, other, transport), Seams::real());
    let missing = TransportConfig {
        password_file: Some("/nonexistent/password".into()),
        ..TransportConfig::default()
    };
    let error = start(missing).unwrap_err();
    assert!(matches!(error, BgpError::Password { .. }), "{error}");
    assert!(
        error.to_string().contains("/nonexistent/password"),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let ao = TransportConfig {
        tcp_ao_id: Some(1),
        ..password(dir.path(), "key", "s3cret")
    };
    match start(ao) {
        Ok(handle) => {
            assert!(tcp_ao::is_supported());
            handle.stop("done").await;
        }
        Err(error) => {
            assert!(!tcp_ao::is_supported());
            assert!(error.to_string().contains("CONFIG_TCP_AO"), "{error}");
        }
    }
}
