//! May this route steer? What partners are approved for, against what their routers announce.
//!
//! `routes` asks once a route when a snapshot is built. The rule: a route needs an approval of its
//! partner, either for a prefix that covers it or for the AS that originates it; and the longest
//! approved prefix says whose the addresses are, so that an approval for an AS never reaches into
//! another partner's approved prefix, and a prefix never into a longer one that is approved for
//! somebody else only.

use crate::control::model::Approval;
use crate::control::model::Partner;
use crate::control::model::Registry;
use crate::prefix::Prefix;
use crate::prefix_map::PrefixMap;
use crate::route::Asn;
use crate::route::Filtered;
use crate::route::Route;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

/// By what a route was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Approved {
    /// A prefix approved for the partner covers the whole route.
    Prefix,
    /// Only the origin AS is approved: parts of the route may be another partner's.
    Origin,
}

/// Why a route does not steer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Refusal {
    NotApproved,
    /// The addresses are approved for another partner: its number.
    Conflict(u32),
    Filtered(Filtered),
}

/// Every approval, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// By number.
    partners: Vec<String>,
    numbers: BTreeMap<String, u32>,
    /// Whom an approved prefix belongs to, sorted.
    owners: PrefixMap<Vec<u32>>,
    origins: HashMap<Asn, Vec<u32>>,
}

impl Trust {
    pub(super) fn new(registry: &Registry) -> Self {
        let mut trust = Self::default();
        for (number, (name, partner)) in (0_u32..).zip(&registry.partners) {
            trust.partners.push(name.clone());
            trust.numbers.insert(name.clone(), number);
            for approval in &partner.approvals {
                let holders = match approval {
                    Approval::Prefix(prefix) => trust.owners.get_or_insert_with(*prefix, Vec::new),
                    Approval::Origin(asn) => trust.origins.entry(*asn).or_default(),
                };
                // Partners come in order, so that the lists are sorted.
                if holders.last() != Some(&number) {
                    holders.push(number);
                }
            }
        }
        trust
    }

    /// `None`: no such partner, and therefore no approval.
    pub(super) fn number(&self, partner: &str) -> Option<u32> {
        self.numbers.get(partner).copied()
    }

    pub(super) fn name(&self, partner: u32) -> &str {
        let index = usize::try_from(partner).unwrap_or(usize::MAX);
        self.partners.get(index).map_or("", String::as_str)
    }

    /// Whose the addresses of `prefix` are: the holders of the longest approved prefix over it.
    pub(super) fn owners(&self, prefix: Prefix) -> &[u32] {
        self.owners
            .covering(prefix)
            .next()
            .map_or(&[], |(_, owners)| owners)
    }

    pub(super) fn judge(&self, partner: Option<u32>, route: &Route) -> Result<Approved, Refusal> {
        if route.prefix.is_default() {
            return Err(Refusal::Filtered(Filtered::DefaultRoute));
        }
        if let Some(filtered) = route.filtered {
            return Err(Refusal::Filtered(filtered));
        }
        let Some(partner) = partner else {
            return Err(Refusal::NotApproved);
        };
        let by_prefix = self
            .owners
            .covering(route.prefix)
            .any(|(_, owners)| owners.contains(&partner));
        let by_origin = route
            .attributes
            .as_path
            .origin()
            .and_then(|asn| self.origins.get(&asn))
            .is_some_and(|holders| holders.contains(&partner));
        if !by_prefix && !by_origin {
            return Err(Refusal::NotApproved);
        }
        match self.owners(route.prefix) {
            owners @ [first, ..] if !owners.contains(&partner) => Err(Refusal::Conflict(*first)),
            _ if by_prefix => Ok(Approved::Prefix),
            _ => Ok(Approved::Origin),
        }
    }

    /// Every approved prefix once, for the index.
    pub(super) fn approved_prefixes<'a>(
        partners: impl IntoIterator<Item = &'a Partner>,
    ) -> BTreeSet<Prefix> {
        let approvals = partners.into_iter().flat_map(|partner| &partner.approvals);
        approvals
            .filter_map(|approval| match approval {
                Approval::Prefix(prefix) => Some(*prefix),
                Approval::Origin(_) => None,
            })
            .collect()
    }
}

impl Refusal {
    /// As `explain` and `oca control routes` show it.
    pub(super) fn text(self, trust: &Trust) -> String {
        match self {
            Self::NotApproved => "not-approved".to_owned(),
            Self::Conflict(partner) => format!("conflict:{}", trust.name(partner)),
            Self::Filtered(filtered) => format!("filtered:{}", filtered.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::partner;
    use super::super::testing::prefix;
    use super::super::testing::route;
    use super::*;

    fn trust() -> Trust {
        let mut registry = Registry::default();
        for (name, approvals) in [
            ("a", vec![Approval::Prefix(prefix("192.0.2.0/24"))]),
            (
                "b",
                vec![
                    Approval::Origin(Asn(64501)),
                    Approval::Prefix(prefix("198.51.100.0/24")),
                ],
            ),
            ("c", vec![Approval::Prefix(prefix("192.0.0.0/16"))]),
            ("d", vec![Approval::Prefix(prefix("198.51.100.0/24"))]),
        ] {
            registry
                .partners
                .insert(name.to_owned(), partner(name, approvals));
        }
        Trust::new(&registry)
    }

    fn judged(partner: &str, announced: &str, path: &str) -> Result<Approved, String> {
        let trust = trust();
        let route = route(announced, "r1", path, 0);
        trust
            .judge(trust.number(partner), &route)
            .map_err(|refusal| refusal.text(&trust))
    }

    #[test]
    fn a_route_steers_for_whom_its_prefix_or_origin_is_approved() {
        assert_eq!(judged("a", "192.0.2.0/24", "64500"), Ok(Approved::Prefix));
        assert_eq!(judged("a", "192.0.2.128/25", "64500"), Ok(Approved::Prefix));
        assert_eq!(
            judged("b", "203.0.113.0/24", "64500 64501"),
            Ok(Approved::Origin)
        );
        let refused = Err("not-approved".to_owned());
        assert_eq!(judged("a", "192.0.0.0/20", "64500"), refused);
        assert_eq!(judged("a", "203.0.113.0/24", "64500"), refused);
        assert_eq!(judged("b", "203.0.113.0/24", "64501 64500"), refused);
        assert_eq!(judged("nobody", "192.0.2.0/24", "64500"), refused);
    }

    #[test]
    fn a_longer_approval_of_another_partner_wins() {
        let refused = Err("conflict:a".to_owned());
        assert_eq!(judged("b", "192.0.2.0/25", "64501"), refused);
        assert_eq!(judged("c", "192.0.2.0/25", "64502"), refused);
        assert_eq!(judged("c", "192.0.2.0/24", "64502"), refused);
        assert_eq!(judged("c", "192.0.0.0/20", "64502"), Ok(Approved::Prefix));
    }

    #[test]
    fn what_two_partners_are_approved_for_steers_for_both() {
        for partner in ["b", "d"] {
            let judged = judged(partner, "198.51.100.0/25", "64510");
            assert_eq!(judged, Ok(Approved::Prefix), "{partner}");
        }
    }

    #[test]
    fn filtered_and_default_routes_never_steer() {
        let trust = trust();
        let mut filtered = route("192.0.2.0/24", "r1", "64500", 0);
        filtered.filtered = Some(Filtered::Bogon);
        let default = route("0.0.0.0/0", "r1", "64501", 0);
        for (partner, route, text) in [
            ("a", filtered, "filtered:bogon"),
            ("b", default, "filtered:default-route"),
        ] {
            let refusal = trust.judge(trust.number(partner), &route).unwrap_err();
            assert_eq!(refusal.text(&trust), text);
        }
    }
}
