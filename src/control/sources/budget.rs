//! How much was sent on each ticket: a ticket has a byte budget (SAFETY: fill). Sans-IO.

use crate::clock::Instant;
use crate::object::Digest;
use std::collections::BTreeMap;

/// Tickets that are under way or not yet ended. Only boxes of the registry have any.
const TICKETS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Budgets(BTreeMap<Digest, Spent>);

#[derive(Clone, Copy, Debug)]
struct Spent {
    bytes: u64,
    until: Instant,
}

/// Why a ticket does not pay for so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BudgetError {
    #[error("the ticket's budget has {0} bytes left; ask for the sources again")]
    Spent(u64),
    #[error("too many tickets are in use")]
    Crowded,
}

impl Budgets {
    /// Reserves `bytes` of a ticket that allows `most` and is worth nothing after `until`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        ticket: Digest,
        most: u64,
        until: Instant,
        bytes: u64,
    ) -> Result<(), BudgetError> {
        if self.0.len() >= TICKETS_MAX && !self.0.contains_key(&ticket) {
            self.0.retain(|_, spent| now < spent.until);
            if self.0.len() >= TICKETS_MAX {
                return Err(BudgetError::Crowded);
            }
        }
        let spent = self.0.entry(ticket).or_insert(Spent { bytes: 0, until });
        let left = most.saturating_sub(spent.bytes);
        if bytes > left {
            return Err(BudgetError::Spent(left));
        }
        spent.bytes += bytes;
        Ok(())
    }

    /// Reserved and not sent.
    pub(super) fn give_back(&mut self, ticket: Digest, bytes: u64) {
        if let Some(spent) = self.0.get_mut(&ticket) {
            spent.bytes = spent.bytes.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_pays_for_its_bytes_and_not_for_one_more() {
        let mut budgets = Budgets::default();
        let now = clock::now();
        let (ticket, until) = (Digest::of(b"t"), now + Duration::from_secs(1));
        let mut take = |bytes| budgets.take(now, ticket, 100, until, bytes);
        assert_eq!(take(60), Ok(()));
        assert_eq!(take(41), Err(BudgetError::Spent(40)));
        assert_eq!(take(40), Ok(()));
        assert_eq!(take(1), Err(BudgetError::Spent(0)));
        budgets.give_back(ticket, 30);
        assert_eq!(budgets.take(now, ticket, 100, until, 30), Ok(()));
    }
}
