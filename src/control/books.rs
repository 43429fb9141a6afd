//! The registry and the library as everybody reads them: immutable snapshots, swapped whole.
//!
//! Whoever writes to the store calls [`Books::refresh`] afterwards; [`Books::run`] looks for what
//! other processes wrote. Readers never wait for the database.
//!
//! I/O: reads the store.

use super::model::Library;
use super::model::Registry;
use super::store::ControlStore;
use super::store::ControlStoreError;
use crate::clock;
use crate::telemetry::LogLimit;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::watch;

/// How soon a change made by another process is seen.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// A database that fails is told so often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Clones share everything.
#[derive(Clone)]
pub struct Books {
    store: Arc<dyn ControlStore>,
    registry: Arc<watch::Sender<Arc<Registry>>>,
    library: Arc<watch::Sender<Arc<Library>>>,
    /// One refresh at a time; whoever waits finds the work done.
    refreshing: Arc<Mutex<()>>,
}

impl Books {
    /// Reads everything.
    pub async fn open(store: Arc<dyn ControlStore>) -> Result<Self, ControlStoreError> {
        let registry = watch::Sender::new(Arc::new(store.registry().await?));
        let library = watch::Sender::new(Arc::new(store.library().await?));
        Ok(Self {
            store,
            registry: Arc::new(registry),
            library: Arc::new(library),
            refreshing: Arc::default(),
        })
    }

    /// For writing; [`Books::refresh`] is to follow.
    pub fn store(&self) -> &Arc<dyn ControlStore> {
        &self.store
    }

    pub fn registry(&self) -> Arc<Registry> {
        self.registry.borrow().clone()
    }

    pub fn library(&self) -> Arc<Library> {
        self.library.borrow().clone()
    }

    pub fn watch_registry(&self) -> watch::Receiver<Arc<Registry>> {
        self.registry.subscribe()
    }

    pub fn watch_library(&self) -> watch::Receiver<Arc<Library>> {
        self.library.subscribe()
    }

    /// Reads again what changed.
    pub async fn refresh(&self) -> Result<(), ControlStoreError> {
        let _alone = self.refreshing.lock().await;
        let at = self.store.revision().await?;
        if at.registry != self.registry.borrow().revision {
            let registry = self.store.registry().await?;
            self.registry.send_replace(Arc::new(registry));
        }
        if at.library != self.library.borrow().revision {
            let library = self.store.library().await?;
            self.library.send_replace(Arc::new(library));
        }
        Ok(())
    }

    /// Follows other processes for ever. A database that fails leaves the last snapshots.
    pub async fn run(self) {
        let mut log = LogLimit::new(LOG_EVERY);
        loop {
            clock::sleep(POLL_EVERY).await;
            if let Err(error) = self.refresh().await
                && let Some(left_out) = log.step(clock::now())
            {
                tracing::error!(%error, left_out, "the registry cannot be read; the last one stays");
            }
        }
    }
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books")
            .field("registry", &self.registry.borrow().revision)
            .field("library", &self.library.borrow().revision)
            .finish_non_exhaustive()
    }
}
