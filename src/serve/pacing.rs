//! How fast one response may be sent: the least of what the operator, the signed URL and the
//! player ask for.
//!
//! Sans-IO; called by `delivery` before each body. The player's word (CMCD) can only make a
//! response slower than it would be, never faster than the others allow. Why slower is better: a
//! player that is sent 40 Mbit/s of a 5 Mbit/s rendition fetches in bursts that overflow its
//! neighbours' queues and then its own idles; spread over time the same bytes arrive in time.

use super::Pacing;
use super::cmcd::Cmcd;
use crate::units::BytesPerSecond;

/// 1 Mbit/s. A player that asks for less would hold its connection, and the bytes in flight, for
/// very long; no rendition that is worth serving is slower.
const HINT_MIN: BytesPerSecond = BytesPerSecond(125_000);

/// Below this the player's buffer is short: it must grow before the rate may be near what is
/// consumed.
const SHORT_BUFFER_MS: u32 = 10_000;

/// From here on the buffer outlasts most trouble, and the next object is far from urgent.
const LONG_BUFFER_MS: u32 = 30_000;

/// Of the encoded bitrate, in percent. Published experience with pacing by players' word uses
/// three times the top bitrate for an empty buffer and one and a half for a full one: a variable
/// bitrate peaks at about twice its mean, and a buffer must be able to recover while it is drained.
const SHORT_PERCENT: u64 = 300;
const MIDDLE_PERCENT: u64 = 200;
const LONG_PERCENT: u64 = 150;

/// Whose word made the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// `[serve.pacing] rate_limit`.
    Operator,
    /// The rate in a signed URL.
    Token,
    /// CMCD.
    Hint,
}

/// Every bound, in the order of the array that counts them.
pub(super) const BOUNDS: [Bound; 3] = [Bound::Operator, Bound::Token, Bound::Hint];

impl Bound {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Token => "token",
            Self::Hint => "hint",
        }
    }
}

/// The rate of one response and whose it is; `None`: as fast as the network takes it. Of equal
/// rates the operator's counts, then the token's.
pub(super) fn rate(
    config: Pacing,
    token_rate: Option<BytesPerSecond>,
    cmcd: Option<&Cmcd>,
) -> Option<(BytesPerSecond, Bound)> {
    let hint = cmcd.filter(|_| config.cmcd).and_then(hint);
    let asked = [
        (config.rate_limit, Bound::Operator),
        (token_rate, Bound::Token),
        (hint, Bound::Hint),
    ];
    let asked = asked.into_iter();
    asked
        .filter_map(|(rate, bound)| Some((rate?, bound)))
        .min_by_key(|(rate, _)| *rate)
}

/// What the player asks for. Its own figure comes before one that is made from the bitrate.
fn hint(cmcd: &Cmcd) -> Option<BytesPerSecond> {
    let kbps = match (cmcd.rtp, cmcd.br) {
        (Some(rtp), _) if rtp > 0 => u64::from(rtp),
        (_, Some(br)) if br > 0 => consumed(cmcd, br) * percent(cmcd) / 100,
        _ => return None,
    };
    // 1 kbit/s is 125 bytes a second.
    Some(BytesPerSecond(kbps.saturating_mul(125)).max(HINT_MIN))
}

/// kbit/s that playing takes: a viewer at twice the speed needs twice the bitrate.
fn consumed(cmcd: &Cmcd, br: u32) -> u64 {
    let playback = cmcd.pr.unwrap_or(1000).max(1000);
    u64::from(br) * u64::from(playback) / 1000
}

/// A player that does not tell its buffer may have none.
fn percent(cmcd: &Cmcd) -> u64 {
    let is_urgent = cmcd.su || cmcd.bs;
    match cmcd.bl {
        Some(LONG_BUFFER_MS..) if !is_urgent => LONG_PERCENT,
        Some(SHORT_BUFFER_MS..) if !is_urgent => MIDDLE_PERCENT,
        Some(_) | None => SHORT_PERCENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mbps(rate: u64) -> BytesPerSecond {
        BytesPerSecond(rate * 125_000)
    }

    fn open() -> Pacing {
        Pacing {
            rate_limit: None,
            cmcd: true,
        }
    }

    fn player(br: u32, bl: u32) -> Cmcd {
        Cmcd {
            br: Some(br),
            bl: Some(bl),
            ..Cmcd::default()
        }
    }

    #[test]
    fn without_a_word_from_anybody_there_is_no_rate() {
        assert_eq!(rate(open(), None, None), None);
        assert_eq!(rate(open(), None, Some(&Cmcd::default())), None);
        let zero = Cmcd {
            rtp: Some(0),
            br: Some(0),
            ..Cmcd::default()
        };
        assert_eq!(rate(open(), None, Some(&zero)), None);
    }

    #[test]
    fn the_least_of_operator_token_and_hint_counts() {
        let capped = Pacing {
            rate_limit: Some(mbps(50)),
            cmcd: true,
        };
        let asks = |rtp| Cmcd {
            rtp: Some(rtp),
            ..Cmcd::default()
        };
        let operator = Some((mbps(50), Bound::Operator));
        assert_eq!(rate(capped, None, None), operator);
        assert_eq!(rate(capped, None, Some(&asks(80_000))), operator);
        assert_eq!(rate(capped, Some(mbps(60)), None), operator);
        assert_eq!(rate(capped, Some(mbps(50)), None), operator);
        let token = rate(capped, Some(mbps(20)), Some(&asks(30_000)));
        assert_eq!(token, Some((mbps(20), Bound::Token)));
        let hint = rate(capped, Some(mbps(20)), Some(&asks(10_000)));
        assert_eq!(hint, Some((mbps(10), Bound::Hint)));
        let deaf = Pacing {
            cmcd: false,
            ..capped
        };
        assert_eq!(rate(deaf, None, Some(&asks(10_000))), operator);
        // A signed rate may be below the floor, a hint may not.
        let slow = rate(open(), Some(BytesPerSecond(5)), Some(&asks(1)));
        assert_eq!(slow, Some((BytesPerSecond(5), Bound::Token)));
        let floor = Some((mbps(1), Bound::Hint));
        assert_eq!(rate(open(), None, Some(&asks(1))), floor);
    }

    #[test]
    fn a_bitrate_is_a_hint_and_the_shorter_the_buffer_the_faster() {
        let of = |cmcd: &Cmcd| hint(cmcd);
        assert_eq!(of(&player(4_000, 0)), Some(mbps(12)));
        assert_eq!(of(&player(4_000, 9_900)), Some(mbps(12)));
        assert_eq!(of(&player(4_000, 10_000)), Some(mbps(8)));
        assert_eq!(of(&player(4_000, 30_000)), Some(mbps(6)));
        let unknown = Cmcd {
            bl: None,
            ..player(4_000, 0)
        };
        assert_eq!(of(&unknown), Some(mbps(12)));
        let mut starting = player(4_000, 30_000);
        starting.su = true;
        assert_eq!(of(&starting), Some(mbps(12)));
        let mut twice = player(4_000, 30_000);
        twice.pr = Some(2_000);
        assert_eq!(of(&twice), Some(mbps(12)));
        twice.pr = Some(500);
        assert_eq!(of(&twice), Some(mbps(6)));
        // The player's own wish is taken as it is.
        twice.rtp = Some(5_000);
        assert_eq!(of(&twice), Some(mbps(5)));
    }

    proptest! {
        #[test]
        fn a_player_only_ever_slows_itself_and_never_below_the_floor(
            limit in proptest::option::of(1_u64..1 << 40),
            token in proptest::option::of(1_u64..1 << 40),
            br in proptest::option::of(any::<u32>()),
            rtp in proptest::option::of(any::<u32>()),
            bl in proptest::option::of(any::<u32>()),
            pr in proptest::option::of(any::<u32>()),
            flags in any::<(bool, bool)>(),
        ) {
            let config = Pacing { rate_limit: limit.map(BytesPerSecond), cmcd: true };
            let token = token.map(BytesPerSecond);
            let (su, bs) = flags;
            let cmcd = Cmcd { br, rtp, bl, pr, su, bs, ..Cmcd::default() };
            let without = rate(config, token, None);
            let with = rate(config, token, Some(&cmcd));
            match (without, with) {
                (Some((most, _)), Some((rate, _))) => {
                    prop_assert!(rate <= most);
                    prop_assert!(rate >= most.min(HINT_MIN));
                }
                (Some(_), None) => prop_assert!(false, "a hint lifted the cap"),
                (None, Some((rate, _))) => prop_assert!(rate >= HINT_MIN),
                (None, None) => {}
            }
        }
    }
}
