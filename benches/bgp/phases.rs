//! What is done to both receivers, in turns, and what is measured of it.

use crate::figure::Figure;
use crate::figure::Pair;
use crate::link;
use crate::receivers;
use crate::receivers::Receiver;
use crate::receivers::Used;
use crate::router::Router;
use crate::snapshot;
use crate::storm;
use crate::stream::Table;
use oca::bgp::wire;
use oca::bgp::wire::Message;
use oca::bgp::wire::Negotiated;
use oca::clock;
use std::hint::black_box;

/// Of both bars (the project's own goals lie below).
const BAR: f64 = 0.6;

/// Longer than the run: routers of the bench send nothing but what is measured.
const HOLD: u16 = 7_200;

/// One phase of one receiver.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall_s: f64,
    cpu_s: f64,
    grown_bytes: f64,
}

/// What both were told, with what it cost.
struct Phases {
    names: Vec<(String, usize)>,
    costs: Vec<Cost>,
    lookup_ns: f64,
    walk_ms: f64,
}

/// All figures. `quick`: one round instead of three.
pub(crate) fn figures(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let table = Table::new();
    let streams = Streams::new(&table);
    let mut rounds = Vec::new();
    for _ in 0..if quick { 1 } else { 3 } {
        let ours = phases(Receiver::ours(HOLD)?, &streams)?;
        let bird = phases(Receiver::bird(HOLD)?, &streams)?;
        rounds.push((ours, bird));
    }
    let mut figures = Vec::new();
    let names = rounds[0].0.names.clone();
    for (place, (name, routes)) in names.iter().enumerate() {
        let of = |value: &dyn Fn(&Cost) -> f64| -> Vec<Pair> {
            let pair = |(ours, bird): &(Phases, Phases)| Pair {
                ours: value(&ours.costs[place]),
                peer: value(&bird.costs[place]),
            };
            rounds.iter().map(pair).collect()
        };
        let bar = (place == 0).then_some(BAR);
        figures.push(Figure::new(
            format!("{name}: CPU, s"),
            bar,
            &of(&|cost| cost.cpu_s),
        ));
        figures.push(Figure::new(
            format!("{name}: wall, s"),
            None,
            &of(&|cost| cost.wall_s),
        ));
        if *routes > 0 {
            #[allow(clippy::cast_precision_loss, reason = "millions")]
            let each = of(&|cost| cost.grown_bytes / *routes as f64);
            figures.push(Figure::new(
                format!("{name}: memory a route, B"),
                bar,
                &each,
            ));
        }
    }
    let ours = |value: fn(&Phases) -> f64| -> Vec<f64> {
        rounds.iter().map(|(ours, _)| value(ours)).collect()
    };
    figures.push(alone(
        "what covers an address, three full tables: ns",
        &ours(|phases| phases.lookup_ns),
    ));
    figures.push(alone(
        "a walk over three full tables: ms",
        &ours(|phases| phases.walk_ms),
    ));
    figures.push(alone("decoding alone: MB/s", &decoding(&streams.full)));
    figures.extend(snapshot::figures(&table));
    figures.extend(storm::figures(
        streams.routes,
        &streams.full,
        &streams.other,
        quick,
    )?);
    figures.extend(link::figures(&table)?);
    Ok(figures)
}

struct Streams {
    routes: usize,
    full: Vec<u8>,
    withdrawn: Vec<u8>,
    hundredth: Vec<u8>,
    one: Vec<u8>,
    other: Vec<u8>,
}

impl Streams {
    fn new(table: &Table) -> Self {
        let routes = table.len();
        let full = table.announced(0);
        eprintln!(
            "{routes} routes in {} MB of UPDATE messages",
            full.len() / 1_000_000
        );
        Self {
            routes,
            withdrawn: table.withdrawn(),
            hundredth: table.some_announced(routes / 100, 1),
            one: table.some_announced(1, 2),
            other: table.announced(1),
            full,
        }
    }
}

/// A figure that has no peer: its spread is of the values themselves.
pub(crate) fn alone(name: impl Into<String>, values: &[f64]) -> Figure {
    let pair = |value: &f64| Pair {
        ours: *value,
        peer: f64::NAN,
    };
    let pairs: Vec<Pair> = values.iter().map(pair).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Figure {
        spread: (values.len() > 1).then_some((least, most)),
        ..Figure::new(name, None, &pairs)
    }
}

fn phases(mut receiver: Receiver, streams: &Streams) -> anyhow::Result<Phases> {
    let mut found = Phases {
        names: Vec::new(),
        costs: Vec::new(),
        lookup_ns: f64::NAN,
        walk_ms: f64::NAN,
    };
    let mut routers = Vec::new();
    for (number, name) in ["full table", "second session", "third session"]
        .iter()
        .enumerate()
    {
        let number = u8::try_from(number).unwrap_or(0);
        let from = receivers::router(number);
        let mut router = Router::connect(from, receiver.address, HOLD)?;
        receiver.settle(clock::now())?;
        let cost = cost(&receiver, &mut router, &streams.full)?;
        found.add(name, streams.routes, cost);
        routers.push(router);
        let expected = streams.routes * routers.len();
        let routes = receiver.routes()?;
        anyhow::ensure!(
            routes == expected,
            "{routes} of {expected} routes were taken"
        );
    }
    if let Ok(answer) = receiver.ask("lookup") {
        found.lookup_ns = answer.parse()?;
        found.walk_ms = receiver.ask("walk")?.parse::<f64>()? / 1e6;
    }
    let router = &mut routers[0];
    let hundredth = cost(&receiver, router, &streams.hundredth)?;
    found.add("1 % of the routes change", 0, hundredth);
    let one = cost(&receiver, router, &streams.one)?;
    found.add("one route changes", 0, one);
    let withdrawn = cost(&receiver, router, &streams.withdrawn)?;
    found.add("full withdraw", 0, withdrawn);
    let again = cost(&receiver, router, &streams.full)?;
    found.add("full announce again", 0, again);
    Ok(found)
}

impl Phases {
    fn add(&mut self, name: &str, routes: usize, cost: Cost) {
        eprintln!("{name}: {cost:.2?}");
        self.names.push((name.to_owned(), routes));
        self.costs.push(cost);
    }
}

fn cost(receiver: &Receiver, router: &mut Router, bytes: &[u8]) -> anyhow::Result<Cost> {
    let before = receiver.used()?;
    let begun = clock::now();
    router.send(bytes)?;
    let wall = receiver.settle(begun)?;
    let Used {
        cpu,
        resident_bytes,
    } = receiver.used()?;
    let grown = i128::from(resident_bytes) - i128::from(before.resident_bytes);
    Ok(Cost {
        wall_s: wall.as_secs_f64(),
        cpu_s: (cpu - before.cpu).as_secs_f64(),
        #[allow(clippy::cast_precision_loss, reason = "gigabytes")]
        grown_bytes: grown as f64,
    })
}

/// Framing, decoding and a walk over every prefix and AS number: megabytes a second, several times.
fn decoding(bytes: &[u8]) -> Vec<f64> {
    let session = Negotiated::ORDINARY;
    let once = || {
        let (mut rest, begun, mut count) = (bytes, clock::now(), 0);
        while let Ok(Some(length)) = wire::frame(rest, wire::MESSAGE_BYTES_MAX)
            && let Some((message, after)) = rest.split_at_checked(length)
        {
            if let Ok(Message::Update(update)) = wire::decode(message, Some(&session)) {
                count += update.withdrawn().count();
                count += update.attributes().as_path.numbers().count();
                let reached = update.announced().map(|reach| reach.prefixes.count());
                count += reached.sum::<usize>();
            }
            rest = after;
        }
        black_box(count);
        begun.elapsed().as_secs_f64()
    };
    #[allow(clippy::cast_precision_loss, reason = "millions")]
    let megabytes = bytes.len() as f64 / 1e6;
    (0..5).map(|_| megabytes / once()).collect()
}
