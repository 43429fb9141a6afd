//! Partners with their approvals, sites, clusters.

use super::routes::Answer;
use super::routes::Shared;
use super::routes::bad;
use super::routes::command;
use super::routes::refused;
use crate::control::iata;
use crate::control::model::Approval;
use crate::control::model::Cluster;
use crate::control::model::FILL_CLUSTER;
use crate::control::model::Partner;
use crate::control::model::Site;
use crate::control::model::SiteFill;
use crate::ids::SiteName;
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteBody {
    name: SiteName,
    partner: String,
    latitude: Option<f64>,
    longitude: Option<f64>,
    timezone: Option<String>,
    #[serde(default)]
    open: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterBody {
    name: String,
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

pub(super) async fn sites(State(shared): State<Shared>) -> Response {
    let registry = shared.deps.books.registry();
    let rows: Vec<Value> = registry.sites.values().map(site_row).collect();
    local::ok(json!({ "sites": rows }))
}

pub(super) async fn put_site(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let site = placed(command(peer, "site add", body).await?)?;
    let row = site_row(&site);
    let store = shared.deps.books.store();
    store.put_site(site).await.map_err(refused)?;
    shared.refresh().await?;
    Ok(local::ok(json!({ "site": row })))
}

/// The airport in the site's name knows where it is; an operator may know better.
fn placed(body: SiteBody) -> Result<Site, Failure> {
    let code: String = body.name.as_str().chars().take(3).collect();
    let place = iata::find(&code);
    let missing = |what: &str| {
        bad(format!(
            "{code} is not in the table of airports; give the {what} of site {}",
            body.name
        ))
    };
    if body.latitude.is_some() != body.longitude.is_some() {
        return Err(bad("give latitude and longitude together"));
    }
    let latitude = body.latitude.or(place.map(|place| place.latitude));
    let longitude = body.longitude.or(place.map(|place| place.longitude));
    let timezone = body
        .timezone
        .clone()
        .or(place.map(|place| place.timezone.to_owned()));
    Ok(Site {
        latitude: latitude.ok_or_else(|| missing("latitude"))?,
        longitude: longitude.ok_or_else(|| missing("longitude"))?,
        timezone: timezone.ok_or_else(|| missing("time zone"))?,
        name: body.name,
        partner: body.partner,
        open: body.open,
        fill: SiteFill::default(),
    })
}

fn site_row(site: &Site) -> Value {
    json!({
        "name": site.name,
        "label": site.name.label(),
        "partner": site.partner,
        "latitude": site.latitude,
        "longitude": site.longitude,
        "timezone": site.timezone,
        "open": site.open,
    })
}

pub(super) async fn clusters(State(shared): State<Shared>) -> Response {
    let registry = shared.deps.books.registry();
    let boxes_of = |name: &str| {
        let all = registry.appliances.values();
        all.filter(|one| one.cluster == name).count()
    };
    let clusters = registry.clusters.values();
    let rows: Vec<Value> = clusters
        .map(|cluster| json!({"name": cluster.name, "boxes": boxes_of(&cluster.name)}))
        .collect();
    local::ok(json!({ "clusters": rows }))
}

pub(super) async fn put_cluster(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let ClusterBody { name } = command(peer, "cluster add", body).await?;
    let store = shared.deps.books.store();
    let cluster = Cluster {
        name: name.clone(),
        fill_cluster: FILL_CLUSTER.to_owned(),
    };
    store.put_cluster(cluster).await.map_err(refused)?;
    shared.refresh().await?;
    Ok(local::ok(json!({ "cluster": {"name": name} })))
}
