//! The store on SQLite: the suite, restarts, several processes, files that are none, sizes.

use crate::registry::suite;
use crate::values::appliance;
use crate::values::at;
use crate::values::furnish;
use crate::values::key;
use crate::values::partner;
use oca::clock;
use oca::control::store::ControlStore as _;
use oca::control::store::ImportedKey;
use oca::control::store::SqlStore;
use oca::object::Digest;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

fn database(dir: &Path) -> std::path::PathBuf {
    // A path that a URL would misread.
    dir.join("control ?#%41.sqlite")
}

#[tokio::test]
async fn sqlite_passes_the_suite_and_keeps_everything_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let store = SqlStore::open(&path).await.unwrap();
    suite(&store).await;
    let registry = store.registry().await.unwrap();
    let library = store.library().await.unwrap();
    store.close().await;
    drop(store);

    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let store = SqlStore::open(&path).await.unwrap();
    assert_eq!(store.registry().await.unwrap(), registry);
    let again = store.library().await.unwrap();
    assert_eq!(again.objects, library.objects);
    assert_eq!(again.bundles, library.bundles);
    assert_eq!(store.published().await.unwrap().len(), 1);
    // Numbers go on where they were.
    store.put_keys(vec![key("later/1", "later")]).await.unwrap();
    let later = store.library().await.unwrap();
    let number = later.bundle_numbers["later"] as usize;
    assert_eq!(number, library.bundles.len());
}

#[tokio::test]
async fn a_token_redeemed_by_two_at_once_has_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    // Two processes' worth of stores: SQLite's own lock is between them.
    let stores = [
        Arc::new(SqlStore::open(&path).await.unwrap()),
        Arc::new(SqlStore::open(&path).await.unwrap()),
    ];
    furnish(&*stores[0]).await;
    let (day, ends) = (at("2026-11-21T00:00:00Z"), at("2026-11-24T00:00:00Z"));
    for round in 0..10 {
        let hash = Digest::of(format!("token {round}").as_bytes());
        let one = appliance(1).id;
        stores[0].put_token(one, hash, ends).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for asker in 0..8 {
            let store = stores[asker % 2].clone();
            let key = format!("{round}-{asker}");
            tasks.spawn(async move { (store.redeem(hash, key.clone(), day).await.is_ok(), key) });
        }
        let outcomes = tasks.join_all().await;
        let won: Vec<&String> = outcomes
            .iter()
            .filter(|(ok, _)| *ok)
            .map(|(_, k)| k)
            .collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        let registry = stores[1].registry().await.unwrap();
        let bound = registry.appliances[&appliance(1).id]
            .key_fingerprint
            .clone();
        assert_eq!(bound.as_ref(), won.first().copied());
    }
}

#[tokio::test]
async fn writers_of_two_processes_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        // Opened at once on an empty file: migrations, too, must not trip over each other.
        let path = path.clone();
        tasks.spawn(async move {
            let store = SqlStore::open(&path).await.unwrap();
            for n in 0..25 {
                let name = format!("p-{writer}-{n}");
                store.put_partner(partner(&name)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let store = SqlStore::open(&path).await.unwrap();
    let registry = store.registry().await.unwrap();
    assert_eq!((registry.partners.len(), registry.revision), (100, 101));
}

/// SQLite answers some of them "locked" without waiting: those that change the file's journal at
/// the same moment. Without a second try one run in three fails.
#[tokio::test]
async fn an_empty_file_is_opened_by_many_at_once() {
    for _ in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let path = path.clone();
            tasks.spawn(async move { SqlStore::open(&path).await.map(drop) });
        }
        for outcome in tasks.join_all().await {
            outcome.unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sqlite");
    std::fs::write(
        &path,
        "precious text, longer than a header of sixteen bytes\n",
    )
    .unwrap();
    let error = SqlStore::open(&path).await.unwrap_err().to_string();
    assert!(error.contains("control.sqlite"), "{error}");
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .starts_with("precious")
    );
    let nowhere = dir.path().join("no/control.sqlite");
    assert!(SqlStore::open(&nowhere).await.is_err());
}

/// A bound that a machine under load keeps; the figures are printed.
#[tokio::test]
async fn a_hundred_thousand_keys_come_in_and_out_within_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqlStore::open(&database(dir.path())).await.unwrap();
    let count = std::env::var("OCA_TEST_KEYS").map_or(100_000, |n| n.parse().unwrap());
    let keys: Vec<ImportedKey> = (0..count)
        .map(|n| key(&format!("t{}/hd/{n}.m4s", n / 500), &n.to_string()))
        .collect();
    let started = clock::now();
    assert_eq!(store.put_keys(keys).await.unwrap(), count);
    let written = clock::now();
    let library = store.library().await.unwrap();
    let loaded = clock::now();
    assert_eq!(library.objects.len() as u64, count);
    let (put, load) = (written - started, loaded - written);
    println!("{count} keys: put {put:?}, load {load:?}");
    assert!(put.as_secs() + load.as_secs() < 60, "{put:?} {load:?}");
}
