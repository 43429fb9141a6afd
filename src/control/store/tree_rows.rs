//! Chunk trees as rows: what boxes verify each chunk with, by the object's digest.
//!
//! A tree is believed only if it hashes to the digest; it is written once and never changes.

use super::ImportedKey;
use super::fault::Fault;
use super::rows;
use super::rows::ROWS_MAX;
use crate::object::ChunkTree;
use crate::object::Digest;
use sqlx::AnyConnection;
use sqlx::Row as _;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

pub(super) async fn put_trees(
    connection: &mut AnyConnection,
    trees: &[ChunkTree],
) -> Result<(), Fault> {
    let many = trees.iter().filter(|tree| !tree.chunks().is_empty());
    let many: BTreeMap<Digest, &[[u8; 32]]> =
        many.map(|tree| (tree.digest(), tree.chunks())).collect();
    write(connection, &many).await
}

/// The trees that came with keys, once each is known to be its object's.
pub(super) async fn put_imported(
    connection: &mut AnyConnection,
    keys: &[ImportedKey],
) -> Result<(), Fault> {
    let mut trees: BTreeMap<Digest, &[[u8; 32]]> = BTreeMap::new();
    for key in keys {
        let Some(chunks) = &key.tree else { continue };
        if trees.get(&key.digest) == Some(&chunks.as_slice()) {
            continue;
        }
        if ChunkTree::verified(key.digest, key.length, chunks.clone()).is_err() {
            return Err(Fault::refused(format!(
                "{}: its chunk tree does not hash to its digest; import it again",
                key.key
            )));
        }
        if !chunks.is_empty() {
            trees.insert(key.digest, chunks);
        }
    }
    write(connection, &trees).await
}

async fn write(
    connection: &mut AnyConnection,
    trees: &BTreeMap<Digest, &[[u8; 32]]>,
) -> Result<(), Fault> {
    let all: Vec<(&Digest, &&[[u8; 32]])> = trees.iter().collect();
    for part in all.chunks(ROWS_MAX) {
        let head = "INSERT INTO object_tree (digest, tree) VALUES";
        let tail = "ON CONFLICT (digest) DO NOTHING";
        let mut insert = rows::statement(rows::values(head, part.len(), 2, tail));
        for (digest, chunks) in part {
            insert = insert.bind(digest.0.to_vec()).bind(chunks.concat());
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn trees(
    connection: &mut AnyConnection,
    digests: &[Digest],
) -> Result<BTreeMap<Digest, Vec<[u8; 32]>>, Fault> {
    let mut found = BTreeMap::new();
    for part in digests.chunks(ROWS_MAX) {
        let head = "SELECT digest, tree FROM object_tree WHERE digest IN";
        let mut question = rows::statement(rows::any_of(head, part.len()));
        for digest in part {
            question = question.bind(digest.0.to_vec());
        }
        for row in question.fetch_all(&mut *connection).await? {
            let bytes: Vec<u8> = row.try_get(1)?;
            let (chunks, rest) = bytes.as_chunks::<32>();
            if !rest.is_empty() {
                return Err(rows::broken("a chunk tree of odd length"));
            }
            found.insert(rows::digest(&row, 0)?, chunks.to_vec());
        }
    }
    Ok(found)
}

pub(super) async fn known(
    connection: &mut AnyConnection,
    digests: &[Digest],
) -> Result<BTreeSet<Digest>, Fault> {
    let mut found = BTreeSet::new();
    for part in digests.chunks(ROWS_MAX) {
        let head = "SELECT digest FROM object_tree WHERE digest IN";
        let mut question = rows::statement(rows::any_of(head, part.len()));
        for digest in part {
            question = question.bind(digest.0.to_vec());
        }
        for row in question.fetch_all(&mut *connection).await? {
            found.insert(rows::digest(&row, 0)?);
        }
    }
    Ok(found)
}
