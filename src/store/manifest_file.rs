//! The manifest as a file: JSON Lines with a checksum at the end.
//!
//! A header line, one line a key in key order, a trailer with the BLAKE3 of everything before it.
//! Read and written as a stream, every line bounded; `copies` decides where the files are.

use super::index::Index;
use super::manifest::Binding;
use super::manifest::BuildError;
use super::manifest::Builder;
use super::manifest::Manifest;
use super::manifest::Position;
use crate::key::KEY_BYTES_MAX;
use crate::object::Digest;
use serde::Deserialize;
use serde::Serialize;
use std::io;
use std::io::BufRead;
use std::io::Read;
use std::io::Write;

/// What a manifest needs is written, and no later one: a box that falls back to an older image can
/// read whatever that image could have written.
const VERSION_MAX: u64 = 2;

/// Knows no local bindings on top of a signed manifest.
const VERSION_PLAIN: u64 = 1;

const KIND: &str = "oca-manifest";

/// A key, a digest, three numbers and their names; a longer line is not one of ours.
const LINE_BYTES_MAX: u64 = KEY_BYTES_MAX as u64 + 256;

/// Why a copy of the manifest is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("line {0} is not what belongs there")]
    Line(usize),
    #[error("it has format version {0}; this program knows {VERSION_MAX}")]
    Version(u64),
    #[error("it ends before its last line")]
    Short,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it goes on after its last line")]
    TooLong,
    #[error("its header promises {promised} keys and it has {found}")]
    Count { promised: u64, found: usize },
    #[error("line {line}: {problem}")]
    Row { line: usize, problem: BuildError },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    v: u64,
    kind: &'a str,
    epoch: u64,
    generation: u64,
    /// Version 2; absent means 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    local: u64,
    keys: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Names are one letter: there are millions of lines.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    /// Key.
    k: &'a str,
    /// Digest.
    d: &'a str,
    /// Length.
    n: u64,
    /// Last modified, seconds since the Unix epoch.
    t: u64,
    /// Rank.
    r: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer<'a> {
    blake3: &'a str,
}

/// Writes a manifest as a file.
pub(super) fn write(manifest: &Manifest, index: &Index, out: &mut dyn Write) -> io::Result<()> {
    let rows = || {
        manifest
            .rows()
            .filter_map(|(key, row)| Some((key, manifest.binding(row, index)?)))
    };
    let mut hasher = blake3::Hasher::new();
    let Position {
        epoch,
        generation,
        local,
    } = manifest.position;
    let mut line = serde_json::to_vec(&Header {
        v: if local == 0 {
            VERSION_PLAIN
        } else {
            VERSION_MAX
        },
        kind: KIND,
        epoch,
        generation,
        local,
        keys: u64::try_from(rows().count()).unwrap_or(u64::MAX),
    })?;
    let mut put = |line: &mut Vec<u8>, hasher: &mut blake3::Hasher| {
        line.push(b'\n');
        hasher.update(line);
        let written = out.write_all(line);
        line.clear();
        written
    };
    put(&mut line, &mut hasher)?;
    for (key, binding) in rows() {
        let row = Line {
            k: key,
            d: &binding.digest.to_string(),
            n: binding.length,
            t: binding.last_modified,
            r: binding.rank,
        };
        serde_json::to_writer(&mut line, &row)?;
        put(&mut line, &mut hasher)?;
    }
    let sum = Digest(*hasher.finalize().as_bytes()).to_string();
    line = serde_json::to_vec(&Trailer { blake3: &sum })?;
    put(&mut line, &mut hasher)
}

/// Reads only the position, to know which copy to read whole.
pub(super) fn position(input: &mut dyn BufRead) -> Result<Position, FileError> {
    let mut line = Vec::new();
    next_line(input, &mut line)?;
    Ok(header(&line)?.position())
}

/// Reads and verifies a whole file. Nothing enters the index unless all of it is good.
pub(super) fn read(input: &mut dyn BufRead, index: &Index) -> Result<Manifest, FileError> {
    let mut hasher = blake3::Hasher::new();
    let mut line = Vec::new();
    next_line(input, &mut line)?;
    hasher.update(&line);
    let header = header(&line)?;
    let (position, promised) = (header.position(), header.keys);
    let mut builder = Builder::default();
    let mut number = 1;
    loop {
        number += 1;
        next_line(input, &mut line)?;
        let text = line.trim_ascii_end();
        if let Ok(row) = serde_json::from_slice::<Line>(text) {
            let digest = row.d.parse().map_err(|_| FileError::Line(number))?;
            let binding = Binding {
                digest,
                length: row.n,
                last_modified: row.t,
                rank: row.r,
            };
            let pushed = builder.push(row.k, binding);
            pushed.map_err(|problem| FileError::Row {
                line: number,
                problem,
            })?;
            hasher.update(&line);
            continue;
        }
        let trailer = serde_json::from_slice::<Trailer>(text);
        let trailer = trailer.map_err(|_| FileError::Line(number))?;
        if trailer.blake3 != Digest(*hasher.finalize().as_bytes()).to_string() {
            return Err(FileError::Checksum);
        }
        break;
    }
    if input.read(&mut [0])? != 0 {
        return Err(FileError::TooLong);
    }
    let found = builder.len();
    if u64::try_from(found) != Ok(promised) {
        return Err(FileError::Count { promised, found });
    }
    Ok(builder.build(position, index))
}

impl Header<'_> {
    fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            generation: self.generation,
            local: self.local,
        }
    }
}

fn header(line: &[u8]) -> Result<Header<'_>, FileError> {
    #[derive(Deserialize)]
    struct VersionOnly {
        v: u64,
    }
    let VersionOnly { v } = serde_json::from_slice(line).map_err(|_| FileError::Line(1))?;
    if !(VERSION_PLAIN..=VERSION_MAX).contains(&v) {
        return Err(FileError::Version(v));
    }
    let header: Header = serde_json::from_slice(line).map_err(|_| FileError::Line(1))?;
    let has_local = header.local != 0;
    if header.kind == KIND && has_local == (v > VERSION_PLAIN) {
        Ok(header)
    } else {
        Err(FileError::Line(1))
    }
}

/// One line with its end; a file that stops in the middle of a line is short.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<(), FileError> {
    line.clear();
    input.take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        Ok(())
    } else {
        Err(FileError::Short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn file(keys: &BTreeMap<String, Binding>, position: Position) -> Vec<u8> {
        let index = Index::default();
        let mut builder = Builder::default();
        for (key, binding) in keys {
            builder.push(key, binding.clone()).unwrap();
        }
        let mut out = Vec::new();
        write(&builder.build(position, &index), &index, &mut out).unwrap();
        out
    }

    /// A good header whose count is a lie.
    const HEADER: &str =
        r#"{"v":1,"kind":"oca-manifest","epoch":0,"generation":0,"keys":99999999999}"#;

    fn sample() -> Vec<u8> {
        let bindings = ["a", "b/c"].map(|key| {
            let binding = Binding {
                digest: Digest::of(key.as_bytes()),
                length: 9,
                last_modified: 1,
                rank: 2,
            };
            (key.to_owned(), binding)
        });
        file(&bindings.into(), at(1))
    }

    fn at(local: u64) -> Position {
        Position {
            epoch: 7,
            generation: 3,
            local,
        }
    }

    fn bindings() -> impl Strategy<Value = BTreeMap<String, Binding>> {
        let binding =
            (any::<u8>(), 0..1_u64 << 56, any::<u32>()).prop_map(|(n, t, rank)| Binding {
                digest: Digest::of(&[n]),
                length: u64::from(n),
                last_modified: t,
                rank,
            });
        proptest::collection::btree_map("[a-z]{1,9}(/[A-Z0-9._~-]{3,9}){0,3}", binding, 0..40)
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = sample();
        assert!(read(&mut &good[..], &Index::default()).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            let index = Index::default();
            assert!(read(&mut &bad[..], &index).is_err(), "byte {at}");
            assert_eq!(index.len(), 0, "a damaged file leaves nothing in the index");
            assert!(read(&mut &good[..at], &index).is_err(), "cut at {at}");
        }
        let longer = [&good[..], b"x"].concat();
        assert!(matches!(
            read(&mut &longer[..], &Index::default()),
            Err(FileError::TooLong)
        ));
    }

    #[test]
    fn an_endless_line_is_not_read_to_its_end() {
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert!(matches!(position(&mut endless), Err(FileError::Short)));
    }

    #[test]
    fn a_later_version_is_named() {
        let text = "{\"v\":3,\"something\":\"else\"}\n";
        assert!(matches!(
            position(&mut text.as_bytes()),
            Err(FileError::Version(3))
        ));
    }

    #[test]
    fn the_first_version_is_written_wherever_it_says_enough() {
        let header = |local| {
            let bytes = file(&BTreeMap::new(), at(local));
            let text = String::from_utf8(bytes).unwrap();
            text.lines().next().unwrap().to_owned()
        };
        assert_eq!(
            header(0),
            r#"{"v":1,"kind":"oca-manifest","epoch":7,"generation":3,"keys":0}"#
        );
        assert_eq!(
            header(2),
            r#"{"v":2,"kind":"oca-manifest","epoch":7,"generation":3,"local":2,"keys":0}"#
        );
        // Neither version means what only the other can say.
        for lie in [
            header(2).replace("2,\"kind", "1,\"kind"),
            header(0).replace("1,\"k", "2,\"k"),
        ] {
            assert!(matches!(
                position(&mut format!("{lie}\n").as_bytes()),
                Err(FileError::Line(1))
            ));
        }
    }

    proptest! {
        #[test]
        fn a_manifest_survives_its_file(keys in bindings(), place in any::<[u64; 3]>()) {
            prop_assume!(keys.keys().all(|key| crate::key::check(key.as_bytes()).is_ok()));
            let place = Position { epoch: place[0], generation: place[1], local: place[2] };
            let bytes = file(&keys, place);
            let index = Index::default();
            let manifest = read(&mut &bytes[..], &index).unwrap();
            prop_assert_eq!(manifest.position, place);
            let back: BTreeMap<String, Binding> = manifest
                .rows()
                .map(|(key, row)| (key.to_owned(), manifest.binding(row, &index).unwrap()))
                .collect();
            prop_assert_eq!(back, keys);
            let found = position(&mut &bytes[..]).unwrap();
            prop_assert_eq!(found, place);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let index = Index::default();
            prop_assert!(read(&mut &bytes[..], &index).is_err());
            prop_assert_eq!(index.len(), 0);
        }

        #[test]
        fn no_lines_panic(lines in proptest::collection::vec(
            prop_oneof![
                Just(HEADER),
                Just("{\"k\":\"a\",\"d\":\"x\",\"n\":1,\"t\":1,\"r\":1}"),
                Just("{\"blake3\":\"\"}"),
                Just("{}"),
            ],
            0..6,
        )) {
            let text = lines.join("\n") + "\n";
            prop_assert!(read(&mut text.as_bytes(), &Index::default()).is_err());
        }
    }
}
