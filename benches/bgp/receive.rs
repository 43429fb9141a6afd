//! The process that receives as the daemon does: the speaker alone, on one thread's runtime, with
//! a blocking thread for large merges. Answers questions on standard input.

use oca::bgp;
use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::NeighbourConfig;
use oca::bgp::OwnPolicy;
use oca::bgp::Seams;
use oca::bgp::TransportConfig;
use oca::clock;
use oca::route::Asn;
use oca::route::Class;
use oca::telemetry;
use std::hint::black_box;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use crate::receivers;

/// Addresses looked up for the figure.
const LOOKUPS: u32 = 1_000_000;

/// Ends with standard input. Questions are answered on a thread of their own, as the daemon's admin
/// socket has one.
pub(crate) async fn receive(hold: u16) -> anyhow::Result<()> {
    let handle = bgp::start(&config(hold), Seams::real())?;
    let registry = telemetry::Registry::new("bench", clock::now());
    handle.register(&registry);
    say(&handle.addresses()[0].to_string())?;
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines();
        for question in lines.map_while(Result::ok) {
            if answer(&handle, &registry, &question).is_err() {
                break;
            }
        }
        let _ = end.send(());
    });
    let _ = ended.await;
    Ok(())
}

fn answer(
    handle: &bgp::Handle,
    registry: &telemetry::Registry,
    question: &str,
) -> std::io::Result<()> {
    let snapshot = handle.snapshot();
    match question {
        "count" => say(&snapshot.routes.len().to_string()),
        "late" => say(&latest_ms(&registry.render()).to_string()),
        "lookup" => say(&lookup(&snapshot).to_string()),
        "walk" => {
            let begun = clock::now();
            let steerable = snapshot.routes.iter().filter(|seen| seen.is_steerable());
            black_box(steerable.count());
            say(&begun.elapsed().as_nanos().to_string())
        }
        // An address: what `oca show routes` would show.
        _ => match question.parse() {
            Ok(address) => {
                let found = snapshot.routes.covering(address);
                let found: Vec<_> = found.iter().map(|seen| seen.route()).collect();
                say(&found.len().to_string())
            }
            Err(_) => say("not known"),
        },
    }
}

/// How late any keepalive has left after it was due, as the metrics tell.
fn latest_ms(page: &str) -> f64 {
    let seconds = page.lines().filter_map(|line| {
        let value = line.strip_prefix("oca_bgp_keepalive_late_seconds_max{")?;
        value.rsplit(' ').next()?.parse::<f64>().ok()
    });
    1e3 * seconds.fold(0.0, f64::max)
}

/// Nanoseconds for what `oca show routes` asks: everything that covers an address.
fn lookup(snapshot: &bgp::Snapshot) -> u128 {
    let mut rng = fastrand::Rng::with_seed(1);
    let begun = clock::now();
    for _ in 0..LOOKUPS {
        let address = IpAddr::V4(Ipv4Addr::from_bits(rng.u32(..)));
        black_box(snapshot.routes.covering(address).len());
    }
    begun.elapsed().as_nanos() / u128::from(LOOKUPS)
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn config(hold: u16) -> Config {
    let asn = Asn(crate::stream::ASN);
    let neighbours = (0..receivers::SESSIONS).map(|number| {
        let (name, address) = (format!("router-{number}"), receivers::router(number));
        NeighbourConfig {
            passive: true,
            hold_time: Duration::from_secs(hold.into()),
            max_prefixes: 2_000_000,
            bogons: Bogons::None,
            transport: TransportConfig {
                ttl_security: false,
                ..TransportConfig::default()
            },
            ..NeighbourConfig::new(&name, address.into(), asn, Class::Embedded)
        }
    });
    Config {
        asn: Asn(64510),
        router_id: Ipv4Addr::new(192, 0, 2, 3),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        neighbours: neighbours.collect(),
        policy: OwnPolicy::default(),
    }
}
