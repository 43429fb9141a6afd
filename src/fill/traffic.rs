//! What comes in and goes out in five minutes, a month of it: how far the fill moves the 95th
//! percentile by which a provider pays for its lines.
//!
//! A bucket is five minutes of the calendar. The percentile is that of the buckets of thirty days
//! that were measured: of all that came in, and of the same less what the fill had of it. `task`
//! reads the counters and keeps the [`Traffic`]; it decides nothing, and losing it costs history.
//! Sans-IO.

use crate::clock;
use crate::clock::Wall;
use std::collections::VecDeque;
use std::sync::Arc;

/// Its name in the store's small state.
pub(super) const NAME: &str = "traffic";

/// As lines are measured where they are paid by the percentile.
const BUCKET_S: u64 = 300;

/// Thirty days of buckets.
const BUCKETS_MAX: usize = 30 * 288;

/// Of a hundred buckets so many may be higher than what counts.
const ABOVE_PERCENT: usize = 5;

/// What all versions begin with.
const KIND: &[u8] = b"oca fill traffic ";

/// Text, version and what follows: the BLAKE3 digest of the rest.
const MAGIC: &[u8] = b"oca fill traffic 1\n";

/// Three numbers of eight bytes.
const BUCKET_BYTES: usize = 24;

/// Counters that only grow, from any beginning. One that is smaller than before began anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received by the box's interfaces.
    pub inbound: u64,
    /// Given to viewers and to other boxes.
    pub egress: u64,
}

/// Reads them; never waits for anybody.
pub type CountersFn = Arc<dyn Fn() -> Counters + Send + Sync>;

/// The month's buckets, the last one under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    buckets: VecDeque<Bucket>,
    last: Option<(Counters, u64)>,
    /// Since the last finished bucket.
    egress: u64,
    /// Another version's file lies there: it is left alone.
    is_foreign: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    /// Five minutes since the Unix epoch.
    slot: u64,
    inbound: u64,
    /// Of these, the fill's.
    fill: u64,
}

/// The 95th percentile of thirty days, in bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Percentile {
    pub(super) of_all: u64,
    pub(super) without_fill: u64,
}

impl Traffic {
    /// From what was kept: the newest whole copy counts.
    pub(super) fn restore(copies: &[Vec<u8>]) -> Self {
        let is_foreign = |copy: &&Vec<u8>| copy.starts_with(KIND) && !copy.starts_with(MAGIC);
        if copies.iter().any(|copy| is_foreign(&copy)) {
            tracing::warn!(
                "the history of traffic is of a version that is not known here; it is left as it \
                 is, and this one is forgotten at the next start"
            );
        }
        Self {
            buckets: copies
                .iter()
                .find_map(|copy| decode(copy))
                .unwrap_or_default(),
            is_foreign: copies.iter().any(|copy| is_foreign(&copy)),
            ..Self::default()
        }
    }

    /// What is to be kept, unless somebody else's lies there.
    pub(super) fn seal(&self) -> Option<Vec<u8>> {
        (!self.is_foreign).then(|| encode(&self.buckets))
    }

    /// Takes a reading; `fill`: bytes that the fill has received since the start. When that
    /// finishes a bucket, it returns what went out since the last one that did. A bucket's edges
    /// are as sharp as readings are frequent.
    pub(super) fn step(&mut self, wall: Wall, now: Counters, fill: u64) -> Option<u64> {
        let before = self.last.replace((now, fill));
        let slot = clock::unix_seconds(wall) / BUCKET_S;
        let is_later = |bucket: &Bucket| bucket.slot > slot.saturating_add(1);
        // The calendar was set back: what was ahead of it was never then.
        while self.buckets.back().is_some_and(is_later) {
            self.buckets.pop_back();
        }
        let (counters, filled) = before?;
        let came = grown(counters.inbound, now.inbound);
        let fill = grown(filled, fill);
        self.egress = self
            .egress
            .saturating_add(grown(counters.egress, now.egress));
        let finished = self.buckets.back().is_some_and(|last| last.slot < slot);
        let finished = finished.then(|| std::mem::take(&mut self.egress));
        if finished.is_some() || self.buckets.is_empty() {
            self.open(slot);
        }
        if let Some(bucket) = self.buckets.back_mut() {
            // Where interfaces are not counted, at least the fill is.
            bucket.inbound = bucket.inbound.saturating_add(came.max(fill));
            bucket.fill = bucket.fill.saturating_add(fill);
        }
        finished
    }

    /// Of all finished buckets.
    pub(super) fn percentile(&self) -> Percentile {
        let finished = self.buckets.len().saturating_sub(1);
        let all = self.buckets.iter().take(finished);
        let own = all.clone();
        let own = own.map(|bucket| bucket.inbound.saturating_sub(bucket.fill));
        Percentile {
            of_all: percentile(all.map(|bucket| bucket.inbound).collect()),
            without_fill: percentile(own.collect()),
        }
    }

    fn open(&mut self, slot: u64) {
        let first = slot.saturating_sub(BUCKETS_MAX as u64 - 1);
        while self
            .buckets
            .front()
            .is_some_and(|bucket| bucket.slot < first)
        {
            self.buckets.pop_front();
        }
        self.buckets.push_back(Bucket {
            slot,
            ..Bucket::default()
        });
    }
}

fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// The highest but for the twentieth that lies above, in bits a second.
fn percentile(mut buckets: Vec<u64>) -> u64 {
    buckets.sort_unstable();
    let above = buckets.len() * ABOVE_PERCENT / 100;
    let highest = buckets.iter().rev().nth(above);
    highest.map_or(0, |bytes| bytes.saturating_mul(8) / BUCKET_S)
}

fn encode(buckets: &VecDeque<Bucket>) -> Vec<u8> {
    let mut body = Vec::with_capacity(buckets.len() * BUCKET_BYTES);
    for bucket in buckets {
        for number in [bucket.slot, bucket.inbound, bucket.fill] {
            body.extend_from_slice(&number.to_le_bytes());
        }
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(blake3::hash(&body).as_bytes());
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<VecDeque<Bucket>> {
    let (digest, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if blake3::hash(body).as_bytes() != digest || body.len() > BUCKETS_MAX * BUCKET_BYTES {
        return None;
    }
    let mut buckets: VecDeque<Bucket> = VecDeque::with_capacity(body.len() / BUCKET_BYTES + 1);
    let mut rest = body;
    while !rest.is_empty() {
        let mut number = || {
            let (first, others) = rest.split_first_chunk::<8>()?;
            rest = others;
            Some(u64::from_le_bytes(*first))
        };
        let (slot, inbound, fill) = (number()?, number()?, number()?);
        if buckets.back().is_some_and(|last| last.slot >= slot) {
            return None;
        }
        buckets.push_back(Bucket {
            slot,
            inbound,
            fill,
        });
    }
    Some(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const START: u64 = 1_800_000_000 / BUCKET_S;

    fn at(slot: u64) -> Wall {
        Wall::from_second(i64::try_from((START + slot) * BUCKET_S).unwrap()).unwrap()
    }

    /// Reads once in each bucket; `of` says what came in it, and what of that the fill had.
    fn measure(buckets: u64, of: impl Fn(u64) -> (u64, u64)) -> (Traffic, u64) {
        let (mut traffic, mut last) = (Traffic::default(), 0);
        let (mut counters, mut filled) = (Counters::default(), 0);
        traffic.step(at(0), counters, filled);
        for slot in 0..buckets {
            let (inbound, fill) = of(slot);
            counters.inbound += inbound;
            counters.egress += 10;
            filled += fill;
            let finished = traffic.step(at(slot), counters, filled);
            last = finished.unwrap_or(last);
        }
        (traffic, last)
    }

    #[test]
    fn a_night_of_five_percent_is_free_and_one_of_half_a_day_is_paid() {
        // 300 bytes in five minutes are 8 bit/s. A day has 288 buckets, 14 of them are 5 %.
        let day = |slot: u64, night: u64| match slot % 288 < night {
            true => (3_000, 2_700),
            false => (300, 0),
        };
        let (traffic, _) = measure(2_881, |slot| day(slot, 14));
        let p95 = traffic.percentile();
        assert_eq!((p95.of_all, p95.without_fill), (8, 8));
        let (traffic, egress) = measure(2_881, |slot| day(slot, 144));
        let p95 = traffic.percentile();
        assert_eq!((p95.of_all, p95.without_fill), (80, 8));
        assert_eq!(egress, 10, "of one bucket");
        assert_eq!(Traffic::default().percentile(), Percentile::default());
    }

    #[test]
    fn a_month_is_kept_and_no_more() {
        let (traffic, _) = measure(10_000, |_| (1, 0));
        assert_eq!(traffic.buckets.len(), BUCKETS_MAX);
        assert_eq!(
            traffic.buckets.front().unwrap().slot,
            START + 10_000 - 8_640
        );
        assert!(traffic.seal().unwrap().len() < 300_000);
    }

    #[test]
    fn a_counter_that_begins_anew_and_a_calendar_that_is_set_back_are_no_traffic() {
        let (mut traffic, mut counters) = (Traffic::default(), Counters::default());
        counters.inbound = 1_000_000;
        assert_eq!(traffic.step(at(0), counters, 0), None);
        counters.inbound = 70;
        traffic.step(at(0), counters, 0);
        assert_eq!(traffic.buckets[0].inbound, 70);
        traffic.step(at(500), counters, 0);
        counters.inbound = 90;
        traffic.step(at(3), counters, 0);
        let slots: Vec<_> = traffic.buckets.iter().map(|one| one.slot - START).collect();
        assert_eq!(slots, [0, 3], "what was ahead is gone");
    }

    #[test]
    fn another_version_is_left_alone_and_a_damaged_copy_costs_history_only() {
        let (mut kept, _) = measure(5, |slot| (slot, 0));
        let good = kept.seal().unwrap();
        kept.last = None;
        kept.egress = 0;
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(Traffic::restore(&[damaged.clone(), good]), kept);
        assert_eq!(Traffic::restore(&[damaged]), Traffic::default());
        let later = Traffic::restore(&[b"oca fill traffic 2\nwhatever".to_vec()]);
        assert_eq!(later.seal(), None);
        assert!(Traffic::default().seal().is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300)) {
            let mut signed = MAGIC.to_vec();
            signed.extend_from_slice(blake3::hash(&bytes).as_bytes());
            signed.extend(&bytes);
            let _ = (decode(&bytes), decode(&signed));
        }

        #[test]
        fn what_the_fill_adds_is_never_less_than_nothing(
            each in vec((0_u64..1 << 40, 0_u64..1 << 40), 30..60),
        ) {
            let of = |slot| each[usize::try_from(slot).unwrap()];
            let p95 = measure(each.len() as u64, of).0.percentile();
            prop_assert!(p95.without_fill <= p95.of_all);
        }
    }
}
