//! `oca show bgp all|NEIGHBOUR` and the words that `oca show routes` takes.
//!
//! I/O: asks the daemon, writes standard output.

use super::Exit;
use super::SocketArgs;
use super::client::Client;
use super::show;
use super::show::Topic;
use super::show::encoded;
use super::table;
use super::table::Medium;
use crate::help;
use crate::prefix::Prefix;
use serde_json::Value;
use std::io::Write as _;
use std::net::IpAddr;

/// A question that is answered in one piece and shown in a way of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// Everything about all neighbours, or about one.
    Neighbours(Option<String>),
    Counts,
}

pub(super) fn special(topic: Topic, argument: Option<&str>) -> Option<Special> {
    match (topic, argument) {
        (Topic::Bgp, Some("all")) => Some(Special::Neighbours(None)),
        (Topic::Bgp, Some(name)) => Some(Special::Neighbours(Some(name.to_owned()))),
        (Topic::Routes, Some("count")) => Some(Special::Counts),
        (_, _) => None,
    }
}

pub(super) fn show(special: &Special, socket: &SocketArgs) -> anyhow::Result<Exit> {
    let path = match special {
        Special::Neighbours(None) => "/v1/bgp/all".to_owned(),
        Special::Neighbours(Some(name)) => format!("/v1/bgp/all?neighbour={}", encoded(name)),
        Special::Counts => "/v1/routes/count".to_owned(),
    };
    let client = Client::new(&socket.socket)?;
    let text = match client.get_text(&path) {
        Ok(text) => text,
        Err(error) => return Ok(show::told(&error)),
    };
    let text = if socket.json {
        text
    } else {
        let answer: Value = serde_json::from_str(&text)?;
        let medium = Medium::of_stdout();
        match special {
            Special::Neighbours(_) => neighbours(&answer, medium),
            Special::Counts => counts(&answer, medium),
        }
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(Exit::Ok),
    }
}

/// One block a neighbour, its name first.
fn neighbours(answer: &Value, medium: Medium) -> String {
    let rows = answer["bgp"]
        .as_array()
        .map_or(&[] as &[Value], Vec::as_slice);
    let mut text = String::new();
    for row in rows {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&table::safe(&table::cell(&row["name"])));
        text.push('\n');
        for line in table::properties(medium, row).lines() {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn counts(answer: &Value, medium: Medium) -> String {
    let header = ["neighbour", "family", "state", "routes"];
    let rows = answer["counts"]
        .as_array()
        .map_or(&[] as &[Value], Vec::as_slice);
    let cells = |row: &Value| header.map(|name| table::cell(&row[name])).into();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table::table(medium, &header, &rows)
}

/// What to ask for rows of routes; ends in `?` or `&`.
pub(super) fn question(argument: Option<&str>, second: Option<&str>) -> Result<String, String> {
    let Some(text) = argument else {
        return Ok("/v1/routes?".to_owned());
    };
    match (text, second) {
        ("filtered", _) => return Ok("/v1/routes?filtered=true&".to_owned()),
        ("from", Some(name)) => return Ok(format!("/v1/routes?neighbour={}&", encoded(name))),
        ("from", None) => {
            return Err("write the neighbour's name: `oca show routes from edge-1`".to_owned());
        }
        (_, _) => {}
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(format!(
            "/v1/routes?address={}&",
            encoded(&address.to_string())
        ));
    }
    match text.parse::<Prefix>() {
        Ok(prefix) => Ok(format!(
            "/v1/routes?prefix={}&",
            encoded(&prefix.to_string())
        )),
        Err(error) => {
            let words = ["count", "filtered", "from"];
            let near = help::nearest(text, words)
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            Err(format!(
                "{error}, an address such as `192.0.2.1`, `count`, `filtered` or `from \
                 NEIGHBOUR`{near}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn routes_take_a_prefix_an_address_or_a_word_and_say_so() {
        let one = |text| question(Some(text), None);
        assert_eq!(one("192.0.2.7").unwrap(), "/v1/routes?address=192.0.2.7&");
        let prefix = one("2001:db8::/32").unwrap();
        assert_eq!(prefix, "/v1/routes?prefix=2001%3Adb8%3A%3A/32&");
        assert!(one("192.0.2.1/24").unwrap_err().contains("192.0.2.0/24"));
        assert!(one("film").unwrap_err().contains("such as `192.0.2.1`"));
        assert!(
            one("filterd")
                .unwrap_err()
                .contains("did you mean `filtered`?")
        );
        assert_eq!(one("filtered").unwrap(), "/v1/routes?filtered=true&");
        let from = question(Some("from"), Some("edge 1")).unwrap();
        assert_eq!(from, "/v1/routes?neighbour=edge%201&");
        assert!(one("from").unwrap_err().contains("the neighbour's name"));
    }

    #[test]
    fn neighbours_stand_in_blocks_under_their_names() {
        let answer = json!({"bgp": [{"name": "a", "history": [{"to": "up"}]}, {"name": "b\n"}]});
        let text = neighbours(&answer, Medium::Pipe);
        let expected = "a\n  history[0].to\tup\n  name\ta\n\nb\\n\n  name\tb\\n\n";
        assert_eq!(text, expected);
    }
}
