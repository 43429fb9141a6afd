//! Positions, signatures, and durable before served, over a store in memory.

use super::*;
use crate::control::model::Appliance;
use crate::control::model::Approval;
use crate::control::model::Cluster;
use crate::control::model::FillCluster;
use crate::control::model::Grant;
use crate::control::model::Object;
use crate::control::model::Partner;
use crate::control::model::Site;
use crate::control::model::TitleState;
use crate::control::steer::testing::World;
use crate::control::store::Answer;
use crate::control::store::CachedDigest;
use crate::control::store::ImportedKey;
use crate::control::store::Issued;
use crate::control::store::Location;
use crate::control::store::Revision;
use crate::link::manifest::Verifier;
use crate::object::ChunkTree;
use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;

const VALIDITY: Duration = Duration::from_secs(30 * 86_400);

type Published = BTreeMap<BoxId, (Position, Digest)>;

/// Keeps what was published, and fails when told to.
#[derive(Default)]
struct Memory {
    published: StdMutex<Published>,
    fails_for: StdMutex<Option<BoxId>>,
}

fn answer<'a, T: Send + 'a>(result: Result<T, ControlStoreError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(result))
}

/// The verbs that publication has no use for.
fn unused<'a, T: Send + 'a>() -> Answer<'a, T> {
    answer(Err(ControlStoreError::Refused("not kept here".to_owned())))
}

impl ControlStore for Memory {
    fn published(&self) -> Answer<'_, Published> {
        answer(Ok(self.published.lock().unwrap().clone()))
    }

    fn put_published(&self, id: BoxId, position: Position, content: Digest) -> Answer<'_, ()> {
        if self.fails_for.lock().unwrap().as_ref() == Some(&id) {
            return answer(Err(ControlStoreError::Database("disk full".to_owned())));
        }
        let mut published = self.published.lock().unwrap();
        published.insert(id, (position, content));
        answer(Ok(()))
    }

    fn revision(&self) -> Answer<'_, Revision> {
        unused()
    }
    fn registry(&self) -> Answer<'_, Registry> {
        unused()
    }
    fn library(&self) -> Answer<'_, Library> {
        unused()
    }
    fn put_partner(&self, _: Partner) -> Answer<'_, ()> {
        unused()
    }
    fn approve(&self, _: String, _: Approval) -> Answer<'_, ()> {
        unused()
    }
    fn disapprove(&self, _: String, _: Approval) -> Answer<'_, ()> {
        unused()
    }
    fn put_site(&self, _: Site) -> Answer<'_, ()> {
        unused()
    }
    fn put_cluster(&self, _: Cluster) -> Answer<'_, ()> {
        unused()
    }
    fn put_fill_cluster(&self, _: FillCluster) -> Answer<'_, ()> {
        unused()
    }
    fn remove_fill_cluster(&self, _: String) -> Answer<'_, ()> {
        unused()
    }
    fn put_grant(&self, _: BoxId, _: Grant) -> Answer<'_, ()> {
        unused()
    }
    fn set_title(&self, _: String, _: TitleState) -> Answer<'_, ()> {
        unused()
    }
    fn put_trees(&self, _: Vec<ChunkTree>) -> Answer<'_, ()> {
        unused()
    }
    fn trees(&self, _: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Vec<[u8; 32]>>> {
        unused()
    }
    fn known_trees(&self, _: Vec<Digest>) -> Answer<'_, BTreeSet<Digest>> {
        unused()
    }
    fn locations(&self, _: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Location>> {
        unused()
    }
    fn put_appliance(&self, _: Appliance) -> Answer<'_, ()> {
        unused()
    }
    fn set_enabled(&self, _: BoxId, _: bool) -> Answer<'_, ()> {
        unused()
    }
    fn set_prefilling(&self, _: BoxId, _: bool) -> Answer<'_, ()> {
        unused()
    }
    fn quarantine(&self, _: BoxId, _: Option<String>) -> Answer<'_, ()> {
        unused()
    }
    fn revoke(&self, _: BoxId) -> Answer<'_, ()> {
        unused()
    }
    fn put_token(&self, _: BoxId, _: Digest, _: Wall) -> Answer<'_, ()> {
        unused()
    }
    fn redeem(&self, _: Digest, _: String, _: Wall) -> Answer<'_, BoxId> {
        unused()
    }
    fn put_issued(&self, _: BoxId, _: Issued) -> Answer<'_, ()> {
        unused()
    }
    fn put_keys(&self, _: Vec<ImportedKey>) -> Answer<'_, u64> {
        unused()
    }
    fn cached_digests(&self, _: String) -> Answer<'_, BTreeMap<String, CachedDigest>> {
        unused()
    }
    fn put_cached_digests(&self, _: String, _: BTreeMap<String, CachedDigest>) -> Answer<'_, ()> {
        unused()
    }
    fn put_popularity(&self, _: BTreeMap<String, f64>) -> Answer<'_, u64> {
        unused()
    }
}

/// Two boxes, two bundles, and whoever publishes.
struct Stage {
    world: World,
    library: Arc<Library>,
    store: Arc<Memory>,
    signer: Arc<Signer>,
    ids: Vec<BoxId>,
}

impl Stage {
    fn new() -> Self {
        let mut world = World::new();
        let digest = Digest::of(b"object");
        world.library.objects.push(Object { digest, length: 6 });
        let site = world.site("TLS001.isp", "isp", (0.0, 0.0));
        let ids = [1, 2].map(|number| world.appliance(number, &site, Vec::new()));
        Self {
            library: Arc::new(world.library.clone()),
            world,
            store: Arc::default(),
            signer: Arc::new(Signer::generate().unwrap()),
            ids: ids.to_vec(),
        }
    }

    /// A process that has just started.
    fn publisher(&self) -> Publisher {
        Publisher::new(self.store.clone(), self.signer.clone(), VALIDITY)
    }

    async fn refresh(&self, publisher: &Publisher, now: Wall) -> Result<usize, PublishError> {
        let registry = &self.world.registry;
        publisher.refresh(registry, &self.library, now).await
    }

    fn import(&mut self, directory: &str) {
        self.world.bundle(directory);
        self.library = Arc::new(self.world.library.clone());
    }
}

fn at(second: i64) -> Wall {
    Wall::from_second(1_800_000_000 + second).unwrap()
}

fn place_of(publisher: &Publisher, id: &BoxId) -> (u64, u64) {
    let position = publisher.manifest(id).unwrap().position;
    (position.epoch, position.generation)
}

/// As a box gets it.
fn fetched(publisher: &Publisher, id: &BoxId) -> (Position, Vec<u8>) {
    let found = publisher.manifest(id).unwrap();
    (found.position, [&found.envelope[..], &found.rows].concat())
}

#[tokio::test]
async fn a_box_believes_its_own_manifest_and_no_other_box_s() {
    let stage = Stage::new();
    let publisher = stage.publisher();
    assert_eq!(stage.refresh(&publisher, at(0)).await.unwrap(), 2);
    let verifier = Verifier::new(&[stage.signer.public_hex()]).unwrap();
    let [own, other] = &stage.ids[..] else {
        panic!("two boxes")
    };
    let (position, body) = fetched(&publisher, own);
    let verified = verifier.verify(&body, own, at(5), None).unwrap();
    assert_eq!(verified.position, position);
    assert_eq!(verified.expires - verified.issued, VALIDITY.as_secs());
    let keys = verified.keys.iter();
    let keys: Vec<(&str, u32)> = keys.map(|key| (key.key.as_str(), key.rank)).collect();
    assert_eq!(
        keys,
        [
            ("film/hd/init.mp4", 0),
            ("film/hd/seg-1.m4s", 0),
            ("film/sd/init.mp4", 1),
            ("film/sd/seg-1.m4s", 1),
        ]
    );
    assert!(verifier.verify(&body, other, at(5), None).is_err());
    assert_eq!(publisher.positions().len(), 2);
    // One set of rows in memory for both.
    let served = publisher.served.load();
    assert!(Arc::ptr_eq(&served[own].rows, &served[other].rows));
}

#[tokio::test]
async fn the_same_content_keeps_its_position_over_restarts_and_other_content_gets_the_next() {
    let mut stage = Stage::new();
    let publisher = stage.publisher();
    stage.refresh(&publisher, at(0)).await.unwrap();
    let id = stage.ids[0].clone();
    let (epoch, generation) = place_of(&publisher, &id);
    assert_eq!((epoch, generation), (1_800_000_000, 1));

    let restarted = stage.publisher();
    assert_eq!(stage.refresh(&restarted, at(50)).await.unwrap(), 0);
    assert_eq!(place_of(&restarted, &id), (epoch, 1));

    stage.import("film/uhd");
    assert_eq!(stage.refresh(&restarted, at(60)).await.unwrap(), 2);
    assert_eq!(place_of(&restarted, &id), (epoch, 2));

    // A database that begins again is later than the one that was lost.
    stage.store = Arc::default();
    let reborn = stage.publisher();
    stage.refresh(&reborn, at(70)).await.unwrap();
    assert!(reborn.positions()[&id] > restarted.positions()[&id]);
}

#[tokio::test]
async fn a_manifest_is_signed_again_before_half_of_its_life_at_the_same_position() {
    let stage = Stage::new();
    let publisher = stage.publisher();
    assert_eq!(publisher.due(), None);
    stage.refresh(&publisher, at(0)).await.unwrap();
    let half = i64::try_from(VALIDITY.as_secs() / 2).unwrap();
    assert_eq!(publisher.due(), Some(at(half)));
    let id = &stage.ids[0];
    let (position, first) = fetched(&publisher, id);
    stage.refresh(&publisher, at(half - 1)).await.unwrap();
    assert_eq!(fetched(&publisher, id).1, first);
    assert_eq!(stage.refresh(&publisher, at(half)).await.unwrap(), 0);
    let (again, second) = fetched(&publisher, id);
    assert_ne!(first, second);
    assert_eq!(again, position);
    let verifier = Verifier::new(&[stage.signer.public_hex()]).unwrap();
    let believed = verifier.verify(&second, id, at(half), Some(position));
    assert_eq!(believed.unwrap().position, position);
}

#[tokio::test]
async fn what_is_not_durable_is_not_served() {
    let mut stage = Stage::new();
    let publisher = stage.publisher();
    *stage.store.fails_for.lock().unwrap() = Some(stage.ids[1].clone());
    let error = stage.refresh(&publisher, at(0)).await.unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    assert!(publisher.manifest(&stage.ids[0]).is_some());
    assert!(publisher.manifest(&stage.ids[1]).is_none());

    *stage.store.fails_for.lock().unwrap() = None;
    assert_eq!(stage.refresh(&publisher, at(1)).await.unwrap(), 1);
    stage.import("film/uhd");
    *stage.store.fails_for.lock().unwrap() = Some(stage.ids[0].clone());
    assert!(stage.refresh(&publisher, at(2)).await.is_err());
    // The old one stays.
    assert_eq!(place_of(&publisher, &stage.ids[0]).1, 1);
    assert_eq!(place_of(&publisher, &stage.ids[1]).1, 1);
}

#[tokio::test]
async fn without_content_or_after_revocation_there_is_no_manifest() {
    let mut stage = Stage::new();
    let publisher = stage.publisher();
    let first = stage.ids[0].clone();
    let appliances = &mut stage.world.registry.appliances;
    appliances.get_mut(&first).unwrap().capacity = 0;
    stage.library = Arc::default();
    assert_eq!(stage.refresh(&publisher, at(0)).await.unwrap(), 0);
    assert!(publisher.positions().is_empty());
    stage.library = Arc::new(stage.world.library.clone());
    stage.refresh(&publisher, at(1)).await.unwrap();
    assert!(publisher.manifest(&first).is_none());
    let second = stage.ids[1].clone();
    assert!(publisher.manifest(&second).is_some());
    let appliances = &mut stage.world.registry.appliances;
    appliances.get_mut(&second).unwrap().revoked = true;
    stage.refresh(&publisher, at(2)).await.unwrap();
    assert!(publisher.manifest(&second).is_none());
}
