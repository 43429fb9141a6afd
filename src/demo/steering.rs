//! The second act, up to where things go wrong: boxes learn whom they serve, report it, and the
//! control plane steers.
//!
//! control plane → import → registry → boxes enrol and open → routes → four clients, each decided
//! by another criterion → a partner oversteps → a viewer plays from the box it was named →
//! withdrawal → `kill -9` of a box → the control plane away for longer than the lease.
//!
//! I/O: drives [`super::system`] and viewers.

use super::content::Content;
use super::plane::Pace;
use super::play;
use super::play::Tally;
use super::report::Outcome;
use super::report::Report;
use super::router::RouterKind;
use super::speaker::Announcement;
use super::system::LONDON;
use super::system::PARIS;
use super::system::PLACES;
use super::system::Place;
use super::system::System;
use super::system::TOULOUSE;
use super::viewer;
use super::viewer::Viewer;
use crate::clock;
use crate::clock::Instant;
use crate::units::Bytes;
use anyhow::Context as _;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::version::TLS13;
use serde_json::Value;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// What a box needs to enrol, learn and open on a busy machine.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(60);

pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The viewer's own address on this machine.
const VIEWER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));

/// A client, where it is, and what should decide.
struct Case {
    step: &'static str,
    client: &'static str,
    /// Latitude and longitude, where the distance is to decide.
    at: Option<&'static str>,
    place: Place,
    decided_by: &'static str,
}

/// 192.0.2.0/25 is longer than 192.0.2.0/24; of the two paths to 198.51.100.0/24 Toulouse's is
/// shorter; London asks for 203.0.113.0/25 with the lower MED; for 203.0.113.128/25 all is equal,
/// and Madrid is nearer to Toulouse.
const CASES: [Case; 4] = [
    Case {
        step: "steer by prefix length",
        client: "192.0.2.10",
        at: None,
        place: LONDON,
        decided_by: "prefix-length",
    },
    Case {
        step: "steer by AS path",
        client: "198.51.100.10",
        at: None,
        place: TOULOUSE,
        decided_by: "as-path",
    },
    Case {
        step: "steer by MED",
        client: "203.0.113.10",
        at: None,
        place: LONDON,
        decided_by: "med",
    },
    Case {
        step: "steer by distance",
        client: "203.0.113.200",
        at: Some("40.42,-3.70"),
        place: TOULOUSE,
        decided_by: "distance",
    },
];

fn announced(place: Place) -> Vec<Announcement> {
    let route = |prefix: &str, path: &[u32], med: Option<u32>| {
        let prefix = prefix.parse().ok()?;
        let path = path.to_vec();
        Some(Announcement { prefix, path, med })
    };
    let routes = match place.cluster {
        "toulouse" => vec![
            route("192.0.2.0/24", &[], None),
            route("198.51.100.0/24", &[64510], None),
            route("203.0.113.0/25", &[], Some(20)),
            route("203.0.113.128/25", &[], Some(10)),
            route("0.0.0.0/0", &[], None),
        ],
        "london" => vec![
            route("192.0.2.0/25", &[], None),
            route("198.51.100.0/24", &[64511, 64510], None),
            route("203.0.113.0/25", &[], Some(10)),
            route("203.0.113.128/25", &[], Some(10)),
            route("2001:db8:1::/48", &[], None),
        ],
        _ => vec![route("198.18.0.0/15", &[], None)],
    };
    routes.into_iter().flatten().collect()
}

/// What the act needs.
#[derive(Debug)]
pub(super) struct Stage {
    /// `oca`.
    pub(super) program: PathBuf,
    /// Made by the act.
    pub(super) dir: PathBuf,
    pub(super) content: Arc<Content>,
    pub(super) routers: RouterKind,
    pub(super) pace: Pace,
}

/// The second act. Returns the system, running, when nothing failed that the rest needs.
pub(super) async fn run(report: &mut Report, stage: Stage) -> anyhow::Result<Option<System>> {
    let mut act = Act {
        system: System::new(&stage.program, &stage.dir, stage.pace)?,
        content: stage.content,
        pace: stage.pace,
    };
    let began = act.begin(report, stage.routers).await?;
    if !began {
        return Ok(None);
    }
    for case in &CASES {
        let expected = format!("{} first, by {}", case.place.site, case.decided_by);
        let outcome = act.decided(case).await;
        report.record(case.step, expected, outcome)?;
    }
    let expected = "a more specific prefix that is not his changes nothing";
    report.record("unapproved partner", expected, act.overstep().await)?;
    let expected = "every segment from the box that steering named, by signed URLs";
    report.record("play where steered", expected, act.play_steered().await)?;
    act.outages(report).await?;
    Ok(Some(act.system))
}

pub(super) struct Act {
    pub(super) system: System,
    pub(super) content: Arc<Content>,
    pub(super) pace: Pace,
}

/// An answer of steering, as far as the demo reads it.
#[derive(Debug)]
pub(super) struct Steered {
    pub(super) boxes: Vec<String>,
    urls: Vec<String>,
    decided_by: String,
    pub(super) why: String,
}

impl Act {
    async fn begin(&mut self, report: &mut Report, kind: RouterKind) -> anyhow::Result<bool> {
        let started = self.system.plane.start().await;
        let started = started.map(|took| (true, format!("{:.2} s", took.as_secs_f64())));
        if !report.record("control plane", "it answers", started)? {
            return Ok(false);
        }
        let files = self.content.files.len();
        let expected = format!("{files} keys; the second time nothing is read");
        report.record("import", expected, self.import().await)?;
        let registered = self.system.register().await;
        let registered = registered.map(|boxes| {
            let sites = PLACES.len();
            (boxes == 4, format!("{boxes} boxes at {sites} sites"))
        });
        if !report.record("registry", "4 boxes at 3 sites", registered)? {
            return Ok(false);
        }
        let outcome = self.start_boxes(kind).await;
        let ok = report.record("enrol", "each box by its token, and open", outcome)?;
        let learned = self.learned().await;
        report.record("routes", "as the routers announce them", learned)?;
        Ok(ok)
    }

    async fn import(&self) -> Outcome {
        let dir = self.content.dir.to_string_lossy().into_owned();
        let first = self.system.plane.control(&["import", &dir]).await?;
        let again = self.system.plane.control(&["import", &dir]).await?;
        let count = |told: &Value, name: &str| told[name].as_u64().unwrap_or(u64::MAX);
        let (keys, hashed) = (count(&first, "keys_new"), count(&again, "hashed"));
        let ok = keys == self.content.files.len() as u64 && hashed == 0;
        Ok((ok, format!("{keys} keys; again: {hashed} files read")))
    }

    async fn start_boxes(&mut self, kind: RouterKind) -> Outcome {
        let begun = clock::now();
        for unit in &mut self.system.boxes {
            unit.appliance.prefill(&self.content.dir).await?;
            unit.appliance.start().await?;
        }
        self.system.start_routers(kind, announced).await?;
        self.all_open(begun + OPEN_WITHIN).await?;
        let took = (clock::now() - begun).as_secs_f64();
        let boxes = self.system.boxes.len();
        Ok((
            true,
            format!("{boxes} boxes prefilled, enrolled and open after {took:.1} s"),
        ))
    }

    /// Every box serves and the control plane knows it.
    pub(super) async fn all_open(&self, until: Instant) -> anyhow::Result<()> {
        for unit in &self.system.boxes {
            loop {
                let gate = unit.gate().await?;
                if gate == "serving" && self.knows_open(&unit.id).await? {
                    break;
                }
                if clock::now() > until {
                    let status = unit.status().await?;
                    let log = unit.appliance.tail();
                    anyhow::bail!("{} is closed: {gate}; {status}; {log}", unit.id);
                }
                clock::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    async fn knows_open(&self, id: &str) -> anyhow::Result<bool> {
        let told = self.system.plane.control(&["boxes"]).await?;
        let rows = told["boxes"].as_array().context("no list of boxes")?;
        Ok(rows
            .iter()
            .any(|row| row["id"] == id && row["state"] == "open"))
    }

    async fn learned(&mut self) -> Outcome {
        let mut parts = Vec::new();
        for index in 0..self.system.boxes.len() {
            let place = self.system.boxes[index].place;
            let mut expected: Vec<String> = self
                .system
                .router(place)?
                .routes()
                .iter()
                .map(|route| route.prefix.to_string())
                .collect();
            expected.sort();
            let unit = &self.system.boxes[index];
            self.until_reported(&unit.id, expected.len()).await?;
            let told = unit.appliance.ask("/v1/routes").await?;
            let rows = told["routes"].as_array().context("no list of routes")?;
            let text = |row: &Value| row["prefix"].as_str().map(ToOwned::to_owned);
            let mut found: Vec<String> = rows.iter().filter_map(text).collect();
            found.sort();
            anyhow::ensure!(found == expected, "{}: {found:?} not {expected:?}", unit.id);
            parts.push(format!("{} {}", unit.place.cluster, found.len()));
        }
        Ok((true, parts.join(", ")))
    }

    /// Until the control plane has that many routes of the box.
    async fn until_reported(&self, id: &str, routes: usize) -> anyhow::Result<()> {
        let until = clock::now() + OPEN_WITHIN;
        loop {
            let told = self.system.plane.control(&["boxes"]).await?;
            let rows = told["boxes"].as_array().context("no list of boxes")?;
            let row = rows.iter().find(|row| row["id"] == id);
            if row.is_some_and(|row| row["routes"] == routes) {
                return Ok(());
            }
            anyhow::ensure!(
                clock::now() < until,
                "{id} did not report {routes} routes: {told}"
            );
            clock::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn steer(
        &self,
        client: &str,
        at: Option<&str>,
        key: &str,
    ) -> anyhow::Result<Steered> {
        let at = at.map(|at| format!("&at={at}")).unwrap_or_default();
        let path = format!("/v1/steer?client={client}&key={key}&n=4{at}");
        let told = get(self.system.plane.public, &path).await?;
        let rows = told["boxes"].as_array();
        let rows = rows.with_context(|| format!("no list of boxes: {told}"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let first = rows.first().unwrap_or(&Value::Null);
        let urls = first["urls"].as_array().into_iter().flatten();
        Ok(Steered {
            boxes: rows.iter().map(|row| text(&row["box"])).collect(),
            urls: urls.map(text).collect(),
            decided_by: text(&first["reason"]["decided_by"]),
            why: first["reason"].to_string(),
        })
    }

    pub(super) fn any_key(&self) -> anyhow::Result<String> {
        let (key, _) = self.content.largest().context("there is no file")?;
        Ok(key.to_owned())
    }

    async fn decided(&self, case: &Case) -> Outcome {
        let steered = self.steer(case.client, case.at, &self.any_key()?).await?;
        let first = steered.boxes.first().cloned().unwrap_or_default();
        let ok = first.ends_with(&label(case.place)) && steered.decided_by == case.decided_by;
        Ok((ok, format!("{first} for {}: {}", case.client, steered.why)))
    }

    /// Paris announces a /26 out of the middle of what is London's and Toulouse's.
    async fn overstep(&mut self) -> Outcome {
        let (client, key) = ("192.0.2.10", self.any_key()?);
        let before = self.steer(client, None, &key).await?.boxes;
        let router = self.system.router(PARIS)?;
        let mut routes = router.routes().to_vec();
        let prefix = "192.0.2.0/26".parse().context("a prefix")?;
        routes.push(Announcement {
            prefix,
            path: Vec::new(),
            med: None,
        });
        router.announce(routes).await?;
        self.until_explained(client, &key, "not-approved").await?;
        let after = self.steer(client, None, &key).await?.boxes;
        let ok = before == after && !after.iter().any(|id| id.ends_with(&label(PARIS)));
        Ok((
            ok,
            format!(
                "{} for {} before and after; shown as not-approved",
                after.join(", "),
                client
            ),
        ))
    }

    /// Until steering itself has seen what `explain` is to say.
    async fn until_explained(&self, client: &str, key: &str, words: &str) -> anyhow::Result<()> {
        let until = clock::now() + OPEN_WITHIN;
        loop {
            let told = self.system.plane.control(&["explain", client, key]).await?;
            if told.to_string().contains(words) {
                return Ok(());
            }
            anyhow::ensure!(clock::now() < until, "explain never said {words}: {told}");
            clock::sleep(LOOK_EVERY).await;
        }
    }

    /// A viewer at the first box that steering names for `client`.
    pub(super) async fn viewer(&self, client: &str, key: &str) -> anyhow::Result<(String, Viewer)> {
        let steered = self.steer(client, None, key).await?;
        let url = steered.urls.first().context("steering names no box")?;
        let rest = url.strip_prefix("https://").context("not an HTTPS URL")?;
        let (authority, path) = rest.split_once('/').context("no path in the URL")?;
        anyhow::ensure!(path.ends_with(key), "{url} is not of {key}");
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        let unit = self.system.resolve(host)?;
        let tls = viewer::trust(unit.appliance.authority(), &[&TLS13])?;
        Ok((
            unit.id.clone(),
            Viewer::named(host, unit.https, VIEWER, tls).with_token_of(path),
        ))
    }

    async fn play_steered(&self) -> Outcome {
        // The token of a playlist's URL covers what the playlist names.
        let key = match self.content.playlists.first() {
            Some(playlist) => playlist.clone(),
            None => self.any_key()?,
        };
        let (id, mut viewer) = self.viewer("198.51.100.10", &key).await?;
        let plan = play::plan(&mut viewer, &self.content).await?;
        let Tally { pieces, bytes } = play::play(&mut viewer, &self.content, &plan.pieces).await?;
        let (bytes, signed) = (Bytes(bytes), viewer.signed);
        Ok((
            pieces > 0 && (signed > 0 || !key.contains('/')),
            format!("{pieces} pieces, {bytes} from {id}; {signed} requests with its token"),
        ))
    }
}

/// What the names of the boxes of a place end in.
pub(super) fn label(place: Place) -> String {
    place.site.to_ascii_lowercase().replace('.', "-")
}

/// GETs JSON over plain HTTP.
pub(super) async fn get(server: std::net::SocketAddr, path: &str) -> anyhow::Result<Value> {
    let stream = TcpStream::connect(server)
        .await
        .context("no control plane")?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("Host", server.to_string())
        .body(Empty::<hyper::body::Bytes>::new())?;
    let response = sender.send_request(request).await.context("no answer")?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    anyhow::ensure!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_slice(&body).with_context(|| format!("{path}: no JSON: {text}"))
}
