//! Partners, sites, clusters and boxes as rows, all read at once.
//!
//! Writing checks the rules that need other rows: who is approved for what, what stands where.

use super::fault::Fault;
use super::fill_rows;
use super::rows;
use super::rules;
use crate::control::model::Appliance;
use crate::control::model::Approval;
use crate::control::model::Cluster;
use crate::control::model::Partner;
use crate::control::model::Registry;
use crate::control::model::Site;
use crate::control::model::SiteFill;
use crate::ids::BoxId;
use crate::ids::Profile;
use crate::ids::SiteName;
use crate::prefix::Prefix;
use crate::route::Asn;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use std::net::IpAddr;

/// Everything, for one snapshot. The caller's transaction keeps the tables of one moment.
pub(super) async fn load(connection: &mut AnyConnection) -> Result<Registry, Fault> {
    let mut registry = Registry {
        revision: revision(connection, REGISTRY).await?,
        ..Registry::default()
    };
    let partners = "SELECT name, title FROM partner";
    for row in sqlx::query(partners).fetch_all(&mut *connection).await? {
        let name = rows::text(&row, 0)?;
        let partner = Partner {
            name: name.clone(),
            title: rows::text(&row, 1)?,
            approvals: Vec::new(),
        };
        registry.partners.insert(name, partner);
    }
    for (partner, approval) in approvals(connection).await? {
        if let Some(partner) = registry.partners.get_mut(&partner) {
            partner.approvals.push(approval);
        }
    }
    for partner in registry.partners.values_mut() {
        partner.approvals.sort_unstable();
    }
    let sites = "SELECT label, name, partner, latitude, longitude, timezone, open, fill_start, \
                 fill_length, rate_limit_bps FROM site";
    for row in sqlx::query(sites).fetch_all(&mut *connection).await? {
        registry.sites.insert(rows::text(&row, 0)?, site(&row)?);
    }
    for row in sqlx::query("SELECT name, fill_cluster FROM cluster")
        .fetch_all(&mut *connection)
        .await?
    {
        let name = rows::text(&row, 0)?;
        let cluster = Cluster {
            name: name.clone(),
            fill_cluster: rows::text(&row, 1)?,
        };
        registry.clusters.insert(name, cluster);
    }
    registry.fill_clusters = fill_rows::fill_clusters(connection).await?;
    registry.grants = fill_rows::grants(connection).await?;
    registry.prefilling = fill_rows::prefilling(connection).await?;
    for row in sqlx::query(APPLIANCES).fetch_all(&mut *connection).await? {
        let appliance = appliance(&row)?;
        registry.appliances.insert(appliance.id.clone(), appliance);
    }
    Ok(registry)
}

/// Names of the revision counters.
pub(super) const REGISTRY: &str = "registry";
pub(super) const LIBRARY: &str = "library";

pub(super) async fn revision(connection: &mut AnyConnection, name: &str) -> Result<u64, Fault> {
    let row = sqlx::query("SELECT value FROM counter WHERE name = $1")
        .bind(name)
        .fetch_one(connection)
        .await?;
    rows::number(&row, 0)
}

pub(super) async fn raise(connection: &mut AnyConnection, name: &str) -> Result<(), Fault> {
    sqlx::query("UPDATE counter SET value = value + 1 WHERE name = $1")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn put_partner(
    connection: &mut AnyConnection,
    partner: &Partner,
) -> Result<(), Fault> {
    rules::name("partner", &partner.name)?;
    rules::title(&partner.title)?;
    sqlx::query(
        "INSERT INTO partner (name, title) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET title = excluded.title",
    )
    .bind(partner.name.as_str())
    .bind(partner.title.as_str())
    .execute(&mut *connection)
    .await?;
    raise(connection, REGISTRY).await
}

pub(super) async fn approve(
    connection: &mut AnyConnection,
    partner: &str,
    approval: Approval,
) -> Result<(), Fault> {
    exists(connection, "partner", partner).await?;
    rules::approval(approval)?;
    let all = approvals(connection).await?;
    if all
        .iter()
        .any(|(other, held)| other == partner && *held == approval)
    {
        return Ok(());
    }
    if let Some((other, held)) = all
        .iter()
        .find(|(other, held)| other != partner && rules::conflict(*held, approval))
    {
        let (wanted, held) = (rules::subject(approval), rules::subject(*held));
        return Err(Fault::refused(format!(
            "{wanted} of partner `{partner}` conflicts with {held} of partner `{other}`: one \
             address space steers for one partner; disapprove the other one first"
        )));
    }
    let (prefix, origin) = match approval {
        Approval::Prefix(prefix) => (Some(prefix.to_string()), None),
        Approval::Origin(asn) => (None, Some(i64::from(asn.0))),
    };
    sqlx::query("INSERT INTO approval (partner, subject, prefix, origin) VALUES ($1, $2, $3, $4)")
        .bind(partner)
        .bind(rules::subject(approval))
        .bind(prefix)
        .bind(origin)
        .execute(&mut *connection)
        .await?;
    raise(connection, REGISTRY).await
}

pub(super) async fn disapprove(
    connection: &mut AnyConnection,
    partner: &str,
    approval: Approval,
) -> Result<(), Fault> {
    exists(connection, "partner", partner).await?;
    let subject = rules::subject(approval);
    let gone = sqlx::query("DELETE FROM approval WHERE partner = $1 AND subject = $2")
        .bind(partner)
        .bind(subject.as_str())
        .execute(&mut *connection)
        .await?;
    if gone.rows_affected() == 0 {
        return Err(Fault::not_found(format!(
            "an approval of {subject} for partner `{partner}`"
        )));
    }
    raise(connection, REGISTRY).await
}

pub(super) async fn put_site(connection: &mut AnyConnection, site: &Site) -> Result<(), Fault> {
    rules::site(site)?;
    exists(connection, "partner", &site.partner).await?;
    let label = site.name.label();
    let known = sqlx::query("SELECT name FROM site WHERE label = $1")
        .bind(label.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(row) = known {
        let name = rows::text(&row, 0)?;
        if name != site.name.as_str() {
            return Err(Fault::refused(format!(
                "site `{}` exists as `{name}`: both have the label {label}; use that spelling",
                site.name
            )));
        }
    }
    sqlx::query(
        "INSERT INTO site (label, name, partner, latitude, longitude, timezone, open, fill_start, \
         fill_length, rate_limit_bps) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (label) DO UPDATE SET partner = excluded.partner, \
         latitude = excluded.latitude, longitude = excluded.longitude, \
         timezone = excluded.timezone, open = excluded.open, fill_start = excluded.fill_start, \
         fill_length = excluded.fill_length, rate_limit_bps = excluded.rate_limit_bps",
    )
    .bind(label)
    .bind(site.name.as_str())
    .bind(site.partner.as_str())
    .bind(site.latitude)
    .bind(site.longitude)
    .bind(site.timezone.as_str())
    .bind(rows::bit(site.open))
    .bind(i64::from(site.fill.start_s))
    .bind(rows::micros(site.fill.length))
    .bind(site.fill.rate_limit_bps.map(rows::signed))
    .execute(&mut *connection)
    .await?;
    raise(connection, REGISTRY).await
}

pub(super) async fn put_cluster(
    connection: &mut AnyConnection,
    cluster: &Cluster,
) -> Result<(), Fault> {
    rules::name("cluster", &cluster.name)?;
    exists(connection, "fill_cluster", &cluster.fill_cluster).await?;
    sqlx::query(
        "INSERT INTO cluster (name, fill_cluster) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET fill_cluster = excluded.fill_cluster",
    )
    .bind(cluster.name.as_str())
    .bind(cluster.fill_cluster.as_str())
    .execute(&mut *connection)
    .await?;
    raise(connection, REGISTRY).await
}

pub(super) async fn put_appliance(
    connection: &mut AnyConnection,
    appliance: &Appliance,
) -> Result<(), Fault> {
    rules::appliance(appliance)?;
    let site = sqlx::query("SELECT name FROM site WHERE label = $1")
        .bind(appliance.site.as_str())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| Fault::not_found(format!("site `{}`", appliance.site)))?;
    let site: SiteName = rows::parsed(&site, 0)?;
    let belongs = appliance.id.belongs_to(&site);
    belongs.map_err(|error| Fault::refused(error.to_string()))?;
    exists(connection, "cluster", &appliance.cluster).await?;
    for address in [
        appliance.ipv4.map(IpAddr::V4),
        appliance.ipv6.map(IpAddr::V6),
    ] {
        refuse_taken(connection, appliance, address).await?;
    }
    sqlx::query(
        "INSERT INTO appliance (id, site, cluster, profile, ipv4, ipv6, https_port, peer_port, \
         capacity, enabled, quarantined, revoked, key_fingerprint, certificate_ends) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL, 0, NULL, NULL) \
         ON CONFLICT (id) DO UPDATE SET site = excluded.site, cluster = excluded.cluster, \
         profile = excluded.profile, ipv4 = excluded.ipv4, ipv6 = excluded.ipv6, \
         https_port = excluded.https_port, peer_port = excluded.peer_port, \
         capacity = excluded.capacity",
    )
    .bind(appliance.id.as_str())
    .bind(appliance.site.as_str())
    .bind(appliance.cluster.as_str())
    .bind(profile_name(appliance.profile))
    .bind(appliance.ipv4.map(|address| address.to_string()))
    .bind(appliance.ipv6.map(|address| address.to_string()))
    .bind(i64::from(appliance.https_port))
    .bind(i64::from(appliance.peer_port))
    .bind(rows::signed(appliance.capacity))
    .bind(rows::bit(appliance.enabled))
    .execute(&mut *connection)
    .await?;
    raise(connection, REGISTRY).await
}

/// Viewers of one box must not reach another one. Boxes notice by its certificate, so that a
/// laboratory may have many boxes behind one address without a peer port each.
async fn refuse_taken(
    connection: &mut AnyConnection,
    appliance: &Appliance,
    address: Option<IpAddr>,
) -> Result<(), Fault> {
    let Some(address) = address else {
        return Ok(());
    };
    let question = "SELECT id FROM appliance WHERE (ipv4 = $1 OR ipv6 = $1) AND https_port = $2 \
                    AND id <> $3";
    let other = sqlx::query(question)
        .bind(address.to_string())
        .bind(i64::from(appliance.https_port))
        .bind(appliance.id.as_str())
        .fetch_optional(connection)
        .await?;
    let Some(other) = other else {
        return Ok(());
    };
    Err(Fault::refused(format!(
        "box {} has {address} port {} already; give {} another address or port",
        rows::text(&other, 0)?,
        appliance.https_port,
        appliance.id,
    )))
}

pub(super) async fn set_enabled(
    connection: &mut AnyConnection,
    id: &BoxId,
    enabled: bool,
) -> Result<(), Fault> {
    let changed = sqlx::query("UPDATE appliance SET enabled = $1 WHERE id = $2")
        .bind(rows::bit(enabled))
        .bind(id.as_str())
        .execute(&mut *connection)
        .await?;
    if changed.rows_affected() == 0 {
        return Err(Fault::not_found(format!("box `{id}`")));
    }
    if enabled {
        fill_rows::ship(connection, id).await?;
    }
    raise(connection, REGISTRY).await
}

async fn approvals(connection: &mut AnyConnection) -> Result<Vec<(String, Approval)>, Fault> {
    let all = "SELECT partner, prefix, origin FROM approval ORDER BY subject";
    let mut approvals = Vec::new();
    for row in sqlx::query(all).fetch_all(connection).await? {
        let prefix: Option<String> = row.try_get(1)?;
        let approval = match prefix {
            Some(text) => Approval::Prefix(
                Prefix::try_from(text).map_err(|error| rows::broken(error.to_string()))?,
            ),
            None => Approval::Origin(Asn(rows::number(&row, 2)?)),
        };
        approvals.push((rows::text(&row, 0)?, approval));
    }
    Ok(approvals)
}

pub(super) async fn exists(
    connection: &mut AnyConnection,
    table: &'static str,
    name: &str,
) -> Result<(), Fault> {
    let question = match table {
        "partner" => "SELECT name FROM partner WHERE name = $1",
        "fill_cluster" => "SELECT name FROM fill_cluster WHERE name = $1",
        _ => "SELECT name FROM cluster WHERE name = $1",
    };
    let found = sqlx::query(question)
        .bind(name)
        .fetch_optional(connection)
        .await?;
    match found {
        Some(_) => Ok(()),
        None => {
            let name = crate::help::printable(name.as_bytes(), 60);
            let kind = match table {
                "fill_cluster" => "policy",
                kind => kind,
            };
            Err(Fault::not_found(format!("{kind} `{name}`")))
        }
    }
}

fn site(row: &AnyRow) -> Result<Site, Fault> {
    Ok(Site {
        name: rows::parsed(row, 1)?,
        partner: rows::text(row, 2)?,
        latitude: row.try_get(3)?,
        longitude: row.try_get(4)?,
        timezone: rows::text(row, 5)?,
        open: rows::flag(row, 6)?,
        fill: SiteFill {
            start_s: rows::number(row, 7)?,
            length: rows::duration(row, 8)?.ok_or_else(|| rows::broken("no window length"))?,
            rate_limit_bps: rows::optional(row, 9)?,
        },
    })
}

const APPLIANCES: &str = "SELECT id, site, cluster, profile, ipv4, ipv6, https_port, peer_port, \
                          capacity, enabled, quarantined, revoked, key_fingerprint, \
                          certificate_ends FROM appliance";

fn appliance(row: &AnyRow) -> Result<Appliance, Fault> {
    Ok(Appliance {
        id: rows::parsed(row, 0)?,
        site: rows::text(row, 1)?,
        cluster: rows::text(row, 2)?,
        profile: profile(&rows::text(row, 3)?)?,
        ipv4: address(row, 4)?,
        ipv6: address(row, 5)?,
        https_port: rows::number(row, 6)?,
        peer_port: rows::number(row, 7)?,
        capacity: rows::number(row, 8)?,
        enabled: rows::flag(row, 9)?,
        quarantined: row.try_get(10)?,
        revoked: rows::flag(row, 11)?,
        key_fingerprint: row.try_get(12)?,
        certificate_ends: rows::wall(row, 13)?,
    })
}

fn address<T: std::str::FromStr>(row: &AnyRow, column: usize) -> Result<Option<T>, Fault> {
    let text: Option<String> = row.try_get(column)?;
    let parse = |text: String| {
        let broken = || rows::broken(format!("`{text}` is not an address"));
        text.parse().map_err(|_| broken())
    };
    text.map(parse).transpose()
}

fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Storage => "storage",
        Profile::Global => "global",
        Profile::Flash => "flash",
    }
}

fn profile(name: &str) -> Result<Profile, Fault> {
    match name {
        "storage" => Ok(Profile::Storage),
        "global" => Ok(Profile::Global),
        "flash" => Ok(Profile::Flash),
        other => Err(rows::broken(format!("`{other}` is not a profile"))),
    }
}
