//! One look at the store: what is wanted, what leaves, and the deletions that are due.
//!
//! `task` runs it on a blocking thread, one at a time; the machine gets the [`Survey`].
//!
//! I/O: reads the store's state, writes its own, deletes.

use super::Content;
use super::Moment;
use super::Orders;
use super::Space;
use super::VerifierFn;
use super::Want;
use super::deletion::Deletion;
use super::deletion::Seen;
use super::plan;
use super::plan::Budget;
use super::plan::Given;
use super::plan::Plan;
use crate::ids::BoxId;
use crate::link::message::DeletionOverride;
use crate::link::message::Position;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::fmt;

/// The name of what [`Deletion::seal`] gives.
pub(super) const DELETION_NAME: &str = "deletion";

/// What the box is about, as the task knows it.
pub(super) struct Question {
    pub(super) id: BoxId,
    pub(super) now: Moment,
    pub(super) orders: Orders,
    pub(super) budget: Budget,
    /// Inside the window, with a sane clock, and not paused.
    pub(super) may_delete: bool,
    pub(super) verifier: VerifierFn,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) plan: Plan,
    pub(super) manifest: Option<Position>,
    /// Verified bytes of what is staged.
    pub(super) staged: BTreeMap<Digest, u64>,
    pub(super) leaving: (u64, u64),
    pub(super) deleted: u64,
    pub(super) freed: u64,
    /// Why nothing was deleted, or an override not believed.
    pub(super) problem: Option<String>,
}

pub(super) fn survey(content: &dyn Content, deletion: &mut Deletion, about: &Question) -> Survey {
    let (space, wants, surplus) = look(content, &about.orders.urgent);
    let mut found = Survey {
        manifest: space.manifest,
        ..Survey::default()
    };
    let permit = match permit(about) {
        Ok(permit) => permit,
        Err(problem) => {
            found.problem = Some(problem);
            None
        }
    };
    let seen = Seen {
        manifest: space.manifest,
        acknowledged: about.orders.acknowledged,
        surplus: &surplus,
        held: space.held,
        permit,
    };
    let mut due = Vec::new();
    if about.orders.clock_sane {
        deletion.look(about.now, &seen);
        if about.may_delete {
            due = deletion.due(about.now, &seen);
        }
    }
    found.plan = plan::plan(&Given {
        wants: &wants,
        space: &space,
        budget: about.budget,
        surplus: &surplus,
        announced: &deletion.announced(),
        due: &due,
    });
    found.staged = space
        .staged
        .iter()
        .map(|(name, _, done)| (*name, *done))
        .collect();
    if about.orders.clock_sane {
        carry_out(content, deletion, about, &seen, &mut found);
    }
    found.leaving = deletion.leaving();
    found
}

/// Wants and surplus of one manifest. Between two questions another one may come into effect, or
/// the store become ready: what one of them lists is not staged for nothing under the other, and
/// what leaves under the later one is not announced under a position acknowledged long ago.
fn look(content: &dyn Content, urgent: &[String]) -> (Space, Vec<Want>, Vec<(Digest, u64)>) {
    let mut space = content.space();
    loop {
        let (wants, surplus) = (content.wanted(urgent), content.surplus());
        let after = content.space();
        if after.manifest == space.manifest {
            return (space, wants, surplus);
        }
        space = after;
    }
}

/// Announces and deletes as planned. What a restart must know is durable before anything goes.
fn carry_out(
    content: &dyn Content,
    deletion: &mut Deletion,
    about: &Question,
    seen: &Seen<'_>,
    found: &mut Survey,
) {
    // Only a signed manifest says that something is to leave.
    if let Some(position) = seen.manifest.filter(|position| position.epoch > 0) {
        deletion.announce(about.now, position, &found.plan.announce);
    }
    deletion.spend(about.now, seen, &found.plan.delete);
    if deletion.is_dirty(about.now) {
        match content.keep(DELETION_NAME, &deletion.seal(about.now)) {
            Ok(()) => deletion.kept(),
            Err(error) => {
                tracing::error!(%error, "nothing is deleted: the record cannot be kept");
                found.problem = Some(format!("nothing is deleted: {error}"));
                return;
            }
        }
    }
    for digest in &found.plan.discard {
        content.discard(*digest);
    }
    if found.plan.delete.is_empty() {
        return;
    }
    match content.delete(&found.plan.delete) {
        Ok(freed) => {
            found.deleted = u64::try_from(found.plan.delete.len()).unwrap_or(u64::MAX);
            found.freed = freed;
            tracing::info!(
                objects = found.deleted,
                bytes = freed,
                "deleted as announced"
            );
        }
        Err(error) => {
            tracing::error!(%error, "announced objects were not deleted");
            found.problem = Some(format!("not deleted: {error}"));
        }
    }
}

/// The override, if there is one and it is believed.
fn permit(about: &Question) -> Result<Option<&DeletionOverride>, String> {
    let Some(permit) = &about.orders.deletion_override else {
        return Ok(None);
    };
    let Some(verifier) = (about.verifier)() else {
        return Err("the deletion override cannot be verified before enrolment".to_owned());
    };
    match verifier.permit(permit, &about.id, about.now.wall) {
        Ok(()) => Ok(Some(permit)),
        Err(error) => Err(error.to_string()),
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("now", &self.now)
            .field("orders", &self.orders)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
