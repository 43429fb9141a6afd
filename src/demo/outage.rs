//! The second act, where things go wrong: a prefix withdrawn, a box killed, the control plane away
//! for longer than the lease.
//!
//! I/O: kills and starts processes, waits for what follows.

use super::play;
use super::report::Outcome;
use super::report::Report;
use super::steering::Act;
use super::steering::LOOK_EVERY;
use super::steering::OPEN_WITHIN;
use super::steering::label;
use super::system::LONDON;
use super::system::TOULOUSE;
use super::viewer;
use super::viewer::Viewer;
use crate::clock;
use crate::clock::Instant;
use rustls::version::TLS13;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The bars of the product.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(10);
const DEAD_WITHIN: Duration = Duration::from_secs(30);

impl Act {
    pub(super) async fn outages(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let expected = format!("not steered within {} s", WITHDRAWN_WITHIN.as_secs());
        report.record("withdrawal", expected, self.withdrawal().await)?;
        let expected = format!("off first rank within {} s", DEAD_WITHIN.as_secs());
        report.record("box killed", expected, self.killed().await)?;
        let expected = "first again by itself";
        report.record("box back", expected, self.back().await)?;
        self.away(report).await
    }

    /// London takes its more specific prefix back: its client goes to Toulouse.
    async fn withdrawal(&mut self) -> Outcome {
        let (client, key) = ("192.0.2.10", self.any_key()?);
        let router = self.system.router(LONDON)?;
        let mut routes = router.routes().to_vec();
        routes.retain(|route| route.prefix.to_string() != "192.0.2.0/25");
        let begun = clock::now();
        router.announce(routes).await?;
        let until = begun + WITHDRAWN_WITHIN;
        let first = self.until_first(client, &key, until, |id| id.ends_with(&label(TOULOUSE)));
        let first = first.await?;
        let took = (clock::now() - begun).as_secs_f64();
        Ok((true, format!("{client} goes to {first} after {took:.2} s")))
    }

    async fn until_first(
        &self,
        client: &str,
        key: &str,
        until: Instant,
        good: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        loop {
            let steered = self.steer(client, None, key).await?;
            let first = steered.boxes.first().cloned().unwrap_or_default();
            // An empty answer would be nobody's gain.
            if !first.is_empty() && good(&first) {
                return Ok(first);
            }
            anyhow::ensure!(clock::now() < until, "still {first}: {}", steered.why);
            clock::sleep(LOOK_EVERY).await;
        }
    }

    /// The box that steering names first dies; its viewer asks again and plays on.
    async fn killed(&mut self) -> Outcome {
        let (client, key) = ("198.51.100.10", self.any_key()?);
        let (dead, mut viewer) = self.viewer(client, &key).await?;
        let plan = play::plan(&mut viewer, &self.content).await?;
        let (begin, rest) = plan.pieces.split_at(plan.pieces.len() / 2);
        play::play(&mut viewer, &self.content, begin).await?;
        self.system.unit(&dead)?.appliance.kill();
        let begun = clock::now();
        let next = self
            .until_first(client, &key, begun + DEAD_WITHIN, |id| id != dead)
            .await?;
        let took = (clock::now() - begun).as_secs_f64();
        let (id, mut viewer) = self.viewer(client, &key).await?;
        let tally = play::play(&mut viewer, &self.content, rest).await?;
        let ok = id == next && tally.pieces == rest.len();
        let pieces = tally.pieces;
        Ok((
            ok,
            format!("{dead} gone after {took:.1} s; {pieces} pieces played on from {next}"),
        ))
    }

    async fn back(&mut self) -> Outcome {
        let begun = clock::now();
        for unit in &mut self.system.boxes {
            if unit.appliance.process().is_none() {
                unit.appliance.start().await?;
            }
        }
        self.all_open(begun + OPEN_WITHIN).await?;
        let took = (clock::now() - begun).as_secs_f64();
        Ok((true, format!("open and known after {took:.1} s")))
    }

    /// The control plane is stopped for longer than the lease, then comes back.
    async fn away(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let outcome = self.lease_ends().await;
        let (closed, finished) = match outcome {
            Ok((closed, finished)) => (closed, finished),
            Err(error) => (Err(error), Err(anyhow::anyhow!("not tried"))),
        };
        let expected = "every box closes: lease-expired; 503 for a viewer who comes then";
        report.record("control plane away", expected, closed)?;
        let expected = "the running viewer to the end";
        report.record("lease end lets finish", expected, finished)?;
        let expected = "all boxes open again by themselves";
        report.record("control plane back", expected, self.reopened().await)?;
        Ok(())
    }

    async fn lease_ends(&mut self) -> anyhow::Result<(Outcome, Outcome)> {
        let key = self.any_key()?;
        let (id, mut running) = self.viewer("198.51.100.10", &key).await?;
        let plan = play::plan(&mut running, &self.content).await?;
        let (begin, rest) = plan.pieces.split_at(plan.pieces.len() / 2);
        play::play(&mut running, &self.content, begin).await?;
        self.system.plane.terminate().await?;
        let begun = clock::now();
        let until = begun + self.pace.lease + self.pace.heartbeat_every * 2;
        for unit in &self.system.boxes {
            while unit.gate().await? != "lease-expired" {
                let status = unit.status().await?;
                anyhow::ensure!(clock::now() < until, "{} is still open: {status}", unit.id);
                clock::sleep(LOOK_EVERY).await;
            }
        }
        let took = (clock::now() - begun).as_secs_f64();
        let boxes = self.system.boxes.len();
        let unit = self.system.unit(&id)?;
        let tls = viewer::trust(unit.appliance.authority(), &[&TLS13])?;
        let stranger = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));
        let mut late = Viewer::named("localhost", unit.https, stranger, tls);
        let status = late.get(&key, &[]).await?.status;
        let closed = Ok((
            status == hyper::StatusCode::SERVICE_UNAVAILABLE,
            format!("{boxes} boxes closed after {took:.1} s; {status} for {stranger}"),
        ));
        let finished = play::play(&mut running, &self.content, rest).await;
        let finished = finished.map(|tally| (tally.pieces > 0, format!("{} pieces", tally.pieces)));
        Ok((closed, finished))
    }

    async fn reopened(&mut self) -> Outcome {
        let begun = clock::now();
        self.system.plane.start().await?;
        self.all_open(begun + OPEN_WITHIN).await?;
        let took = (clock::now() - begun).as_secs_f64();
        Ok((true, format!("open and known after {took:.1} s")))
    }
}
