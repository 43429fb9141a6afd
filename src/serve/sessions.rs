//! Which sessions of signed URLs fetched lately: a closing box tells running viewers from new ones
//! by them. Shared by the workers; bounded. Called by `exchange` and `token`.

use super::lately::Lately;
use crate::clock::Instant;
use std::time::Duration;

/// Sessions remembered, in all; about 4 MB. When the table is full the older half is forgotten,
/// which can only close a closing box to somebody earlier.
const SESSIONS_MAX: usize = 131_072;

/// When each session, by a hash of its id, last fetched content.
#[derive(Debug)]
pub(super) struct Sessions(Lately<u64>);

impl Default for Sessions {
    fn default() -> Self {
        Self::bounded(SESSIONS_MAX)
    }
}

impl Sessions {
    fn bounded(most: usize) -> Self {
        Self(Lately::bounded(most))
    }

    /// `session` was answered with content.
    pub(super) fn record(&self, session: &str, now: Instant) {
        self.0.record(hash(session), now);
    }

    pub(super) fn fetched_within(&self, session: &str, time: Duration, now: Instant) -> bool {
        self.0.fetched_within(&hash(session), time, now)
    }
}

/// Only ids under a good MAC come here, so nobody chooses them to collide.
fn hash(session: &str) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first
        .iter_mut()
        .zip(blake3::hash(session.as_bytes()).as_bytes())
    {
        *to = *from;
    }
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_forgets_the_oldest() {
        let sessions = Sessions::bounded(8);
        let now = clock::now();
        (0..100).for_each(|n| sessions.record(&n.to_string(), now));
        let known = |n: u32| sessions.fetched_within(&n.to_string(), Duration::ZERO, now);
        assert!(!known(0) && known(99) && known(97));
        assert!(sessions.0.len() <= 8);
    }
}
