//! A neighbour that sends rubbish over real sockets while a real BIRD's session stands beside it.

use super::bird::Active;
use super::bird::Bird;
use super::bird::Ports;
use super::bird::config;
use super::bird::routes;
use super::corpus;
use super::learning::until;
use oca::bgp;
use oca::bgp::NeighbourConfig;
use oca::bgp::Seams;
use oca::bgp::wire;
use oca::bgp::wire::Capabilities;
use oca::bgp::wire::Capability;
use oca::bgp::wire::Open;
use oca::clock;
use oca::prefix::Family;
use oca::route::Asn;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

const HOSTILE_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
const STRANGER_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

/// Sends and reads until we close or a second has passed.
async fn attack(from: Ipv4Addr, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = clock::within(Duration::from_secs(1), read).await;
    answer
}

#[tokio::test]
async fn rubbish_from_one_neighbour_leaves_birds_session_alone() {
    let ports = Ports::choose();
    let announced = routes(500, 100);
    let bird = Bird::start(ports, Active::Bird, &announced);
    let mut config = config(ports, Active::Bird);
    config.neighbours.push(NeighbourConfig {
        name: "hostile".to_owned(),
        address: HOSTILE_IP.into(),
        asn: Asn(64501),
        ..config.neighbours[0].clone()
    });
    let handle = bgp::start(&config, Seams::real()).unwrap();
    let before = until(&handle, |snapshot| snapshot.routes.len() == 600).await;
    let begun = clock::now();
    let to = handle.addresses()[0];
    let hello = wire::open(&Open {
        asn: Asn(64501),
        hold_time: 30,
        router_id: HOSTILE_IP,
        capabilities: Capabilities::of(&[
            Capability::unicast(Family::Ipv4),
            Capability::FourOctetAs(Asn(64501)),
        ]),
    });
    for (name, _) in corpus::TABLE.iter().step_by(4) {
        let bytes = [hello.clone(), wire::keepalive(), corpus::file(name)].concat();
        attack(HOSTILE_IP, to, &bytes).await;
    }
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..4 {
        let mut noise = vec![0; 70_000];
        random.fill(&mut noise);
        attack(HOSTILE_IP, to, &noise).await;
        attack(HOSTILE_IP, to, &[hello.clone(), noise].concat()).await;
    }
    let answer = attack(STRANGER_IP, to, &hello).await;
    assert!(answer.is_empty(), "a stranger was answered: {answer:?}");
    let after = until(&handle, |snapshot| snapshot.routes.len() == 600).await;
    assert_eq!(after.hash, before.hash);
    // Established since before the first attack, not again.
    let view = &handle.snapshot().neighbours[0];
    assert_eq!((view.state, view.last_error.clone()), ("established", None));
    assert!(view.uptime_s >= Some(begun.elapsed().as_secs()), "{view:?}");
    let shown = bird.ask("show~protocols~all~to_oca");
    assert!(shown.contains("Established"), "{shown}");
    handle.stop("done").await;
}
