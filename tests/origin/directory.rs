//! The import from a directory: what is remembered, what changes, what is stopped.

use crate::lab::keys;
use futures_util::future::BoxFuture;
use oca::control::import;
use oca::control::import::ImportError;
use oca::control::import::Summary;
use oca::control::store::CachedDigest;
use oca::control::store::ControlStore as _;
use oca::control::store::SqlStore;
use oca::object::CHUNK_BYTES;
use oca::object::ChunkTree;
use oca::object::Digest;
use oca::origin::DirectoryOrigin;
use oca::origin::Entry;
use oca::origin::Listing;
use oca::origin::Origin;
use oca::origin::OriginError;
use oca::origin::Reading;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

struct Place {
    dir: TempDir,
    store: SqlStore,
}

impl Place {
    async fn new(files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqlStore::open(&dir.path().join("control.sqlite")).await;
        let place = Self {
            store: store.unwrap(),
            dir,
        };
        for (name, bytes) in files {
            place.write(name, bytes);
        }
        place
    }

    fn media(&self) -> std::path::PathBuf {
        self.dir.path().join("media")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.media().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn origin(&self) -> Watched {
        Watched::new(&self.media())
    }

    async fn import(&self, origin: &Watched) -> Result<Summary, ImportError> {
        import::run_from(origin, &self.store, &mut |_| {}, &origin.stop).await
    }
}

type Spoiler = Box<dyn FnMut(&str) + Send>;

/// A directory that notes what is read of it, and whose files somebody changes before they are.
struct Watched {
    inner: DirectoryOrigin,
    read: Mutex<Vec<String>>,
    before_read: Mutex<Option<Spoiler>>,
    stop: AtomicBool,
    /// Ends the import before this file.
    stop_at: Option<usize>,
}

impl Watched {
    fn new(dir: &Path) -> Self {
        Self {
            inner: DirectoryOrigin::new(dir).unwrap(),
            read: Mutex::default(),
            before_read: Mutex::new(None),
            stop: AtomicBool::new(false),
            stop_at: None,
        }
    }

    fn read_names(&self) -> Vec<String> {
        std::mem::take(&mut *self.read.lock().unwrap())
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Origin for Watched {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn list(&self) -> Listing {
        self.inner.list()
    }

    fn look(&self, name: &str) -> BoxFuture<'static, Result<Entry, OriginError>> {
        self.inner.look(name)
    }

    fn read(&self, entry: &Entry) -> Reading {
        let mut read = self.read.lock().unwrap();
        read.push(entry.name.clone());
        if self.stop_at == Some(read.len()) {
            self.stop.store(true, Ordering::Release);
        }
        if let Some(spoil) = &mut *self.before_read.lock().unwrap() {
            spoil(&entry.name);
        }
        self.inner.read(entry)
    }
}

#[tokio::test]
async fn the_second_import_reads_nothing_and_the_third_what_is_new() {
    let files: [(&str, &[u8]); 3] = [
        ("a/v1/s.m4s", b"one"),
        ("a/v1/t.m4s", b"two"),
        ("top.mp4", b"three"),
    ];
    let place = Place::new(&files).await;
    std::os::unix::fs::symlink("top.mp4", place.media().join("link.mp4")).unwrap();
    let origin = place.origin();
    let first = place.import(&origin).await.unwrap();
    assert_eq!((first.files, first.hashed, first.keys_new), (3, 3, 3));
    assert_eq!(first.refused[0].key, "link.mp4");
    assert_eq!(origin.read_names().len(), 3);
    let second = place.import(&origin).await.unwrap();
    assert_eq!((second.cached, second.keys_new), (3, 0));
    assert_eq!(origin.read_names(), Vec::<String>::new());
    place.write("b/n.mp4", b"four");
    let third = place.import(&origin).await.unwrap();
    assert_eq!((third.cached, third.hashed, third.keys_new), (3, 1, 1));
    assert_eq!(origin.read_names(), ["b/n.mp4"]);
    let keys = keys(&place.store).await;
    assert_eq!(keys["top.mp4"], Digest::of(b"three"));
    assert_eq!(keys["b/n.mp4"], Digest::of(b"four"));
    let told = serde_json::to_value(&third).unwrap();
    assert_eq!(told["cached"], 3, "{told}");
}

#[tokio::test]
async fn a_new_word_beside_a_file_is_read_and_its_removal_too() {
    let place = Place::new(&[("a.mp4", b"film")]).await;
    let origin = place.origin();
    place.import(&origin).await.unwrap();
    origin.read_names();
    // The same digest: nothing changes but who said it.
    let word = format!("{}  a.mp4\n", Digest::of(b"film"));
    place.write("a.mp4.b3", word.as_bytes());
    let told = place.import(&origin).await.unwrap();
    assert_eq!((told.trusted, told.keys_new), (1, 0));
    assert_eq!(origin.read_names(), ["a.mp4.b3"]);
    assert_eq!(place.import(&origin).await.unwrap().cached, 1);
    // Another one would bind the key to other bytes.
    let word = Digest::of(b"other").to_string();
    place.write("a.mp4.b3", word.as_bytes());
    let error = place.import(&origin).await.unwrap_err();
    assert!(
        error.is_refusal() && error.to_string().contains("a.mp4"),
        "{error}"
    );
    std::fs::remove_file(place.media().join("a.mp4.b3")).unwrap();
    assert_eq!(place.import(&origin).await.unwrap().hashed, 1);
}

#[tokio::test]
async fn a_file_that_changes_once_is_read_again_and_one_that_goes_on_changing_is_refused() {
    let place = Place::new(&[
        ("once.mp4", b"old"),
        ("always.mp4", b"old"),
        ("c.mp4", b"c"),
    ])
    .await;
    let media = place.media();
    let mut times = 0;
    let origin = place.origin();
    *origin.before_read.lock().unwrap() = Some(Box::new(move |name| match name {
        "once.mp4" if times == 0 => {
            times += 1;
            std::fs::write(media.join(name), b"written meanwhile").unwrap();
        }
        "always.mp4" => {
            let longer = [&std::fs::read(media.join(name)).unwrap()[..], b"x"].concat();
            std::fs::write(media.join(name), longer).unwrap();
        }
        _ => {}
    }));
    let summary = place.import(&origin).await.unwrap();
    assert_eq!(summary.keys_new, 2, "{summary:?}");
    assert_eq!(summary.refused.len(), 1);
    assert_eq!(summary.refused[0].key, "always.mp4");
    assert!(
        summary.refused[0].why.contains("writer"),
        "{:?}",
        summary.refused
    );
    let read = origin.read_names();
    let count = |name: &str| read.iter().filter(|read| *read == name).count();
    assert_eq!([count("once.mp4"), count("always.mp4")], [2, 2]);
    let keys = keys(&place.store).await;
    assert_eq!(keys["once.mp4"], Digest::of(b"written meanwhile"));
    // What was remembered is the state that was read.
    *origin.before_read.lock().unwrap() = None;
    assert_eq!(place.import(&origin).await.unwrap().cached, 2);
}

#[tokio::test]
async fn a_stopped_import_binds_nothing_and_the_next_goes_on_where_it_was() {
    let names: Vec<String> = (0..20).map(|n| format!("a/{n:02}.m4s")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), name.as_bytes()))
        .collect();
    let place = Place::new(&files).await;
    let mut origin = place.origin();
    origin.stop_at = Some(7);
    let summary = place.import(&origin).await.unwrap();
    assert!(summary.interrupted);
    assert_eq!(summary.keys_new, 0);
    assert_eq!(keys(&place.store).await.len(), 0);
    let read = origin.read_names().len();
    // Two are under way at a time: what had begun is finished, and no other begun.
    assert!((7..=8).contains(&read), "{read}");
    let origin = place.origin();
    let summary = place.import(&origin).await.unwrap();
    assert_eq!((summary.cached, summary.keys_new), (read as u64, 20));
    assert_eq!(origin.read_names().len(), 20 - read);
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_is_named() {
    let place = Place::new(&[("a.mp4", b"x"), ("DISK.json", b"{}")]).await;
    let error = place.import(&place.origin()).await.unwrap_err().to_string();
    assert!(error.contains("content disk"), "{error}");
    assert!(DirectoryOrigin::new(&place.media().join("absent")).is_err());
}

/// Bytes of three chunks.
fn large() -> Vec<u8> {
    let chunk = usize::try_from(CHUNK_BYTES).unwrap();
    (0..=250).cycle().take(2 * chunk + 9).collect()
}

#[tokio::test]
async fn large_files_are_read_for_their_chunk_trees_even_if_their_digest_is_known() {
    let bytes = large();
    let digest = Digest::of(&bytes);
    let place = Place::new(&[("a/large.mp4", &bytes), ("a/small.mp4", b"s")]).await;
    let origin = place.origin();
    // As an import left it that kept digests only.
    let entry = origin.look("a/large.mp4").await.unwrap();
    let cached = CachedDigest {
        size: entry.size,
        tag: entry.tag,
        digest,
    };
    let cached = BTreeMap::from([("a/large.mp4".to_owned(), cached)]);
    let kept = place.store.put_cached_digests(origin.name(), cached).await;
    kept.unwrap();
    let first = place.import(&origin).await.unwrap();
    assert_eq!((first.hashed, first.cached, first.keys_new), (2, 0, 2));
    let trees = place.store.trees(vec![digest]).await.unwrap();
    let tree = ChunkTree::verified(digest, bytes.len() as u64, trees[&digest].clone());
    assert_eq!(tree.unwrap().chunks().len(), 3);
    origin.read_names();
    let second = place.import(&origin).await.unwrap();
    assert_eq!((second.hashed, second.cached), (0, 2));
    assert_eq!(origin.read_names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_word_beside_a_large_file_is_compared_with_its_bytes_once() {
    let bytes = large();
    let place = Place::new(&[("a.mp4", &bytes)]).await;
    let origin = place.origin();
    place.write("a.mp4.b3", Digest::of(b"lie").to_string().as_bytes());
    let lie = place.import(&origin).await.unwrap();
    assert_eq!((lie.refused_total, lie.keys_new), (1, 0));
    assert!(lie.refused[0].why.contains("another digest"), "{lie:?}");
    place.write("a.mp4.b3", Digest::of(&bytes).to_string().as_bytes());
    let read = place.import(&origin).await.unwrap();
    assert_eq!((read.hashed, read.trusted, read.keys_new), (1, 0, 1));
    // The tree is kept: the word alone is enough for a copy of it.
    place.write("b.mp4", &bytes);
    place.write("b.mp4.b3", Digest::of(&bytes).to_string().as_bytes());
    origin.read_names();
    let copy = place.import(&origin).await.unwrap();
    assert_eq!((copy.trusted, copy.cached, copy.keys_new), (1, 1, 1));
    assert_eq!(origin.read_names(), ["b.mp4.b3"]);
}

#[tokio::test]
async fn trees_of_an_import_that_is_stopped_are_kept() {
    let place = Place::new(&[]).await;
    let digests: Vec<Digest> = (0..5)
        .map(|number: u8| {
            let mut bytes = large();
            bytes[0] = number;
            place.write(&format!("{number}.mp4"), &bytes);
            Digest::of(&bytes)
        })
        .collect();
    let mut origin = place.origin();
    origin.stop_at = Some(1);
    let stopped = place.import(&origin).await.unwrap();
    assert!(stopped.interrupted && stopped.keys_new == 0);
    let known = place.store.known_trees(digests).await.unwrap().len() as u64;
    assert!(
        (1..5).contains(&known),
        "{known}: reads under way are finished"
    );
    let origin = place.origin();
    let rest = place.import(&origin).await.unwrap();
    assert_eq!((rest.cached, rest.hashed), (known, 5 - known));
    assert_eq!(rest.keys_new, 5);
}
