//! A wire that breaks: every fault ends in the right digest or in a clear error, never in a wrong
//! key.

use crate::lab::Lab;
use crate::lab::bytes;
use crate::proxy::Fault;
use oca::control::import::ImportError;
use oca::object::Digest;
use oca::origin::S3Origin;
use tokio::net::TcpListener;

const LENGTH: usize = 2_500_000;

const FAULTS: [Fault; 9] = [
    Fault::Reset,
    Fault::Truncated(0),
    Fault::Truncated(1_000_000),
    Fault::Stall(0),
    Fault::Stall(1_000_000),
    Fault::SlowDown,
    Fault::Broken,
    Fault::WrongByte(1_234_567),
    Fault::Short,
];

#[tokio::test]
async fn after_one_fault_the_digest_is_right() {
    let lab = Lab::new().await;
    for (number, fault) in FAULTS.into_iter().enumerate() {
        let bytes = bytes(number as u64, LENGTH);
        let name = format!("film-{number}/a.mp4");
        lab.put_checked(&name, &bytes).await;
        lab.proxy.spoil(&name, fault, 1);
        let summary = lab.import().await.unwrap();
        assert!(lab.proxy.is_done(), "{fault:?} did not happen");
        assert_eq!(summary.refused, [], "{fault:?}");
        assert_eq!(summary.keys_new, 1, "{fault:?}");
        assert_eq!(lab.keys().await[&name], Digest::of(&bytes), "{fault:?}");
        let asked = lab.proxy.asked(&name);
        assert!((2..=3).contains(&asked), "{fault:?}: asked {asked} times");
    }
}

/// Something arrives each time, and the next request goes on there.
fn is_passable(fault: Fault) -> bool {
    matches!(fault, Fault::Truncated(1..) | Fault::Stall(1..))
}

#[tokio::test]
async fn a_wire_that_breaks_every_million_bytes_is_a_slow_wire() {
    let lab = Lab::new().await;
    let bytes = bytes(7, LENGTH);
    let passable = FAULTS.into_iter().filter(|fault| is_passable(*fault));
    for (number, fault) in passable.enumerate() {
        let name = format!("{number}.mp4");
        lab.put_checked(&name, &bytes).await;
        lab.proxy.spoil(&name, fault, 1000);
        let summary = lab.import().await.unwrap();
        assert_eq!(summary.hashed, 1, "{summary:?}");
        assert_eq!(lab.keys().await[&name], Digest::of(&bytes));
        assert_eq!(lab.proxy.asked(&name), 3, "{fault:?}: each part once");
    }
}

#[tokio::test]
async fn a_file_that_never_arrives_is_refused_alone_and_not_bound() {
    let lab = Lab::new().await;
    let faults = FAULTS.into_iter().filter(|fault| !is_passable(*fault));
    let faults: Vec<Fault> = faults.collect();
    for (number, fault) in faults.iter().copied().enumerate() {
        let name = format!("film-{number}/bad.mp4");
        lab.put_checked(&name, &bytes(number as u64, LENGTH)).await;
        lab.put(&format!("film-{number}/good.mp4"), name.as_bytes())
            .await;
        lab.proxy.spoil(&name, fault, 1000);
    }
    let summary = lab.import().await.unwrap();
    assert_eq!(summary.keys_new, faults.len() as u64, "{summary:?}");
    assert_eq!(summary.refused_total, faults.len() as u64, "{summary:?}");
    for (number, fault) in faults.into_iter().enumerate() {
        let name = format!("film-{number}/bad.mp4");
        let refused = summary.refused.iter().find(|r| r.key == name).unwrap();
        let word = match fault {
            Fault::Reset => "connection closed",
            Fault::Truncated(_) => "end of file",
            Fault::Stall(_) => "nothing arrived",
            Fault::SlowDown => "SlowDown",
            Fault::Broken => "500",
            Fault::WrongByte(_) => "Sha256",
            Fault::Short => "changed",
        };
        assert!(refused.why.contains(word), "{fault:?}: {}", refused.why);
        assert!(refused.why.len() < 1000, "{}", refused.why);
    }
    let keys = lab.keys().await;
    assert!(keys.keys().all(|key| key.ends_with("good.mp4")), "{keys:?}");
}

#[tokio::test]
async fn a_broken_page_of_the_listing_is_asked_for_again() {
    let lab = Lab::new().await;
    lab.put("a.mp4", b"x").await;
    for fault in [
        Fault::Reset,
        Fault::Truncated(50),
        Fault::Stall(50),
        Fault::SlowDown,
    ] {
        lab.proxy.asked("");
        lab.proxy.spoil("list-type=2", fault, 1);
        assert_eq!(lab.import().await.unwrap().files, 1, "{fault:?}");
        assert_eq!(lab.proxy.asked("list-type=2"), 2, "{fault:?}");
    }
    lab.proxy.spoil("list-type=2", Fault::Short, 1);
    let error = lab.import().await.unwrap_err();
    assert!(matches!(error, ImportError::Origin(_)), "{error}");
}

#[tokio::test]
async fn an_origin_that_fails_file_after_file_ends_the_import_with_nothing_bound() {
    let lab = Lab::new().await;
    for number in 0..30 {
        let name = format!("film/seg-{number:02}.m4s");
        lab.put(&name, name.as_bytes()).await;
    }
    // The first two arrive; from then on there is nothing but refusals.
    for number in 2..30 {
        let name = format!("seg-{number:02}.m4s");
        lab.proxy.spoil(&name, Fault::SlowDown, 1000);
    }
    let error = lab.import().await.unwrap_err();
    assert!(error.to_string().contains("SlowDown"), "{error}");
    assert!(!error.is_refusal());
    assert_eq!(lab.keys().await.len(), 0);
    let asked: usize = (20..30)
        .map(|number| lab.proxy.asked(&format!("seg-{number}.m4s")))
        .sum();
    assert_eq!(asked, 0, "the last ones are not even asked for");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_with_its_address() {
    let lab = Lab::new().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut config = lab.config();
    config.endpoint = Some(format!("http://{address}"));
    let error = lab.import_from(&S3Origin::new(&config).unwrap()).await;
    let message = error.unwrap_err().to_string();
    assert!(message.contains(&address.to_string()), "{message}");
    for bad in ["127.0.0.1:1", "ftp://x", ""] {
        config.endpoint = Some(bad.into());
        assert!(S3Origin::new(&config).is_err(), "{bad}");
    }
}
