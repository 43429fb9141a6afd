//! A manifest that the control plane signed becomes the one in effect.
//!
//! `appliance` calls it through `Handle::adopt` with rows that `link` verified. The signed position
//! only ever grows, on every copy (`copies`), so that a replayed manifest is refused even by a box
//! whose system disk was wiped. Nothing is deleted and no key changes its object: a key that is not
//! listed stays, behind everything that is.
//!
//! I/O: writes the copies; blocks.

use super::StoreError;
use super::copies;
use super::core::Shared;
use super::lengths;
use super::manifest::Binding;
use super::manifest::BuildError;
use super::manifest::Builder;
use super::manifest::Manifest;
use super::manifest::Position;
use super::manifest::UNLISTED_RANK;
use super::view;
use crate::key::Key;
use serde::Serialize;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Refused rows that are named; more are counted.
const REFUSED_SHOWN_MAX: usize = 100;

/// What an adoption did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Adopted {
    pub epoch: u64,
    pub generation: u64,
    /// This very manifest was in effect already: nothing was written.
    pub again: bool,
    /// Keys that it lists and that are bound as it says.
    pub listed: u64,
    /// Of these, keys that were not bound before.
    pub added: u64,
    /// Of these, keys whose rank is another one than before.
    pub changed_rank: u64,
    /// Keys that it does not list, which stay bound with the lowest rank.
    pub kept_unlisted: u64,
    /// The first hundred of `refused_total`.
    pub refused: Vec<RefusedRow>,
    pub refused_total: u64,
}

/// A row that was left out; the rest was adopted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedRow {
    pub key: String,
    pub problem: String,
}

/// Why a manifest was not adopted. The one in effect is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error(
        "manifest {epoch}.{generation} is older than {held_epoch}.{held_generation}, which this \
         box has seen: the control plane was restored from an older backup, or it is a replay"
    )]
    Older {
        epoch: u64,
        generation: u64,
        held_epoch: u64,
        held_generation: u64,
    },
    #[error(
        "manifest 0.{generation} is refused: epoch 0 is the box's own, for keys that were \
         prefilled; a control plane begins with epoch 1"
    )]
    OwnEpoch { generation: u64 },
    #[error("the manifest on the disks is being loaded; try again when the store is ready")]
    Loading,
    #[error("the manifest does not fit in this box: {0}")]
    TooMany(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdoptError {
    /// The same manifest may be taken later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Loading | Self::Store(_) => true,
            Self::Older { .. } | Self::OwnEpoch { .. } | Self::TooMany(_) => false,
        }
    }
}

pub(super) fn adopt(
    shared: &Arc<Shared>,
    epoch: u64,
    generation: u64,
    mut rows: Vec<(Key, Binding)>,
) -> Result<Adopted, AdoptError> {
    let lock = &shared.manifest_writer;
    let _one_writer = lock.lock().unwrap_or_else(PoisonError::into_inner);
    if !shared.manifest_loaded.load(Ordering::Acquire) {
        // Without the old manifest neither its keys nor its position are known.
        return Err(AdoptError::Loading);
    }
    let old = shared.manifest.load_full();
    let position = Position {
        epoch,
        generation,
        local: 0,
    };
    if !advances(old.as_deref(), position)? {
        return Ok(Adopted {
            epoch,
            generation,
            again: true,
            ..Adopted::default()
        });
    }
    // Stable: of two rows for one key the first stays.
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (merged, adopted) = merge(old.as_deref(), shared, rows, position)?;
    let manifest = merged.build(position, &shared.index);
    copies::keep(shared, &manifest)?;
    shared.manifest.store(Some(Arc::new(manifest)));
    shared.changed();
    view::publish(shared);
    lengths::ask(shared);
    Ok(adopted)
}

/// False for the signed position that is in effect, with local bindings on top or not.
fn advances(old: Option<&Manifest>, position: Position) -> Result<bool, AdoptError> {
    let (epoch, generation) = position.signed();
    if epoch == 0 {
        return Err(AdoptError::OwnEpoch { generation });
    }
    let held = old.map(|manifest| manifest.position.signed());
    match held {
        Some((held_epoch, held_generation))
            if (epoch, generation) < (held_epoch, held_generation) =>
        {
            Err(AdoptError::Older {
                epoch,
                generation,
                held_epoch,
                held_generation,
            })
        }
        Some(held) => Ok(held != (epoch, generation)),
        None => Ok(true),
    }
}

/// Old and signed rows in key order.
fn merge(
    old: Option<&Manifest>,
    shared: &Shared,
    mut rows: Vec<(Key, Binding)>,
    position: Position,
) -> Result<(Builder, Adopted), AdoptError> {
    let mut merge = Merge {
        builder: Builder::default(),
        adopted: Adopted {
            epoch: position.epoch,
            generation: position.generation,
            ..Adopted::default()
        },
    };
    rows.dedup_by(|(later, _), (first, _)| {
        let again = later == first;
        if again {
            merge.refuse(
                later.as_str(),
                "the manifest lists it twice; the first row is taken",
            );
        }
        again
    });
    let mut rows = rows.into_iter().peekable();
    let old = old.into_iter().flat_map(|manifest| {
        let rows = manifest.rows();
        rows.filter_map(|(key, row)| Some((key, manifest.binding(row, &shared.index)?)))
    });
    for (key, bound) in old {
        while let Some((before, binding)) = rows.next_if(|(row, _)| row.as_str() < key) {
            merge.signed(before.as_str(), None, binding)?;
        }
        match rows.next_if(|(row, _)| row.as_str() == key) {
            Some((_, binding)) => merge.signed(key, Some(bound), binding)?,
            None => merge.unlisted(key, bound)?,
        }
    }
    for (key, binding) in rows {
        merge.signed(key.as_str(), None, binding)?;
    }
    Ok((merge.builder, merge.adopted))
}

struct Merge {
    builder: Builder,
    adopted: Adopted,
}

impl Merge {
    /// A row of the manifest, for a key that was bound before or not.
    fn signed(
        &mut self,
        key: &str,
        bound: Option<Binding>,
        row: Binding,
    ) -> Result<(), AdoptError> {
        match bound {
            Some(bound) if bound.digest != row.digest => {
                let problem = format!(
                    "it is bound to {} for ever; a re-encode gets a new path",
                    bound.digest
                );
                self.refuse(key, &problem);
                return self.unlisted(key, bound);
            }
            Some(bound) => {
                self.adopted.changed_rank += u64::from(bound.rank != row.rank);
            }
            None => self.adopted.added += 1,
        }
        self.adopted.listed += 1;
        self.push(key, row)
    }

    fn unlisted(&mut self, key: &str, bound: Binding) -> Result<(), AdoptError> {
        self.adopted.kept_unlisted += 1;
        self.push(
            key,
            Binding {
                rank: UNLISTED_RANK,
                ..bound
            },
        )
    }

    fn refuse(&mut self, key: &str, problem: &str) {
        self.adopted.refused_total += 1;
        if self.adopted.refused.len() < REFUSED_SHOWN_MAX {
            self.adopted.refused.push(RefusedRow {
                key: key.to_owned(),
                problem: problem.to_owned(),
            });
        }
    }

    fn push(&mut self, key: &str, binding: Binding) -> Result<(), AdoptError> {
        match self.builder.push(key, binding) {
            Ok(()) => Ok(()),
            Err(error @ BuildError::TooMany) => Err(AdoptError::TooMany(error.to_string())),
            // Rows are sorted and keys are parsed: neither happens.
            Err(error @ (BuildError::Order(_) | BuildError::Key { .. })) => {
                self.refuse(key, &error.to_string());
                Ok(())
            }
        }
    }
}
