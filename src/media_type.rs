//! Media types by file-name suffix: what a player expects in `Content-Type`.
//!
//! `serve` sends them, prefill refuses the suffixes that a browser would run: a cache whose names
//! are also web origins must never serve somebody else's page or script.

/// `application/octet-stream`: for a suffix not in the table.
pub const UNKNOWN: &str = "application/octet-stream";

/// Suffix (lower case) → media type. RFC 8216, RFC 4337, RFC 8107, the IANA registry.
const BY_SUFFIX: &[(&str, &str)] = &[
    ("m4s", "video/iso.segment"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("cmfv", "video/mp4"),
    ("m4a", "audio/mp4"),
    ("cmfa", "audio/mp4"),
    ("cmft", "application/mp4"),
    ("m4f", "video/iso.segment"),
    ("ts", "video/mp2t"),
    ("aac", "audio/aac"),
    ("mp3", "audio/mpeg"),
    ("webm", "video/webm"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("mpd", "application/dash+xml"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("ttml", "application/ttml+xml"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
    ("json", "application/json"),
];

/// The suffixes of [`BY_SUFFIX`] as numbers: each request compares with them all.
const PACKED: [u64; BY_SUFFIX.len()] = {
    let mut numbers = [0; BY_SUFFIX.len()];
    let mut at = 0;
    while at < numbers.len() {
        numbers[at] = match packed(BY_SUFFIX[at].0) {
            Some(number) => number,
            None => panic!("a suffix is empty or longer than eight bytes"),
        };
        at += 1;
    }
    numbers
};

/// Suffixes that a browser would render or run as active content.
const ACTIVE: &[&str] = &[
    "html", "htm", "xhtml", "xht", "shtml", "mhtml", "svg", "svgz", "xml", "xsl", "xslt", "js",
    "mjs", "cjs", "css", "wasm", "swf", "pdf", "hta",
];

/// The media type of a key, by its suffix; never an active type.
pub fn of(key: &str) -> &'static str {
    let Some(suffix) = packed(suffix(key)) else {
        return UNKNOWN;
    };
    let at = PACKED.iter().position(|known| *known == suffix);
    at.map_or(UNKNOWN, |at| BY_SUFFIX[at].1)
}

/// Would a browser run or render a file of this name as a document or a script?
pub fn is_active(key: &str) -> bool {
    let suffix = suffix(key);
    ACTIVE
        .iter()
        .any(|known| suffix.eq_ignore_ascii_case(known))
}

/// What follows the last dot of the last segment.
fn suffix(key: &str) -> &str {
    let last = key.bytes().rposition(|byte| matches!(byte, b'.' | b'/'));
    match last {
        Some(at) if key.as_bytes()[at] == b'.' => &key[at + 1..],
        Some(_) | None => "",
    }
}

/// One to eight bytes, in lower case, as a number.
const fn packed(suffix: &str) -> Option<u64> {
    let bytes = suffix.as_bytes();
    if bytes.is_empty() || bytes.len() > 8 {
        return None;
    }
    let mut number = 0;
    let mut at = 0;
    while at < bytes.len() {
        number = number << 8 | bytes[at].to_ascii_lowercase() as u64;
        at += 1;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_get_their_types_and_browsers_nothing_to_run() {
        assert_eq!(of("a/v1/seg-1.m4s"), "video/iso.segment");
        assert_eq!(of("a/MASTER.M3U8"), "application/vnd.apple.mpegurl");
        assert_eq!(of("a.mp4/b"), UNKNOWN);
        assert_eq!(of("page.html"), UNKNOWN);
        for other in [
            "a",
            "a.",
            ".",
            "",
            "a/b.m4s/",
            "a.xm4s",
            "a.m4sm4sm4s",
            "a.ts.x",
        ] {
            assert_eq!(of(other), UNKNOWN, "{other}");
        }
        for (suffix, media_type) in BY_SUFFIX {
            assert_eq!(of(&format!("a.b/c.d.{suffix}")), *media_type);
        }
        assert!(is_active("x/page.HTML") && is_active("x.svg") && !is_active("x.html/y.m4s"));
        assert!(BY_SUFFIX.iter().all(|(suffix, _)| !ACTIVE.contains(suffix)));
    }
}
