//! The control link as others see it: the gatekeeper, `oca show status`, metrics.
//!
//! `task` publishes a [`ControlView`] with each change. It holds points of time and not durations,
//! so that whoever looks later is told the truth.

use crate::clock::Boot;
use crate::clock::Wall;
use crate::help;
use crate::link::message::FillOrders;
use crate::link::message::GateState;
use crate::link::message::Position;
use crate::units;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// An error's text may quote whatever the other side wrote.
const ERROR_BYTES_MAX: usize = 400;

/// A time, a zone's name, a directory.
const FILL_WORD_BYTES_MAX: usize = 200;

/// Urgent directories that status shows; the count beside them is complete.
const URGENT_SHOWN_MAX: usize = 50;

/// How the box stands with its control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// No `[control]` in the configuration.
    #[default]
    Off,
    /// No certificate, or one that lapsed: a token is needed.
    Unenrolled,
    /// Not heard of in this life of the process.
    Connecting,
    Connected,
    /// It does not answer.
    Outage,
    /// It answers, and refuses this box: an operator must act.
    Refused,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlView {
    pub state: LinkState,
    /// When the state was entered.
    pub since: Option<Wall>,
    pub url: String,
    /// Bounded and printable; `None` when the last call of its kind succeeded.
    pub last_error: Option<String>,
    /// The control plane's last word that ruled. False before the first.
    pub enabled: bool,
    /// When the lease ends; `None` when none was granted.
    pub lease_ends: Option<Boot>,
    pub lease_fresh: bool,
    pub last_contact: Option<Wall>,
    pub last_report: Option<Wall>,
    pub last_heartbeat: Option<Wall>,
    /// The gate, as the control plane last took it.
    pub told: Option<GateState>,
    /// When the next report is due at the latest that is known.
    pub certificate_ends: Option<Wall>,
    pub manifest_held: Option<Position>,
    pub manifest_wanted: Option<Position>,
    /// The manifest that a report told which the control plane took: it knows what this box will
    /// delete by it.
    pub acknowledged: Option<Position>,
    /// Of the last reply that ruled: when and how the site fills.
    pub fill: Option<FillOrders>,
    /// Does the control plane's clock say the same as ours? `None` before it has spoken.
    pub clock_agrees: Option<bool>,
}

impl LinkState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Unenrolled => "unenrolled",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Outage => "outage",
            Self::Refused => "refused",
        }
    }
}

impl ControlView {
    /// Asked by the gatekeeper with its own `now`: right even if the task that publishes is late.
    pub fn is_lease_fresh(&self, now: Boot) -> bool {
        self.lease_ends.is_some_and(|ends| now < ends)
    }

    /// The member `control` of status.
    pub fn value(&self, now: Boot) -> Value {
        let time = |at: Option<Wall>| at.map(|at| format!("{at:.0}"));
        let ends_in = self.lease_ends.map(|ends| ends.saturating_since(now));
        json!({
            "state": self.state.as_str(),
            "since": time(self.since),
            "summary": self.summary(now),
            "url": self.url,
            "last_error": self.last_error,
            "enabled": self.enabled,
            "lease": {
                "fresh": self.is_lease_fresh(now),
                "ends_in_s": ends_in.map(|left| left.as_secs()),
            },
            "last_contact": time(self.last_contact),
            "last_report": time(self.last_report),
            "last_heartbeat": time(self.last_heartbeat),
            "certificate_ends": time(self.certificate_ends),
            "clock_agrees": self.clock_agrees,
            "manifest": {
                "held": self.manifest_held,
                "wanted": self.manifest_wanted,
                "acknowledged": self.acknowledged,
            },
            "fill": self.fill.as_ref().map(ordered),
        })
    }

    /// One sentence for people: since when it is silent, when the lease ends, what that means.
    pub fn summary(&self, now: Boot) -> String {
        let since = self.since.map(|at| format!(" since {at:.0}"));
        let since = since.unwrap_or_default();
        let lease = self.lease_in_words(now);
        match self.state {
            LinkState::Off => "no control plane is configured".to_owned(),
            LinkState::Unenrolled => format!(
                "this box is not enrolled{since}: put its one-time token into [control] \
                 token_file; {lease}"
            ),
            LinkState::Connecting => {
                format!("the control plane was not reached yet{since}; {lease}")
            }
            LinkState::Connected if self.enabled => format!("connected{since}; {lease}"),
            LinkState::Connected => {
                format!("connected{since}; the control plane has not enabled this box")
            }
            LinkState::Outage => format!("the control plane is silent{since}; {lease}"),
            LinkState::Refused => {
                format!("the control plane refuses this box{since}: see last_error; {lease}")
            }
        }
    }

    fn lease_in_words(&self, now: Boot) -> String {
        match self.lease_ends.map(|ends| ends.saturating_since(now)) {
            None => "there is no lease, and the gate stays closed if it requires one".to_owned(),
            Some(Duration::ZERO) => {
                "the lease has ended, and the gate is closed if it requires one".to_owned()
            }
            Some(left) => {
                let left = Duration::from_secs(left.as_secs());
                format!("the lease ends in {}", units::show_duration(left))
            }
        }
    }
}

/// The site's window and what goes with it, as ordered.
fn ordered(fill: &FillOrders) -> Value {
    let line = |text: &str| help::printable(text.as_bytes(), FILL_WORD_BYTES_MAX);
    let urgent = fill.urgent.iter().take(URGENT_SHOWN_MAX);
    let permit = fill.deletion_override.as_ref();
    json!({
        "window": {
            "start": line(&fill.window_start),
            "length_s": fill.window_s,
            "timezone": line(&fill.timezone),
        },
        "rate_limit_bps": fill.rate_limit_bps,
        "urgent": urgent.map(|directory| line(directory)).collect::<Vec<_>>(),
        "urgent_total": fill.urgent.len(),
        "prefilling": fill.prefilling,
        "deletion_override": permit.map(|permit| json!({
            "from": permit.position,
            "bytes": permit.bytes,
            "expires": permit.expires,
        })),
    })
}

/// A text from outside, fit for a log and a terminal.
pub(super) fn bounded(text: &str) -> String {
    help::printable(text.as_bytes(), ERROR_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> ControlView {
        ControlView {
            state: LinkState::Outage,
            since: Some("2026-01-01T10:00:00Z".parse().unwrap()),
            enabled: true,
            lease_ends: Some(Boot::default() + Duration::from_secs(1_800)),
            lease_fresh: true,
            ..ControlView::default()
        }
    }

    #[test]
    fn an_outage_says_since_when_and_how_long_the_lease_lasts() {
        let (view, now) = (silent(), Boot::default() + Duration::from_secs(60));
        let text = view.summary(now);
        assert_eq!(
            text,
            "the control plane is silent since 2026-01-01T10:00:00Z; the lease ends in 29m"
        );
        let value = view.value(now);
        assert_eq!(value["lease"], json!({"fresh": true, "ends_in_s": 1_740}));
        assert_eq!(value["state"], "outage");
        let late = Boot::default() + Duration::from_secs(1_800);
        assert!(view.summary(late).contains("the lease has ended"));
        assert_eq!(view.value(late)["lease"]["fresh"], false);
    }

    #[test]
    fn every_state_has_words_that_say_what_to_do() {
        let now = Boot::default();
        let said = |state| {
            let view = ControlView {
                state,
                ..ControlView::default()
            };
            view.summary(now)
        };
        assert!(said(LinkState::Off).contains("no control plane"));
        assert!(said(LinkState::Unenrolled).contains("token_file"));
        assert!(said(LinkState::Connecting).contains("not reached"));
        assert!(said(LinkState::Connected).contains("not enabled"));
        assert!(said(LinkState::Refused).contains("last_error"));
    }

    #[test]
    fn texts_from_outside_are_bounded_and_printable() {
        let text = bounded(&format!("a\u{1b}[31m\n{}", "x".repeat(5_000)));
        assert!(text.len() < 600 && !text.contains('\u{1b}') && !text.contains('\n'));
    }
}
