//! How much of its allowance a neighbour has used: routes of each family, and memory of attributes.
//!
//! Sans-IO. `peer` tells what is held after each UPDATE and does what [`News`] says; for
//! [`LimitAction::Drop`] it asks before a route is kept. Never looks at a route.

use super::NeighbourConfig;
use super::policy::LimitAction;
use crate::prefix::Family;
use serde::Serialize;
use std::fmt;

/// Below the warning by so many percent of the limit, the next warning is a new one.
const REARM_PERCENT: usize = 5;

/// What a neighbour's routes need at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) ipv4: usize,
    pub(super) ipv6: usize,
    pub(super) attribute_bytes: usize,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    Ipv4Routes,
    Ipv6Routes,
    AttributeBytes,
}

/// Worth a word, or an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The share of `limit_warn` is reached; told once until there is room again.
    Near {
        what: What,
        held: usize,
        most: usize,
    },
    /// The limit is exceeded and the session must end.
    Over { what: What, most: usize },
    /// The limit is reached and the first route was not kept.
    Dropping { what: What, most: usize },
}

/// One row of `oca show bgp all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LimitView {
    what: What,
    held: usize,
    most: usize,
    percent: usize,
}

/// One neighbour's limits.
#[derive(Debug)]
pub(super) struct Limits {
    most: Most,
    warn_percent: usize,
    action: LimitAction,
    warned: [bool; 3],
    /// What made the last route be dropped, until it was told.
    dropping: Option<What>,
    dropped: u64,
    told_dropping: bool,
}

/// By [`What::place`].
#[derive(Clone, Copy, Debug)]
struct Most([usize; 3]);

const ALL: [What; 3] = [What::Ipv4Routes, What::Ipv6Routes, What::AttributeBytes];

impl Limits {
    pub(super) fn new(neighbour: &NeighbourConfig) -> Self {
        let policy = &neighbour.policy;
        Self {
            most: Most::of(neighbour),
            warn_percent: policy.limit_warn.into(),
            action: policy.limit_action,
            warned: [false; 3],
            dropping: None,
            dropped: 0,
            told_dropping: false,
        }
    }

    /// Whether the route that was just put in, of this family, must be taken out again.
    pub(super) fn must_drop(&mut self, family: Family, held: impl FnOnce() -> Held) -> bool {
        if self.action != LimitAction::Drop {
            return false;
        }
        let held = held();
        let routes = match family {
            Family::Ipv4 => What::Ipv4Routes,
            Family::Ipv6 => What::Ipv6Routes,
        };
        let over = [routes, What::AttributeBytes]
            .into_iter()
            .find(|what| held.of(*what) > self.most.get(*what));
        if over.is_some() {
            self.dropping = over;
            self.dropped += 1;
        }
        over.is_some()
    }

    /// After each UPDATE. The worst is told alone.
    pub(super) fn step(&mut self, held: &Held) -> Option<News> {
        let mut news = None;
        for what in ALL {
            let (held, most) = (held.of(what), self.most.get(what));
            if self.action != LimitAction::Drop && held > most {
                return Some(News::Over { what, most });
            }
            let share = most.saturating_mul(self.warn_percent) / 100;
            let rearm = most.saturating_mul(self.warn_percent.saturating_sub(REARM_PERCENT)) / 100;
            let warned = &mut self.warned[what.place()];
            if held >= share.max(1) && !*warned {
                *warned = true;
                news = news.or(Some(News::Near { what, held, most }));
            } else if held < rearm {
                *warned = false;
            }
        }
        match self.dropping.take() {
            Some(what) if !self.told_dropping => {
                self.told_dropping = true;
                let most = self.most.get(what);
                Some(News::Dropping { what, most })
            }
            Some(_) | None => news,
        }
    }

    /// There is no number left for another set of attributes, whatever happens beyond a limit.
    pub(super) fn out_of_sets(&self) -> News {
        let what = What::AttributeBytes;
        let most = self.most.get(what);
        News::Over { what, most }
    }

    /// The session is over and so is everything that it used.
    pub(super) fn reset(&mut self) {
        self.warned = [false; 3];
        (self.dropping, self.dropped, self.told_dropping) = (None, 0, false);
    }

    /// Routes that were not kept since the session came up.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl LimitView {
    /// As in the JSON.
    pub(super) fn name(&self) -> &'static str {
        match self.what {
            What::Ipv4Routes => "ipv4-routes",
            What::Ipv6Routes => "ipv6-routes",
            What::AttributeBytes => "attribute-bytes",
        }
    }

    pub(super) fn percent(&self) -> usize {
        self.percent
    }
}

impl Most {
    fn of(neighbour: &NeighbourConfig) -> Self {
        let policy = &neighbour.policy;
        let bytes = usize::try_from(policy.attribute_memory.0).unwrap_or(usize::MAX);
        Self([
            neighbour.max_prefixes as usize,
            policy.max_prefixes_ipv6 as usize,
            bytes,
        ])
    }

    fn get(self, what: What) -> usize {
        self.0[what.place()]
    }
}

/// How full everything is.
pub(super) fn views(neighbour: &NeighbourConfig, held: &Held) -> Vec<LimitView> {
    let most = Most::of(neighbour);
    let view = |what: What| {
        let (held, most) = (held.of(what), most.get(what));
        let percent = held.saturating_mul(100) / most.max(1);
        LimitView {
            what,
            held,
            most,
            percent,
        }
    };
    ALL.map(view).into()
}

impl Held {
    fn of(&self, what: What) -> usize {
        match what {
            What::Ipv4Routes => self.ipv4,
            What::Ipv6Routes => self.ipv6,
            What::AttributeBytes => self.attribute_bytes,
        }
    }
}

impl What {
    fn place(self) -> usize {
        match self {
            Self::Ipv4Routes => 0,
            Self::Ipv6Routes => 1,
            Self::AttributeBytes => 2,
        }
    }

    /// `None` for memory.
    pub(super) fn family(self) -> Option<Family> {
        match self {
            Self::Ipv4Routes => Some(Family::Ipv4),
            Self::Ipv6Routes => Some(Family::Ipv6),
            Self::AttributeBytes => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Routes => "IPv4 routes",
            Self::Ipv6Routes => "IPv6 routes",
            Self::AttributeBytes => "bytes of attributes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Policy;
    use super::super::tests_support::neighbour;
    use super::*;
    use crate::route::Asn;
    use crate::units::Bytes;

    fn limits(action: LimitAction) -> Limits {
        let policy = Policy {
            limit_action: action,
            max_prefixes_ipv6: 50,
            attribute_memory: Bytes(1_000),
            ..Policy::default()
        };
        Limits::new(&NeighbourConfig {
            max_prefixes: 100,
            policy,
            ..neighbour("edge", Asn(64500))
        })
    }

    fn ipv4(ipv4: usize) -> Held {
        Held {
            ipv4,
            ..Held::default()
        }
    }

    #[test]
    fn a_share_is_told_once_and_again_only_after_there_was_room() {
        let mut limits = limits(LimitAction::Restart);
        let near = |held| {
            let what = What::Ipv4Routes;
            Some(News::Near {
                what,
                held,
                most: 100,
            })
        };
        assert_eq!(limits.step(&ipv4(79)), None);
        assert_eq!(limits.step(&ipv4(80)), near(80));
        assert_eq!(limits.step(&ipv4(99)), None);
        assert_eq!(limits.step(&ipv4(76)), None, "not enough room");
        assert_eq!(limits.step(&ipv4(90)), None);
        assert_eq!(limits.step(&ipv4(74)), None);
        assert_eq!(limits.step(&ipv4(85)), near(85));
        limits.reset();
        assert_eq!(limits.step(&ipv4(85)), near(85));
    }

    #[test]
    fn each_limit_is_its_own_and_its_last_unit_is_allowed() {
        for action in [LimitAction::Restart, LimitAction::Stop] {
            for (held, over) in [
                (ipv4(100), None),
                (ipv4(101), Some((What::Ipv4Routes, 100))),
                (
                    Held {
                        ipv6: 51,
                        ..ipv4(100)
                    },
                    Some((What::Ipv6Routes, 50)),
                ),
                (
                    Held {
                        attribute_bytes: 1_001,
                        ..Held::default()
                    },
                    Some((What::AttributeBytes, 1_000)),
                ),
            ] {
                let mut limits = limits(action);
                assert!(!limits.must_drop(Family::Ipv4, || held));
                let found = limits.step(&held);
                let is_over = |(what, most)| Some(News::Over { what, most });
                match over {
                    Some(over) => assert_eq!(found, is_over(over)),
                    None => assert!(matches!(found, Some(News::Near { .. })), "{found:?}"),
                }
            }
        }
    }

    #[test]
    fn dropping_keeps_the_session_counts_what_is_lost_and_says_so_once() {
        let mut limits = limits(LimitAction::Drop);
        assert!(!limits.must_drop(Family::Ipv4, || ipv4(100)));
        assert!(limits.must_drop(Family::Ipv4, || ipv4(101)));
        assert!(
            !limits.must_drop(Family::Ipv6, || ipv4(101)),
            "another family"
        );
        let held = Held {
            attribute_bytes: 1_001,
            ..Held::default()
        };
        assert!(limits.must_drop(Family::Ipv6, || held), "memory is of both");
        assert!(matches!(
            limits.step(&ipv4(100)),
            Some(News::Dropping { .. })
        ));
        assert!(limits.must_drop(Family::Ipv4, || ipv4(101)));
        assert_eq!(limits.step(&ipv4(100)), None);
        assert_eq!(limits.dropped(), 3);
        let config = NeighbourConfig {
            max_prefixes: 100,
            ..neighbour("edge", Asn(64500))
        };
        let views = serde_json::to_value(views(&config, &ipv4(50))).unwrap();
        let first = serde_json::json!({"what": "ipv4-routes", "held": 50, "most": 100,
            "percent": 50});
        assert_eq!(views[0], first);
    }
}
