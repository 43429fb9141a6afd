//! HLS playlists, as far as a viewer needs them to fetch a whole title (RFC 8216).
//!
//! Sans-IO: [`super::proof`] fetches the text and follows the references.

/// One thing to fetch: a key and, where the playlist says so, a byte range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    pub key: String,
    /// First byte and length.
    pub range: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Playlist {
    /// Keys of media playlists: variants in the order listed, then other renditions (sound).
    Master {
        variants: Vec<String>,
        others: Vec<String>,
    },
    /// Initialisation sections and segments in playing order.
    Media { pieces: Vec<Piece> },
}

/// Why a playlist cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaylistError {
    #[error("it does not begin with #EXTM3U")]
    NotHls,
    #[error("`{0}` leads to another server; use relative URLs")]
    Elsewhere(String),
    #[error("`{0}` leads out of the directory")]
    Outside(String),
    #[error("`{0}` is not a byte range")]
    Range(String),
}

/// Parses the playlist that stands under `base`; references become keys.
pub(super) fn parse(base: &str, text: &str) -> Result<Playlist, PlaylistError> {
    let mut lines = text.lines().map(str::trim);
    if lines.next() != Some("#EXTM3U") {
        return Err(PlaylistError::NotHls);
    }
    let mut reader = Reader::new(base);
    for line in lines {
        reader.line(line)?;
    }
    Ok(if reader.is_master {
        let variants = reader.pieces.into_iter().map(|piece| piece.key).collect();
        Playlist::Master {
            variants,
            others: reader.others,
        }
    } else {
        Playlist::Media {
            pieces: reader.pieces,
        }
    })
}

#[derive(Debug)]
struct Reader<'a> {
    base: &'a str,
    is_master: bool,
    pieces: Vec<Piece>,
    others: Vec<String>,
    /// The range of the next segment, and where the range before it ended (RFC 8216 4.3.2.2).
    range: Option<(u64, u64)>,
    range_end: u64,
}

impl<'a> Reader<'a> {
    fn new(base: &'a str) -> Self {
        Self {
            base,
            is_master: false,
            pieces: Vec::new(),
            others: Vec::new(),
            range: None,
            range_end: 0,
        }
    }

    fn line(&mut self, line: &str) -> Result<(), PlaylistError> {
        if line.is_empty() {
            return Ok(());
        }
        if !line.starts_with('#') {
            let key = resolve(self.base, line)?;
            let range = self.range.take();
            self.pieces.push(Piece { key, range });
            return Ok(());
        }
        let (tag, rest) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-STREAM-INF" => self.is_master = true,
            "#EXT-X-MEDIA" | "#EXT-X-I-FRAME-STREAM-INF" => {
                self.is_master = true;
                if let Some(uri) = attribute(rest, "URI") {
                    self.others.push(resolve(self.base, uri)?);
                }
            }
            "#EXT-X-MAP" => {
                if let Some(uri) = attribute(rest, "URI") {
                    let key = resolve(self.base, uri)?;
                    let range = match attribute(rest, "BYTERANGE") {
                        Some(text) => Some(byte_range(text, 0)?),
                        None => None,
                    };
                    self.pieces.push(Piece { key, range });
                }
            }
            "#EXT-X-BYTERANGE" => {
                let range = byte_range(rest, self.range_end)?;
                self.range_end = range.0.saturating_add(range.1);
                self.range = Some(range);
            }
            _ => {}
        }
        Ok(())
    }
}

/// `length[@first]`.
fn byte_range(text: &str, follows: u64) -> Result<(u64, u64), PlaylistError> {
    let bad = || PlaylistError::Range(text.to_owned());
    let (length, first) = match text.split_once('@') {
        Some((length, first)) => (length, first.parse().map_err(|_| bad())?),
        None => (text, follows),
    };
    let length: u64 = length.parse().map_err(|_| bad())?;
    if length == 0 || first.checked_add(length).is_none() {
        return Err(bad());
    }
    Ok((first, length))
}

/// The value of one attribute of an attribute list, without its quotes. A comma or `=` inside
/// quotes belongs to the value.
fn attribute<'t>(mut list: &'t str, name: &str) -> Option<&'t str> {
    loop {
        let (found, rest) = list.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = quoted.split_once('"')?;
                (value, rest.strip_prefix(',').unwrap_or(rest))
            }
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        if found.trim() == name {
            return Some(value);
        }
        list = rest;
    }
}

/// The key that `reference` names when it stands in the playlist under `base`.
fn resolve(base: &str, reference: &str) -> Result<String, PlaylistError> {
    if reference.contains("://") || reference.starts_with("//") {
        return Err(PlaylistError::Elsewhere(reference.to_owned()));
    }
    let mut segments: Vec<&str> = match reference.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => base
            .rsplit_once('/')
            .map_or_else(Vec::new, |(dir, _)| dir.split('/').collect()),
    };
    for segment in reference.trim_start_matches('/').split('/') {
        match segment {
            "." => {}
            ".." => {
                if segments.pop().is_none() {
                    return Err(PlaylistError::Outside(reference.to_owned()));
                }
            }
            name => segments.push(name),
        }
    }
    Ok(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(key: &str, range: Option<(u64, u64)>) -> Piece {
        let key = key.to_owned();
        Piece { key, range }
    }

    #[test]
    fn a_master_names_its_variants_and_its_sound() {
        let text = "#EXTM3U\n\
            #EXT-X-MEDIA:TYPE=AUDIO,NAME=\"a, URI=x\",URI=\"sound/index.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1,mp4a\"\n240p/index.m3u8\n";
        let expected = Playlist::Master {
            variants: vec!["film/240p/index.m3u8".to_owned()],
            others: vec!["film/sound/index.m3u8".to_owned()],
        };
        assert_eq!(parse("film/master.m3u8", text), Ok(expected));
    }

    #[test]
    fn byte_ranges_follow_each_other_and_the_map_has_its_own() {
        let text = "#EXTM3U\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"800@0\"\n\
            #EXTINF:2,\n#EXT-X-BYTERANGE:100@800\nall.mp4\n\
            #EXTINF:2,\n#EXT-X-BYTERANGE:50\nall.mp4\n#EXTINF:2,\n../b.ts\n";
        let pieces = vec![
            piece("film/v/all.mp4", Some((0, 800))),
            piece("film/v/all.mp4", Some((800, 100))),
            piece("film/v/all.mp4", Some((900, 50))),
            piece("film/b.ts", None),
        ];
        let read = parse("film/v/index.m3u8", text);
        assert_eq!(read, Ok(Playlist::Media { pieces }));
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let media = |line: &str| parse("a/index.m3u8", &format!("#EXTM3U\n{line}\n"));
        assert_eq!(parse("a", "<html>"), Err(PlaylistError::NotHls));
        let elsewhere = media("https://example.com/a.ts").unwrap_err();
        assert!(elsewhere.to_string().contains("another server"));
        assert!(matches!(media("../../x"), Err(PlaylistError::Outside(_))));
        for range in ["x", "0@5", "5@x", "9@18446744073709551615"] {
            let refused = media(&format!("#EXT-X-BYTERANGE:{range}"));
            assert!(matches!(refused, Err(PlaylistError::Range(_))), "{range}");
        }
    }
}
