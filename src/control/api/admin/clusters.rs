//! Clusters, and the policies (fill clusters) that say how their nights go.

use super::routes::Answer;
use super::routes::Shared;
use super::routes::bad;
use super::routes::command;
use super::routes::refused;
use crate::control::model::Cluster;
use crate::control::model::FILL_CLUSTER;
use crate::control::model::FillCluster;
use crate::control::model::Registry;
use crate::local;
use crate::local::Failure;
use crate::local::Peer;
use crate::units::parse_duration;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterBody {
    name: String,
    policy: Option<String>,
}

/// What is not said stays, or is the default of a policy that is new.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyBody {
    name: String,
    masters: Option<u32>,
    hops: Option<u32>,
    /// `10m`.
    hops_wait: Option<String>,
    /// `30m` or `never`.
    network_wait: Option<String>,
    origin_wait: Option<String>,
    live_share: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NameBody {
    name: String,
}

pub(super) async fn list(State(shared): State<Shared>) -> Response {
    let registry = shared.deps.books.registry();
    let clusters = registry.clusters.values();
    let rows: Vec<Value> = clusters.map(|one| row(&registry, one)).collect();
    local::ok(json!({ "clusters": rows }))
}

pub(super) async fn put(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let ClusterBody { name, policy } = command(peer, "cluster add", body).await?;
    let registry = shared.deps.books.registry();
    let before = registry.clusters.get(&name);
    let before = before.map_or(FILL_CLUSTER, |cluster| &cluster.fill_cluster);
    let cluster = Cluster {
        fill_cluster: policy.unwrap_or_else(|| before.to_owned()),
        name,
    };
    let store = shared.deps.books.store();
    let put = store.put_cluster(cluster.clone()).await;
    put.map_err(refused)?;
    shared.refresh().await?;
    let registry = shared.deps.books.registry();
    Ok(local::ok(json!({ "cluster": row(&registry, &cluster) })))
}

fn row(registry: &Registry, cluster: &Cluster) -> Value {
    let all = registry.appliances.values();
    let boxes = all.filter(|one| one.cluster == cluster.name).count();
    json!({"name": cluster.name, "policy": cluster.fill_cluster, "boxes": boxes})
}

pub(super) async fn policies(State(shared): State<Shared>) -> Response {
    let registry = shared.deps.books.registry();
    let policies = registry.fill_clusters.values();
    let rows: Vec<Value> = policies.map(|one| policy_row(&registry, one)).collect();
    local::ok(json!({ "policies": rows }))
}

pub(super) async fn set_policy(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let body: PolicyBody = command(peer, "policy set", body).await?;
    let registry = shared.deps.books.registry();
    let before = registry.fill_clusters.get(&body.name).cloned();
    let mut policy = before.unwrap_or_else(|| FillCluster::named(&body.name));
    policy.masters = body.masters.unwrap_or(policy.masters);
    policy.live_share = body.live_share.unwrap_or(policy.live_share);
    let how_far = &mut policy.escalation;
    how_far.hops_allowed = body.hops.unwrap_or(how_far.hops_allowed);
    if let Some(text) = &body.hops_wait {
        let never = || bad("hops-wait: with `never` nobody but peers is asked: write `hops` 0");
        how_far.hops_wait = wait("hops-wait", text)?.ok_or_else(never)?;
    }
    if let Some(text) = &body.network_wait {
        how_far.network_wait = wait("network-wait", text)?;
    }
    if let Some(text) = &body.origin_wait {
        how_far.origin_wait = wait("origin-wait", text)?;
    }
    let store = shared.deps.books.store();
    let put = store.put_fill_cluster(policy.clone()).await;
    put.map_err(refused)?;
    shared.refresh().await?;
    let registry = shared.deps.books.registry();
    Ok(local::ok(
        json!({ "policy": policy_row(&registry, &policy) }),
    ))
}

pub(super) async fn remove_policy(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let NameBody { name } = command(peer, "policy remove", body).await?;
    let store = shared.deps.books.store();
    let gone = store.remove_fill_cluster(name.clone()).await;
    gone.map_err(refused)?;
    shared.refresh().await?;
    Ok(local::ok(json!({ "removed": {"name": name} })))
}

/// `None` for `never`.
fn wait(name: &str, text: &str) -> Result<Option<Duration>, Failure> {
    if text == "never" {
        return Ok(None);
    }
    let time = parse_duration(text);
    time.map(Some)
        .map_err(|error| bad(format!("{name}: {error}; or `never`")))
}

fn policy_row(registry: &Registry, policy: &FillCluster) -> Value {
    let all = registry.clusters.values();
    let clusters = all.filter(|one| one.fill_cluster == policy.name).count();
    let how_far = policy.escalation;
    json!({
        "name": policy.name,
        "masters": policy.masters,
        "hops": how_far.hops_allowed,
        "hops_wait_s": how_far.hops_wait.as_secs(),
        "network_wait_s": how_far.network_wait.map(|wait| wait.as_secs()),
        "origin_wait_s": how_far.origin_wait.map(|wait| wait.as_secs()),
        "live_share": policy.live_share,
        "clusters": clusters,
    })
}
