//! Connections in memory: which rate the kernel is told, when, and what the table learns.

use super::DIGITS;
use super::world;
use crate::clock;
use crate::serve::Cmcd;
use crate::serve::FIELDS_MAX;
use crate::serve::Head;
use crate::serve::quality;
use crate::serve::quality::Note;
use crate::serve::quality::Quality;
use crate::serve::tests_support::World;
use crate::serve::tests_support::limits;
use crate::sys::tcp::TcpInfo;
use crate::telemetry::Registry;
use crate::units::BytesPerSecond;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;

fn mbps(rate: u64) -> BytesPerSecond {
    BytesPerSecond(rate * 125_000)
}

fn metric(world: &World, name: &str) -> f64 {
    let registry = Registry::new("1", clock::now());
    world.handle.register(&registry);
    let text = registry.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .trim()
        .parse()
        .unwrap()
}

fn paced_by(world: &World, whom: &str) -> f64 {
    metric(
        world,
        &format!("oca_paced_responses_total{{by=\"{whom}\"}}"),
    )
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_for_one_response_and_the_kernel_is_told_of_changes_only() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    let hinted = "/a/b.m4s?CMCD=rtp%3D8000";
    viewer.get("/a/b.m4s", "").await.unwrap();
    assert_eq!(world.net.take_rates(), []);
    viewer.get(hinted, "").await.unwrap();
    assert_eq!(world.net.take_rates(), [Some(mbps(8))]);
    viewer.get(hinted, "").await.unwrap();
    let got = viewer.get("/a/b.m4s", "CMCD-Status: rtp=8000\r\n").await;
    assert_eq!(got.unwrap().body, DIGITS);
    assert_eq!(world.net.take_rates(), []);
    // What has no body has no rate, and changes none.
    let got = viewer.get("/nothing", "").await.unwrap();
    assert_eq!((got.status, world.net.take_rates()), (404, vec![]));
    viewer
        .get("/a/b.m4s?CMCD=br%3D4000%2Cbl%3D12000", "")
        .await
        .unwrap();
    assert_eq!(world.net.take_rates(), []);
    viewer
        .get("/a/b.m4s?CMCD=br%3D4000%2Csu", "")
        .await
        .unwrap();
    assert_eq!(world.net.take_rates(), [Some(mbps(12))]);
    viewer.get("/a/b.m4s", "").await.unwrap();
    assert_eq!(world.net.take_rates(), [None]);
    viewer.get("/a/b.m4s?CMCD=bl%3D5", "").await.unwrap();
    assert_eq!(world.net.take_rates(), []);
    assert_eq!(paced_by(&world, "hint"), 5.0);
    assert_eq!(paced_by(&world, "operator"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_operators_cap_holds_whatever_a_player_asks_for_and_a_reload_changes_it() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    let mut config = world.config.clone();
    config.pacing.rate_limit = Some(mbps(5));
    world.handle.prepare(&config).unwrap().commit();
    viewer.get("/a/b.m4s?CMCD=rtp%3D80000", "").await.unwrap();
    viewer.get("/a/b.m4s", "").await.unwrap();
    assert_eq!(world.net.take_rates(), [Some(mbps(5))]);
    viewer.get("/a/b.m4s?CMCD=rtp%3D2000", "").await.unwrap();
    viewer.get("/a/b.m4s", "").await.unwrap();
    assert_eq!(world.net.take_rates(), [Some(mbps(2)), Some(mbps(5))]);
    config.pacing.cmcd = false;
    world.handle.prepare(&config).unwrap().commit();
    viewer.get("/a/b.m4s?CMCD=rtp%3D2000", "").await.unwrap();
    assert_eq!(world.net.take_rates(), []);
    config.pacing.rate_limit = None;
    world.handle.prepare(&config).unwrap().commit();
    viewer.get("/a/b.m4s?CMCD=rtp%3D2000", "").await.unwrap();
    assert_eq!(world.net.take_rates(), [None]);
    assert_eq!(paced_by(&world, "operator"), 4.0);
    assert_eq!(paced_by(&world, "hint"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_table_learns_from_players_and_from_the_kernel() {
    let large = vec![7_u8; 300_000];
    let world = World::new(limits(), &[("a", &large), ("small", DIGITS)]);
    let mut viewer = world.viewer("192.0.2.1").await;
    let info = |seconds: u32, megabytes: u64| TcpInfo {
        rtt: Duration::from_millis(30),
        bytes_acked: megabytes * 1_000_000,
        bytes_sent: megabytes * 1_100_000,
        bytes_retrans: megabytes * 100_000,
        busy_time: Duration::from_secs(seconds.into()),
        ..TcpInfo::default()
    };
    // 8 Mbit/s.
    world.net.set_tcp_info(info(1, 1));
    viewer.get("/a?CMCD=bs%2Cmtp%3D20000", "").await.unwrap();
    // Too little for a look; the next look sees what came since the last.
    world.net.set_tcp_info(info(2, 3));
    viewer.get("/small", "").await.unwrap();
    assert_eq!(world.handle.quality(9).total.acked_bytes, 1_000_000);
    world.net.set_tcp_info(info(2, 5));
    viewer.get("/a", "").await.unwrap();
    let mut other = world.viewer("[2001:db8:5::1]").await;
    other.get("/small", "").await.unwrap();
    let view = world.handle.quality(1);
    assert_eq!((view.networks, view.rows.len()), (2, 1));
    assert_eq!(view.rows[0].prefix.to_string(), "192.0.2.0/24");
    let delivery = view.rows[0].delivery;
    assert_eq!((delivery.responses, delivery.bytes), (3, 600_010));
    assert_eq!((delivery.cmcd, delivery.starvations), (1, 1));
    assert_eq!((delivery.acked_bytes, delivery.busy_ms), (5_000_000, 2_000));
    assert_eq!(delivery.retransmitted_bytes * 11, delivery.sent_bytes);
    let (slow, fast) = (delivery.p10_kbps.unwrap(), delivery.p90_kbps.unwrap());
    assert!((6_700..=9_500).contains(&slow), "{slow}");
    assert!((26_000..=38_500).contains(&fast), "{fast}");
    assert_eq!(view.total.responses, 4);
    assert_eq!(metric(&world, "oca_buffer_starvations_total"), 1.0);
    assert_eq!(
        metric(&world, "oca_tcp_sampled_retransmitted_bytes_total"),
        500000.0
    );
    assert_eq!(paced_by(&world, "hint"), 0.0);
}

/// What each request pays: looking for CMCD where there is none, and the table. A bound that a
/// loaded machine and an unoptimised build hold, far below what one system call costs there.
#[tokio::test(start_paused = true)]
async fn a_request_without_cmcd_pays_almost_nothing() {
    let bytes = b"GET /film/1080/17.m4s?e=1&i=2&k=a&t=b HTTP/1.1\r\nHost: h\r\nUser-Agent: p\r\n\
        Accept: */*\r\nOrigin: https://player.example.net\r\nRange: bytes=0-\r\n\r\n";
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let head = Head::parse(bytes, &mut room, 64).unwrap();
    let rounds = 20_000;
    let least = |work: &dyn Fn()| {
        let batch = || {
            let before = cpu_time();
            for _ in 0..rounds {
                work();
            }
            (cpu_time() - before) / rounds
        };
        (0..5).map(|_| batch()).min().unwrap()
    };
    let parsing = least(&|| assert!(black_box(Cmcd::of(black_box(&head))).is_none()));
    let table = Quality::new(clock::now());
    let network = quality::network("192.0.2.1".parse().unwrap());
    let note = Note {
        bytes: 1,
        is_paced: false,
        cmcd: None,
        sample: None,
    };
    let noting = least(&|| table.record(network, clock::now(), &note));
    eprintln!("looking for CMCD {parsing:?}, noting a response {noting:?}");
    assert!(parsing < Duration::from_micros(5), "{parsing:?}");
    assert!(noting < Duration::from_micros(15), "{noting:?}");
}

/// Of this thread: what others do on the machine does not count.
fn cpu_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    Duration::from(nix::time::clock_gettime(clock).unwrap())
}
