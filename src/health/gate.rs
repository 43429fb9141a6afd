//! The gate's decision: facts and requirements in, open or closed with every reason out.
//!
//! Sans-IO. Called by `appliance` whenever a fact changes.

use super::Requirement;
use crate::gate::Gate;
use crate::gate::Reason;
use crate::store;

/// Everything the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// A manifest names what the box should hold.
    pub manifest: bool,
    /// Disks whose objects can be read; see [`readable_disks`].
    pub readable_disks: usize,
    /// The operator drained the box.
    pub drained: bool,
    /// The process is on its way out.
    pub stopping: bool,
    pub clock_synchronised: bool,
    /// The control plane's last word is that this box may serve; false before its first.
    pub enabled: bool,
    /// The lease that came with that word has not ended.
    pub lease_fresh: bool,
    /// Steerable routes learned. Nothing sets it without a BGP speaker.
    pub routes: usize,
}

/// Serving unless there is a reason against it; all reasons are told, not only the first.
pub fn decide(facts: &Facts, require: &[Requirement]) -> Gate {
    let unmet = require
        .iter()
        .filter_map(|requirement| match requirement {
            Requirement::Control => unpermitted(facts),
            Requirement::Bgp => (facts.routes == 0).then_some(Reason::NoRoutes),
            Requirement::Clock => (!facts.clock_synchronised).then_some(Reason::Clock),
        })
        .collect::<Vec<_>>();
    let always = [
        (!facts.manifest, Reason::NoManifest),
        (facts.readable_disks == 0, Reason::Disks),
        (facts.drained, Reason::Drained),
        (facts.stopping, Reason::Stopping),
    ];
    let reasons = always
        .iter()
        .filter_map(|(holds, reason)| holds.then_some(*reason))
        .chain(unmet)
        .collect();
    Gate::from_reasons(reasons)
}

/// Why the control plane's word does not let the box serve. A lease comes with every word, so a box
/// that never had one was never enabled; and one that was told not to serve has no use for a lease.
/// What is left for `lease-expired` is a box that might serve if its control plane were heard.
fn unpermitted(facts: &Facts) -> Option<Reason> {
    match (facts.enabled, facts.lease_fresh) {
        (false, _) => Some(Reason::NotEnabled),
        (true, false) => Some(Reason::LeaseExpired),
        (true, true) => None,
    }
}

/// Disks that viewers can be served from. One that still scans does not count, so a box opens when
/// its first disk is ready.
pub fn readable_disks(store: &store::View) -> usize {
    store
        .disks
        .iter()
        .filter(|disk| matches!(disk.state, "online" | "read-only"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Requirement; 3] = [Requirement::Control, Requirement::Bgp, Requirement::Clock];

    /// A stand-alone box on which everything is well.
    const WELL: Facts = Facts {
        manifest: true,
        readable_disks: 1,
        drained: false,
        stopping: false,
        clock_synchronised: true,
        enabled: false,
        lease_fresh: false,
        routes: 0,
    };

    fn any_facts() -> impl Strategy<Value = Facts> {
        let flags = any::<[bool; 6]>();
        (flags, 0_usize..3, 0_usize..3).prop_map(|(flags, readable_disks, routes)| Facts {
            manifest: flags[0],
            readable_disks,
            drained: flags[1],
            stopping: flags[2],
            clock_synchronised: flags[3],
            enabled: flags[4],
            lease_fresh: flags[5],
            routes,
        })
    }

    #[test]
    fn a_stand_alone_box_serves_what_it_holds() {
        assert_eq!(decide(&WELL, &[]), Gate::Serving);
        assert_eq!(decide(&WELL, &[Requirement::Clock]), Gate::Serving);
    }

    #[test]
    fn each_fault_closes_the_box_with_its_own_reason_and_all_are_told() {
        let closed =
            |facts: Facts, require: &[Requirement]| decide(&facts, require).reasons().to_vec();
        let no_manifest = Facts {
            manifest: false,
            ..WELL
        };
        let no_disk = Facts {
            readable_disks: 0,
            ..WELL
        };
        let drained = Facts {
            drained: true,
            ..WELL
        };
        let stopping = Facts {
            stopping: true,
            ..WELL
        };
        let no_clock = Facts {
            clock_synchronised: false,
            ..WELL
        };
        assert_eq!(closed(no_manifest, &[]), [Reason::NoManifest]);
        assert_eq!(closed(no_disk, &[]), [Reason::Disks]);
        assert_eq!(closed(drained, &[]), [Reason::Drained]);
        assert_eq!(closed(stopping, &[]), [Reason::Stopping]);
        assert_eq!(closed(no_clock, &[Requirement::Clock]), [Reason::Clock]);
        assert_eq!(closed(no_clock, &[]), []);
        assert_eq!(closed(WELL, &[Requirement::Control]), [Reason::NotEnabled]);
        let leaseless = Facts {
            enabled: true,
            ..WELL
        };
        let disabled = Facts {
            lease_fresh: true,
            ..WELL
        };
        let control = [Requirement::Control];
        assert_eq!(closed(leaseless, &control), [Reason::LeaseExpired]);
        assert_eq!(closed(disabled, &control), [Reason::NotEnabled]);
        let permitted = Facts {
            lease_fresh: true,
            ..leaseless
        };
        assert_eq!(closed(permitted, &control), []);
        assert_eq!(closed(WELL, &[Requirement::Bgp]), [Reason::NoRoutes]);
        let worst = Facts {
            manifest: false,
            readable_disks: 0,
            drained: true,
            ..no_clock
        };
        let told = closed(worst, &ALL);
        let expected = [
            Reason::NoManifest,
            Reason::NotEnabled,
            Reason::NoRoutes,
            Reason::Drained,
            Reason::Disks,
            Reason::Clock,
        ];
        assert_eq!(told, expected);
    }

    proptest! {
        #[test]
        fn a_requirement_more_never_opens_the_box(
            facts in any_facts(),
            require in proptest::sample::subsequence(ALL.to_vec(), 0..=3),
            more in proptest::sample::select(ALL.to_vec()),
        ) {
            let before = decide(&facts, &require);
            let with_more = [require.as_slice(), &[more]].concat();
            let after = decide(&facts, &with_more);
            prop_assert!(before.is_serving() || !after.is_serving());
            for reason in before.reasons() {
                prop_assert!(after.reasons().contains(reason));
            }
        }

        #[test]
        fn it_is_closed_exactly_when_a_fact_or_a_requirement_says_so(
            facts in any_facts(),
            require in proptest::sample::subsequence(ALL.to_vec(), 0..=3),
        ) {
            let well = facts.manifest
                && facts.readable_disks > 0
                && !facts.drained
                && !facts.stopping
                && ((facts.enabled && facts.lease_fresh)
                    || !require.contains(&Requirement::Control))
                && (facts.routes > 0 || !require.contains(&Requirement::Bgp))
                && (facts.clock_synchronised || !require.contains(&Requirement::Clock));
            let gate = decide(&facts, &require);
            prop_assert_eq!(gate.is_serving(), well);
            prop_assert_eq!(gate.reasons().is_empty(), well);
        }

        #[test]
        fn the_control_plane_has_one_reason_at_a_time_and_only_where_it_is_required(
            facts in any_facts(),
            require in proptest::sample::subsequence(ALL.to_vec(), 0..=3),
        ) {
            let gate = decide(&facts, &require);
            let told = |reason| gate.reasons().contains(&reason);
            let required = require.contains(&Requirement::Control);
            let (never, ended) = (told(Reason::NotEnabled), told(Reason::LeaseExpired));
            prop_assert_eq!(never, required && !facts.enabled);
            prop_assert_eq!(ended, required && facts.enabled && !facts.lease_fresh);
        }
    }
}
