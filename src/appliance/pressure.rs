//! Takes the readings of `load` once a second, and lets fill and moves between disks follow.
//!
//! `night` starts it, `start` on a box without one. Worker time comes from the schedulers, waits
//! from the disks' cold reads, the line out from the counters of the network cards: nothing is
//! added to the way of a request.
//!
//! I/O: reads a few files of `/sys/class/net`; sleeps.

use crate::clock;
use crate::clock::Instant;
use crate::fill;
use crate::load::Readings;
use crate::load::Valve;
use crate::load::View;
use crate::serve;
use crate::store;
use crate::store::DiskClass;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Fewer waits in a second say nothing of a disk.
const WAITS_MIN: u64 = 4;

/// Cards that are so many times slower than the fastest give viewers nothing.
const MUCH_SLOWER: u64 = 4;

/// What a viewer's cold read takes on a disk that has time, twice over.
fn usual_ms(class: DiskClass) -> f64 {
    match class {
        DiskClass::Nvme => 5.0,
        DiskClass::Ssd => 15.0,
        DiskClass::Hdd => 60.0,
    }
}

/// What was read a look ago.
#[derive(Debug)]
struct Last {
    at: Instant,
    busy: Vec<Duration>,
    /// Waits and their milliseconds, by disk.
    waits: BTreeMap<PathBuf, (u64, u64)>,
    cards: BTreeMap<OsString, Card>,
}

/// A network card that tells its speed.
#[derive(Clone, Copy, Debug)]
struct Card {
    /// Bytes since it was there.
    sent: u64,
    /// Bits a second.
    speed: u64,
}

/// Looks for as long as it is polled.
pub(super) async fn run(
    serve: serve::Handle,
    store: store::Handle,
    larder: Option<Arc<fill::Larder>>,
    shown: watch::Sender<View>,
) {
    let mut valve = Valve::default();
    let mut last = look(&serve, &store);
    shown.send_replace(valve.view());
    loop {
        clock::sleep(LOOK_EVERY).await;
        let next = look(&serve, &store);
        let readings = readings(&store, &last, &next);
        last = next;
        let Some(opening) = valve.step(last.at, &readings) else {
            continue;
        };
        if let Some(larder) = &larder {
            larder.ease(opening.percent());
        }
        let view = valve.view();
        store.ease_moves(opening.percent(), view.reason.clone());
        let (whose, of) = match larder {
            Some(_) => ("the fill has", "its cap"),
            None => ("moves between disks have", "the time"),
        };
        let percent = view.percent;
        match &view.reason {
            Some(reason) => tracing::info!(
                percent,
                "viewers come first: {whose} {percent} % of {of}, because {reason}",
            ),
            None => tracing::info!("{whose} all of {of} again"),
        }
        shown.send_replace(view);
    }
}

fn look(serve: &serve::Handle, store: &store::Handle) -> Last {
    let view = store.view();
    let cold = |disk: &store::DiskView| (disk.path.clone(), (disk.cold.waits, disk.cold.wait_ms));
    Last {
        at: clock::now(),
        busy: serve.busy(),
        waits: view.disks.iter().map(cold).collect(),
        cards: cards(),
    }
}

fn readings(store: &store::Handle, last: &Last, next: &Last) -> Readings {
    let time = next.at.saturating_duration_since(last.at).as_secs_f64();
    if time <= 0.0 {
        return Readings::default();
    }
    let shares = last.busy.iter().zip(&next.busy);
    let busy = shares.map(|(last, next)| next.saturating_sub(*last).as_secs_f64() / time);
    let view = store.view();
    let waits = view.disks.iter().filter_map(|disk| {
        let (before, after) = (last.waits.get(&disk.path)?, next.waits.get(&disk.path)?);
        let count = after.0.saturating_sub(before.0);
        let mean = after.1.saturating_sub(before.1) as f64 / count.max(1) as f64;
        (count >= WAITS_MIN).then(|| {
            let name = disk.path.display().to_string();
            (mean / usual_ms(disk.class), name)
        })
    });
    Readings {
        busy: busy.max_by(f64::total_cmp),
        wait: waits.max_by(|one, other| one.0.total_cmp(&other.0)),
        egress: fullest(&last.cards, &next.cards, time),
    }
}

/// What the fullest card has sent in `time` seconds, of what it can. One that waits for another's
/// failure, or that a bond gives less to, makes no room on the one that is full. One that is much
/// slower than another is for the box's management. `None`: no card tells its speed, as in many
/// virtual machines.
fn fullest(
    last: &BTreeMap<OsString, Card>,
    next: &BTreeMap<OsString, Card>,
    time: f64,
) -> Option<f64> {
    let fastest = next.values().map(|card| card.speed).max()?;
    let viewers = { next.iter() }.filter(|(_, card)| card.speed >= fastest / MUCH_SLOWER);
    let shares = viewers.filter_map(|(name, card)| {
        let before = last.get(name)?;
        let bits = card.sent.saturating_sub(before.sent).saturating_mul(8) as f64;
        Some(bits / time / card.speed as f64)
    });
    shares.max_by(f64::total_cmp)
}

/// Those with a link.
fn cards() -> BTreeMap<OsString, Card> {
    let Ok(found) = std::fs::read_dir("/sys/class/net") else {
        return BTreeMap::new();
    };
    let cards = found.flatten().filter_map(|card| {
        let path = card.path();
        // Bonds and bridges are made of cards.
        if !path.join("device").exists() {
            return None;
        }
        let megabits = number(&path.join("speed")).filter(|speed| *speed > 0)?;
        let told = Card {
            sent: number(&path.join("statistics/tx_bytes"))?,
            speed: megabits.saturating_mul(1_000_000),
        };
        Some((card.file_name(), told))
    });
    cards.collect()
}

/// A card without a link answers with an error or with -1.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 10 Gbit/s each, with what they have sent.
    fn cards(sent: &[(&str, u64)]) -> BTreeMap<OsString, Card> {
        let card = |(name, sent): &(&str, u64)| {
            let card = Card {
                sent: *sent,
                speed: 10_000_000_000,
            };
            (OsString::from(name), card)
        };
        sent.iter().map(card).collect()
    }

    #[test]
    fn a_card_that_stands_by_makes_no_room_on_the_one_that_is_full() {
        let last = cards(&[("a", 1_000_000_000), ("b", 70)]);
        let next = cards(&[("a", 3_250_000_000), ("b", 70), ("new", 5)]);
        assert_eq!(fullest(&last, &next, 2.0), Some(0.9));
        // It took the other's place, and its counter began anew.
        let next = cards(&[("a", 0), ("b", 625_000_070)]);
        assert_eq!(fullest(&last, &next, 1.0), Some(0.5));
        assert_eq!(fullest(&last, &BTreeMap::new(), 1.0), None);
        // A backup goes over the port for management.
        let (mut last, mut next) = (cards(&[("a", 0), ("slow", 0)]), last);
        for (cards, sent) in [(&mut last, 0), (&mut next, 125_000_000)] {
            let slow = Card {
                sent,
                speed: 1_000_000_000,
            };
            cards.insert("slow".into(), slow);
        }
        assert_eq!(fullest(&last, &next, 1.0), Some(0.8));
    }
}
