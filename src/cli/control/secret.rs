//! `oca control secret …`: the file that viewers' URLs are signed with.
//!
//! Works on the file itself; a running control plane takes the change within a minute.
//!
//! I/O: reads and writes the file.

use super::super::Exit;
use crate::clock;
use crate::clock::Wall;
use crate::tls::token;
use crate::tls::token::FleetKey;
use crate::tls::token::FleetSecret;
use crate::tls::token::KeyId;
use crate::tls::token::Secret;
use crate::units;
use anyhow::Context as _;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SecretCommand {
    /// Make the file, with one secret that signs at once.
    Make(NextArgs),
    /// Add the next secret, and drop those that have ended.
    Rotate(RotateArgs),
    /// Key ids and their times; never a secret.
    Show(FileArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FileArgs {
    /// `[tokens] secret_file` of control.toml.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON.
    #[arg(short, long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NextArgs {
    #[command(flatten)]
    file: FileArgs,
    /// How long it is good.
    #[arg(long = "for", value_name = "TIME", default_value = "90d")]
    time: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RotateArgs {
    #[command(flatten)]
    next: NextArgs,
    /// When it begins to sign: until then every box must have heard of it.
    #[arg(long = "in", value_name = "TIME", default_value = "1d")]
    delay: String,
}

pub(super) fn secret(command: &SecretCommand) -> anyhow::Result<Exit> {
    match command {
        SecretCommand::Make(args) => make(args),
        SecretCommand::Rotate(args) => rotate(args),
        SecretCommand::Show(args) => {
            show(args, &token::load_fleet(&args.file)?);
            Ok(Exit::Ok)
        }
    }
}

fn make(args: &NextArgs) -> anyhow::Result<Exit> {
    let file = &args.file.file;
    if file.try_exists()? {
        let file = file.display();
        bail!("{file} is there already; add a secret to it with `oca control secret rotate`");
    }
    let secret = FleetSecret::new(vec![next(Duration::ZERO, &args.time)?])?;
    token::save_fleet(file, &secret)?;
    show(&args.file, &secret);
    Ok(Exit::Ok)
}

fn rotate(args: &RotateArgs) -> anyhow::Result<Exit> {
    let file = &args.next.file;
    let old = token::load_fleet(&file.file)?;
    let delay = units::parse_duration(&args.delay).context("--in")?;
    let now = clock::unix_seconds(clock::wall());
    let mut keys: Vec<FleetKey> = old.keys().to_vec();
    keys.retain(|key| key.until > now);
    keys.push(next(delay, &args.next.time)?);
    let secret = FleetSecret::new(keys)?;
    token::save_fleet(&file.file, &secret)?;
    show(file, &secret);
    Ok(Exit::Ok)
}

/// Its id is the second from which it signs, so that ids differ and sort by age.
fn next(delay: Duration, time: &str) -> anyhow::Result<FleetKey> {
    let time = units::parse_duration(time).context("--for")?;
    let from = clock::unix_seconds(clock::wall()).saturating_add(delay.as_secs());
    Ok(FleetKey {
        id: KeyId::parse(&format!("k{from}"))?,
        from,
        until: from.saturating_add(time.as_secs()),
        secret: Secret::random()?,
    })
}

#[allow(clippy::print_stdout)]
fn show(args: &FileArgs, secret: &FleetSecret) {
    let now = clock::unix_seconds(clock::wall());
    let signing = secret.signing(now).map(|key| key.id.clone());
    let time = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        Wall::from_second(seconds).unwrap_or(Wall::MAX).to_string()
    };
    if args.json {
        let keys = secret.keys().iter().map(|key| {
            let signs = signing.as_ref() == Some(&key.id);
            json!({ "id": key.id, "from": time(key.from), "until": time(key.until), "signs": signs })
        });
        println!("{}", json!({ "v": 1, "keys": keys.collect::<Vec<_>>() }));
        return;
    }
    for key in secret.keys() {
        let mark = if signing.as_ref() == Some(&key.id) {
            "signs"
        } else {
            ""
        };
        println!(
            "{}  {}  {}  {mark}",
            key.id,
            time(key.from),
            time(key.until)
        );
    }
}
