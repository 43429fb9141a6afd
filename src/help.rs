//! Words for people: the nearest known name for a misspelt one, and text from outside made safe
//! to print.

/// The known name nearest to `wrong`, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&wrong, &name.to_ascii_lowercase()),
                name,
            )
        })
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Bytes from outside as printable ASCII of at most `most` characters; the rest is escaped.
pub fn printable(bytes: &[u8], most: usize) -> String {
    let mut text = String::with_capacity(most.min(bytes.len()) + 3);
    for &byte in bytes {
        let piece = std::ascii::escape_default(byte);
        if text.len() + piece.len() > most {
            text.push_str("...");
            break;
        }
        text.extend(piece.map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour_and_a_strange_one_finds_none() {
        let known = ["listen", "plain_listen", "workers"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("Workers", known), Some("workers"));
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn control_bytes_cannot_reach_a_terminal() {
        assert_eq!(printable(b"a\x1b[31m\n", 40), "a\\x1b[31m\\n");
        assert_eq!(printable(&[b'x'; 100], 4), "xxxx...");
    }
}
