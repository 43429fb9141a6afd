//! The signed manifest of each box: made when the registry or the library changes, signed again
//! before it ends, and never given out before its position is durable.
//!
//! `run` calls [`Publisher::refresh`] on changes and at [`Publisher::due`]; `api::link` serves
//! what it has for a box. Boxes with the same content share its compressed rows; only the
//! envelope is a box's own.
//!
//! Positions: content that is the same keeps its (epoch, generation), other content gets the next
//! generation. The epoch is the second in which the database got its first manifest: a database
//! that was lost and begun again has a later one, so that boxes do not take its manifests for old.
//!
//! I/O: waits for the store; compresses and signs on a blocking thread.

use crate::clock;
use crate::clock::Wall;
use crate::control::allocate::Listed;
use crate::control::allocate::allocate;
use crate::control::api::link::ManifestBody;
use crate::control::api::link::ManifestSource;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::control::store::ControlStore;
use crate::control::store::ControlStoreError;
use crate::ids::BoxId;
use crate::link::manifest::ManifestError;
use crate::link::manifest::Signer;
use crate::link::message::Position;
use crate::link::message::Row;
use crate::link::seal::Sealed;
use crate::object::Digest;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Why not everything was published. What is served is what was published before.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the manifest of {id} was not published: {error}; it will be tried again")]
    Store { id: BoxId, error: ControlStoreError },
    #[error("the positions of manifests cannot be read: {0}")]
    Positions(ControlStoreError),
    #[error("manifests cannot be signed: {0}")]
    Sign(#[from] ManifestError),
    #[error("the thread that makes manifests died; see the log")]
    Thread,
}

/// The room's handle: one a process.
pub struct Publisher {
    store: Arc<dyn ControlStore>,
    signer: Arc<Signer>,
    /// Of a signature.
    validity: Duration,
    served: ArcSwap<BTreeMap<BoxId, Manifest>>,
    /// One refresh at a time; with what the last one compressed.
    made: Mutex<Made>,
}

/// What a box gets.
#[derive(Clone, Debug)]
struct Manifest {
    position: Position,
    issued: u64,
    envelope: Bytes,
    rows: Arc<Rows>,
}

/// Compressed rows, shared.
#[derive(Debug)]
struct Rows {
    bytes: Bytes,
    sealed: Sealed,
    listed: Arc<Listed>,
}

/// Rows by the capacity that they were allocated for, of one library.
#[derive(Debug, Default)]
struct Made {
    library: Arc<Library>,
    by_capacity: BTreeMap<u64, Arc<Rows>>,
}

impl Publisher {
    pub fn new(store: Arc<dyn ControlStore>, signer: Arc<Signer>, validity: Duration) -> Self {
        Self {
            store,
            signer,
            validity,
            served: ArcSwap::default(),
            made: Mutex::default(),
        }
    }

    /// Publishes for every box of the registry what it should hold; returns how many manifests
    /// have a new position. Without content there is no manifest: an empty one says nothing.
    pub async fn refresh(
        &self,
        registry: &Registry,
        library: &Arc<Library>,
        now: Wall,
    ) -> Result<usize, PublishError> {
        let mut made = self.made.lock().await;
        self.make(&mut made, registry, library).await?;
        let known = self.store.published().await;
        let known = known.map_err(PublishError::Positions)?;
        let epochs = known.values().map(|(position, _)| position.epoch);
        let epoch = epochs.max().unwrap_or(clock::unix_seconds(now).max(1));
        let mut served = BTreeMap::clone(&self.served.load());
        let content = |id: &BoxId| {
            let appliance = registry.appliances.get(id).filter(|found| !found.revoked)?;
            made.by_capacity.get(&appliance.capacity)
        };
        served.retain(|id, _| content(id).is_some());
        let mut outcome = Ok(0);
        for id in registry.appliances.keys() {
            let Some(rows) = content(id) else { continue };
            let (position, is_new) = place(known.get(id), rows.sealed.content, epoch);
            let old = served.get_mut(id).filter(|_| !is_new);
            if let Some(old) = old.filter(|old| self.is_good(old, position, now)) {
                // The same bytes; but a later library knows of more that they do not list.
                old.rows = rows.clone();
                continue;
            }
            match self.one(id, position, is_new, rows, now).await {
                Ok(manifest) => {
                    served.insert(id.clone(), manifest);
                    outcome = outcome.map(|changed| changed + usize::from(is_new));
                }
                // The others keep what they have.
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.served.store(Arc::new(served));
        outcome
    }

    /// What each box should have, for the orders in replies.
    pub fn positions(&self) -> BTreeMap<BoxId, Position> {
        let served = self.served.load();
        let positions = served.iter();
        positions
            .map(|(id, manifest)| (id.clone(), manifest.position))
            .collect()
    }

    /// What each box's manifest lists; a box without one is not there.
    pub fn listed(&self) -> BTreeMap<BoxId, Arc<Listed>> {
        let served = self.served.load();
        let listed = served.iter();
        listed
            .map(|(id, manifest)| (id.clone(), manifest.rows.listed.clone()))
            .collect()
    }

    /// When the first signature has lived half of its validity; `None` without any.
    pub fn due(&self) -> Option<Wall> {
        let served = self.served.load();
        let issued = served.values().map(|manifest| manifest.issued).min()?;
        let at = issued.saturating_add(self.validity.as_secs() / 2);
        Wall::from_second(i64::try_from(at).ok()?).ok()
    }

    /// Allocates and compresses what is missing, once for each capacity in use.
    async fn make(
        &self,
        made: &mut Made,
        registry: &Registry,
        library: &Arc<Library>,
    ) -> Result<(), PublishError> {
        if !Arc::ptr_eq(&made.library, library) {
            made.by_capacity.clear();
            made.library = library.clone();
        }
        let appliances = registry.appliances.values();
        let wanted: BTreeMap<u64, &BoxId> = appliances.map(|a| (a.capacity, &a.id)).collect();
        made.by_capacity
            .retain(|capacity, _| wanted.contains_key(capacity));
        for (capacity, id) in wanted {
            if made.by_capacity.contains_key(&capacity) {
                continue;
            }
            let (library, signer, id) = (library.clone(), self.signer.clone(), id.clone());
            let work = move || rows(&library, capacity, &signer, &id);
            let rows = tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| PublishError::Thread)??;
            if let Some(rows) = rows {
                made.by_capacity.insert(capacity, Arc::new(rows));
            }
        }
        Ok(())
    }

    /// Makes the position durable, then signs.
    async fn one(
        &self,
        id: &BoxId,
        position: Position,
        is_new: bool,
        rows: &Arc<Rows>,
        now: Wall,
    ) -> Result<Manifest, PublishError> {
        if is_new {
            let content = rows.sealed.content;
            let put = self
                .store
                .put_published(id.clone(), position, content)
                .await;
            put.map_err(|error| PublishError::Store {
                id: id.clone(),
                error,
            })?;
        }
        // A fleet's signatures take a second: the runtime has others to serve in between.
        tokio::task::yield_now().await;
        let issued = clock::unix_seconds(now);
        let expires = issued.saturating_add(self.validity.as_secs());
        let signed = self
            .signer
            .seal(id, position, issued, expires, rows.sealed)?;
        Ok(Manifest {
            position,
            issued,
            envelope: signed.into(),
            rows: rows.clone(),
        })
    }

    /// At its place, and less than half of its validity gone.
    fn is_good(&self, manifest: &Manifest, position: Position, now: Wall) -> bool {
        let age = clock::unix_seconds(now).saturating_sub(manifest.issued);
        manifest.position == position && age < self.validity.as_secs() / 2
    }
}

impl ManifestSource for Publisher {
    fn manifest(&self, id: &BoxId) -> Option<ManifestBody> {
        let served = self.served.load();
        let manifest = served.get(id)?;
        Some(ManifestBody {
            position: manifest.position,
            envelope: manifest.envelope.clone(),
            rows: manifest.rows.bytes.clone(),
        })
    }
}

/// The position for `content`, and whether it is another than the last one.
fn place(last: Option<&(Position, Digest)>, content: Digest, epoch: u64) -> (Position, bool) {
    match last {
        Some((position, same)) if *same == content => (*position, false),
        Some((position, _)) => {
            let next = Position {
                generation: position.generation.saturating_add(1),
                ..*position
            };
            (next, true)
        }
        None => {
            let first = Position {
                epoch,
                generation: 1,
            };
            (first, true)
        }
    }
}

/// What a box of `capacity` should hold, compressed; `None` for nothing. The hash is of the
/// compressed bytes, because boxes hold them to it: another compressor makes another generation.
fn rows(
    library: &Library,
    capacity: u64,
    signer: &Signer,
    id: &BoxId,
) -> Result<Option<Rows>, ManifestError> {
    let chosen = allocate(library, capacity);
    let bundles = chosen.iter().zip(0_u32..).filter_map(|(number, rank)| {
        let bundle = library.bundle(*number)?;
        Some((bundle, rank))
    });
    let rows = bundles.flat_map(|(bundle, rank)| {
        let head = Row::Bundle {
            bundle: bundle.directory.clone(),
            rank,
        };
        let keys = bundle.keys.iter().filter_map(|key| {
            let object = library.object(key.object)?;
            Some(Row::Key {
                k: key.name.clone(),
                d: object.digest,
                n: object.length,
                t: key.last_modified,
            })
        });
        std::iter::once(head).chain(keys)
    });
    if chosen.is_empty() {
        return Ok(None);
    }
    // Signed for nobody: only the rows behind the envelope's line are kept.
    let nowhere = Position {
        epoch: 0,
        generation: 0,
    };
    let body = Bytes::from(signer.sign(id, nowhere, 0, 0, rows)?);
    let line = body.iter().position(|byte| *byte == b'\n');
    let bytes = body.slice(line.map_or(0, |line| line + 1)..);
    let sealed = Sealed {
        bytes: bytes.len() as u64,
        content: Digest::of(&bytes),
    };
    Ok(Some(Rows {
        bytes,
        sealed,
        listed: Arc::new(Listed::new(library, &chosen)),
    }))
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("served", &self.served.load().len())
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
