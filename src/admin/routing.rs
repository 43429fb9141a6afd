//! What BGP learned: neighbours and routes, a page at a time. Nothing here waits.

use super::routes::Shared;
use crate::bgp::Snapshot;
use crate::help;
use crate::local;
use crate::local::Failure;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Route;
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
    /// The `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn bgp(State(shared): State<Shared>) -> Response {
    local::ok(json!({"bgp": (shared.views.bgp)().neighbours}))
}

/// The counts that status carries.
pub(super) fn counts(snapshot: &Snapshot) -> Value {
    let is_up = |neighbour: &&crate::bgp::NeighbourView| neighbour.state == "established";
    json!({
        "neighbours": snapshot.neighbours.len(),
        "established": snapshot.neighbours.iter().filter(is_up).count(),
        "routes": snapshot.routes.len(),
        "steerable": snapshot.steerable,
        "generation": snapshot.generation,
    })
}

pub(super) async fn routes(State(shared): State<Shared>, uri: Uri) -> Result<Response, Failure> {
    let Query(query) = Query::<RoutesQuery>::try_from_uri(&uri).map_err(|error| {
        let text = help::printable(error.body_text().as_bytes(), 200);
        bad(format!(
            "{text}; known are prefix, address, after and limit"
        ))
    })?;
    let snapshot = (shared.views.bgp)();
    let most = query.limit.unwrap_or(PAGE_ROWS_MAX).clamp(1, PAGE_ROWS_MAX);
    let (rows, next) = match (query.address, query.prefix) {
        (Some(_), Some(_)) => {
            return Err(bad("ask for an address or for a prefix, not for both"));
        }
        (Some(address), None) => (covering(&snapshot.routes, address, most), None),
        (None, prefix) => {
            let after = query.after.as_deref().map(place).transpose()?;
            page(&snapshot.routes, prefix, after, most)
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
    let rows: Vec<Value> = rows.into_iter().map(row).collect();
    Ok(local::ok(json!({"routes": rows, "next": next})))
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, message)
}

fn row(route: &Route) -> Value {
    json!({
        "prefix": route.prefix,
        "neighbour": &*route.neighbour,
        "class": route.class,
        "as_path": route.attributes.as_path,
        "med": route.attributes.med,
        "communities": route.attributes.communities,
        "next_hop": route.attributes.next_hop,
        "steerable": route.is_steerable(),
        "filtered": route.filtered,
    })
}

/// `<prefix>,<neighbour>`: a place in the list that outlives the route that stood there.
fn place(text: &str) -> Result<(Prefix, &str), Failure> {
    let refused = || bad("`after` must be the `next` of the page before");
    let (prefix, neighbour) = text.split_once(',').ok_or_else(refused)?;
    Ok((prefix.parse().map_err(|_| refused())?, neighbour))
}

/// Longest first. Routes are sorted by prefix, so each length is one search.
fn covering(routes: &[Route], address: IpAddr, most: usize) -> Vec<&Route> {
    let lengths = (0..=Family::of(address).bits()).rev();
    let found = lengths.filter_map(|length| Prefix::new(address, length).ok());
    let found = found.flat_map(|prefix| {
        let first = routes.partition_point(|route| route.prefix < prefix);
        routes[first..]
            .iter()
            .take_while(move |route| route.prefix == prefix)
    });
    found.take(most).collect()
}

/// What `prefix` covers stands together: behind it, and before the first that it does not cover.
fn page<'a>(
    routes: &'a [Route],
    prefix: Option<Prefix>,
    after: Option<(Prefix, &str)>,
    most: usize,
) -> (Vec<&'a Route>, Option<String>) {
    let first = prefix.map_or(0, |prefix| {
        routes.partition_point(|route| route.prefix < prefix)
    });
    let behind = after.map_or(0, |after| {
        routes.partition_point(|route| (route.prefix, &*route.neighbour) <= after)
    });
    let mut rows: Vec<&Route> = routes[first.max(behind)..]
        .iter()
        .take_while(|route| prefix.is_none_or(|prefix| prefix.covers(&route.prefix)))
        .take(most + 1)
        .collect();
    let more = rows.len() > most;
    rows.truncate(most);
    let next = rows.last().filter(|_| more);
    let next = next.map(|route| format!("{},{}", route.prefix, route.neighbour));
    (rows, next)
}
