//! What the two routers have in common: how a session is set up, what is announced on it, what can
//! be done to it.

use crate::bird::Bird;
use crate::gobgp::Gobgp;
use crate::harness::Process;
use crate::pair::Pair;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    Bird,
    Gobgp,
}

/// The router's side of the session. The default: it connects and is connected to, IPv4 and IPv6,
/// nothing else is offered that can be left out.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) passive: bool,
    pub(crate) password: Option<&'static str>,
    pub(crate) ttl_security: bool,
    pub(crate) hold_s: u32,
    pub(crate) graceful_restart: bool,
    pub(crate) add_paths: bool,
    /// BIRD alone can.
    pub(crate) extended_messages: bool,
    /// BIRD alone can leave it out.
    pub(crate) four_octets: bool,
    /// Routes of IPv4; half as many of IPv6 where the make can announce many at once.
    pub(crate) routes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            passive: false,
            password: None,
            ttl_security: false,
            hold_s: 90,
            graceful_restart: false,
            add_paths: false,
            extended_messages: false,
            four_octets: true,
            routes: 20,
        }
    }
}

pub(crate) fn ipv4(n: u32) -> String {
    format!("10.{}.{}.0/24", n >> 8, n & 255)
}

pub(crate) fn ipv6(n: u32) -> String {
    format!("2001:db8:{:x}::/48", n + 0x1000)
}

/// A running router; dropping it kills the process by its id.
pub(crate) trait Router {
    /// What it announces, as `oca show routes` writes it.
    fn announced(&self) -> BTreeSet<String>;
    /// Other routes instead.
    fn announce(&mut self, routes: u32);
    /// What its operator does: ends the session with words, and begins it again.
    fn disable(&self, words: &str);
    fn enable(&self);
    fn daemon(&mut self) -> &mut Process;
    /// Its id.
    fn process(&mut self) -> u32 {
        self.daemon().id()
    }
    /// SIGKILL.
    fn kill(&mut self) {
        self.daemon().kill();
    }
    /// After [`Self::kill`].
    fn start_again(&mut self);
    /// What it says of the session, for people.
    fn says(&self) -> String;
    fn is_established(&self) -> bool;
    /// Everything that it has logged.
    fn log(&self) -> String;
}

impl Make {
    /// All `cases` with both makes at once: most of their time is waiting.
    pub(crate) fn each<C: Sync>(cases: &[C], test: impl Fn(Self, &C) + Sync) {
        std::thread::scope(|scope| {
            for make in [Self::Bird, Self::Gobgp] {
                for case in cases {
                    let test = &test;
                    scope.spawn(move || test(make, case));
                }
            }
        });
    }

    pub(crate) fn both(test: impl Fn(Self) + Sync) {
        Self::each(&[()], |make, ()| test(make));
    }

    pub(crate) fn start(self, pair: &Pair, settings: Settings) -> Box<dyn Router> {
        match self {
            Self::Bird => Box::new(Bird::start(pair, settings)),
            Self::Gobgp => Box::new(Gobgp::start(pair, settings)),
        }
    }
}
