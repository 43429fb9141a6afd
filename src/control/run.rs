//! The control plane's life: open what it keeps, open its doors, follow other processes, stop.
//!
//! Called by `oca control run`. Whatever can fail fails before the first door opens.
//!
//! I/O: everything; one task a part.

use super::Config;
use super::LinkConfig;
use super::api::admin;
use super::api::link;
use super::api::public;
use super::authority::Authority;
use super::authority::AuthorityError;
use super::books::Books;
use super::parts;
use super::parts::Ground;
use super::parts::Parts;
use super::steer::RawQuestion;
use super::steer::Steering;
use super::store::ControlStore;
use super::store::ControlStoreError;
use super::store::SqlStore;
use crate::clock;
use crate::local::SocketError;
use crate::task::PhaseRx;
use crate::task::notify::Notifier;
use crate::telemetry;
use crate::tls::token::KeyFileError;
use serde_json::Value;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What stopping may take: nothing here holds viewers.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Why the control plane does not run. The message names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("[control] state_dir {path}: {error}")]
    StateDir { path: PathBuf, error: io::Error },
    #[error(
        "[control] state_dir {path}: another control plane runs there; stop it, or give this one \
         a directory of its own"
    )]
    Taken { path: PathBuf },
    #[error(transparent)]
    Store(#[from] ControlStoreError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Link(#[from] link::LinkListenerError),
    #[error(transparent)]
    Public(#[from] public::PublicListenerError),
    #[error("the manifest key cannot be used: {0}; restore it from the backup")]
    Key(String),
    #[error("[tokens] secret_file {0}")]
    Secret(#[from] KeyFileError),
    #[error("NOTIFY_SOCKET cannot be used: {0}")]
    Notify(io::Error),
    #[error("{0} ended by itself; look at the log")]
    Ended(&'static str),
}

/// Everything that the doors share.
struct House {
    /// Held for the life of the process.
    _lock: File,
    store: Arc<SqlStore>,
    authority: Arc<Authority>,
    books: Books,
}

/// Runs until `phase` leaves serving.
pub async fn run(config: Config, mut phase: PhaseRx) -> Result<(), ControlError> {
    let notifier = Notifier::from_env().map_err(ControlError::Notify)?;
    let started = clock::now();
    let house = tokio::select! {
        // A database that another process holds, or a full disk, takes minutes to give up.
        _ = phase.leaving() => return Ok(()),
        house = open(&config) => house?,
    };
    let mut tasks: JoinSet<&'static str> = JoinSet::new();
    let metrics = telemetry::Registry::new(env!("CARGO_PKG_VERSION"), started);
    let books = house.books.clone();
    tasks.spawn(async move {
        books.run().await;
        "the look at other processes' changes"
    });
    let ground = Ground {
        config: &config,
        books: &house.books,
        authority: &house.authority,
        metrics: &metrics,
    };
    let parts = parts::start(&ground, &mut tasks)?;
    let deps = admin_deps(&config, &house, &parts, metrics, started);
    let door = admin::start(&config.admin, deps)?;
    tracing::info!(
        link = ?parts.link.addresses(),
        public = ?[parts.public.secure_addresses(), parts.public.plain_addresses()].concat(),
        socket = %config.admin.socket.display(),
        ca = house.authority.fingerprint(),
        "the control plane runs"
    );
    notifier.ready("running");
    let outcome = tokio::select! {
        _ = phase.leaving() => Ok(()),
        ended = tasks.join_next() => {
            let what = ended.and_then(Result::ok).unwrap_or("a part that panicked");
            Err(ControlError::Ended(what))
        }
    };
    notifier.stopping(STOP_TIME);
    door.stop();
    drop(parts);
    tasks.shutdown().await;
    // An import that writes ends its transaction first, within the bound.
    let _ = clock::within(STOP_TIME, house.store.close()).await;
    outcome
}

async fn open(config: &Config) -> Result<House, ControlError> {
    let lock = own(&config.state_dir)?;
    let store = Arc::new(SqlStore::open(&config.state_dir.join("control.sqlite")).await?);
    let authority = Arc::new(Authority::open(&config.state_dir, clock::wall())?);
    let books = Books::open(Arc::clone(&store) as Arc<dyn ControlStore>).await?;
    Ok(House {
        _lock: lock,
        store,
        authority,
        books,
    })
}

fn admin_deps(
    config: &Config,
    house: &House,
    parts: &Parts,
    metrics: telemetry::Registry,
    started: clock::Instant,
) -> admin::Deps {
    let (view, steering) = (parts.fleet.view(), Arc::clone(&parts.steering));
    admin::Deps {
        books: house.books.clone(),
        authority: Arc::clone(&house.authority),
        fleet: Arc::new(move || view.borrow().clone()),
        steer: Arc::new(move |asked| answered(&steering, asked)),
        liveness: Arc::clone(&parts.liveness),
        urgent_max: config.fill.urgent_max,
        import: config.import.clone(),
        domain: config.domain.clone(),
        link_url: link_url(&config.link),
        metrics,
        version: env!("CARGO_PKG_VERSION"),
        started,
    }
}

/// A question of the operator, answered as a viewer's is.
fn answered(steering: &Steering, asked: &admin::SteerQuestion) -> Result<Value, String> {
    let asked = asked.clone();
    let raw = RawQuestion {
        client: asked.client,
        key: asked.key,
        n: asked.n,
        at: asked.at,
        family: asked.family,
        explain: asked.explain,
        session: None,
    };
    let answer = steering.question(&raw, None, clock::wall());
    answer.map_err(|error| error.to_string())
}

/// `https://<host>:<port>`: the first name of the listener, as a provisioning file has it.
pub(super) fn link_url(config: &LinkConfig) -> String {
    let name = config.names.first().map_or("localhost", String::as_str);
    let port = config
        .listen
        .first()
        .map_or(8443, std::net::SocketAddr::port);
    if name.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("https://[{name}]:{port}")
    } else {
        format!("https://{name}:{port}")
    }
}

/// Makes the directory, readable by its owner only, and locks it for this process.
fn own(path: &Path) -> Result<File, ControlError> {
    let failed = |error| ControlError::StateDir {
        path: path.to_owned(),
        error,
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let lock = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let path = path.to_owned();
            Err(ControlError::Taken { path })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_told_a_url_that_a_client_can_read() {
        let url = |name: &str| {
            link_url(&LinkConfig {
                listen: vec!["[::]:9443".parse().unwrap()],
                names: vec![name.to_owned()],
                body: 1,
                body_decompressed: 1,
            })
        };
        assert_eq!(
            url("control.example.net"),
            "https://control.example.net:9443"
        );
        assert_eq!(url("192.0.2.1"), "https://192.0.2.1:9443");
        assert_eq!(url("2001:db8::1"), "https://[2001:db8::1]:9443");
    }
}
