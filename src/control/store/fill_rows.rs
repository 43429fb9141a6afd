//! What operators say of the night, as rows: fill clusters, titles, leaves to delete.

use super::fault::Fault;
use super::registry_rows::LIBRARY;
use super::registry_rows::REGISTRY;
use super::registry_rows::exists;
use super::registry_rows::raise;
use super::rows;
use super::rules;
use crate::control::model::Escalation;
use crate::control::model::FILL_CLUSTER;
use crate::control::model::FillCluster;
use crate::control::model::Grant;
use crate::control::model::TitleState;
use crate::help::printable;
use crate::ids::BoxId;
use sqlx::AnyConnection;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

pub(super) async fn fill_clusters(
    connection: &mut AnyConnection,
) -> Result<BTreeMap<String, FillCluster>, Fault> {
    let question = "SELECT name, masters, hops_allowed, hops_wait, network_wait, origin_wait, \
                    live_share FROM fill_cluster";
    let mut found = BTreeMap::new();
    for row in sqlx::query(question).fetch_all(connection).await? {
        let name = rows::text(&row, 0)?;
        let fill_cluster = FillCluster {
            name: name.clone(),
            masters: rows::number(&row, 1)?,
            escalation: Escalation {
                hops_allowed: rows::number(&row, 2)?,
                hops_wait: rows::duration(&row, 3)?.unwrap_or_default(),
                network_wait: rows::duration(&row, 4)?,
                origin_wait: rows::duration(&row, 5)?,
            },
            live_share: rows::number(&row, 6)?,
        };
        found.insert(name, fill_cluster);
    }
    Ok(found)
}

pub(super) async fn put_fill_cluster(
    connection: &mut AnyConnection,
    fill_cluster: &FillCluster,
) -> Result<(), Fault> {
    rules::fill_cluster(fill_cluster)?;
    let how_far = fill_cluster.escalation;
    sqlx::query(
        "INSERT INTO fill_cluster (name, masters, hops_allowed, hops_wait, network_wait, \
         origin_wait, live_share) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (name) DO UPDATE SET masters = excluded.masters, \
         hops_allowed = excluded.hops_allowed, hops_wait = excluded.hops_wait, \
         network_wait = excluded.network_wait, origin_wait = excluded.origin_wait, \
         live_share = excluded.live_share",
    )
    .bind(fill_cluster.name.as_str())
    .bind(i64::from(fill_cluster.masters))
    .bind(i64::from(how_far.hops_allowed))
    .bind(rows::micros(how_far.hops_wait))
    .bind(how_far.network_wait.map(rows::micros))
    .bind(how_far.origin_wait.map(rows::micros))
    .bind(i64::from(fill_cluster.live_share))
    .execute(&mut *connection)
    .await?;
    raise(connection, REGISTRY).await
}

pub(super) async fn remove_fill_cluster(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<(), Fault> {
    exists(connection, "fill_cluster", name).await?;
    if name == FILL_CLUSTER {
        return Err(Fault::refused(format!(
            "policy `{FILL_CLUSTER}` is what clusters have that are not told otherwise; change it \
             with `oca control policy set {FILL_CLUSTER}`"
        )));
    }
    let user = sqlx::query("SELECT name FROM cluster WHERE fill_cluster = $1 ORDER BY name")
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(user) = user {
        let user = rows::text(&user, 0)?;
        return Err(Fault::refused(format!(
            "cluster `{user}` has policy `{name}`; give it another one first: `oca control \
             cluster add {user} --policy {FILL_CLUSTER}`"
        )));
    }
    sqlx::query("DELETE FROM fill_cluster WHERE name = $1")
        .bind(name)
        .execute(&mut *connection)
        .await?;
    raise(connection, REGISTRY).await
}

/// Boxes that are filled before they are shipped.
pub(super) async fn prefilling(connection: &mut AnyConnection) -> Result<BTreeSet<BoxId>, Fault> {
    let question = "SELECT appliance FROM prefilling";
    let mut found = BTreeSet::new();
    for row in sqlx::query(question).fetch_all(connection).await? {
        found.insert(rows::parsed(&row, 0)?);
    }
    Ok(found)
}

/// A box that may serve viewers is not filled at full speed: its network is its viewers'.
pub(super) async fn set_prefilling(
    connection: &mut AnyConnection,
    id: &BoxId,
    prefilling: bool,
) -> Result<(), Fault> {
    let enabled = sqlx::query("SELECT enabled FROM appliance WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| Fault::not_found(format!("box `{id}`")))?;
    if prefilling && rows::flag(&enabled, 0)? {
        return Err(Fault::refused(format!(
            "box `{id}` may serve viewers; `oca control appliance disable {id}` comes before it \
             is filled without window and cap"
        )));
    }
    ship(connection, id).await?;
    if prefilling {
        sqlx::query("INSERT INTO prefilling (appliance) VALUES ($1)")
            .bind(id.as_str())
            .execute(&mut *connection)
            .await?;
    }
    raise(connection, REGISTRY).await
}

/// It is not prefilling any more, if it was. Whoever calls raises the revision.
pub(super) async fn ship(connection: &mut AnyConnection, id: &BoxId) -> Result<(), Fault> {
    sqlx::query("DELETE FROM prefilling WHERE appliance = $1")
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Ended ones too: whoever acts on a grant looks at its time.
pub(super) async fn grants(
    connection: &mut AnyConnection,
) -> Result<BTreeMap<BoxId, Grant>, Fault> {
    let question = "SELECT appliance, bytes, issued, expires FROM deletion_grant";
    let mut found = BTreeMap::new();
    for row in sqlx::query(question).fetch_all(connection).await? {
        let time = |column| rows::wall(&row, column)?.ok_or_else(|| rows::broken("no time"));
        let grant = Grant {
            bytes: rows::number(&row, 1)?,
            issued: time(2)?,
            expires: time(3)?,
        };
        found.insert(rows::parsed(&row, 0)?, grant);
    }
    Ok(found)
}

pub(super) async fn put_grant(
    connection: &mut AnyConnection,
    id: &BoxId,
    grant: Grant,
) -> Result<(), Fault> {
    rules::grant(grant)?;
    let known = sqlx::query("SELECT id FROM appliance WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if known.is_none() {
        return Err(Fault::not_found(format!("box `{id}`")));
    }
    sqlx::query("DELETE FROM deletion_grant WHERE expires <= $1")
        .bind(grant.issued.as_microsecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO deletion_grant (appliance, bytes, issued, expires) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (appliance) DO UPDATE SET bytes = excluded.bytes, \
         issued = excluded.issued, expires = excluded.expires",
    )
    .bind(id.as_str())
    .bind(rows::signed(grant.bytes))
    .bind(grant.issued.as_microsecond())
    .bind(grant.expires.as_microsecond())
    .execute(&mut *connection)
    .await?;
    raise(connection, REGISTRY).await
}

pub(super) async fn titles(
    connection: &mut AnyConnection,
) -> Result<BTreeMap<String, TitleState>, Fault> {
    let question = "SELECT name, withdrawn, urgent_until FROM title";
    let mut found = BTreeMap::new();
    for row in sqlx::query(question).fetch_all(connection).await? {
        let state = TitleState {
            withdrawn: rows::flag(&row, 1)?,
            urgent_until: rows::wall(&row, 2)?,
        };
        found.insert(rows::text(&row, 0)?, state);
    }
    Ok(found)
}

pub(super) async fn set_title(
    connection: &mut AnyConnection,
    name: &str,
    state: TitleState,
) -> Result<(), Fault> {
    let below = format!("{name}/");
    // By characters, not by sorting: databases sort text by their own rules.
    let known = sqlx::query(
        "SELECT directory FROM bundle WHERE directory = $1 OR substr(directory, 1, $2) = $3 \
         LIMIT 1",
    )
    .bind(name)
    .bind(rows::signed(below.chars().count()))
    .bind(below.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    if known.is_none() || name.contains('/') {
        let name = printable(name.as_bytes(), 80);
        return Err(Fault::not_found(format!("title `{name}`")));
    }
    if state == TitleState::default() {
        sqlx::query("DELETE FROM title WHERE name = $1")
            .bind(name)
            .execute(&mut *connection)
            .await?;
    } else {
        sqlx::query(
            "INSERT INTO title (name, withdrawn, urgent_until) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET withdrawn = excluded.withdrawn, \
             urgent_until = excluded.urgent_until",
        )
        .bind(name)
        .bind(rows::bit(state.withdrawn))
        .bind(state.urgent_until.map(|at| at.as_microsecond()))
        .execute(&mut *connection)
        .await?;
    }
    raise(connection, LIBRARY).await
}
