//! The built-in title: CMAF that a player plays, embedded, so that the demo needs no file.
//!
//! `tests/media/make` made the files; a test compares the list with the directory.
//!
//! I/O: writes files.

use anyhow::Context as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// The directory of the title below what is prefilled, so that its keys begin with it.
pub(super) const DIRECTORY: &str = "title";

macro_rules! embedded {
    ($($name:literal,)*) => {
        &[$(($name, include_bytes!(concat!("../../tests/media/title/", $name)))),*]
    };
}

/// Path below [`DIRECTORY`] and bytes of each file, in path order.
pub const TITLE: &[(&str, &[u8])] = embedded![
    "240p/index.m3u8",
    "240p/init.mp4",
    "240p/seg-0.m4s",
    "240p/seg-1.m4s",
    "240p/seg-2.m4s",
    "240p/seg-3.m4s",
    "240p/seg-4.m4s",
    "240p/seg-5.m4s",
    "240p/seg-6.m4s",
    "240p/seg-7.m4s",
    "360p/index.m3u8",
    "360p/init.mp4",
    "360p/seg-0.m4s",
    "360p/seg-1.m4s",
    "360p/seg-2.m4s",
    "360p/seg-3.m4s",
    "360p/seg-4.m4s",
    "360p/seg-5.m4s",
    "360p/seg-6.m4s",
    "360p/seg-7.m4s",
    "480p/index.m3u8",
    "480p/init.mp4",
    "480p/seg-0.m4s",
    "480p/seg-1.m4s",
    "480p/seg-2.m4s",
    "480p/seg-3.m4s",
    "480p/seg-4.m4s",
    "480p/seg-5.m4s",
    "480p/seg-6.m4s",
    "480p/seg-7.m4s",
    "manifest.mpd",
    "master.m3u8",
    "sound/index.m3u8",
    "sound/init.mp4",
    "sound/seg-0.m4s",
    "sound/seg-1.m4s",
    "sound/seg-2.m4s",
    "sound/seg-3.m4s",
    "sound/seg-4.m4s",
    "sound/seg-5.m4s",
    "sound/seg-6.m4s",
    "sound/seg-7.m4s",
];

/// Writes the title below `dir` and returns `dir`.
pub(super) fn write(dir: &Path) -> anyhow::Result<PathBuf> {
    for (name, bytes) in TITLE {
        let path = dir.join(DIRECTORY).join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(dir.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::content::walk;
    use crate::demo::scratch::Scratch;

    #[test]
    fn the_embedded_list_is_what_the_directory_holds() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media/title");
        let held: Vec<String> = walk(&dir).unwrap().into_keys().collect();
        let listed: Vec<&str> = TITLE.iter().map(|(name, _)| *name).collect();
        assert_eq!(held, listed, "adapt TITLE in src/demo/title.rs");
    }

    #[test]
    fn what_is_written_is_what_was_embedded() {
        let scratch = Scratch::new("oca-title-test").unwrap();
        let media = write(&scratch.path().join("media")).unwrap();
        for (name, bytes) in TITLE {
            let written = fs::read(media.join(DIRECTORY).join(name)).unwrap();
            assert_eq!(written, *bytes, "{name}");
        }
    }
}
