//! Hold-down: what a lost disk held is not fetched again at once, for the disk may come back.
//!
//! A pulled cable, a controller that restarts or a power supply take whole disks away and give them
//! back; a refill would cost a night's cap for nothing, and viewers are steered to other boxes
//! meanwhile. What is asked for most is missed sooner, and so is what an operator declares urgent.
//! Sans-IO: `query` says what is out, and since when.

use super::Upkeep;
use super::index::Places;
use crate::clock::Instant;
use std::time::Duration;

/// The most popular objects: the ranks of the first such part of the manifest's.
const HOT_PARTS: u32 = 10;

/// Which objects are left alone at one moment.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Disks lost so lately that none of their objects is fetched …
    all: Places,
    /// … or none but the hot ones.
    cold: Places,
    /// Ranks below this are hot.
    hot_below: u32,
    /// A disk that was not there at the start may have what no disk has, of what was listed then …
    absent_all: bool,
    /// … or all of it but the hot.
    absent_cold: bool,
    /// Numbers below this were listed then.
    known_below: u32,
}

impl Hold {
    /// `lost`: disks out of service, and since when. `worst`: the last rank of the manifest.
    pub(super) fn new(
        upkeep: &Upkeep,
        now: Instant,
        lost: impl Iterator<Item = (u16, Instant)>,
        worst: u32,
    ) -> Self {
        let mut hold = Self {
            hot_below: (worst / HOT_PARTS).saturating_add(1),
            ..Self::default()
        };
        for (volume, since) in lost {
            let gone = now.saturating_duration_since(since);
            if gone < upkeep.refill_hot_after {
                hold.all.insert(volume);
            }
            if gone < upkeep.refill_after {
                hold.cold.insert(volume);
            }
        }
        hold
    }

    /// Adds disks that were not there at the start: nobody knows what they hold. `gone`: for how
    /// long each is missed. Objects numbered below `known_below` were listed at the start.
    pub(super) fn presume(
        &mut self,
        upkeep: &Upkeep,
        gone: impl Iterator<Item = Duration>,
        known_below: u32,
    ) {
        self.known_below = known_below;
        for gone in gone {
            self.absent_all |= gone < upkeep.refill_hot_after;
            self.absent_cold |= gone < upkeep.refill_after;
        }
    }

    /// Is an object on these disks left alone?
    pub(super) fn holds(&self, number: u32, places: Places, rank: u32, urgent: bool) -> bool {
        let is_hot = urgent || rank < self.hot_below;
        if places.is_empty() && number < self.known_below {
            return if is_hot {
                self.absent_all
            } else {
                self.absent_cold
            };
        }
        places.meets(if is_hot { self.all } else { self.cold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const HOUR: Duration = Duration::from_secs(3600);

    fn places(volumes: &[u16]) -> Places {
        let mut places = Places::default();
        volumes.iter().for_each(|volume| places.insert(*volume));
        places
    }

    #[test]
    fn hot_ranks_and_urgent_objects_are_missed_after_an_hour_and_the_rest_after_a_day() {
        let (upkeep, lost_at) = (Upkeep::default(), clock::now());
        let hold = |after: Duration| {
            let lost = std::iter::once((3, lost_at));
            Hold::new(&upkeep, lost_at + after, lost, 999)
        };
        let second = Duration::from_secs(1);
        for (after, hot, cold) in [
            (Duration::ZERO, true, true),
            (HOUR - second, true, true),
            (HOUR, false, true),
            (24 * HOUR - second, false, true),
            (24 * HOUR, false, false),
            (240 * HOUR, false, false),
        ] {
            let hold = hold(after);
            let on = places(&[3]);
            assert_eq!(hold.holds(0, on, 0, false), hot, "{after:?}");
            assert_eq!(hold.holds(0, on, 99, false), hot, "{after:?}");
            assert_eq!(hold.holds(0, on, 100, false), cold, "{after:?}");
            assert_eq!(hold.holds(0, on, 900, true), hot, "{after:?}");
            for elsewhere in [places(&[]), places(&[2, 4, 67])] {
                assert!(!hold.holds(0, elsewhere, 900, false), "{after:?}");
            }
        }
    }

    #[test]
    fn each_disk_has_its_own_time_and_an_object_waits_for_the_last_that_may_bring_it_back() {
        let (upkeep, now) = (Upkeep::default(), clock::now() + 100 * HOUR);
        let lost = [(1, now - 30 * HOUR), (2, now - HOUR / 2)];
        let hold = Hold::new(&upkeep, now, lost.into_iter(), 0);
        assert!(!hold.holds(0, places(&[1]), 5, false));
        assert!(hold.holds(0, places(&[2]), 5, false));
        assert!(hold.holds(0, places(&[1, 2]), 5, false));
    }

    #[test]
    fn what_no_disk_has_is_held_while_a_disk_is_missed_from_the_start_and_later_listings_are_not() {
        let (upkeep, none) = (Upkeep::default(), std::iter::empty());
        let hold = |gone: Duration| {
            let mut hold = Hold::new(&upkeep, clock::now(), none.clone(), 999);
            hold.presume(&upkeep, std::iter::once(gone), 50);
            hold
        };
        for (gone, hot, cold) in [
            (Duration::ZERO, true, true),
            (HOUR, false, true),
            (24 * HOUR, false, false),
        ] {
            let hold = hold(gone);
            assert_eq!(hold.holds(49, places(&[]), 0, false), hot, "{gone:?}");
            assert_eq!(hold.holds(49, places(&[]), 900, false), cold, "{gone:?}");
            assert_eq!(hold.holds(49, places(&[]), 900, true), hot, "{gone:?}");
            assert!(!hold.holds(50, places(&[]), 0, false), "{gone:?}");
            assert!(!hold.holds(49, places(&[2]), 900, false), "{gone:?}");
        }
    }
}
