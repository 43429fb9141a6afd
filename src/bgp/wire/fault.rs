//! What can be wrong with an UPDATE, what each error costs, and by which section.
//!
//! The arms that decide are in `update` and `attribute`; here are their names, so that counters,
//! logs and answers speak of an error as the decoder does.

use super::notification::Fault;
use super::notification::Notification;

/// RFC 7606 section 2, the mildest first. Several errors in one UPDATE cost what the worst of them
/// does (section 3 h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handling {
    /// The attribute counts as if it were not there.
    Discard,
    /// The routes of the UPDATE count as withdrawn.
    Withdraw,
    /// The address family is ignored for the rest of the session, its routes go (RFC 4760
    /// section 7).
    Disable,
    /// The session ends.
    Reset,
}

/// One way for an UPDATE to be wrong. [`FaultKind::section`] says who decided what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    FieldLengths,
    AttributeFlags,
    MissingMandatory,
    Repeated,
    Overrun,
    StrayOctets,
    NothingReachable,
    Prefixes,
    Origin,
    AsPath,
    NextHop,
    Med,
    LocalPref,
    AtomicAggregate,
    Aggregator,
    Communities,
    OriginatorId,
    ClusterList,
    MpReach,
    MpUnreach,
    ExtendedCommunities,
    LargeCommunities,
    OnlyToCustomer,
    As4Path,
    As4Aggregator,
    As4OnFourOctets,
    InternalFromOutside,
    AsZero,
    Confederation,
    UnknownWellKnown,
}

impl FaultKind {
    pub const COUNT: usize = 30;

    /// In the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::FieldLengths,
        Self::AttributeFlags,
        Self::MissingMandatory,
        Self::Repeated,
        Self::Overrun,
        Self::StrayOctets,
        Self::NothingReachable,
        Self::Prefixes,
        Self::Origin,
        Self::AsPath,
        Self::NextHop,
        Self::Med,
        Self::LocalPref,
        Self::AtomicAggregate,
        Self::Aggregator,
        Self::Communities,
        Self::OriginatorId,
        Self::ClusterList,
        Self::MpReach,
        Self::MpUnreach,
        Self::ExtendedCommunities,
        Self::LargeCommunities,
        Self::OnlyToCustomer,
        Self::As4Path,
        Self::As4Aggregator,
        Self::As4OnFourOctets,
        Self::InternalFromOutside,
        Self::AsZero,
        Self::Confederation,
        Self::UnknownWellKnown,
    ];

    /// Place of its counter.
    pub fn index(self) -> usize {
        self as usize
    }

    /// As metrics and answers name it.
    pub fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// The rule that says what it costs.
    pub fn section(self) -> &'static str {
        self.facts().1
    }

    /// What a NOTIFICATION would say, or says.
    pub fn code(self) -> Fault {
        self.facts().2
    }

    fn facts(self) -> (&'static str, &'static str, Fault) {
        let length = Fault::ATTRIBUTE_LENGTH;
        let list = Fault::ATTRIBUTE_LIST;
        let optional = Fault::OPTIONAL_ATTRIBUTE;
        let path = Fault::BAD_AS_PATH;
        match self {
            Self::FieldLengths => ("field-lengths", "RFC 7606 section 3 (b)", list),
            Self::AttributeFlags => {
                let flags = Fault::ATTRIBUTE_FLAGS;
                ("attribute-flags", "RFC 7606 section 3 (c)", flags)
            }
            Self::MissingMandatory => {
                let missing = Fault::MISSING_ATTRIBUTE;
                ("missing-mandatory", "RFC 7606 section 3 (d)", missing)
            }
            Self::Repeated => ("repeated", "RFC 7606 section 3 (g)", list),
            Self::Overrun => ("overrun", "RFC 7606 section 4", length),
            Self::StrayOctets => ("stray-octets", "RFC 7606 section 4", list),
            Self::NothingReachable => ("nothing-reachable", "RFC 7606 section 5.2", list),
            Self::Prefixes => ("prefixes", "RFC 7606 section 5.3", Fault::BAD_NETWORK),
            Self::Origin => ("origin", "RFC 7606 section 7.1", Fault::BAD_ORIGIN),
            Self::AsPath => ("as-path", "RFC 7606 section 7.2", path),
            Self::NextHop => ("next-hop", "RFC 7606 section 7.3", length),
            Self::Med => ("med", "RFC 7606 section 7.4", length),
            Self::LocalPref => ("local-pref", "RFC 7606 section 7.5", length),
            Self::AtomicAggregate => ("atomic-aggregate", "RFC 7606 section 7.6", length),
            Self::Aggregator => ("aggregator", "RFC 7606 section 7.7", length),
            Self::Communities => ("communities", "RFC 7606 section 7.8", length),
            Self::OriginatorId => ("originator-id", "RFC 7606 section 7.9", length),
            Self::ClusterList => ("cluster-list", "RFC 7606 section 7.10", length),
            Self::MpReach => ("mp-reach", "RFC 7606 section 7.11", optional),
            Self::MpUnreach => ("mp-unreach", "RFC 7606 section 7.12", optional),
            Self::ExtendedCommunities => ("extended-communities", "RFC 7606 section 7.14", length),
            Self::LargeCommunities => ("large-communities", "RFC 8092 section 6", length),
            Self::OnlyToCustomer => ("only-to-customer", "RFC 9234 section 5", length),
            Self::As4Path => ("as4-path", "RFC 6793 section 6", path),
            Self::As4Aggregator => ("as4-aggregator", "RFC 6793 section 6", length),
            Self::As4OnFourOctets => ("as4-on-four-octets", "RFC 6793 section 4.1", optional),
            Self::InternalFromOutside => (
                "internal-from-outside",
                "RFC 7606 sections 7.5, 7.9, 7.10",
                list,
            ),
            Self::AsZero => ("as-zero", "RFC 7607 section 2", path),
            Self::Confederation => ("confederation", "RFC 5065 section 5", path),
            Self::UnknownWellKnown => {
                let unknown = Fault::UNKNOWN_WELL_KNOWN;
                ("unknown-well-known", "RFC 4271 section 6.3", unknown)
            }
        }
    }
}

/// One error of an UPDATE that the session survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateFault {
    pub kind: FaultKind,
    /// The attribute's type; 0 for the list as a whole.
    pub attribute: u8,
    pub handling: Handling,
}

/// The errors of one UPDATE: which kinds there were, and the worst one. Of a fixed size, because
/// the sender chooses how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    worst: Option<UpdateFault>,
    withdrawing: Option<FaultKind>,
    kinds: u32,
}

impl Faults {
    pub fn is_empty(&self) -> bool {
        self.kinds == 0
    }

    /// The first of those that cost most.
    pub fn worst(&self) -> Option<UpdateFault> {
        self.worst
    }

    /// The routes of the UPDATE count as withdrawn.
    pub fn withdraws(&self) -> bool {
        self.withdrawing.is_some()
    }

    /// The first of those that do.
    pub(super) fn withdrawing(&self) -> Option<FaultKind> {
        self.withdrawing
    }

    pub fn contains(&self, kind: FaultKind) -> bool {
        self.kinds & bit(kind) != 0
    }

    /// Each kind once.
    pub fn kinds(self) -> impl Iterator<Item = FaultKind> {
        let all = FaultKind::ALL.into_iter();
        all.filter(move |kind| self.contains(*kind))
    }

    pub(super) fn add(&mut self, fault: UpdateFault) {
        self.kinds |= bit(fault.kind);
        if fault.handling == Handling::Withdraw {
            self.withdrawing.get_or_insert(fault.kind);
        }
        let is_worse = |worst: UpdateFault| fault.handling > worst.handling;
        if self.worst.is_none_or(is_worse) {
            self.worst = Some(fault);
        }
    }
}

fn bit(kind: FaultKind) -> u32 {
    1 << kind.index()
}

/// A message that ends the session, with the NOTIFICATION to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Of an UPDATE.
    pub kind: Option<FaultKind>,
    pub notification: Notification,
}

impl Malformed {
    pub(super) fn update(kind: FaultKind, data: &[u8]) -> Self {
        Self {
            kind: Some(kind),
            notification: Notification::new(kind.code(), data),
        }
    }
}

impl From<Notification> for Malformed {
    fn from(notification: Notification) -> Self {
        Self {
            kind: None,
            notification,
        }
    }
}

impl From<Fault> for Malformed {
    fn from(fault: Fault) -> Self {
        Notification::from(fault).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_place_a_name_and_a_section_of_its_own() {
        let mut names = BTreeSet::new();
        for (place, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place);
            assert!(names.insert(kind.as_str()) && kind.section().starts_with("RFC "));
            assert_eq!(kind.code().0, 3, "{kind:?}");
        }
        const { assert!(FaultKind::COUNT <= 32, "the set of kinds has 32 bits") };
    }

    #[test]
    fn the_worst_error_is_told_and_all_kinds_are_kept() {
        let mut faults = Faults::default();
        assert!(faults.is_empty() && !faults.withdraws());
        for (kind, handling) in [
            (FaultKind::Repeated, Handling::Discard),
            (FaultKind::Med, Handling::Withdraw),
            (FaultKind::Origin, Handling::Withdraw),
            (FaultKind::Repeated, Handling::Discard),
        ] {
            let attribute = 4;
            faults.add(UpdateFault {
                kind,
                attribute,
                handling,
            });
        }
        assert_eq!(faults.worst().map(|worst| worst.kind), Some(FaultKind::Med));
        assert!(faults.withdraws());
        let kinds: Vec<_> = faults.kinds().collect();
        assert_eq!(
            kinds,
            [FaultKind::Repeated, FaultKind::Origin, FaultKind::Med]
        );
    }
}
