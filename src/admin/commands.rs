//! Commands: a POST parsed once, sent to `appliance`, its reply awaited within a bound.
//!
//! Every command is logged with the credentials of the process that gave it.

use super::routes::Shared;
use crate::clock;
use crate::command::Command;
use crate::command::Refusal;
use crate::health::drain::DRAIN_TIME_MAX;
use crate::help;
use crate::local;
use crate::local::BODY_BYTES_MAX;
use crate::local::Failure;
use crate::local::Peer;
use crate::telemetry;
use crate::units;
use axum::body::Body;
use axum::extract::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainBody {
    #[serde(default, rename = "for")]
    time: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevelBody {
    level: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrefillBody {
    dir: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiskBody {
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetireBody {
    path: PathBuf,
    #[serde(default)]
    undo: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {
    /// Without window and cap.
    #[serde(default)]
    prefill: bool,
}

/// For commands that have nothing to say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) type Answer = Result<Response, Failure>;

pub(super) async fn drain(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let body: DrainBody = local::optional(read(body).await?)?;
    let time = body.time.as_deref().map(drain_time).transpose()?;
    send(&shared, peer, Command::Drain { time }).await
}

pub(super) async fn undrain(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let Nothing {} = local::optional(read(body).await?)?;
    send(&shared, peer, Command::Undrain).await
}

pub(super) async fn reload(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let Nothing {} = local::optional(read(body).await?)?;
    send(&shared, peer, Command::Reload).await
}

pub(super) async fn log_level(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let LogLevelBody { level: filter } = local::parse(&read(body).await?)?;
    telemetry::check_filter(&filter).map_err(|error| bad(error.to_string()))?;
    send(&shared, peer, Command::LogLevel { filter }).await
}

pub(super) async fn prefill(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let PrefillBody { dir } = local::parse(&read(body).await?)?;
    if !dir.is_absolute() {
        return Err(bad("`dir` must be an absolute path: the daemon has a \
                        working directory of its own"));
    }
    send(&shared, peer, Command::Prefill { dir }).await
}

pub(super) async fn prefill_stop(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let Nothing {} = local::optional(read(body).await?)?;
    send(&shared, peer, Command::PrefillStop).await
}

pub(super) async fn fill_start(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let StartBody { prefill } = local::optional(read(body).await?)?;
    send(&shared, peer, Command::FillStart { prefill }).await
}

pub(super) async fn certificate_check(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let DiskBody { path } = local::parse(&read(body).await?)?;
    send(&shared, peer, Command::CertificateCheck { path }).await
}

pub(super) async fn fill_pause(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let Nothing {} = local::optional(read(body).await?)?;
    send(&shared, peer, Command::FillPause).await
}

pub(super) async fn fill_resume(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let Nothing {} = local::optional(read(body).await?)?;
    send(&shared, peer, Command::FillResume).await
}

pub(super) async fn disk_adopt(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let DiskBody { path } = local::parse(&read(body).await?)?;
    send(&shared, peer, Command::DiskAdopt { path }).await
}

pub(super) async fn disk_check(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let DiskBody { path } = local::parse(&read(body).await?)?;
    send(&shared, peer, Command::DiskCheck { path }).await
}

pub(super) async fn disk_format(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let DiskBody { path } = local::parse(&read(body).await?)?;
    send(&shared, peer, Command::DiskFormat { path }).await
}

pub(super) async fn disk_retire(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer {
    let RetireBody { path, undo } = local::parse(&read(body).await?)?;
    send(&shared, peer, Command::DiskRetire { path, undo }).await
}

fn drain_time(text: &str) -> Result<Duration, Failure> {
    let time = units::parse_duration(text).map_err(|error| bad(error.to_string()))?;
    if time.is_zero() || time > DRAIN_TIME_MAX {
        let days = DRAIN_TIME_MAX.as_secs() / 86_400;
        return Err(bad(format!(
            "a drain lasts more than nothing and at most {days} days; leave the time away to \
             drain until `oca undrain`"
        )));
    }
    Ok(time)
}

pub(super) async fn read(body: Body) -> Result<Vec<u8>, Failure> {
    local::read(body, BODY_BYTES_MAX).await
}

pub(super) async fn send(shared: &Shared, peer: Peer, command: Command) -> Answer {
    let Peer { uid, gid, pid } = peer;
    let told = help::printable(format!("{command:?}").as_bytes(), 400);
    tracing::info!(uid, gid, pid, command = told, "command received");
    let (reply, answer) = oneshot::channel();
    let request = crate::command::Request { command, reply };
    shared
        .commands
        .try_send(request)
        .map_err(|error| match error {
            TrySendError::Full(_) => unavailable(
                "the daemon has not taken up the commands before this one; ask `oca show status` \
             how it is and try again",
            ),
            TrySendError::Closed(_) => unavailable("the daemon is stopping and takes no commands"),
        })?;
    match clock::within(shared.reply_time, answer).await {
        Ok(Ok(Ok(value))) => Ok(local::ok(value)),
        Ok(Ok(Err(refusal))) => {
            tracing::info!(command = told, %refusal, "command refused");
            Err(refused(&refusal))
        }
        Ok(Err(_)) => Err(unavailable(
            "the daemon is stopping and dropped the command",
        )),
        Err(_) => {
            let seconds = shared.reply_time.as_secs();
            tracing::warn!(command = told, seconds, "command not answered in time");
            Err(unavailable(format!(
                "the daemon did not answer the command within {seconds} s; it may still carry it \
                 out: ask `oca show status` how it is"
            )))
        }
    }
}

fn refused(refusal: &Refusal) -> Failure {
    let status = match refusal {
        Refusal::BadRequest(_) => StatusCode::BAD_REQUEST,
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::State(_) => StatusCode::CONFLICT,
        Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Failure::new(status, refusal.to_string())
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, message)
}

fn unavailable(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, message)
}
