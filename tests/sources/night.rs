//! Twelve boxes in a region: the origin is asked for each object as often as there are masters.

use super::simulation::Night;
use super::yard;
use super::yard::Yard;
use oca::control::model::Escalation;
use oca::control::model::FillCluster;
use oca::link::message::SourceKind;
use std::time::Duration;

const LENGTH: u64 = 1_000_000;
const REGION: [&str; 3] = ["one", "one", "one"];
const NETWORK_WAIT: u64 = 300;
const HOURS: u64 = 3_600;

fn region(name: &str, masters: u32) -> FillCluster {
    FillCluster {
        masters,
        // Minutes instead of half an hour and an hour: nights are simulated second by second.
        escalation: Escalation {
            network_wait: Some(Duration::from_secs(NETWORK_WAIT)),
            origin_wait: Some(Duration::from_secs(2 * NETWORK_WAIT)),
            ..Escalation::default()
        },
        ..FillCluster::named(name)
    }
}

/// Three clusters of four, five titles of 40 objects; the directory is never read.
fn twelve(masters: u32) -> (Yard, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let registry = yard::registry(12, &REGION, vec![region("one", masters)]);
    let library = yard::library(5, 40, LENGTH);
    (Yard::new(registry, library, dir.path()), dir)
}

fn whole(night: &Night<'_>) -> u64 {
    u64::from(night.objects()) * LENGTH
}

#[tokio::test(start_paused = true)]
async fn origin_bytes_are_objects_times_masters_and_all_are_complete() {
    for masters in [1, 2, 3] {
        let (yard, _dir) = twelve(masters);
        let mut night = Night::new(&yard);
        let seconds = night.run(2 * HOURS).await;
        println!("{masters} masters: {seconds} s, {:?}", night.bytes);
        assert_eq!(night.origin_bytes, whole(&night) * u64::from(masters));
        assert!(
            seconds > NETWORK_WAIT,
            "the other clusters waited for the network's time"
        );
        let all: u64 = night.bytes.values().sum();
        assert_eq!(all, 12 * whole(&night), "nothing was fetched twice");
        assert!(night.bytes[&SourceKind::Peer] > 0);
    }
}

/// Four objects of half a minute each, which the masters fetch side by side.
#[tokio::test(start_paused = true)]
async fn large_objects_are_had_from_masters_that_are_still_at_them_and_the_origin_gives_no_more() {
    const LARGE: u64 = 64 << 20;
    for masters in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let registry = yard::registry(12, &["one"], vec![region("one", masters)]);
        let yard = Yard::new(registry, yard::library(1, 4, LARGE), dir.path());
        let mut night = Night::new(&yard);
        let seconds = night.run(HOURS).await;
        println!("large, {masters} masters: {seconds} s, {:?}", night.bytes);
        assert_eq!(night.origin_bytes, 4 * LARGE * u64::from(masters));
        let all: u64 = night.bytes.values().sum();
        assert_eq!(all, 12 * 4 * LARGE, "nothing was fetched twice");
        // The masters need 134 s, and whoever waited for them would need as long again. Those who
        // asked before the masters did come again after a minute.
        assert!(seconds < 230, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_master_that_dies_is_replaced_and_costs_no_more_than_its_own_share() {
    let (yard, _dir) = twelve(1);
    let mut night = Night::new(&yard);
    while night.second < 20 {
        night.tick().await;
    }
    let master = night.busiest();
    assert!(
        !night.boxes[master as usize].held.is_empty(),
        "it was at work"
    );
    night.kill(master);
    let seconds = night.run(2 * HOURS).await;
    println!("a dead master: {seconds} s, {:?}", night.bytes);
    assert!(night.origin_bytes >= whole(&night));
    assert!(night.origin_bytes <= 2 * whole(&night));
}

#[tokio::test(start_paused = true)]
async fn a_lying_box_is_found_out_and_the_region_completes_without_it() {
    let (yard, _dir) = twelve(1);
    let mut night = Night::new(&yard);
    while night.second < 20 {
        night.tick().await;
    }
    let liar = night.busiest();
    night.boxes[liar as usize].lies = true;
    let seconds = night.run(2 * HOURS).await;
    println!("a liar: {seconds} s, {:?}", night.bytes);
    assert!(
        night.origin_bytes <= 2 * whole(&night),
        "{}",
        night.origin_bytes
    );
    let page = yard.metrics.render();
    let line = "oca_control_fill_complaints_total{problem=\"wrong-bytes\"} ";
    let count = page.split(line).nth(1).unwrap().split_whitespace().next();
    let count: f64 = count.unwrap().parse().unwrap();
    assert!(count > 0.0, "{count}");
}

#[tokio::test(start_paused = true)]
async fn a_region_that_fills_later_takes_it_from_the_network_and_not_from_the_origin() {
    let dir = tempfile::tempdir().unwrap();
    let mut far = region("far", 1);
    far.escalation.origin_wait = None;
    let clusters = ["one", "one", "far", "far"];
    let registry = yard::registry(12, &clusters, vec![region("one", 1), far]);
    let yard = Yard::new(registry, yard::library(5, 40, LENGTH), dir.path());
    let mut night = Night::new(&yard);
    for number in (0..12).filter(|number| number % 4 >= 2) {
        night.boxes[number].begins = HOURS;
    }
    while !night.is_complete_until(HOURS) {
        night.tick().await;
    }
    night.skip_to(HOURS);
    let seconds = night.run(2 * HOURS).await;
    println!("two regions: {seconds} s, {:?}", night.bytes);
    assert_eq!(night.origin_bytes, whole(&night));
    let begun = seconds - HOURS;
    assert!(
        begun < 2 * NETWORK_WAIT,
        "its masters did not wait: {begun} s"
    );
}
