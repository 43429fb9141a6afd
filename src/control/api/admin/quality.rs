//! `/v1/quality`: how content reaches the clients of boxes, as their last reports have it.

use super::routes::Answer;
use super::routes::Shared;
use super::routes::query;
use crate::ids::BoxId;
use crate::link::message::Delivery;
use crate::link::message::Quality;
use crate::local;
use crate::local::Failure;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::Uri;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QualityQuery {
    /// The networks of this box; without it, one row a box.
    #[serde(rename = "box")]
    id: Option<BoxId>,
}

pub(super) async fn quality(State(shared): State<Shared>, uri: Uri) -> Answer {
    let asked: QualityQuery = query(&uri)?;
    let fleet = (shared.deps.fleet)();
    let Some(id) = &asked.id else {
        let boxes = fleet.boxes.iter();
        let told = boxes.filter_map(|(id, seen)| Some((id, seen.quality.as_deref()?)));
        let rows = told.map(|(id, quality)| {
            let mut row = figures(&quality.total);
            row["box"] = json!(id);
            row["networks"] = json!(quality.networks);
            row["window_s"] = json!(quality.window_s);
            row
        });
        return Ok(local::ok(json!({"quality": rows.collect::<Vec<_>>()})));
    };
    let seen = fleet.boxes.get(id);
    let Some(quality) = seen.and_then(|seen| seen.quality.as_deref()) else {
        let message = format!("box `{id}` has not told how it delivers");
        return Err(Failure::new(StatusCode::NOT_FOUND, message));
    };
    Ok(local::ok(of_box(quality)))
}

fn of_box(quality: &Quality) -> Value {
    let rows = quality.rows.iter().map(|row| {
        let mut figures = figures(&row.delivery);
        figures["prefix"] = json!(row.prefix);
        figures
    });
    json!({
        "window_s": quality.window_s,
        "networks": quality.networks,
        "total": figures(&quality.total),
        "quality": rows.collect::<Vec<_>>(),
    })
}

fn figures(delivery: &Delivery) -> Value {
    json!(delivery)
}
