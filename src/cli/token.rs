//! `oca token …`: signed URLs by hand, for tests and for whoever writes a back end.
//!
//! I/O: reads key files; `derive` writes one.

use super::Exit;
use crate::clock;
use crate::clock::Wall;
use crate::key;
use crate::prefix::Prefix;
use crate::serve::Route;
use crate::tls::token;
use crate::tls::token::Asked;
use crate::tls::token::Claim;
use crate::tls::token::ClientPrefix;
use crate::tls::token::FleetSecret;
use crate::tls::token::HostKey;
use crate::tls::token::Keyring;
use crate::tls::token::Presented;
use crate::tls::token::Scope;
use crate::tls::token::Signed;
use crate::units;
use crate::units::BytesPerSecond;
use anyhow::Context as _;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use serde_json::json;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print a signed URL.
    Make(MakeArgs),
    /// Tell whether a box would admit a URL, and if not, why not.
    Check(CheckArgs),
    /// Write the key file of a stand-alone box: the keys of its names, without the fleet's secret.
    Derive(DeriveArgs),
}

/// Where the keys are.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct KeyArgs {
    /// The fleet's secret (`oca control secret make`).
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// A box's key file (`oca token derive`).
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct MakeArgs {
    #[command(flatten)]
    keys: KeyArgs,
    /// The name in the URL, with a port if it is not 443.
    #[arg(long, value_name = "HOST[:PORT]")]
    host: String,
    /// What is to be fetched, or `speedtest`.
    #[arg(value_name = "KEY")]
    key: String,
    /// Sign for everything below this directory, so that relative URLs inherit the token.
    #[arg(long, value_name = "DIRECTORY")]
    below: Option<String>,
    /// How long it is good.
    #[arg(long = "for", value_name = "TIME", default_value = "3h")]
    time: String,
    /// When it was issued, RFC 3339; now, if left out.
    #[arg(long, value_name = "TIME")]
    issued: Option<Wall>,
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Good for viewers of this network only.
    #[arg(long, value_name = "PREFIX")]
    client: Option<Prefix>,
    /// No connection of the viewer gets more than this, for example `8 Mbit/s`.
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Sign with this key and not with the one that is due.
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// For a plain HTTP address.
    #[arg(long)]
    http: bool,
    /// Print JSON, with the text that is authenticated.
    #[arg(short, long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    keys: KeyArgs,
    #[arg(value_name = "URL")]
    url: String,
    /// The viewer's address.
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    client: IpAddr,
    /// At this time, RFC 3339; now, if left out.
    #[arg(long, value_name = "TIME")]
    at: Option<Wall>,
    /// Print JSON.
    #[arg(short, long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DeriveArgs {
    /// The fleet's secret.
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// The key file, mode 0600. It replaces what is there.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The box's names.
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<String>,
}

pub(super) fn token(command: &TokenCommand) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Make(args) => make(args),
        TokenCommand::Check(args) => check(args),
        TokenCommand::Derive(args) => derive(args),
    }
}

#[allow(clippy::print_stdout)]
fn make(args: &MakeArgs) -> anyhow::Result<Exit> {
    let host = canonical(&args.host)?;
    let issued = clock::unix_seconds(args.issued.unwrap_or_else(clock::wall));
    let lifetime = units::parse_duration(&args.time).context("--for")?;
    let rate = args.rate.as_deref().map(BytesPerSecond::parse).transpose();
    let found = signing_key(&args.keys, &host, issued, args.key_id.as_deref())?;
    let claim = Claim {
        scope: scope(args)?,
        issued,
        expires: issued.saturating_add(lifetime.as_secs()),
        session: args.session.as_deref(),
        client: args.client.map(ClientPrefix::new),
        rate: rate.context("--rate")?,
    };
    let Signed(text) = token::sign(&found, &claim)?;
    let scheme = if args.http { "http" } else { "https" };
    let (authority, key) = (&args.host, &args.key);
    let (url, presented) = match claim.scope {
        Scope::Key(_) => (
            format!("{scheme}://{authority}/{key}?{text}"),
            Presented::from_query(text.as_bytes())?,
        ),
        Scope::Directory(_) => (
            format!("{scheme}://{authority}/t/{text}/{key}"),
            Some(Presented::from_path(&text)?),
        ),
    };
    if args.json {
        let input = presented.map(|presented| token::input(&host, claim.scope, &presented));
        let told = json!({
            "v": 1, "url": url, "host": host, "key_id": found.id, "token": text,
            "issued": claim.issued, "expires": claim.expires, "input": input,
        });
        println!("{told}");
    } else {
        println!("{url}");
    }
    Ok(Exit::Ok)
}

/// The key itself, or the directory that it must lie in.
fn scope(args: &MakeArgs) -> anyhow::Result<Scope<'_>> {
    let Some(directory) = &args.below else {
        return Ok(Scope::Key(&args.key));
    };
    key::check(args.key.as_bytes())?;
    let rest = args.key.strip_prefix(directory.as_str());
    if !rest.is_some_and(|rest| rest.starts_with('/')) {
        bail!("{} does not lie below {directory}", args.key);
    }
    Ok(Scope::Directory(directory))
}

#[allow(clippy::print_stdout)]
fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let (authority, path, query) = split(&args.url)?;
    let now = clock::unix_seconds(args.at.unwrap_or_else(clock::wall));
    let host = canonical(authority)?;
    let ring = Keyring::new(host_keys(&args.keys, &host)?);
    let (key, in_path) = match Route::parse(path.as_bytes()) {
        Ok(Route::Content(place, token)) => (place.key, token),
        Ok(Route::Speedtest(_)) => ("speedtest", None),
        Err(error) => bail!("no box serves this path: {error}"),
    };
    let asked = Asked {
        host: Some(authority.as_bytes()),
        key,
        client: args.client,
        now: Some(now),
    };
    let presented = match in_path {
        Some(text) => Presented::from_path(text).map(Some),
        None => Presented::from_query(query.as_bytes()),
    };
    let presented = presented.and_then(|found| found.ok_or(token::TokenFault::Missing));
    let input = presented.as_ref().ok().and_then(|presented| {
        let scope = presented.scope(key)?;
        Some(token::input(&host, scope, presented))
    });
    let judged = presented.and_then(|presented| token::check(&[&ring], &presented, &asked));
    let fault = judged.as_ref().err().map(ToString::to_string);
    if args.json {
        let good = fault.is_none();
        println!(
            "{}",
            json!({ "v": 1, "good": good, "reason": fault, "input": input })
        );
    } else if let Some(fault) = &fault {
        println!("refused: {fault}");
        if let Some(input) = input {
            println!("the box authenticates: {input}");
        }
    } else if let Ok(pass) = &judged {
        let left = pass.expires.saturating_sub(now);
        println!("good for {left} s");
    }
    Ok(if fault.is_none() {
        Exit::Ok
    } else {
        Exit::Refused
    })
}

fn derive(args: &DeriveArgs) -> anyhow::Result<Exit> {
    let secret = token::load_fleet(&args.secret)?;
    let now = clock::unix_seconds(clock::wall());
    let keys = secret.host_keys(&args.hosts, now)?;
    if keys.is_empty() {
        bail!("no key of {} is in force", args.secret.display());
    }
    token::save_host(&args.output, &keys)?;
    Ok(Exit::Ok)
}

fn canonical(authority: &str) -> anyhow::Result<String> {
    token::canonical_host(authority.as_bytes())
        .with_context(|| format!("`{authority}` is no host name"))
}

/// Authority, path and query.
fn split(url: &str) -> anyhow::Result<(&str, &str, &str)> {
    let (_, rest) = url
        .split_once("://")
        .context("the URL has no `https://` or `http://`")?;
    let at = rest.find('/').context("the URL has no path")?;
    let (authority, rest) = rest.split_at(at);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok((authority, path, query))
}

fn load_secret(keys: &KeyArgs) -> anyhow::Result<Option<FleetSecret>> {
    Ok(keys.secret.as_deref().map(token::load_fleet).transpose()?)
}

fn host_keys(keys: &KeyArgs, host: &str) -> anyhow::Result<Vec<HostKey>> {
    if let Some(secret) = load_secret(keys)? {
        // Ended ones too: whether they count is the check's matter.
        let all = secret.keys().iter().map(|key| key.host_key(host));
        return Ok(all.collect::<Result<_, _>>()?);
    }
    let file = keys.keys.as_deref().context("no key file is named")?;
    Ok(token::load_host(file)?)
}

fn signing_key(keys: &KeyArgs, host: &str, now: u64, id: Option<&str>) -> anyhow::Result<HostKey> {
    let mut of_host = host_keys(keys, host)?
        .into_iter()
        .filter(|key| key.host == host);
    let found = match id {
        Some(id) => of_host.rfind(|key| key.id.as_str() == id),
        None => of_host
            .filter(|key| (key.from..key.until).contains(&now))
            .max_by_key(|key| key.from),
    };
    found.with_context(|| format!("no key for {host} is in force at that time"))
}
