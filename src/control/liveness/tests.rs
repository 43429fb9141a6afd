//! Clusters that hold a title, lose it, and what the share asks for.

use super::*;
use crate::control::allocate::allocate;
use crate::control::fleet::Bitmap;
use crate::control::fleet::Shut;
use crate::control::model::Cluster;
use crate::control::model::FILL_CLUSTER;
use crate::control::model::FillCluster;
use crate::control::model::TitleState;
use crate::control::steer::testing::World;

const NIGHT: &str = "2026-06-01T20:00:00Z";

fn now() -> Wall {
    NIGHT.parse().unwrap()
}

/// `clusters` clusters of one region, a site and two boxes each; the boxes hold both bundles of
/// `film`, `film/hd` and `film/sd`.
fn world(clusters: u32, live_share: u32) -> World {
    let mut world = World::new();
    let mut policy = FillCluster::named(FILL_CLUSTER);
    policy.live_share = live_share;
    world
        .registry
        .fill_clusters
        .insert(FILL_CLUSTER.to_owned(), policy);
    for number in 1..=clusters {
        let site = world.site(&format!("TLS{number:03}.isp"), "isp", (0.0, 0.0));
        let cluster = Cluster {
            name: site.clone(),
            fill_cluster: FILL_CLUSTER.to_owned(),
        };
        world.registry.clusters.insert(site.clone(), cluster);
        world.appliance(1, &site, Vec::new());
        world.appliance(2, &site, Vec::new());
    }
    world
}

fn facts(world: &World) -> Facts {
    Facts {
        registry: Arc::new(world.registry.clone()),
        library: Arc::new(world.library.clone()),
        view: Arc::new(world.view.clone()),
        listed: Arc::default(),
    }
}

fn ask(facts: &Facts, title: &str) -> Option<Standing> {
    let facts = facts.clone();
    Liveness::new(move || facts.clone()).title(title, now())
}

fn id(number: u32, cluster: u32) -> BoxId {
    BoxId::parse(&format!("c{number:03}-tls{cluster:03}-isp")).unwrap()
}

/// Holding, clusters, needed, live.
fn only(standing: &Standing) -> (usize, usize, usize, bool) {
    let [region] = &standing.regions[..] else {
        panic!("{standing:?}");
    };
    (region.holding, region.clusters, region.needed, region.live)
}

#[test]
fn a_title_is_live_when_the_share_of_clusters_rounded_up_holds_it() {
    for (held, share, expected) in [
        (0, 50, (0, 3, 2, false)),
        (1, 50, (1, 3, 2, false)),
        (2, 50, (2, 3, 2, true)),
        (3, 100, (3, 3, 3, true)),
        (2, 67, (2, 3, 3, false)),
        (1, 1, (1, 3, 1, true)),
    ] {
        let mut world = world(3, share);
        for cluster in held + 1..=3 {
            world.empty(&id(1, cluster));
            world.empty(&id(2, cluster));
        }
        let standing = ask(&facts(&world), "film").unwrap();
        assert_eq!(only(&standing), expected, "{held} of 3, {share} %");
        assert_eq!(standing.live, expected.3);
        assert_eq!((standing.bundles, standing.bytes), (2, 2));
        assert_eq!(standing.boxes, held as usize * 2);
    }
}

#[test]
fn boxes_of_a_cluster_hold_it_between_them() {
    let mut world = world(1, 50);
    let half = |number: u32| {
        let mut bundles = Bitmap::default();
        bundles.insert(number);
        Arc::new(bundles)
    };
    for (number, bundle) in [(1, 0), (2, 1)] {
        let seen = world.view.boxes.get_mut(&id(number, 1)).unwrap();
        Arc::make_mut(seen).bundles = half(bundle);
    }
    let standing = ask(&facts(&world), "film").unwrap();
    assert_eq!(only(&standing), (1, 1, 1, true));
    assert_eq!(standing.boxes, 0, "none holds all of it alone");
}

#[test]
fn a_dead_box_ends_it_and_the_cluster_still_counts() {
    let mut world = world(2, 100);
    assert!(ask(&facts(&world), "film").unwrap().live);
    world.shut(&id(1, 2), Shut::Silent);
    // Its neighbour holds it too.
    assert!(ask(&facts(&world), "film").unwrap().live);
    world.shut(&id(2, 2), Shut::Silent);
    let standing = ask(&facts(&world), "film").unwrap();
    assert_eq!(only(&standing), (1, 2, 2, false));
    // A box that an operator took away is not waited for.
    for number in [1, 2] {
        let one = world.registry.appliances.get_mut(&id(number, 2)).unwrap();
        one.enabled = false;
    }
    assert_eq!(only(&ask(&facts(&world), "film").unwrap()), (1, 1, 1, true));
}

#[test]
fn a_withdrawn_title_is_not_live_whoever_holds_it() {
    let mut world = world(1, 50);
    let state = TitleState {
        withdrawn: true,
        urgent_until: Some(now()),
    };
    world.library.titles.insert("film".to_owned(), state);
    let standing = ask(&facts(&world), "film").unwrap();
    assert!(standing.withdrawn && !standing.live);
    assert_eq!(only(&standing), (1, 1, 1, false));
    assert_eq!(standing.urgent_until, None, "it has ended");
    assert_eq!(ask(&facts(&world), "other"), None);
    assert_eq!(ask(&facts(&world), "film/hd"), None);
}

#[test]
fn bundles_that_nobody_was_given_are_not_waited_for_and_leaving_ones_do_not_help() {
    let mut world = world(1, 50);
    let mut facts = facts(&world);
    let list = |facts: &mut Facts, chosen: &[u32]| {
        let listed = Arc::new(Listed::new(&facts.library, chosen));
        let ids = facts.registry.appliances.keys();
        let all = ids.map(|id| (id.clone(), listed.clone()));
        facts.listed = Arc::new(all.collect());
    };
    world.empty(&id(1, 1));
    let seen = world.view.boxes.get_mut(&id(2, 1)).unwrap();
    let mut only_hd = Bitmap::default();
    only_hd.insert(0);
    Arc::make_mut(seen).bundles = Arc::new(only_hd);
    facts.view = Arc::new(world.view.clone());
    assert!(!ask(&facts, "film").unwrap().live);
    list(&mut facts, &[0]);
    assert!(ask(&facts, "film").unwrap().live);
    list(&mut facts, &[1]);
    assert!(!ask(&facts, "film").unwrap().live);
    list(&mut facts, &[]);
    assert!(!ask(&facts, "film").unwrap().live);
    let whole = allocate(&facts.library, 1_000_000);
    list(&mut facts, &whole);
    assert!(!ask(&facts, "film").unwrap().live);
}

#[test]
fn each_region_has_its_own_share_and_one_is_enough() {
    let mut world = world(2, 100);
    let mut north = FillCluster::named("north");
    north.live_share = 50;
    world
        .registry
        .fill_clusters
        .insert("north".to_owned(), north);
    let cluster = world.registry.clusters.get_mut("tls002-isp").unwrap();
    "north".clone_into(&mut cluster.fill_cluster);
    for number in [1, 2] {
        world.empty(&id(number, 1));
    }
    let standing = ask(&facts(&world), "film").unwrap();
    let told: Vec<(&str, bool)> = standing
        .regions
        .iter()
        .map(|region| (region.name.as_str(), region.live))
        .collect();
    assert_eq!(told, [("default", false), ("north", true)]);
    assert!(standing.live);
}

#[test]
fn all_titles_come_by_name_and_follow_the_library() {
    let world = world(1, 50);
    let facts = Arc::new(Mutex::new(facts(&world)));
    let shared = facts.clone();
    let liveness = Liveness::new(move || shared.lock().unwrap().clone());
    let names = |liveness: &Liveness| -> Vec<String> {
        let all = liveness.titles_standing(now()).into_iter();
        all.map(|standing| standing.title).collect()
    };
    assert_eq!(names(&liveness), ["film"]);
    let mut grown = world.clone();
    grown.bundle("art/hd");
    facts.lock().unwrap().library = Arc::new(grown.library);
    assert_eq!(names(&liveness), ["art", "film"]);
}
