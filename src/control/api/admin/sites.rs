//! Sites: where they are, and when and how fast their boxes fill.

use super::routes::Answer;
use super::routes::Shared;
use super::routes::bad;
use super::routes::command;
use super::routes::refused;
use crate::control::iata;
use crate::control::model::Site;
use crate::control::model::SiteFill;
use crate::ids::SiteName;
use crate::local;
use crate::local::Failure;
use crate::local::Peer;
use crate::units::BytesPerSecond;
use crate::units::parse_duration;
use crate::window;
use crate::window::Window;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

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
    window_start: Option<String>,
    window_length: Option<String>,
    rate_limit: Option<String>,
}

/// What is not said stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    /// In any spelling, or its label.
    name: String,
    partner: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    timezone: Option<String>,
    open: Option<bool>,
    window_start: Option<String>,
    window_length: Option<String>,
    rate_limit: Option<String>,
}

/// `02:00`, `12h`, and `1 Gbit/s` or `none`.
struct FillWords<'a> {
    start: Option<&'a str>,
    length: Option<&'a str>,
    rate_limit: Option<&'a str>,
}

pub(super) async fn list(State(shared): State<Shared>) -> Response {
    let registry = shared.deps.books.registry();
    let rows: Vec<Value> = registry.sites.values().map(row).collect();
    local::ok(json!({ "sites": rows }))
}

pub(super) async fn put(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let body: SiteBody = command(peer, "site add", body).await?;
    let before = shared.deps.books.registry();
    let before = before.sites.get(&body.name.label());
    let fill = before.map_or_else(SiteFill::default, |site| site.fill);
    save(&shared, placed(body, fill)?).await
}

pub(super) async fn change(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let body: ChangeBody = command(peer, "site change", body).await?;
    let label = SiteName::parse(&body.name).map_or(body.name.clone(), |name| name.label());
    let registry = shared.deps.books.registry();
    let Some(site) = registry.sites.get(&label) else {
        let message = format!("site `{}` does not exist", body.name);
        return Err(Failure::new(StatusCode::NOT_FOUND, message));
    };
    let fill = filled(
        site.fill,
        &FillWords {
            start: body.window_start.as_deref(),
            length: body.window_length.as_deref(),
            rate_limit: body.rate_limit.as_deref(),
        },
    )?;
    let site = Site {
        name: site.name.clone(),
        partner: body.partner.unwrap_or_else(|| site.partner.clone()),
        latitude: body.latitude.unwrap_or(site.latitude),
        longitude: body.longitude.unwrap_or(site.longitude),
        timezone: body.timezone.unwrap_or_else(|| site.timezone.clone()),
        open: body.open.unwrap_or(site.open),
        fill,
    };
    save(&shared, site).await
}

async fn save(shared: &Shared, site: Site) -> Answer {
    let row = row(&site);
    let store = shared.deps.books.store();
    store.put_site(site).await.map_err(refused)?;
    shared.refresh().await?;
    Ok(local::ok(json!({ "site": row })))
}

/// The airport in the site's name knows where it is; an operator may know better.
fn placed(body: SiteBody, fill: SiteFill) -> Result<Site, Failure> {
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
    let words = FillWords {
        start: body.window_start.as_deref(),
        length: body.window_length.as_deref(),
        rate_limit: body.rate_limit.as_deref(),
    };
    Ok(Site {
        latitude: latitude.ok_or_else(|| missing("latitude"))?,
        longitude: longitude.ok_or_else(|| missing("longitude"))?,
        timezone: timezone.ok_or_else(|| missing("time zone"))?,
        fill: filled(fill, &words)?,
        name: body.name,
        partner: body.partner,
        open: body.open,
    })
}

/// `fill` with what was said of it.
fn filled(mut fill: SiteFill, words: &FillWords<'_>) -> Result<SiteFill, Failure> {
    if let Some(start) = words.start {
        let start = window::seconds_of_day(start);
        fill.start_s = start.map_err(|error| bad(format!("window-start: {error}")))?;
    }
    if let Some(length) = words.length {
        let length = parse_duration(length);
        fill.length = length.map_err(|error| bad(format!("window-length: {error}")))?;
    }
    match words.rate_limit {
        None => {}
        Some("none") => fill.rate_limit_bps = None,
        Some(rate) => {
            let rate = BytesPerSecond::parse(rate);
            let rate = rate.map_err(|error| bad(format!("rate-limit: {error}; or `none`")))?;
            fill.rate_limit_bps = Some(rate.0.saturating_mul(8));
        }
    }
    Ok(fill)
}

fn row(site: &Site) -> Value {
    // What is in the registry makes a window, unless this machine's zones are older.
    let window = Window::new(&site.timezone, site.fill.start_s, site.fill.length);
    json!({
        "name": site.name,
        "label": site.name.label(),
        "partner": site.partner,
        "latitude": site.latitude,
        "longitude": site.longitude,
        "timezone": site.timezone,
        "open": site.open,
        "window_start": window.map(|window| window.start()).ok(),
        "window_s": site.fill.length.as_secs(),
        "rate_limit_bps": site.fill.rate_limit_bps,
    })
}
