//! One question or order to the control plane, and its answer printed.
//!
//! I/O: asks the control plane, writes standard output.

use super::super::Exit;
use super::super::client::Client;
use super::super::client::ClientError;
use super::super::show::told;
use super::super::table;
use super::super::table::Medium;
use super::SocketArgs;
use serde_json::Value;
use std::io;
use std::io::Write as _;

/// Asks for `path` and prints: JSON as it came, or what `show` makes of it.
pub(super) fn get(
    socket: &SocketArgs,
    path: &str,
    show: impl Fn(Medium, &Value) -> String,
) -> anyhow::Result<Exit> {
    let client = Client::of_control(&socket.socket)?;
    finish(socket, client.get(path), show)
}

/// Gives an order and prints what became of it.
pub(super) fn post(
    socket: &SocketArgs,
    path: &str,
    body: &Value,
    show: impl Fn(Medium, &Value) -> String,
) -> anyhow::Result<Exit> {
    let client = Client::of_control(&socket.socket)?;
    finish(socket, client.post(path, body), show)
}

pub(super) fn finish(
    socket: &SocketArgs,
    answer: Result<Value, ClientError>,
    show: impl Fn(Medium, &Value) -> String,
) -> anyhow::Result<Exit> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Ok(told(&error)),
    };
    let text = if socket.json {
        format!("{answer}\n")
    } else {
        show(Medium::of_stdout(), &answer)
    };
    // A reader that has seen enough (`| head`) closes the pipe.
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(Exit::Ok),
    }
}

/// The rows of `answer[member]`, a column for each name; `a.b` reads a member of a member.
pub(super) fn rows(medium: Medium, answer: &Value, member: &str, columns: &[&str]) -> String {
    let list = answer[member].as_array();
    let list = list.map_or(&[] as &[Value], Vec::as_slice);
    let cells = |row: &Value| {
        let cell = |column: &&str| table::cell(at(row, column));
        columns.iter().map(cell).collect()
    };
    let rows: Vec<Vec<String>> = list.iter().map(cells).collect();
    let names: Vec<&str> = columns
        .iter()
        .map(|column| column.rsplit('.').next().unwrap_or(column))
        .collect();
    table::table(medium, &names, &rows)
}

fn at<'a>(row: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(row, |value, name| &value[name])
}

/// One value's members, a line each.
pub(super) fn members(medium: Medium, answer: &Value, member: &str) -> String {
    table::properties(medium, &answer[member])
}

/// A text as part of a URL's query.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
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
    use serde_json::json;

    #[test]
    fn rows_read_members_of_members_and_texts_are_safe_in_a_url() {
        let answer = json!({"boxes": [{"id": "c1", "load": {"n": 3}}, {"id": "c2"}]});
        let text = rows(Medium::Pipe, &answer, "boxes", &["id", "load.n"]);
        assert_eq!(text, "id\tn\nc1\t3\nc2\t-\n");
        assert_eq!(encoded("a b&c=/é"), "a%20b%26c%3D%2F%C3%A9");
    }
}
