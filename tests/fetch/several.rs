//! One large object from several sources at a time: a slow one, a dead one, a liar, and the rest.
//!
//! Each source is a server of its own on loopback, which gives at a rate or spoils its answers.

use crate::lab::fetcher;
use crate::proxy::Behind;
use crate::proxy::Proxy;
use crate::proxy::Spoil;
use crate::world::Shelf;
use crate::world::Till;
use crate::world::bytes;
use crate::world::job;
use oca::clock;
use oca::fill::BUILT;
use oca::fill::Class;
use oca::fill::Fault;
use oca::fill::Fetch as _;
use oca::fill::Fetcher;
use oca::fill::Job;
use oca::fill::Limits;
use oca::fill::MemoryKeeper;
use oca::fill::Offer;
use oca::fill::Outcome;
use oca::fill::Pace;
use oca::object::CHUNK_BYTES;
use oca::units::Bytes;
use oca::units::BytesPerSecond;
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// What one connection may have in flight, and one chunk beyond it.
const IN_FLIGHT: u64 = 2 * (128 << 10) + (64 << 10) + CHUNK_BYTES;

struct Yard {
    sources: Vec<Proxy>,
    shelf: Shelf,
    fetcher: Fetcher,
    till: Arc<Till>,
    body: bytes::Bytes,
    job: Job,
}

impl Yard {
    /// A source for each rate; 0 is as fast as it goes. `streams` of them are asked at a time.
    async fn new(length: u64, rates: &[u64], streams: usize) -> Self {
        let body = bytes(7, usize::try_from(length).unwrap());
        let mut sources = Vec::new();
        for rate in rates {
            let proxy = Proxy::start(Behind::Object(body.clone())).await;
            proxy.slow(*rate);
            sources.push(proxy);
        }
        let url = |proxy: &Proxy| format!("http://127.0.0.1:{}/film", proxy.port);
        let mut job = job(&body, url(&sources[0]));
        job.streams = streams;
        job.share.part = BytesPerSecond(1 << 30);
        let others = sources.iter().enumerate().skip(1).map(|(number, proxy)| {
            let mut source = job.source.clone();
            source.id = format!("source-{number}");
            source.urls = vec![url(proxy)];
            Offer {
                source,
                ticket: None,
            }
        });
        job.others = others.collect();
        let shelf = Shelf::default();
        Self {
            sources,
            fetcher: fetcher(&shelf),
            shelf,
            till: Till::open(),
            body,
            job,
        }
    }

    async fn fetch(&self) -> (Outcome, Duration) {
        let begun = clock::now();
        let fetching = self.fetcher.fetch(self.job.clone(), self.till.clone());
        let outcome = clock::within(Duration::from_secs(20), fetching).await;
        (outcome.unwrap(), begun.elapsed())
    }

    fn assert_whole(&self, outcome: &Outcome) {
        assert_eq!(outcome.end, Ok(()));
        let published = self.shelf.published(self.job.want.digest);
        assert!(published.is_some_and(|bytes| bytes == self.body));
        let money = self.till.money();
        assert!(outcome.received <= money.taken - money.given_back);
        assert!(outcome.received >= outcome.verified);
    }
}

fn end(outcome: &Outcome, source: usize) -> &Result<(), Fault> {
    let mut parts = outcome.parts.iter();
    &parts.find(|part| part.source == source).unwrap().end
}

fn given(outcome: &Outcome, source: usize) -> u64 {
    let parts = outcome.parts.iter();
    let parts = parts.filter(|part| part.source == source);
    parts.map(|part| part.verified).sum()
}

#[tokio::test]
async fn a_source_at_a_tenth_of_the_rate_does_not_hold_up_the_other_two() {
    let (quick, slow) = (4 * MIB, 4 * MIB / 10);
    let three = Yard::new(32 * MIB, &[quick, slow, quick], 3).await;
    let two = Yard::new(32 * MIB, &[quick, quick], 2).await;
    let ((outcome, took), (other, alone)) = tokio::join!(three.fetch(), two.fetch());
    three.assert_whole(&outcome);
    two.assert_whole(&other);
    assert!(
        took.as_secs_f64() <= alone.as_secs_f64() * 1.1,
        "{took:?} with a slow one, {alone:?} without"
    );
    let share = 8 * MIB..24 * MIB;
    for source in [0, 2] {
        assert!(share.contains(&given(&outcome, source)), "{outcome:?}");
    }
    assert!(given(&outcome, 1) <= 3 * MIB, "{outcome:?}");
    assert!(outcome.wasted <= IN_FLIGHT, "{} B twice", outcome.wasted);
    assert!(other.wasted <= IN_FLIGHT, "{} B twice", other.wasted);
    let sent: u64 = three.sources.iter().map(Proxy::sent).sum();
    assert!(sent <= 32 * MIB + 2 * IN_FLIGHT, "{sent} B were sent");
}

#[tokio::test]
async fn one_that_dies_in_the_middle_leaves_its_rest_to_the_others_and_a_spare_takes_its_place() {
    let yard = Yard::new(40 * MIB, &[0, 8 * MIB, 8 * MIB, 8 * MIB], 3).await;
    yard.sources[0].spoil([Spoil::Reset(600_000)]);
    let (outcome, _) = yard.fetch().await;
    yard.assert_whole(&outcome);
    assert!(matches!(end(&outcome, 0), Err(Fault::Broken(_))));
    assert_eq!(given(&outcome, 0), 2 * CHUNK_BYTES);
    assert!(given(&outcome, 3) > 0, "the spare: {outcome:?}");
    assert!(outcome.wasted <= 2 * IN_FLIGHT, "{}", outcome.wasted);
}

#[tokio::test]
async fn a_liar_is_named_at_once_and_only_what_it_lied_about_comes_again() {
    let mut yard = Yard::new(24 * MIB, &[8 * MIB, 0, 8 * MIB], 3).await;
    yard.sources[1].spoil([Spoil::Fine, Spoil::WrongBit(300_000)]);
    let (outcome, took) = yard.fetch().await;
    assert!(
        matches!(outcome.end, Err(Fault::WrongBytes(_))),
        "{outcome:?}"
    );
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    let lie = end(&outcome, 1);
    assert!(matches!(lie, Err(Fault::WrongBytes(_))), "{lie:?}");
    // The first piece, and the chunk before the lie.
    assert_eq!(given(&outcome, 1), MIB + CHUNK_BYTES);
    assert!(outcome.wasted >= CHUNK_BYTES, "{}", outcome.wasted);
    assert!(
        outcome.wasted <= CHUNK_BYTES + 3 * IN_FLIGHT,
        "{}",
        outcome.wasted
    );
    let honest = outcome.parts.iter().filter(|part| part.source != 1);
    assert!({ honest }.all(|part| part.end.is_ok()), "{outcome:?}");
    let staged = yard.shelf.staged(yard.job.want.digest);
    assert!(staged >= outcome.verified, "{staged}");
    // Whoever gave the job goes on without it.
    yard.job.others.remove(0);
    let (outcome, _) = yard.fetch().await;
    yard.assert_whole(&outcome);
    assert_eq!(outcome.verified, 24 * MIB - staged);
    assert_eq!(yard.sources[1].asked().len(), 2, "it is not asked again");
}

#[tokio::test]
async fn sources_that_cannot_give_parts_are_done_without() {
    for (spoil, count) in [
        (Spoil::Whole, 1),
        (Spoil::Truncated(100_000), 1),
        (Spoil::Status("404 Not Found"), 1),
        (Spoil::Status("429 Busy\nRetry-After: 7"), 1),
        (Spoil::Closed, 1),
        (Spoil::Headers(&[("Content-Range", "bytes 0-1/2")]), 1),
    ] {
        let yard = Yard::new(9 * MIB + 5, &[0, 0, 0], 3).await;
        yard.sources[2].spoil([spoil.clone()]);
        let (outcome, _) = yard.fetch().await;
        yard.assert_whole(&outcome);
        assert!(end(&outcome, 2).is_err(), "{spoil:?}: {outcome:?}");
        assert_eq!(given(&outcome, 2), 0, "{spoil:?}");
        assert_eq!(yard.sources[2].asked().len(), count, "{spoil:?}");
    }
}

#[tokio::test]
async fn one_that_falls_silent_is_not_waited_for() {
    let mut yard = Yard::new(16 * MIB, &[8 * MIB, 8 * MIB], 2).await;
    yard.job.share.receive_buffer = 64 << 10;
    yard.sources[1].spoil([Spoil::Fine, Spoil::Stall(400_000)]);
    let (outcome, took) = yard.fetch().await;
    yard.assert_whole(&outcome);
    assert_eq!(given(&outcome, 1), MIB + CHUNK_BYTES);
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn when_all_are_slow_all_are_used_and_nobody_is_dropped() {
    let rate = 3 * MIB / 2;
    let yard = Yard::new(12 * MIB, &[rate, rate, rate], 3).await;
    let (outcome, took) = yard.fetch().await;
    yard.assert_whole(&outcome);
    assert!(
        outcome.parts.iter().all(|part| part.end.is_ok()),
        "{outcome:?}"
    );
    assert!(took < Duration::from_millis(3_400), "{took:?}");
    assert_eq!(outcome.wasted, 0);
}

#[tokio::test]
async fn when_everybody_fails_it_fails_and_keeps_what_came() {
    let yard = Yard::new(16 * MIB, &[0, 0], 2).await;
    for proxy in &yard.sources {
        proxy.spoil([Spoil::Fine, Spoil::Status("404 Gone")]);
    }
    let (outcome, _) = yard.fetch().await;
    assert_eq!(outcome.end, Err(Fault::NotFound));
    assert_eq!(outcome.verified, 2 * MIB);
    assert_eq!(yard.shelf.staged(yard.job.want.digest), 2 * MIB);
    // The next try goes on there, in whatever holes there are.
    yard.shelf.lose(yard.job.want.digest, 2);
    let (outcome, _) = yard.fetch().await;
    yard.assert_whole(&outcome);
    assert_eq!(outcome.verified, 14 * MIB + CHUNK_BYTES);
    assert!(outcome.wasted <= IN_FLIGHT, "{}", outcome.wasted);
}

#[tokio::test]
async fn killed_in_the_middle_it_goes_on_with_what_is_missing() {
    let yard = Yard::new(24 * MIB, &[8 * MIB, 8 * MIB, 8 * MIB], 3).await;
    let fetching = yard.fetcher.fetch(yard.job.clone(), yard.till.clone());
    let killed = clock::within(Duration::from_millis(500), fetching).await;
    assert!(killed.is_err());
    let staged = yard.shelf.staged(yard.job.want.digest);
    assert!((MIB..23 * MIB).contains(&staged), "{staged}");
    let (outcome, _) = yard.fetch().await;
    yard.assert_whole(&outcome);
    assert_eq!(outcome.verified, 24 * MIB - staged);
    assert!(outcome.wasted <= 2 * IN_FLIGHT, "{}", outcome.wasted);
}

#[tokio::test]
async fn without_turns_it_stops_and_nobody_is_to_blame() {
    let mut yard = Yard::new(24 * MIB, &[0, 0, 0], 3).await;
    yard.till = Till::closing_at(6 * MIB);
    let (outcome, _) = yard.fetch().await;
    assert_eq!(outcome.end, Err(Fault::Stopped));
    assert!(
        outcome.parts.iter().all(|part| part.end.is_ok()),
        "{outcome:?}"
    );
    assert!(outcome.received <= 6 * MIB);
    assert_eq!(yard.shelf.staged(yard.job.want.digest), outcome.verified);
}

#[tokio::test]
async fn a_source_that_is_itself_receiving_gives_what_it_has_and_is_no_liar() {
    let not_yet = "404 Not Found\nRetry-After: 2\nOCA-Held: 0-1048575, 2000000-3145727";
    for streams in [1, 2] {
        let yard = Yard::new(16 * MIB, &[0, 0], streams).await;
        for proxy in &yard.sources {
            proxy.spoil([Spoil::Status(not_yet)]);
        }
        let (outcome, _) = yard.fetch().await;
        assert!(
            matches!(outcome.end, Err(Fault::NotYet { .. })),
            "{outcome:?}"
        );
        // The first megabyte, and the four whole chunks of the other range.
        let chunks = 2 * MIB;
        assert_eq!(outcome.verified, chunks, "{outcome:?}");
        assert_eq!(yard.shelf.staged(yard.job.want.digest), chunks);
        // When it is through it gives all.
        let (outcome, _) = yard.fetch().await;
        yard.assert_whole(&outcome);
        assert_eq!(outcome.verified, 16 * MIB - chunks);
    }
}

#[tokio::test]
async fn one_that_refuses_what_it_says_to_have_is_not_asked_over_and_over() {
    let yard = Yard::new(16 * MIB, &[8 * MIB, 0], 2).await;
    let held = [
        "404 Not Found\nOCA-Held: 8388608-9437183",
        "404 Not Found\nOCA-Held: 12582912-13631487",
    ];
    yard.sources[1].spoil(held.into_iter().cycle().take(60).map(Spoil::Status));
    let (outcome, _) = yard.fetch().await;
    yard.assert_whole(&outcome);
    let end = end(&outcome, 1);
    assert!(matches!(end, Err(Fault::NotYet { .. })), "{end:?}");
    assert_eq!(yard.sources[1].asked().len(), 2);
}

/// The silent one is given up when it has been silent for long enough, and the other brings its
/// rest while what the silent one may have sent is waited for.
#[tokio::test]
async fn the_object_is_there_before_late_bytes_are_and_its_streams_are_busy_until_then() {
    let yard = Yard::new(9 * MIB, &[0, 0], 2).await;
    yard.sources[1].spoil([Spoil::Stall(400_000)]);
    let published = async {
        while !yard.shelf.is_published(yard.job.want.digest) {
            clock::sleep(Duration::from_millis(5)).await;
        }
        clock::now()
    };
    let fetching = async { (yard.fetch().await.0, clock::now()) };
    let ((outcome, ended), published) = tokio::join!(fetching, published);
    yard.assert_whole(&outcome);
    let later = ended - published;
    assert!(later >= Duration::from_millis(400), "{later:?}");
    assert!(outcome.seconds < 1.4, "late bytes are none of its time");
}

/// Three sources that would each give more than the cap, one of which is cut off in between, and
/// one source alone.
#[tokio::test]
async fn the_cap_is_that_of_one_source_whatever_their_number() {
    let (rate, length) = (8 * MIB, 14 * MIB);
    let mut times = Vec::new();
    for (sources, streams) in [(&[0][..], 1), (&[0, 0, 0, 0], 3)] {
        let mut yard = Yard::new(length, sources, streams).await;
        yard.job.share.part = BytesPerSecond(rate / 3);
        yard.job.share.receive_buffer = 32 << 10;
        if let Some(proxy) = yard.sources.get(2) {
            proxy.spoil([Spoil::Fine, Spoil::Fine, Spoil::Reset(500_000)]);
        }
        let limits = Limits {
            rate: BytesPerSecond(rate),
            night: Bytes(1 << 40),
            urgent: Bytes(0),
        };
        let pace = Pace::load(limits, Arc::new(MemoryKeeper::default()), BUILT);
        pace.open(Class::Night, None);
        let begun = clock::now();
        let fetching = yard.fetcher.fetch(yard.job.clone(), Arc::new(pace.clone()));
        let outcome = clock::within(Duration::from_secs(15), fetching)
            .await
            .unwrap();
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(outcome.end, Ok(()));
        let view = pace.view();
        let granted = view.night.granted_bytes as f64;
        assert!(
            took >= granted / rate as f64 - 0.05,
            "{granted} B in {took} s"
        );
        let worst = view.worst_second_bps as f64 / 8.0;
        assert!(worst <= rate as f64 * 1.05, "{worst} B in one second");
        // Frames and handshakes cost a little, and what was given up.
        let more = granted / length as f64;
        assert!((1.0..1.1).contains(&more), "{more}");
        times.push(took);
    }
    println!("one source: {} s, three: {} s", times[0], times[1]);
    assert!(times[1] <= times[0] * 1.2 + 0.2, "{times:?}");
}
