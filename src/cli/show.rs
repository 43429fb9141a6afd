//! `oca show WHAT`: what a running box is and does.
//!
//! I/O: asks the daemon, writes standard output.

use super::Exit;
use super::SocketArgs;
use super::client::Client;
use super::client::ClientError;
use super::fill;
use super::show_routing;
use super::table;
use super::table::Medium;
use crate::help;
use crate::units::Bytes;
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;
use std::io;
use std::io::Write;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// `status`, `bgp`, `routes [PREFIX|IP]`, `catalogue [KEY]`, `disks`, `fill`, …; an unambiguous
    /// beginning is enough.
    what: String,
    /// A key or the beginning of keys, for `catalogue`. For `routes`: a prefix with what it covers,
    /// an address with what covers it, `count`, `filtered`, or `from` and a neighbour. For `bgp`:
    /// `all`, or a neighbour.
    argument: Option<String>,
    /// The neighbour, for `routes from NEIGHBOUR`.
    second: Option<String>,
    /// With `fill`: the nights that were.
    #[arg(long)]
    nights: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Status,
    Bgp,
    Routes,
    Catalogue,
    Disks,
    Serving,
    Connections,
    Tls,
    Quality,
    Config,
    Prefill,
    Fill,
}

const TOPICS: [(&str, Topic); 12] = [
    ("status", Topic::Status),
    ("bgp", Topic::Bgp),
    ("routes", Topic::Routes),
    ("catalogue", Topic::Catalogue),
    ("disks", Topic::Disks),
    ("serving", Topic::Serving),
    ("connections", Topic::Connections),
    ("tls", Topic::Tls),
    ("quality", Topic::Quality),
    ("config", Topic::Config),
    ("prefill", Topic::Prefill),
    ("fill", Topic::Fill),
];

/// How a question ended without an answer shown.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Output(#[from] io::Error),
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let topic = match topic(&args.what) {
        Ok(topic) => topic,
        Err(problem) => {
            eprintln!("oca: {problem}");
            return Ok(Exit::Usage);
        }
    };
    let argument = args.argument.as_deref();
    if args.second.is_some() && !(topic == Topic::Routes && argument == Some("from")) {
        eprintln!("oca: only `oca show routes from NEIGHBOUR` takes two words");
        return Ok(Exit::Usage);
    }
    if let Some(text) = show_routing::special(topic, argument) {
        return show_routing::show(&text, &args.socket);
    }
    let list = match list_for(topic, (argument, args.second.as_deref())) {
        Ok(list) => list,
        Err(problem) => {
            eprintln!("oca: {problem}");
            return Ok(Exit::Usage);
        }
    };
    if args.nights && topic != Topic::Fill {
        eprintln!("oca: only `oca show fill` takes --nights");
        return Ok(Exit::Usage);
    }
    let client = Client::new(&args.socket.socket)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let medium = Medium::of_stdout();
    let shown = match list {
        Some(list) => pages(&client, &list, args.socket.json, medium, &mut out),
        None if topic == Topic::Fill && !args.socket.json => {
            let path = if args.nights {
                fill::NIGHTS
            } else {
                path(topic)
            };
            let answer = client.get(path);
            let shown = answer.map(|answer| fill::shown(&answer, args.nights, medium));
            shown
                .map_err(ShowError::from)
                .and_then(|text| Ok(out.write_all(text.as_bytes())?))
        }
        None if args.nights => {
            let text = client.get_text(fill::NIGHTS).map_err(ShowError::from);
            text.and_then(|text| Ok(out.write_all(text.as_bytes())?))
        }
        None => whole(&client, topic, args.socket.json, medium, &mut out),
    };
    match shown.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => Ok(Exit::Ok),
        Err(ShowError::Client(error)) => Ok(told(&error)),
        // `oca show catalogue | head` has seen enough.
        Err(ShowError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(ShowError::Output(error)) => Err(error.into()),
    }
}

/// Prints why there is no answer and tells the exit code.
pub(super) fn told(error: &ClientError) -> Exit {
    eprintln!("oca: {}", table::safe_lines(&error.to_string()));
    error.exit()
}

fn topic(text: &str) -> Result<Topic, String> {
    if let Some((_, topic)) = TOPICS.iter().find(|(name, _)| *name == text) {
        return Ok(*topic);
    }
    let meant: Vec<_> = TOPICS
        .iter()
        .filter(|(name, _)| !text.is_empty() && name.starts_with(text))
        .collect();
    let names = TOPICS.map(|(name, _)| name);
    match meant[..] {
        [(_, topic)] => Ok(*topic),
        [] => {
            let near = help::nearest(text, names)
                .map_or_else(String::new, |near| format!(" Did you mean `{near}`?"));
            let text = help::printable(text.as_bytes(), 40);
            let names = names.join(", ");
            Err(format!(
                "`{text}` cannot be shown; one of {names} can.{near}"
            ))
        }
        _ => {
            let names: Vec<_> = meant.iter().map(|(name, _)| *name).collect();
            Err(format!(
                "`{text}` may mean {}; write more of it",
                names.join(" or ")
            ))
        }
    }
}

fn path(topic: Topic) -> &'static str {
    match topic {
        Topic::Status => "/v1/status",
        Topic::Bgp => "/v1/bgp",
        Topic::Routes => "/v1/routes",
        Topic::Catalogue => "/v1/catalogue",
        Topic::Disks => "/v1/disks",
        Topic::Serving => "/v1/serving",
        Topic::Connections => "/v1/connections",
        Topic::Tls => "/v1/tls",
        Topic::Quality => "/v1/quality",
        Topic::Config => "/v1/config",
        Topic::Prefill => "/v1/prefill",
        Topic::Fill => "/v1/fill",
    }
}

/// An answer in one piece: the daemon's JSON, a table of its list, or one line a value.
fn whole(
    client: &Client,
    topic: Topic,
    json: bool,
    medium: Medium,
    out: &mut impl Write,
) -> Result<(), ShowError> {
    let text = client.get_text(path(topic))?;
    if json {
        out.write_all(text.as_bytes())?;
        return Ok(());
    }
    let mut value: Value = serde_json::from_str(&text)
        .map_err(|error| ClientError::Failed(format!("the answer is not JSON: {error}")))?;
    if let Some((member, header)) = list(topic).filter(|(member, _)| value[*member].is_array()) {
        let rows = rows(&value, member, header, medium);
        out.write_all(table::table(medium, header, &rows).as_bytes())?;
        out.write_all(table::below(medium, &value, "moves").as_bytes())?;
        return Ok(());
    }
    if let Some(members) = value.as_object_mut() {
        members.remove("v");
    }
    out.write_all(table::properties(medium, &value).as_bytes())?;
    Ok(())
}

/// The member of an answer that is a list, and the columns of its rows.
fn list(topic: Topic) -> Option<(&'static str, &'static [&'static str])> {
    match topic {
        Topic::Disks => Some((
            "disks",
            &[
                "path", "class", "zone", "state", "objects", "bytes", "free", "writes", "cold",
                "scan", "scrub", "retire", "since", "uuid", "reason",
            ],
        )),
        Topic::Connections => Some((
            "viewers",
            &[
                "peer",
                "worker",
                "tls",
                "tls_path",
                "busy",
                "age_s",
                "requests",
                "bytes_sent",
            ],
        )),
        Topic::Quality => Some((
            "rows",
            &[
                "prefix",
                "responses",
                "bytes",
                "starvations",
                "cmcd",
                "paced",
                "p10_kbps",
                "p50_kbps",
                "p90_kbps",
                "mtp_p50_kbps",
                "rtt_us",
                "sent_bytes",
                "retransmitted_bytes",
            ],
        )),
        Topic::Config => Some(("settings", &["key", "value", "origin", "reload"])),
        Topic::Bgp => Some((
            "bgp",
            &[
                "name",
                "address",
                "asn",
                "class",
                "state",
                "routes",
                "filtered",
                "uptime_s",
                "last_error",
            ],
        )),
        Topic::Status
        | Topic::Catalogue
        | Topic::Routes
        | Topic::Serving
        | Topic::Tls
        | Topic::Prefill
        | Topic::Fill => None,
    }
}

/// A list that comes in pages, so that millions of rows fit in little memory.
struct List {
    /// Ends in `?` or `&`.
    question: String,
    member: &'static str,
    header: &'static [&'static str],
    /// What to say if there is nothing at all.
    nothing: Option<String>,
}

/// The pages of a topic, or that the topic has none; an argument that it cannot take is refused.
fn list_for(
    topic: Topic,
    (argument, second): (Option<&str>, Option<&str>),
) -> Result<Option<List>, String> {
    let shown = |text: &str| help::printable(text.as_bytes(), 200);
    match (topic, argument) {
        (Topic::Catalogue, prefix) => Ok(Some(List {
            question: format!(
                "/v1/catalogue?prefix={}&",
                encoded(prefix.unwrap_or_default())
            ),
            member: "catalogue",
            header: &["key", "digest", "bytes", "disk", "rank"],
            nothing: prefix.map(|prefix| {
                let prefix = shown(prefix);
                format!("no key begins with {prefix}; `oca show catalogue` lists all")
            }),
        })),
        (Topic::Routes, argument) => Ok(Some(List {
            question: show_routing::question(argument, second)?,
            member: "routes",
            header: &[
                "prefix",
                "neighbour",
                "class",
                "as_path",
                "med",
                "communities",
                "next_hop",
                "filtered",
            ],
            nothing: None,
        })),
        (_, None) => Ok(None),
        (_, Some(_)) => Err(
            "only `oca show catalogue` takes a key, and `oca show routes` a \
             prefix or an address"
                .to_owned(),
        ),
    }
}

/// Every row, a page at a time.
fn pages(
    client: &Client,
    list: &List,
    json: bool,
    medium: Medium,
    out: &mut impl Write,
) -> Result<(), ShowError> {
    let (member, header) = (list.member, list.header);
    let (mut after, mut shown) = (None::<String>, 0_usize);
    loop {
        let mut question = list.question.clone();
        if let Some(after) = &after {
            let _ = write!(question, "after={}", encoded(after));
        }
        let page = client.get(&question)?;
        let found = page.get(member).and_then(Value::as_array);
        let found = found.map_or(&[] as &[Value], Vec::as_slice);
        if let Some(nothing) = list
            .nothing
            .as_ref()
            .filter(|_| found.is_empty() && shown == 0)
        {
            return Err(ClientError::NotFound(nothing.clone()).into());
        }
        if json {
            for row in found {
                let before = if shown == 0 {
                    format!(r#"{{"{member}":["#)
                } else {
                    ",".to_owned()
                };
                write!(out, "{before}{row}")?;
                shown += 1;
            }
        } else {
            let rows = rows(&page, member, header, medium);
            let text = table::table(medium, header, &rows);
            // A pipe gets one header; on a terminal each page is a table of its own.
            let skip = usize::from(shown > 0 && medium == Medium::Pipe);
            for line in text.lines().skip(skip) {
                writeln!(out, "{line}")?;
            }
            shown += found.len();
        }
        let next = page.get("next").and_then(Value::as_str).map(str::to_owned);
        // A `next` that does not move would ask for ever.
        if next.is_none() || next == after || found.is_empty() {
            break;
        }
        after = next;
    }
    if json {
        let begun = if shown == 0 {
            format!(r#"{{"{member}":["#)
        } else {
            String::new()
        };
        writeln!(out, r#"{begun}],"next":null,"v":1}}"#)?;
    }
    Ok(())
}

fn rows(answer: &Value, list: &str, header: &[&str], medium: Medium) -> Vec<Vec<String>> {
    let list = answer.get(list).and_then(Value::as_array);
    list.map_or(&[] as &[Value], Vec::as_slice)
        .iter()
        .map(|row| {
            header
                .iter()
                .map(|name| column(name, &row[*name], medium))
                .collect()
        })
        .collect()
}

/// Sizes are rounded for people and exact for pipes.
fn column(name: &str, value: &Value, medium: Medium) -> String {
    match value.as_u64() {
        Some(bytes)
            if medium == Medium::Terminal && matches!(name, "bytes" | "free" | "bytes_sent") =>
        {
            Bytes(bytes).to_string()
        }
        // Where a setting stands; without a place it has its default.
        _ if name == "origin" => match (value["file"].as_str(), value["line"].as_u64()) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => "default".to_owned(),
        },
        // A disk's reads of what was not in memory.
        _ if name == "cold" => {
            let count = |name: &str| value[name].as_u64().unwrap_or(0);
            let mean = count("wait_ms") / count("waits").max(1);
            format!("{} x {mean} ms, {} queued", count("waits"), count("queued"))
        }
        // How a disk's objects came to be known, and how much of it was looked through.
        _ if name == "scan" => {
            let from = value["from"].as_str().filter(|from| !from.is_empty());
            let percent = value["percent"].as_u64().unwrap_or(0);
            format!("{}, {percent} %", from.unwrap_or("-"))
        }
        // What a disk's scrub does, since when all is verified, and what it found.
        _ if name == "scrub" => {
            let text = |name: &str| value[name].as_str().unwrap_or("-");
            let since = text("verified_since").split('T').next().unwrap_or("-");
            let found = value["found"].as_u64().unwrap_or(0);
            format!("{}, all since {since}, {found} found", text("state"))
        }
        // How far a disk is on its way out of the box.
        _ if name == "retire" && value.is_object() => retiring(value),
        _ => table::cell(value),
    }
}

fn retiring(value: &Value) -> String {
    let text = |name: &str| value[name].as_str();
    let state = text("state").unwrap_or("retiring");
    let left = Bytes(value["bytes_left"].as_u64().unwrap_or(0));
    let told = match state {
        "retired" => state.to_owned(),
        _ => format!("{state}, {left} left"),
    };
    text("reason").map_or(told.clone(), |reason| format!("{told}: {reason}"))
}

/// Percent-encoding for a query value (RFC 3986 section 2).
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unambiguous_beginning_is_enough_and_an_ambiguous_one_names_its_meanings() {
        assert_eq!(topic("cat"), Ok(Topic::Catalogue));
        assert_eq!(topic("st"), Ok(Topic::Status));
        assert_eq!(topic("se"), Ok(Topic::Serving));
        assert_eq!(topic("conf"), Ok(Topic::Config));
        let problem = topic("con").unwrap_err();
        assert!(problem.contains("connections or config"), "{problem}");
        let problem = topic("dsks").unwrap_err();
        assert!(problem.contains("Did you mean `disks`?"), "{problem}");
        assert!(topic("").is_err());
    }

    #[test]
    fn a_query_value_cannot_leave_its_place() {
        assert_eq!(encoded("film/a.m4s"), "film/a.m4s");
        assert_eq!(encoded("a&limit=1 é#"), "a%26limit%3D1%20%C3%A9%23");
    }
}
