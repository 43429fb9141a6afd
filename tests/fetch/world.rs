//! What a transfer needs around it: a shelf in memory, a purse that is counted, a resolver.
//!
//! I/O: none.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use oca::fill::Class;
use oca::fill::Closed;
use oca::fill::FetchLimits;
use oca::fill::Job;
use oca::fill::Receive;
use oca::fill::Resolve;
use oca::fill::Share;
use oca::fill::Staging;
use oca::fill::Turns;
use oca::fill::Want;
use oca::link::message::FillSource;
use oca::link::message::SourceKind;
use oca::object::CHUNK_BYTES;
use oca::object::ChunkTree;
use oca::object::Digest;
use oca::object::TreeBuilder;
use oca::store::PublishError;
use oca::units::BytesPerSecond;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Short enough for a test, long enough for a machine with other work.
pub(crate) const LIMITS: FetchLimits = FetchLimits {
    connect: Duration::from_secs(2),
    head: Duration::from_millis(1_000),
    stall: Duration::from_millis(600),
    rate_floor: 16 << 10,
    rate_time: Duration::from_millis(1_200),
};

/// Of the cap, for each job.
pub(crate) const SHARE: Share = Share {
    receive_buffer: 128 << 10,
    part: BytesPerSecond(0),
};

/// Bytes that differ everywhere and by `seed`.
pub(crate) fn bytes(seed: u64, length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes.into()
}

pub(crate) fn tree(bytes: &[u8]) -> ChunkTree {
    let mut builder = TreeBuilder::new();
    builder.update(bytes);
    builder.finish()
}

/// The whole object from the origin at `url`.
pub(crate) fn job(bytes: &[u8], url: impl Into<String>) -> Job {
    let tree = tree(bytes);
    Job {
        want: Want {
            digest: tree.digest(),
            length: tree.length(),
            rank: 0,
            urgent: false,
        },
        class: Class::Night,
        tree,
        source: FillSource {
            id: "origin".into(),
            kind: SourceKind::Origin,
            urls: vec![url.into()],
            not_before_s: 0,
            ticket: None,
            etag: None,
            expires_s: 600,
        },
        ticket: None,
        others: Vec::new(),
        streams: 1,
        share: SHARE,
    }
}

/// Objects on their way in, and those that are in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf(Arc<Mutex<BTreeMap<Digest, Kept>>>);

#[derive(Debug)]
struct Kept {
    tree: ChunkTree,
    chunks: BTreeMap<u64, Bytes>,
    is_published: bool,
}

struct Place {
    digest: Digest,
    shelf: Shelf,
}

impl Shelf {
    pub(crate) fn published(&self, digest: Digest) -> Option<Bytes> {
        let shelf = self.0.lock().unwrap();
        let kept = shelf.get(&digest).filter(|kept| kept.is_published)?;
        Some(kept.chunks.values().flatten().copied().collect())
    }

    pub(crate) fn is_published(&self, digest: Digest) -> bool {
        let shelf = self.0.lock().unwrap();
        shelf.get(&digest).is_some_and(|kept| kept.is_published)
    }

    /// Bytes of verified chunks.
    pub(crate) fn staged(&self, digest: Digest) -> u64 {
        let shelf = self.0.lock().unwrap();
        let kept = shelf.get(&digest);
        kept.map_or(0, |kept| {
            kept.chunks.values().map(|chunk| chunk.len() as u64).sum()
        })
    }

    /// What a crash may leave: a chunk in the middle that has to come again.
    pub(crate) fn lose(&self, digest: Digest, chunk: u64) {
        let mut shelf = self.0.lock().unwrap();
        shelf.get_mut(&digest).unwrap().chunks.remove(&chunk);
    }
}

impl Receive for Shelf {
    fn receive(
        &self,
        digest: Digest,
        _: u64,
        _: u32,
        tree: ChunkTree,
    ) -> BoxFuture<'static, Result<Box<dyn Staging>, PublishError>> {
        let shelf = self.clone();
        shelf.0.lock().unwrap().entry(digest).or_insert(Kept {
            tree,
            chunks: BTreeMap::new(),
            is_published: false,
        });
        Box::pin(async move { Ok(Box::new(Place { digest, shelf }) as Box<dyn Staging>) })
    }
}

impl Staging for Place {
    fn missing(&self) -> Vec<Range<u64>> {
        let shelf = self.shelf.0.lock().unwrap();
        let kept = &shelf[&self.digest];
        let length = kept.tree.length();
        let mut missing: Vec<Range<u64>> = Vec::new();
        for chunk in 0..length.div_ceil(CHUNK_BYTES) {
            if kept.chunks.contains_key(&chunk) {
                continue;
            }
            let start = chunk * CHUNK_BYTES;
            let end = (start + CHUNK_BYTES).min(length);
            match missing.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => missing.push(start..end),
            }
        }
        missing
    }

    fn write(&mut self, chunk: u64, bytes: Bytes) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            // A disk takes its time.
            tokio::task::yield_now().await;
            let mut shelf = self.shelf.0.lock().unwrap();
            let kept = shelf.get_mut(&self.digest).unwrap();
            assert!(kept.tree.verify_chunk(chunk, &bytes), "unverified bytes");
            assert!(kept.chunks.insert(chunk, bytes).is_none(), "staged twice");
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), PublishError>> {
        Box::pin(async move {
            assert_eq!(self.missing(), []);
            let mut shelf = self.shelf.0.lock().unwrap();
            shelf.get_mut(&self.digest).unwrap().is_published = true;
            Ok(())
        })
    }
}

/// Turns without a cap, or as many as are handed out.
#[derive(Debug)]
pub(crate) struct Till {
    state: Mutex<Money>,
    /// Wire bytes that may still be taken, in units of 1 KiB; `None`: any.
    purse: Option<Semaphore>,
    closes_at: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Money {
    pub(crate) taken: u64,
    pub(crate) given_back: u64,
    pub(crate) came: u64,
    pub(crate) takes: u64,
}

impl Till {
    pub(crate) fn open() -> Arc<Self> {
        Self::closing_at(u64::MAX)
    }

    /// No turn beyond `bytes`.
    pub(crate) fn closing_at(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            purse: None,
            closes_at: bytes,
        })
    }

    /// Turns only as they are handed out.
    pub(crate) fn tight() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            purse: Some(Semaphore::new(0)),
            closes_at: u64::MAX,
        })
    }

    pub(crate) fn hand_out(&self, kibibytes: usize) {
        self.purse.as_ref().unwrap().add_permits(kibibytes);
    }

    pub(crate) fn money(&self) -> Money {
        *self.state.lock().unwrap()
    }

    /// Taken and kept.
    pub(crate) fn spent(&self) -> u64 {
        let money = self.money();
        money.taken - money.given_back
    }
}

impl Turns for Till {
    fn take(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        assert_eq!(class, Class::Night);
        Box::pin(async move {
            if let Some(purse) = &self.purse {
                let units = u32::try_from(bytes.div_ceil(1024)).unwrap();
                purse.acquire_many(units).await.unwrap().forget();
            }
            let mut money = self.state.lock().unwrap();
            if money.taken + bytes > self.closes_at {
                return Err(Closed);
            }
            money.taken += bytes;
            money.takes += 1;
            Ok(())
        })
    }

    fn came(&self, bytes: u64) {
        self.state.lock().unwrap().came += bytes;
    }

    fn give_back(&self, class: Class, bytes: u64) {
        assert_eq!(class, Class::Night);
        self.state.lock().unwrap().given_back += bytes;
    }
}

/// Names of the tests; each question gets the next answer, and the last one for ever.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    next: Vec<Vec<SocketAddr>>,
    asked: usize,
}

impl Names {
    pub(crate) fn of(answers: &[&[SocketAddr]]) -> Self {
        let next = answers.iter().map(|answer| answer.to_vec()).collect();
        Self(Arc::new(Mutex::new(Answers { next, asked: 0 })))
    }

    pub(crate) fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let mut answers = self.0.lock().unwrap();
        let at = answers.asked.min(answers.next.len().saturating_sub(1));
        answers.asked += 1;
        let answer = answers.next.get(at).cloned();
        let unknown = io::Error::other(format!("no such host: {host}"));
        Box::pin(async move { answer.ok_or(unknown) })
    }
}
