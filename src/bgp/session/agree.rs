//! What we offer in our OPEN, and what comes of it with the neighbour's.

use super::Families;
use super::Settings;
use crate::bgp::options;
use crate::bgp::wire::AddPath;
use crate::bgp::wire::Capability;
use crate::bgp::wire::Fault;
use crate::bgp::wire::GracefulRestart;
use crate::bgp::wire::Kept;
use crate::bgp::wire::LongLived;
use crate::bgp::wire::Negotiated;
use crate::bgp::wire::Notification;
use crate::bgp::wire::Open;
use crate::bgp::wire::Role;
use crate::help;
use crate::prefix::Family;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a neighbour should wait for us while we restart: a box is back within seconds, and
/// one that is repaired for longer has nothing to be kept for.
const RESTART_SECONDS: u16 = 120;

/// Of a neighbour's name that is shown.
const HOSTNAME_BYTES_MAX: usize = 128;

/// RFC 9234 section 4.2.
pub(super) const ROLE_MISMATCH: Fault = Fault(2, 11);

/// What both OPENs together mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) negotiated: Negotiated,
    /// The smaller of both.
    pub(super) hold: Duration,
    pub(super) router_id: Ipv4Addr,
    pub(super) refresh: Refreshing,
    /// `None`: routes go with the session.
    pub(super) restart: Option<Restart>,
    pub(super) role: Option<Role>,
    /// Printable.
    pub(super) hostname: Option<String>,
}

/// Whether the neighbour can send its routes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refreshing {
    Never,
    /// RFC 2918.
    Plain,
    /// RFC 7313: with a beginning and an end.
    Enhanced,
}

/// What the neighbour asked for, for the time of its restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restart {
    pub(super) time: Duration,
    /// After a NOTIFICATION too (RFC 8538).
    pub(super) notification: bool,
    pub(super) ipv4: KeptFamily,
    pub(super) ipv6: KeptFamily,
}

/// What it says of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptFamily {
    /// Routes may outlive the session.
    pub(super) is_named: bool,
    /// It went on forwarding through the restart that it has just had.
    pub(super) forwarding: bool,
    /// Time after the restart time (RFC 9494); zero: none.
    pub(super) long_lived: Duration,
    /// The same as `forwarding`, for a restart that took so long.
    pub(super) long_forwarding: bool,
}

impl Restart {
    pub(super) fn family(&self, family: Family) -> KeptFamily {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }
}

impl Settings {
    fn external(&self) -> bool {
        self.asn != self.neighbour_asn
    }

    fn our_role(&self) -> Option<Role> {
        self.options.role.said(self.class, self.external())
    }

    fn keeps_routes(&self) -> bool {
        !self.options.graceful_restart.is_zero()
    }

    /// Both families are named with their forwarding state lost, because a box forwards nothing: a
    /// neighbour keeps what we announce for a restart, waits for our End-of-RIB, and takes a second
    /// connection of ours for a restart instead of a collision. `restarted`: it need not wait.
    pub(super) fn offered(&self, restarted: bool) -> Vec<Capability<'static>> {
        let mut list = vec![
            Capability::unicast(Family::Ipv4),
            Capability::unicast(Family::Ipv6),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::FourOctetAs(self.asn),
            Capability::ExtendedMessage,
            Capability::ExtendedNextHop { ipv4: true },
        ];
        if self.keeps_routes() {
            let kept = Some(Kept { forwarding: false });
            list.push(Capability::GracefulRestart(GracefulRestart {
                restarted,
                notification: true,
                seconds: RESTART_SECONDS,
                ipv4: kept,
                ipv6: kept,
            }));
            if !self.options.long_lived.is_zero() {
                // Of ours nothing is to be kept that long.
                let (ipv4, ipv6) = (Some(LongLived::default()), Some(LongLived::default()));
                list.push(Capability::LongLivedGracefulRestart { ipv4, ipv6 });
            }
        }
        if self.options.add_path {
            let receive = Some(AddPath::Receive);
            let (ipv4, ipv6) = (receive, receive);
            list.push(Capability::AddPath { ipv4, ipv6 });
        }
        list.extend(self.our_role().map(Capability::Role));
        list
    }

    /// RFC 4271 section 6.2, in the order of the fields.
    pub(super) fn agree(&self, open: &Open<'_>) -> Result<Agreed, Notification> {
        if open.asn != self.neighbour_asn {
            return Err(Fault::BAD_PEER_AS.into());
        }
        // RFC 4271 section 4.2 lets us refuse zero, and we do: a dead router's routes would stay
        // for ever.
        if open.hold_time == 0 {
            return Err(Fault::BAD_HOLD_TIME.into());
        }
        // RFC 6286 section 2.1: unique within an AS.
        let external = self.external();
        if !external && open.router_id == self.router_id {
            return Err(Fault::BAD_IDENTIFIER.into());
        }
        let mut agreed = Agreed {
            negotiated: Negotiated {
                four_octets: open.speaks_four_octets(),
                ipv4: open.speaks(Family::Ipv4),
                ipv6: open.speaks(Family::Ipv6),
                external,
                ..Negotiated::default()
            },
            hold: Duration::from_secs(open.hold_time.into()).min(self.hold_time),
            router_id: open.router_id,
            refresh: Refreshing::Never,
            restart: None,
            role: None,
            hostname: None,
        };
        if !agreed.negotiated.ipv4 && !agreed.negotiated.ipv6 {
            // RFC 5492 section 3: what would have been needed.
            let data = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1];
            return Err(Notification::new(Fault::UNSUPPORTED_CAPABILITY, data));
        }
        let mut long_lived = (None, None);
        for capability in open.capabilities {
            self.take(capability, &mut agreed, &mut long_lived)?;
        }
        if let Some(restart) = &mut agreed.restart {
            for (kept, long) in [
                (&mut restart.ipv4, long_lived.0),
                (&mut restart.ipv6, long_lived.1),
            ] {
                if let Some(LongLived {
                    forwarding,
                    seconds,
                }) = long
                {
                    let asked = Duration::from_secs(seconds.into());
                    kept.long_lived = asked.min(self.options.long_lived);
                    kept.long_forwarding = forwarding;
                }
            }
        }
        self.check_role(agreed.role)?;
        Ok(agreed)
    }

    /// One capability of the neighbour's.
    fn take(
        &self,
        capability: Capability<'_>,
        agreed: &mut Agreed,
        long_lived: &mut (Option<LongLived>, Option<LongLived>),
    ) -> Result<(), Notification> {
        let negotiated = &mut agreed.negotiated;
        match capability {
            Capability::RouteRefresh if agreed.refresh == Refreshing::Never => {
                agreed.refresh = Refreshing::Plain;
            }
            Capability::EnhancedRouteRefresh => agreed.refresh = Refreshing::Enhanced,
            Capability::ExtendedMessage => negotiated.extended_messages = true,
            Capability::ExtendedNextHop { ipv4 } => negotiated.extended_next_hop = ipv4,
            Capability::AddPath { ipv4, ipv6 } if self.options.add_path => {
                negotiated.add_path_ipv4 = ipv4.is_some_and(|way| way.sends());
                negotiated.add_path_ipv6 = ipv6.is_some_and(|way| way.sends());
            }
            Capability::GracefulRestart(restart) if self.keeps_routes() => {
                agreed.restart = Some(Restart::from(restart));
            }
            Capability::LongLivedGracefulRestart { ipv4, ipv6 } => *long_lived = (ipv4, ipv6),
            // RFC 9234 section 4.2: the same twice is once, two are none.
            Capability::Role(role) => {
                if agreed.role.is_some_and(|before| before != role) {
                    return Err(ROLE_MISMATCH.into());
                }
                agreed.role = Some(role);
            }
            Capability::Hostname { host, domain } => {
                let name = [host, if domain.is_empty() { b"" } else { b"." }, domain].concat();
                agreed.hostname = Some(help::printable(&name, HOSTNAME_BYTES_MAX));
            }
            Capability::RouteRefresh
            | Capability::AddPath { .. }
            | Capability::GracefulRestart(_)
            | Capability::MultiProtocol { .. }
            | Capability::FourOctetAs(_)
            | Capability::Other { .. } => {}
        }
        Ok(())
    }

    fn check_role(&self, theirs: Option<Role>) -> Result<(), Notification> {
        let fits = match (self.our_role(), theirs) {
            (Some(ours), Some(theirs)) => options::roles_fit(ours, theirs),
            (Some(_), None) => !self.options.role_strict,
            (None, Some(_) | None) => true,
        };
        if fits {
            Ok(())
        } else {
            Err(ROLE_MISMATCH.into())
        }
    }
}

impl From<GracefulRestart> for Restart {
    fn from(said: GracefulRestart) -> Self {
        let family = |kept: Option<Kept>| KeptFamily {
            is_named: kept.is_some(),
            forwarding: kept.is_some_and(|kept| kept.forwarding),
            ..KeptFamily::default()
        };
        Self {
            time: Duration::from_secs(said.seconds.into()),
            notification: said.notification,
            ipv4: family(said.ipv4),
            ipv6: family(said.ipv6),
        }
    }
}

impl Agreed {
    /// Those that both sides speak.
    pub(super) fn families(&self) -> Families {
        Families {
            ipv4: self.negotiated.ipv4,
            ipv6: self.negotiated.ipv6,
        }
    }

    /// In words, for people.
    pub(super) fn words(&self) -> Vec<&'static str> {
        let said = &self.negotiated;
        let all = [
            (said.four_octets, "four-octet-as"),
            (self.refresh != Refreshing::Never, "route-refresh"),
            (
                self.refresh == Refreshing::Enhanced,
                "enhanced-route-refresh",
            ),
            (self.restart.is_some(), "graceful-restart"),
            (
                self.restart.is_some_and(|restart| restart.notification),
                "notification-restart",
            ),
            (said.add_path_ipv4, "add-path-ipv4"),
            (said.add_path_ipv6, "add-path-ipv6"),
            (said.extended_messages, "extended-messages"),
            (said.extended_next_hop, "extended-next-hop"),
        ];
        let held = all.into_iter().filter(|(held, _)| *held);
        held.map(|(_, word)| word).collect()
    }
}
