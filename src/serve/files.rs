//! Objects one worker has open.
//!
//! Opening goes to the disk's own thread; a hot object would pay that for each request. An entry
//! lives a few seconds only, used or not: that bounds how long a deleted object's space stays taken
//! and how long a descriptor of a sick disk is used, and it needs no other invalidation.

use crate::clock::Instant;
use crate::object::Digest;
use crate::store::ObjectFile;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// Descriptors kept by one worker. When all are fresh, further objects are opened for each request.
const OPEN_MAX: usize = 1024;

/// How long an open object is used before it is opened again.
const OPEN_TIME: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Files(Mutex<HashMap<Digest, (Instant, Arc<ObjectFile>)>>);

impl Files {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, (Instant, Arc<ObjectFile>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, digest: Digest, now: Instant) -> Option<Arc<ObjectFile>> {
        let files = self.lock();
        let (opened, file) = files.get(&digest)?;
        (now.saturating_duration_since(*opened) < OPEN_TIME).then(|| Arc::clone(file))
    }

    pub(super) fn put(&self, file: &Arc<ObjectFile>, now: Instant) {
        let mut files = self.lock();
        if files.len() < OPEN_MAX || files.contains_key(&file.digest) {
            files.insert(file.digest, (now, Arc::clone(file)));
        }
    }

    /// A read failed: the next request asks the store again.
    pub(super) fn forget(&self, digest: Digest) {
        self.lock().remove(&digest);
    }

    /// Closes what has been open long enough. Called every few seconds.
    pub(super) fn sweep(&self, now: Instant) {
        self.lock()
            .retain(|_, (opened, _)| now.saturating_duration_since(*opened) < OPEN_TIME);
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
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

    #[tokio::test(start_paused = true)]
    async fn open_objects_are_few_and_do_not_stay_open() {
        let files = Files::default();
        let start = clock::now();
        let hot = object(0);
        files.put(&hot, start);
        assert!(files.get(hot.digest, start).is_some());
        assert!(files.get(hot.digest, start + OPEN_TIME).is_none());
        files.forget(hot.digest);
        assert!(files.get(hot.digest, start).is_none());
        let null = object(1);
        for number in 0..OPEN_MAX + 10 {
            let file = ObjectFile {
                file: null.file.try_clone().unwrap(),
                length: 0,
                digest: Digest::of(&number.to_le_bytes()),
                volume: 0,
            };
            files.put(&Arc::new(file), start);
            if number > 100 {
                break;
            }
        }
        assert_eq!(files.lock().len(), 102);
        files.sweep(start + OPEN_TIME);
        assert_eq!(files.lock().len(), 0);
    }
}
