//! Every fault of a source ends with its own word; what was verified stays, and a good source goes
//! on from there.

use crate::lab::Lab;
use crate::lab::fetcher;
use crate::proxy::Spoil;
use crate::world::bytes;
use hyper::Method;
use oca::clock;
use oca::fill::Fault;
use oca::object::CHUNK_BYTES;
use std::time::Duration;

const CHUNK: usize = 256 << 10;
const _: () = assert!(CHUNK as u64 == CHUNK_BYTES);

/// Ten chunks and a piece.
const LENGTH: usize = 10 * CHUNK + 12_345;

/// In the fifth chunk.
const AT: usize = 4 * CHUNK + 777;

#[derive(Debug, PartialEq, Eq)]
enum Word {
    NotFound,
    Busy(Option<u64>),
    Refused,
    WrongBytes,
    Changed,
    Slow,
    Broken,
    Other,
}

fn word(end: &Result<(), Fault>) -> Word {
    match end {
        Err(Fault::NotFound) => Word::NotFound,
        Err(Fault::Busy { retry_after }) => Word::Busy(retry_after.as_ref().map(Duration::as_secs)),
        Err(Fault::Refused(_)) => Word::Refused,
        Err(Fault::WrongBytes(_)) => Word::WrongBytes,
        Err(Fault::Changed(_)) => Word::Changed,
        Err(Fault::Slow(_)) => Word::Slow,
        Err(Fault::Broken(_)) => Word::Broken,
        Ok(()) | Err(Fault::NotYet { .. } | Fault::Store(_) | Fault::Stopped) => Word::Other,
    }
}

#[tokio::test]
async fn objects_of_every_size_arrive_whole_and_each_byte_is_asked_for_once() {
    let lab = Lab::new().await;
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, LENGTH] {
        let content = bytes(length as u64, length);
        let job = lab.job(&format!("sizes/{length}.m4s"), &content).await;
        let outcome = lab.fetch(&job).await;
        assert_eq!(outcome.end, Ok(()), "{length}");
        assert_eq!(outcome.verified, length as u64);
        assert!(outcome.received >= length as u64, "{outcome:?}");
        assert_eq!(lab.shelf.published(job.want.digest), Some(content));
        assert_eq!(lab.proxy.bytes_asked(), length as u64);
    }
    assert_eq!(lab.proxy.connections(), 1, "connections are kept");
}

#[tokio::test]
async fn each_fault_has_its_word_and_the_next_try_goes_on_where_it_happened() {
    let mut lab = Lab::new().await;
    let faults = [
        (Spoil::Reset(AT), Word::Broken, 4),
        (Spoil::Truncated(AT), Word::Broken, 4),
        (Spoil::Truncated(0), Word::Broken, 0),
        (Spoil::Closed, Word::Broken, 0),
        (Spoil::Stall(AT), Word::Slow, 4),
        (Spoil::Silent, Word::Slow, 0),
        (Spoil::Trickle(AT), Word::Slow, 4),
        (Spoil::WrongBit(AT), Word::WrongBytes, 4),
        (Spoil::WrongBit(LENGTH - 1), Word::WrongBytes, 10),
        (
            Spoil::Status("503 SlowDown\r\nRetry-After: 7"),
            Word::Busy(Some(7)),
            0,
        ),
        (Spoil::Status("429 Too Many"), Word::Busy(None), 0),
        (Spoil::Status("404 No"), Word::NotFound, 0),
        (Spoil::Status("500 Oh"), Word::Broken, 0),
        (Spoil::Status("416 Short"), Word::Changed, 0),
        (Spoil::Status("403 No"), Word::Refused, 0),
        (Spoil::EndlessHead, Word::Broken, 0),
        (
            Spoil::Headers(&[("Content-Encoding", "gzip")]),
            Word::Broken,
            0,
        ),
        (
            Spoil::Headers(&[("Content-Range", "bytes 1-2633784/2633785")]),
            Word::Broken,
            0,
        ),
        (
            Spoil::Headers(&[("Content-Range", "bytes 0-2633784/2633786")]),
            Word::Changed,
            0,
        ),
        (
            Spoil::Headers(&[("Content-Length", "99999999999")]),
            Word::Changed,
            0,
        ),
        // All of it is verified; that more comes is not taken quietly.
        (Spoil::Endless, Word::Broken, 11),
    ];
    for (number, (spoil, expected, chunks)) in faults.into_iter().enumerate() {
        let content = bytes(number as u64, LENGTH);
        let job = lab.job(&format!("faults/{number}.m4s"), &content).await;
        // A connection of its own: a kept one would be tried again.
        lab.fetcher = fetcher(&lab.shelf);
        lab.proxy.spoil([spoil.clone()]);
        let outcome = lab.fetch(&job).await;
        assert_eq!(word(&outcome.end), expected, "{spoil:?}: {outcome:?}");
        let staged = (chunks * CHUNK).min(LENGTH) as u64;
        assert_eq!(lab.shelf.staged(job.want.digest), staged, "{spoil:?}");
        assert_eq!(outcome.verified, staged, "{spoil:?}");
        assert!(outcome.received >= staged, "{spoil:?}: {outcome:?}");
        assert_eq!(lab.shelf.published(job.want.digest), None);
        assert_eq!(lab.proxy.bytes_asked(), LENGTH as u64, "asked once");
        let outcome = lab.fetch(&job).await;
        assert_eq!(outcome.end, Ok(()), "after {spoil:?}");
        assert_eq!(lab.shelf.published(job.want.digest), Some(content));
        let rest = LENGTH as u64 - staged;
        assert_eq!(lab.proxy.bytes_asked(), rest, "after {spoil:?}");
        assert_eq!(outcome.verified, rest);
    }
}

#[tokio::test]
async fn redirects_are_not_followed_not_even_to_the_object() {
    let lab = Lab::new().await;
    let content = bytes(1, LENGTH);
    let job = lab.job("moved.m4s", &content).await;
    let other = Lab::new().await;
    for status in [301, 302, 303, 307, 308] {
        let to = other
            .presigned(Method::GET, other.proxy.port, "moved.m4s")
            .await;
        let status = format!("{status} Moved\r\nLocation: {to}");
        lab.proxy.spoil([Spoil::Status(status.leak())]);
        let outcome = lab.fetch(&job).await;
        assert_eq!(word(&outcome.end), Word::Refused, "{outcome:?}");
    }
    assert_eq!(other.proxy.connections(), 0);
}

#[tokio::test]
async fn an_object_that_was_replaced_at_the_origin_is_told_before_a_byte_of_it_comes() {
    let lab = Lab::new().await;
    let content = bytes(1, LENGTH);
    let mut job = lab.job("replaced.m4s", &content).await;
    job.source.etag = Some(lab.etag("replaced.m4s").await);
    lab.proxy.spoil([Spoil::Truncated(AT)]);
    let outcome = lab.fetch(&job).await;
    assert_eq!(word(&outcome.end), Word::Broken, "{outcome:?}");
    // Same length, other bytes: only the tag can tell.
    lab.put("replaced.m4s", &bytes(2, LENGTH)).await;
    let outcome = lab.fetch(&job).await;
    assert_eq!(word(&outcome.end), Word::Changed, "{outcome:?}");
    assert!(outcome.received < CHUNK_BYTES, "{outcome:?}");
    lab.put("replaced.m4s", &content).await;
    lab.proxy.asked();
    assert_eq!(lab.fetch(&job).await.end, Ok(()));
    assert_eq!(lab.proxy.bytes_asked(), (LENGTH - 4 * CHUNK) as u64);
}

#[tokio::test]
async fn without_its_tag_a_replaced_object_is_caught_by_its_first_chunk() {
    let lab = Lab::new().await;
    let job = lab.job("same-length.m4s", &bytes(1, LENGTH)).await;
    lab.put("same-length.m4s", &bytes(2, LENGTH)).await;
    let outcome = lab.fetch(&job).await;
    assert_eq!(word(&outcome.end), Word::WrongBytes, "{outcome:?}");
    assert_eq!(lab.shelf.staged(job.want.digest), 0);
    lab.put("same-length.m4s", &bytes(1, LENGTH - 1)).await;
    let outcome = lab.fetch(&job).await;
    assert_eq!(word(&outcome.end), Word::Changed, "{outcome:?}");
}

#[tokio::test]
async fn a_forged_signature_is_refused_with_the_services_reason() {
    let lab = Lab::new().await;
    let mut job = lab.job("signed.m4s", &bytes(1, 100)).await;
    let url = job.source.urls[0].clone();
    let (front, signature) = url.rsplit_once('=').unwrap();
    let forged: String = signature.chars().rev().collect();
    job.source.urls = vec![format!("{front}={forged}")];
    let outcome = lab.fetch(&job).await;
    let told = format!("{:?}", outcome.end);
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
    assert!(!told.contains(&forged), "{told}");
    // The next URL is not tried after an answer, but is when nobody listens.
    job.source.urls = vec!["http://127.0.0.1:1/nobody".into(), url];
    assert_eq!(lab.fetch(&job).await.end, Ok(()));
}

#[tokio::test]
async fn holes_are_filled_each_with_its_own_range() {
    let lab = Lab::new().await;
    let content = bytes(1, LENGTH);
    let job = lab.job("holes.m4s", &content).await;
    lab.proxy.spoil([Spoil::Truncated(9 * CHUNK + 5)]);
    lab.fetch(&job).await;
    lab.shelf.lose(job.want.digest, 2);
    lab.shelf.lose(job.want.digest, 3);
    lab.shelf.lose(job.want.digest, 7);
    lab.proxy.asked();
    assert_eq!(lab.fetch(&job).await.end, Ok(()));
    let chunk = CHUNK_BYTES;
    let asked: Vec<_> = lab
        .proxy
        .asked()
        .into_iter()
        .map(|asked| asked.range)
        .collect();
    let expected = [
        2 * chunk..4 * chunk,
        7 * chunk..8 * chunk,
        9 * chunk..LENGTH as u64,
    ];
    assert_eq!(asked, expected.map(Some));
    assert_eq!(lab.shelf.published(job.want.digest), Some(content));
}

#[tokio::test]
async fn a_whole_answer_to_a_question_for_a_part_is_not_taken() {
    let lab = Lab::new().await;
    let content = bytes(1, LENGTH);
    let job = lab.job("whole.m4s", &content).await;
    lab.proxy.spoil([Spoil::Truncated(AT), Spoil::Whole]);
    lab.fetch(&job).await;
    let outcome = lab.fetch(&job).await;
    assert_eq!(word(&outcome.end), Word::Broken, "{outcome:?}");
    let job = lab.job("whole-2.m4s", &bytes(2, LENGTH)).await;
    lab.proxy.spoil([Spoil::Whole]);
    assert_eq!(
        lab.fetch(&job).await.end,
        Ok(()),
        "from the start it is as good"
    );
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_nothing() {
    let lab = Lab::new().await;
    let first = lab.job("kept/1.m4s", &bytes(1, 1000)).await;
    let second = lab.job("kept/2.m4s", &bytes(2, 1000)).await;
    assert_eq!(lab.fetch(&first).await.end, Ok(()));
    lab.proxy.spoil([Spoil::Closed]);
    assert_eq!(lab.fetch(&second).await.end, Ok(()));
    assert_eq!(lab.proxy.connections(), 2);
    // A fresh one is not tried again.
    let third = lab.job("kept/3.m4s", &bytes(3, 1000)).await;
    lab.proxy.spoil([Spoil::Closed, Spoil::Closed]);
    assert_eq!(word(&lab.fetch(&third).await.end), Word::Broken);
    assert_eq!(lab.proxy.connections(), 3);
    // Short refusals leave the connection as it was.
    assert_eq!(lab.fetch(&third).await.end, Ok(()));
    let fourth = lab.job("kept/4.m4s", &bytes(4, 1000)).await;
    lab.proxy
        .spoil([Spoil::Status("404 No"), Spoil::Status("503 Busy")]);
    assert_eq!(word(&lab.fetch(&fourth).await.end), Word::NotFound);
    assert_eq!(word(&lab.fetch(&fourth).await.end), Word::Busy(None));
    assert_eq!(lab.fetch(&fourth).await.end, Ok(()));
    assert_eq!(lab.proxy.connections(), 4);
}

#[tokio::test]
async fn dropped_in_the_middle_it_stops_at_once_and_keeps_what_is_staged() {
    let lab = Lab::new().await;
    let content = bytes(1, LENGTH);
    let job = lab.job("dropped.m4s", &content).await;
    lab.proxy.spoil([Spoil::Trickle(AT)]);
    let fetching = clock::within(Duration::from_millis(300), lab.fetch(&job));
    fetching.await.unwrap_err();
    assert_eq!(lab.shelf.staged(job.want.digest), 4 * CHUNK_BYTES);
    assert!(lab.till.spent() >= AT as u64, "{:?}", lab.till.money());
    assert!(lab.till.money().given_back > 0);
    for _ in 0..100 {
        clock::sleep(Duration::from_millis(20)).await;
        if lab.proxy.closed() > 0 {
            break;
        }
    }
    assert_eq!(lab.proxy.closed(), 1, "the source is told");
    lab.proxy.asked();
    assert_eq!(lab.fetch(&job).await.end, Ok(()));
    assert_eq!(lab.proxy.bytes_asked(), (LENGTH - 4 * CHUNK) as u64);
}
