//! The load: clients that ask for one file after another over kept-alive connections.
//!
//! A closed loop: who has its answer asks for the next.
//!
//! I/O: connects over loopback.

use crate::latency::Latencies;
use crate::viewer::Viewer;
use anyhow::Context as _;
use oca::clock;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::task::JoinSet;

/// A thousand TLS handshakes on one core take a second or two; on one that others use too, longer.
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

/// Which file is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Random,
    /// All clients together: each file once, then again.
    InTurn,
}

/// What is asked for: any of `count` files of `bytes` each.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
    /// Files are `/PREFIX/N.bin`.
    pub prefix: &'static str,
    pub count: u64,
    pub bytes: usize,
    pub order: Order,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    tally: Arc<Tally>,
    clients: JoinSet<anyhow::Result<()>>,
    connections: u64,
}

#[derive(Debug, Default)]
struct Tally {
    connected: AtomicU64,
    /// Of bodies.
    bytes: AtomicU64,
    next: AtomicU64,
    timing: AtomicBool,
    closing: AtomicBool,
    latencies: Mutex<Latencies>,
}

impl Load {
    /// Starts the clients and waits until all are connected.
    pub(crate) async fn start(target: Target, connections: usize) -> anyhow::Result<Self> {
        let tally = Arc::new(Tally::default());
        let mut clients = JoinSet::new();
        for number in 0..connections {
            let (target, tally) = (target.clone(), Arc::clone(&tally));
            clients.spawn(async move { client(&target, number, &tally).await });
        }
        let mut load = Self {
            tally,
            clients,
            connections: connections as u64,
        };
        let deadline = clock::now() + CONNECTED_WITHIN;
        while load.tally.connected.load(Relaxed) < load.connections {
            load.check()?;
            anyhow::ensure!(clock::now() < deadline, "not all clients are connected");
            clock::sleep(Duration::from_millis(2)).await;
        }
        Ok(load)
    }

    /// From here on responses are timed.
    pub(crate) fn begin(&self) {
        self.tally.timing.store(true, Relaxed);
    }

    /// Bytes of bodies so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.tally.bytes.load(Relaxed)
    }

    /// A client that has failed is an error.
    fn check(&mut self) -> anyhow::Result<()> {
        match self.clients.try_join_next() {
            Some(outcome) => outcome.context("a client panicked")?,
            None => Ok(()),
        }
    }

    /// Ends the clients: at once, or when each has its present answer and at most after `patience`.
    pub(crate) async fn stop(mut self, patience: Duration) -> anyhow::Result<Latencies> {
        self.check()?;
        self.tally.closing.store(true, Relaxed);
        let mut outcome = Ok(());
        let ended = async {
            while let Some(ended) = self.clients.join_next().await {
                outcome = ended.context("a client panicked").and_then(|ended| ended);
                if outcome.is_err() {
                    return;
                }
            }
        };
        // Those that are still at it are given up.
        let _ = clock::within(patience, ended).await;
        self.clients.shutdown().await;
        outcome?;
        let latencies = self.tally.latencies.lock();
        Ok(latencies.unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// One client's life: connections that the server closes after their last request are replaced.
async fn client(target: &Target, number: usize, tally: &Tally) -> anyhow::Result<()> {
    let mut random = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut is_first = true;
    loop {
        let mut viewer = Viewer::connect(target, number).await?;
        if std::mem::take(&mut is_first) {
            tally.connected.fetch_add(1, Relaxed);
        }
        let mut open = true;
        while open {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let file = match target.order {
                Order::Random => random >> 33,
                Order::InTurn => tally.next.fetch_add(1, Relaxed),
            };
            let progress = |count: usize| {
                tally.bytes.fetch_add(count as u64, Relaxed);
            };
            let begun = clock::now();
            open = viewer.fetch(target, file % target.count, progress).await?;
            if tally.timing.load(Relaxed) {
                let mut latencies = tally
                    .latencies
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                latencies.record(clock::now() - begun);
            }
            if tally.closing.load(Relaxed) {
                return Ok(());
            }
        }
    }
}
