//! An object that this box is itself receiving: what is here of it may be had already.
//!
//! `request` asks when the object is not held. A part that is here whole is given as of any object;
//! otherwise the answer says which parts are (docs/LINK.md), and when there may be more.
//!
//! I/O: opens the staging file.

use super::listener::Shared;
use super::range::Part;
use super::refusal::Reason;
use super::refusal::Refused;
use super::request;
use crate::object::Digest;
use crate::serve::Head;
use crate::store::ObjectFile;
use crate::store::OpenError;
use std::sync::Arc;

/// `refused`: what is answered if nothing of it is here.
pub(super) async fn find(
    shared: &Shared,
    digest: Digest,
    head: &Head<'_, '_>,
    refused: Refused,
) -> Result<(Arc<ObjectFile>, Part), Refused> {
    let store = &shared.deps.store;
    let Some(unfinished) = store.unfinished(digest) else {
        return Err(refused);
    };
    let part = request::select((digest, unfinished.length), head)?;
    if !unfinished.has(&(part.first..part.first + part.length)) {
        return Err(Refused::not_yet(&unfinished.held));
    }
    match store.open_unfinished(digest).await {
        Ok(object) => Ok((object, part)),
        // It has been published meanwhile.
        Err(OpenError::NotHeld) => {
            let object = request::open(shared, digest).await?;
            Ok((object, part))
        }
        Err(error @ OpenError::Unavailable { .. }) => {
            let message = format!("{digest} cannot be had here: {error}");
            Err(Refused::new(Reason::Unavailable, message))
        }
    }
}
