//! Flights, bounds and releases, with a disk that does what the test says; and the real thing on a
//! temporary file.
#![allow(clippy::cast_possible_truncation)]

use super::bring::bring;
use super::queue::AHEAD_MAX;
use super::queue::BEGINS_EACH_MAX;
use super::queue::RUNS_EACH_MAX;
use super::*;
use crate::object::Digest;
use crate::sys::page_cache;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;

/// Who reads, where it does not matter.
const HOME: Household = Household(1);

const DEADLINE: Duration = Duration::from_secs(10);

/// Long enough for a loaded machine, and a bound for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two chunks and a bit, on a disk, not in memory.
fn absent() -> Arc<ObjectFile> {
    let bytes: Vec<u8> = (0..2 * CHUNK_BYTES + 1000).map(|n| (n / 7) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.sync_all().unwrap();
    page_cache::no_readahead(&file).unwrap();
    let object = ObjectFile {
        file,
        length: bytes.len() as u64,
        digest: Digest::of(&bytes),
        volume: 0,
    };
    forget(&object);
    Arc::new(object)
}

fn forget(object: &ObjectFile) {
    // A page that another core holds for a moment is not dropped at the first try.
    for _ in 0..1_000 {
        page_cache::drop_cached(&object.file, 0, 0).unwrap();
        if !matches!(
            page_cache::pages_cached(&object.file, 0, object.length),
            Ok(1..)
        ) {
            return;
        }
        std::thread::yield_now();
    }
}

fn fills(threads: usize, bring: Bring) -> (Fills, Ticks) {
    let ticks = Ticks::default();
    let fills = Fills::with(0, threads, DEADLINE, ticks.clone(), bring).unwrap();
    (fills, ticks)
}

/// A disk that tells which chunk it is asked for, and then waits for a word.
fn slow(threads: usize) -> (Fills, Ticks, Receiver<u64>, SyncSender<()>) {
    let (asked, told) = mpsc::sync_channel(64);
    let (go, may_go) = mpsc::sync_channel::<()>(64);
    let may_go = Mutex::new(may_go);
    let work = move |object: &ObjectFile, at: u64, length: u64| {
        let _ = asked.send(at / CHUNK_BYTES);
        // An error is the end of the test, which releases everybody.
        let _ = may_go.lock().unwrap().recv();
        bring(object, at, length)
    };
    let (fills, ticks) = fills(threads, Box::new(work));
    (fills, ticks, told, go)
}

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            clock::sleep(Duration::from_millis(1)).await;
        }
    };
    clock::within(PATIENCE, wait).await.expect("waited in vain");
}

/// A response that wants one chunk.
fn want(
    fills: &Fills,
    object: &Arc<ObjectFile>,
    chunk: u64,
) -> tokio::task::JoinHandle<Result<Supply, FillError>> {
    let (fills, object) = (fills.clone(), Arc::clone(object));
    tokio::spawn(async move {
        let at = chunk * CHUNK_BYTES;
        let length = CHUNK_BYTES.min(object.length - at);
        fills.supply(&object, at, length, Urgency::Runs, HOME).await
    })
}

async fn end<T>(task: tokio::task::JoinHandle<T>) -> T {
    let ended = clock::within(PATIENCE, task).await;
    ended.expect("it never ended").unwrap()
}

#[tokio::test]
async fn an_absent_chunk_is_brought_and_the_next_one_asked_for_ahead() {
    let object = absent();
    let (fills, _) = fills(2, Box::new(bring));
    assert!(!fills.is_ready(&object, 0, CHUNK_BYTES));
    let supply = fills.supply(&object, 0, CHUNK_BYTES, Urgency::Begins, HOME);
    let supply = supply.await;
    assert!(matches!(supply, Ok(Supply::Cached)), "{supply:?}");
    assert!(fills.is_ready(&object, 0, CHUNK_BYTES));
    assert!(
        !fills.is_ready(&object, CHUNK_BYTES, 1),
        "no more than asked for"
    );
    assert!(fills.prefetch(&object, CHUNK_BYTES));
    until(|| fills.is_ready(&object, CHUNK_BYTES, CHUNK_BYTES)).await;
    assert!(!fills.prefetch(&object, CHUNK_BYTES), "it is there");
    assert!(!fills.prefetch(&object, 3 * CHUNK_BYTES), "beyond the end");
    let tail = fills
        .supply(&object, 2 * CHUNK_BYTES, 1000, Urgency::Runs, HOME)
        .await;
    assert!(matches!(tail, Ok(Supply::Cached)), "{tail:?}");
    let view = fills.view();
    assert_eq!((view.fills, view.prefetches, view.waits), (3, 1, 2));
    assert_eq!((view.queued, view.retries, view.errors), (0, 0, 0));
}

#[tokio::test]
async fn twenty_responses_share_one_read_and_one_that_leaves_takes_nobody_along() {
    let object = absent();
    let (fills, _, asked, go) = slow(4);
    let first = want(&fills, &object, 1);
    until(|| fills.view().reading == 1).await;
    let others: Vec<_> = (0..20).map(|_| want(&fills, &object, 1)).collect();
    until(|| fills.view().joined == 20).await;
    first.abort();
    assert!(!fills.is_ready(&object, CHUNK_BYTES, 1));
    go.send(()).unwrap();
    for other in others {
        assert!(matches!(end(other).await, Ok(Supply::Cached)));
    }
    assert_eq!(
        asked.try_iter().collect::<Vec<_>>(),
        [1],
        "one read of the chunk"
    );
    assert_eq!(fills.view().fills, 1);
}

#[tokio::test]
async fn what_a_viewer_waits_for_comes_before_guesses() {
    let (fills, _, asked, go) = slow(1);
    let (busy, object) = (absent(), absent_other());
    let first = want(&fills, &busy, 0);
    until(|| fills.view().reading == 1).await;
    assert!(fills.prefetch(&object, 0));
    assert!(fills.prefetch(&object, CHUNK_BYTES));
    let wanted = want(&fills, &object, 1);
    until(|| fills.view().joined == 1).await;
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    assert!(end(first).await.is_ok() && end(wanted).await.is_ok());
    until(|| fills.view().fills == 3).await;
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [0, 1, 0]);
}

fn absent_other() -> Arc<ObjectFile> {
    let object = Arc::into_inner(absent()).unwrap();
    let digest = Digest::of(b"another");
    Arc::new(ObjectFile { digest, ..object })
}

#[tokio::test]
async fn queues_are_bounded_and_responses_that_run_have_more_room() {
    let (fills, _, _asked, _go) = slow(1);
    let object = absent();
    let _busy = fills.0.join(&object, 0, Urgency::Runs, HOME).unwrap();
    until(|| fills.view().reading == 1).await;
    // Chunk numbers beyond the object's end never get to the disk here.
    let fit = |from: u64, urgency| {
        let chunks = from..from + 10_000;
        let mut fits = chunks.map(|chunk| fills.0.join(&object, chunk, urgency, HOME));
        fits.position(|fit| matches!(fit, Err(FillError::Busy)))
            .unwrap()
    };
    assert_eq!(fit(100_000, Urgency::Ahead), AHEAD_MAX);
    assert_eq!(fit(200_000, Urgency::Begins), BEGINS_EACH_MAX);
    let more = RUNS_EACH_MAX - BEGINS_EACH_MAX;
    assert_eq!(fit(300_000, Urgency::Runs), more);
    let copied = fills.copy(&object, 0, 1, HOME).await;
    assert!(matches!(copied, Err(FillError::Busy)), "{copied:?}");
    let view = fills.view();
    assert_eq!((view.queued, view.refused), (RUNS_EACH_MAX as u64, 4));
}

#[tokio::test]
async fn nine_hundred_connections_of_one_household_do_not_keep_another_from_its_disk() {
    let brought = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&brought);
    let work = move |object: &ObjectFile, at: u64, _: u64| {
        counted.fetch_add(1, Relaxed);
        clock::block_for(Duration::from_micros(200));
        object.file.read_exact_at(&mut [0], at)
    };
    let (fills, _) = fills(1, Box::new(work));
    // A hole is read at once, and is in memory then.
    let file = tempfile::tempfile().unwrap();
    file.set_len(1_000_000 * CHUNK_BYTES).unwrap();
    let object = Arc::into_inner(absent()).unwrap();
    let object = Arc::new(ObjectFile { file, ..object });
    let shelf = fills.clone();
    let ask = move |household: u64, chunk: u64| {
        let (fills, object) = (shelf.clone(), Arc::clone(&object));
        async move {
            let (at, household) = (chunk * CHUNK_BYTES, Household(household));
            let supply = fills.supply(&object, at, 1, Urgency::Begins, household);
            supply.await.is_ok()
        }
    };
    let mut crowd = tokio::task::JoinSet::new();
    for connection in 0..900 {
        let ask = ask.clone();
        crowd.spawn(async move {
            for round in 0.. {
                if !ask(1, 1_000 + connection * 1_000 + round % 1_000).await {
                    // A refused one comes again.
                    clock::sleep(Duration::from_millis(1)).await;
                }
            }
        });
    }
    until(|| fills.view().refused > 900).await;
    for chunk in 0..24 {
        let before = brought.load(Relaxed);
        assert!(ask(2, 100 + chunk).await, "it is refused, like the crowd");
        // One that is under way, its own, and those that come before it is looked at.
        let turns = brought.load(Relaxed) - before;
        assert!(turns < 100, "it waited for {turns} of the crowd");
    }
    crowd.shutdown().await;
}

#[tokio::test]
async fn who_joins_anothers_wish_need_not_wait_for_the_others_turn() {
    let (fills, _, asked, go) = slow(1);
    let (busy, object) = (absent_other(), absent());
    let first = want(&fills, &busy, 0);
    until(|| fills.view().reading == 1).await;
    // Of one household: three chunks, of which another wants the last.
    let others: Vec<_> = (0..3).map(|chunk| want(&fills, &object, chunk)).collect();
    until(|| fills.view().queued == 3).await;
    let joined = {
        let (fills, object) = (fills.clone(), Arc::clone(&object));
        let at = 2 * CHUNK_BYTES;
        let other = Household(2);
        tokio::spawn(async move {
            fills
                .supply(&object, at, 1000, Urgency::Begins, other)
                .await
        })
    };
    until(|| fills.view().joined == 1).await;
    for _ in 0..4 {
        go.send(()).unwrap();
    }
    assert!(end(joined).await.is_ok() && end(first).await.is_ok());
    for other in others {
        assert!(end(other).await.is_ok());
    }
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [0, 2, 0, 1]);
    assert_eq!((fills.view().fills, fills.view().queued), (4, 0));
}

#[tokio::test]
async fn threads_grow_with_the_work_and_not_beyond_the_disks_number() {
    let (fills, _, _asked, go) = slow(3);
    let object = absent();
    let tasks: Vec<_> = (0..3)
        .map(|chunk| want(&fills, &object, chunk))
        .chain([want(&fills, &absent_other(), 0)])
        .collect();
    until(|| fills.view().reading == 3 && fills.view().queued == 1).await;
    for _ in 0..4 {
        go.send(()).unwrap();
    }
    for task in tasks {
        assert!(end(task).await.is_ok());
    }
    until(|| fills.view().reading == 0).await;
}

#[tokio::test]
async fn an_io_error_reaches_everybody_who_waited_and_the_next_asks_again() {
    let object = absent();
    let calls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&calls);
    let broken = move |_: &ObjectFile, _: u64, _: u64| {
        *counted.lock().unwrap() += 1;
        Err(io::Error::from_raw_os_error(libc::EIO))
    };
    let (fills, _) = fills(1, Box::new(broken));
    for round in 1..=2 {
        let failed = end(want(&fills, &object, 0)).await.unwrap_err();
        let error = failed.into_io().unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(
            (*calls.lock().unwrap(), fills.view().errors),
            (round, round)
        );
    }
    assert!(FillError::Busy.into_io().is_none(), "no word of the disk's");
}

#[tokio::test]
async fn a_file_that_ends_early_is_an_error_and_not_a_wait() {
    let object = absent();
    object.file.set_len(CHUNK_BYTES + 10).unwrap();
    let (fills, _) = fills(1, Box::new(bring));
    let failed = end(want(&fills, &object, 1)).await.unwrap_err();
    assert_eq!(
        failed.into_io().unwrap().kind(),
        io::ErrorKind::UnexpectedEof
    );
    let failed = fills
        .copy(&object, 2 * CHUNK_BYTES, 10, HOME)
        .await
        .unwrap_err();
    assert_eq!(
        failed.into_io().unwrap().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[tokio::test]
async fn a_hung_disk_holds_its_threads_only_and_its_waiters_are_released_when_it_is_isolated() {
    let (hung, ticks, asked, go) = slow(2);
    let object = absent();
    let running = [want(&hung, &object, 0), want(&hung, &object, 1)];
    until(|| hung.view().reading == 2).await;
    let (queued, copy) = (want(&hung, &object, 2), {
        let (hung, object) = (hung.clone(), Arc::clone(&object));
        tokio::spawn(async move { hung.copy(&object, 0, 10, HOME).await })
    });
    until(|| hung.view().queued == 2).await;
    assert!(!hung.is_overdue() && !hung.is_idle());
    // Another disk goes on.
    let (well, _) = fills(1, Box::new(bring));
    assert!(end(want(&well, &absent(), 0)).await.is_ok());
    ticks.set(DEADLINE + Duration::from_millis(2));
    assert!(hung.is_overdue());
    hung.set_answering(false);
    for waiter in running.into_iter().chain([queued]) {
        assert!(matches!(end(waiter).await, Err(FillError::NoAnswer)));
    }
    assert!(matches!(end(copy).await, Err(FillError::NoAnswer)));
    let refused = end(want(&hung, &object, 2)).await;
    assert!(matches!(refused, Err(FillError::NoAnswer)), "{refused:?}");
    // It answers again, and late news harm nobody.
    go.send(()).unwrap();
    go.send(()).unwrap();
    until(|| hung.is_idle()).await;
    hung.set_answering(true);
    go.send(()).unwrap();
    assert!(matches!(
        end(want(&hung, &object, 2)).await,
        Ok(Supply::Cached)
    ));
    let mut asked: Vec<_> = asked.try_iter().collect();
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 2], "what was queued is not read for nobody");
}

#[tokio::test]
async fn what_waits_longer_than_the_deadline_in_the_queue_is_given_up() {
    let (fills, ticks, _asked, go) = slow(1);
    let object = absent();
    let running = want(&fills, &object, 0);
    until(|| fills.view().reading == 1).await;
    let queued = want(&fills, &object, 1);
    until(|| fills.view().queued == 1).await;
    ticks.set(DEADLINE);
    fills.watch();
    assert_eq!(fills.view().queued, 1, "not yet");
    ticks.set(DEADLINE + Duration::from_millis(1));
    fills.watch();
    assert!(matches!(end(queued).await, Err(FillError::Busy)));
    go.send(()).unwrap();
    assert!(end(running).await.is_ok());
}

#[tokio::test]
async fn pages_that_do_not_stay_are_read_on_the_disks_thread_after_three_looks() {
    let object = absent();
    let (fills, _) = fills(1, Box::new(|_: &ObjectFile, _: u64, _: u64| Ok(())));
    let supply = end(want(&fills, &object, 1)).await.unwrap();
    let Supply::Bytes(bytes) = supply else {
        panic!("{supply:?}")
    };
    let expected = CHUNK_BYTES..CHUNK_BYTES + bytes.len() as u64;
    assert!(!bytes.is_empty() && bytes.len() as u64 <= COPY_BYTES);
    assert!(expected.map(|n| (n / 7) as u8).eq(bytes));
    let view = fills.view();
    assert_eq!((view.fills, view.retries, view.copies), (3, 3, 1));
}

#[tokio::test]
async fn a_panic_costs_one_chunk_and_stopping_releases_everybody() {
    let (asked, told) = mpsc::sync_channel(64);
    let panics = move |_: &ObjectFile, _: u64, _: u64| {
        asked.send(()).unwrap();
        panic!("on purpose");
    };
    let object = absent();
    let (panicking, _) = fills(1, Box::new(panics));
    for _ in 0..2 {
        let failed = end(want(&panicking, &object, 0)).await;
        assert!(matches!(failed, Err(FillError::NoAnswer)), "{failed:?}");
        told.recv().unwrap();
    }
    panicking.close();
    until(|| panicking.has_ended()).await;
    let (hung, _, _asked, _go) = slow(1);
    let waiter = want(&hung, &object, 0);
    until(|| hung.view().reading == 1).await;
    hung.close();
    assert!(matches!(end(waiter).await, Err(FillError::NoAnswer)));
    assert!(!hung.has_ended(), "it hangs");
}

#[tokio::test]
async fn what_one_reader_has_passed_is_dropped_unless_another_reads_the_object() {
    let object = absent();
    let (fills, ticks) = fills(1, Box::new(bring));
    let there = |chunk: u64| fills.is_ready(&object, chunk * CHUNK_BYTES, 1000);
    for chunk in 0..3 {
        assert!(end(want(&fills, &object, chunk)).await.is_ok());
    }
    let (reader, other) = (fills.reader(&object), fills.reader(&object));
    reader.passed(0, CHUNK_BYTES);
    ticks.set(Duration::from_secs(2));
    fills.watch();
    until(|| !fills.0.behind.is_due(u64::MAX)).await;
    until(|| fills.view().reading == 0).await;
    assert!(there(0), "somebody else read it");
    drop(other);
    reader.passed(CHUNK_BYTES, CHUNK_BYTES);
    fills.watch();
    assert!(there(1), "not at once: its pages may still be in a socket");
    ticks.set(Duration::from_secs(4));
    fills.watch();
    until(|| fills.view().dropped == 1).await;
    assert!(there(0) && !there(1) && there(2));
    reader.passed(2 * CHUNK_BYTES, CHUNK_BYTES);
    drop(reader);
    ticks.set(Duration::from_secs(6));
    fills.watch();
    until(|| fills.view().dropped == 2).await;
    assert!(!there(2), "the last piece of the file goes too");
}

#[tokio::test]
async fn what_another_has_read_since_it_was_passed_stays_although_that_one_has_left() {
    let object = absent();
    let (fills, ticks) = fills(1, Box::new(bring));
    let there = |chunk: u64| fills.is_ready(&object, chunk * CHUNK_BYTES, 1000);
    for chunk in 0..3 {
        assert!(end(want(&fills, &object, chunk)).await.is_ok());
    }
    let reader = fills.reader(&object);
    reader.passed(0, CHUNK_BYTES);
    fills.keep(&object);
    let other = fills.reader(&object);
    reader.passed(CHUNK_BYTES, CHUNK_BYTES);
    drop(other);
    drop(fills.reader(&object));
    reader.passed(2 * CHUNK_BYTES, CHUNK_BYTES);
    drop(reader);
    ticks.set(Duration::from_secs(2));
    fills.watch();
    until(|| fills.view().dropped == 1).await;
    until(|| !fills.0.behind.is_due(u64::MAX)).await;
    assert!(there(0) && there(1) && !there(2));
    assert!(fills.0.behind.is_empty(), "nothing is remembered of it");
}
