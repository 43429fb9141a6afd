//! The import from a bucket: what is read, how often, and what is refused.

use crate::lab::Lab;
use crate::lab::bytes;
use crate::proxy::Proxy;
use crate::weed;
use futures_util::StreamExt as _;
use oca::control::ImportConfig;
use oca::control::import;
use oca::control::import::Source;
use oca::control::store::ControlStore as _;
use oca::demo::Authority;
use oca::object::Digest;
use oca::origin::Entry;
use oca::origin::Listed;
use oca::origin::Origin as _;
use oca::origin::OriginError;
use oca::origin::S3Origin;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

async fn entry(origin: &S3Origin, name: &str) -> Entry {
    let mut listing = origin.list();
    while let Some(listed) = listing.next().await {
        match listed.unwrap() {
            Listed::File(entry) if entry.name == name => return entry,
            Listed::File(_) | Listed::Refused { .. } | Listed::Skipped => {}
        }
    }
    panic!("{name} is not listed");
}

async fn read(origin: &S3Origin, entry: &Entry) -> Result<Vec<u8>, OriginError> {
    let mut bytes = Vec::new();
    let mut reading = origin.read(entry);
    while let Some(piece) = reading.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// Five objects that are content below `films/`, and everything that is not. Tells the digest of
/// each key.
async fn furnish(lab: &Lab) -> BTreeMap<String, Digest> {
    let mut expected = BTreeMap::new();
    for (seed, name, length) in [
        (1, "a/v1/init.mp4", 700),
        (2, "a/v1/seg-1.m4s", 3_000_000),
        (3, "a/v1/seg-2.m4s", 262_144),
        (4, "b/main.m3u8", 300),
    ] {
        let bytes = bytes(seed, length);
        lab.put(&format!("films/{name}"), &bytes).await;
        expected.insert(name.to_owned(), Digest::of(&bytes));
    }
    // Told beside it: never read itself. The word is what counts.
    let told = Digest::of(b"somebody else has hashed it");
    lab.put("films/b/told.mp4", &bytes(5, 1000)).await;
    lab.put(
        "films/b/told.mp4.b3",
        format!("{told}  told.mp4\n").as_bytes(),
    )
    .await;
    expected.insert("b/told.mp4".into(), told);
    lab.put("films/b/bad.mp4", b"x").await;
    lab.put("films/b/bad.mp4.b3", b"no digest").await;
    lab.put("films/page.html", b"<script>").await;
    lab.put("films/b/a b.mp4", b"x").await;
    lab.put("films/.hidden", b"x").await;
    lab.put("films2/other.mp4", b"x").await;
    expected
}

#[tokio::test]
async fn each_object_is_read_once_and_the_second_import_reads_none() {
    let lab = Lab::new().await;
    let expected = furnish(&lab).await;
    lab.proxy.asked("");

    let source = Source::parse(&format!("s3://{}/films/", lab.bucket)).unwrap();
    let config = ImportConfig {
        endpoint: Some(lab.endpoint()),
        region: "us-east-1".into(),
        credentials_file: Some(lab.credentials()),
    };
    let stop = AtomicBool::new(false);
    let mut last = import::Progress::default();
    let mut progress = |at| last = at;
    let first = import::run(&source, &lab.store, &config, &mut progress, &stop).await;
    let first = first.unwrap();
    assert_eq!((first.files, first.keys_new), (6, 5), "{first:?}");
    assert_eq!((first.hashed, first.trusted, first.cached), (4, 1, 0));
    assert_eq!((last.files, last.files_done), (6, 6), "{last:?}");
    assert_eq!(last.bytes_done, first.bytes - 1, "but for the refused one");
    let refused: Vec<&str> = first.refused.iter().map(|r| r.key.as_str()).collect();
    assert_eq!(refused, ["b/a b.mp4", "page.html", "b/bad.mp4"]);
    assert!(first.refused[2].why.contains("`b3sum`"), "{first:?}");
    assert_eq!(lab.keys().await, expected);
    assert_eq!(lab.proxy.asked("list-type=2"), 1);
    for name in ["init.mp4", "seg-1.m4s", "seg-2.m4s", "main.m3u8"] {
        assert_eq!(lab.proxy.asked(name), 1, "{name}");
    }
    assert_eq!(lab.proxy.asked("told.mp4"), 1, "its word alone");
    assert_eq!(lab.proxy.asked("bad.mp4"), 1);
    assert_eq!(lab.proxy.asked(""), 0, "nothing else");
    let library = lab.store.library().await.unwrap();
    let bundles: Vec<&str> = library
        .bundles
        .iter()
        .flatten()
        .map(|b| b.title.as_str())
        .collect();
    assert_eq!(bundles, ["a", "b"]);

    let second = import::run(&source, &lab.store, &config, &mut |_| {}, &stop).await;
    let second = second.unwrap();
    assert_eq!((second.cached, second.hashed, second.trusted), (5, 0, 0));
    assert_eq!(second.keys_new, 0);
    assert_eq!(lab.proxy.asked("list-type=2"), 1);
    assert_eq!(
        lab.proxy.asked(""),
        1,
        "the word that was not believed, again"
    );
    let connections = lab.proxy.connections();
    assert!(connections < 40, "{connections} for some 30 requests");
}

#[tokio::test]
async fn an_object_that_changed_under_its_key_is_refused_with_the_whole_import() {
    let lab = Lab::new().await;
    lab.put("a/v1/seg.m4s", b"first cut").await;
    lab.import().await.unwrap();
    let before = lab.store.library().await.unwrap();
    lab.put("a/v1/seg.m4s", b"second cut").await;
    lab.put("a/v1/more.m4s", b"more").await;
    let error = lab.import().await.unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("a/v1/seg.m4s"), "{message}");
    assert!(message.contains("path"), "{message}");
    let after = lab.store.library().await.unwrap();
    assert_eq!(after.revision, before.revision);
    assert_eq!(lab.keys().await.len(), 1);
    // A new path for it is the remedy.
    lab.put("a/v2/seg.m4s", b"second cut").await;
    lab.put("a/v1/seg.m4s", b"first cut").await;
    assert_eq!(lab.import().await.unwrap().keys_new, 2);
}

#[tokio::test]
async fn an_object_that_changes_between_listing_and_reading_is_noticed() {
    let lab = Lab::new().await;
    let origin = lab.origin();
    lab.put("a.mp4", b"first cut").await;
    let listed = entry(&origin, "a.mp4").await;
    assert_eq!(read(&origin, &listed).await.unwrap(), b"first cut");
    lab.put("a.mp4", b"other cut").await;
    let error = read(&origin, &listed).await.unwrap_err();
    assert!(matches!(error, OriginError::Changed { .. }), "{error}");
    let present = origin.look("a.mp4").await.unwrap();
    assert_eq!(read(&origin, &present).await.unwrap(), b"other cut");
    assert_eq!(present, entry(&origin, "a.mp4").await);
    let error = origin.look("absent.mp4").await.unwrap_err();
    assert!(matches!(error, OriginError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_private_bucket_without_credentials_says_where_to_name_them() {
    let lab = Lab::new().await;
    lab.put("a.mp4", b"x").await;
    let anonymous = |credentials_file| {
        let mut config = lab.config();
        config.credentials_file = credentials_file;
        S3Origin::new(&config)
    };
    let error = lab.import_from(&anonymous(None).unwrap()).await;
    let message = error.unwrap_err().to_string();
    assert!(message.contains("credentials_file"), "{message}");
    assert!(message.contains(&lab.bucket), "{message}");
    let path = lab.dir.path().join("other");
    std::fs::write(&path, "testkey\nwrongsecret\n").unwrap();
    let error = lab
        .import_from(&anonymous(Some(path.clone())).unwrap())
        .await;
    let message = error.unwrap_err().to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(!message.contains("wrongsecret"), "{message}");
    for bad in ["", "one line\n", "a\n\nb\n", "a\nsecret\nmore\n"] {
        std::fs::write(&path, bad).unwrap();
        let message = anonymous(Some(path.clone())).unwrap_err().to_string();
        assert!(message.contains("two lines"), "{message}");
        assert!(!message.contains("secret\n"), "{message}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(anonymous(Some(path)).is_err());
    assert_eq!(lab.keys().await.len(), 0);
    assert!(!format!("{:?}", lab.origin()).contains(weed::SECRET_KEY));
}

#[tokio::test]
async fn an_open_bucket_needs_no_credentials_and_an_absent_one_is_named() {
    let lab = Lab::of("open".into()).await;
    lab.put("a.mp4", b"open to all").await;
    let mut config = lab.config();
    config.credentials_file = None;
    let origin = S3Origin::new(&config).unwrap();
    assert_eq!(lab.import_from(&origin).await.unwrap().keys_new, 1);
    config.bucket = "absent".into();
    config.credentials_file = Some(lab.credentials());
    let error = lab.import_from(&S3Origin::new(&config).unwrap()).await;
    let message = error.unwrap_err().to_string();
    assert!(message.contains("s3://absent"), "{message}");
}

#[tokio::test]
async fn a_bucket_of_several_pages_is_listed_whole() {
    let lab = Lab::new().await;
    let puts = (0..1100).map(|number| {
        let lab = &lab;
        async move {
            let name = format!("a/v1/seg-{number:04}.m4s");
            lab.put(&name, name.as_bytes()).await;
        }
    });
    let puts = futures_util::stream::iter(puts).buffer_unordered(16);
    puts.collect::<Vec<()>>().await;
    lab.proxy.asked("");
    let summary = lab.import().await.unwrap();
    assert_eq!((summary.files, summary.keys_new), (1100, 1100));
    assert_eq!(lab.proxy.asked("list-type=2"), 2);
    assert_eq!(lab.proxy.asked("seg-"), 1100);
}

#[tokio::test]
async fn https_is_checked_against_the_certificate_authority() {
    let lab = Lab::new().await;
    lab.put("a.mp4", b"over TLS").await;
    let authority = Authority::make(lab.dir.path()).unwrap();
    let tls = oca::tls::Config {
        certificates: vec![oca::tls::CertificateConfig {
            chain: authority.chain.clone(),
            key: authority.key.clone(),
        }],
    };
    let tickets = oca::tls::Tickets::new().unwrap();
    let now = oca::clock::wall();
    let material = oca::tls::load(&tls, &tickets, now, oca::tls::Outside::Refused).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&material.config));
    let proxy = Proxy::start_with(weed::weed().s3_port, Some(acceptor)).await;
    let mut config = lab.config();
    config.endpoint = Some(format!("https://localhost:{}", proxy.port));
    config.ca = Some(authority.ca.clone());
    let origin = S3Origin::new(&config).unwrap();
    assert_eq!(lab.import_from(&origin).await.unwrap().keys_new, 1);
    // Somebody else's authority.
    let other = Lab::new().await;
    let stranger = Authority::make(other.dir.path()).unwrap();
    config.ca = Some(stranger.ca.clone());
    config.limits.retries = 0;
    let error = lab.import_from(&S3Origin::new(&config).unwrap()).await;
    let message = error.unwrap_err().to_string();
    assert!(message.contains("certificate"), "{message}");
    config.ca = Some(authority.key);
    assert!(S3Origin::new(&config).is_err(), "a key is no bundle");
}
