//! Every path of the socket, who may use it, and what becomes of a refusal.
//!
//! Commands are logged with the credentials of whoever gave them.

use super::Deps;
use super::REPLY_TIME;
use super::appliances;
use super::clusters;
use super::import;
use super::import::Import;
use super::partners;
use super::quality;
use super::sites;
use super::titles;
use super::views;
use crate::clock;
use crate::control::store::ControlStoreError;
use crate::help;
use crate::local;
use crate::local::BODY_BYTES_MAX;
use crate::local::Failure;
use crate::local::Peer;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::middleware::Next;
use axum::middleware::from_fn;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The paths that exist, to name the nearest one to a wrong one.
const PATHS: [&str; 33] = [
    "/v1/status",
    "/v1/boxes",
    "/v1/routes",
    "/v1/quality",
    "/v1/steer",
    "/v1/partners",
    "/v1/partners/approve",
    "/v1/partners/disapprove",
    "/v1/sites",
    "/v1/sites/change",
    "/v1/clusters",
    "/v1/policies",
    "/v1/policies/remove",
    "/v1/appliances",
    "/v1/appliances/allow-deletion",
    "/v1/appliances/enable",
    "/v1/appliances/disable",
    "/v1/appliances/prefilling",
    "/v1/appliances/shipped",
    "/v1/appliances/token",
    "/v1/appliances/replace",
    "/v1/appliances/revoke",
    "/v1/appliances/quarantine",
    "/v1/appliances/unquarantine",
    "/v1/titles",
    "/v1/titles/withdraw",
    "/v1/titles/restore",
    "/v1/titles/urgent",
    "/v1/titles/calm",
    "/v1/import",
    "/v1/import/stop",
    "/v1/popularity",
    "/metrics",
];

/// What every handler sees.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) deps: Arc<Deps>,
    pub(super) import: Import,
    /// For the remedy that the read-only twin gives.
    full_socket: Arc<Path>,
}

/// What every handler returns.
pub(super) type Answer = Result<Response, Failure>;

impl Shared {
    pub(super) fn new(deps: Deps, full_socket: &Path) -> Self {
        Self {
            deps: Arc::new(deps),
            import: Import::default(),
            full_socket: full_socket.into(),
        }
    }
}

pub(super) fn full(shared: Shared) -> Router {
    questions()
        .route(
            "/v1/partners",
            get(partners::partners).post(partners::put_partner),
        )
        .route("/v1/partners/approve", post(partners::approve))
        .route("/v1/partners/disapprove", post(partners::disapprove))
        .route("/v1/sites", get(sites::list).post(sites::put))
        .route("/v1/sites/change", post(sites::change))
        .route("/v1/clusters", get(clusters::list).post(clusters::put))
        .route(
            "/v1/policies",
            get(clusters::policies).post(clusters::set_policy),
        )
        .route("/v1/policies/remove", post(clusters::remove_policy))
        .route("/v1/titles", get(titles::list))
        .route("/v1/titles/withdraw", post(titles::withdraw))
        .route("/v1/titles/restore", post(titles::restore))
        .route("/v1/titles/urgent", post(titles::urgent))
        .route("/v1/titles/calm", post(titles::calm))
        .route(
            "/v1/appliances",
            get(appliances::list).post(appliances::put),
        )
        .route("/v1/appliances/enable", post(appliances::enable))
        .route("/v1/appliances/disable", post(appliances::disable))
        .route("/v1/appliances/prefilling", post(appliances::prefilling))
        .route("/v1/appliances/shipped", post(appliances::shipped))
        .route("/v1/appliances/token", post(appliances::token))
        .route("/v1/appliances/replace", post(appliances::replace))
        .route("/v1/appliances/revoke", post(appliances::revoke))
        .route("/v1/appliances/quarantine", post(appliances::quarantine))
        .route(
            "/v1/appliances/unquarantine",
            post(appliances::unquarantine),
        )
        .route(
            "/v1/appliances/allow-deletion",
            post(appliances::allow_deletion),
        )
        .route("/v1/import", get(import::state).post(import::begin))
        .route("/v1/import/stop", post(import::stop))
        .route("/v1/popularity", post(import::popularity))
        .with_state(shared)
        .layer(from_fn(bounded))
}

/// The read-only twin: `GET` and nothing else.
pub(super) fn read_only(shared: Shared) -> Router {
    let refuse = from_fn_with_state(shared.clone(), questions_only);
    questions()
        .route("/v1/partners", get(partners::partners))
        .route("/v1/sites", get(sites::list))
        .route("/v1/clusters", get(clusters::list))
        .route("/v1/policies", get(clusters::policies))
        .route("/v1/titles", get(titles::list))
        .route("/v1/appliances", get(appliances::list))
        .route("/v1/import", get(import::state))
        .with_state(shared)
        .layer(from_fn(bounded))
        .layer(refuse)
}

fn questions() -> Router<Shared> {
    Router::new()
        .route("/v1/status", get(views::status))
        .route("/v1/boxes", get(views::boxes))
        .route("/v1/quality", get(quality::quality))
        .route("/v1/routes", get(views::routes))
        .route("/v1/steer", get(views::steer))
        .route("/metrics", get(views::metrics))
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
         its group"
    );
    Failure::new(StatusCode::FORBIDDEN, message).into_response()
}

/// A command that waits for the database too long ends here and is undone: transactions that are
/// not finished are rolled back.
async fn bounded(request: Request, next: Next) -> Response {
    match clock::within(REPLY_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!(
                "the control plane did not come to it within {} s; an import that writes holds up \
                 other changes: look at `oca control status` and try again",
                REPLY_TIME.as_secs()
            );
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
        }
    }
}

async fn unknown(uri: Uri) -> Failure {
    let path = help::printable(uri.path().as_bytes(), 80);
    let meant = help::nearest(uri.path(), PATHS)
        .map_or_else(String::new, |near| format!("; did you mean {near}?"));
    let message = format!("{path} is not known here{meant}");
    Failure::new(StatusCode::NOT_FOUND, message)
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let path = help::printable(uri.path().as_bytes(), 80);
    let method = help::printable(method.as_str().as_bytes(), 20);
    let message = format!("{path} does not answer to {method}; questions are GET, commands POST");
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// A command: its body read within bounds, parsed, and logged with whoever gave it.
pub(super) async fn command<T>(peer: Peer, verb: &str, body: Body) -> Result<T, Failure>
where
    T: DeserializeOwned + fmt::Debug,
{
    let command: T = local::parse(&local::read(body, BODY_BYTES_MAX).await?)?;
    let told = help::printable(format!("{command:?}").as_bytes(), 400);
    log(peer, verb, &told);
    Ok(command)
}

pub(super) fn log(peer: Peer, verb: &str, command: &str) {
    let Peer { uid, gid, pid } = peer;
    tracing::info!(uid, gid, pid, verb, command, "command received");
}

/// `?a=b` as `T`, or what is wrong with it.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Failure> {
    let query = axum::extract::Query::<T>::try_from_uri(uri);
    query
        .map(|axum::extract::Query(query)| query)
        .map_err(|error| {
            let text = help::printable(error.body_text().as_bytes(), 200);
            bad(text)
        })
}

pub(super) fn bad(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, message)
}

pub(super) fn refused(error: ControlStoreError) -> Failure {
    match error {
        ControlStoreError::NotFound(what) => {
            Failure::new(StatusCode::NOT_FOUND, format!("{what} does not exist"))
        }
        ControlStoreError::Refused(message) => Failure::new(StatusCode::CONFLICT, message),
        ControlStoreError::Database(_) => {
            tracing::error!(%error, "a command failed");
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    }
}

impl Shared {
    /// After a write: whoever asks next sees it.
    pub(super) async fn refresh(&self) -> Result<(), Failure> {
        self.deps.books.refresh().await.map_err(refused)
    }
}
