//! Tests of [`super`]: which routes the kernel is given, and what becomes of them.

use super::super::policy::OwnPolicy;
use super::super::tests_support::config;
use super::super::tests_support::neighbour;
use super::*;
use crate::route::Asn;
use crate::route::Attributes;
use crate::route::Class;
use crate::route::Route;
use std::sync::Mutex;

/// A table in memory that keeps a diary, and refuses what goes by 192.0.2.66.
#[derive(Clone, Debug, Default)]
struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    routes: BTreeMap<(Prefix, u32), KernelRoute>,
    diary: Vec<String>,
}

impl Table for Fake {
    fn add(&mut self, route: &KernelRoute) -> io::Result<()> {
        let place = (route.prefix, route.metric);
        if self.state().routes.contains_key(&place) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.replace(route)
    }

    fn replace(&mut self, route: &KernelRoute) -> io::Result<()> {
        let mut state = self.state();
        if route.gateway.to_string() == "192.0.2.66" {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        state.diary.push(format!(
            "+{} {} {}",
            route.prefix, route.gateway, route.metric
        ));
        state.routes.insert((route.prefix, route.metric), *route);
        Ok(())
    }

    fn remove(&mut self, prefix: &Prefix, metric: u32) -> io::Result<()> {
        let mut state = self.state();
        state.diary.push(format!("-{prefix} {metric}"));
        state.routes.remove(&(*prefix, metric));
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<FoundRoute>> {
        let state = self.state();
        let found = |route: &KernelRoute| FoundRoute {
            prefix: route.prefix,
            metric: route.metric,
            gateway: Some(route.gateway),
        };
        Ok(state.routes.values().map(found).collect())
    }
}

impl Fake {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn diary(&self) -> Vec<String> {
        std::mem::take(&mut self.state().diary)
    }
}

fn setting() -> Config {
    let policy = OwnPolicy {
        kernel_routes: vec!["0.0.0.0/0".parse().unwrap(), "9.0.0.0/8".parse().unwrap()],
        kernel_metric: 100,
        ..OwnPolicy::default()
    };
    let neighbours = ["one", "two"].map(|name| neighbour(name, Asn(64500)));
    Config {
        policy,
        ..config(Asn(64510), neighbours.into())
    }
}

fn snapshot(routes: &[(&str, &str, &str, Option<Filtered>)]) -> Snapshot {
    let route = |(prefix, neighbour, hop, filtered): &(&str, &str, &str, _)| Route {
        prefix: prefix.parse().unwrap(),
        neighbour: (*neighbour).into(),
        path_id: 0,
        class: Class::Embedded,
        attributes: Arc::new(Attributes::new(
            "64500".parse().unwrap(),
            hop.parse().unwrap(),
        )),
        filtered: *filtered,
    };
    Snapshot {
        routes: routes.iter().map(route).collect(),
        ..Snapshot::default()
    }
}

#[test]
fn chosen_prefixes_alone_are_wanted_each_neighbour_with_its_metric() {
    let default = Some(Filtered::DefaultRoute);
    let snapshot = snapshot(&[
        ("0.0.0.0/0", "one", "192.0.2.1", default),
        ("0.0.0.0/0", "two", "192.0.2.2", default),
        ("9.0.0.0/8", "two", "192.0.2.2", None),
        ("9.0.0.0/8", "one", "192.0.2.1", Some(Filtered::AsLoop)),
        ("9.1.0.0/16", "one", "192.0.2.1", None),
        ("::/0", "one", "2001:db8::1", default),
    ]);
    let told: Vec<String> = wanted(&setting(), &snapshot)
        .iter()
        .map(|route| format!("{} {} {}", route.prefix, route.gateway, route.metric))
        .collect();
    let expected = [
        "0.0.0.0/0 192.0.2.1 100",
        "0.0.0.0/0 192.0.2.2 101",
        "9.0.0.0/8 192.0.2.2 101",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_fallback_stays_while_the_first_way_goes_and_everything_goes_with_the_keeper() {
    let default = Some(Filtered::DefaultRoute);
    let (one, two) = (
        ("0.0.0.0/0", "one", "192.0.2.1", default),
        ("0.0.0.0/0", "two", "192.0.2.2", default),
    );
    let table = Fake::default();
    let mut keeper = Keeper::sweep(table.clone()).unwrap();
    let config = setting();
    let mut settle = |routes: &[_]| keeper.settle(&wanted(&config, &snapshot(routes)));
    assert!(settle(&[one, two]));
    assert_eq!(
        table.diary(),
        ["+0.0.0.0/0 192.0.2.1 100", "+0.0.0.0/0 192.0.2.2 101"]
    );
    assert!(settle(&[two]));
    assert_eq!(table.diary(), ["-0.0.0.0/0 100"]);
    // Another gateway takes the place of the first in one step.
    assert!(settle(&[("0.0.0.0/0", "two", "192.0.2.3", default)]));
    assert_eq!(table.diary(), ["+0.0.0.0/0 192.0.2.3 101"]);
    assert!(!settle(&[("0.0.0.0/0", "one", "192.0.2.66", default), two]));
    assert_eq!(table.diary(), ["+0.0.0.0/0 192.0.2.2 101"]);
    drop(keeper);
    assert_eq!(table.diary(), ["-0.0.0.0/0 101"]);
}

#[test]
fn a_route_of_somebody_else_stays_and_what_the_kernel_dropped_comes_back() {
    let one = (
        "0.0.0.0/0",
        "one",
        "192.0.2.1",
        Some(Filtered::DefaultRoute),
    );
    let table = Fake::default();
    let mut keeper = Keeper::sweep(table.clone()).unwrap();
    let theirs = KernelRoute {
        prefix: "0.0.0.0/0".parse().unwrap(),
        metric: 100,
        gateway: "192.0.2.254".parse().unwrap(),
    };
    table.clone().replace(&theirs).unwrap();
    let wanted = wanted(&setting(), &snapshot(&[one]));
    assert!(!keeper.settle(&wanted));
    assert_eq!(table.diary(), ["+0.0.0.0/0 192.0.2.254 100"]);
    table.state().routes.clear();
    assert!(keeper.settle(&wanted));
    table.state().routes.clear();
    keeper.look();
    assert!(keeper.settle(&wanted));
    assert_eq!(table.diary(), ["+0.0.0.0/0 192.0.2.1 100"; 2]);
}

#[test]
fn a_way_whose_new_gateway_is_refused_leaves_the_fallback() {
    let default = Some(Filtered::DefaultRoute);
    let table = Fake::default();
    let mut keeper = Keeper::sweep(table.clone()).unwrap();
    let mut settle = |hop: &str| {
        keeper.settle(&wanted(
            &setting(),
            &snapshot(&[("0.0.0.0/0", "one", hop, default)]),
        ))
    };
    assert!(settle("192.0.2.1"));
    assert!(!settle("192.0.2.66"));
    assert_eq!(
        table.diary(),
        ["+0.0.0.0/0 192.0.2.1 100", "-0.0.0.0/0 100"]
    );
}

#[test]
fn what_the_kernel_refuses_is_shown_with_its_reason_until_it_is_done() {
    let default = Some(Filtered::DefaultRoute);
    let mut keeper = Keeper::sweep(Fake::default()).unwrap();
    let mut settle = |hop: &str| {
        let routes = snapshot(&[
            ("0.0.0.0/0", "one", hop, default),
            ("0.0.0.0/0", "two", "192.0.2.2", default),
        ]);
        keeper.settle(&wanted(&setting(), &routes));
        [100, 101].map(|metric| keeper.shown(metric))
    };
    let [one, two] = settle("192.0.2.66");
    assert_eq!((one.len(), two.len()), (1, 1));
    let problem = one[0].problem.as_deref().unwrap();
    assert!(problem.starts_with("cannot be installed: "), "{problem}");
    assert_eq!(two[0].problem, None);
    let [one, _] = settle("192.0.2.1");
    assert_eq!((one.len(), one[0].problem.as_deref()), (1, None));
}

#[test]
fn what_an_earlier_run_has_left_is_swept() {
    let mut table = Fake::default();
    let left = KernelRoute {
        prefix: "198.51.100.0/24".parse().unwrap(),
        metric: 7,
        gateway: "192.0.2.1".parse().unwrap(),
    };
    table.replace(&left).unwrap();
    table.diary();
    let _keeper = Keeper::sweep(table.clone()).unwrap();
    assert_eq!(table.diary(), ["-198.51.100.0/24 7"]);
}
