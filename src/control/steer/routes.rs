//! What of a box's routes can steer: one best route a prefix, and the refused ones for `explain`.
//!
//! `index` calls [`compile`] once for each list of routes and site; boxes of a site that hear the
//! same share the outcome.

use super::trust::Approved;
use super::trust::Refusal;
use super::trust::Trust;
use crate::prefix::Prefix;
use crate::route::Class;
use crate::route::Route;
use std::sync::Arc;

/// All that steering needs of one box's routes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compiled {
    /// By prefix, one each.
    pub(super) best: Vec<Best>,
    /// By prefix, one each; none for a prefix that has a best route.
    pub(super) refused: Vec<(Prefix, Refusal)>,
    pub(super) neighbours: Vec<Arc<str>>,
}

/// The route that counts for one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Best {
    pub(super) prefix: Prefix,
    pub(super) as_path: u32,
    /// With the addition of the neighbour's class.
    pub(super) med: u32,
    pub(super) class: Class,
    pub(super) approved: Approved,
    /// Index into [`Compiled::neighbours`].
    pub(super) neighbour: u32,
}

/// A missing MED is 0; the class is added without wrapping round.
pub(super) fn effective_med(route: &Route) -> u32 {
    let med = route.attributes.med.unwrap_or(0);
    med.saturating_add(route.class.med_penalty())
}

/// Added to the path of a route that its router is about to take down (RFC 8326): longer than any
/// path that is believed, so that every other way to the same clients comes first.
const LEAVING: u32 = 1_000;

pub(super) fn as_path_length(route: &Route) -> u32 {
    let length = u32::try_from(route.attributes.as_path.length()).unwrap_or(u32::MAX);
    let leaving = if route.attributes.is_leaving() {
        LEAVING
    } else {
        0
    };
    length.saturating_add(leaving)
}

/// `partner` is the number of the partner of the box's site.
pub(super) fn compile(trust: &Trust, partner: Option<u32>, routes: &[Route]) -> Compiled {
    let mut judged: Vec<(&Route, Result<Approved, Refusal>)> = routes
        .iter()
        .map(|route| (route, trust.judge(partner, route)))
        .collect();
    // The best route of a prefix first; refused ones last, and in a fixed order.
    judged.sort_by(|(a, a_judged), (b, b_judged)| {
        let key = |route: &Route| (as_path_length(route), effective_med(route), route.class);
        a.prefix
            .cmp(&b.prefix)
            .then_with(|| a_judged.is_err().cmp(&b_judged.is_err()))
            .then_with(|| key(a).cmp(&key(b)))
            .then_with(|| a.neighbour.cmp(&b.neighbour))
            .then_with(|| a_judged.cmp(b_judged))
    });
    judged.dedup_by_key(|(route, _)| route.prefix);
    let mut compiled = Compiled::default();
    for (route, judged) in judged {
        let approved = match judged {
            Ok(approved) => approved,
            Err(refusal) => {
                compiled.refused.push((route.prefix, refusal));
                continue;
            }
        };
        let neighbour = compiled.neighbour(&route.neighbour);
        compiled.best.push(Best {
            prefix: route.prefix,
            as_path: as_path_length(route),
            med: effective_med(route),
            class: route.class,
            approved,
            neighbour,
        });
    }
    compiled.best.shrink_to_fit();
    compiled
}

impl Compiled {
    /// A box has a handful of neighbours: a walk is faster than a table.
    fn neighbour(&mut self, name: &Arc<str>) -> u32 {
        let known = self.neighbours.iter().position(|known| known == name);
        let at = known.unwrap_or_else(|| {
            self.neighbours.push(name.clone());
            self.neighbours.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    pub(super) fn neighbour_name(&self, best: &Best) -> &str {
        let at = usize::try_from(best.neighbour).unwrap_or(usize::MAX);
        self.neighbours.get(at).map_or("", |name| name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::super::testing::of_class;
    use super::super::testing::route;
    use super::*;
    use crate::route::Community;

    fn compiled(routes: &[Route]) -> Compiled {
        let trust = Trust::new(&World::new().registry);
        compile(&trust, trust.number("isp"), routes)
    }

    #[test]
    fn the_best_route_of_a_prefix_has_the_shortest_path_and_then_the_lowest_med() {
        let all = [
            route("192.0.2.0/24", "r1", "64505 64500", 0),
            of_class(Class::Peering, route("192.0.2.0/24", "r2", "64500", 10)),
            route("192.0.2.0/24", "r3", "64500", 59),
            route("192.0.2.0/24", "r4", "64499", 0),
        ];
        let compiled = compiled(&all);
        assert_eq!(compiled.best.len(), 1);
        let best = &compiled.best[0];
        assert_eq!((best.as_path, best.med), (1, 59));
        assert_eq!(compiled.neighbour_name(best), "r3");
        assert_eq!(compiled.refused, []);
    }

    #[test]
    fn the_med_saturates_and_a_missing_one_is_zero() {
        let med =
            |class, med| effective_med(&of_class(class, route("192.0.2.0/24", "r", "64500", med)));
        assert_eq!(med(Class::Embedded, 0), 0);
        assert_eq!(med(Class::Peering, 0), 50);
        assert_eq!(med(Class::Transit, u32::MAX - 99), u32::MAX);
        assert_eq!(med(Class::Transit, u32::MAX), u32::MAX);
    }

    #[test]
    fn a_refused_route_is_kept_only_where_nothing_better_is_heard() {
        let all = [
            route("192.0.2.0/24", "r1", "64499", 0),
            route("192.0.2.0/24", "r2", "64500", 0),
            route("198.51.100.0/24", "r1", "64499", 0),
        ];
        let compiled = compiled(&all);
        assert_eq!(compiled.best.len(), 1);
        assert_eq!(compiled.refused, [(all[2].prefix, Refusal::NotApproved)]);
    }

    #[test]
    fn a_route_that_is_about_to_go_comes_after_every_other() {
        let mut leaving = route("192.0.2.0/24", "r1", "64500", 0);
        let mut attributes = (*leaving.attributes).clone();
        attributes.communities = vec![Community::GRACEFUL_SHUTDOWN];
        leaving.attributes = Arc::new(attributes);
        let long = route("192.0.2.0/24", "r2", "64505 64506 64507 64500", 500);
        let both = compiled(&[leaving.clone(), long]);
        assert_eq!(both.neighbour_name(&both.best[0]), "r2");
        let alone = compiled(&[leaving]);
        assert_eq!(alone.best[0].as_path, 1_001);
    }
}
