//! `oca fill start --prefill` and `oca fill certificate [check FILE]`: a box that is filled before
//! it is shipped, and what it holds when it has arrived.
//!
//! The daemon does the work and goes on with it when nobody looks any more.
//!
//! I/O: asks the daemon again and again, writes standard output.

use super::Exit;
use super::SocketArgs;
use super::client::Client;
use super::client::ClientError;
use super::prefill::Shown;
use super::show::told;
use super::table;
use super::table::Medium;
use crate::clock;
use crate::store::prefill::Progress;
use crate::units::Bytes;
use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// How often the daemon is asked how far it is: the fill shows itself once a second.
const ASK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum CertificateVerb {
    /// Read everything it lists from the disks, and say what differs.
    Check {
        file: PathBuf,
        #[command(flatten)]
        socket: SocketArgs,
    },
}

/// Orders it and shows how far it is, until all is there and certified.
pub(super) fn prefill(socket: &SocketArgs, no_wait: bool) -> anyhow::Result<Exit> {
    let client = Client::new(&socket.socket)?;
    let ordered = client.get("/v1/fill").and_then(|before| {
        let answer = client.post("/v1/fill/start", &json!({"prefill": true}))?;
        Ok((before["prefill"]["completed"].as_u64().unwrap_or(0), answer))
    });
    let (before, answer) = match ordered {
        Ok(ordered) => ordered,
        Err(error) => return Ok(told(&error)),
    };
    if no_wait {
        let wanted = table::cell(&answer["wanted"]);
        let text = match socket.json {
            true => answer.to_string(),
            false => format!("started without window and cap: {wanted} objects are wanted"),
        };
        writeln!(std::io::stdout(), "{text}")?;
        return Ok(Exit::Ok);
    }
    let mut shown = Shown::new(socket.json);
    let outcome = until_certified(&client, before, &mut shown);
    shown.end();
    match outcome {
        Ok(Ok(certificate)) => print(socket, &certificate),
        Ok(Err(problem)) => {
            eprintln!("oca: {problem}");
            Ok(Exit::Failed)
        }
        Err(error) => Ok(told(&error)),
    }
}

type Certified = Result<Result<Value, String>, ClientError>;

fn until_certified(client: &Client, before: u64, shown: &mut Shown) -> Certified {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    // What is wanted grows and shrinks with plans: done and wanted together are all there is.
    loop {
        let view = client.get("/v1/fill")?;
        let (files_done, bytes_done) = (number(&view["done"]), number(&view["done_bytes"]));
        shown.at(Progress {
            files_done,
            files: files_done + number(&view["wanted"]),
            bytes_done,
            bytes: bytes_done + number(&view["wanted_bytes"]),
        });
        let completed = number(&view["prefill"]["completed"]);
        let certificate = &view["certificate"];
        if completed > before && number(&certificate["ended"]) >= completed {
            return Ok(match certificate["problem"].as_str() {
                Some(problem) => Err(problem.to_owned()),
                None => Ok(certificate.clone()),
            });
        }
        if completed == before && view["prefill"]["running"] != json!(true) {
            let reason = "it was ended: the control plane does not have this box as prefilling \
                          any more, or the daemon was started again";
            return Ok(Err(reason.to_owned()));
        }
        clock::block_for(ASK_EVERY);
    }
}

/// The certificate that the box has.
pub(super) fn show(socket: &SocketArgs) -> anyhow::Result<Exit> {
    match Client::new(&socket.socket)?.get("/v1/fill/certificate") {
        Ok(answer) if answer["certificate"].is_null() => {
            let problem = answer["problem"].as_str();
            let why = problem.unwrap_or("it is written when `oca fill start --prefill` is done");
            eprintln!("oca: this box has no certificate of content: {why}");
            Ok(Exit::NotFound)
        }
        Ok(answer) => print(socket, &answer),
        Err(error) => Ok(told(&error)),
    }
}

fn print(socket: &SocketArgs, answer: &Value) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    if socket.json {
        let mut whole = answer.clone();
        whole["v"] = json!(1);
        writeln!(out, "{whole}")?;
    } else {
        let file = json!({"file": answer["file"]});
        out.write_all(table::properties(Medium::of_stdout(), &file).as_bytes())?;
        let certificate = table::properties(Medium::of_stdout(), &answer["certificate"]);
        out.write_all(certificate.as_bytes())?;
    }
    let missing = answer["certificate"]["counts"]["missing"].as_u64();
    if missing.unwrap_or(0) > 0 {
        eprintln!("oca: keys of the manifest are missing; `oca show fill` says why");
    }
    Ok(Exit::Ok)
}

/// Compares the disks with the file, and tells what differs by the exit code too.
pub(super) fn check(file: &Path, socket: &SocketArgs) -> anyhow::Result<Exit> {
    let file =
        std::fs::canonicalize(file).with_context(|| format!("cannot open {}", file.display()))?;
    let client = Client::new(&socket.socket)?;
    if let Err(error) = client.post("/v1/fill/certificate/check", &json!({"path": file})) {
        return Ok(told(&error));
    }
    let mut shown = Shown::new(socket.json);
    let outcome = until_checked(&client, &mut shown);
    shown.end();
    match outcome {
        Ok(Ok(checked)) => tell(socket, &checked),
        Ok(Err(problem)) => {
            eprintln!("oca: {problem}");
            Ok(Exit::Failed)
        }
        Err(error) => Ok(told(&error)),
    }
}

fn until_checked(client: &Client, shown: &mut Shown) -> Certified {
    loop {
        let mut view = client.get("/v1/fill/certificate")?;
        let check = &mut view["check"];
        let number = |name: &str| check[name].as_u64().unwrap_or(0);
        shown.at(Progress {
            files_done: number("keys_done"),
            files: number("keys"),
            bytes_done: number("bytes_done"),
            bytes: number("bytes"),
        });
        if check["running"] != json!(true) {
            return Ok(match check["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok(check["done"].take()),
            });
        }
        clock::block_for(ASK_EVERY);
    }
}

fn tell(socket: &SocketArgs, checked: &Value) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    if socket.json {
        let mut whole = checked.clone();
        whole["v"] = json!(1);
        writeln!(out, "{whole}")?;
    } else {
        for difference in checked["differences"].as_array().into_iter().flatten() {
            let cell = |name: &str| table::safe_lines(&table::cell(&difference[name]));
            writeln!(out, "differs {}: {}", cell("key"), cell("problem"))?;
        }
        let number = |name: &str| checked[name].as_u64().unwrap_or(0);
        writeln!(
            out,
            "{} keys, {} objects, {}: {} differ",
            number("keys"),
            number("objects"),
            Bytes(number("bytes")),
            number("differences_total"),
        )?;
    }
    let same = checked["same"] == json!(true);
    Ok(if same { Exit::Ok } else { Exit::Failed })
}
