//! Places, in all and for each visitor: strangers by address, askers by name. Never waits.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
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

/// One network of IPv6 has a /64 of addresses to come from.
pub(super) fn household(remote: IpAddr) -> IpAddr {
    match remote.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(bits))
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn a_network_of_ipv6_is_one_household_and_mapped_addresses_are_ipv4() {
        let of = |text: &str| household(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
