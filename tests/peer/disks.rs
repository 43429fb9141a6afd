//! Slow, hung and broken disks: who asks for what is on them waits or is told, and nobody else.
//!
//! I/O: loop devices (needs root), loopback sockets; measures time.

use crate::lab::Lab;
use crate::lab::Setting;
use crate::lab::get;
use crate::slow_disk::SlowDisk;
use oca::clock;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// A chunk of 512 KiB takes a second on such a disk.
const SLOW: u64 = 512 * 1024;

/// Half of what a thread would stand still for one chunk.
const UNNOTICED: Duration = Duration::from_millis(500);

async fn lab_on(disk: &SlowDisk, deadline: Duration) -> Lab {
    Lab::with(Setting {
        disk: Some(disk.mount_point()),
        deadline,
        ..Setting::default()
    })
    .await
}

#[tokio::test]
async fn absent_pages_come_with_the_right_bytes_whatever_part_is_asked_for() {
    let disk = SlowDisk::new(32);
    let lab = lab_on(&disk, Duration::from_secs(10)).await;
    let (digest, bytes) = lab.publish(1, 3 * MIB + 17);
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    for (first, last) in [
        (0, bytes.len() - 1),
        (524_287, 524_288),
        (300_000, 2_300_000),
        (3 * MIB, 3 * MIB + 16),
    ] {
        disk.forget(&bytes, 0);
        let range = format!("Range: bytes={first}-{last}\r\n");
        let part = client.get(digest, &ticket, &range).await;
        assert_eq!(part.status, 206);
        assert!(part.body == bytes[first..=last], "{first} to {last}");
    }
    let cold = lab.store.fills(0).unwrap().view();
    assert!(cold.fills >= 9 && cold.errors == 0, "{cold:?}");
    assert!(cold.prefetches > 0, "{cold:?}");
}

#[tokio::test]
async fn what_is_absent_on_a_slow_disk_is_waited_for_by_its_asker_alone() {
    let mut disk = SlowDisk::new(32);
    let lab = lab_on(&disk, Duration::from_secs(10)).await;
    let (cold, cold_bytes) = lab.publish(1, 3 * MIB / 2);
    let (hot, hot_bytes) = lab.publish(2, 100_000);
    let ticket = lab.good(&[cold, hot]);
    let (mut patient, mut other) = (lab.connect().await, lab.connect().await);
    // What was written past the page cache is in memory from its first reading on.
    assert!(other.get(hot, &ticket, "").await.body == hot_bytes);
    let _held = disk.hold(&hot_bytes, hot_bytes.len() as u64);
    disk.forget(&cold_bytes, 0);
    disk.throttle(SLOW);
    let request = get(cold, &ticket, "");
    let waiting = tokio::spawn(async move {
        patient.send(request.as_bytes()).await.unwrap();
        patient.answer(false).await.unwrap()
    });
    let (mut longest, mut count) = (Duration::ZERO, 0);
    while !waiting.is_finished() {
        let asked = clock::now();
        assert!(other.get(hot, &ticket, "").await.body == hot_bytes);
        longest = longest.max(asked.elapsed());
        count += 1;
    }
    assert!(waiting.await.unwrap().body == cold_bytes);
    assert!(count >= 20, "{count} in the time of one");
    assert!(longest < UNNOTICED, "{longest:?}");
}

#[tokio::test]
async fn a_disk_that_does_not_answer_cuts_what_runs_refuses_what_begins_and_holds_nobody() {
    let mut disk = SlowDisk::new(32);
    let lab = lab_on(&disk, Duration::from_secs(1)).await;
    let (digest, bytes) = lab.publish(1, 3 * MIB);
    let (other, _) = lab.publish(2, MIB);
    let ticket = lab.sign(&lab.ticket(&[digest, other], 4 * (1 << 20) + 2));
    let (mut first, mut second) = (lab.connect().await, lab.connect().await);
    let (one, two) = (first.get(other, &ticket, "Range: bytes=0-0\r\n"), async {
        second.get(other, &ticket, "Range: bytes=1-1\r\n").await
    });
    assert_eq!((one.await.status, two.await.status), (206, 206));
    let _held = disk.hold(&bytes, 1 << 20);
    disk.forget(&bytes, 1 << 20);
    let all = std::fs::read(lab.file(other)).unwrap();
    disk.forget(&all, 0);
    disk.throttle(1);
    let begun = clock::now();
    first
        .send(get(digest, &ticket, "").as_bytes())
        .await
        .unwrap();
    assert_eq!(first.head().await.unwrap().status, 200);
    let refused = second.get(other, &ticket, "").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), "10");
    let (got, _) = first.rest().await;
    assert!(got == bytes[..got.len()] && got.len() < bytes.len());
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let view = lab.until("the cut", |view| view.refusals.contains_key("disk"));
    let view = view.await;
    assert_eq!(view.refusals.get("unavailable"), Some(&1), "{view:?}");
    let told = view.last_refusal.unwrap();
    assert!(told.contains("does not answer"), "{told}");
    disk.release();
    let end = clock::now() + Duration::from_secs(10);
    while lab.store.view().disks[0].state != "online" {
        assert!(clock::now() < end, "{:?}", lab.store.view().disks);
        clock::sleep(Duration::from_millis(5)).await;
    }
    // What was refused and cut has not been charged but for what was on its way.
    let again = second.get(other, &ticket, "").await;
    assert_eq!(again.status, 200, "{:?}", lab.handle.view());
    assert!(again.body == all);
}
