//! What other rooms remember between starts: digests of imported files, published manifests.

use super::CachedDigest;
use super::Location;
use super::SIDECAR_MARK;
use super::fault::Fault;
use super::rows;
use super::rows::ROWS_MAX;
use crate::ids::BoxId;
use crate::link::message::Position;
use crate::object::Digest;
use sqlx::AnyConnection;
use std::collections::BTreeMap;

pub(super) async fn cached_digests(
    connection: &mut AnyConnection,
    source: &str,
) -> Result<BTreeMap<String, CachedDigest>, Fault> {
    let question = "SELECT path, size, tag, digest FROM source_file WHERE source = $1";
    let mut cached = BTreeMap::new();
    for row in sqlx::query(question)
        .bind(source)
        .fetch_all(connection)
        .await?
    {
        let digest = CachedDigest {
            size: rows::number(&row, 1)?,
            tag: rows::text(&row, 2)?,
            digest: rows::digest(&row, 3)?,
        };
        cached.insert(rows::text(&row, 0)?, digest);
    }
    Ok(cached)
}

pub(super) async fn put_cached_digests(
    connection: &mut AnyConnection,
    source: &str,
    digests: &BTreeMap<String, CachedDigest>,
) -> Result<(), Fault> {
    if digests.is_empty() {
        return Ok(());
    }
    let learned = "UPDATE counter SET value = value + 1 WHERE name = 'learned' RETURNING value";
    let learned = sqlx::query(learned).fetch_one(&mut *connection).await?;
    let learned: i64 = rows::number(&learned, 0)?;
    let all: Vec<(&String, &CachedDigest)> = digests.iter().collect();
    for part in all.chunks(ROWS_MAX) {
        let head = "INSERT INTO source_file (source, path, size, tag, digest, learned) VALUES";
        let tail = "ON CONFLICT (source, path) DO UPDATE SET size = excluded.size, \
                    tag = excluded.tag, digest = excluded.digest, learned = excluded.learned";
        let mut insert = rows::statement(rows::values(head, part.len(), 6, tail));
        for (path, cached) in part {
            insert = insert.bind(source).bind(path.as_str());
            insert = insert.bind(rows::signed(cached.size));
            insert = insert
                .bind(cached.tag.as_str())
                .bind(cached.digest.0.to_vec())
                .bind(learned);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Of several files with one digest the one that was read last.
pub(super) async fn locations(
    connection: &mut AnyConnection,
    digests: &[Digest],
) -> Result<BTreeMap<Digest, Location>, Fault> {
    let mut found: BTreeMap<Digest, (i64, Location)> = BTreeMap::new();
    for part in digests.chunks(ROWS_MAX) {
        let head = "SELECT digest, source, path, size, tag, learned FROM source_file \
                    WHERE digest IN";
        let mut question = rows::statement(rows::any_of(head, part.len()));
        for digest in part {
            question = question.bind(digest.0.to_vec());
        }
        for row in question.fetch_all(&mut *connection).await? {
            let digest = rows::digest(&row, 0)?;
            let tag = rows::text(&row, 4)?;
            let tag = tag.split_once(SIDECAR_MARK).map_or(&*tag, |(own, _)| own);
            let location = Location {
                source: rows::text(&row, 1)?,
                path: rows::text(&row, 2)?,
                size: rows::number(&row, 3)?,
                tag: tag.to_owned(),
            };
            let learned: i64 = rows::number(&row, 5)?;
            let is_better = found.get(&digest).is_none_or(|(before, kept)| {
                // Read in one go: the same one whatever order the database has.
                (*before, &kept.source, &kept.path) < (learned, &location.source, &location.path)
            });
            if is_better {
                found.insert(digest, (learned, location));
            }
        }
    }
    let found = found.into_iter();
    Ok(found.map(|(digest, (_, at))| (digest, at)).collect())
}

pub(super) async fn published(
    connection: &mut AnyConnection,
) -> Result<BTreeMap<BoxId, (Position, Digest)>, Fault> {
    let question = "SELECT appliance, epoch, generation, content FROM published";
    let mut published = BTreeMap::new();
    for row in sqlx::query(question).fetch_all(connection).await? {
        let position = Position {
            epoch: rows::number(&row, 1)?,
            generation: rows::number(&row, 2)?,
        };
        published.insert(rows::parsed(&row, 0)?, (position, rows::digest(&row, 3)?));
    }
    Ok(published)
}

/// A box takes only what is later than what it has: a step back would strand it.
pub(super) async fn put_published(
    connection: &mut AnyConnection,
    id: &BoxId,
    position: Position,
    content: Digest,
) -> Result<(), Fault> {
    let known = sqlx::query("SELECT id FROM appliance WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if known.is_none() {
        return Err(Fault::not_found(format!("box `{id}`")));
    }
    let (epoch, generation) = (position.epoch, position.generation);
    if i64::try_from(epoch).is_err() || i64::try_from(generation).is_err() {
        return Err(Fault::refused("a manifest's position must fit 63 bits"));
    }
    let changed = sqlx::query(
        "INSERT INTO published (appliance, epoch, generation, content) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (appliance) DO UPDATE SET epoch = excluded.epoch, \
         generation = excluded.generation, content = excluded.content \
         WHERE published.epoch < excluded.epoch OR (published.epoch = excluded.epoch \
         AND published.generation < excluded.generation)",
    )
    .bind(id.as_str())
    .bind(rows::signed(epoch))
    .bind(rows::signed(generation))
    .bind(content.0.to_vec())
    .execute(connection)
    .await?;
    if changed.rows_affected() == 0 {
        return Err(Fault::refused(format!(
            "box {id} was given a manifest as late as {epoch}.{generation} already"
        )));
    }
    Ok(())
}
