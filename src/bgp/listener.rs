//! Connections that routers make: whose they are, and how many are let in.
//!
//! One task an address. Nothing is read here: an unknown address is closed as it came, a known one
//! goes to its neighbour's task.
//!
//! I/O: accepts.

use super::metrics::Counters;
use super::net::Expected;
use super::net::Link;
use super::net::Listener;
use crate::clock;
use crate::clock::Instant;
use crate::telemetry::LogLimit;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// Connections that a neighbour may make at once…
const BURST: u32 = 5;

/// …and then one in each such time. A router retries in seconds; what comes faster is a fault.
const REFILL: Duration = Duration::from_secs(1);

/// After an error of `accept`, which is ours (no descriptors) and will not pass at once.
const PAUSE: Duration = Duration::from_millis(100);

const LOG_EVERY: Duration = Duration::from_secs(10);

/// The way in for one neighbour.
#[derive(Debug)]
pub(super) struct Door {
    expected: Expected,
    passive: bool,
    arrivals: mpsc::Sender<Link>,
    rate: Mutex<Rate>,
    counters: Arc<Counters>,
}

/// A token bucket.
#[derive(Debug)]
struct Rate {
    tokens: u32,
    refilled: Instant,
}

/// Why a connection was closed as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("no neighbour has this address; add a [[bgp.neighbour]] or look who that is")]
    Unknown,
    #[error(
        "several neighbours have this address; give each a local_address of its own, or let \
         only one of them be passive"
    )]
    Ambiguous,
    #[error("this neighbour connects too often")]
    TooFast,
    #[error("this neighbour's earlier connections are still being dealt with")]
    Busy,
}

impl Door {
    pub(super) fn new(
        expected: Expected,
        passive: bool,
        arrivals: mpsc::Sender<Link>,
        counters: Arc<Counters>,
        now: Instant,
    ) -> Self {
        Self {
            expected,
            passive,
            arrivals,
            rate: Mutex::new(Rate {
                tokens: BURST,
                refilled: now,
            }),
            counters,
        }
    }
}

impl Rate {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled);
        let whole = passed.as_secs() / REFILL.as_secs();
        if whole > 0 {
            let earned = u32::try_from(whole).unwrap_or(BURST);
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.refilled = now;
        }
        let has = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        has
    }
}

/// Ends with its task only.
pub(super) async fn run(
    mut listener: Box<dyn Listener>,
    doors: Arc<[Door]>,
    mut expected: watch::Receiver<Arc<[Expected]>>,
) {
    let mut limit = LogLimit::new(LOG_EVERY);
    loop {
        let accepted = tokio::select! {
            biased;
            Ok(()) = expected.changed() => None,
            accepted = listener.accept() => Some(accepted),
        };
        let Some(accepted) = accepted else {
            let keys = Arc::clone(&expected.borrow_and_update());
            if let Err(error) = listener.expect(&keys) {
                tracing::error!(%error, "a BGP listener cannot take another password; restart oca");
            }
            continue;
        };
        let link = match accepted {
            Ok(link) => link,
            Err(error) => {
                if let Some(left_out) = limit.step(clock::now()) {
                    tracing::warn!(%error, left_out, "a BGP connection cannot be accepted");
                }
                clock::sleep(PAUSE).await;
                continue;
            }
        };
        let remote = link.remote;
        if let Err(refusal) = admit(link, &doors, clock::now())
            && let Some(left_out) = limit.step(clock::now())
        {
            tracing::warn!(%remote, left_out, "BGP connection refused: {refusal}");
        }
    }
}

fn admit(link: Link, doors: &[Door], now: Instant) -> Result<(), Refusal> {
    let (remote, local) = (link.remote, link.local.ip());
    let fits = |door: &&Door| door.expected.fits(remote, local);
    let candidates: Vec<&Door> = doors.iter().filter(fits).collect();
    let door = match candidates[..] {
        [] => return Err(Refusal::Unknown),
        [door] => door,
        // Told apart by their ports, which only our own connections know: who waits is meant.
        _ => match candidates
            .iter()
            .filter(|door| door.passive)
            .collect::<Vec<_>>()[..]
        {
            [door] => door,
            _ => return Err(Refusal::Ambiguous),
        },
    };
    let refused = |refusal| {
        door.counters.refused.fetch_add(1, Relaxed);
        Err(refusal)
    };
    let may = door
        .rate
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take(now);
    if !may {
        return refused(Refusal::TooFast);
    }
    door.arrivals
        .try_send(link)
        .or_else(|_| refused(Refusal::Busy))
}

#[cfg(test)]
mod tests {
    use super::super::NeighbourConfig;
    use super::super::net::Guard;
    use super::super::tests_support::neighbour;
    use super::*;
    use crate::route::Asn;

    fn link(remote: &str, local: &str) -> Link {
        let (stream, _) = tokio::io::duplex(64);
        Link {
            stream: Box::new(stream),
            local: format!("{local}:179").parse().unwrap(),
            remote: format!("{remote}:40000").parse().unwrap(),
        }
    }

    fn door(config: &NeighbourConfig) -> (Door, mpsc::Receiver<Link>) {
        let (sender, receiver) = mpsc::channel(BURST as usize + 5);
        let expected = Expected {
            address: config.address,
            local: config.local_address,
            guard: Guard::default(),
        };
        let passive = config.passive;
        let door = Door::new(expected, passive, sender, Arc::default(), clock::now());
        (door, receiver)
    }

    #[test]
    fn strangers_and_the_undecidable_are_refused_and_twins_told_apart_by_our_address() {
        let plain = neighbour("plain", Asn(64500));
        let twin = |name: &str, local: &str| NeighbourConfig {
            address: "198.51.100.1".parse().unwrap(),
            local_address: Some(local.parse().unwrap()),
            ..neighbour(name, Asn(64501))
        };
        let (first, mut at_first) = door(&plain);
        let (second, mut at_second) = door(&twin("left", "203.0.113.1"));
        let (third, mut at_third) = door(&twin("right", "203.0.113.2"));
        let mut doors = vec![first, second, third];
        let now = clock::now();
        let admitted = |remote, local| admit(link(remote, local), &doors, now);
        assert_eq!(admitted("192.0.2.99", "203.0.113.1"), Err(Refusal::Unknown));
        assert_eq!(
            admitted("198.51.100.1", "203.0.113.9"),
            Err(Refusal::Unknown)
        );
        assert_eq!(admitted("192.0.2.1", "203.0.113.1"), Ok(()));
        assert_eq!(admitted("198.51.100.1", "203.0.113.2"), Ok(()));
        assert!(at_first.try_recv().is_ok() && at_third.try_recv().is_ok());
        assert!(at_second.try_recv().is_err());
        doors[1].expected.local = None;
        doors[2].expected.local = None;
        let ambiguous = admit(link("198.51.100.1", "203.0.113.2"), &doors, now);
        assert_eq!(ambiguous, Err(Refusal::Ambiguous));
        doors[1].passive = true;
        admit(link("198.51.100.1", "203.0.113.2"), &doors, now).unwrap();
        assert!(at_second.try_recv().is_ok());
    }

    #[test]
    fn a_neighbour_that_hammers_is_let_in_once_a_second() {
        let (door, _queue) = door(&neighbour("one", Asn(64500)));
        let (doors, now) = ([door], clock::now());
        let admitted = |at| admit(link("192.0.2.1", "203.0.113.1"), &doors, at);
        for _ in 0..BURST {
            assert_eq!(admitted(now), Ok(()));
        }
        assert_eq!(admitted(now), Err(Refusal::TooFast));
        let later = now + REFILL;
        assert_eq!(admitted(later), Ok(()));
        assert_eq!(admitted(later), Err(Refusal::TooFast));
        assert_eq!(doors[0].counters.refused.load(Relaxed), 2);
    }
}
