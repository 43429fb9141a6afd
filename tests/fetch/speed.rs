//! How fast eight streams are over TLS on loopback, and what a gigabyte costs this side.
//!
//! The bar holds for the release build (`cargo test --release --test fetch -- speed --nocapture`);
//! a debug build only shows that nothing waits for a timer.

use crate::proxy::Behind;
use crate::proxy::Proxy;
use crate::trust::Authority;
use crate::world::LIMITS;
use crate::world::Till;
use crate::world::bytes;
use crate::world::job;
use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use nix::time::ClockId;
use nix::time::clock_gettime;
use oca::clock;
use oca::fill::Fetch as _;
use oca::fill::FetchConfig;
use oca::fill::FetchLimits;
use oca::fill::Fetcher;
use oca::fill::Receive;
use oca::fill::Staging;
use oca::fill::SystemResolver;
use oca::object::CHUNK_BYTES;
use oca::object::ChunkTree;
use oca::object::Digest;
use oca::store::PublishError;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

const STREAMS: usize = 8;

const OBJECT_BYTES: usize = if cfg!(debug_assertions) { 8 } else { 64 } << 20;

/// Bytes a second that no build may stay below.
const FLOOR: f64 = if cfg!(debug_assertions) { 10e6 } else { 150e6 };

/// Takes everything and keeps nothing.
#[derive(Debug)]
struct Nowhere;

struct Gone {
    length: u64,
}

impl Receive for Nowhere {
    fn receive(
        &self,
        _: Digest,
        length: u64,
        _: u32,
        _: ChunkTree,
    ) -> BoxFuture<'static, Result<Box<dyn Staging>, PublishError>> {
        Box::pin(async move { Ok(Box::new(Gone { length }) as Box<dyn Staging>) })
    }
}

impl Staging for Gone {
    fn missing(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.length).collect()
    }

    fn write(&mut self, _: u64, _: bytes::Bytes) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// MB/s and processor seconds a GB.
fn measure(receive_buffer: u32, tls: bool) -> (f64, f64) {
    let authority = Authority::new();
    let acceptor = authority.acceptor(&["localhost"], false);
    let content = bytes(1, OBJECT_BYTES);
    let behind = Behind::Object(content.clone());
    let (tell, told) = mpsc::sync_channel(1);
    // The other side's work is its own; the thread ends with the process.
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let proxy = Proxy::start_with(behind, tls.then_some(acceptor)).await;
            tell.send(proxy.port).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let port = told.recv().unwrap();
    let dir = TempDir::new().unwrap();
    let config = FetchConfig {
        private_sources: true,
        plain_origin: true,
        origin_ca: Some(authority.file(&dir)),
        gateway: None,
        limits: FetchLimits {
            head: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            ..LIMITS
        },
    };
    let fetcher = Fetcher::new(
        config,
        Arc::new(|_| Err("an origin is not a box".into())),
        Arc::new(SystemResolver),
        Arc::new(Nowhere),
    );
    let scheme = if tls { "https" } else { "http" };
    let mut job = job(&content, format!("{scheme}://localhost:{port}/x"));
    job.share.receive_buffer = receive_buffer;
    let (passed, worked) = runtime().block_on(async {
        let (start, worked) = (clock::now(), processor_time());
        let fetches = (0..STREAMS).map(|_| fetcher.fetch(job.clone(), Till::open()));
        for outcome in join_all(fetches).await {
            assert_eq!(outcome.end, Ok(()));
        }
        (clock::now() - start, processor_time() - worked)
    });
    let bytes = (STREAMS * OBJECT_BYTES) as f64;
    let rate = bytes / passed.as_secs_f64();
    (rate / 1e6, worked.as_secs_f64() / (bytes / 1e9))
}

#[test]
fn eight_streams_are_faster_than_the_cap_and_the_bytes_are_cheap() {
    assert!(CHUNK_BYTES < OBJECT_BYTES as u64);
    for (receive_buffer, tls) in [(256 << 10, true), (256 << 10, false), (64 << 10, true)] {
        let (rate, cost) = measure(receive_buffer, tls);
        println!(
            "{STREAMS} streams, TLS {tls}, receive buffer {receive_buffer}: {rate:.0} MB/s, \
             {cost:.2} processor seconds a GB"
        );
        assert!(rate * 1e6 > FLOOR, "{rate:.0} MB/s");
    }
}
