//! What BGP learned: neighbours and routes, a page at a time. Nothing here waits.

use super::routes::Shared;
use super::speaker::misnamed;
use crate::bgp::Snapshot;
use crate::help;
use crate::local;
use crate::local::Failure;
use crate::prefix::Prefix;
use crate::route::Route;
use crate::route_table::RouteTable;
use crate::route_table::Seen;
use axum::extract::Query;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::net::IpAddr;

/// Rows of one page: some 300 kB of JSON. Clients ask again with `after`.
const PAGE_ROWS_MAX: usize = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RoutesQuery {
    /// This prefix and what it covers.
    prefix: Option<Prefix>,
    /// Every prefix that covers this address, longest first.
    address: Option<IpAddr>,
    /// Only of the neighbour with this name or unambiguous beginning.
    neighbour: Option<String>,
    /// Only those that never steer, or only those that may.
    filtered: Option<bool>,
    /// The `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn bgp(State(shared): State<Shared>) -> Response {
    local::ok(json!({"bgp": (shared.views.bgp)().neighbours}))
}

/// The counts that status carries.
pub(super) fn counts(snapshot: &Snapshot, details: &Value) -> Value {
    let routes = details.as_array().into_iter().flatten();
    let routes = routes.filter_map(|detail| detail["kernel_routes"].as_array());
    let refused = routes.flatten().filter(|route| !route["problem"].is_null());
    let is_up = |neighbour: &&crate::bgp::NeighbourView| neighbour.state == "established";
    json!({
        "neighbours": snapshot.neighbours.len(),
        "established": snapshot.neighbours.iter().filter(is_up).count(),
        "routes": snapshot.routes.len(),
        "steerable": snapshot.steerable,
        "generation": snapshot.generation,
        "kernel_routes_refused": refused.count(),
    })
}

pub(super) async fn routes(State(shared): State<Shared>, uri: Uri) -> Result<Response, Failure> {
    let Query(query) = Query::<RoutesQuery>::try_from_uri(&uri).map_err(|error| {
        let text = help::printable(error.body_text().as_bytes(), 200);
        bad(format!(
            "{text}; known are prefix, address, neighbour, filtered, after and limit"
        ))
    })?;
    let snapshot = (shared.views.bgp)();
    let from = query.neighbour.as_deref();
    let from = from.map(|name| snapshot.meant(name)).transpose();
    let from = from.map_err(|error| misnamed(&error))?;
    let from = from.map(|index| snapshot.neighbours[index].name.as_str());
    let keep = |seen: &Seen<'_>| {
        from.is_none_or(|name| *name == **seen.neighbour())
            && query
                .filtered
                .is_none_or(|wanted| wanted != seen.is_steerable())
    };
    let most = query.limit.unwrap_or(PAGE_ROWS_MAX).clamp(1, PAGE_ROWS_MAX);
    let (rows, next) = match (query.address, query.prefix) {
        (Some(_), Some(_)) => {
            return Err(bad("ask for an address or for a prefix, not for both"));
        }
        (Some(address), None) => {
            let found = snapshot.routes.covering(address).into_iter();
            (found.filter(keep).take(most).collect(), None)
        }
        (None, prefix) => {
            let after = query.after.as_deref().map(place).transpose()?;
            page(&snapshot.routes, prefix, after, (keep, most))
        }
    };
    if rows.is_empty() && query.after.is_none() {
        let missing = match (query.address, query.prefix) {
            (Some(address), _) => format!("no route covers {address}"),
            (None, Some(prefix)) => format!("no route for {prefix}, nor for a part of it"),
            (None, None) => return Ok(local::ok(json!({"routes": [], "next": null}))),
        };
        return Err(Failure::new(StatusCode::NOT_FOUND, missing));
    }
    let rows: Vec<Value> = rows.into_iter().map(|seen| row(&seen.route())).collect();
    let mut answer = json!({"routes": rows, "next": next});
    if let Some(address) = query.address {
        // The prefix that viewers at this address are steered by, and the one that says that a
        // neighbour reaches it at all: a default route or a filtered one does that too.
        let prefix = |seen: Option<Seen<'_>>| json!(seen.map(|seen| seen.prefix));
        answer["steerable"] = prefix(snapshot.routes.steerable(address));
        answer["reachable"] = prefix(snapshot.routes.reachable(address));
    }
    Ok(local::ok(answer))
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, message)
}

/// The attributes as the link says them, with what is absent left out but for MED.
fn row(route: &Route) -> Value {
    let mut row = json!(&*route.attributes);
    row["prefix"] = json!(route.prefix);
    row["neighbour"] = json!(&*route.neighbour);
    row["class"] = json!(route.class);
    row["origin"] = json!(route.attributes.origin);
    row["steerable"] = json!(route.is_steerable());
    row["filtered"] = json!(route.filtered);
    if route.path_id > 0 {
        row["path_id"] = json!(route.path_id);
    }
    row
}

/// `<prefix>,<path identifier>,<neighbour>`: a place in the list that outlives the route that stood
/// there.
fn place(text: &str) -> Result<(Prefix, &str, u32), Failure> {
    let refused = || bad("`after` must be the `next` of the page before");
    let (prefix, rest) = text.split_once(',').ok_or_else(refused)?;
    let (path_id, neighbour) = rest.split_once(',').ok_or_else(refused)?;
    let prefix = prefix.parse().map_err(|_| refused())?;
    Ok((prefix, neighbour, path_id.parse().map_err(|_| refused())?))
}

/// What `prefix` covers stands together: behind it, and before the first that it does not cover.
fn page<'a>(
    routes: &'a RouteTable,
    prefix: Option<Prefix>,
    after: Option<(Prefix, &str, u32)>,
    (keep, most): (impl Fn(&Seen<'_>) -> bool, usize),
) -> (Vec<Seen<'a>>, Option<String>) {
    let behind = after.map(|(prefix, ..)| prefix);
    let first = prefix.into_iter().chain(behind).max();
    let all = match first {
        Some(first) => routes.iter_from(&first),
        None => routes.iter(),
    };
    let mut rows: Vec<Seen<'a>> = all
        .skip_while(|seen| after.is_some_and(|after| seen.place() <= after))
        .take_while(|seen| prefix.is_none_or(|prefix| prefix.covers(&seen.prefix)))
        .filter(keep)
        .take(most + 1)
        .collect();
    let more = rows.len() > most;
    rows.truncate(most);
    let next = rows.last().filter(|_| more);
    let next = next.map(|seen| {
        let (prefix, neighbour, path_id) = seen.place();
        format!("{prefix},{path_id},{neighbour}")
    });
    (rows, next)
}
