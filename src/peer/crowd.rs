//! Places, in all and for each visitor: strangers by address, askers by name. Never waits.

use crate::prefix;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

#[derive(Debug)]
pub(super) struct Crowd<K> {
    most: usize,
    most_each: usize,
    census: Mutex<Census<K>>,
}

#[derive(Debug)]
struct Census<K> {
    total: usize,
    by_visitor: BTreeMap<K, usize>,
}

/// Leaving is dropping it.
#[derive(Debug)]
pub(super) struct Place<K: Clone + Ord> {
    crowd: Arc<Crowd<K>>,
    visitor: K,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// For everybody.
    House,
    /// For this visitor.
    Visitor,
}

impl<K: Clone + Ord> Crowd<K> {
    pub(super) fn new(most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_each,
            census: Mutex::new(Census {
                total: 0,
                by_visitor: BTreeMap::new(),
            }),
        })
    }

    pub(super) fn enter(self: &Arc<Self>, visitor: K) -> Result<Place<K>, Full> {
        let mut census = self.census();
        if census.total >= self.most {
            return Err(Full::House);
        }
        let here = census.by_visitor.get(&visitor).copied().unwrap_or(0);
        if here >= self.most_each {
            return Err(Full::Visitor);
        }
        census.by_visitor.insert(visitor.clone(), here + 1);
        census.total += 1;
        Ok(Place {
            crowd: Arc::clone(self),
            visitor,
        })
    }

    pub(super) fn total(&self) -> usize {
        self.census().total
    }

    fn census(&self) -> MutexGuard<'_, Census<K>> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut census = self.crowd.census();
        census.total = census.total.saturating_sub(1);
        let here = census.by_visitor.remove(&self.visitor).unwrap_or(0);
        if here > 1 {
            census.by_visitor.insert(self.visitor.clone(), here - 1);
        }
    }
}

/// Who has not shown a certificate, by where it comes from.
#[derive(Debug)]
pub(super) struct Strangers {
    households: Arc<Crowd<IpAddr>>,
    /// Of IPv6: one owner of addresses has hundreds of households, and gets half of all places.
    estates: Arc<Crowd<IpAddr>>,
}

/// A stranger's place.
#[derive(Debug)]
pub(super) struct Stranger {
    _household: Place<IpAddr>,
    _estate: Option<Place<IpAddr>>,
}

impl Strangers {
    pub(super) fn new(most: usize, most_each: usize) -> Self {
        Self {
            households: Crowd::new(most, most_each),
            estates: Crowd::new(usize::MAX, most.div_ceil(2)),
        }
    }

    pub(super) fn enter(&self, remote: IpAddr) -> Result<Stranger, Full> {
        let estate = prefix::estate(remote).map(|estate| self.estates.enter(estate));
        Ok(Stranger {
            _estate: estate.transpose()?,
            _household: self.households.enter(prefix::household(remote))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    #[test]
    fn there_is_room_up_to_both_limits_and_again_after_leaving() {
        let crowd = Crowd::new(3, 2);
        let (first, second) = (crowd.enter("a"), crowd.enter("a"));
        assert_eq!(crowd.enter("a").unwrap_err(), Full::Visitor);
        let third = crowd.enter("b");
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        assert_eq!(crowd.enter("c").unwrap_err(), Full::House);
        drop(first);
        assert!(crowd.enter("c").is_ok());
        drop((second, third));
        assert_eq!(crowd.total(), 0);
        assert!(crowd.census().by_visitor.is_empty());
    }

    #[test]
    fn neither_a_few_addresses_nor_the_networks_of_one_owner_lock_a_box_out() {
        let limits = Limits::default();
        let strangers = Strangers::new(limits.strangers, limits.strangers_per_address);
        let crowd = |from: &dyn Fn(usize) -> String| -> Vec<Stranger> {
            let all = (0..2_000).map(|number| from(number).parse().unwrap());
            all.filter_map(|address| strangers.enter(address).ok())
                .collect()
        };
        let box_address: IpAddr = "203.0.113.9".parse().unwrap();
        let few = crowd(&|number| format!("192.0.2.{}", number % 8));
        assert_eq!(few.len(), 8 * limits.strangers_per_address);
        drop(strangers.enter(box_address).unwrap());
        let home = crowd(&|number| format!("2001:db8:0:{:x}::{number:x}", number % 256));
        assert_eq!(home.len(), limits.strangers / 2);
        drop(strangers.enter(box_address).unwrap());
        drop((few, home));
        assert_eq!(strangers.households.total() + strangers.estates.total(), 0);
    }
}
