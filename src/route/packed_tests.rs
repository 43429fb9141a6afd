//! Packing: nothing is lost, and the same attributes are the same bytes.

use super::*;
use proptest::collection::btree_set;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn path() -> impl Strategy<Value = AsPath> {
    let segment = (any::<bool>(), vec(any::<u32>(), 1..5)).prop_map(|(is_set, numbers)| {
        let numbers = numbers.into_iter().map(Asn).collect();
        match is_set {
            true => Segment::Set(numbers),
            false => Segment::Sequence(numbers),
        }
    });
    vec(segment, 0..4).prop_map(canonical)
}

/// As text says it: no sequence stands behind another one.
fn canonical(segments: Vec<Segment>) -> AsPath {
    let mut path: Vec<Segment> = Vec::new();
    for segment in segments {
        match (path.last_mut(), segment) {
            (Some(Segment::Sequence(last)), Segment::Sequence(more)) => last.extend(more),
            (_, segment) => path.push(segment),
        }
    }
    AsPath(path)
}

fn fixed() -> impl Strategy<Value = Fixed> {
    let origin = prop_oneof![
        Just(Origin::Igp),
        Just(Origin::Egp),
        Just(Origin::Incomplete)
    ];
    let aggregator = (any::<u32>(), any::<u32>()).prop_map(|(asn, address)| Aggregator {
        asn: Asn(asn),
        address: Ipv4Addr::from_bits(address),
    });
    (
        origin,
        any::<IpAddr>(),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        option::of(aggregator),
        any::<bool>(),
        option::of(any::<u32>()),
    )
        .prop_map(
            |(origin, next_hop, med, local_pref, aggregator, atomic, otc)| Fixed {
                origin,
                next_hop,
                med,
                local_pref,
                aggregator,
                atomic_aggregate: atomic,
                otc: otc.map(Asn),
            },
        )
}

fn attributes() -> impl Strategy<Value = Attributes> {
    (
        fixed(),
        path(),
        btree_set(any::<u32>(), 0..4),
        btree_set(any::<u64>(), 0..3),
        btree_set(any::<[u32; 3]>(), 0..3),
    )
        .prop_map(
            |(fixed, as_path, communities, extended, large)| Attributes {
                origin: fixed.origin,
                as_path,
                next_hop: fixed.next_hop,
                med: fixed.med,
                local_pref: fixed.local_pref,
                communities: communities.into_iter().map(Community).collect(),
                extended_communities: extended.into_iter().map(ExtendedCommunity).collect(),
                large_communities: large.into_iter().map(LargeCommunity).collect(),
                aggregator: fixed.aggregator,
                atomic_aggregate: fixed.atomic_aggregate,
                otc: fixed.otc,
            },
        )
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked_whatever_stands_behind_it(
        attributes in attributes(),
        behind in vec(any::<u8>(), 0..8),
    ) {
        let mut packer = Packer::default();
        let mut bytes = packer.pack(&attributes).to_vec();
        let length = bytes.len();
        bytes.extend(behind);
        let packed = Packed::new(&bytes);
        prop_assert_eq!(packed.bytes().len(), length);
        prop_assert_eq!(packed.path().length(), attributes.as_path.length());
        prop_assert_eq!(packed.path().first(), attributes.as_path.first());
        prop_assert!(packed.path().numbers().eq(attributes.as_path.numbers()));
        prop_assert!(packed.communities().eq(attributes.communities.iter().copied()));
        for one in &attributes.communities {
            prop_assert!(packed.has_community(*one));
            let next = Community(one.0.wrapping_add(1));
            prop_assert_eq!(packed.has_community(next), attributes.communities.contains(&next));
        }
        prop_assert_eq!(packed.attributes(), attributes);
    }

    #[test]
    fn a_path_is_one_however_its_sequences_are_cut(
        path in path(),
        cuts in vec(0_usize..5, 0..12),
    ) {
        let attributes = |as_path| Attributes::new(as_path, Ipv4Addr::LOCALHOST.into());
        let mut cuts = cuts.into_iter().chain(std::iter::repeat(300));
        let mut cut = Vec::new();
        for segment in &path.0 {
            match segment {
                Segment::Set(_) => cut.push(segment.clone()),
                Segment::Sequence(numbers) => {
                    let mut rest = &numbers[..];
                    while !rest.is_empty() {
                        let (one, behind) = rest.split_at(rest.len().min(cuts.next().unwrap()));
                        cut.push(Segment::Sequence(one.to_vec()));
                        rest = behind;
                    }
                }
            }
        }
        let told: AsPath = path.to_string().parse().unwrap();
        prop_assert_eq!(&told, &path);
        let packed = Packer::default().pack(&attributes(path.clone())).to_vec();
        let mut packer = Packer::default();
        prop_assert_eq!(packer.pack(&attributes(AsPath(cut))), &packed[..]);
        prop_assert_eq!(Packed::new(&packed).attributes().as_path, path);
    }

    #[test]
    fn different_sets_have_different_bytes_and_none_begins_with_another(
        one in attributes(),
        other in attributes(),
    ) {
        let one_packed = Packer::default().pack(&one).to_vec();
        let other_packed = Packer::default().pack(&other).to_vec();
        prop_assert_eq!(one_packed.starts_with(&other_packed), one == other);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64)) {
        let packed = Packed::new(&bytes);
        let _ = (packed.bytes(), packed.attributes(), packed.path().length());
    }
}

#[test]
fn order_and_repetition_of_communities_mean_nothing() {
    let fixed = Fixed {
        origin: Origin::Igp,
        next_hop: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        med: None,
        local_pref: None,
        aggregator: None,
        atomic_aggregate: false,
        otc: None,
    };
    let mut packer = Packer::default();
    let mut pack = |communities: &[u32]| {
        packer.begin();
        packer.segment(false, [64500, 64501]);
        packer.communities(communities.iter().copied());
        packer.finish(&fixed).to_vec()
    };
    assert_eq!(pack(&[3, 1, 2, 1]), pack(&[1, 2, 3]));
    assert_ne!(pack(&[1, 2]), pack(&[1, 2, 3]));
}
