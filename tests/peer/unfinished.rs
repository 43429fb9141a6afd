//! An object that the giver is itself receiving: its chunks are given, and nothing else.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one range is a list of one range"
)]

use crate::lab::Client;
use crate::lab::GIVER;
use crate::lab::Lab;
use crate::lab::name;
use futures_util::future::BoxFuture;
use oca::clock;
use oca::fill::Class;
use oca::fill::Closed;
use oca::fill::Fault;
use oca::fill::Fetch as _;
use oca::fill::FetchConfig;
use oca::fill::FetchLimits;
use oca::fill::Fetcher;
use oca::fill::Job;
use oca::fill::Share;
use oca::fill::StoreContent;
use oca::fill::SystemResolver;
use oca::fill::Turns;
use oca::fill::Want;
use oca::link::digest;
use oca::link::held;
use oca::link::message::FillSource;
use oca::link::message::SourceKind;
use oca::link::peering::box_client_config;
use oca::object::CHUNK_BYTES;
use oca::object::ChunkTree;
use oca::object::Digest;
use oca::object::TreeBuilder;
use oca::store;
use oca::store::Staged;
use oca::units::BytesPerSecond;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Six chunks, the last one odd.
const LENGTH: u64 = 5 * CHUNK_BYTES + 77;

struct Film {
    bytes: Vec<u8>,
    tree: ChunkTree,
}

impl Film {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(11);
        let mut bytes = vec![0; usize::try_from(LENGTH).unwrap()];
        random.fill(&mut bytes);
        let mut builder = TreeBuilder::new();
        builder.update(&bytes);
        let tree = builder.finish();
        Self { bytes, tree }
    }

    fn digest(&self) -> Digest {
        self.tree.digest()
    }

    fn part(&self, range: &Range<u64>) -> &[u8] {
        let (from, end) = (usize::try_from(range.start), usize::try_from(range.end));
        &self.bytes[from.unwrap()..end.unwrap()]
    }

    async fn feed(&self, staged: &mut Staged, chunks: &[u64]) {
        for chunk in chunks {
            let from = chunk * CHUNK_BYTES;
            let range = from..(from + CHUNK_BYTES).min(LENGTH);
            let bytes = bytes::Bytes::copy_from_slice(self.part(&range));
            staged.write(*chunk, bytes).await.unwrap();
        }
    }
}

async fn until_held(lab: &Lab, film: &Film, expected: &[Range<u64>]) {
    for _ in 0..1_000 {
        let unfinished = lab.store.unfinished(film.digest());
        if unfinished.is_some_and(|unfinished| unfinished.held == expected) {
            return;
        }
        clock::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", lab.store.unfinished(film.digest()));
}

fn range(range: &Range<u64>) -> String {
    format!("Range: bytes={}-{}\r\n", range.start, range.end - 1)
}

async fn gives(client: &mut Client, film: &Film, ticket: &str, part: Range<u64>) {
    let answer = client.get(film.digest(), ticket, &range(&part)).await;
    assert_eq!(answer.status, 206, "{part:?}");
    assert!(answer.body == film.part(&part), "{part:?}");
    let told = format!("bytes {}-{}/{LENGTH}", part.start, part.end - 1);
    assert_eq!(answer.header("content-range"), told);
    assert_eq!(answer.header("repr-digest"), digest::text(film.digest()));
}

#[tokio::test]
async fn what_has_come_is_given_and_for_the_rest_it_says_what_there_is() {
    let (lab, film) = (Lab::start().await, Film::new());
    let digest = film.digest();
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    let nothing = client.get(digest, &ticket, "").await;
    assert_eq!((nothing.status, nothing.header("oca-held")), (404, ""));
    assert_eq!(nothing.header("retry-after"), "", "nobody fetches it");
    let receiving = lab.store.receive(digest, LENGTH, 0, film.tree.clone());
    let mut staged = receiving.await.unwrap();
    let none_yet = client.get(digest, &ticket, "").await;
    assert_eq!(
        (none_yet.status, none_yet.header("retry-after")),
        (404, "2")
    );
    assert_eq!(held::parse(none_yet.header("oca-held")).unwrap(), []);
    film.feed(&mut staged, &[0, 1, 4, 5]).await;
    let there = [0..2 * CHUNK_BYTES, 4 * CHUNK_BYTES..LENGTH];
    until_held(&lab, &film, &there).await;
    for part in [
        0..2 * CHUNK_BYTES,
        CHUNK_BYTES - 1..CHUNK_BYTES + 1,
        4 * CHUNK_BYTES..LENGTH,
        LENGTH - 1..LENGTH,
    ] {
        gives(&mut client, &film, &ticket, part).await;
    }
    for part in [
        0..LENGTH,
        CHUNK_BYTES..2 * CHUNK_BYTES + 1,
        3 * CHUNK_BYTES..LENGTH,
    ] {
        let answer = client.get(digest, &ticket, &range(&part)).await;
        assert_eq!(answer.status, 404, "{part:?}");
        assert_eq!(held::parse(answer.header("oca-held")).unwrap(), there);
        assert_eq!(answer.header("content-range"), "");
    }
    let beyond = client
        .get(digest, &ticket, "Range: bytes=9999999-\r\n")
        .await;
    assert_eq!(beyond.status, 416);
    // Who may not have it does not learn of it.
    let other = lab.good(&[Digest::of(b"other")]);
    let refused = client.get(digest, &other, "").await;
    assert_eq!((refused.status, refused.header("oca-held")), (403, ""));
    film.feed(&mut staged, &[2, 3]).await;
    staged.commit().await.unwrap();
    gives(&mut client, &film, &ticket, 0..LENGTH).await;
    let view = lab.handle.view();
    assert_eq!(view.connections_total, 1, "one connection for all of it");
    assert_eq!(view.refusals["not-yet"], 4, "{:?}", view.refusals);
}

#[tokio::test]
async fn a_giver_that_gave_up_half_way_still_gives_that_half() {
    let (lab, film) = (Lab::start().await, Film::new());
    let ticket = lab.good(&[film.digest()]);
    let receiving = lab
        .store
        .receive(film.digest(), LENGTH, 0, film.tree.clone());
    let mut staged = receiving.await.unwrap();
    film.feed(&mut staged, &[0, 1]).await;
    drop(staged);
    until_held(&lab, &film, &[0..2 * CHUNK_BYTES]).await;
    let mut client = lab.connect().await;
    gives(&mut client, &film, &ticket, 0..2 * CHUNK_BYTES).await;
    lab.store.discard(film.digest());
    let gone = client.get(film.digest(), &ticket, "").await;
    assert_eq!((gone.status, gone.header("oca-held")), (404, ""));
}

/// No cap in this test.
#[derive(Debug)]
struct Free;

impl Turns for Free {
    fn take(&self, _: Class, _: u64) -> BoxFuture<'_, Result<(), Closed>> {
        Box::pin(async { Ok(()) })
    }

    fn give_back(&self, _: Class, _: u64) {}
}

async fn other_store(directory: &std::path::Path) -> store::Handle {
    let path = directory.join("disk");
    std::fs::create_dir_all(&path).unwrap();
    let store = store::start(&store::Config {
        disks: vec![store::DiskConfig {
            path,
            class: store::DiskClass::Ssd,
            zone: oca::store::Zone::None,
            plain_directory: true,
        }],
        state_dir: directory.join("state"),
        deadline: Duration::from_secs(10),
        upkeep: store::Upkeep::default(),
    });
    let store = store.unwrap();
    store.ready().await;
    store
}

fn job(lab: &Lab, film: &Film) -> Job {
    let digest = film.digest();
    Job {
        want: Want {
            digest,
            length: LENGTH,
            rank: 0,
            urgent: false,
        },
        class: Class::Night,
        tree: film.tree.clone(),
        source: FillSource {
            id: GIVER.to_owned(),
            kind: SourceKind::Peer,
            urls: vec![format!("https://{}/fill/{digest}", lab.address())],
            not_before_s: 0,
            ticket: None,
            etag: None,
            expires_s: 60,
        },
        ticket: Some(lab.good(&[digest])),
        others: Vec::new(),
        streams: 1,
        share: Share {
            receive_buffer: 128 << 10,
            part: BytesPerSecond(0),
        },
    }
}

#[tokio::test]
async fn a_box_takes_what_a_master_has_so_far_and_later_the_rest_over_the_same_connection() {
    let (lab, film) = (Lab::start().await, Film::new());
    let directory = tempfile::tempdir().unwrap();
    let own = other_store(directory.path()).await;
    let (identity, giver) = (lab.asker.clone(), name(GIVER));
    let config = FetchConfig {
        private_sources: true,
        plain_origin: false,
        origin_ca: None,
        gateway: None,
        limits: FetchLimits::default(),
    };
    let fetcher = Fetcher::new(
        config,
        Arc::new(move |_| box_client_config(&identity, &giver).map_err(|error| error.to_string())),
        Arc::new(SystemResolver),
        Arc::new(StoreContent::new(own.clone())),
    );
    let fetch = || fetcher.fetch(job(&lab, &film), Arc::new(Free));
    let receiving = lab
        .store
        .receive(film.digest(), LENGTH, 0, film.tree.clone());
    let mut staged = receiving.await.unwrap();
    film.feed(&mut staged, &[0, 1, 4, 5]).await;
    until_held(&lab, &film, &[0..2 * CHUNK_BYTES, 4 * CHUNK_BYTES..LENGTH]).await;
    let outcome = fetch().await;
    assert!(
        matches!(outcome.end, Err(Fault::NotYet { .. })),
        "{outcome:?}"
    );
    assert_eq!(outcome.verified, 3 * CHUNK_BYTES + 77);
    film.feed(&mut staged, &[2, 3]).await;
    staged.commit().await.unwrap();
    let outcome = fetch().await;
    assert_eq!((outcome.end, outcome.verified), (Ok(()), 2 * CHUNK_BYTES));
    assert!(own.holds(film.digest()));
    let view = lab.handle.view();
    assert_eq!(view.bytes_sent, LENGTH, "each byte once");
    assert_eq!(view.connections_total, 1, "{view:?}");
}
