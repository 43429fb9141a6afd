//! `oca drain|undrain|reload|log-level|fill|disk`: one command sent to the daemon.
//!
//! I/O: asks the daemon, writes standard output.

use super::Exit;
use super::SocketArgs;
use super::client::Client;
use super::client::ClientError;
use super::show::told;
use super::table;
use crate::units;
use serde_json::Value;
use serde_json::json;
use std::io::Write as _;
use std::path::Path;

pub(super) fn drain(time: Option<&str>, socket: &SocketArgs) -> anyhow::Result<Exit> {
    if let Some(Err(problem)) = time.map(units::parse_duration) {
        eprintln!("oca: --for: {problem}");
        return Ok(Exit::Usage);
    }
    give(socket, "/v1/drain", &json!({"for": time}), |answer| {
        let end = match answer.get("for").and_then(Value::as_str) {
            Some(time) => format!("for {time}"),
            None => "until `oca undrain`".to_owned(),
        };
        format!("drained {end}: no new viewers, running ones finish")
    })
}

pub(super) fn undrain(socket: &SocketArgs) -> anyhow::Result<Exit> {
    give(socket, "/v1/undrain", &json!({}), |_| {
        "not drained any more".to_owned()
    })
}

pub(super) fn reload(socket: &SocketArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&socket.socket)?;
    match client.post("/v1/reload", &json!({})) {
        Ok(answer) => print(socket, &answer, reloaded),
        // What is bad about a reload is the configuration, not the command line.
        Err(error @ ClientError::BadRequest(_)) => {
            told(&error);
            eprintln!("oca: the running configuration stays in effect");
            Ok(Exit::Config)
        }
        Err(error) => Ok(told(&error)),
    }
}

pub(super) fn log_level(level: &str, socket: &SocketArgs) -> anyhow::Result<Exit> {
    give(
        socket,
        "/v1/log-level",
        &json!({"level": level}),
        |answer| {
            let name = |member| table::cell(&answer[member]);
            format!("log filter is {} (was {})", name("level"), name("old"))
        },
    )
}

/// `path` ends in `start`, `pause` or `resume`.
pub(super) fn fill(socket: &SocketArgs, path: &str) -> anyhow::Result<Exit> {
    give(socket, path, &json!({}), |answer| {
        match answer["paused"].as_bool() {
            Some(true) => "paused: nothing is received until `oca fill resume`".to_owned(),
            Some(false) => "resumed: the fill goes on in its window".to_owned(),
            None => format!(
                "started: {} objects are wanted",
                table::cell(&answer["wanted"])
            ),
        }
    })
}

/// `to` ends in `adopt` or `format`.
pub(super) fn disk(socket: &SocketArgs, to: &str, path: &Path) -> anyhow::Result<Exit> {
    give(socket, to, &json!({"path": path}), |answer| {
        let disk = table::cell(&answer["disk"]);
        format!("disk {disk} joins: `oca show disks` tells when it is online")
    })
}

pub(super) fn retire(socket: &SocketArgs, path: &Path, undo: bool) -> anyhow::Result<Exit> {
    let body = json!({"path": path, "undo": undo});
    give(socket, "/v1/disks/retire", &body, |answer| {
        let disk = table::cell(&answer["disk"]);
        match answer["retires"].as_bool() {
            Some(true) => format!(
                "disk {disk} retires: `oca show disks` tells what is left, and when it may be \
                 pulled"
            ),
            Some(false) | None => format!("disk {disk} stays, and takes objects again"),
        }
    })
}

pub(super) fn give(
    socket: &SocketArgs,
    path: &str,
    body: &Value,
    say: impl Fn(&Value) -> String,
) -> anyhow::Result<Exit> {
    match Client::new(&socket.socket)?.post(path, body) {
        Ok(answer) => print(socket, &answer, say),
        Err(error) => Ok(told(&error)),
    }
}

fn print(
    socket: &SocketArgs,
    answer: &Value,
    say: impl Fn(&Value) -> String,
) -> anyhow::Result<Exit> {
    let text = if socket.json {
        answer.to_string()
    } else {
        table::safe_lines(&say(answer))
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(Exit::Ok)
}

fn reloaded(answer: &Value) -> String {
    let keys = |member: &str| -> Vec<String> {
        let list = answer.get(member).and_then(Value::as_array);
        list.map_or(&[] as &[Value], Vec::as_slice)
            .iter()
            .map(table::cell)
            .collect()
    };
    let (changed, restart) = (keys("changed"), keys("restart_needed"));
    let mut lines = Vec::new();
    if changed.is_empty() && restart.is_empty() {
        lines.push("reloaded: nothing differs from what is running".to_owned());
    }
    lines.extend(changed.iter().map(|key| format!("changed: {key}")));
    let waits = |key| format!("needs a restart (`systemctl restart oca`): {key}");
    lines.extend(restart.iter().map(waits));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_tells_what_changed_and_what_waits_for_a_restart() {
        let text =
            reloaded(&json!({"changed": ["gate.require"], "restart_needed": ["serve.listen"]}));
        assert!(text.contains("changed: gate.require\n"), "{text}");
        assert!(text.contains("restart oca`): serve.listen"), "{text}");
        let text = reloaded(&json!({"changed": [], "restart_needed": []}));
        assert!(text.contains("nothing differs"), "{text}");
    }
}
