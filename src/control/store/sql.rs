//! [`ControlStore`] over SQL: opens the database, runs each verb in one transaction.
//!
//! One connection writes and a few read, so that a long import stops nobody from looking. The row
//! files have the statements.
//!
//! I/O: opens and creates the database file; waits for the database.

use super::Answer;
use super::CachedDigest;
use super::ControlStore;
use super::ControlStoreError;
use super::ImportedKey;
use super::Issued;
use super::Location;
use super::Revision;
use super::content_rows as content;
use super::fault::Fault;
use super::fill_rows as fill;
use super::identity_rows as identity;
use super::library;
use super::registry_rows as registry;
use super::tree_rows as trees;
use super::work_rows as work;
use crate::clock;
use crate::clock::Wall;
use crate::control::model::Appliance;
use crate::control::model::Approval;
use crate::control::model::Cluster;
use crate::control::model::FillCluster;
use crate::control::model::Grant;
use crate::control::model::Library;
use crate::control::model::Partner;
use crate::control::model::Registry;
use crate::control::model::Site;
use crate::control::model::TitleState;
use crate::ids::BoxId;
use crate::link::message::Position;
use crate::object::ChunkTree;
use crate::object::Digest;
use sqlx::AnyConnection;
use sqlx::AnyPool;
use sqlx::Connection as _;
use sqlx::Executor as _;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::MigrateError;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

/// Readers at once. Each is a thread of SQLite's driver; snapshots are read one at a time.
const READERS: u32 = 4;

/// Tries of whatever others were in the way of: opening, migrating, a transaction. The pauses
/// between them are some 2.5 s, on top of the database's own waiting.
const ATTEMPTS_MAX: u32 = 8;

/// First pause between tries; doubles.
const PAUSE: Duration = Duration::from_millis(20);

/// For the first connection to a file that others open at the same moment.
const FIRST_TIME: Duration = Duration::from_secs(10);

/// For a connection: longer than the longest transaction, an import's.
const ACQUIRE_TIME: Duration = Duration::from_secs(120);

/// `synchronous=FULL`: a token is used up and a manifest published even if power fails right
/// after; `busy_timeout`: another process may write.
const PRAGMAS: [&str; 4] = [
    "PRAGMA busy_timeout = 10000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
];

/// Takes the write lock at once: two transactions that read first and write later would have to be
/// tried again.
const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

const BEGIN_READ: &str = "BEGIN";

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/control/store/migrations");

/// The control plane's memory in a SQL database.
#[derive(Clone, Debug)]
pub struct SqlStore {
    writer: AnyPool,
    readers: AnyPool,
}

/// What a verb does inside its transaction.
type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'c>>;

impl SqlStore {
    /// Opens the SQLite database at `path`, makes it if there is none (readable by its owner
    /// only), and brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Self, ControlStoreError> {
        sqlx::any::install_default_drivers();
        let failed = |problem: String| {
            let path = path.display();
            ControlStoreError::Database(format!("{path}: {problem}"))
        };
        create(path).map_err(|error| failed(error.to_string()))?;
        let url = url(path);
        // A pool would try again and again what fails for good; one connection says why, and is
        // tried again only where others are in its way.
        connect_first(&url)
            .await
            .map_err(|fault| failed(fault.to_string()))?;
        let pool = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIME)
                .after_connect(|connection, _| Box::pin(prepare(connection)))
                .connect(&url)
        };
        let writer = pool(1).await.map_err(|error| failed(error.to_string()))?;
        migrate(&writer).await.map_err(|error| {
            failed(format!(
                "the tables cannot be brought up to date ({error}); is the database of a later \
                 version of oca?"
            ))
        })?;
        let readers = pool(READERS).await;
        let readers = readers.map_err(|error| failed(error.to_string()))?;
        Ok(Self { writer, readers })
    }

    /// Waits for what is under way and closes the database.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Runs `work` in one transaction, again from the start while other writers are in the way.
    async fn with_tx<D, T>(
        &self,
        data: D,
        work: impl for<'c> Fn(&'c mut AnyConnection, &'c D) -> Work<'c, T> + Send + Sync,
    ) -> Result<T, ControlStoreError>
    where
        D: Send + Sync,
        T: Send,
    {
        let mut pauses = pauses();
        loop {
            let outcome = attempt(&self.writer, BEGIN_WRITE, &data, &work).await;
            match (outcome, pauses.next()) {
                (Err(fault), Some(pause)) if fault.is_retryable() => clock::sleep(pause).await,
                (outcome, _) => return Ok(outcome?),
            }
        }
    }

    /// Runs `work` on the tables of one moment.
    async fn with_snapshot<D, T>(
        &self,
        data: D,
        work: impl for<'c> Fn(&'c mut AnyConnection, &'c D) -> Work<'c, T> + Send + Sync,
    ) -> Result<T, ControlStoreError>
    where
        D: Send + Sync,
        T: Send,
    {
        Ok(attempt(&self.readers, BEGIN_READ, &data, &work).await?)
    }
}

/// Runs `work` on a thread that may be busy: rows by the hundred thousand are seconds of decoding,
/// and the control plane answers viewers on one thread.
async fn aside<T: Send + 'static>(
    work: impl Future<Output = Result<T, ControlStoreError>> + Send + 'static,
) -> Result<T, ControlStoreError> {
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    done.unwrap_or_else(|error| Err(ControlStoreError::Database(error.to_string())))
}

async fn attempt<D, T>(
    pool: &AnyPool,
    begin: &'static str,
    data: &D,
    work: &(impl for<'c> Fn(&'c mut AnyConnection, &'c D) -> Work<'c, T> + Send + Sync),
) -> Result<T, Fault>
where
    D: Send + Sync,
    T: Send,
{
    let mut connection = pool.acquire().await?;
    let (outcome, is_ended) = transact(&mut connection, begin, data, work).await;
    if !is_ended {
        // SQLite itself rolls back when the disk is full. The driver does not notice, and would
        // refuse every transaction of this connection from then on.
        connection.close_on_drop();
    }
    outcome
}

/// What came of it, and whether the connection is out of the transaction for certain.
async fn transact<D, T>(
    connection: &mut AnyConnection,
    begin: &'static str,
    data: &D,
    work: &(impl for<'c> Fn(&'c mut AnyConnection, &'c D) -> Work<'c, T> + Send + Sync),
) -> (Result<T, Fault>, bool)
where
    D: Send + Sync,
    T: Send,
{
    let mut transaction = match connection.begin_with(begin).await {
        Ok(transaction) => transaction,
        Err(error) => return (Err(error.into()), false),
    };
    match work(&mut transaction, data).await {
        Ok(value) => match transaction.commit().await {
            Ok(()) => (Ok(value), true),
            Err(error) => (Err(error.into()), false),
        },
        Err(fault) => (Err(fault), transaction.rollback().await.is_ok()),
    }
}

/// The first connection to a file that others may be opening, too. SQLite answers "locked" at once,
/// whatever `busy_timeout` says, where two of them would wait for each other: when both change an
/// empty file to its write-ahead log.
async fn connect_first(url: &str) -> Result<(), Fault> {
    let once = async || {
        let mut connection = AnyConnection::connect(url).await?;
        prepare(&mut connection).await?;
        let _ = connection.close().await;
        Ok(())
    };
    let (begun, mut pauses) = (clock::now(), pauses());
    loop {
        let outcome = once().await;
        // Another process that keeps the file to itself was waited for in the database.
        let is_early = clock::now() - begun < FIRST_TIME;
        match (outcome, pauses.next().filter(|_| is_early)) {
            (Err(fault), Some(pause)) if Fault::is_retryable(&fault) => clock::sleep(pause).await,
            (outcome, _) => return outcome,
        }
    }
}

async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in PRAGMAS {
        connection.execute(pragma).await?;
    }
    Ok(())
}

/// Two processes that start on an empty database do the same steps; whoever comes second fails
/// where the first has been, and finds them done when it tries again.
async fn migrate(pool: &AnyPool) -> Result<(), MigrateError> {
    let mut pauses = pauses();
    loop {
        let outcome = MIGRATIONS.run(pool).await;
        match (outcome, pauses.next()) {
            (Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)), Some(pause)) => {
                clock::sleep(pause).await
            }
            (outcome, _) => return outcome,
        }
    }
}

/// Between tries. Jitter, so that two that were in each other's way do not meet again.
fn pauses() -> impl Iterator<Item = Duration> {
    (0..ATTEMPTS_MAX - 1).map(|n| (PAUSE * 2_u32.pow(n)).mul_f64(0.5 + fastrand::f64()))
}

/// SQLite would make the file readable by everybody; its write-ahead log takes the file's mode.
/// A file that exists is not touched: closing it would drop the locks that another store of this
/// process holds (fcntl(2)).
fn create(path: &Path) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    match options.create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(|_| ()),
    }
}

/// Whatever the path, the URL leads to it.
fn url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

impl ControlStore for SqlStore {
    fn revision(&self) -> Answer<'_, Revision> {
        Box::pin(self.with_snapshot((), |c, ()| {
            Box::pin(async move {
                Ok(Revision {
                    registry: registry::revision(c, registry::REGISTRY).await?,
                    library: registry::revision(c, registry::LIBRARY).await?,
                })
            })
        }))
    }

    fn registry(&self) -> Answer<'_, Registry> {
        Box::pin(self.with_snapshot((), |c, ()| Box::pin(registry::load(c))))
    }

    fn library(&self) -> Answer<'_, Library> {
        let store = self.clone();
        Box::pin(aside(async move {
            let load = store.with_snapshot((), |c, ()| Box::pin(library::load(c)));
            load.await
        }))
    }

    fn put_partner(&self, partner: Partner) -> Answer<'_, ()> {
        Box::pin(self.with_tx(partner, |c, partner| {
            Box::pin(registry::put_partner(c, partner))
        }))
    }

    fn approve(&self, partner: String, approval: Approval) -> Answer<'_, ()> {
        Box::pin(self.with_tx((partner, approval), |c, (partner, approval)| {
            Box::pin(registry::approve(c, partner, *approval))
        }))
    }

    fn disapprove(&self, partner: String, approval: Approval) -> Answer<'_, ()> {
        Box::pin(self.with_tx((partner, approval), |c, (partner, approval)| {
            Box::pin(registry::disapprove(c, partner, *approval))
        }))
    }

    fn put_site(&self, site: Site) -> Answer<'_, ()> {
        Box::pin(self.with_tx(site, |c, site| Box::pin(registry::put_site(c, site))))
    }

    fn put_cluster(&self, cluster: Cluster) -> Answer<'_, ()> {
        Box::pin(self.with_tx(cluster, |c, cluster| {
            Box::pin(registry::put_cluster(c, cluster))
        }))
    }

    fn put_fill_cluster(&self, fill_cluster: FillCluster) -> Answer<'_, ()> {
        Box::pin(self.with_tx(fill_cluster, |c, fill_cluster| {
            Box::pin(fill::put_fill_cluster(c, fill_cluster))
        }))
    }

    fn remove_fill_cluster(&self, name: String) -> Answer<'_, ()> {
        Box::pin(self.with_tx(name, |c, name| Box::pin(fill::remove_fill_cluster(c, name))))
    }

    fn put_grant(&self, id: BoxId, grant: Grant) -> Answer<'_, ()> {
        Box::pin(self.with_tx((id, grant), |c, (id, grant)| {
            Box::pin(fill::put_grant(c, id, *grant))
        }))
    }

    fn set_title(&self, name: String, state: TitleState) -> Answer<'_, ()> {
        Box::pin(self.with_tx((name, state), |c, (name, state)| {
            Box::pin(fill::set_title(c, name, *state))
        }))
    }

    fn put_appliance(&self, appliance: Appliance) -> Answer<'_, ()> {
        Box::pin(self.with_tx(appliance, |c, appliance| {
            Box::pin(registry::put_appliance(c, appliance))
        }))
    }

    fn set_enabled(&self, id: BoxId, enabled: bool) -> Answer<'_, ()> {
        Box::pin(self.with_tx((id, enabled), |c, (id, enabled)| {
            Box::pin(registry::set_enabled(c, id, *enabled))
        }))
    }

    fn set_prefilling(&self, id: BoxId, prefilling: bool) -> Answer<'_, ()> {
        Box::pin(self.with_tx((id, prefilling), |c, (id, prefilling)| {
            Box::pin(fill::set_prefilling(c, id, *prefilling))
        }))
    }

    fn quarantine(&self, id: BoxId, reason: Option<String>) -> Answer<'_, ()> {
        Box::pin(self.with_tx((id, reason), |c, (id, reason)| {
            Box::pin(identity::quarantine(c, id, reason.as_deref()))
        }))
    }

    fn revoke(&self, id: BoxId) -> Answer<'_, ()> {
        Box::pin(self.with_tx(id, |c, id| Box::pin(identity::revoke(c, id))))
    }

    fn put_token(&self, id: BoxId, hash: Digest, ends: Wall) -> Answer<'_, ()> {
        Box::pin(self.with_tx((id, hash, ends), |c, (id, hash, ends)| {
            Box::pin(identity::put_token(c, id, *hash, *ends))
        }))
    }

    fn redeem(&self, hash: Digest, key_fingerprint: String, now: Wall) -> Answer<'_, BoxId> {
        Box::pin(
            self.with_tx((hash, key_fingerprint, now), |c, (hash, key, now)| {
                Box::pin(identity::redeem(c, *hash, key, *now))
            }),
        )
    }

    fn put_issued(&self, id: BoxId, issued: Issued) -> Answer<'_, ()> {
        Box::pin(self.with_tx((id, issued), |c, (id, issued)| {
            Box::pin(identity::put_issued(c, id, issued))
        }))
    }

    fn put_keys(&self, keys: Vec<ImportedKey>) -> Answer<'_, u64> {
        let store = self.clone();
        Box::pin(aside(async move {
            let put = store.with_tx(keys, |c, keys| Box::pin(content::put_keys(c, keys)));
            put.await
        }))
    }

    fn put_trees(&self, trees: Vec<ChunkTree>) -> Answer<'_, ()> {
        let store = self.clone();
        Box::pin(aside(async move {
            let put = store.with_tx(trees, |c, trees| Box::pin(trees::put_trees(c, trees)));
            put.await
        }))
    }

    fn trees(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Vec<[u8; 32]>>> {
        Box::pin(self.with_snapshot(digests, |c, digests| Box::pin(trees::trees(c, digests))))
    }

    fn known_trees(&self, digests: Vec<Digest>) -> Answer<'_, BTreeSet<Digest>> {
        let store = self.clone();
        Box::pin(aside(async move {
            let look =
                store.with_snapshot(digests, |c, digests| Box::pin(trees::known(c, digests)));
            look.await
        }))
    }

    fn locations(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Location>> {
        Box::pin(self.with_snapshot(digests, |c, digests| Box::pin(work::locations(c, digests))))
    }

    fn cached_digests(&self, source: String) -> Answer<'_, BTreeMap<String, CachedDigest>> {
        Box::pin(self.with_snapshot(source, |c, source| {
            Box::pin(work::cached_digests(c, source))
        }))
    }

    fn put_cached_digests(
        &self,
        source: String,
        digests: BTreeMap<String, CachedDigest>,
    ) -> Answer<'_, ()> {
        Box::pin(self.with_tx((source, digests), |c, (source, digests)| {
            Box::pin(work::put_cached_digests(c, source, digests))
        }))
    }

    fn put_popularity(&self, feed: BTreeMap<String, f64>) -> Answer<'_, u64> {
        Box::pin(self.with_tx(feed, |c, feed| Box::pin(content::put_popularity(c, feed))))
    }

    fn published(&self) -> Answer<'_, BTreeMap<BoxId, (Position, Digest)>> {
        Box::pin(self.with_snapshot((), |c, ()| Box::pin(work::published(c))))
    }

    fn put_published(&self, id: BoxId, position: Position, content: Digest) -> Answer<'_, ()> {
        Box::pin(
            self.with_tx((id, position, content), |c, (id, position, content)| {
                Box::pin(work::put_published(c, id, *position, *content))
            }),
        )
    }
}
