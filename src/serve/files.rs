//! Objects one worker has open.
//!
//! Opening goes to the disk's own thread; a hot object would pay that for each request. Two tables
//! make a cheap approximation of least-recently-used: what is asked for moves to the young one;
//! when that is half of the room, it becomes the old one and the old one is closed. An entry lives
//! a minute only, used or not: that bounds how long a deleted object's space stays taken, and it
//! needs no other invalidation. A descriptor of a sick disk is forgotten when a read fails; until
//! then it gives what is in memory.

use crate::clock::Instant;
use crate::object::Digest;
use crate::store::ObjectFile;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// Descriptors kept by one worker at most: past this a miss is too rare to matter.
const OPEN_MAX: usize = 16_384;

/// How long an open object is used before it is opened again. Opening costs two changes of thread,
/// several times what a small object's response costs: ten seconds would be felt.
const OPEN_TIME: Duration = Duration::from_secs(60);

/// Each with the time until which it is used.
type Table = HashMap<Digest, (Instant, Arc<ObjectFile>), BuildHasherDefault<DigestHasher>>;

/// A digest is as good as random; eight of its bytes need no further mixing.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some((first, _)) = bytes.split_first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The array's length, the same for all.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub(super) struct Files {
    most: usize,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    young: Table,
    old: Table,
}

/// Room for each of `workers`: together a quarter of what the process may open; viewers need the
/// rest.
pub(super) fn room(workers: usize) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let quarter = usize::try_from(limit / 4).unwrap_or(OPEN_MAX);
    (quarter / workers.max(1)).min(OPEN_MAX)
}

impl Files {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            tables: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, digest: Digest, now: Instant) -> Option<Arc<ObjectFile>> {
        let mut tables = self.lock();
        if let Some((until, file)) = tables.young.get(&digest) {
            return (now < *until).then(|| Arc::clone(file));
        }
        let (until, file) = tables.old.remove(&digest)?;
        let found = (now < until).then(|| Arc::clone(&file))?;
        tables.keep(self.most, until, file);
        Some(found)
    }

    pub(super) fn put(&self, file: &Arc<ObjectFile>, now: Instant) {
        self.lock()
            .keep(self.most, now + OPEN_TIME, Arc::clone(file));
    }

    /// A read failed: the next request asks the store again.
    pub(super) fn forget(&self, digest: Digest) {
        let mut tables = self.lock();
        tables.young.remove(&digest);
        tables.old.remove(&digest);
    }

    /// Closes what has been open long enough. Called every few seconds.
    pub(super) fn sweep(&self, now: Instant) {
        let mut tables = self.lock();
        let Tables { young, old } = &mut *tables;
        for table in [young, old] {
            table.retain(|_, (until, _)| now < *until);
        }
    }
}

impl Tables {
    fn keep(&mut self, most: usize, until: Instant, file: Arc<ObjectFile>) {
        if self.young.len() >= most / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        if most > 1 {
            self.young.insert(file.digest, (until, file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn object(number: usize) -> Arc<ObjectFile> {
        Arc::new(ObjectFile {
            file: std::fs::File::open("/dev/null").unwrap(),
            length: 0,
            digest: Digest::of(&number.to_le_bytes()),
            volume: 0,
        })
    }

    fn held(files: &Files) -> usize {
        let tables = files.lock();
        tables.young.len() + tables.old.len()
    }

    #[tokio::test(start_paused = true)]
    async fn open_objects_are_few_and_do_not_stay_open() {
        let files = Files::new(20);
        let start = clock::now();
        let hot = object(0);
        files.put(&hot, start);
        assert!(files.get(hot.digest, start).is_some());
        assert!(files.get(hot.digest, start + OPEN_TIME).is_none());
        for number in 1..100 {
            files.put(&object(number), start);
            assert!(held(&files) <= 20);
            assert!(files.get(hot.digest, start).is_some(), "a hot object stays");
        }
        assert!(
            files.get(object(50).digest, start).is_none(),
            "a cold one goes"
        );
        files.forget(hot.digest);
        assert!(files.get(hot.digest, start).is_none());
        files.sweep(start + OPEN_TIME);
        assert_eq!(held(&files), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_nothing_is_kept_and_nothing_breaks() {
        let files = Files::new(0);
        files.put(&object(1), clock::now());
        assert!(files.get(object(1).digest, clock::now()).is_none());
    }
}
