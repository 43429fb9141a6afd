//! Open connections of one listener, in all and by address. Both of the control plane's doors to
//! the network count theirs here. Never waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Census>);

#[derive(Debug, Default)]
struct Census {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; leaving is dropping it.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) connections: usize,
    pub(super) connections_per_address: usize,
}

impl Crowd {
    /// `None`: full, in all or for this address.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, room: Room) -> Option<Place> {
        let address = household(peer);
        let mut census = self.census();
        if census.total >= room.connections {
            return None;
        }
        let here = census.by_address.entry(address).or_default();
        if *here >= room.connections_per_address {
            return None;
        }
        *here += 1;
        census.total += 1;
        Some(Place {
            crowd: self.clone(),
            address,
        })
    }

    pub(super) fn total(&self) -> usize {
        self.census().total
    }

    fn census(&self) -> MutexGuard<'_, Census> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut census = self.crowd.census();
        census.total = census.total.saturating_sub(1);
        if let Some(here) = census.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                census.by_address.remove(&self.address);
            }
        }
    }
}

/// One IPv6 home has a /64 of addresses to come from.
fn household(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
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
        let room = Room {
            connections: 3,
            connections_per_address: 2,
        };
        let crowd = Arc::new(Crowd::default());
        let enter = |peer: &str| crowd.enter(peer.parse().unwrap(), room);
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none());
        let _third = enter("192.0.2.1").unwrap();
        assert!(enter("198.51.100.1").is_none());
        drop(first);
        let _again = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        assert_eq!(crowd.total(), 3);
    }

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let crowd = Arc::<Crowd>::default();
        let room = Room {
            connections: 3,
            connections_per_address: 2,
        };
        let enter = |text: &str| crowd.enter(text.parse().unwrap(), room);
        let first = enter("2001:db8::1");
        let second = enter("2001:db8::2");
        assert!(first.is_some() && second.is_some());
        assert!(enter("2001:db8::3").is_none(), "a /64 is one address");
        let third = enter("192.0.2.1");
        assert!(third.is_some() && enter("192.0.2.2").is_none(), "full");
        drop((first, second));
        assert_eq!(crowd.total(), 1);
        assert!(enter("2001:db8::3").is_some());
    }
}
