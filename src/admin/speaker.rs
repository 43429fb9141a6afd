//! BGP for operators: neighbours in full, counts of routes, orders, and MRT for their tools.
//!
//! Questions come from views and never wait; an order goes to `appliance` like every command. A
//! table is streamed from one snapshot; messages as they pass are fetched a page at a time.

use super::commands;
use super::commands::Answer;
use super::routes::Shared;
use crate::bgp::OrderError;
use crate::bgp::Snapshot;
use crate::command::BgpOrder;
use crate::command::Command;
use crate::help;
use crate::local;
use crate::local::Failure;
use crate::local::Peer;
use crate::prefix::Family;
use axum::body::Body;
use axum::extract::Extension;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderName;
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
use std::convert::Infallible;

/// Where the next question for messages goes on, and how many were lost before it.
const NEXT: HeaderName = HeaderName::from_static("x-oca-next");
const LOST: HeaderName = HeaderName::from_static("x-oca-lost");

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NeighbourQuery {
    /// A name or its unambiguous beginning; without it, all.
    neighbour: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpBody {
    neighbour: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DownBody {
    neighbour: String,
    #[serde(default)]
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshBody {
    neighbour: String,
    #[serde(default)]
    family: Option<Family>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TapBody {
    #[serde(default)]
    after: Option<u64>,
}

/// Neighbours with everything that is known of them.
pub(super) async fn all(State(shared): State<Shared>, uri: Uri) -> Result<Response, Failure> {
    let query = Query::<NeighbourQuery>::try_from_uri(&uri);
    let Query(query) = query.map_err(|error| {
        let text = help::printable(error.body_text().as_bytes(), 200);
        bad(format!("{text}; known is neighbour"))
    })?;
    let snapshot = (shared.views.bgp)();
    let only = query.neighbour.as_deref();
    let only = only.map(|name| snapshot.meant(name)).transpose();
    let only = only.map_err(|error| misnamed(&error))?;
    let Value::Array(details) = (shared.views.bgp_detail)() else {
        return Ok(local::ok(json!({"bgp": []})));
    };
    let rows = snapshot.neighbours.iter().zip(details).enumerate();
    let rows = rows.filter(|(index, _)| only.is_none_or(|only| only == *index));
    let rows = rows.map(|(_, (view, detail))| {
        let mut row = json!(view);
        if let (Some(row), Value::Object(detail)) = (row.as_object_mut(), detail) {
            row.extend(detail);
        }
        row
    });
    Ok(local::ok(json!({"bgp": rows.collect::<Vec<_>>()})))
}

/// A name that nobody has, or too many.
pub(super) fn misnamed(error: &OrderError) -> Failure {
    let status = match error {
        OrderError::Unknown { .. } => StatusCode::NOT_FOUND,
        OrderError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
        OrderError::NotEstablished
        | OrderError::NoRefresh
        | OrderError::Busy
        | OrderError::Stopping => StatusCode::CONFLICT,
    };
    Failure::new(status, error.to_string())
}

/// How many routes there are, by neighbour, family and what became of them.
pub(super) async fn count(State(shared): State<Shared>) -> Response {
    let snapshot = (shared.views.bgp)();
    let counts = counts(&snapshot);
    let rows = counts.iter().map(|((neighbour, family, state), count)| {
        json!({"neighbour": neighbour, "family": family, "state": state, "routes": count})
    });
    local::ok(json!({
        "counts": rows.collect::<Vec<_>>(),
        "generation": snapshot.generation,
    }))
}

fn counts(snapshot: &Snapshot) -> BTreeMap<(&str, &'static str, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for route in snapshot.routes.iter() {
        let family = match route.prefix.family() {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let state = route
            .filtered()
            .map_or("steerable", |reason| reason.as_str());
        *counts
            .entry((&**route.neighbour(), family, state))
            .or_default() += 1;
    }
    counts
}

/// The table of this moment: MRT, `TABLE_DUMP_V2`.
pub(super) async fn mrt(State(shared): State<Shared>) -> Result<Response, Failure> {
    let dump = (shared.views.bgp_table)().ok_or_else(nobody)?;
    let chunks = futures_util::stream::iter(dump.map(Ok::<_, Infallible>));
    Ok((octets(), Body::from_stream(chunks)).into_response())
}

/// Messages since the last question: MRT, `BGP4MP_ET`.
pub(super) async fn tap(State(shared): State<Shared>, body: Body) -> Result<Response, Failure> {
    let TapBody { after } = local::optional(commands::read(body).await?)?;
    let page = (shared.views.bgp_tap)(after).ok_or_else(nobody)?;
    let counted = [
        (NEXT, HeaderValue::from(page.next)),
        (LOST, HeaderValue::from(page.lost)),
    ];
    Ok((octets(), counted, Body::from(page.bytes)).into_response())
}

pub(super) async fn up(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let UpBody { neighbour } = local::parse(&commands::read(body).await?)?;
    order(&shared, peer, neighbour, BgpOrder::Up).await
}

pub(super) async fn down(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let DownBody { neighbour, text } = local::parse(&commands::read(body).await?)?;
    order(&shared, peer, neighbour, BgpOrder::Down { text }).await
}

pub(super) async fn refresh(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let RefreshBody { neighbour, family } = local::parse(&commands::read(body).await?)?;
    order(&shared, peer, neighbour, BgpOrder::Refresh { family }).await
}

async fn order(shared: &Shared, peer: Peer, neighbour: String, order: BgpOrder) -> Answer {
    commands::send(shared, peer, Command::Bgp { neighbour, order }).await
}

fn octets() -> [(HeaderName, HeaderValue); 1] {
    let kind = HeaderValue::from_static("application/octet-stream");
    [(header::CONTENT_TYPE, kind)]
}

fn nobody() -> Failure {
    let message = "this box has no BGP neighbours: it has no [bgp]";
    Failure::new(StatusCode::CONFLICT, message)
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, message)
}
