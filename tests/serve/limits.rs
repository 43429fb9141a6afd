//! Each limit over real sockets, plain and TLS: who is turned away or cut, when, and that it is
//! counted.
//!
//! I/O: loopback sockets and temporary directories.

// Support code of tests is a test, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use crate::serving::Server;
use crate::serving::Viewer;
use crate::serving::limits;
use crate::serving::noise;
use oca::clock;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

const ASK: &[u8] = b"GET /title/big HTTP/1.1\r\nHost: h\r\n\r\n";

fn big() -> Vec<(String, Vec<u8>)> {
    vec![
        ("title/big".to_owned(), noise(64 << 20)),
        ("title/a".to_owned(), noise(1000)),
    ]
}

/// A connection from `from`, which on loopback may be any address of 127.0.0.0/8, that keeps
/// `receive` bytes in the kernel at most.
pub(crate) fn from(from: &str, to: SocketAddr, receive: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(bytes) = receive {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let near: SocketAddr = format!("{from}:0").parse().unwrap();
    socket.bind(&near.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// Until the server has ended the connection; a reset is an end.
fn is_ended(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn connections_are_limited_by_address_and_in_all_and_refusals_are_visible() {
    let mut limits = limits();
    (limits.connections, limits.connections_per_address) = (3, 2);
    let server = Server::start(limits, &big());
    let to = server.plain_address;
    let mut held = Vec::new();
    for who in ["127.0.0.2", "127.0.0.2", "127.0.0.3"] {
        held.push(from(who, to, None));
        let open = held.len() as u64;
        server.until(|view| view.connections.open == open);
    }
    let mut third = from("127.0.0.2", server.tls_address, None);
    assert!(is_ended(&mut third));
    let view = server.handle.view();
    // The limit on all of them comes first: it is the cheaper one to look at.
    assert_eq!(view.refusals["connections"], 1);
    drop(held.pop());
    server.until(|view| view.connections.open == 2);
    assert!(is_ended(&mut from("127.0.0.2", to, None)));
    assert_eq!(server.handle.view().refusals["connections-per-address"], 1);
    let mut other = from("127.0.0.4", to, None);
    other
        .write_all(b"GET /title/a HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut some = [0; 12];
    other.read_exact(&mut some).unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
}

#[test]
fn a_flood_of_handshakes_that_never_end_leaves_the_others_alone() {
    let mut limits = limits();
    limits.handshakes_per_address = 3;
    limits.handshake_time = Duration::from_millis(700);
    let titles = big();
    let server = Server::start(limits, &titles);
    let mut flood: Vec<TcpStream> = (0..3)
        .map(|_| from("127.0.0.2", server.tls_address, None))
        .collect();
    // One of them is even talking, a byte at a time.
    flood[0].write_all(&[22]).unwrap();
    server.until(|view| view.connections.open == 3);
    assert!(is_ended(&mut from("127.0.0.2", server.tls_address, None)));
    assert_eq!(server.handle.view().refusals["handshakes-per-address"], 1);
    // Another address, and the same one without TLS, notice nothing.
    let mut neighbour = server.secure(&rustls::version::TLS13);
    assert_eq!(neighbour.get("/title/a", "").status, 200);
    let mut plain = from("127.0.0.2", server.plain_address, None);
    plain
        .write_all(b"HEAD /title/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert!(is_ended(&mut plain));
    server.until(|view| view.refusals["handshake-time"] == 3);
    assert!(flood.iter_mut().all(is_ended));
    // Done handshakes hold no place.
    let _many: Vec<Viewer> = (0..8)
        .map(|_| server.secure(&rustls::version::TLS12))
        .collect();
    assert_eq!(server.handle.view().refusals["handshakes-per-address"], 1);
}

#[test]
fn a_head_that_comes_a_byte_at_a_time_is_cut_when_its_time_is_up() {
    let mut limits = limits();
    limits.head_time = Duration::from_millis(600);
    let server = Server::start(limits, &big());
    for is_secure in [false, true] {
        let mut viewer = match is_secure {
            true => server.secure(&rustls::version::TLS13),
            false => server.plain(),
        };
        let begun = clock::now();
        // Each byte in a packet, and a TLS record, of its own; it would take a minute.
        let before = server.handle.view().refusals["head-time"];
        for byte in ASK.iter().chain([b'x'; 2_000].iter()) {
            viewer.write(std::slice::from_ref(byte));
            clock::block_for(Duration::from_millis(30));
            if server.handle.view().refusals["head-time"] > before {
                break;
            }
            // Short of the end, for ever.
            if begun.elapsed() > Duration::from_secs(10) {
                panic!("a slow head was never cut");
            }
            if byte == &ASK[ASK.len() - 5] {
                break;
            }
        }
        server.until(|view| view.refusals["head-time"] > before);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(600), "{took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
        let rest = viewer.read_to_end().unwrap();
        assert!(rest.starts_with(b"HTTP/1.1 408 "));
    }
}

#[test]
fn heads_are_limited_in_size_and_in_fields_over_tls_too() {
    let mut limits = limits();
    (limits.head, limits.headers) = (2048, 10);
    let server = Server::start(limits, &big());
    let long = format!("X: {}\r\n", "x".repeat(2048));
    let many = "X: y\r\n".repeat(10);
    for fields in [long, many] {
        let ask = format!("GET /title/a HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut secure = server.secure(&rustls::version::TLS12);
        secure.write(ask.as_bytes());
        assert!(secure.read_to_end().unwrap().starts_with(b"HTTP/1.1 431 "));
        let mut plain = server.plain();
        plain.write(ask.as_bytes());
        assert!(plain.read_to_end().unwrap().starts_with(b"HTTP/1.1 431 "));
    }
    assert_eq!(server.handle.view().refusals["bad-request"], 4);
}

#[test]
fn progress_is_the_viewers_and_not_the_kernels() {
    let mut limits = limits();
    // 50 kB a second are asked for; the kernel takes bytes from us a megabyte at a time.
    limits.progress_time = Duration::from_millis(400);
    limits.progress = 20_000;
    let server = Server::start(limits, &big());
    let mut steady = from("127.0.0.2", server.plain_address, Some(32 * 1024));
    steady.write_all(ASK).unwrap();
    let begun = clock::now();
    let mut piece = [0; 8 * 1024];
    let mut taken = 0;
    // 400 kB a second, for several of those periods.
    while begun.elapsed() < Duration::from_millis(2_500) {
        taken += steady.read(&mut piece).unwrap();
        clock::block_for(Duration::from_millis(20));
    }
    assert_eq!(
        server.handle.view().refusals["progress"],
        0,
        "after {taken}"
    );
    // A byte a second is no progress, however much the kernel holds; nor is nothing at all.
    let mut one = from("127.0.0.2", server.plain_address, Some(32 * 1024));
    one.write_all(ASK).unwrap();
    one.read_exact(&mut [0; 1]).unwrap();
    let stopped = clock::now();
    server.until(|view| view.refusals["progress"] == 2 && view.connections.open == 0);
    let took = stopped.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // What waited in the kernel is gone with the connection: no orphan holds megabytes.
    let mut rest = Vec::new();
    let error = one.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn silence_ends_after_the_idle_time_and_half_a_close_is_an_end() {
    let mut limits = limits();
    limits.idle_time = Duration::from_millis(300);
    let server = Server::start(limits, &big());
    let begun = clock::now();
    let mut silent = server.plain();
    assert_eq!(silent.read_to_end(), Ok(Vec::new()));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let mut half = from("127.0.0.1", server.plain_address, None);
    half.write_all(b"GET /title/a HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    half.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.len() > 1000);
    server.until(|view| view.connections.open == 0);
}
