//! Media trees: a directory of an operator's files, listed and read without surprises.
//!
//! `walk` lists what is there → [`key_of`] decides what may become a key → `file` reads one and
//! notices when it changes. Plumbing of prefill (`store`) and of the directory origin (`origin`),
//! so that a box and the control plane take the same files under the same keys. Never writes.
//!
//! I/O: reads the operator's directory tree; blocks.

mod file;
mod walk;

use crate::key::Key;
use crate::media_type;

pub use file::FileError;
pub use file::StableFile;
pub use walk::Found;
pub use walk::Item;
pub use walk::walk;

/// The file that marks a directory as a content disk of a box, which is never media.
pub const CONTENT_DISK_FILE: &str = "DISK.json";

/// Why a file is not taken, and what the operator can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub problem: String,
    pub remedy: String,
}

/// The key of a file by its relative path; refuses what is no key and what a browser would run.
pub fn key_of(name: &[u8]) -> Result<Key, Refusal> {
    let key = Key::parse(name)
        .map_err(|error| Refusal::new(format!("its path is no key: {error}"), "rename it"))?;
    if media_type::is_active(key.as_str()) {
        return Err(Refusal::new(
            "a browser would run or render this type",
            "leave it out: the cache serves media, not pages",
        ));
    }
    Ok(key)
}

impl Refusal {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// Seconds and nanoseconds of a file's time as one number.
fn nanoseconds((seconds, nanoseconds): (i64, i64)) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
