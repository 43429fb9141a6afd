//! Whatever form a router gives its paths, a control plane takes the report of them: from the bytes
//! of UPDATE messages through the routes and the JSON to the same set hash.

use super::check::framed;
use super::memory::GOOD;
use super::memory::Router;
use super::memory::neighbour;
use super::memory::start;
use super::memory::until;
use oca::bgp::MemoryNet;
use oca::bgp::Snapshot;
use oca::link::message::Routes;
use oca::link::steps::Outbox;
use oca::link::steps::Step;
use oca::link::steps::take_routes;
use oca::route::Route;
use std::sync::Arc;

/// With numbers of two octets.
const OLD: &str = "192.0.2.7";

const SET: u8 = 1;
const SEQUENCE: u8 = 2;

/// What a control plane has after everything was told; every route's item is what both say.
fn taken(snapshot: &Snapshot) -> Vec<Route> {
    let mut outbox = Outbox::new(1);
    let step = outbox.routes(snapshot.generation, &snapshot.hash, &snapshot.routes);
    let text = serde_json::to_vec(&step).unwrap();
    let read: Routes = serde_json::from_slice(&text).unwrap();
    let Ok(Step::Whole { items, .. }) = take_routes(None, &read) else {
        panic!("the report is refused for ever");
    };
    let routes: Vec<Route> = snapshot.routes.iter().map(|seen| seen.route()).collect();
    assert_eq!(items, routes);
    assert!(
        items
            .iter()
            .map(Route::item)
            .eq(routes.iter().map(Route::item))
    );
    items
}

fn attribute(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    out.extend([flags | 0x10, kind]);
    out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    out.extend(value);
}

/// A path of segments as they stand in a message, with numbers of `width` octets.
fn path(segments: &[(u8, Vec<u32>)], width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, numbers) in segments {
        out.extend([*kind, u8::try_from(numbers.len()).unwrap()]);
        for number in numbers {
            out.extend(&number.to_be_bytes()[4 - width..]);
        }
    }
    out
}

/// An UPDATE of one route. `longer`: an AS4_PATH as well.
fn update(number: u32, path: &[u8], longer: Option<&[u8]>) -> Vec<u8> {
    let mut attributes = Vec::new();
    attribute(&mut attributes, 0x40, 1, &[0]);
    attribute(&mut attributes, 0x40, 2, path);
    attribute(&mut attributes, 0x40, 3, &[198, 51, 100, 7]);
    // Neither sorted nor each once.
    let [.., third, last] = number.to_be_bytes();
    let communities = [
        [0xfb, 0xf4, 9, last],
        [0xfb, 0xf4, 1, third],
        [0xfb, 0xf4, 9, last],
    ];
    attribute(&mut attributes, 0xc0, 8, communities.as_flattened());
    if let Some(longer) = longer {
        attribute(&mut attributes, 0xc0, 17, longer);
    }
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    body.extend([24, 10, third, last]);
    framed(2, &body)
}

fn segments(random: &mut fastrand::Rng) -> Vec<(u8, Vec<u32>)> {
    let mut all = vec![(SEQUENCE, vec![64_500])];
    let mut left = 700;
    for _ in 0..random.usize(..6) {
        let kind = if random.u8(..4) == 0 { SET } else { SEQUENCE };
        let long = random.u8(..4) == 0 && left > 255;
        let count = if long { 255 } else { random.usize(1..5) };
        left -= count;
        let number = |_| {
            if random.bool() {
                23_456
            } else {
                random.u32(1..65_000)
            }
        };
        all.push((kind, (0..count).map(number).collect()));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn paths_in_any_form_are_reported_and_taken() {
    let net = MemoryNet::default();
    let neighbours = vec![neighbour("good", GOOD, 64500), neighbour("old", OLD, 64500)];
    let handle = start(&net, neighbours);
    let mut random = fastrand::Rng::with_seed(11);
    let mut good = Router::up(&net, GOOD, 64500, true).await;
    let mut old = Router::up(&net, OLD, 64500, false).await;
    for number in 0..300 {
        let said = segments(&mut random);
        good.send(&update(number, &path(&said, 4), None)).await;
        let longer = path(&segments(&mut random), 4);
        let longer = random.bool().then_some(&longer[..]);
        old.send(&update(number, &path(&said, 2), longer)).await;
    }
    good.announce("64500", &["203.0.113.0/24"]).await;
    old.announce("64500", &["203.0.113.0/24"]).await;
    let last = |snapshot: &Snapshot| {
        let routes = snapshot.routes.iter();
        routes
            .filter(|seen| seen.prefix.to_string() == "203.0.113.0/24")
            .count()
            == 2
    };
    let snapshot = until(&handle, last).await;
    let routes = taken(&snapshot);
    assert_eq!(routes.len(), 602);
    let longest = routes
        .iter()
        .map(|route| route.attributes.as_path.length())
        .max();
    assert!(longest > Some(400), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_path_in_two_sequences_or_prepended_by_an_old_speaker_stops_no_report() {
    let net = MemoryNet::default();
    let neighbours = vec![neighbour("good", GOOD, 64500), neighbour("old", OLD, 64500)];
    let handle = start(&net, neighbours);
    let mut good = Router::up(&net, GOOD, 64500, true).await;
    let mut old = Router::up(&net, OLD, 64500, false).await;
    let cut = [(SEQUENCE, vec![64_500]), (SEQUENCE, vec![64_999, 65_000])];
    good.send(&update(1, &path(&cut, 4), None)).await;
    let prepended = [(SEQUENCE, vec![64_500, 23_456])];
    let longer = [(SEQUENCE, vec![65_600])];
    old.send(&update(2, &path(&prepended, 2), Some(&path(&longer, 4))))
        .await;
    let snapshot: Arc<Snapshot> = until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    let routes = taken(&snapshot);
    let paths: Vec<String> = routes
        .iter()
        .map(|r| r.attributes.as_path.to_string())
        .collect();
    assert_eq!(paths, ["64500 64999 65000", "64500 65600"]);
    // The same path in one piece is the same route.
    let generation = snapshot.generation;
    let whole = [(SEQUENCE, vec![64_500, 64_999, 65_000])];
    good.send(&update(1, &path(&whole, 4), None)).await;
    oca::clock::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(handle.snapshot().generation, generation);
}
