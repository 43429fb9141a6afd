//! Bodies within limits, and what bombs and noise come to.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;

const SMALL: Limits = Limits {
    compressed: 4 << 20,
    decompressed: 8 << 20,
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    words: Vec<String>,
}

/// One zstd frame of `total` times the same byte, in run-length blocks of 128 KiB: four bytes each
/// (RFC 8878 sections 3.1.1.1 and 3.1.1.2).
fn bomb(byte: u8, total: u64, window: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, window];
    let block = 128 * 1024;
    let mut left = total;
    while left > 0 {
        let size = left.min(block);
        left -= size;
        let header = u32::try_from(size).unwrap() << 3 | 1 << 1 | u32::from(left == 0);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(byte);
    }
    frame
}

/// Window of 1 MiB.
const WINDOW: u8 = 10 << 3;

#[test]
fn what_is_encoded_is_decoded_small_and_large_plain_and_compressed() {
    for length in [0, 1, 1000, 400_000] {
        let said = Said {
            words: (0..length).map(|at| at.to_string()).collect(),
        };
        let compressed = encode(&said).unwrap();
        assert_eq!(
            decode::<Said>(&compressed, Encoding::Zstd, SMALL),
            Ok(Said {
                words: said.words.clone()
            })
        );
        let plain = serde_json::to_vec(&said).unwrap();
        assert_eq!(decode(&plain, Encoding::Plain, SMALL), Ok(said));
    }
}

#[test]
fn text_beyond_the_limit_is_refused_with_the_limit_and_at_it_is_not() {
    let spaces = |count: usize| format!("{{\"words\":[]{}}}", " ".repeat(count - 12));
    for (count, fits) in [(5_000_000, true), (5_000_001, false), (12, true)] {
        let limits = Limits {
            compressed: 8 << 20,
            decompressed: 5_000_000,
        };
        let plain = spaces(count);
        let compressed = zstd::encode_all(plain.as_bytes(), 1).unwrap();
        for (bytes, encoding) in [
            (plain.as_bytes(), Encoding::Plain),
            (&compressed, Encoding::Zstd),
        ] {
            let result = decode::<Said>(bytes, encoding, limits);
            assert_eq!(result.is_ok(), fits, "{count} {encoding:?} {result:?}");
            if let Err(error) = result {
                assert_eq!(error.code(), Code::TooLarge);
                assert!(error.to_string().contains("5000000"), "{error}");
            }
        }
    }
    let limits = Limits {
        compressed: 11,
        ..SMALL
    };
    let error = decode::<Said>(b"{\"words\":[]}", Encoding::Plain, limits).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
}

#[test]
fn ten_gigabytes_of_blanks_end_at_a_small_limit() {
    let bomb = bomb(b' ', 10 << 30, WINDOW);
    assert!(bomb.len() < 400_000, "{}", bomb.len());
    let error = decode::<Said>(&bomb, Encoding::Zstd, SMALL).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    // A bomb that a parser would skip as an unknown field, and one that it would keep.
    for head in ["{\"unknown\":\"", "{\"words\":[\""] {
        let mut nested = zstd::encode_all(head.as_bytes(), 1).unwrap();
        nested.extend_from_slice(&bomb);
        let error = decode::<Said>(&nested, Encoding::Zstd, SMALL).unwrap_err();
        assert_eq!(error.code(), Code::TooLarge, "{error}");
    }
}

#[test]
fn a_large_window_is_refused_before_it_is_allocated() {
    // 128 MiB, where 8 MiB are allowed.
    let error = decode::<Said>(&bomb(b' ', 100, 17 << 3), Encoding::Zstd, SMALL).unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);
    assert!(error.to_string().contains("zstd"), "{error}");
}

#[test]
fn errors_say_at_which_byte() {
    let said = |text: &str| decode::<Said>(text.as_bytes(), Encoding::Plain, SMALL);
    let error = said("{\"words\":[1]}").unwrap_err().to_string();
    assert!(error.contains("column 11"), "{error}");
    let error = said("{}").unwrap_err().to_string();
    assert!(error.contains("`words`"), "{error}");
    assert!(said("{\"words\":[]}x").is_err(), "something behind the end");

    let good = encode(&Said { words: vec![] }).unwrap();
    let cut = decode::<Said>(&good[..good.len() - 1], Encoding::Zstd, SMALL).unwrap_err();
    assert!(cut.to_string().contains("byte"), "{cut}");
    let mut two = good.clone();
    two.extend_from_slice(b"noise");
    let noise = decode::<Said>(&two, Encoding::Zstd, SMALL).unwrap_err();
    assert_eq!(noise.code(), Code::BadRequest);
    let deep = "[".repeat(100_000);
    assert!(said(&deep).is_err(), "depth is bounded");
}

#[test]
fn encodings_are_known_by_name() {
    assert_eq!(Encoding::of(None), Ok(Encoding::Plain));
    assert_eq!(Encoding::of(Some(b" ZSTD ")), Ok(Encoding::Zstd));
    assert_eq!(Encoding::of(Some(b"identity")), Ok(Encoding::Plain));
    let error = Encoding::of(Some(b"br\x1b")).unwrap_err();
    assert!(error.to_string().contains("br\\x1b"), "{error}");
}

#[tokio::test]
async fn a_body_is_collected_up_to_the_limit_whatever_it_claims() {
    let full = |size: usize| http_body_util::Full::new(Bytes::from(vec![b'x'; size]));
    assert_eq!(collect(full(10), 10, None).await.unwrap().len(), 10);
    let error = collect(full(11), 10, None).await.unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    // Nothing is known of the length of a chunked one.
    let frames = futures_util::stream::iter((0..100).map(|_| {
        let frame = hyper::body::Frame::data(Bytes::from_static(b"0123456789"));
        Ok::<_, std::convert::Infallible>(frame)
    }));
    let error = collect(http_body_util::StreamBody::new(frames), 500, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    assert!(error.to_string().contains("byte 500"), "{error}");
}

/// Lets a piece pass for each permit.
#[derive(Debug)]
struct Till {
    permits: tokio::sync::Semaphore,
    taken: std::sync::Mutex<Vec<u64>>,
}

impl Pay for Till {
    fn pay(&self, bytes: u64) -> BoxFuture<'_, ()> {
        self.taken.lock().unwrap().push(bytes);
        Box::pin(async { self.permits.acquire().await.unwrap().forget() })
    }

    fn expect(&self, _bytes: u64) {
        unreachable!("whoever calls `collect` says what comes ahead");
    }

    fn expect_no_more(&self, _bytes: u64) {
        unreachable!("as above");
    }
}

#[tokio::test]
async fn nothing_is_read_on_before_what_came_is_paid_for() {
    let till = Till {
        permits: tokio::sync::Semaphore::new(0),
        taken: std::sync::Mutex::default(),
    };
    let given = std::sync::atomic::AtomicUsize::new(0);
    // Short ones are paid for together, and the rest at the end.
    let frames = futures_util::stream::iter([20_000, 16_000, 1_000, 9].map(|size| {
        let bytes = Bytes::from(vec![b'x'; size]);
        Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(bytes))
    }));
    let frames = futures_util::StreamExt::inspect(frames, |_| {
        given.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let body = http_body_util::StreamBody::new(frames);
    let mut collecting = Box::pin(collect(body, 40_000, Some(&till)));
    for frames in [1, 3, 4] {
        assert!(futures_util::poll!(&mut collecting).is_pending());
        assert_eq!(given.load(std::sync::atomic::Ordering::Relaxed), frames);
        till.permits.add_permits(1);
    }
    assert_eq!(collecting.await.unwrap(), vec![b'x'; 37_009]);
    assert_eq!(*till.taken.lock().unwrap(), [20_000, 17_000, 9]);
}

/// A body whose pieces come so many seconds apart.
fn slow(apart: u64, pieces: usize) -> impl Body<Data = Bytes, Error = std::convert::Infallible> {
    let frames = futures_util::stream::repeat(Bytes::from_static(b"x"));
    let frames = futures_util::StreamExt::take(frames, pieces);
    let frames = futures_util::StreamExt::then(frames, move |data| async move {
        clock::sleep(Duration::from_secs(apart)).await;
        Ok(hyper::body::Frame::data(data))
    });
    http_body_util::StreamBody::new(frames)
}

#[tokio::test(start_paused = true)]
async fn a_body_may_take_long_but_not_be_silent() {
    assert_eq!(collect(slow(119, 60), 60, None).await.unwrap().len(), 60);
    let began = clock::now();
    let error = collect(slow(121, 60), 60, None).await.unwrap_err();
    assert!(
        error.to_string().contains("nothing came for 120s"),
        "{error}"
    );
    assert_eq!(began.elapsed(), SILENCE_TIME_MAX);
}

/// Whoever sends is not to blame for what we wait for.
#[tokio::test(start_paused = true)]
async fn the_time_that_paying_takes_is_not_silence() {
    #[derive(Debug)]
    struct Slowly;
    impl Pay for Slowly {
        fn pay(&self, _bytes: u64) -> BoxFuture<'_, ()> {
            Box::pin(clock::sleep(SILENCE_TIME_MAX * 2))
        }
        fn expect(&self, _bytes: u64) {}
        fn expect_no_more(&self, _bytes: u64) {}
    }
    let collected = collect(slow(1, 10), 10, Some(&Slowly)).await;
    assert_eq!(collected.unwrap().len(), 10);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), zstd: bool) {
        let encoding = if zstd { Encoding::Zstd } else { Encoding::Plain };
        let _ = decode::<Said>(&bytes, encoding, SMALL);
    }

    #[test]
    fn no_flipped_byte_panics(at in 0_usize..60, value: u8) {
        let said = Said { words: vec!["a".repeat(30), "b".to_owned()] };
        let mut bytes = encode(&said).unwrap();
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = decode::<Said>(&bytes, Encoding::Zstd, SMALL);
    }
}
