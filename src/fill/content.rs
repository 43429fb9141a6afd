//! The store as fills see it: [`Content`] for the machine, [`Receive`] for transfers.
//!
//! `appliance` makes one [`StoreContent`] and hands it to both. Nothing is decided here.

use super::ChunkBytes;
use super::Content;
use super::Receive;
use super::Space;
use super::Staging;
use super::Want;
use crate::link::message::Position;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::store;
use crate::store::PublishError;
use crate::store::Staged;
use futures_util::future::BoxFuture;
use std::ops::Range;

/// A store that fills fill.
#[derive(Clone, Debug)]
pub struct StoreContent(store::Handle);

impl StoreContent {
    pub fn new(store: store::Handle) -> Self {
        Self(store)
    }
}

impl Content for StoreContent {
    fn wanted(&self, urgent: &[String]) -> Vec<Want> {
        let wanted = self.0.wanted(urgent).into_iter().map(|wanted| Want {
            digest: wanted.digest,
            length: wanted.length,
            rank: wanted.rank,
            urgent: wanted.urgent,
        });
        wanted.collect()
    }

    fn surplus(&self) -> Vec<(Digest, u64)> {
        self.0.surplus()
    }

    fn space(&self) -> Space {
        let room = self.0.space();
        let manifest = room
            .manifest
            .map(|(epoch, generation)| Position { epoch, generation });
        Space {
            free: room.free,
            held: room.held,
            staged: self.0.staged(),
            manifest,
        }
    }

    fn delete(&self, digests: &[Digest]) -> Result<u64, store::StoreError> {
        self.0.delete(digests)
    }

    fn discard(&self, digest: Digest) {
        self.0.discard(digest);
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), store::StoreError> {
        self.0.keep(name, bytes)
    }

    fn kept(&self, name: &str) -> Vec<Vec<u8>> {
        self.0.kept(name)
    }
}

impl Receive for StoreContent {
    fn receive(
        &self,
        digest: Digest,
        length: u64,
        rank: u32,
        tree: ChunkTree,
    ) -> BoxFuture<'static, Result<Box<dyn Staging>, PublishError>> {
        let store = self.0.clone();
        Box::pin(async move {
            let staged = store.receive(digest, length, rank, tree).await?;
            let staging: Box<dyn Staging> = Box::new(staged);
            Ok(staging)
        })
    }
}

impl Staging for Staged {
    fn missing(&self) -> Vec<Range<u64>> {
        Self::missing(self)
    }

    fn write(&mut self, chunk: u64, bytes: ChunkBytes) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(Self::write(self, chunk, bytes))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), PublishError>> {
        Box::pin(Self::commit(*self))
    }
}
