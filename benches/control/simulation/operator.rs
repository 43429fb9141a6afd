//! The operator: fills an empty control plane over its admin socket, as people and their scripts
//! do.
//!
//! Partners with what they may announce, their sites, clusters, boxes that may serve, content from
//! a directory, and one token a box.
//!
//! I/O: asks the admin socket, writes the content.

use super::CLUSTER_BOXES;
use super::Options;
use super::SITE_BOXES;
use super::routes;
use anyhow::Context as _;
use oca::cli::client::Client;
use oca::clock;
use oca::ids::BoxId;
use oca::ids::SiteName;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Bundles and keys of each: what every box holds.
const BUNDLES: u32 = 150;
const BUNDLE_KEYS: u32 = 20;

/// For some thousand small files.
const IMPORT_TIME_MAX: Duration = Duration::from_secs(120);
const IMPORT_ASKED_EVERY: Duration = Duration::from_millis(100);

/// What the operator hands to whoever installs the boxes.
#[derive(Debug)]
pub(super) struct Provisioning {
    /// `sha256:…` of the authority.
    pub(super) ca: String,
    pub(super) tokens: BTreeMap<BoxId, String>,
}

/// `c001-tls001-p7-isp`: two boxes a site, one site a provider.
pub(super) fn box_id(number: u32) -> anyhow::Result<BoxId> {
    let place = number % SITE_BOXES + 1;
    let label = site(number / SITE_BOXES)?.label();
    Ok(BoxId::parse(&format!("c{place:03}-{label}"))?)
}

fn site(provider: u32) -> anyhow::Result<SiteName> {
    Ok(SiteName::parse(&format!("TLS001.p{provider}.isp"))?)
}

/// Some key of the content.
pub(super) fn key(random: u32) -> String {
    let bundle = random % BUNDLES;
    format!(
        "title-{bundle}/r1/seg-{}.m4s",
        random / BUNDLES % BUNDLE_KEYS
    )
}

/// Fills it. Blocks.
pub(super) fn provision(
    socket: &Path,
    media: &Path,
    options: &Options,
) -> anyhow::Result<Provisioning> {
    let client = Client::new(socket)?;
    let give = |path: &str, body: Value| -> anyhow::Result<Value> {
        let given = client.post(path, &body);
        given.with_context(|| format!("{path} {body}"))
    };
    for cluster in 0..options.boxes.div_ceil(CLUSTER_BOXES) {
        give("/v1/clusters", json!({"name": cluster_name(cluster)}))?;
    }
    for provider in 0..options.boxes.div_ceil(SITE_BOXES) {
        let partner = format!("p{provider}");
        give("/v1/partners", json!({"name": partner}))?;
        let prefixes = routes::approved(provider);
        let approval = json!({"partner": partner, "prefixes": prefixes});
        give("/v1/partners/approve", approval)?;
        let site = json!({"name": site(provider)?, "partner": partner});
        give("/v1/sites", site)?;
    }
    import(&client, media)?;
    let (mut tokens, mut ca) = (BTreeMap::new(), String::new());
    for number in 0..options.boxes {
        let id = box_id(number)?;
        // Documentation has IPv4 addresses for some of the boxes only.
        let ipv4 = (number < 254).then(|| format!("203.0.113.{}", number + 1));
        let appliance = json!({
            "id": id,
            "cluster": cluster_name(number / CLUSTER_BOXES),
            "profile": "storage",
            "ipv4": ipv4,
            "ipv6": format!("2001:db8:ffff::{:x}", number + 1),
            "capacity": "1 TB",
            "enabled": true,
        });
        give("/v1/appliances", appliance)?;
        let given = give("/v1/appliances/token", json!({"id": id}))?;
        tokens.insert(id, text(&given, "token")?);
        ca = text(&given, "ca")?;
    }
    Ok(Provisioning { ca, tokens })
}

/// Boxes that viewers would be sent to. Blocks.
pub(super) fn open_boxes(socket: &Path) -> anyhow::Result<u64> {
    let status = Client::new(socket)?.get("/v1/status")?;
    let states = &status["boxes"]["states"];
    eprintln!("boxes by state: {states}");
    Ok(states["open"].as_u64().unwrap_or(0))
}

fn import(client: &Client, media: &Path) -> anyhow::Result<()> {
    for number in 0..BUNDLES * BUNDLE_KEYS {
        let name = key(number);
        let path = media.join(&name);
        let folder = path.parent().context("a key without a folder")?;
        fs::create_dir_all(folder)?;
        fs::write(path, name)?;
    }
    let begun = clock::now();
    client.post("/v1/import", &json!({"source": media}))?;
    loop {
        let state = client.get("/v1/import")?;
        if state["running"] == false {
            anyhow::ensure!(state["error"].is_null(), "{state}");
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < IMPORT_TIME_MAX, "{state}");
        clock::block_for(IMPORT_ASKED_EVERY);
    }
}

fn cluster_name(cluster: u32) -> String {
    format!("cluster-{cluster}")
}

fn text(answer: &Value, member: &str) -> anyhow::Result<String> {
    let text = answer[member].as_str();
    Ok(text
        .with_context(|| format!("no {member}: {answer}"))?
        .to_owned())
}
