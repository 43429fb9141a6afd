//! `oca bgp up|down|refresh|mrt`: one BGP session told what to do, and MRT files for support.
//!
//! The daemon writes no file: what it has is fetched over its socket and written here.
//!
//! I/O: asks the daemon, writes a file and standard output.

use super::Exit;
use super::SocketArgs;
use super::act;
use super::client::Client;
use super::client::ClientError;
use super::show::told;
use super::table;
use crate::clock;
use crate::units;
use clap::Subcommand;
use serde_json::json;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Messages are fetched this often; the daemon keeps them ten seconds and 16 MiB long.
const FETCH_EVERY: Duration = Duration::from_millis(250);

/// A file for support is to be sent to somebody.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// Longer belongs to a route collector.
const LIVE_MAX: Duration = Duration::from_secs(3_600);

#[derive(Debug, Subcommand)]
pub(super) enum BgpCommand {
    /// Bring a session up again that was taken down or that a limit has stopped.
    Up {
        /// The neighbour; an unambiguous beginning is enough.
        neighbour: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// End a session (CEASE, administrative shutdown); it stays down until `up` or a restart.
    Down {
        /// The neighbour; an unambiguous beginning is enough.
        neighbour: String,
        /// What the router's operator is told (RFC 9003), at most 255 bytes.
        #[arg(long, value_name = "TEXT", default_value = "")]
        text: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Have the router send its routes again (RFC 2918).
    Refresh {
        /// The neighbour; an unambiguous beginning is enough.
        neighbour: String,
        /// Only of this family.
        #[arg(long, value_parser = ["ipv4", "ipv6"])]
        family: Option<String>,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Write what was learned as MRT (RFC 6396), for `bgpdump` and its like.
    Mrt {
        /// A file that does not exist yet.
        file: PathBuf,
        /// Not the table, but messages as they pass, for this long, for example `60s`.
        #[arg(long, value_name = "TIME")]
        live: Option<String>,
        #[command(flatten)]
        socket: SocketArgs,
    },
}

pub(super) fn bgp(command: &BgpCommand) -> anyhow::Result<Exit> {
    match command {
        BgpCommand::Up { neighbour, socket } => {
            let body = json!({"neighbour": neighbour});
            act::give(socket, "/v1/bgp/up", &body, |answer| {
                format!("{} is being brought up", table::cell(&answer["neighbour"]))
            })
        }
        BgpCommand::Down {
            neighbour,
            text,
            socket,
        } => {
            let body = json!({"neighbour": neighbour, "text": text});
            act::give(socket, "/v1/bgp/down", &body, |answer| {
                let name = table::cell(&answer["neighbour"]);
                format!("{name} is down until `oca bgp up {name}` or a restart")
            })
        }
        BgpCommand::Refresh {
            neighbour,
            family,
            socket,
        } => {
            let body = json!({"neighbour": neighbour, "family": family});
            act::give(socket, "/v1/bgp/refresh", &body, |answer| {
                let name = table::cell(&answer["neighbour"]);
                format!("{name} was asked to send its routes again")
            })
        }
        BgpCommand::Mrt { file, live, socket } => mrt(file, live.as_deref(), socket),
    }
}

fn mrt(path: &Path, live: Option<&str>, socket: &SocketArgs) -> anyhow::Result<Exit> {
    let live = match live.map(units::parse_duration).transpose() {
        Ok(live) if live.is_none_or(|time| !time.is_zero() && time <= LIVE_MAX) => live,
        Ok(_) => {
            eprintln!("oca: --live: more than nothing and at most 1h");
            return Ok(Exit::Usage);
        }
        Err(problem) => {
            eprintln!("oca: --live: {problem}");
            return Ok(Exit::Usage);
        }
    };
    let client = Client::new(&socket.socket)?;
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) => {
            eprintln!(
                "oca: {}: {error}; name a file that can be made",
                path.display()
            );
            return Ok(Exit::Failed);
        }
    };
    let outcome = match live {
        None => client
            .download("/v1/bgp/mrt", &mut file, FILE_BYTES_MAX)
            .map(|bytes| (bytes, 0)),
        Some(time) => messages(&client, &mut file, time),
    };
    let (bytes, lost) = match outcome {
        Ok(counts) => counts,
        Err(error) => {
            // A file that is not whole would be taken for one that is.
            let _ = std::fs::remove_file(path);
            return Ok(told(&error));
        }
    };
    let answer = json!({"v": 1, "file": path, "bytes": bytes, "lost": lost});
    let text = match (socket.json, lost) {
        (true, _) => answer.to_string(),
        (false, 0) => format!("{}: {bytes} bytes", path.display()),
        (false, lost) => format!(
            "{}: {bytes} bytes; {lost} records were lost",
            path.display()
        ),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(Exit::Ok)
}

/// Bytes written, and records that the daemon could not keep until they were fetched.
fn messages(client: &Client, file: &mut File, time: Duration) -> Result<(u64, u64), ClientError> {
    let ends = clock::now() + time;
    let (mut after, mut bytes, mut lost) = (None, 0_u64, 0_u64);
    loop {
        let is_last = clock::now() >= ends;
        let body = json!({"after": after}).to_string().into_bytes();
        let page = client.post_for_bytes("/v1/bgp/tap", body)?;
        let number = |name: &str| page.header(name).and_then(|text| text.parse::<u64>().ok());
        let unexpected =
            || ClientError::Failed("the answer does not say where to go on".to_owned());
        after = Some(number("x-oca-next").ok_or_else(unexpected)?);
        lost += number("x-oca-lost").unwrap_or(0);
        bytes += page.bytes.len() as u64;
        if bytes > FILE_BYTES_MAX {
            let message = format!("more than {FILE_BYTES_MAX} bytes; ask for less time");
            return Err(ClientError::Failed(message));
        }
        let written = file.write_all(&page.bytes);
        written.map_err(|error| ClientError::Failed(format!("the file: {error}")))?;
        if is_last {
            return Ok((bytes, lost));
        }
        // A full page means that more is waiting.
        if page.bytes.is_empty() {
            let left = ends.saturating_duration_since(clock::now());
            clock::block_for(FETCH_EVERY.min(left));
        }
    }
}
