//! Routes that fit a report: a set whose text no control plane reads would never be taken, and the
//! box would steer by routes that nobody has heard of since.
//!
//! Called by [`super::Outbox`] before everything goes. Neighbours have limits of their own (`bgp`),
//! so that nothing is left out of any table that routers of the internet have.

use crate::link::message::RouteGroup;
use crate::link::steps::Items;
use crate::link::steps::ungroup;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route_table::ROUTES_MAX;
use crate::set_hash::SetHash;
use std::io;
use std::io::Write;

/// Text of a report but for its small parts: a control plane reads 512 MiB (docs/LINK.md).
pub(super) const TEXT_MAX: usize = 496 << 20;

/// However large the catalogue beside them is: what of them has no more room follows with the next
/// report, which tells only what has changed in the catalogue.
const ROUTES_TEXT_MIN: usize = 4 << 20;

/// Of one digest in the catalogue, with quotes and comma.
const DIGEST_TEXT: usize = 67;

/// Names and punctuation of a group, and what it says once.
const GROUP_TEXT: usize = 480;

/// What is left of all routes.
pub(super) struct Fitted {
    pub(super) groups: Vec<RouteGroup>,
    pub(super) count: u64,
    pub(super) hash: SetHash,
}

/// For the routes, beside so many items of the catalogue.
pub(super) fn room(catalogue_items: usize) -> usize {
    let taken = catalogue_items.saturating_mul(DIGEST_TEXT);
    TEXT_MAX.saturating_sub(taken).max(ROUTES_TEXT_MIN)
}

/// Whether the text of `groups` has room. It is written only where a reckoning does not tell.
pub(super) fn fits<'a>(groups: impl Iterator<Item = &'a RouteGroup> + Clone, room: usize) -> bool {
    let sum = |text: fn(&RouteGroup) -> usize| groups.clone().map(text).sum::<usize>();
    sum(reckoned) <= room || sum(written) <= room
}

/// `Err`: not all of them fit. Filtered routes, which never steer, are left out first, then those
/// that take most text each.
pub(super) fn fit(groups: Vec<RouteGroup>, room: usize) -> Result<Vec<RouteGroup>, Fitted> {
    let routes: usize = groups.iter().map(|group| group.prefixes.len()).sum();
    if routes <= ROUTES_MAX && fits(groups.iter(), room) {
        return Ok(groups);
    }
    let mut ranked: Vec<(usize, RouteGroup)> = groups
        .into_iter()
        .map(|group| (written(&group), group))
        .collect();
    ranked.sort_by_key(|(text, group)| {
        let each = text / group.prefixes.len().max(1);
        (group.filtered.is_some(), each)
    });
    let (mut room, mut places, mut kept) = (room, ROUTES_MAX, Vec::new());
    for (text, group) in ranked {
        let routes = group.prefixes.len();
        if text <= room && routes <= places {
            (room, places) = (room - text, places - routes);
            kept.push(group);
        }
    }
    let (mut items, mut hash, mut count) = (Items::default(), SetHash::default(), 0);
    for group in &kept {
        for route in ungroup(std::slice::from_ref(group)) {
            hash.add(items.of(&route));
            count += 1;
        }
    }
    Err(Fitted {
        groups: kept,
        count,
        hash,
    })
}

/// Octets of its text, with a comma.
fn written(group: &RouteGroup) -> usize {
    let mut count = Count(1);
    match serde_json::to_writer(&mut count, group) {
        Ok(()) => count.0,
        Err(_) => reckoned(group),
    }
}

struct Count(usize);

impl Write for Count {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0 += text.len();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// At most so much text, in whatever form the numbers are.
fn reckoned(group: &RouteGroup) -> usize {
    let attributes = &group.attributes;
    // A set of one number, with braces and blanks, is longer than each number of a sequence.
    let path = attributes.as_path.numbers().count() * 14;
    let communities = attributes.communities.len() * 14;
    let extended = attributes.extended_communities.len() * 19;
    let large = attributes.large_communities.len() * 35;
    let prefix = |prefix: &Prefix| match prefix.family() {
        Family::Ipv4 => 21,
        Family::Ipv6 => 46,
    };
    let prefixes: usize = group.prefixes.iter().map(prefix).sum();
    let lists = path + communities + extended + large + group.path_ids.len() * 11;
    // Each octet of a name may have to be escaped.
    GROUP_TEXT + 6 * group.neighbour.len() + lists + prefixes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Aggregator;
    use crate::route::Asn;
    use crate::route::Attributes;
    use crate::route::Class;
    use crate::route::Community;
    use crate::route::ExtendedCommunity;
    use crate::route::Filtered;
    use crate::route::LargeCommunity;
    use crate::route::Origin;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    fn group(number: u8, communities: u32, filtered: Option<Filtered>) -> RouteGroup {
        let hop = Ipv4Addr::new(192, 0, 2, 1).into();
        RouteGroup {
            neighbour: "edge".to_owned(),
            class: Class::Transit,
            attributes: Arc::new(Attributes {
                communities: (0..communities).map(Community).collect(),
                ..Attributes::new("64500".parse().unwrap(), hop)
            }),
            filtered,
            prefixes: vec![format!("203.0.113.{number}/32").parse().unwrap()],
            path_ids: Vec::new(),
        }
    }

    #[test]
    fn what_serves_least_is_left_out_and_the_rest_is_a_set_of_its_own() {
        let groups = vec![
            group(1, 0, None),
            group(2, 9, None),
            group(3, 0, Some(Filtered::Bogon)),
            group(4, 1, None),
        ];
        let all: usize = groups.iter().map(written).sum();
        assert_eq!(fit(groups.clone(), all).ok(), Some(groups.clone()));
        let without = |room: usize| {
            let fitted = fit(groups.clone(), room).err().unwrap();
            let routes = ungroup(&fitted.groups);
            assert_eq!(fitted.count, routes.len() as u64);
            assert_eq!(
                fitted.hash,
                SetHash::of(routes.iter().map(|route| route.item()))
            );
            let mut kept: Vec<String> = routes.iter().map(|r| r.prefix.to_string()).collect();
            kept.sort();
            kept
        };
        let usual = ["203.0.113.1/32", "203.0.113.2/32", "203.0.113.4/32"];
        assert_eq!(without(all - 1), usual);
        assert_eq!(
            without(written(&groups[0]) + written(&groups[3])),
            [usual[0], usual[2]]
        );
    }

    #[test]
    fn no_group_has_more_text_than_is_reckoned() {
        let longest = RouteGroup {
            neighbour: "\u{1}".repeat(64),
            class: Class::Embedded,
            attributes: Arc::new(Attributes {
                as_path: "{4294967295} {4294967295} 4294967295".parse().unwrap(),
                med: Some(u32::MAX),
                communities: vec![Community(u32::MAX); 3],
                next_hop: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
                origin: Origin::Incomplete,
                local_pref: Some(u32::MAX),
                extended_communities: vec![ExtendedCommunity(u64::MAX); 3],
                large_communities: vec![LargeCommunity([u32::MAX; 3]); 3],
                aggregator: Some(Aggregator {
                    asn: Asn(u32::MAX),
                    address: Ipv4Addr::BROADCAST,
                }),
                atomic_aggregate: true,
                otc: Some(Asn(u32::MAX)),
            }),
            filtered: Some(Filtered::AsPathTooLong),
            prefixes: vec![
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"
                    .parse()
                    .unwrap();
                3
            ],
            path_ids: vec![u32::MAX; 3],
        };
        let text = serde_json::to_string(&longest).unwrap();
        assert_eq!(written(&longest), text.len() + 1);
        assert!(text.len() < reckoned(&longest), "{} {text}", text.len());
        let ipv4 = RouteGroup {
            prefixes: vec!["255.255.255.255/32".parse().unwrap(); 100],
            ..longest
        };
        assert!(written(&ipv4) < reckoned(&ipv4));
        assert_eq!((room(0), room(100)), (TEXT_MAX, TEXT_MAX - 6_700));
        assert_eq!(room(usize::MAX), ROUTES_TEXT_MIN);
    }
}
