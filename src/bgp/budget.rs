//! What all neighbours together may hold: a box reports all of it, and a report has an end.
//!
//! Each neighbour's task owns a [`Share`] and settles it after each UPDATE. Who goes beyond the sum
//! is ended, whatever its own limits allow. Never looks at a route.

use crate::route_table::ROUTES_MAX;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Memory of all neighbours' attribute sets: seven full tables of the internet, of 35 MB each.
const ATTRIBUTE_BYTES_MAX: usize = 256 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Budget {
    routes: Account,
    attribute_bytes: Account,
}

#[derive(Debug)]
struct Account {
    held: AtomicUsize,
    most: usize,
}

/// One neighbour's part; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    routes: usize,
    attribute_bytes: usize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self::of(ROUTES_MAX, ATTRIBUTE_BYTES_MAX)
    }

    fn of(routes: usize, attribute_bytes: usize) -> Self {
        let account = |most| Account {
            held: AtomicUsize::new(0),
            most,
        };
        Self {
            routes: account(routes),
            attribute_bytes: account(attribute_bytes),
        }
    }
}

impl Account {
    /// False if this part has grown beyond what there is.
    fn settle(&self, part: &mut usize, to: usize) -> bool {
        let before = std::mem::replace(part, to);
        if to > before {
            let held = self.held.fetch_add(to - before, Relaxed) + (to - before);
            return held <= self.most;
        }
        self.held.fetch_sub(before - to, Relaxed);
        true
    }
}

impl Share {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            routes: 0,
            attribute_bytes: 0,
        }
    }

    /// So much is held. False: that is more than is left for it, and it must go.
    pub(super) fn settle(&mut self, routes: usize, attribute_bytes: usize) -> bool {
        let budget = &self.budget;
        let fits = budget.routes.settle(&mut self.routes, routes);
        let bytes = &mut self.attribute_bytes;
        budget.attribute_bytes.settle(bytes, attribute_bytes) && fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_grows_beyond_the_sum_is_told_and_what_is_given_back_can_be_used() {
        let budget = Arc::new(Budget::of(100, 1_000));
        let mut one = Share::new(Arc::clone(&budget));
        let mut other = Share::new(Arc::clone(&budget));
        assert!(one.settle(60, 100));
        assert!(other.settle(40, 900));
        assert!(!other.settle(41, 900), "one route too many");
        assert!(other.settle(41, 900), "others are told, who have not grown");
        assert!(other.settle(30, 900));
        assert!(!one.settle(60, 101), "one byte too many");
        drop(other);
        assert!(one.settle(100, 1_000));
        drop(one);
        assert_eq!(budget.routes.held.load(Relaxed), 0);
        assert_eq!(budget.attribute_bytes.held.load(Relaxed), 0);
    }
}
