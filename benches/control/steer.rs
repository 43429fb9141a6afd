//! Steering decisions: how many one core makes in a second among 18,000 boxes, and how long one
//! takes.
//!
//! Half of the questions come over IPv6; all name a bundle and want three boxes; half know where
//! the client is.

use super::core;
use super::figure::Bar;
use super::figure::Figure;
use super::network::BUNDLES;
use super::network::Network;
use super::network::PROVIDERS;
use oca::clock;
use oca::control::steer::Config;
use oca::control::steer::Inputs;
use oca::control::steer::Position;
use oca::control::steer::Query;
use oca::control::steer::Scratch;
use oca::control::steer::Steering;
use oca::prefix::Family;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;

const ROUNDS: usize = 7;

/// Different questions: far more than a processor's cache holds answers for.
const QUESTIONS: usize = 400_000;

/// DESIGN.md section 6.
const DECISIONS_MIN: f64 = 500_000.0;
const P99_MAX_US: f64 = 20.0;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let network = Network::new();
    let steering = Steering::new(Config {
        domain: "oca.example.net".to_owned(),
        answers: 3,
    });
    let inputs = Inputs {
        registry: Arc::new(network.registry),
        library: Arc::new(network.library),
        view: Arc::new(network.view),
        ..Inputs::default()
    };
    let begun = clock::now();
    steering.refresh(inputs);
    let built = begun.elapsed();
    let snapshot = steering.snapshot();
    let (boxes, open) = snapshot.boxes();
    let prefixes = snapshot.prefixes();
    eprintln!("steering: {boxes} boxes, {open} open, {prefixes} prefixes, built in {built:?}");
    anyhow::ensure!(boxes == 18_000, "the network has {boxes} boxes");

    let questions = questions();
    let mut scratch = Scratch::default();
    let (mut rates, mut medians, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (named, took) = core::timed(|| {
            let decided = questions.iter();
            let named = decided.map(|query| snapshot.decide(query, &mut scratch).len());
            Ok(named.sum::<usize>())
        })?;
        anyhow::ensure!(named >= questions.len(), "{named} boxes were named");
        rates.push(questions.len() as f64 / took);

        let mut times: Vec<u64> = Vec::with_capacity(questions.len());
        for query in &questions {
            let begun = clock::now();
            std::hint::black_box(snapshot.decide(query, &mut scratch).len());
            times.push(u64::try_from(begun.elapsed().as_nanos())?);
        }
        times.sort_unstable();
        medians.push(times[times.len() / 2] as f64 / 1e3);
        tails.push(times[times.len() * 99 / 100] as f64 / 1e3);
    }
    Ok(vec![
        Figure::rounds(
            "steering, 18,000 boxes, one core: decisions a second",
            rates,
            Bar::AtLeast(DECISIONS_MIN),
        ),
        Figure::rounds("steering, one decision: p50 us", medians, Bar::None),
        Figure::rounds(
            "steering, one decision: p99 us",
            tails,
            Bar::AtMost(P99_MAX_US),
        ),
    ])
}

fn questions() -> Vec<Query> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut question = || {
        let provider = random.u32(0..PROVIDERS);
        let client = if random.bool() {
            let host = random.u32(0..1 << 13);
            IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (provider << 13) + host))
        } else {
            let rest = random.u128(0..1 << 96);
            let bits = 0xfd00 << 112 | u128::from(provider) << 96 | rest;
            IpAddr::V6(Ipv6Addr::from(bits))
        };
        let at = random.bool().then(|| {
            let latitude = f64::from(random.i32(-55..65));
            Position::new(latitude, f64::from(random.i32(-180..180)))
        });
        Query {
            client,
            bundle: Some(random.u32(0..BUNDLES)),
            answers: 3,
            at: at.flatten(),
            family: random.bool().then(|| Family::of(client)),
        }
    };
    (0..QUESTIONS).map(|_| question()).collect()
}
