//! What of an origin is content: names that are keys, of types that no browser would run.
//!
//! `<key>.b3` files are kept apart as the word of their neighbours. Everything else is refused with
//! its reason, or skipped when nobody meant it to be content.
//!
//! I/O: lists the origin.

use super::ImportError;
use super::Progress;
use super::Summary;
use crate::control::store::ImportedKey;
use crate::control::store::SIDECAR_MARK;
use crate::key::Key;
use crate::object::Digest;
use crate::object::OBJECT_BYTES_MAX;
use crate::origin::Entry;
use crate::origin::Listed;
use crate::origin::Origin;
use crate::tree;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Three times what the largest box holds; each costs some 300 bytes of memory while it lasts.
const FILES_MAX: usize = 10_000_000;

/// Beside `a.mp4`: `a.mp4.b3`.
const SIDECAR: &str = ".b3";

/// So many listed files make one word of progress.
const PROGRESS_EVERY: u64 = 1000;

/// What is to be imported, by name.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) files: Vec<File>,
}

#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) key: Key,
    pub(super) entry: Entry,
    pub(super) sidecar: Option<Entry>,
}

/// Lists the origin; refusals go to `summary`.
pub(super) async fn list(
    origin: &dyn Origin,
    summary: &mut Summary,
    progress: &mut (dyn FnMut(Progress) + Send),
    stop: &AtomicBool,
) -> Result<Plan, ImportError> {
    let mut files: BTreeMap<String, Entry> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, Entry> = BTreeMap::new();
    let mut at = Progress::default();
    let mut listing = origin.list();
    while let Some(listed) = listing.next().await {
        if stop.load(Ordering::Acquire) {
            summary.interrupted = true;
            return Ok(Plan::default());
        }
        match listed? {
            Listed::Skipped => summary.skipped += 1,
            Listed::Refused { name, why } => summary.refuse(&name, why),
            Listed::File(entry) => match entry.name.strip_suffix(SIDECAR) {
                Some(of) => drop(sidecars.insert(of.to_owned(), entry)),
                None => {
                    at.files += 1;
                    at.bytes = at.bytes.saturating_add(entry.size);
                    files.insert(entry.name.clone(), entry);
                }
            },
        }
        if files.len() + sidecars.len() > FILES_MAX {
            return Err(ImportError::TooMany {
                source_name: origin.name(),
                most: FILES_MAX,
            });
        }
        if at.files % PROGRESS_EVERY == 0 {
            progress(at);
        }
    }
    Ok(sort_out(files, sidecars, summary))
}

fn sort_out(
    files: BTreeMap<String, Entry>,
    mut sidecars: BTreeMap<String, Entry>,
    summary: &mut Summary,
) -> Plan {
    let mut plan = Plan::default();
    for (name, entry) in &files {
        let sidecar = sidecars.remove(name);
        if entry.size == 0 && is_directory(&files, name) {
            // What S3 consoles write in the place of a directory.
            summary.skipped += 1;
            continue;
        }
        match accept(entry) {
            Ok(key) => plan.files.push(File {
                key,
                entry: entry.clone(),
                sidecar,
            }),
            Err(why) => summary.refuse(name, why),
        }
    }
    summary.skipped += sidecars.len() as u64;
    plan
}

/// Does anything lie below a path of this name?
fn is_directory(files: &BTreeMap<String, Entry>, name: &str) -> bool {
    let below = format!("{name}/");
    let next = files.range(below.clone()..).next();
    next.is_some_and(|(next, _)| next.starts_with(&below))
}

/// The key of a file that may be content.
pub(super) fn accept(entry: &Entry) -> Result<Key, String> {
    let key = tree::key_of(entry.name.as_bytes())
        .map_err(|refusal| format!("{}; {}", refusal.problem, refusal.remedy))?;
    if entry.size == 0 {
        return Err("it is empty; finish writing it: an empty file is never media".into());
    }
    if entry.size > OBJECT_BYTES_MAX {
        let size = entry.size;
        return Err(format!(
            "{size} bytes are more than an object may have; cut it into segments"
        ));
    }
    Ok(key)
}

impl Plan {
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.files.iter().map(|file| file.entry.size);
        sizes.fold(0, u64::saturating_add)
    }
}

impl File {
    /// What is remembered of a file: its state, and that of what speaks for it.
    pub(super) fn tag(&self, entry: &Entry) -> String {
        match &self.sidecar {
            None => entry.tag.clone(),
            Some(sidecar) => format!("{}{SIDECAR_MARK}{}", entry.tag, sidecar.tag),
        }
    }

    pub(super) fn imported(&self, entry: &Entry, digest: Digest) -> ImportedKey {
        ImportedKey {
            key: self.key.clone(),
            digest,
            length: entry.size,
            last_modified: entry.last_modified,
            // Kept by the reader as it goes: all trees at once would fill memory.
            tree: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(files: &[(&str, u64)]) -> (Vec<String>, Summary) {
        let entry = |name: &str, size| Entry {
            name: name.into(),
            size,
            tag: "1".into(),
            last_modified: 0,
        };
        let mut content = BTreeMap::new();
        let mut sidecars = BTreeMap::new();
        for (name, size) in files {
            match name.strip_suffix(SIDECAR) {
                Some(of) => sidecars.insert(of.to_owned(), entry(name, *size)),
                None => content.insert((*name).to_owned(), entry(name, *size)),
            };
        }
        let mut summary = Summary::default();
        let plan = sort_out(content, sidecars, &mut summary);
        let told = plan.files.iter().map(|file| match &file.sidecar {
            Some(sidecar) => format!("{}+{}", file.key, sidecar.name),
            None => file.key.to_string(),
        });
        (told.collect(), summary)
    }

    #[test]
    fn content_is_told_from_everything_else() {
        let (files, summary) = plan(&[
            ("film/a.mp4", 5),
            ("film/a.mp4.b3", 70),
            ("film/b.mp4", 5),
            ("film", 0),
            ("film/gone.mp4.b3", 70),
            ("film/empty.mp4", 0),
            ("film/huge.mp4", OBJECT_BYTES_MAX + 1),
            ("film/page.html", 5),
            ("film/x y.mp4", 5),
            ("speedtest/x.mp4", 5),
            ("film/\u{7}bell.mp4", 5),
        ]);
        assert_eq!(files, ["film/a.mp4+film/a.mp4.b3", "film/b.mp4"]);
        assert_eq!(summary.skipped, 2, "a directory marker, a lone word");
        let refused: Vec<&str> = summary.refused.iter().map(|r| r.key.as_str()).collect();
        let expected = [
            "film/\u{fffd}bell.mp4",
            "film/empty.mp4",
            "film/huge.mp4",
            "film/page.html",
            "film/x y.mp4",
            "speedtest/x.mp4",
        ];
        assert_eq!(refused, expected);
        let why = |key: &str| {
            let found = summary.refused.iter().find(|refused| refused.key == key);
            found.map(|refused| refused.why.as_str()).unwrap()
        };
        assert!(why("film/page.html").contains("browser"));
        assert!(why("speedtest/x.mp4").contains("reserved"));
    }
}
