//! Client address → who announces it: every steerable route of the fleet, ready to be walked.
//!
//! All prefixes of a family are flattened into disjoint ranges of addresses. A search in a sorted
//! array finds the range, and the range its longest prefix, a [`Node`]; from there the next shorter
//! prefix is one link away. A node lists its groups by AS path and MED. So a decision touches a few
//! cache lines, whatever the number of boxes. Built off the hot path by `snapshot`, immutable.

use super::routes::Best;
use super::routes::Compiled;
use super::trust::Approved;
use super::trust::Refusal;
use crate::prefix::Family;
use crate::prefix::Prefix;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// No node, no set.
pub(super) const NONE: u32 = u32::MAX;

/// Boxes of one site that hear the same routes.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) site: u32,
    pub(super) partner: Option<u32>,
    /// Box numbers.
    pub(super) members: Vec<u32>,
    pub(super) compiled: Arc<Compiled>,
}

/// The routes of one set for one prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) as_path: u32,
    pub(super) med: u32,
    pub(super) set: u32,
    /// Index into the set's best routes.
    best: u32,
    pub(super) approved: Approved,
}

/// A prefix that somebody announces or is approved for.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) prefix: Prefix,
    /// The next shorter node, and the next shorter one that has groups.
    pub(super) parent: u32,
    pub(super) next: u32,
    groups: (u32, u32),
    refused: (u32, u32),
    /// The longest approved prefix over this one: an index into `owners`.
    owners: u32,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    ipv4: Table<u32>,
    ipv6: Table<u128>,
    nodes: Vec<Node>,
    /// By node, then AS path, then MED.
    groups: Vec<Group>,
    /// By node: sets whose route for it does not steer.
    refused: Vec<(u32, Refusal)>,
    pub(super) sets: Vec<Set>,
    owners: Vec<Vec<u32>>,
}

/// Sorted starts of ranges and the node of each.
#[derive(Debug, Default)]
struct Table<W> {
    starts: Vec<W>,
    nodes: Vec<u32>,
    /// For each value of the upper 16 bits: the first range that begins there or later.
    upper: Vec<u32>,
}

/// A route of a set on its way into the index. The derived order is the index's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    prefix: Prefix,
    as_path: u32,
    med: u32,
    set: u32,
    best: u32,
    approved: Approved,
}

impl Index {
    /// `approved`: approved prefixes with their holders.
    pub(super) fn build(sets: Vec<Set>, approved: BTreeMap<Prefix, Vec<u32>>) -> Self {
        let mut rows = Vec::new();
        let mut refusals = Vec::new();
        for (set, number) in sets.iter().zip(0_u32..) {
            for (best, at) in set.compiled.best.iter().zip(0_u32..) {
                rows.push(Row {
                    prefix: best.prefix,
                    as_path: best.as_path,
                    med: best.med,
                    set: number,
                    best: at,
                    approved: best.approved,
                });
            }
            let refused = set.compiled.refused.iter();
            refusals.extend(refused.map(|(prefix, refusal)| (*prefix, number, *refusal)));
        }
        rows.sort_unstable();
        refusals.sort_unstable();
        let mut index = Self {
            sets,
            ..Self::default()
        };
        index.fill(&rows, &refusals, approved);
        index.ipv4 = Table::new(&flatten(&index.nodes, Family::Ipv4), upper_of_ipv4);
        index.ipv6 = Table::new(&flatten(&index.nodes, Family::Ipv6), |bits| bits);
        index
    }

    /// Makes the nodes, shortest first where one covers the other.
    fn fill(
        &mut self,
        mut rows: &[Row],
        mut refusals: &[(Prefix, u32, Refusal)],
        approved: BTreeMap<Prefix, Vec<u32>>,
    ) {
        let mut approved = approved.into_iter().peekable();
        let mut open: Vec<u32> = Vec::new();
        loop {
            let heads = [
                rows.first().map(|row| row.prefix),
                refusals.first().map(|(prefix, _, _)| *prefix),
                approved.peek().map(|(prefix, _)| *prefix),
            ];
            let Some(prefix) = heads.into_iter().flatten().min() else {
                return;
            };
            while open
                .last()
                .is_some_and(|&top| !self.node(top).prefix.covers(&prefix))
            {
                open.pop();
            }
            let parent = open.last().copied().unwrap_or(NONE);
            let groups = self.take_groups(&mut rows, prefix);
            let refused = self.take_refusals(&mut refusals, prefix);
            let owners = match approved.next_if(|(at, _)| *at == prefix) {
                Some((_, owners)) => {
                    self.owners.push(owners);
                    number(self.owners.len() - 1)
                }
                None => self.nodes.get(at(parent)).map_or(NONE, |node| node.owners),
            };
            let next = match self.nodes.get(at(parent)) {
                Some(node) if node.groups.0 == node.groups.1 => node.next,
                _ => parent,
            };
            open.push(number(self.nodes.len()));
            self.nodes.push(Node {
                prefix,
                parent,
                next,
                groups,
                refused,
                owners,
            });
        }
    }

    fn take_groups(&mut self, rows: &mut &[Row], prefix: Prefix) -> (u32, u32) {
        let from = number(self.groups.len());
        let (these, rest) = rows.split_at(rows.partition_point(|row| row.prefix <= prefix));
        *rows = rest;
        self.groups.extend(these.iter().map(|row| Group {
            as_path: row.as_path,
            med: row.med,
            set: row.set,
            best: row.best,
            approved: row.approved,
        }));
        (from, number(self.groups.len()))
    }

    fn take_refusals(
        &mut self,
        refusals: &mut &[(Prefix, u32, Refusal)],
        prefix: Prefix,
    ) -> (u32, u32) {
        let from = number(self.refused.len());
        let (these, rest) = refusals.split_at(refusals.partition_point(|(at, _, _)| *at <= prefix));
        *refusals = rest;
        let pairs = these.iter().map(|(_, set, refusal)| (*set, *refusal));
        self.refused.extend(pairs);
        (from, number(self.refused.len()))
    }

    /// The longest known prefix over `client`, steerable or not; [`NONE`] without any.
    pub(super) fn find(&self, client: IpAddr) -> u32 {
        match client {
            IpAddr::V4(address) => {
                let bits = u32::from(address);
                self.ipv4.find(bits, Some(bits >> 16))
            }
            IpAddr::V6(address) => self.ipv6.find(u128::from(address), None),
        }
    }

    /// Only for numbers that [`Index::find`] and the nodes gave, other than [`NONE`].
    pub(super) fn node(&self, number: u32) -> &Node {
        &self.nodes[at(number)]
    }

    pub(super) fn groups(&self, node: &Node) -> &[Group] {
        &self.groups[range(node.groups)]
    }

    pub(super) fn refused(&self, node: &Node) -> &[(u32, Refusal)] {
        &self.refused[range(node.refused)]
    }

    pub(super) fn set(&self, number: u32) -> &Set {
        &self.sets[at(number)]
    }

    /// Whose the addresses of the node are; empty: nobody's.
    pub(super) fn owners(&self, node: &Node) -> &[u32] {
        self.owners.get(at(node.owners)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn best(&self, group: &Group) -> (&Compiled, &Best) {
        let compiled = &self.set(group.set).compiled;
        (compiled, &compiled.best[at(group.best)])
    }

    pub(super) fn prefixes(&self) -> usize {
        self.nodes.len()
    }
}

impl<W: Copy + Ord> Table<W> {
    fn new(ranges: &[(u128, u32)], width: impl Fn(u128) -> W) -> Self {
        let mut upper = vec![0; 0x1_0001];
        for (start, _) in ranges {
            // Counts first; the running sum makes them places.
            upper[at(number_of_upper(*start)) + 1] += 1;
        }
        for place in 1..upper.len() {
            upper[place] += upper[place - 1];
        }
        Self {
            starts: ranges.iter().map(|(start, _)| width(*start)).collect(),
            nodes: ranges.iter().map(|(_, node)| *node).collect(),
            upper,
        }
    }

    /// `upper`: the upper 16 bits of `bits`, where they narrow the search.
    fn find(&self, bits: W, upper: Option<u32>) -> u32 {
        let (from, to) = match upper {
            Some(upper) => (self.upper[at(upper)], self.upper[at(upper) + 1]),
            None => (0, number(self.starts.len())),
        };
        let within = self.starts[range((from, to))].partition_point(|start| *start <= bits);
        // The range may begin under smaller upper bits: then it is the one before.
        let place = at(from) + within;
        place
            .checked_sub(1)
            .and_then(|place| self.nodes.get(place))
            .copied()
            .unwrap_or(NONE)
    }
}

/// Disjoint ranges in order: where each begins (left-aligned) and the longest prefix over it.
fn flatten(nodes: &[Node], family: Family) -> Vec<(u128, u32)> {
    let mut ranges: Vec<(u128, u32)> = Vec::new();
    let mut open: Vec<(u128, u32)> = Vec::new();
    let mut begin = |start: u128, node: u32| match ranges.last_mut() {
        Some(last) if last.0 == start => last.1 = node,
        _ => ranges.push((start, node)),
    };
    let mine = nodes.iter().zip(0_u32..);
    for (node, number) in mine.filter(|(node, _)| node.prefix.family() == family) {
        let first = node.prefix.bits();
        while let Some((last, _)) = open.pop_if(|(last, _)| *last < first) {
            begin(last + 1, open.last().map_or(NONE, |(_, outer)| *outer));
        }
        begin(first, number);
        let host_bits = u128::MAX
            .checked_shr(node.prefix.length().into())
            .unwrap_or(0);
        open.push((first | host_bits, number));
    }
    while let Some((last, _)) = open.pop() {
        if let Some(after) = last.checked_add(1) {
            begin(after, open.last().map_or(NONE, |(_, outer)| *outer));
        }
    }
    ranges
}

fn upper_of_ipv4(bits: u128) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "32 of 128 bits are left")]
    let upper = (bits >> 96) as u32;
    upper
}

fn number_of_upper(bits: u128) -> u32 {
    upper_of_ipv4(bits) >> 16
}

/// Numbers are 32 bits wide to halve what a decision reads. A fleet that has more of anything than
/// that has no memory left for it either; what is beyond would only not be found.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}

pub(super) fn at(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn range((from, to): (u32, u32)) -> Range<usize> {
    at(from)..at(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near() -> impl Strategy<Value = Prefix> {
        let ipv4 = (0_u32..64, 0_u8..=32).prop_map(|(low, length)| {
            let address = IpAddr::from((0xC000_0200_u32 | (low << 2)).to_be_bytes());
            Prefix::new(address, length).unwrap()
        });
        let ipv6 = (0_u128..64, 0_u8..=128).prop_map(|(low, length)| {
            let address = IpAddr::from((0x2001_0db8_u128 << 96 | (low << 60)).to_be_bytes());
            Prefix::new(address, length).unwrap()
        });
        prop_oneof![ipv4, ipv6]
    }

    fn client() -> impl Strategy<Value = IpAddr> {
        let edge = (near(), any::<bool>()).prop_map(|(prefix, last)| match prefix.address() {
            IpAddr::V4(v4) if last => {
                let host = u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                IpAddr::from((u32::from(v4) | host).to_be_bytes())
            }
            IpAddr::V6(v6) if last => {
                let host = u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                IpAddr::from((u128::from(v6) | host).to_be_bytes())
            }
            address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
        });
        prop_oneof![
            edge,
            Just(IpAddr::from([0, 0, 0, 0])),
            Just(IpAddr::from([255, 255, 255, 255])),
            Just(IpAddr::from(u128::MAX.to_be_bytes())),
        ]
    }

    proptest! {
        #[test]
        fn every_address_finds_its_prefixes_longest_first(
            prefixes in proptest::collection::btree_set(near(), 0..40),
            client in client(),
        ) {
            let approved = prefixes.iter().map(|prefix| (*prefix, vec![1])).collect();
            let index = Index::build(Vec::new(), approved);
            let mut expected: Vec<Prefix> =
                prefixes.into_iter().filter(|prefix| prefix.contains(client)).collect();
            expected.sort_by_key(|prefix| std::cmp::Reverse(prefix.length()));
            let mut found = Vec::new();
            let mut number = index.find(client);
            while number != NONE {
                let node = index.node(number);
                found.push(node.prefix);
                number = node.parent;
            }
            prop_assert_eq!(found, expected);
        }
    }
}
