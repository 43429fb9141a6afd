//! Readers that are slow, leave, or lose their right: none of them costs another anything, and
//! nothing of them stays. And who seals what they get.

use crate::lab::Client;
use crate::lab::Lab;
use crate::lab::Setting;
use crate::lab::get;
use oca::clock;
use oca::link::peering::box_client_config;
use oca::peer::Limits;
use oca::serve::Offload;
use oca::serve::listener::Bind;
use oca::units::BytesPerSecond;
use std::fs;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Comings and goings in [`a_thousand_connections_leave_no_descriptor_behind`].
const CONNECTIONS: u32 = 1000;

#[tokio::test]
async fn a_reader_that_takes_nothing_for_a_while_gets_everything_and_holds_up_nobody() {
    let lab = Lab::start().await;
    let (large, bytes) = lab.publish(1, 24 * MIB);
    let (small, small_bytes) = lab.publish(2, MIB);
    let ticket = lab.good(&[large, small]);
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut client = lab.connect().await;
        let request = get(large, &ticket, "");
        client.send(request.as_bytes()).await.unwrap();
        assert_eq!(client.head().await.unwrap().status, 200);
        slow.push(client);
    }
    let mut other = lab.connect().await;
    let begun = clock::now();
    for _ in 0..4 {
        assert!(other.get(small, &ticket, "").await.body == small_bytes);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let stuck = lab.handle.view().bytes_sent;
    assert!(stuck < (3 * 24) << 20, "they had taken all: {stuck}");
    for mut client in slow {
        assert!(client.read(24 * MIB).await.unwrap() == bytes);
    }
    assert!(lab.handle.view().refusals.is_empty());
}

#[tokio::test]
async fn one_that_leaves_in_mid_body_is_counted_and_its_neighbour_gets_every_byte() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 24 * MIB);
    let ticket = lab.good(&[digest]);
    let request = get(digest, &ticket, "");
    let mut neighbour = lab.connect().await;
    neighbour.send(request.as_bytes()).await.unwrap();
    for number in 0..20 {
        let socket = lab.tcp(1).await;
        if number % 2 == 0 {
            // A reset, and not an end.
            socket.set_zero_linger().unwrap();
        }
        let config = box_client_config(&lab.asker, &crate::lab::name(crate::lab::GIVER));
        let mut client = Client::open(socket, config.unwrap()).await.unwrap();
        client.send(request.as_bytes()).await.unwrap();
        client.read(1 + number * 10_000).await.unwrap();
    }
    assert!(neighbour.answer(false).await.unwrap().body == bytes);
    let view = lab.until("their places", |view| view.connections == 1);
    let view = view.await;
    assert_eq!(view.connections_total, 21);
    assert_eq!(view.refusals.get("broken-off"), Some(&20), "{view:?}");
}

#[tokio::test]
async fn who_loses_its_right_in_mid_transfer_gets_what_was_begun_and_nothing_more() {
    let lab = Lab::with(Setting {
        rate_limit: BytesPerSecond(4_000_000),
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, 8 * MIB);
    let mut client = lab.connect().await;
    let now = clock::unix_seconds(clock::wall());
    let mut ending = lab.ticket(&[digest], 1 << 40);
    // With the slack of clocks it ends in one to two seconds.
    (ending.not_before, ending.expires) = (now - 600, now - 58);
    let ending = lab.sign(&ending);
    let request = get(digest, &ending, "");
    client.send(request.as_bytes()).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    // The giver is revoked: it knows no keys any more, and whom it gave to is under way.
    let giver = lab.giver.lock().unwrap().take();
    assert!(client.read(8 * MIB).await.unwrap() == bytes);
    assert_eq!(client.get(digest, &ending, "").await.status, 503);
    *lab.giver.lock().unwrap() = giver;
    let told = client.get(digest, &ending, "").await;
    assert_eq!(told.status, 403);
    assert!(told.message().contains("ended at"), "{}", told.message());
}

/// What this process has open of the lab: connections of its address, and files below its disk.
fn open(lab: &Lab) -> (usize, usize) {
    const LISTENING: &str = "0A";
    let port = format!(":{:04X}", lab.address().port());
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace());
    // Those that are only waited for by the kernel have no descriptor: their inode is 0.
    let rows = rows.filter_map(|mut row| Some((row.nth(1)?, row.nth(1)?, row.nth(5)?)));
    let connections = rows
        .filter(|(local, state, inode)| {
            local.ends_with(&port) && *state != LISTENING && *inode != "0"
        })
        .count();
    let objects = lab.file(oca::object::Digest::of(b""));
    let objects = objects.ancestors().nth(3).unwrap();
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let files = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    (
        connections,
        files.filter(|file| file.starts_with(objects)).count(),
    )
}

#[tokio::test]
async fn a_thousand_connections_leave_no_descriptor_behind() {
    let lab = Lab::with(Setting {
        limits: Limits {
            connections_per_asker: 64,
            ..Limits::default()
        },
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, 300_000);
    let ticket = lab.good(&[digest]);
    let request = get(digest, &ticket, "");
    let config = box_client_config(&lab.asker, &crate::lab::name(crate::lab::GIVER)).unwrap();
    assert_eq!(open(&lab), (0, 0));
    for number in 0..CONNECTIONS {
        let socket = lab.tcp(1).await;
        socket.set_zero_linger().unwrap();
        // One in four shakes hands: the rest would only cost signatures.
        if number % 4 != 0 {
            continue;
        }
        let mut client = Client::open(socket, config.clone()).await.unwrap();
        match number % 12 {
            0 => assert!(client.ask(&request).await.body == bytes),
            4 => {
                client.send(request.as_bytes()).await.unwrap();
                client.read(10_000).await.unwrap();
            }
            _ => {}
        }
    }
    lab.until("their places", |view| view.connections == 0)
        .await;
    let end = clock::now() + Duration::from_secs(10);
    while open(&lab) != (0, 0) {
        assert!(clock::now() < end, "left open: {:?}", open(&lab));
        clock::sleep(Duration::from_millis(10)).await;
    }
    let view = lab.handle.view();
    assert_eq!(view.connections_total, u64::from(CONNECTIONS / 4));
}

/// Does the kernel of this machine seal what a box asks for here?
fn kernel_seals() -> bool {
    oca::peer::net::Tcp.tls_offload().missing.is_none()
}

#[tokio::test]
async fn large_bodies_are_sealed_by_the_kernel_where_it_can_and_by_us_elsewhere() {
    for (offload, expected) in [
        (Offload::Off, 0),
        (Offload::Auto, u64::from(kernel_seals())),
    ] {
        let lab = Lab::with(Setting {
            offload,
            ..Setting::default()
        })
        .await;
        let (digest, bytes) = lab.publish(1, 3 * MIB + 17);
        let ticket = lab.good(&[digest]);
        let mut client = lab.connect().await;
        for range in ["", "Range: bytes=-70000\r\n", "Range: bytes=1-3\r\n"] {
            let part = client.get(digest, &ticket, range).await.body;
            assert!(bytes.ends_with(&part) || part == bytes[1..=3], "{range}");
        }
        assert_eq!(lab.handle.view().sealed_by_kernel, expected);
    }
}

#[tokio::test]
async fn where_the_kernel_is_required_and_cannot_large_bodies_are_refused_and_small_ones_are_not() {
    let lab = Lab::with(Setting {
        offload: Offload::Require,
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, MIB);
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    let part = client.get(digest, &ticket, "Range: bytes=0-999\r\n").await;
    assert!(part.body == bytes[..1000]);
    let request = get(digest, &ticket, "");
    client.send(request.as_bytes()).await.unwrap();
    let (got, _) = client.rest().await;
    assert_eq!(got.is_empty(), !kernel_seals());
}
