//! Boxes: what an operator says of them, and the tokens that make them who they are.

use super::routes::Answer;
use super::routes::Shared;
use super::routes::bad;
use super::routes::command;
use super::routes::refused;
use crate::clock;
use crate::clock::Wall;
use crate::control::authority::token;
use crate::control::model::Appliance;
use crate::control::model::Grant;
use crate::control::model::Registry;
use crate::control::store::ControlStoreError;
use crate::ids::BoxId;
use crate::ids::Profile;
use crate::local;
use crate::local::Failure;
use crate::local::Peer;
use crate::prefix::Family;
use crate::units::Bytes;
use crate::units::parse_duration;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// For HTTPS.
const HTTPS_PORT: u16 = 443;

/// Between boxes.
const PEER_PORT: u16 = 7443;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplianceBody {
    id: BoxId,
    cluster: String,
    profile: Profile,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    https_port: Option<u16>,
    peer_port: Option<u16>,
    /// `100 TB`.
    capacity: String,
    #[serde(default)]
    enabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoxBody {
    id: BoxId,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuarantineBody {
    id: BoxId,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeletionBody {
    id: BoxId,
    /// `2 TB`.
    bytes: String,
    /// `24h`.
    #[serde(rename = "for")]
    time: String,
}

pub(super) async fn list(State(shared): State<Shared>) -> Response {
    let registry = shared.deps.books.registry();
    let rows = registry.appliances.values();
    let domain = &shared.deps.domain;
    let rows: Vec<Value> = rows.map(|one| row(&registry, one, domain)).collect();
    local::ok(json!({ "appliances": rows }))
}

pub(super) async fn put(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let body: ApplianceBody = command(peer, "appliance add", body).await?;
    let capacity = Bytes::parse(&body.capacity)
        .map_err(|error| bad(format!("capacity: {error}")))?
        .0;
    // The site is in the name: `c009-<site>`.
    let site = body
        .id
        .as_str()
        .split_once('-')
        .map_or("", |(_, site)| site);
    let appliance = Appliance {
        site: site.to_owned(),
        cluster: body.cluster,
        profile: body.profile,
        ipv4: body.ipv4,
        ipv6: body.ipv6,
        https_port: body.https_port.unwrap_or(HTTPS_PORT),
        peer_port: body.peer_port.unwrap_or(PEER_PORT),
        capacity,
        enabled: body.enabled,
        quarantined: None,
        revoked: false,
        key_fingerprint: None,
        certificate_ends: None,
        id: body.id.clone(),
    };
    let store = shared.deps.books.store();
    store.put_appliance(appliance).await.map_err(refused)?;
    one(&shared, &body.id).await
}

pub(super) async fn enable(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let BoxBody { id } = command(peer, "appliance enable", body).await?;
    let store = shared.deps.books.store();
    store.set_enabled(id.clone(), true).await.map_err(refused)?;
    one(&shared, &id).await
}

pub(super) async fn disable(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let BoxBody { id } = command(peer, "appliance disable", body).await?;
    let store = shared.deps.books.store();
    store
        .set_enabled(id.clone(), false)
        .await
        .map_err(refused)?;
    one(&shared, &id).await
}

/// It stands where it is filled; an operator at it may fill it without window and cap.
pub(super) async fn prefilling(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let BoxBody { id } = command(peer, "appliance prefilling", body).await?;
    let store = shared.deps.books.store();
    let put = store.set_prefilling(id.clone(), true).await;
    put.map_err(refused)?;
    one(&shared, &id).await
}

/// Its window and cap hold again.
pub(super) async fn shipped(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let BoxBody { id } = command(peer, "appliance shipped", body).await?;
    let store = shared.deps.books.store();
    let put = store.set_prefilling(id.clone(), false).await;
    put.map_err(refused)?;
    one(&shared, &id).await
}

/// For a box that has never been: it must not push out one that is serving.
pub(super) async fn token(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let BoxBody { id } = command(peer, "appliance token", body).await?;
    let registry = shared.deps.books.registry();
    let taken = registry
        .appliances
        .get(&id)
        .is_some_and(|one| one.key_fingerprint.is_some() || one.revoked);
    if taken {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            format!(
                "box {id} has enrolled: a token would take its name from the machine that has it; \
                 if that is what you want, `oca control appliance replace {id}`"
            ),
        ));
    }
    provision(&shared, id).await
}

/// Frees the name from its machine, whatever became of that, and gives a token for the next one.
pub(super) async fn replace(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let BoxBody { id } = command(peer, "appliance replace", body).await?;
    provision(&shared, id).await
}

pub(super) async fn revoke(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let BoxBody { id } = command(peer, "appliance revoke", body).await?;
    let store = shared.deps.books.store();
    store.revoke(id.clone()).await.map_err(refused)?;
    one(&shared, &id).await
}

pub(super) async fn quarantine(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let QuarantineBody { id, reason } = command(peer, "appliance quarantine", body).await?;
    let reason: String = reason
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    let store = shared.deps.books.store();
    let put = store.quarantine(id.clone(), Some(reason)).await;
    put.map_err(refused)?;
    one(&shared, &id).await
}

pub(super) async fn unquarantine(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let BoxBody { id } = command(peer, "appliance unquarantine", body).await?;
    let store = shared.deps.books.store();
    store.quarantine(id.clone(), None).await.map_err(refused)?;
    one(&shared, &id).await
}

/// Leave to delete faster than the box's own pace, or under a new epoch; it replaces the last one.
pub(super) async fn allow_deletion(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let body: DeletionBody = command(peer, "appliance allow-deletion", body).await?;
    let bytes = Bytes::parse(&body.bytes).map_err(|error| bad(format!("bytes: {error}")))?;
    let time = parse_duration(&body.time).map_err(|error| bad(format!("for: {error}")))?;
    let issued = clock::wall();
    let grant = Grant {
        bytes: bytes.0,
        issued,
        expires: issued.checked_add(time).unwrap_or(Wall::MAX),
    };
    let store = shared.deps.books.store();
    let put = store.put_grant(body.id.clone(), grant).await;
    put.map_err(refused)?;
    one(&shared, &body.id).await
}

/// The provisioning file: everything a box needs to find us, believe us and be believed, once.
async fn provision(shared: &Shared, id: BoxId) -> Answer {
    let (text, hash) = token::make().map_err(|_| {
        refused(ControlStoreError::Database(
            "the system has no random numbers".to_owned(),
        ))
    })?;
    let ends = token::ends(clock::wall());
    let store = shared.deps.books.store();
    let put = store.put_token(id.clone(), hash, ends).await;
    put.map_err(refused)?;
    shared.refresh().await?;
    Ok(local::ok(json!({
        "url": shared.deps.link_url,
        "ca": shared.deps.authority.fingerprint(),
        "token": text,
        "id": id,
        "expires": format!("{ends:.0}"),
    })))
}

async fn one(shared: &Shared, id: &BoxId) -> Answer {
    shared.refresh().await?;
    let registry = shared.deps.books.registry();
    let appliance = registry.appliances.get(id);
    let appliance = appliance.map(|one| row(&registry, one, &shared.deps.domain));
    Ok(local::ok(json!({ "appliance": appliance })))
}

fn row(registry: &Registry, one: &Appliance, domain: &str) -> Value {
    let grant = registry.grants.get(&one.id);
    let grant = grant.filter(|grant| grant.expires > clock::wall());
    let family = |family, has: bool| has.then(|| one.host_name(Some(family), domain));
    json!({
        "id": one.id,
        "site": one.site,
        "cluster": one.cluster,
        "profile": one.profile,
        "ipv4": one.ipv4,
        "ipv6": one.ipv6,
        "https_port": one.https_port,
        "peer_port": one.peer_port,
        "capacity": one.capacity,
        "enabled": one.enabled,
        "prefilling": registry.prefilling.contains(&one.id),
        "quarantined": one.quarantined,
        "revoked": one.revoked,
        "enrolled": one.key_fingerprint.is_some(),
        "key_fingerprint": one.key_fingerprint,
        "certificate_ends": one.certificate_ends.map(|at| format!("{at:.0}")),
        "may_delete": grant.map(|grant| {
            json!({"bytes": grant.bytes, "until": format!("{:.0}", grant.expires)})
        }),
        "host": one.host_name(None, domain),
        "host_ipv4": family(Family::Ipv4, one.ipv4.is_some()),
        "host_ipv6": family(Family::Ipv6, one.ipv6.is_some()),
    })
}
