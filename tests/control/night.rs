//! What the store keeps of the night: policies, windows, titles, leaves to delete, chunk trees and
//! where the origin has them; and a database of the first version that is brought up to date.

use crate::values::appliance;
use crate::values::at;
use crate::values::cluster;
use crate::values::id;
use crate::values::missing;
use crate::values::refusal;
use crate::values::site;
use oca::control::model::Escalation;
use oca::control::model::FILL_CLUSTER;
use oca::control::model::FillCluster;
use oca::control::model::Grant;
use oca::control::model::SiteFill;
use oca::control::model::TitleState;
use oca::control::store::CachedDigest;
use oca::control::store::ControlStore;
use oca::control::store::ImportedKey;
use oca::control::store::SIDECAR_MARK;
use oca::control::store::SqlStore;
use oca::key::Key;
use oca::object::CHUNK_BYTES;
use oca::object::ChunkTree;
use oca::object::Digest;
use oca::object::TreeBuilder;
use sqlx::Connection as _;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// The part of the suite that every engine has to pass after the rest of it.
pub(crate) async fn suite(store: &dyn ControlStore) {
    policies(store).await;
    windows(store).await;
    titles(store).await;
    grants(store).await;
    trees(store).await;
    locations(store).await;
}

async fn policies(store: &dyn ControlStore) {
    let registry = store.registry().await.unwrap();
    let default = FillCluster::named(FILL_CLUSTER);
    assert_eq!(registry.fill_clusters[FILL_CLUSTER], default);

    let mut north = FillCluster::named("north");
    north.masters = 2;
    north.live_share = 100;
    north.escalation = Escalation {
        hops_allowed: 3,
        hops_wait: Duration::from_millis(1500),
        network_wait: None,
        origin_wait: Some(24 * HOUR),
    };
    let before = store.revision().await.unwrap();
    store.put_fill_cluster(north.clone()).await.unwrap();
    let after = store.revision().await.unwrap();
    assert!(after.registry > before.registry && after.library == before.library);
    let registry = store.registry().await.unwrap();
    assert_eq!(registry.fill_clusters["north"], north);

    type Spoil = fn(&mut FillCluster);
    let spoilt: [(Spoil, &str); 9] = [
        (|one| one.masters = 0, "masters"),
        (|one| one.masters = 65, "masters"),
        (|one| one.live_share = 0, "percent"),
        (|one| one.live_share = 101, "percent"),
        (|one| one.escalation.hops_allowed = 65, "at most 64"),
        (|one| one.escalation.origin_wait = Some(25 * HOUR), "24h"),
        (|one| one.escalation.hops_wait = 25 * HOUR, "24h"),
        (
            |one| one.escalation.origin_wait = Some(Duration::from_secs(1)),
            "at least as long",
        ),
        (
            |one| one.escalation.network_wait = Some(Duration::from_secs(1)),
            "at least as long",
        ),
    ];
    for (spoil, word) in spoilt {
        let mut bad = north.clone();
        spoil(&mut bad);
        let message = refusal(store.put_fill_cluster(bad).await);
        assert!(message.contains(word), "{message}");
    }
    refusal(store.put_fill_cluster(FillCluster::named("No")).await);
    let mut patient = FillCluster::named("patient");
    patient.escalation.network_wait = None;
    patient.escalation.origin_wait = None;
    store.put_fill_cluster(patient).await.unwrap();

    let mut south = cluster("south");
    south.fill_cluster = "nowhere".to_owned();
    let what = missing(store.put_cluster(south.clone()).await);
    assert_eq!(what, "policy `nowhere`");
    south.fill_cluster = "north".to_owned();
    store.put_cluster(south.clone()).await.unwrap();
    assert_eq!(store.registry().await.unwrap().clusters["south"], south);
    let remove = |name: &str| store.remove_fill_cluster(name.to_owned());
    let message = refusal(remove("north").await);
    assert!(message.contains("cluster `south`"), "{message}");
    store.put_cluster(cluster("south")).await.unwrap();
    remove("north").await.unwrap();
    missing(remove("north").await);
    let message = refusal(remove(FILL_CLUSTER).await);
    assert!(message.contains("policy set"), "{message}");
}

async fn windows(store: &dyn ControlStore) {
    let mut here = site("TLS001.example.ISP", "example");
    here.fill = SiteFill {
        start_s: 4 * 3600,
        length: 6 * HOUR,
        rate_limit_bps: Some(400_000_000),
    };
    store.put_site(here.clone()).await.unwrap();
    let registry = store.registry().await.unwrap();
    assert_eq!(registry.sites["tls001-example-isp"], here);
    for (fill, word) in [
        ((4 * 3600 + 1, 6 * HOUR, None), "between 00:00 and 04:00"),
        ((0, 13 * HOUR, None), "at most 12 h"),
        ((0, Duration::ZERO, None), "at least 1 s"),
        ((0, HOUR, Some(999)), "at least `1 Mbit/s`"),
        ((0, HOUR, Some(u64::MAX)), "at least `1 Mbit/s`"),
    ] {
        let mut bad = here.clone();
        (bad.fill.start_s, bad.fill.length, bad.fill.rate_limit_bps) = fill;
        let message = refusal(store.put_site(bad).await);
        assert!(message.contains(word), "{message}");
    }
    let mut one = appliance(1);
    one.peer_port = 7444;
    store.put_appliance(one.clone()).await.unwrap();
    let registry = store.registry().await.unwrap();
    assert_eq!(registry.appliances[&one.id].peer_port, 7444);
    for port in [0, one.https_port] {
        one.peer_port = port;
        refusal(store.put_appliance(one.clone()).await);
    }
}

async fn titles(store: &dyn ControlStore) {
    let set = |name: &str, state| store.set_title(name.to_owned(), state);
    let withdrawn = TitleState {
        withdrawn: true,
        urgent_until: Some(at("2026-11-22T02:00:00Z")),
    };
    for nobody in ["nobody", "fil", "film/hd", "film/"] {
        missing(set(nobody, withdrawn).await);
    }
    let before = store.revision().await.unwrap();
    set("film", withdrawn).await.unwrap();
    let after = store.revision().await.unwrap();
    assert!(after.library > before.library && after.registry == before.registry);
    let library = store.library().await.unwrap();
    assert_eq!(library.titles["film"], withdrawn);
    assert!(library.is_withdrawn(library.bundle_of("film/hd/1.m4s").unwrap()));
    set("film", TitleState::default()).await.unwrap();
    assert!(store.library().await.unwrap().titles.is_empty());
}

async fn grants(store: &dyn ControlStore) {
    let grant = |hour: &str, bytes| {
        let issued = at(&format!("2026-11-22T{hour}:00:00Z"));
        Grant {
            bytes,
            issued,
            expires: issued + HOUR,
        }
    };
    let (one, two) = (appliance(1).id, appliance(2).id);
    store.put_grant(one.clone(), grant("01", 5)).await.unwrap();
    store.put_grant(one.clone(), grant("02", 7)).await.unwrap();
    let held = store.registry().await.unwrap().grants;
    assert_eq!(held, BTreeMap::from([(one.clone(), grant("02", 7))]));
    // Ended ones vanish when somebody grants.
    store.put_grant(two.clone(), grant("05", 9)).await.unwrap();
    let held = store.registry().await.unwrap().grants;
    assert_eq!(held, BTreeMap::from([(two, grant("05", 9))]));
    let nobody = id("c099-tls001-example-isp");
    missing(store.put_grant(nobody, grant("05", 9)).await);
    refusal(store.put_grant(one.clone(), grant("05", 0)).await);
    let mut endless = grant("05", 9);
    endless.expires = at("2027-11-22T05:00:00Z");
    refusal(store.put_grant(one.clone(), endless).await);
    endless.expires = endless.issued;
    refusal(store.put_grant(one, endless).await);
}

/// Of `chunks` chunks and a bit, all of one letter.
fn tree(letter: u8, chunks: usize) -> ChunkTree {
    let mut builder = TreeBuilder::new();
    let chunk = vec![letter; usize::try_from(CHUNK_BYTES).unwrap()];
    for _ in 0..chunks {
        builder.update(&chunk);
    }
    builder.update(&[letter]);
    builder.finish()
}

fn imported(path: &str, tree: &ChunkTree) -> ImportedKey {
    ImportedKey {
        key: Key::parse(path.as_bytes()).unwrap(),
        digest: tree.digest(),
        length: tree.length(),
        last_modified: 1_790_000_000,
        tree: Some(tree.chunks().to_vec()),
    }
}

async fn trees(store: &dyn ControlStore) {
    let (big, small, other) = (tree(1, 3), tree(2, 0), tree(3, 1));
    let digests = vec![big.digest(), small.digest(), other.digest()];
    let before = store.revision().await.unwrap();
    // An import learns trees before its keys are bound; nobody has to load a library for them.
    store
        .put_trees(vec![big.clone(), small.clone()])
        .await
        .unwrap();
    store.put_trees(vec![big.clone()]).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), before);
    let kept = store.trees(digests.clone()).await.unwrap();
    let expected = BTreeMap::from([(big.digest(), big.chunks().to_vec())]);
    assert_eq!(kept, expected, "an object of one chunk needs none");

    let keys = vec![
        imported("trees/v1/3", &other),
        imported("trees/v1/2", &small),
    ];
    assert_eq!(store.put_keys(keys.clone()).await.unwrap(), 2);
    let known = store.known_trees(digests.clone()).await.unwrap();
    assert_eq!(known, BTreeSet::from([big.digest(), other.digest()]));
    // A tree that comes with keys that are known is kept all the same.
    let mut bare = imported("trees/v1/4", &tree(4, 1));
    let chunks = bare.tree.take();
    assert_eq!(store.put_keys(vec![bare.clone()]).await.unwrap(), 1);
    assert!(store.trees(vec![bare.digest]).await.unwrap().is_empty());
    bare.tree = chunks;
    assert_eq!(store.put_keys(vec![bare.clone()]).await.unwrap(), 0);
    assert_eq!(store.trees(vec![bare.digest]).await.unwrap().len(), 1);

    let mut liar = imported("trees/v1/5", &tree(5, 1));
    liar.tree = Some(other.chunks().to_vec());
    let message = refusal(store.put_keys(vec![liar]).await);
    assert!(message.contains("chunk tree"), "{message}");
    let library = store.library().await.unwrap();
    assert!(!library.object_numbers.contains_key(&tree(5, 1).digest()));
}

async fn locations(store: &dyn ControlStore) {
    let (film, song) = (Digest::of(b"film"), Digest::of(b"song"));
    let file = |digest, tag: &str| CachedDigest {
        size: 4,
        tag: tag.to_owned(),
        digest,
    };
    let put = |source: &str, path: &str, cached| {
        let digests = BTreeMap::from([(path.to_owned(), cached)]);
        store.put_cached_digests(source.to_owned(), digests)
    };
    let bucket = "s3://bucket/films";
    put(bucket, "z", file(film, "\"1\"")).await.unwrap();
    put("file:///srv", "a", file(film, "\"2\"")).await.unwrap();
    let marked = format!("\"3\"{SIDECAR_MARK}\"x\"");
    put(bucket, "song", file(song, &marked)).await.unwrap();
    let asked = vec![film, song, Digest::of(b"nobody's")];
    let found = store.locations(asked.clone()).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[&film].source.as_str(), found[&film].path.as_str()),
        ("file:///srv", "a")
    );
    assert_eq!(found[&song].tag, "\"3\"", "the file's own");
    // Read again, the older one is the newest; with other bytes, it is none at all.
    put(bucket, "z", file(film, "\"4\"")).await.unwrap();
    let found = store.locations(asked.clone()).await.unwrap();
    assert_eq!(
        (found[&film].source.as_str(), found[&film].size),
        (bucket, 4)
    );
    put(bucket, "z", file(song, "\"5\"")).await.unwrap();
    let found = store.locations(asked).await.unwrap();
    assert_eq!(found[&film].source, "file:///srv");
    assert_eq!(found[&song].path, "z");
}

/// The first migration alone, in a directory of its own.
async fn first_version(path: &Path, dir: &Path) -> sqlx::AnyConnection {
    let migrations = dir.join("migrations");
    std::fs::create_dir(&migrations).unwrap();
    let name = "0001_first.sql";
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/store/migrations/");
    std::fs::copy(format!("{ours}{name}"), migrations.join(name)).unwrap();
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
    let migrator = sqlx::migrate::Migrator::new(migrations.as_path()).await;
    migrator.unwrap().run(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_database_of_the_first_version_keeps_everything_and_gets_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sqlite");
    let mut connection = first_version(&path, dir.path()).await;
    let digest = Digest::of(b"one").to_string();
    for statement in [
        "INSERT INTO partner VALUES ('example', 'example of example.net')".to_owned(),
        "INSERT INTO site VALUES ('tls001-example-isp', 'TLS001.example.ISP', 'example', 43.629, \
         1.3638, 'Europe/Paris', 0)"
            .to_owned(),
        "INSERT INTO cluster VALUES ('south')".to_owned(),
        "INSERT INTO appliance VALUES ('c001-tls001-example-isp', 'tls001-example-isp', 'south', \
         'flash', '192.0.2.1', NULL, 443, 1099511627776, 0, NULL, 0, NULL, NULL)"
            .to_owned(),
        format!("INSERT INTO object VALUES (0, X'{digest}', 3)"),
        "INSERT INTO bundle VALUES (0, 'film/hd', 2.5)".to_owned(),
        "INSERT INTO content VALUES (0, '1.m4s', 0, 1790000000)".to_owned(),
        format!(
            "INSERT INTO source_file VALUES ('file:///srv', 'film/hd/1.m4s', 3, 'tag', \
             X'{digest}')"
        ),
        format!("INSERT INTO published VALUES ('c001-tls001-example-isp', 7, 3, X'{digest}')"),
        "UPDATE counter SET value = 1 WHERE name IN ('object', 'bundle')".to_owned(),
    ] {
        let run = sqlx::query(sqlx::AssertSqlSafe(statement.clone()));
        let run = run.execute(&mut connection).await;
        assert!(run.is_ok(), "{statement}: {run:?}");
    }
    connection.close().await.unwrap();

    // Twice: what was brought up to date stays so.
    for _ in 0..2 {
        let store = SqlStore::open(&path).await.unwrap();
        let registry = store.registry().await.unwrap();
        let held = site("TLS001.example.ISP", "example");
        assert_eq!(registry.sites["tls001-example-isp"], held);
        assert_eq!(registry.clusters["south"], cluster("south"));
        assert_eq!(registry.appliances[&appliance(1).id], appliance(1));
        let default = FillCluster::named(FILL_CLUSTER);
        assert_eq!(registry.fill_clusters[FILL_CLUSTER], default);
        let library = store.library().await.unwrap();
        let bundle = library.bundle_of("film/hd/1.m4s").unwrap();
        assert_eq!((bundle.keys.len(), bundle.bytes), (1, 3));
        let found = store.locations(vec![Digest::of(b"one")]).await.unwrap();
        assert_eq!(found[&Digest::of(b"one")].path, "film/hd/1.m4s");
        assert_eq!(store.published().await.unwrap().len(), 1);
        store.close().await;
    }
    let store = SqlStore::open(&path).await.unwrap();
    suite_after_migration(&store).await;
}

/// Everything that can be written to a new database can be written to this one.
async fn suite_after_migration(store: &dyn ControlStore) {
    store.put_appliance(appliance(2)).await.unwrap();
    suite(store).await;
}
