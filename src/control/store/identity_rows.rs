//! Tokens, keys and certificates of boxes as rows; quarantine and revocation.

use super::Issued;
use super::fault::Fault;
use super::registry_rows::REGISTRY;
use super::registry_rows::raise;
use super::rows;
use crate::clock::Wall;
use crate::ids::BoxId;
use crate::object::Digest;
use sqlx::AnyConnection;
use sqlx::Row as _;

pub(super) async fn quarantine(
    connection: &mut AnyConnection,
    id: &BoxId,
    reason: Option<&str>,
) -> Result<(), Fault> {
    let change = sqlx::query("UPDATE appliance SET quarantined = $1 WHERE id = $2")
        .bind(reason.map(str::to_owned))
        .bind(id.as_str());
    one_box(change.execute(&mut *connection).await?, id)?;
    raise(connection, REGISTRY).await
}

/// The open token goes too: it would let the revoked box in again.
pub(super) async fn revoke(connection: &mut AnyConnection, id: &BoxId) -> Result<(), Fault> {
    let change = sqlx::query("UPDATE appliance SET revoked = 1 WHERE id = $1").bind(id.as_str());
    one_box(change.execute(&mut *connection).await?, id)?;
    drop_token(connection, id).await?;
    raise(connection, REGISTRY).await
}

pub(super) async fn put_token(
    connection: &mut AnyConnection,
    id: &BoxId,
    hash: Digest,
    ends: Wall,
) -> Result<(), Fault> {
    let freed = sqlx::query(
        "UPDATE appliance SET revoked = 0, quarantined = NULL, key_fingerprint = NULL, \
         certificate_ends = NULL WHERE id = $1",
    )
    .bind(id.as_str());
    one_box(freed.execute(&mut *connection).await?, id)?;
    drop_token(connection, id).await?;
    sqlx::query(
        "INSERT INTO token (appliance, hash, ends, key_fingerprint) VALUES ($1, $2, $3, NULL)",
    )
    .bind(id.as_str())
    .bind(hash.0.to_vec())
    .bind(ends.as_microsecond())
    .execute(&mut *connection)
    .await?;
    raise(connection, REGISTRY).await
}

pub(super) async fn redeem(
    connection: &mut AnyConnection,
    hash: Digest,
    key_fingerprint: &str,
    now: Wall,
) -> Result<BoxId, Fault> {
    let row = sqlx::query("SELECT appliance, ends, key_fingerprint FROM token WHERE hash = $1")
        .bind(hash.0.to_vec())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| Fault::not_found("a token like this one"))?;
    let id: BoxId = rows::parsed(&row, 0)?;
    let ends = rows::wall(&row, 1)?.unwrap_or(Wall::MIN);
    if now >= ends {
        return Err(Fault::refused(format!(
            "the token of box {id} ended at {ends:.0}; make another one with `oca control \
             appliance token {id}`"
        )));
    }
    let bound: Option<String> = row.try_get(2)?;
    match bound {
        Some(bound) if bound == key_fingerprint => return Ok(id),
        Some(_) => {
            return Err(Fault::refused(format!(
                "the token of box {id} was used with another key; if that was not this box, give \
                 it another one with `oca control appliance replace {id}`"
            )));
        }
        None => {}
    }
    let other = sqlx::query("SELECT id FROM appliance WHERE key_fingerprint = $1 AND id <> $2")
        .bind(key_fingerprint)
        .bind(id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(other) = other {
        return Err(Fault::refused(format!(
            "this key is the one of box {}; a box makes a key of its own: empty its identity \
             directory and enrol again",
            rows::text(&other, 0)?
        )));
    }
    // The condition makes the database itself choose one winner, whatever its isolation.
    let won = sqlx::query(
        "UPDATE token SET key_fingerprint = $1 WHERE hash = $2 AND key_fingerprint IS NULL",
    )
    .bind(key_fingerprint)
    .bind(hash.0.to_vec())
    .execute(&mut *connection)
    .await?;
    if won.rows_affected() == 0 {
        return Err(Fault::refused(format!(
            "the token of box {id} was used a moment ago"
        )));
    }
    let bind = sqlx::query("UPDATE appliance SET key_fingerprint = $1 WHERE id = $2")
        .bind(key_fingerprint)
        .bind(id.as_str());
    one_box(bind.execute(&mut *connection).await?, &id)?;
    raise(connection, REGISTRY).await?;
    Ok(id)
}

/// Only for the key that the name is bound to: a token given out in between frees the name, and
/// the certificate that was on its way is void.
pub(super) async fn put_issued(
    connection: &mut AnyConnection,
    id: &BoxId,
    issued: &Issued,
) -> Result<(), Fault> {
    let change = sqlx::query(
        "UPDATE appliance SET certificate_ends = $1 \
         WHERE id = $2 AND key_fingerprint = $3 AND revoked = 0",
    )
    .bind(issued.ends.as_microsecond())
    .bind(id.as_str())
    .bind(issued.key_fingerprint.as_str())
    .execute(&mut *connection)
    .await?;
    if change.rows_affected() == 0 {
        return Err(Fault::refused(format!(
            "box {id} is not bound to this key: it was replaced, revoked or never enrolled; give \
             it a token with `oca control appliance replace {id}`"
        )));
    }
    raise(connection, REGISTRY).await
}

async fn drop_token(connection: &mut AnyConnection, id: &BoxId) -> Result<(), Fault> {
    sqlx::query("DELETE FROM token WHERE appliance = $1")
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

fn one_box(changed: sqlx::any::AnyQueryResult, id: &BoxId) -> Result<(), Fault> {
    if changed.rows_affected() == 0 {
        return Err(Fault::not_found(format!("box `{id}`")));
    }
    Ok(())
}
