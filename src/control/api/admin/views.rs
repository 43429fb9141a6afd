//! Questions, answered from snapshots: nothing here waits for the database or for a task.

use super::SteerQuestion;
use super::routes::Answer;
use super::routes::Shared;
use super::routes::bad;
use super::routes::query;
use crate::clock;
use crate::control::fleet::BoxView;
use crate::control::fleet::Shut;
use crate::control::fleet::View;
use crate::control::model::Appliance;
use crate::help;
use crate::ids::BoxId;
use crate::local;
use crate::local::Failure;
use crate::prefix::Prefix;
use crate::route::Route;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Routes in one answer: some megabyte of JSON. Whoever wants more asks again with `after`.
const ROUTES_MAX: usize = 5_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RoutesQuery {
    #[serde(rename = "box")]
    id: Option<BoxId>,
    /// This prefix and what it covers.
    prefix: Option<Prefix>,
    /// Every prefix that contains it.
    ip: Option<IpAddr>,
    /// Rows to leave out: `next` of the answer before.
    after: usize,
    limit: Option<usize>,
}

pub(super) async fn status(State(shared): State<Shared>) -> Response {
    let deps = &shared.deps;
    let (registry, library) = (deps.books.registry(), deps.books.library());
    let fleet = (deps.fleet)();
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    for one in registry.appliances.values() {
        let seen = fleet.boxes.get(&one.id).map(|seen| &**seen);
        *states.entry(state(one, seen)).or_default() += 1;
    }
    let bundles = library.bundles.iter().flatten();
    let keys: usize = bundles.clone().map(|bundle| bundle.keys.len()).sum();
    let bytes = library.objects.iter().map(|object| object.length);
    local::ok(json!({
        "version": deps.version,
        "time": format!("{:.3}", clock::wall()),
        "uptime_s": clock::now().saturating_duration_since(deps.started).as_secs(),
        "domain": deps.domain,
        "link": {"url": deps.link_url, "ca": deps.authority.fingerprint()},
        "revision": {"registry": registry.revision, "library": library.revision},
        "partners": registry.partners.len(),
        "sites": registry.sites.len(),
        "clusters": registry.clusters.len(),
        "boxes": {"total": registry.appliances.len(), "states": states},
        "fleet": {"generation": fleet.generation, "frozen": fleet.frozen},
        "library": {
            "bundles": bundles.count(),
            "objects": library.objects.len(),
            "keys": keys,
            "bytes": bytes.fold(0, u64::saturating_add),
        },
        "import": shared.import.show(),
    }))
}

pub(super) async fn boxes(State(shared): State<Shared>) -> Response {
    let registry = shared.deps.books.registry();
    let fleet = (shared.deps.fleet)();
    let rows: Vec<Value> = registry
        .appliances
        .values()
        .map(|one| box_row(one, fleet.boxes.get(&one.id).map(|seen| &**seen)))
        .collect();
    local::ok(json!({"boxes": rows, "frozen": fleet.frozen}))
}

fn box_row(one: &Appliance, seen: Option<&BoxView>) -> Value {
    let mut row = json!({
        "id": one.id,
        "site": one.site,
        "cluster": one.cluster,
        "state": state(one, seen),
        "enabled": one.enabled,
        "enrolled": one.key_fingerprint.is_some(),
        "quarantined": one.quarantined,
        "revoked": one.revoked,
        "certificate_ends": one.certificate_ends.map(|at| format!("{at:.0}")),
    });
    if let Some(seen) = seen {
        row["gate"] = json!(seen.gate);
        row["objects"] = json!(seen.objects);
        row["bundles"] = json!(seen.bundles.len());
        row["routes"] = json!(seen.routes.len());
        row["connections"] = json!(seen.load.connections);
        row["manifest"] = json!(seen.manifest);
        row["boot_id"] = json!(seen.boot_id);
        row["version"] = json!(seen.version);
        row["last_report"] = json!(seen.last_report);
        row["last_heartbeat"] = json!(seen.last_heartbeat);
    }
    row
}

/// One word or two for what steering thinks of a box.
fn state(one: &Appliance, seen: Option<&BoxView>) -> String {
    match seen.map(|seen| seen.open.clone()) {
        _ if one.revoked => "revoked".to_owned(),
        _ if one.quarantined.is_some() => "quarantined".to_owned(),
        None | Some(Err(Shut::Unknown)) if one.key_fingerprint.is_none() => {
            "not enrolled".to_owned()
        }
        None => "unknown".to_owned(),
        Some(Ok(())) => "open".to_owned(),
        Some(Err(shut)) => match shut {
            Shut::Unknown => "unknown".to_owned(),
            Shut::Gate(gate) => gate,
            Shut::NotEnabled => "not enabled".to_owned(),
            Shut::Quarantined => "quarantined".to_owned(),
            Shut::Revoked => "revoked".to_owned(),
            Shut::Silent => "silent".to_owned(),
            Shut::Stale => "stale".to_owned(),
        },
    }
}

pub(super) async fn routes(State(shared): State<Shared>, uri: Uri) -> Answer {
    let asked: RoutesQuery = query(&uri)?;
    if let Some(id) = &asked.id
        && !shared.deps.books.registry().appliances.contains_key(id)
    {
        let message = format!("box `{id}` does not exist");
        return Err(Failure::new(StatusCode::NOT_FOUND, message));
    }
    let fleet = (shared.deps.fleet)();
    // A fleet has millions of routes: the walk is not for the thread that answers viewers.
    let walked = tokio::task::spawn_blocking(move || walk(&fleet, &asked)).await;
    let failed = |error: tokio::task::JoinError| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    };
    walked.map(local::ok).map_err(failed)
}

fn walk(fleet: &Arc<View>, asked: &RoutesQuery) -> Value {
    let limit = asked.limit.unwrap_or(ROUTES_MAX).clamp(1, ROUTES_MAX);
    let boxes = fleet.boxes.iter();
    let chosen = boxes.filter(|(id, _)| asked.id.as_ref().is_none_or(|only| only == *id));
    let matching = chosen.flat_map(|(id, seen)| {
        let routes = seen.routes.iter().filter(|route| is_asked(route, asked));
        routes.map(move |route| (id, route))
    });
    let (mut total, mut rows) = (0_usize, Vec::new());
    for (id, route) in matching {
        total += 1;
        if total > asked.after && rows.len() < limit {
            rows.push(route_row(id, route));
        }
    }
    let seen = asked.after.saturating_add(rows.len());
    let next = (seen < total && !rows.is_empty()).then_some(seen);
    json!({"routes": rows, "total": total, "next": next})
}

fn is_asked(route: &Route, asked: &RoutesQuery) -> bool {
    let prefix = &route.prefix;
    asked.prefix.is_none_or(|wanted| wanted.covers(prefix))
        && asked.ip.is_none_or(|ip| prefix.contains(ip))
}

fn route_row(id: &BoxId, route: &Route) -> Value {
    json!({
        "box": id,
        "prefix": route.prefix,
        "neighbour": route.neighbour,
        "class": route.class,
        "as_path": route.attributes.as_path,
        "med": route.attributes.med,
        "communities": route.attributes.communities,
        "next_hop": route.attributes.next_hop,
        "filtered": route.filtered,
    })
}

pub(super) async fn steer(State(shared): State<Shared>, uri: Uri) -> Answer {
    let asked: SteerQuestion = query(&uri)?;
    match (shared.deps.steer)(&asked) {
        Ok(answer) => Ok(local::ok(answer)),
        Err(problem) => Err(bad(help::printable(problem.as_bytes(), 400))),
    }
}

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    (kind, shared.deps.metrics.render()).into_response()
}
