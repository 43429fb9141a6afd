//! Partners with their approvals.

use super::routes::Answer;
use super::routes::Shared;
use super::routes::bad;
use super::routes::command;
use super::routes::refused;
use crate::control::model::Approval;
use crate::control::model::Partner;
use crate::local;
use crate::local::Failure;
use crate::local::Peer;
use crate::prefix::Prefix;
use crate::route::Asn;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartnerBody {
    name: String,
    #[serde(default)]
    title: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalBody {
    partner: String,
    #[serde(default)]
    prefixes: Vec<Prefix>,
    #[serde(default)]
    origins: Vec<Asn>,
}

pub(super) async fn partners(State(shared): State<Shared>) -> Response {
    let registry = shared.deps.books.registry();
    let rows: Vec<Value> = registry.partners.values().map(partner_row).collect();
    local::ok(json!({ "partners": rows }))
}

pub(super) async fn put_partner(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let PartnerBody { name, title } = command(peer, "partner add", body).await?;
    let partner = Partner {
        name: name.clone(),
        title,
        approvals: Vec::new(),
    };
    let store = shared.deps.books.store();
    store.put_partner(partner).await.map_err(refused)?;
    shared.refresh().await?;
    one_partner(&shared, &name)
}

pub(super) async fn approve(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let body: ApprovalBody = command(peer, "partner approve", body).await?;
    let store = shared.deps.books.store();
    for approval in approvals(&body)? {
        let approved = store.approve(body.partner.clone(), approval).await;
        // Those before this one stay; the message names this one.
        if let Err(error) = approved {
            shared.refresh().await?;
            return Err(refused(error));
        }
    }
    shared.refresh().await?;
    one_partner(&shared, &body.partner)
}

pub(super) async fn disapprove(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let body: ApprovalBody = command(peer, "partner disapprove", body).await?;
    let store = shared.deps.books.store();
    for approval in approvals(&body)? {
        let gone = store.disapprove(body.partner.clone(), approval).await;
        if let Err(error) = gone {
            shared.refresh().await?;
            return Err(refused(error));
        }
    }
    shared.refresh().await?;
    one_partner(&shared, &body.partner)
}

fn approvals(body: &ApprovalBody) -> Result<Vec<Approval>, Failure> {
    let prefixes = body.prefixes.iter().copied().map(Approval::Prefix);
    let origins = body.origins.iter().copied().map(Approval::Origin);
    let all: Vec<Approval> = prefixes.chain(origins).collect();
    if all.is_empty() {
        return Err(bad("name at least one prefix or one origin AS"));
    }
    Ok(all)
}

fn one_partner(shared: &Shared, name: &str) -> Answer {
    let registry = shared.deps.books.registry();
    Ok(local::ok(json!({
        "partner": registry.partners.get(name).map(partner_row),
    })))
}

fn partner_row(partner: &Partner) -> Value {
    let mut prefixes = Vec::new();
    let mut origins = Vec::new();
    for approval in &partner.approvals {
        match approval {
            Approval::Prefix(prefix) => prefixes.push(prefix),
            Approval::Origin(asn) => origins.push(asn),
        }
    }
    json!({
        "name": partner.name,
        "title": partner.title,
        "prefixes": prefixes,
        "origins": origins,
    })
}
