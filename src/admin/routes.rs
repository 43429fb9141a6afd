//! Questions and their answers. Nothing here waits: all of it comes from views.

use super::commands;
use super::routing;
use super::speaker;
use super::views::Views;
use crate::clock;
use crate::gate::Gate;
use crate::gate::Reason;
use crate::help;
use crate::key;
use crate::local;
use crate::local::Failure;
use crate::task::Heartbeat;
use crate::telemetry;
use axum::Router;
use axum::extract::Query;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Rows of one catalogue page: some 300 kB of JSON. Clients ask again with `after`.
const PAGE_ROWS_MAX: usize = 1_000;

/// The paths that exist, to name the nearest one to a wrong one.
const PATHS: [&str; 35] = [
    "/v1/status",
    "/v1/disks",
    "/v1/catalogue",
    "/v1/bgp",
    "/v1/bgp/all",
    "/v1/bgp/mrt",
    "/v1/bgp/tap",
    "/v1/bgp/up",
    "/v1/bgp/down",
    "/v1/bgp/refresh",
    "/v1/routes",
    "/v1/routes/count",
    "/v1/config",
    "/v1/serving",
    "/v1/connections",
    "/v1/tls",
    "/v1/quality",
    "/v1/fill",
    "/v1/fill/nights",
    "/v1/fill/certificate",
    "/v1/fill/certificate/check",
    "/v1/fill/start",
    "/v1/disks/adopt",
    "/v1/disks/check",
    "/v1/disks/format",
    "/v1/disks/retire",
    "/v1/fill/pause",
    "/v1/fill/resume",
    "/v1/prefill",
    "/v1/prefill/stop",
    "/v1/drain",
    "/v1/undrain",
    "/v1/reload",
    "/v1/log-level",
    "/metrics",
];

/// What every handler sees.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) views: Views,
    pub(super) metrics: telemetry::Registry,
    pub(super) heartbeats: Arc<[Heartbeat]>,
    pub(super) commands: tokio::sync::mpsc::Sender<crate::command::Request>,
    pub(super) reply_time: Duration,
    /// For the remedy that the read-only twin gives.
    pub(super) full_socket: Arc<std::path::Path>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CatalogueQuery {
    /// Exactly this key, or 404.
    key: Option<String>,
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
}

/// The full socket: questions and commands.
pub(super) fn full(shared: Shared) -> Router {
    questions()
        .route("/v1/prefill", get(prefill).post(commands::prefill))
        .route("/v1/prefill/stop", post(commands::prefill_stop))
        .route("/v1/fill/start", post(commands::fill_start))
        .route("/v1/fill/pause", post(commands::fill_pause))
        .route(
            "/v1/fill/certificate/check",
            post(commands::certificate_check),
        )
        .route("/v1/fill/resume", post(commands::fill_resume))
        .route("/v1/bgp/tap", post(speaker::tap))
        .route("/v1/bgp/up", post(speaker::up))
        .route("/v1/bgp/down", post(speaker::down))
        .route("/v1/bgp/refresh", post(speaker::refresh))
        .route("/v1/disks/adopt", post(commands::disk_adopt))
        .route("/v1/disks/check", post(commands::disk_check))
        .route("/v1/disks/format", post(commands::disk_format))
        .route("/v1/disks/retire", post(commands::disk_retire))
        .route("/v1/drain", post(commands::drain))
        .route("/v1/undrain", post(commands::undrain))
        .route("/v1/reload", post(commands::reload))
        .route("/v1/log-level", post(commands::log_level))
        .with_state(shared)
}

/// The read-only twin: `GET` and nothing else.
pub(super) fn read_only(shared: Shared) -> Router {
    let refuse = axum::middleware::from_fn_with_state(shared.clone(), questions_only);
    questions()
        .route("/v1/prefill", get(prefill))
        .with_state(shared)
        .layer(refuse)
}

/// The TCP listener: metrics and nothing else.
pub(super) fn metrics_only(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "only /metrics is served here"))
        .with_state(shared)
}

fn questions() -> Router<Shared> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/disks", get(disks))
        .route("/v1/catalogue", get(catalogue))
        .route("/v1/bgp", get(routing::bgp))
        .route("/v1/bgp/all", get(speaker::all))
        .route("/v1/bgp/mrt", get(speaker::mrt))
        .route("/v1/routes", get(routing::routes))
        .route("/v1/routes/count", get(speaker::count))
        .route("/v1/config", get(config))
        .route("/v1/serving", get(serving))
        .route("/v1/connections", get(connections))
        .route("/v1/tls", get(tls))
        .route("/v1/quality", get(quality))
        .route("/v1/fill", get(fill))
        .route("/v1/fill/nights", get(fill_nights))
        .route("/v1/fill/certificate", get(fill_certificate))
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

async fn questions_only(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    let full = shared.full_socket.display();
    let message = format!(
        "this socket only answers questions; send commands to {full} as root or as a member of \
         its group (`oca`)"
    );
    Failure::new(StatusCode::FORBIDDEN, message).into_response()
}

async fn unknown(uri: Uri) -> Failure {
    let path = help::printable(uri.path().as_bytes(), 80);
    let meant = help::nearest(uri.path(), PATHS)
        .map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Failure::new(
        StatusCode::NOT_FOUND,
        format!("{path} is not known here{meant}"),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let path = help::printable(uri.path().as_bytes(), 80);
    let method = help::printable(method.as_str().as_bytes(), 20);
    let message = format!("{path} does not answer to {method}; questions are GET, commands POST");
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

async fn status(State(shared): State<Shared>) -> Response {
    let views = &shared.views;
    let gate = views.gate.borrow().clone();
    let store = (views.store)();
    let (now, mut disks) = (clock::now(), std::collections::BTreeMap::new());
    for disk in &store.disks {
        *disks.entry(disk.state).or_insert(0_u64) += 1;
    }
    let heartbeats = shared
        .heartbeats
        .iter()
        .map(|heart| json!({"name": heart.name(), "alive": heart.is_alive(now)}))
        .collect::<Vec<_>>();
    local::ok(json!({
        "id": views.identity.id,
        "site": views.identity.site,
        "version": views.version,
        "state": state(&gate),
        "gate": {"state": gate.state(), "reasons": gate.reasons()},
        "time": format!("{:.3}", clock::wall()),
        "uptime_s": now.saturating_duration_since(views.started).as_secs(),
        "catalogue": {
            "generation": store.generation,
            "objects": store.objects,
            "bytes": store.bytes,
        },
        "manifest": store.manifest,
        "disks": {"total": store.disks.len(), "states": disks},
        "drain": (views.drain)(),
        "control": (views.control)(),
        "connections": (views.serve)().get("connections"),
        "schedulers": heartbeats,
        "bgp": routing::counts(&(views.bgp)(), &(views.bgp_detail)()),
        "fill": fill_in_short(&(views.fill)()),
    }))
}

/// One word for the whole box: the gate's reasons say the rest.
fn state(gate: &Gate) -> &'static str {
    let reasons = gate.reasons();
    if reasons.contains(&Reason::Stopping) {
        "stopping"
    } else if reasons.contains(&Reason::Drained) {
        "drained"
    } else {
        gate.state()
    }
}

async fn disks(State(shared): State<Shared>) -> Response {
    let store = (shared.views.store)();
    local::ok(json!({"disks": store.disks, "moves": store.moves}))
}

async fn catalogue(State(shared): State<Shared>, uri: Uri) -> Result<Response, Failure> {
    let Query(query) = Query::<CatalogueQuery>::try_from_uri(&uri).map_err(|error| {
        let text = help::printable(error.body_text().as_bytes(), 200);
        let message = format!("{text}; known are key, prefix, after and limit");
        Failure::new(StatusCode::BAD_REQUEST, message)
    })?;
    let list = &shared.views.catalogue;
    if let Some(key) = &query.key {
        // The first row of those that begin with the whole key is the key itself, or it is absent.
        let mut rows = list(key, None, 1);
        rows.retain(|row| row.key == *key);
        if rows.is_empty() {
            let key = help::printable(key.as_bytes(), key::KEY_BYTES_MAX);
            let message = format!("no key {key} in the manifest of this box");
            return Err(Failure::new(StatusCode::NOT_FOUND, message));
        }
        return Ok(local::ok(json!({"catalogue": rows, "next": null})));
    }
    let most = query.limit.unwrap_or(PAGE_ROWS_MAX).clamp(1, PAGE_ROWS_MAX);
    let mut rows = list(&query.prefix, query.after.as_deref(), most + 1);
    let more = rows.len() > most;
    rows.truncate(most);
    let next = rows.last().filter(|_| more).map(|row| row.key.clone());
    Ok(local::ok(json!({"catalogue": rows, "next": next})))
}

async fn config(State(shared): State<Shared>) -> Response {
    local::ok((shared.views.config)())
}

async fn serving(State(shared): State<Shared>) -> Response {
    local::ok((shared.views.serve)())
}

async fn connections(State(shared): State<Shared>) -> Response {
    // Counts and listeners, and beside them the viewers themselves.
    let mut view = (shared.views.serve)();
    if let Some(members) = view.as_object_mut() {
        members.insert("viewers".to_owned(), (shared.views.viewers)());
    }
    local::ok(view)
}

async fn tls(State(shared): State<Shared>) -> Response {
    local::ok((shared.views.tls)())
}

async fn quality(State(shared): State<Shared>) -> Response {
    local::ok((shared.views.quality)())
}

async fn fill(State(shared): State<Shared>) -> Result<Response, Failure> {
    Ok(local::ok(fill_view(&shared)?))
}

async fn fill_nights(State(shared): State<Shared>) -> Result<Response, Failure> {
    let mut view = fill_view(&shared)?;
    let (nights, total) = (view["nights"].take(), view["nights_total"].take());
    Ok(local::ok(json!({"nights": nights, "total": total})))
}

async fn fill_certificate(State(shared): State<Shared>) -> Result<Response, Failure> {
    Ok(local::ok(fill_view(&shared)?["certificate"].take()))
}

fn fill_view(shared: &Shared) -> Result<Value, Failure> {
    let view = (shared.views.fill)();
    if view.is_null() {
        let message = "this box does not fill: it has no control plane ([control] url)";
        return Err(Failure::new(StatusCode::CONFLICT, message));
    }
    Ok(view)
}

/// What status carries; a box that does not fill says so in figures.
fn fill_in_short(view: &Value) -> Value {
    let figure = |name: &str| view[name].as_u64().unwrap_or(0);
    json!({
        "window_open": view["window"]["open"].as_bool().unwrap_or(false),
        "window_bytes": figure("window_bytes"),
        "rate_bps": figure("rate_bps"),
        "cap_bps": figure("cap_bps"),
        "reason": view["reason"],
    })
}

async fn prefill(State(shared): State<Shared>) -> Response {
    local::ok((shared.views.prefill)())
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    (kind, shared.metrics.render()).into_response()
}
