//! What to announce, delete and download, in order.
//!
//! Pure: the `survey` calls it with what the store and the budget say. It plans nothing that has no
//! room, and a plan carried out leaves nothing to be planned. What is staged has its room already.

use super::Class;
use super::Space;
use super::Want;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Downloads kept of one plan: an hour's work of small objects; the machine plans again before they
/// run out.
pub(super) const PLANNED_MAX: usize = 50_000;

/// Planned beyond the budget, so that no stream stands still when less is received than was
/// reckoned with; the window ends them.
const SLACK_OBJECTS: u64 = 64;

/// All that a plan depends on.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// Urgent first, then by rank.
    pub(super) wants: &'a [Want],
    pub(super) space: &'a Space,
    pub(super) budget: Budget,
    /// Held, and not to be held: no key of the manifest names it.
    pub(super) surplus: &'a [(Digest, u64)],
    pub(super) announced: &'a BTreeSet<Digest>,
    /// Announced, past its grace and within the pace.
    pub(super) due: &'a [Digest],
}

/// What may be received, in bytes as the cap counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// The window is open and nothing forbids to use it.
    pub(super) night_open: bool,
    /// Of this window, or of the next one when it is shut.
    pub(super) night_left: u64,
    pub(super) urgent_open: bool,
    pub(super) urgent_left: u64,
    /// What 1,000,000 bytes of content cost.
    pub(super) cost_of_million: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Said first, deleted later.
    pub(super) announce: Vec<(Digest, u64)>,
    pub(super) delete: Vec<Digest>,
    /// Staged for an object that nothing wants.
    pub(super) discard: Vec<Digest>,
    /// In order. The last one of the night may end in the next.
    pub(super) download: Vec<(Want, Class)>,
    /// There is more to download than the plan keeps.
    pub(super) more: bool,
    pub(super) totals: Totals,
}

/// The plan in figures; bytes are of content that is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) wanted_objects: u64,
    pub(super) wanted_bytes: u64,
    /// Objects that this window, or the next one when it is shut, will not finish.
    pub(super) carried_objects: u64,
    pub(super) carried_bytes: u64,
    /// The best rank that is carried over.
    pub(super) carried_from_rank: Option<u32>,
    /// Objects that no volume has room for.
    pub(super) homeless_objects: u64,
    pub(super) homeless_bytes: u64,
}

impl Totals {
    /// Objects, and their bytes, that would come if there were time: those without a home do not.
    pub(super) fn left(&self) -> (u64, u64) {
        (
            self.wanted_objects.saturating_sub(self.homeless_objects),
            self.wanted_bytes.saturating_sub(self.homeless_bytes),
        )
    }
}

pub(super) fn plan(given: &Given<'_>) -> Plan {
    let wanted: BTreeSet<Digest> = given.wants.iter().map(|want| want.digest).collect();
    let unwanted = |digest: &Digest| !wanted.contains(digest);
    let surplus: BTreeSet<Digest> = given.surplus.iter().map(|(digest, _)| *digest).collect();
    let fresh =
        |(digest, _): &&(Digest, u64)| !given.announced.contains(digest) && unwanted(digest);
    let staged = given.space.staged.iter();
    let mut plan = Plan {
        announce: given.surplus.iter().filter(fresh).copied().collect(),
        discard: staged
            .map(|(digest, _, _)| *digest)
            .filter(unwanted)
            .collect(),
        ..Plan::default()
    };
    if given.budget.night_open {
        let may_go = |digest: &&Digest| surplus.contains(*digest) && unwanted(digest);
        plan.delete = given.due.iter().filter(may_go).copied().collect();
    }
    // Without a manifest nothing is wanted, and nothing is known to be unwanted.
    if given.space.manifest.is_none() {
        return Plan::default();
    }
    downloads(given, &mut plan);
    plan
}

fn downloads(given: &Given<'_>, plan: &mut Plan) {
    let staged = given.space.staged.iter();
    let staged: BTreeMap<Digest, u64> = staged.map(|(name, _, done)| (*name, *done)).collect();
    let mut free = given.space.free.clone();
    let mut budget = given.budget;
    let mut totals = Totals::default();
    for want in given.wants {
        let done = staged.get(&want.digest);
        let missing = want.length.saturating_sub(done.copied().unwrap_or(0));
        totals.wanted_objects += 1;
        totals.wanted_bytes += missing;
        if done.is_none() && !place(&mut free, want.length) {
            totals.homeless_objects += 1;
            totals.homeless_bytes += missing;
            continue;
        }
        let (mut class, carried) = budget.spend(want, missing);
        let is_slack = given.budget.night_left > 0 && totals.carried_objects < SLACK_OBJECTS;
        if class.is_none() && given.budget.night_open && is_slack {
            class = Some(Class::Night);
        }
        if carried > 0 {
            totals.carried_objects += 1;
            totals.carried_bytes += carried;
            totals.carried_from_rank.get_or_insert(want.rank);
        }
        match class {
            Some(class) if plan.download.len() < PLANNED_MAX => plan.download.push((*want, class)),
            Some(_) => plan.more = true,
            None => {}
        }
    }
    plan.totals = totals;
}

/// Takes the room on the roomiest volume: an object is never split.
fn place(free: &mut [u64], length: u64) -> bool {
    match free.iter_mut().max() {
        Some(room) if *room >= length => {
            *room -= length;
            true
        }
        Some(_) | None => false,
    }
}

impl Budget {
    /// The class in which it is fetched, if at all, and the bytes of it that are left for later.
    fn spend(&mut self, want: &Want, missing: u64) -> (Option<Class>, u64) {
        let cost = self.cost(missing);
        if want.urgent && self.urgent_open && cost <= self.urgent_left {
            self.urgent_left -= cost;
            return (Some(Class::Urgent), 0);
        }
        // In the window an urgent object is the first of the night's.
        let paid = cost.min(self.night_left);
        // Of an empty budget not even an empty object is promised.
        let begun = self.night_open && self.night_left > 0;
        self.night_left -= paid;
        let carried = if paid == cost {
            0
        } else {
            missing - self.content(paid).min(missing)
        };
        (begun.then_some(Class::Night), carried)
    }

    fn cost(&self, content: u64) -> u64 {
        scaled(content, self.cost_of_million, 1_000_000)
    }

    fn content(&self, cost: u64) -> u64 {
        scaled(cost, 1_000_000, self.cost_of_million.max(1))
    }
}

fn scaled(bytes: u64, by: u64, of: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(by) / u128::from(of);
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::message::Position;
    use proptest::prelude::*;

    const ALL: Budget = Budget {
        night_open: true,
        night_left: u64::MAX,
        urgent_open: true,
        urgent_left: 500,
        cost_of_million: 1_040_000,
    };

    fn name(number: u32) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    /// A store that does what a plan says.
    #[derive(Clone, Debug)]
    struct Model {
        space: Space,
        listed: Vec<Want>,
        held: BTreeMap<Digest, u64>,
        announced: BTreeSet<Digest>,
    }

    impl Model {
        fn wants(&self) -> Vec<Want> {
            let missing = self.listed.iter();
            let missing = missing.filter(|want| !self.held.contains_key(&want.digest));
            let mut wants: Vec<Want> = missing.copied().collect();
            wants.sort_by_key(|want| (!want.urgent, want.rank, want.digest));
            wants
        }

        fn plan(&self, budget: Budget) -> Plan {
            let kept: BTreeSet<Digest> = self.listed.iter().map(|want| want.digest).collect();
            let held = self.held.iter().map(|(digest, length)| (*digest, *length));
            let surplus: Vec<_> = held.filter(|(digest, _)| !kept.contains(digest)).collect();
            // Deletion is asked for more than it may give: the plan must not believe it.
            let due: Vec<Digest> = self.held.keys().copied().collect();
            let plan = plan(&Given {
                wants: &self.wants(),
                space: &self.space,
                budget,
                surplus: &surplus,
                announced: &self.announced,
                due: &due,
            });
            assert!(plan.delete.iter().all(|digest| !kept.contains(digest)));
            assert!(
                plan.announce
                    .iter()
                    .all(|(digest, _)| !kept.contains(digest))
            );
            plan
        }

        /// The first step of a plan; the store never has less than nothing.
        fn carry_out(&mut self, plan: &Plan) {
            self.announced
                .extend(plan.announce.iter().map(|(digest, _)| *digest));
            for digest in &plan.delete {
                self.held.remove(digest);
            }
            let unwanted = |digest: &Digest| !plan.discard.contains(digest);
            self.space.staged.retain(|(digest, _, _)| unwanted(digest));
            let Some((want, _)) = plan.download.first() else {
                return;
            };
            let before = self.space.staged.len();
            self.space
                .staged
                .retain(|(digest, _, _)| *digest != want.digest);
            if self.space.staged.len() == before {
                let room = self.space.free.iter_mut().max().unwrap();
                *room = room.checked_sub(want.length).expect("space exceeded");
            }
            self.held.insert(want.digest, want.length);
        }
    }

    fn model() -> impl Strategy<Value = Model> {
        let want = (0_u32..40, 0_u64..100, 0_u32..50, any::<bool>());
        let wants = prop::collection::vec(want, 0..30);
        let free = prop::collection::vec(0_u64..400, 0..4);
        let held = prop::collection::btree_map(0_u32..40, 1_u64..100, 0..20);
        let staged = prop::collection::btree_map(0_u32..40, 0_u64..100, 0..6);
        (wants, free, held, staged).prop_map(|(wants, free, held, staged)| {
            let mut listed: Vec<Want> = wants
                .into_iter()
                .map(|(number, length, rank, urgent)| Want {
                    digest: name(number),
                    length,
                    rank,
                    urgent,
                })
                .collect();
            listed.sort_by_key(|want| want.digest);
            listed.dedup_by_key(|want| want.digest);
            let staged = staged
                .into_iter()
                .map(|(number, done)| (name(number), 100, done));
            Model {
                space: Space {
                    free,
                    held: 0,
                    staged: staged.collect(),
                    manifest: Some(Position {
                        epoch: 1,
                        generation: 1,
                    }),
                },
                listed,
                held: held
                    .into_iter()
                    .map(|(number, length)| (name(number), length))
                    .collect(),
                announced: BTreeSet::new(),
            }
        })
    }

    proptest! {
        #[test]
        fn a_plan_is_idempotent_convergent_and_never_exceeds_space(mut model in model()) {
            let first = model.plan(ALL);
            prop_assert_eq!(&first, &model.plan(ALL));
            let mut fetched = Vec::new();
            loop {
                let plan = model.plan(ALL);
                fetched.extend(plan.download.first().map(|(want, _)| want.digest));
                model.carry_out(&plan);
                if plan.download.is_empty() {
                    break;
                }
                prop_assert!(fetched.len() <= 30, "it does not end");
            }
            // What was planned at first is what came, in that order.
            let planned: Vec<_> = first.download.iter().map(|(want, _)| want.digest).collect();
            prop_assert_eq!(fetched, planned);
            let last = model.plan(ALL);
            let totals = Totals {
                homeless_objects: last.totals.wanted_objects,
                homeless_bytes: last.totals.wanted_bytes,
                ..last.totals
            };
            prop_assert_eq!(last.totals, totals);
            prop_assert_eq!(last, Plan { totals, ..Plan::default() });
            let most = model.space.free.iter().max().copied().unwrap_or(0);
            let is_staged = |want: &Want| model.space.staged.iter().any(|s| s.0 == want.digest);
            for want in model.wants() {
                let has_no_room = want.length > most || model.space.free.is_empty();
                prop_assert!(has_no_room && !is_staged(&want));
            }
        }

        #[test]
        fn what_a_budget_does_not_pay_is_carried_over_by_rank(
            model in model(),
            left in 0_u64..900,
        ) {
            let budget = Budget { night_left: left, urgent_left: 0, ..ALL };
            let plan = model.plan(budget);
            let totals = plan.totals;
            let placed = totals.wanted_bytes - totals.homeless_bytes;
            let paid = placed - totals.carried_bytes;
            // A byte of rounding an object.
            prop_assert!(budget.cost(paid) <= left + totals.wanted_objects);
            let shut = model.plan(Budget { night_open: false, urgent_open: false, ..budget });
            prop_assert_eq!(shut.totals, totals);
            prop_assert!(shut.download.is_empty() && shut.delete.is_empty());
        }
    }

    #[test]
    fn urgent_objects_have_their_own_budget_and_no_other_outside_the_window() {
        let want = |number, rank, urgent| Want {
            digest: name(number),
            length: 100,
            rank,
            urgent,
        };
        let model = Model {
            space: Space {
                free: vec![1_000],
                manifest: Some(Position {
                    epoch: 1,
                    generation: 1,
                }),
                ..Space::default()
            },
            listed: vec![want(1, 9, true), want(2, 8, true), want(3, 0, false)],
            held: BTreeMap::new(),
            announced: BTreeSet::new(),
        };
        let shut = Budget {
            night_open: false,
            urgent_left: 110,
            ..ALL
        };
        let of = |plan: &Plan| -> Vec<(u32, Class)> {
            let download = plan.download.iter();
            download.map(|(want, class)| (want.rank, *class)).collect()
        };
        assert_eq!(of(&model.plan(shut)), [(8, Class::Urgent)]);
        let open = Budget {
            night_open: true,
            ..shut
        };
        let expected = [(8, Class::Urgent), (9, Class::Night), (0, Class::Night)];
        assert_eq!(of(&model.plan(open)), expected);
    }

    #[test]
    fn without_a_manifest_nothing_is_announced_deleted_discarded_or_fetched() {
        let mut model = Model {
            space: Space {
                free: vec![1_000],
                staged: vec![(name(1), 5, 5)],
                ..Space::default()
            },
            listed: Vec::new(),
            held: BTreeMap::from([(name(2), 7)]),
            announced: BTreeSet::from([name(2)]),
        };
        assert_eq!(model.plan(ALL), Plan::default());
        model.space.manifest = Some(Position {
            epoch: 1,
            generation: 1,
        });
        assert_eq!(model.plan(ALL).delete, [name(2)]);
        assert_eq!(model.plan(ALL).discard, [name(1)]);
    }
}
