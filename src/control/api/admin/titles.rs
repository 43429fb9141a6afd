//! Titles: how they stand, and what an operator says of them.

use super::routes::Answer;
use super::routes::Shared;
use super::routes::bad;
use super::routes::command;
use super::routes::query;
use super::routes::refused;
use crate::clock;
use crate::clock::Wall;
use crate::control::liveness::Standing;
use crate::control::model::TitleState;
use crate::help::printable;
use crate::local;
use crate::local::Failure;
use crate::local::Peer;
use crate::units::parse_duration;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::Uri;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// What is urgent for longer is not urgent: it goes by the night.
const URGENT_TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TitleBody {
    title: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UrgentBody {
    title: String,
    /// `6h`.
    #[serde(rename = "for")]
    time: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TitlesQuery {
    /// This title alone.
    title: Option<String>,
}

pub(super) async fn list(State(shared): State<Shared>, uri: Uri) -> Answer {
    let asked: TitlesQuery = query(&uri)?;
    if let Some(name) = asked.title {
        return one(&shared, &name);
    }
    let liveness = shared.deps.liveness.clone();
    let now = clock::wall();
    // Every title in every cluster: not for the thread that answers viewers.
    let all = tokio::task::spawn_blocking(move || liveness.titles_standing(now)).await;
    let all =
        all.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let rows: Vec<Value> = all.iter().map(row).collect();
    Ok(local::ok(json!({ "titles": rows })))
}

fn one(shared: &Shared, name: &str) -> Answer {
    let standing = shared.deps.liveness.title(name, clock::wall());
    let standing = standing.ok_or_else(|| unknown(name))?;
    Ok(local::ok(json!({ "title": row(&standing) })))
}

fn unknown(name: &str) -> Failure {
    let message = format!(
        "title `{}` does not exist; a title is the first segment of its keys: `oca control title \
         list` has all of them",
        printable(name.as_bytes(), 80)
    );
    Failure::new(StatusCode::NOT_FOUND, message)
}

pub(super) async fn withdraw(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let TitleBody { title } = command(peer, "title withdraw", body).await?;
    change(&shared, &title, |state| state.withdrawn = true).await
}

pub(super) async fn restore(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let TitleBody { title } = command(peer, "title restore", body).await?;
    change(&shared, &title, |state| state.withdrawn = false).await
}

pub(super) async fn calm(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let TitleBody { title } = command(peer, "title calm", body).await?;
    change(&shared, &title, |state| state.urgent_until = None).await
}

pub(super) async fn urgent(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let UrgentBody { title, time } = command(peer, "title urgent", body).await?;
    let time = parse_duration(&time).map_err(|error| bad(format!("for: {error}")))?;
    if time.is_zero() || time > URGENT_TIME_MAX {
        return Err(bad("for: write more than nothing and at most 7d"));
    }
    let now = clock::wall();
    refuse_crowd(&shared, &title, now)?;
    let until = now.checked_add(time).unwrap_or(Wall::MAX);
    change(&shared, &title, |state| state.urgent_until = Some(until)).await
}

/// Every reply to every box carries what is urgent, and urgent bytes have a budget of their own.
fn refuse_crowd(shared: &Shared, title: &str, now: Wall) -> Result<(), Failure> {
    let library = shared.deps.books.library();
    let is_withdrawn = library
        .titles
        .get(title)
        .is_some_and(|state| state.withdrawn);
    if is_withdrawn {
        let message = format!("title `{title}` is withdrawn; restore it first");
        return Err(Failure::new(StatusCode::CONFLICT, message));
    }
    let others = library.titles.iter().filter(|(name, state)| {
        *name != title && !state.withdrawn && state.urgent_until.is_some_and(|until| until > now)
    });
    let most = shared.deps.urgent_max;
    if others.count() < most {
        return Ok(());
    }
    let message = format!(
        "{most} titles are urgent already ([fill] urgent_max); calm one first: `oca control title \
         list` shows them"
    );
    Err(Failure::new(StatusCode::CONFLICT, message))
}

async fn change(shared: &Shared, title: &str, change: impl FnOnce(&mut TitleState)) -> Answer {
    let library = shared.deps.books.library();
    let mut state = library.titles.get(title).copied().unwrap_or_default();
    change(&mut state);
    let store = shared.deps.books.store();
    let set = store.set_title(title.to_owned(), state).await;
    set.map_err(refused)?;
    shared.refresh().await?;
    one(shared, title)
}

fn row(standing: &Standing) -> Value {
    let mut value = json!(standing);
    let until = standing.urgent_until;
    value["urgent_until"] = json!(until.map(|at| format!("{at:.0}")));
    value
}
