//! How many bytes each ticket has left, and how fast they may go, over all connections of its box
//! (SAFETY: fill).
//!
//! A response reserves its whole part before the first byte, and gives back what was never sent
//! when it ends, so that no ticket is overdrawn and no response is cut for want of budget. Never
//! waits.

use crate::clock;
use crate::clock::Wall;
use crate::link::ticket::CLOCK_SLACK_S;
use crate::link::ticket::Ticket;
use crate::object::Digest;
use crate::pacer::Pacer;
use crate::units::BytesPerSecond;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Tickets in use at a time. They last minutes and name up to 32 objects each, so this is two
/// million objects asked for at once; the table has some 10 MB then.
const TICKETS_MAX: usize = 65_536;

/// A full table is searched for ended tickets no more often.
const SWEEP_EVERY_S: u64 = 5;

/// Clones share the table.
#[derive(Clone, Debug)]
pub(super) struct Budgets {
    most: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    /// By the hash of the ticket's text, of which each ticket has one.
    spent: HashMap<Digest, Spent>,
    swept: u64,
}

#[derive(Debug)]
struct Spent {
    bytes: u64,
    /// Of a ticket that has a rate.
    pacer: Option<Arc<Pacer>>,
    /// Seconds since the Unix epoch, from which the ticket is refused anyway.
    until: u64,
}

/// Bytes of a ticket that are set aside for one response. What is left of it when it is dropped
/// goes back.
#[derive(Debug)]
pub(super) struct Reserved {
    budgets: Budgets,
    ticket: Digest,
    left: u64,
    pace: Option<(Arc<Pacer>, BytesPerSecond)>,
}

/// Why nothing was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BudgetError {
    /// So many bytes are left.
    Spent { left: u64 },
    /// Too many tickets are in use.
    Full,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self::with_room(TICKETS_MAX)
    }

    fn with_room(most: usize) -> Self {
        Self {
            most,
            table: Arc::default(),
        }
    }

    /// `text` is that of the verified `ticket`.
    pub(super) fn reserve(
        &self,
        now: Wall,
        text: &str,
        ticket: &Ticket,
        bytes: u64,
    ) -> Result<Reserved, BudgetError> {
        let key = Digest::of(text.as_bytes());
        let mut table = self.table();
        if !table.spent.contains_key(&key) && table.spent.len() >= self.most {
            table.sweep(clock::unix_seconds(now));
            if table.spent.len() >= self.most {
                return Err(BudgetError::Full);
            }
        }
        let rate = ticket.rate_bps.map(|bits| BytesPerSecond(bits / 8));
        let spent = table.spent.entry(key).or_insert_with(|| Spent {
            bytes: 0,
            pacer: rate.map(|_| Arc::default()),
            until: ticket.expires.saturating_add(CLOCK_SLACK_S),
        });
        let left = ticket.bytes.saturating_sub(spent.bytes);
        if bytes > left {
            return Err(BudgetError::Spent { left });
        }
        spent.bytes += bytes;
        Ok(Reserved {
            pace: spent.pacer.clone().zip(rate),
            budgets: self.clone(),
            ticket: key,
            left: bytes,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn sweep(&mut self, now: u64) {
        if now.abs_diff(self.swept) >= SWEEP_EVERY_S {
            self.swept = now;
            self.spent.retain(|_, spent| now < spent.until);
        }
    }
}

impl Reserved {
    /// What all responses to the ticket together keep to, where it has a rate.
    pub(super) fn pace(&self) -> Option<(&Pacer, BytesPerSecond)> {
        let (pacer, rate) = self.pace.as_ref()?;
        Some((pacer, *rate))
    }

    /// So many bytes of it have been sent.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.left == 0 {
            return;
        }
        let mut table = self.budgets.table();
        if let Some(spent) = table.spent.get_mut(&self.ticket) {
            spent.bytes = spent.bytes.saturating_sub(self.left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BoxId;

    fn ticket(bytes: u64) -> Ticket {
        Ticket {
            asker: BoxId::parse("c001-tls001-example-isp").unwrap(),
            source: "origin".to_owned(),
            digests: Vec::new(),
            not_before: 0,
            expires: 100,
            bytes,
            rate_bps: None,
        }
    }

    fn at(second: i64) -> Wall {
        Wall::from_second(second).unwrap()
    }

    #[test]
    fn what_was_sent_stays_spent_and_what_was_not_comes_back() {
        let budgets = Budgets::new();
        let take = |bytes| budgets.reserve(at(0), "t", &ticket(100), bytes);
        let mut first = take(60).unwrap();
        let second = take(40).unwrap();
        assert_eq!(take(1).unwrap_err(), BudgetError::Spent { left: 0 });
        first.spend(25);
        drop(first);
        assert_eq!(take(36).unwrap_err(), BudgetError::Spent { left: 35 });
        drop(second);
        let mut third = take(75).unwrap();
        third.spend(75);
        drop(third);
        assert_eq!(take(1).unwrap_err(), BudgetError::Spent { left: 0 });
        assert!(take(0).is_ok());
    }

    #[test]
    fn a_full_table_takes_no_other_ticket_until_one_has_ended() {
        let budgets = Budgets::with_room(2);
        let take = |second, text: &str| budgets.reserve(at(second), text, &ticket(10), 10);
        let kept: Vec<_> = ["a", "b"].map(|text| take(50, text).unwrap()).into();
        assert_eq!(take(51, "c").unwrap_err(), BudgetError::Full);
        assert_eq!(take(51, "a").unwrap_err(), BudgetError::Spent { left: 0 });
        // Past the end and the slack of clocks.
        assert!(take(161, "c").is_ok());
        drop(kept);
        assert_eq!(budgets.table().spent.len(), 1);
    }
}
