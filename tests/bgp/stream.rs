//! A whole session against one neighbour's bytes: asked by a fuzz target, and by the test that
//! replays its corpus.

use oca::bgp;
use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::Dial;
use oca::bgp::MemoryNet;
use oca::bgp::NeighbourConfig;
use oca::bgp::Net as _;
use oca::bgp::OwnPolicy;
use oca::bgp::Seams;
use oca::route::Asn;
use oca::route::Class;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

fn hostile() -> NeighbourConfig {
    let address = Ipv4Addr::new(192, 0, 2, 2).into();
    NeighbourConfig {
        passive: true,
        max_prefixes: 10_000,
        bogons: Bogons::None,
        ..NeighbourConfig::new("hostile", address, Asn(64500), Class::Peering)
    }
}

/// What a neighbour sends on a connection, from its OPEN on: the room neither panics nor hangs, and
/// its words stay printable.
pub(crate) fn session(stream: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let net = MemoryNet::default();
        let ours = "192.0.2.9:179".parse().unwrap();
        let config = Config {
            asn: Asn(64510),
            router_id: Ipv4Addr::new(192, 0, 2, 9),
            listen: vec![ours],
            neighbours: vec![hostile()],
            policy: OwnPolicy::default(),
        };
        let seams = Seams {
            net: Arc::new(net.clone()),
            seed: 1,
        };
        let handle = bgp::start(&config, seams).unwrap();
        let from = hostile().address;
        let link = net.connect(Dial::new(Some(from), ours)).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(link.stream);
        let send = async {
            let _ = writer.write_all(stream).await;
            let _ = writer.shutdown().await;
        };
        let mut answer = Vec::new();
        let exchange = async { tokio::join!(send, reader.read_to_end(&mut answer)) };
        let done = oca::clock::within(Duration::from_secs(3600), exchange).await;
        assert!(done.is_ok(), "the connection is never ended");
        let snapshot = handle.snapshot();
        let error = snapshot.neighbours[0]
            .last_error
            .clone()
            .unwrap_or_default();
        assert!(!error.contains("internal error"), "{error}");
        assert!(
            error.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{error}"
        );
        handle.stop("done").await;
    });
}
