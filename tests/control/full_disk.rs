//! The store after its database gave up in the middle.

use crate::values::partner;
use oca::control::store::ControlStore as _;
use oca::control::store::SqlStore;
use sqlx::Connection as _;
use sqlx::Executor as _;

#[tokio::test]
async fn a_transaction_that_the_database_gave_up_by_itself_does_not_stop_the_next_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.sqlite");
    let store = SqlStore::open(&path).await.unwrap();
    let url = format!("sqlite://{}", path.display());
    let mut other = sqlx::AnyConnection::connect(&url).await.unwrap();
    // What SQLite does by itself when the disk is full.
    let full = "CREATE TRIGGER full BEFORE INSERT ON partner \
                BEGIN SELECT RAISE(ROLLBACK, 'the disk is full'); END";
    other.execute(full).await.unwrap();
    for _ in 0..2 {
        let error = store.put_partner(partner("example")).await.unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }
    other.execute("DROP TRIGGER full").await.unwrap();
    store.put_partner(partner("example")).await.unwrap();
    let registry = store.registry().await.unwrap();
    assert!(registry.partners.contains_key("example"));
}
