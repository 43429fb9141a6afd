//! The operator's desk: one neighbour in full, and the orders that are given it.
//!
//! The neighbour's task tells what it hears, says and holds; [`super::Handle`] shows it and passes
//! orders on. Everything is bounded, and nothing that a neighbour sends is shown unescaped.

use super::Config;
use super::KernelRouteView;
use super::NeighbourConfig;
use super::Snapshot;
use super::detail::Change;
use super::detail::Detail;
use super::detail::FamilyFlags;
use super::detail::Kind;
use super::detail::Messages;
use super::detail::Spoken;
use super::detail::Timers;
use super::detail::Told;
use super::limits;
use super::limits::Held;
use super::metrics::Counters;
use super::mrt;
use super::tap::Tap;
use super::wire::FaultKind;
use crate::clock;
use crate::help;
use crate::lock::lock;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Asn;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Orders that wait for a neighbour's task; an operator gives one at a time.
const ORDERS: usize = 4;

/// Ends and beginnings of the session that are remembered.
const HISTORY: usize = 16;

/// For a neighbour's task to take up what an operator wants.
const ORDER_TIME: Duration = Duration::from_secs(5);

/// What an operator wants of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Whatever holds it down is over.
    Up,
    /// CEASE 6/2 with a text for the neighbour's operator (RFC 9003); down until `Up`, or until
    /// the daemon starts again.
    Down(String),
    /// CEASE 6/4 with a text, and a session anew.
    Reset(String),
    /// Ask the neighbour to send its routes again (RFC 2918); of both families if none is named.
    Refresh(Option<Family>),
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("no BGP neighbour is called `{name}`; `oca show bgp` lists {known}")]
    Unknown { name: String, known: String },
    #[error("`{name}` may mean {meant}; write more of it")]
    Ambiguous { name: String, meant: String },
    #[error("this session is not established, so there is nobody to ask; see `oca show bgp`")]
    NotEstablished,
    #[error(
        "this router does not offer to send its routes again (RFC 2918); `oca bgp down` and `oca \
         bgp up` have them sent anew"
    )]
    NoRefresh,
    #[error("the session's task has not taken up the orders before this one; try again")]
    Busy,
    #[error("the BGP speaker is stopping")]
    Stopping,
}

/// An order on its way, with the place for the answer.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<(), OrderError>>,
}

/// One neighbour, as its task and the operators see it.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) tap: Arc<Tap>,
    neighbour: NeighbourConfig,
    own: Asn,
    orders: mpsc::Sender<Ordered>,
    counters: Arc<Counters>,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    local: Option<IpAddr>,
    ours: Option<Spoken>,
    theirs: Option<Spoken>,
    sent: Messages,
    received: Messages,
    history: VecDeque<Change>,
    sent_error: Option<Told>,
    received_error: Option<Told>,
    end_of_rib: [bool; 2],
    held: Held,
    dropped: u64,
    announced: Vec<Prefix>,
    kernel_routes: Vec<KernelRouteView>,
    is_down: bool,
}

impl Desk {
    pub(super) fn new(
        config: &Config,
        neighbour: &NeighbourConfig,
        tap: Arc<Tap>,
        counters: Arc<Counters>,
    ) -> (Self, mpsc::Receiver<Ordered>) {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let desk = Self {
            tap,
            neighbour: neighbour.clone(),
            own: config.asn,
            orders,
            counters,
            shown: Mutex::default(),
        };
        (desk, receiver)
    }

    /// Gives an order to the neighbour's task and waits, for seconds, until it was carried out.
    pub(super) async fn order(&self, order: Order) -> Result<(), OrderError> {
        let (reply, answer) = oneshot::channel();
        let ordered = Ordered { order, reply };
        self.orders.try_send(ordered).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => OrderError::Busy,
            mpsc::error::TrySendError::Closed(_) => OrderError::Stopping,
        })?;
        match clock::within(ORDER_TIME, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(OrderError::Stopping),
            Err(_) => Err(OrderError::Busy),
        }
    }

    pub(super) fn connected(&self, local: IpAddr) {
        self.shown().local = Some(local);
    }

    /// A whole message that the neighbour sent.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut shown = self.shown();
        if shown.received.count(bytes) == Some(Kind::Open)
            && let Some(spoken) = Spoken::of(bytes)
        {
            shown.theirs = Some(spoken);
        }
        self.record(&shown, bytes, mrt::Direction::Received);
    }

    /// A whole message of ours.
    pub(super) fn sent(&self, bytes: &[u8]) {
        let mut shown = self.shown();
        if shown.sent.count(bytes) == Some(Kind::Open)
            && let Some(spoken) = Spoken::of(bytes)
        {
            shown.ours = Some(spoken);
        }
        self.record(&shown, bytes, mrt::Direction::Sent);
    }

    pub(super) fn notified(&self, words: &str, direction: mrt::Direction) {
        let told = Some(Told {
            at: now(),
            error: words.to_owned(),
        });
        match direction {
            mrt::Direction::Sent => self.shown().sent_error = told,
            mrt::Direction::Received => self.shown().received_error = told,
        }
    }

    pub(super) fn up(&self) {
        let mut shown = self.shown();
        shown.remember("up", None);
        self.record_state(&shown, mrt::OPEN_CONFIRM, mrt::ESTABLISHED);
    }

    pub(super) fn down(&self, why: Option<String>) {
        let mut shown = self.shown();
        shown.remember("down", why);
        shown.end_of_rib = [false; 2];
        (shown.held, shown.dropped) = (Held::default(), 0);
        shown.announced.clear();
        self.record_state(&shown, mrt::ESTABLISHED, mrt::IDLE);
    }

    pub(super) fn end_of_rib(&self, family: Family) {
        self.shown().end_of_rib[place(family)] = true;
    }

    pub(super) fn holds(&self, held: Held, dropped: u64) {
        let mut shown = self.shown();
        (shown.held, shown.dropped) = (held, dropped);
    }

    pub(super) fn announces(&self, prefixes: &[Prefix]) {
        self.shown().announced = prefixes.to_vec();
    }

    /// What the box's own kernel has from this neighbour, or should have.
    pub(super) fn kernel_routes(&self, routes: Vec<KernelRouteView>) {
        self.shown().kernel_routes = routes;
    }

    pub(super) fn set_down(&self, is_down: bool) {
        self.shown().is_down = is_down;
    }

    pub(super) fn is_down(&self) -> bool {
        self.shown().is_down
    }

    /// The neighbour's BGP identifier, once it has told it.
    pub(super) fn router_id(&self) -> Option<Ipv4Addr> {
        self.shown().theirs.as_ref().map(|theirs| theirs.router_id)
    }

    pub(super) fn detail(&self) -> Detail {
        let shown = self.shown();
        let both = shown.ours.as_ref().zip(shown.theirs.as_ref());
        let hold = both.map(|(ours, theirs)| ours.hold_time_s.min(theirs.hold_time_s));
        let [ipv4, ipv6] = shown.end_of_rib;
        let faults = FaultKind::ALL.into_iter();
        let faults = faults.map(|kind| (kind, self.counters.faults[kind.index()].load(Relaxed)));
        Detail {
            administratively_down: shown.is_down,
            local_address: shown.local,
            sent_open: shown.ours.clone(),
            received_open: shown.theirs.clone(),
            timers: Timers {
                hold_time_s: hold,
                keepalive_s: hold.map(|hold| hold / 3),
                connect_retry_s: self.neighbour.connect_retry.as_secs(),
            },
            sent: shown.sent,
            received: shown.received,
            malformed: faults
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| (kind.as_str(), count))
                .collect(),
            history: shown.history.iter().cloned().collect(),
            last_error_sent: shown.sent_error.clone(),
            last_error_received: shown.received_error.clone(),
            end_of_rib: FamilyFlags { ipv4, ipv6 },
            limits: limits::views(&self.neighbour, &shown.held),
            dropped: shown.dropped,
            announced: shown.announced.clone(),
            kernel_routes: shown.kernel_routes.clone(),
        }
    }

    fn record(&self, shown: &Shown, bytes: &[u8], direction: mrt::Direction) {
        if self.tap.is_open() {
            let session = self.session(shown);
            let record = mrt::message(clock::wall(), &session, direction, bytes);
            self.tap.put(clock::now(), record);
        }
    }

    fn record_state(&self, shown: &Shown, from: u16, to: u16) {
        if self.tap.is_open() {
            let session = self.session(shown);
            let record = mrt::state_change(clock::wall(), &session, from, to);
            self.tap.put(clock::now(), record);
        }
    }

    fn session(&self, shown: &Shown) -> mrt::Session {
        let speaks = |spoken: &Option<Spoken>| spoken.as_ref().is_some_and(|s| s.four_octets);
        mrt::Session {
            neighbour: (self.neighbour.asn, self.neighbour.address),
            own: (self.own, shown.local),
            four_octets: speaks(&shown.ours) && speaks(&shown.theirs),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // Plain values that are replaced whole: a panic elsewhere leaves nothing half done.
        lock(&self.shown)
    }
}

impl Shown {
    fn remember(&mut self, to: &'static str, why: Option<String>) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        let at = now();
        self.history.push_back(Change { at, to, why });
    }
}

impl Snapshot {
    /// The neighbour whose name this is, or unambiguously begins so.
    pub fn meant(&self, name: &str) -> Result<usize, OrderError> {
        let names: Vec<&str> = self.neighbours.iter().map(|n| &*n.name).collect();
        meant(&names, name)
    }
}

/// The neighbour that a name or its unambiguous beginning means.
pub(super) fn meant(names: &[&str], name: &str) -> Result<usize, OrderError> {
    if let Some(exact) = names.iter().position(|known| *known == name) {
        return Ok(exact);
    }
    let is_meant = |known: &&str| !name.is_empty() && known.starts_with(name);
    let found: Vec<&str> = names.iter().copied().filter(is_meant).collect();
    let shown = help::printable(name.as_bytes(), 64);
    match found[..] {
        [one] => Ok(names.iter().position(|known| *known == one).unwrap_or(0)),
        [] => Err(OrderError::Unknown {
            name: shown,
            known: names.join(", "),
        }),
        _ => Err(OrderError::Ambiguous {
            name: shown,
            meant: found.join(" or "),
        }),
    }
}

fn place(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

fn now() -> String {
    format!("{:.3}", clock::wall())
}

#[cfg(test)]
mod tests {
    use super::super::detail::CAPABILITIES;
    use super::super::tests_support;
    use super::super::wire;
    use super::super::wire::Capabilities;
    use super::super::wire::Capability;
    use super::super::wire::Open;
    use super::*;

    fn desk() -> Desk {
        let neighbour = tests_support::neighbour("edge", Asn(64500));
        let config = tests_support::config(Asn(64510), vec![neighbour.clone()]);
        Desk::new(&config, &neighbour, Arc::default(), Arc::default()).0
    }

    #[test]
    fn a_name_is_meant_by_its_beginning_as_long_as_only_one_begins_so() {
        let names = ["edge-1", "edge-10", "transit"];
        assert_eq!(meant(&names, "edge-1"), Ok(0), "exact before longer");
        assert_eq!(meant(&names, "t"), Ok(2));
        let told = meant(&names, "edge").unwrap_err().to_string();
        assert_eq!(told, "`edge` may mean edge-1 or edge-10; write more of it");
        let told = meant(&names, "x\n").unwrap_err().to_string();
        assert!(
            told.contains("x\\n") && told.contains("edge-1, edge-10"),
            "{told}"
        );
        assert!(meant(&names, "").is_err());
    }

    #[test]
    fn messages_are_counted_opens_are_shown_and_the_rest_is_bounded() {
        let desk = desk();
        let open = |hold_time, capabilities: &[Capability<'_>]| {
            wire::open(&Open {
                asn: Asn(64500),
                hold_time,
                router_id: Ipv4Addr::new(192, 0, 2, 1),
                capabilities: Capabilities::of(capabilities),
            })
        };
        desk.sent(&open(90, &[Capability::FourOctetAs(Asn(64500))]));
        desk.received(&open(30, &[Capability::RouteRefresh; 40]));
        desk.received(&wire::route_refresh(Family::Ipv4));
        for _ in 0..3 {
            desk.sent(&wire::keepalive());
        }
        for _ in 0..2 {
            desk.counters.fault(FaultKind::ALL[3]);
        }
        for number in 0..20 {
            desk.up();
            desk.down(Some(format!("{number}")));
        }
        let detail = desk.detail();
        assert_eq!(detail.timers.hold_time_s, Some(30));
        assert_eq!(detail.timers.keepalive_s, Some(10));
        assert_eq!((detail.sent.keepalive, detail.sent.open), (3, 1));
        assert_eq!(
            (detail.received.open, detail.received.route_refresh),
            (1, 1)
        );
        let theirs = detail.received_open.unwrap();
        assert_eq!(theirs.capabilities.len(), CAPABILITIES);
        let faults: Vec<_> = detail.malformed.into_iter().collect();
        assert_eq!(faults, [(FaultKind::ALL[3].as_str(), 2)]);
        assert_eq!(detail.history.len(), HISTORY);
        assert_eq!(detail.history[HISTORY - 1].why.as_deref(), Some("19"));
    }
}
