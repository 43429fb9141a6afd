//! An UPDATE becomes routes: import filter, Adj-RIB-In, and the batches that go to the publisher.
//!
//! Owned by the neighbour's task. Sans-IO: the task applies each UPDATE, asks [`Ingest::deadline`]
//! when the next batch is due, and sends what [`Ingest::take`] gives. A first change goes at once;
//! while updates stream, batches are gathered, because each costs a list of the attribute pages.

use super::Config;
use super::NeighbourConfig;
use super::import::Import;
use super::limits::Held;
use super::limits::Limits;
use super::limits::News;
use super::rib::Batch;
use super::rib::Rib;
use super::wire;
use super::wire::Nlri;
use super::wire::PATH_NUMBERS_KEPT;
use super::wire::SegmentKind;
use super::wire::Update;
use crate::clock::Instant;
use crate::prefix::Family;
use crate::route::Aggregator;
use crate::route::Fixed;
use crate::route::Origin;
use crate::route::Packed;
use crate::route::Packer;
use std::net::IpAddr;
use std::time::Duration;

/// Between two batches while updates stream.
const SPACING: Duration = Duration::from_millis(50);

/// From this many changes on a batch goes at once: half a megabyte of them.
const CHANGES_MAX: usize = 32 * 1024;

/// One neighbour's routes, and the way in.
#[derive(Debug)]
pub(super) struct Ingest {
    import: Import,
    rib: Rib,
    packer: Packer,
    limits: Limits,
    last_batch: Option<Instant>,
}

impl Ingest {
    pub(super) fn new(config: &Config, neighbour: &NeighbourConfig) -> Self {
        Self {
            import: Import::new(config, neighbour),
            rib: Rib::new(neighbour.class, neighbour.name.as_str().into()),
            packer: Packer::default(),
            limits: Limits::new(neighbour),
            last_batch: None,
        }
    }

    pub(super) fn rib(&self) -> &Rib {
        &self.rib
    }

    pub(super) fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// What the neighbour's routes need at this moment.
    pub(super) fn held(&self) -> Held {
        held(&self.rib)
    }

    /// Forgets all routes, and the batches that were not taken.
    pub(super) fn clear(&mut self) {
        self.rib.clear();
    }

    /// See [`Rib::mark_stale`].
    pub(super) fn mark_stale(&mut self, family: Family) {
        self.rib.mark_stale(family);
    }

    /// See [`Rib::sweep_stale`].
    pub(super) fn sweep_stale(&mut self, family: Family) -> usize {
        self.rib.sweep_stale(family)
    }

    /// See [`Rib::sweep_not_long_lived`].
    pub(super) fn sweep_not_long_lived(&mut self, family: Family) -> usize {
        self.rib.sweep_not_long_lived(family)
    }

    /// While this holds no UPDATE is to be applied, so that a sweep ends.
    pub(super) fn is_sweeping(&self) -> bool {
        self.rib.is_sweeping()
    }

    /// See [`Rib::sweep_on`].
    pub(super) fn sweep_on(&mut self) {
        self.rib.sweep_on();
    }

    /// Sweeps every route of a family.
    pub(super) fn forget(&mut self, family: Family) {
        self.rib.mark_stale(family);
        self.rib.sweep_stale(family);
    }

    /// What is worth a word. Whatever is too much has been taken in all the same, unless the
    /// operator wants it dropped: who asks ends the session.
    pub(super) fn update(&mut self, update: &Update<'_>) -> Option<News> {
        let Self {
            import,
            rib,
            packer,
            limits,
            ..
        } = self;
        for Nlri { prefix, path_id } in update.withdrawn() {
            rib.withdraw(&prefix, path_id);
        }
        for reach in update.announced() {
            let packed = pack(packer, update.attributes(), reach.next_hop);
            let shared = import.attributes(Packed::new(packed));
            let Some(set) = rib.hold(packed) else {
                return Some(limits.out_of_sets());
            };
            for Nlri { prefix, path_id } in reach.prefixes {
                let filtered = import.route(&prefix, shared);
                let is_news = rib.announce(&prefix, path_id, &set, filtered);
                if is_news && limits.must_drop(prefix.family(), || held(rib)) {
                    rib.withdraw(&prefix, path_id);
                }
            }
            rib.release(&set);
        }
        limits.step(&held(rib))
    }

    /// When [`Ingest::take`] has something.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        match self.rib.pending() {
            0 => None,
            CHANGES_MAX.. => Some(now),
            _ => Some(self.last_batch.map_or(now, |last| last + SPACING)),
        }
    }

    /// The changes since the last batch, when they are due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Batch> {
        self.deadline(now).filter(|due| *due <= now)?;
        self.last_batch = Some(now);
        self.rib.take()
    }
}

fn held(rib: &Rib) -> Held {
    Held {
        ipv4: rib.family_counted(Family::Ipv4),
        ipv6: rib.family_counted(Family::Ipv6),
        attribute_bytes: rib.attribute_bytes(),
    }
}

/// What is reported of an UPDATE's attributes, straight from its bytes.
fn pack<'a>(
    packer: &'a mut Packer,
    attributes: &wire::Attributes<'_>,
    next_hop: IpAddr,
) -> &'a [u8] {
    packer.begin();
    let mut left = PATH_NUMBERS_KEPT;
    for segment in attributes.as_path.segments() {
        let is_set = match segment.kind {
            SegmentKind::Set => true,
            SegmentKind::Sequence => false,
        };
        let kept = segment.numbers.len().min(left);
        packer.segment(is_set, segment.numbers.take(kept).map(|asn| asn.0));
        left -= kept;
        if left == 0 {
            break;
        }
    }
    packer.communities(attributes.communities.map(u32::from_be_bytes));
    packer.extended(attributes.extended_communities.map(u64::from_be_bytes));
    packer.large(attributes.large_communities.map(|octets| {
        let mut parts = octets.as_chunks::<4>().0.iter();
        [(); 3].map(|()| parts.next().map_or(0, |part| u32::from_be_bytes(*part)))
    }));
    packer.finish(&Fixed {
        origin: match attributes.origin {
            wire::Origin::Igp => Origin::Igp,
            wire::Origin::Egp => Origin::Egp,
            wire::Origin::Incomplete => Origin::Incomplete,
        },
        next_hop,
        med: attributes.med,
        local_pref: attributes.local_pref,
        aggregator: attributes
            .aggregator
            .map(|wire::Aggregator { asn, address }| Aggregator { asn, address }),
        atomic_aggregate: attributes.atomic_aggregate,
        otc: attributes.only_to_customer,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_in_result, clippy::wildcard_enum_match_arm)]
mod tests {
    use super::super::limits::What;
    use super::super::tests_support::config;
    use super::super::tests_support::neighbour;
    use super::super::wire::Message;
    use super::super::wire::Negotiated;
    use super::*;
    use crate::clock;
    use crate::prefix::Prefix;
    use crate::route::Asn;
    use crate::route::Attributes;
    use std::net::Ipv4Addr;

    fn ingest() -> Ingest {
        let neighbour = NeighbourConfig {
            max_prefixes: 3,
            ..neighbour("edge", Asn(64500))
        };
        Ingest::new(&config(Asn(64510), vec![neighbour.clone()]), &neighbour)
    }

    /// What the ingest says of one route more.
    fn announce(ingest: &mut Ingest, third: u8) -> Option<News> {
        let hop = Ipv4Addr::new(192, 0, 2, 1);
        let attributes = Attributes::new("64500".parse().unwrap(), hop.into());
        let prefix: Prefix = format!("203.0.{third}.0/24").parse().unwrap();
        let session = Negotiated {
            ipv4: true,
            four_octets: true,
            ..Negotiated::default()
        };
        let messages = wire::announce(&attributes, &[prefix], true).unwrap();
        let decoded = wire::decode(&messages[0], Some(&session));
        assert_eq!(messages.len(), 1);
        match decoded.unwrap() {
            Message::Update(update) => ingest.update(&update),
            other => panic!("no UPDATE: {other:?}"),
        }
    }

    #[test]
    fn the_first_change_goes_at_once_and_a_stream_in_batches() {
        let (mut ingest, start) = (ingest(), clock::now());
        let ms = Duration::from_millis;
        assert_eq!(ingest.deadline(start), None);
        announce(&mut ingest, 1);
        assert_eq!(ingest.take(start).unwrap().routes, 1);
        announce(&mut ingest, 2);
        assert_eq!(ingest.deadline(start), Some(start + ms(50)));
        assert!(ingest.take(start + ms(49)).is_none());
        assert_eq!(ingest.take(start + ms(50)).unwrap().changes.len(), 1);
        assert_eq!(ingest.deadline(start + ms(60)), None);
        // The same again changes nothing.
        announce(&mut ingest, 2);
        assert_eq!(ingest.deadline(start + ms(60)), None);
    }

    #[test]
    fn one_prefix_too_many_is_told() {
        let mut ingest = ingest();
        let what = What::Ipv4Routes;
        assert_eq!(announce(&mut ingest, 1), None);
        let near = News::Near {
            what,
            held: 2,
            most: 3,
        };
        assert_eq!(announce(&mut ingest, 2), Some(near));
        assert_eq!(announce(&mut ingest, 3), None);
        let verdict = announce(&mut ingest, 4);
        assert_eq!(verdict, Some(News::Over { what, most: 3 }));
    }
}
