//! Snapshots: what one process writes, another one sees; what did not change is not read again.

use crate::values::furnish;
use crate::values::key;
use crate::values::partner;
use oca::clock;
use oca::control::books::Books;
use oca::control::store::ControlStore as _;
use oca::control::store::SqlStore;
use std::sync::Arc;
use std::time::Duration;

/// More than the look at other processes' changes takes, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_refresh_reads_the_half_that_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqlStore::open(&dir.path().join("control.sqlite"))
        .await
        .unwrap();
    furnish(&store).await;
    let books = Books::open(Arc::new(store)).await.unwrap();
    let (registry, library) = (books.registry(), books.library());
    assert_eq!(registry.appliances.len(), 2);
    books.refresh().await.unwrap();
    assert!(Arc::ptr_eq(&books.registry(), &registry));

    books.store().put_partner(partner("other")).await.unwrap();
    books.refresh().await.unwrap();
    assert_eq!(books.registry().partners.len(), 2);
    assert!(Arc::ptr_eq(&books.library(), &library));

    let registry = books.registry();
    books
        .store()
        .put_keys(vec![key("a/1", "one")])
        .await
        .unwrap();
    books.refresh().await.unwrap();
    assert_eq!(books.library().objects.len(), 1);
    assert!(Arc::ptr_eq(&books.registry(), &registry));
}

#[tokio::test]
async fn what_another_process_writes_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sqlite");
    let other = SqlStore::open(&path).await.unwrap();
    let store = SqlStore::open(&path).await.unwrap();
    let books = Books::open(Arc::new(store)).await.unwrap();
    let mut registry = books.watch_registry();
    let mut library = books.watch_library();
    let following = tokio::spawn(books.run());
    other.put_partner(partner("example")).await.unwrap();
    other.put_keys(vec![key("a/1", "one")]).await.unwrap();
    let seen = registry.wait_for(|registry| registry.partners.contains_key("example"));
    clock::within(PATIENCE, seen).await.unwrap().unwrap();
    let seen = library.wait_for(|library| library.objects.len() == 1);
    clock::within(PATIENCE, seen).await.unwrap().unwrap();
    following.abort();
}
