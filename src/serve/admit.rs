//! Who comes in: connection limits, and the gate with its lingering viewers.
//!
//! Called by `worker` for each connection and by `connection` for each request. Never waits.

use super::Limits;
use super::counters::Refusal;
use super::lately::Lately;
use crate::clock::Instant;
use crate::gate::Gate;
use crate::lock::lock;
use crate::prefix;
use crate::store::Household;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// Addresses remembered as viewers, in all; about 6 MB. When it is full the oldest half is
/// forgotten, which can only close a closing box to somebody earlier.
const RECENT_MAX: usize = 131_072;

/// A connection tells [`Recent`] of its fetches this often at most: the table is shared.
pub(super) const RECORD_EVERY: Duration = Duration::from_secs(1);

/// The address as viewers know it: IPv4 in its own form also when it came through an IPv6 socket.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Open connections, in all and by address. Shared by the workers.
#[derive(Debug, Default)]
pub(super) struct Population(Mutex<Census>);

#[derive(Debug, Default)]
struct Census {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    /// By /48 of IPv6.
    by_estate: HashMap<IpAddr, usize>,
}

/// One open connection's place; leaving is dropping it.
#[derive(Debug)]
pub(super) struct Slot {
    population: Arc<Population>,
    group: IpAddr,
}

/// When each address (IPv6: each /64, as the limits count) last fetched content. Shared by the
/// workers.
#[derive(Debug)]
pub(super) struct Recent(Lately<IpAddr>);

/// One worker's sight of the gate.
#[derive(Debug)]
pub(super) struct Door {
    gate: watch::Receiver<Gate>,
    closed: Option<Closed>,
}

#[derive(Clone, Debug)]
struct Closed {
    since: Instant,
    reasons: Arc<str>,
}

/// The door's answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Open,
    /// The box is closed, but this viewer was already watching.
    Lingering,
    /// 503, with the gate's reasons.
    Closed(Arc<str>),
}

/// Whose share of a disk a reader at `address` takes.
pub(super) fn household(address: IpAddr) -> Household {
    Household(match address.to_canonical() {
        IpAddr::V4(four) => u64::from(u32::from(four)),
        // Its network; those of IPv4's numbers are nobody's.
        IpAddr::V6(six) => u64::try_from(u128::from(six) >> 64).unwrap_or(u64::MAX),
    })
}

fn leave(places: &mut HashMap<IpAddr, usize>, who: IpAddr) {
    match places.get_mut(&who) {
        Some(left) if *left > 1 => *left -= 1,
        Some(_) | None => drop(places.remove(&who)),
    }
}

impl Population {
    /// Takes a place, or says which limit is reached: of all, or of those of one address. However
    /// many addresses a network of IPv6 has, half of all places are not its own.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        most: usize,
        most_per_address: usize,
    ) -> Result<Slot, Refusal> {
        let group = prefix::household(address);
        let mut census = lock(&self.0);
        if census.total >= most {
            return Err(Refusal::Connections);
        }
        let here = census.by_address.get(&group).copied().unwrap_or(0);
        if here >= most_per_address {
            return Err(Refusal::ConnectionsPerAddress);
        }
        if let Some(estate) = prefix::estate(address) {
            let there = census.by_estate.entry(estate).or_default();
            if *there >= most.div_ceil(2) {
                return Err(Refusal::ConnectionsPerAddress);
            }
            *there += 1;
        }
        census.by_address.insert(group, here + 1);
        census.total += 1;
        Ok(Slot {
            population: Arc::clone(self),
            group,
        })
    }

    /// Places taken.
    pub(super) fn count(&self) -> usize {
        lock(&self.0).total
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut census = lock(&self.population.0);
        census.total = census.total.saturating_sub(1);
        leave(&mut census.by_address, self.group);
        if let Some(estate) = prefix::estate(self.group) {
            leave(&mut census.by_estate, estate);
        }
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self::bounded(RECENT_MAX)
    }
}

impl Recent {
    fn bounded(most: usize) -> Self {
        Self(Lately::bounded(most))
    }

    /// `address` was answered with content.
    pub(super) fn record(&self, address: IpAddr, now: Instant) {
        self.0.record(prefix::household(address), now);
    }

    /// Did `address` fetch content within `time`?
    pub(super) fn fetched_within(&self, address: IpAddr, time: Duration, now: Instant) -> bool {
        self.0
            .fetched_within(&prefix::household(address), time, now)
    }
}

impl Door {
    pub(super) fn new(gate: watch::Receiver<Gate>, now: Instant) -> Self {
        let mut door = Self { gate, closed: None };
        door.look(now);
        door
    }

    /// Notes the gate as it is. The worker calls this when the gate changes, so that the time of
    /// closing is right even if nobody asks.
    pub(super) fn look(&mut self, now: Instant) {
        let gate = self.gate.borrow_and_update();
        self.closed = match &*gate {
            Gate::Serving => None,
            Gate::Closed(_) => {
                let since = self.closed.as_ref().map_or(now, |closed| closed.since);
                Some(Closed {
                    since,
                    reasons: gate.reasons_in_words().into(),
                })
            }
        };
    }

    /// May `address` be served now?
    pub(super) fn admits(
        &mut self,
        address: IpAddr,
        recent: &Recent,
        limits: &Limits,
        now: Instant,
    ) -> Admission {
        // An error means that the gate's owner is gone; its last word stands.
        if self.gate.has_changed().unwrap_or(false) {
            self.look(now);
        }
        let Some(closed) = &self.closed else {
            return Admission::Open;
        };
        let closed_for = now.saturating_duration_since(closed.since);
        if closed_for < limits.linger_limit
            && recent.fetched_within(address, limits.linger_time, now)
        {
            return Admission::Lingering;
        }
        Admission::Closed(Arc::clone(&closed.reasons))
    }

    /// For how long the gate has been closed, and why; `None` while it is open.
    pub(super) fn closed(&self, now: Instant) -> Option<(Duration, Arc<str>)> {
        let closed = self.closed.as_ref()?;
        let time = now.saturating_duration_since(closed.since);
        Some((time, Arc::clone(&closed.reasons)))
    }

    /// Waits for a change of the gate. For ever, once its owner is gone.
    pub(super) fn receiver(&self) -> watch::Receiver<Gate> {
        self.gate.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::gate::Reason;
    use crate::serve::tests_support::limits;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn limits_hold_in_all_and_by_address_and_leaving_frees_the_place() {
        let people = Arc::new(Population::default());
        let enter = |address: &str| people.enter(ip(address), 3, 2);
        // Two addresses of one /64 are one viewer.
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        let refused = enter("2001:db8::3").unwrap_err();
        assert_eq!(refused, Refusal::ConnectionsPerAddress);
        let _third = enter("2001:db8:1::1").unwrap();
        assert_eq!(enter("192.0.2.1").unwrap_err(), Refusal::Connections);
        drop(first);
        let fourth = enter("192.0.2.1").unwrap();
        drop(fourth);
        assert_eq!(lock(&people.0).by_address.len(), 2);
    }

    #[test]
    fn a_network_of_many_addresses_leaves_half_of_the_places_to_others() {
        let people = Arc::new(Population::default());
        let enter = |address: &str| people.enter(ip(address), 6, 2);
        let held: Vec<_> = (1..=3)
            .map(|home| enter(&format!("2001:db8:0:{home}::1")).unwrap())
            .collect();
        let refused = enter("2001:db8:0:4::1").unwrap_err();
        assert_eq!(refused, Refusal::ConnectionsPerAddress);
        let other = enter("2001:db8:1::1").unwrap();
        let fourth = enter("192.0.2.1").unwrap();
        drop((held, other, fourth));
        let census = lock(&people.0);
        assert!(census.by_address.is_empty() && census.by_estate.is_empty());
    }

    #[test]
    fn a_household_is_one_reader_of_a_disk() {
        let of = |text: &str| household(ip(text));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    }

    #[test]
    fn an_ipv4_viewer_is_the_same_viewer_through_either_socket() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "192.0.2.1:5");
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_of_viewers_is_bounded_and_forgets_the_oldest() {
        let recent = Recent::bounded(8);
        let now = clock::now();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        (0..100).for_each(|n| recent.record(address(n), now));
        let known = |n| recent.fetched_within(address(n), Duration::ZERO, now);
        assert!(!known(0) && known(99) && known(97));
        assert!(recent.0.len() <= 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_that_changes_its_ipv6_address_is_one_viewer_and_pushes_nobody_out() {
        let recent = Recent::bounded(8);
        let now = clock::now();
        recent.record(ip("192.0.2.1"), now);
        for host in 0..100_u16 {
            recent.record(ip(&format!("2001:db8::{host:x}")), now);
        }
        let known = |text| recent.fetched_within(ip(text), Duration::ZERO, now);
        assert!(known("192.0.2.1") && known("2001:db8::ffff"));
        assert!(!known("2001:db8:0:1::1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_box_serves_its_running_viewers_until_the_limit() {
        let (gate, receiver) = watch::channel(Gate::Serving);
        let recent = Recent::default();
        let limits = Limits {
            linger_time: Duration::from_secs(600),
            linger_limit: Duration::from_secs(7200),
            ..limits()
        };
        let mut door = Door::new(receiver, clock::now());
        let (runs, fresh) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let mut ask = |who| door.admits(who, &recent, &limits, clock::now());
        assert_eq!(ask(runs), Admission::Open);
        recent.record(runs, clock::now());
        gate.send_replace(Gate::Closed(vec![Reason::Drained]));
        assert_eq!(ask(runs), Admission::Lingering);
        assert_eq!(ask(fresh), Admission::Closed("drained".into()));
        tokio::time::advance(Duration::from_secs(601)).await;
        assert_eq!(ask(runs), Admission::Closed("drained".into()));
        // A viewer that goes on fetching stays until the box has been closed for the limit, which
        // a further reason does not begin anew.
        recent.record(runs, clock::now());
        gate.send_replace(Gate::Closed(vec![Reason::Drained, Reason::Stopping]));
        assert_eq!(ask(runs), Admission::Lingering);
        tokio::time::advance(Duration::from_secs(7200 - 601)).await;
        recent.record(runs, clock::now());
        assert_eq!(ask(runs), Admission::Closed("drained, stopping".into()));
        gate.send_replace(Gate::Serving);
        assert_eq!(ask(fresh), Admission::Open);
    }
}
