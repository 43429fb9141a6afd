//! Tests of the table: windows, bounds, floods, and what a reader gets.

use super::*;
use crate::clock;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

fn v4(number: u32) -> Prefix {
    network(IpAddr::V4(Ipv4Addr::from(number << 8 | 7)))
}

fn note(bytes: u64) -> Note<'static> {
    Note {
        bytes,
        is_paced: false,
        cmcd: None,
        sample: None,
    }
}

fn read(quality: &Quality, now: Instant) -> (BTreeMap<Prefix, Sums>, u64) {
    let mut all = BTreeMap::new();
    let since = quality.add_to(&mut all, now);
    (all, now.saturating_duration_since(since).as_secs())
}

#[test]
fn clients_are_told_apart_by_the_networks_that_routing_knows() {
    let of = |text: &str| network(text.parse().unwrap()).to_string();
    assert_eq!(of("192.0.2.77"), "192.0.2.0/24");
    assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1::/48");
}

#[tokio::test(start_paused = true)]
async fn figures_are_of_the_last_five_to_ten_minutes() {
    let begun = clock::now();
    let quality = Quality::new(begun);
    let at = |seconds| begun + Duration::from_secs(seconds);
    quality.record(v4(1), at(10), &note(100));
    quality.record(v4(1), at(299), &note(10));
    quality.record(v4(1), at(301), &note(1));
    let (all, age) = read(&quality, at(302));
    assert_eq!(
        (all[&v4(1)].bytes, all[&v4(1)].responses, age),
        (111, 3, 302)
    );
    // The first window is over, and its bytes are forgotten.
    quality.record(v4(2), at(601), &note(7));
    let (all, age) = read(&quality, at(602));
    assert_eq!((all[&v4(1)].bytes, all[&v4(2)].bytes, age), (1, 7, 301));
    // Nothing for long: nothing is left, and nobody had to come for it to go.
    let (all, age) = read(&quality, at(10_000));
    assert_eq!((all.len(), age), (0, 0));
    assert_eq!(quality.tally.forgotten.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_networks_costs_history_and_no_memory() {
    let now = clock::now();
    let quality = Quality::new(now);
    let busy = network(IpAddr::V6(Ipv6Addr::LOCALHOST));
    for number in 0..100_000 {
        quality.record(v4(number), now, &note(1));
        quality.record(busy, now, &note(5));
    }
    let (young, old) = {
        let tables = quality.tables.lock().unwrap();
        (tables.young.len(), tables.old.len())
    };
    assert!(
        young <= NETWORKS_MAX && old <= NETWORKS_MAX,
        "{young} {old}"
    );
    let (all, _) = read(&quality, now);
    assert_eq!(all.len(), young + old - 1);
    // Who is seen all the time is never forgotten; the youngest of the others are there.
    assert!(all[&busy].responses >= u32::try_from(NETWORKS_MAX).unwrap());
    for number in (100_000 - 4_000)..100_000 {
        assert!(all.contains_key(&v4(number)), "{number}");
    }
    // All that came and are not there were forgotten, and that is told. The busy one is in both
    // tables, and was in each that went.
    let forgotten = quality.tally.forgotten.load(Relaxed);
    assert!(forgotten >= 100_001 - all.len() as u64, "{forgotten}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_never_waits_for_a_reader() {
    let now = clock::now();
    let quality = Quality::new(now);
    let reading = quality.tables.lock().unwrap();
    quality.record(v4(1), now, &note(1));
    drop(reading);
    quality.record(v4(1), now, &note(1));
    assert_eq!(read(&quality, now).0[&v4(1)].responses, 1);
    assert_eq!(quality.tally.missed.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn samples_make_round_trips_losses_and_throughput() {
    let now = clock::now();
    let quality = Quality::new(now);
    let sample = |kbps: Option<u64>, rtt_ms| Sample {
        acked: 1_000_000,
        sent: 1_001_000,
        retransmitted: 1000,
        busy: Duration::from_millis(500),
        rtt: Duration::from_millis(rtt_ms),
        min_rtt: Some(Duration::from_millis(rtt_ms / 2)),
        kbps,
    };
    let cmcd = Cmcd {
        bs: true,
        mtp: Some(40_000),
        ..Cmcd::default()
    };
    let samples = [
        sample(Some(10_000), 20),
        sample(Some(80_000), 10),
        sample(Some(12_000), 10),
        sample(None, 10),
        sample(None, 10),
    ];
    for sample in samples {
        let note = Note {
            bytes: sample.acked,
            is_paced: sample.kbps.is_none(),
            cmcd: Some(&cmcd),
            sample: Some(sample),
        };
        quality.record(v4(9), now, &note);
    }
    let view = read(&quality, now).0[&v4(9)].view();
    assert_eq!((view.responses, view.paced), (5, 2));
    assert_eq!((view.cmcd, view.starvations), (5, 5));
    assert_eq!((view.rtt_us, view.min_rtt_us), (Some(12_000), Some(5_000)));
    assert_eq!(view.retransmitted_bytes, 5_000);
    assert_eq!((view.busy_ms, view.acked_bytes), (2_500, 5_000_000));
    let near = |found: Option<u64>, exact: u64| {
        let found = found.unwrap();
        assert!(
            found * 100 >= exact * 83 && found * 83 <= exact * 100,
            "{found} {exact}"
        );
    };
    near(view.p10_kbps, 10_000);
    near(view.p50_kbps, 10_000);
    near(view.p90_kbps, 80_000);
    near(view.mtp_p50_kbps, 40_000);
    assert_eq!(quality.tally.starvations.load(Relaxed), 5);
}
