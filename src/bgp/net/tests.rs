//! Real sockets on loopback: keys, hops, marks, devices.

use super::*;
use crate::clock;
use std::net::Ipv4Addr;
use std::time::Duration;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn key(bytes: &[u8]) -> Option<Key> {
    Some(Key {
        bytes: bytes.to_vec().into(),
        ao_id: None,
    })
}

fn guard(config: &TransportConfig, password: Option<&[u8]>) -> Guard {
    Guard::new(config, password.and_then(key))
}

fn expected(guard: &Guard) -> Arc<[Expected]> {
    let one = Expected {
        address: HERE.into(),
        local: None,
        guard: guard.clone(),
    };
    Arc::new([one])
}

/// Both ends, if a connection comes about.
async fn met(bind: &str, theirs: &Guard, ours: &Guard) -> Option<(Link, Link)> {
    let mut listener = Tcp
        .listen(bind.parse().unwrap(), &expected(theirs))
        .unwrap();
    let port = listener.address().unwrap().port();
    let dial = Dial {
        local: Some(HERE.into()),
        remote: SocketAddr::new(HERE.into(), port),
        guard: ours.clone(),
    };
    let connected = clock::within(Duration::from_millis(300), Tcp.connect(dial)).await;
    let near = connected.ok()?.ok()?;
    let accepted = clock::within(Duration::from_millis(300), listener.accept()).await;
    Some((near, accepted.ok()?.unwrap()))
}

#[tokio::test]
async fn keys_and_hops_must_fit_on_both_sides_whoever_connects() {
    let near = guard(&TransportConfig::default(), None);
    let off = TransportConfig {
        ttl_security: false,
        ..TransportConfig::default()
    };
    let far = guard(&off, None);
    let signed = guard(&off, Some(b"s3cret"));
    let other = guard(&off, Some(b"another"));
    for bind in ["127.0.0.1:0", "[::]:0"] {
        let (one, two) = met(bind, &near, &near).await.unwrap();
        assert_eq!(
            (one.remote.ip(), two.remote.ip()),
            (HERE.into(), HERE.into())
        );
        assert!(met(bind, &far, &far).await.is_some());
        // A socket that asks for 255 hops hears nothing of one that gives one, and a listener that
        // does not ask answers with 255 all the same.
        assert!(met(bind, &near, &far).await.is_none());
        assert!(met(bind, &far, &near).await.is_some());
        assert!(met(bind, &signed, &signed).await.is_some());
        for (theirs, ours) in [(&signed, &other), (&signed, &far), (&far, &signed)] {
            assert!(met(bind, theirs, ours).await.is_none(), "{bind}");
        }
    }
}

#[test]
fn hops_are_counted_from_the_farthest_that_may_send() {
    let hops = |ttl_security, multihop| {
        let config = TransportConfig {
            ttl_security,
            multihop,
            ..TransportConfig::default()
        };
        let guard = Guard::new(&config, None);
        (guard.hops_sent, guard.hops_least)
    };
    assert_eq!(hops(true, 1), (255, 255));
    assert_eq!(hops(true, 3), (255, 253));
    assert_eq!(hops(true, 255), (255, 1));
    assert_eq!(hops(false, 1), (1, 0));
    assert_eq!(hops(false, 64), (64, 0));
}

#[tokio::test]
async fn packets_are_marked_as_network_control_and_buffers_are_bounded() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let socket = socket_for(address.parse().unwrap()).unwrap();
        let options = SockRef::from(&socket);
        assert_eq!(options.tos_v4().unwrap(), CLASS_SELECTOR_6);
        if address.starts_with('[') {
            assert_eq!(options.tclass_v6().unwrap(), CLASS_SELECTOR_6);
        }
        // The kernel doubles what is asked for, and may allow less.
        assert!(options.recv_buffer_size().unwrap() <= 2 * RECEIVE_BYTES);
        assert!(options.send_buffer_size().unwrap() <= 2 * SEND_BYTES);
    }
}

#[tokio::test]
async fn a_session_stays_on_its_interface() {
    let on = |interface: &str| {
        let config = TransportConfig {
            interface: Some(interface.to_owned()),
            ..TransportConfig::default()
        };
        guard(&config, None)
    };
    let any = guard(&TransportConfig::default(), None);
    assert!(met("127.0.0.1:0", &on("lo"), &on("lo")).await.is_some());
    let dial = Dial {
        local: None,
        remote: SocketAddr::new(HERE.into(), 9),
        guard: on("oca-none0"),
    };
    let missing = Tcp.connect(dial).await.unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENODEV), "{missing}");
    // A link-local address is another machine on each link.
    let zone = |interface: &str, scope| {
        let one = Expected {
            address: "fe80::1".parse().unwrap(),
            local: None,
            guard: on(interface),
        };
        let remote = SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, scope);
        one.fits(remote.into(), "fe80::2".parse().unwrap())
    };
    let lo = nix::net::if_::if_nametoindex("lo").unwrap();
    assert!(zone("lo", lo) && !zone("lo", lo + 1) && !zone("oca-none0", lo));
    let bare = SocketAddr::new("fe80::1".parse().unwrap(), 179);
    let zoned = with_zone(bare, Some("lo")).unwrap();
    assert_eq!(zoned.to_string(), format!("[fe80::1%{lo}]:179"));
    assert_eq!(with_zone(bare, any.interface.as_deref()).unwrap(), bare);
}
