//! Objects by the million, laid down as the store publishes them, without a flush for each.
//!
//! Object number n is n zero bytes: true objects, each with a digest of its own, that take no block
//! of the disk. What a start and the scrub look at is all there: name, length and sidecar. Removed
//! when dropped.

use anyhow::Context as _;
use oca::key::Key;
use oca::object::Digest;
use oca::object::TreeBuilder;
use oca::store;
use oca::store::Binding;
use oca::store::DiskClass;
use oca::store::DiskConfig;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// A machine that does nothing else may still wait for its disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys bound at once: what is given to the store is a map in memory.
const KEYS_AT_ONCE: u32 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Ground {
    /// Removed volume by volume, then as a whole.
    dir: tempfile::TempDir,
    pub(crate) objects: u32,
    volumes: usize,
}

impl Ground {
    pub(crate) fn make(below: &Path, objects: u32, volumes: usize) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("oca-bench-store")
            .tempdir_in(below)?;
        let ground = Self {
            dir,
            objects,
            volumes,
        };
        let begun = oca::clock::now();
        drop(open(&ground.config())?);
        let config = ground.config();
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let making = config.disks.iter().enumerate().map(|(number, disk)| {
                scope.spawn(move || lay_down(&disk.path, objects, volumes, number))
            });
            let making: Vec<_> = making.collect();
            for made in making {
                let made = made.join();
                made.map_err(|_| anyhow::anyhow!("a maker panicked"))??;
            }
            Ok(())
        })?;
        ground.bind()?;
        nix::unistd::sync();
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("{objects} objects on {volumes} volumes made in {seconds:.0} s");
        Ok(ground)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> store::Config {
        config(self.path(), self.volumes)
    }

    pub(crate) fn volumes(&self) -> usize {
        self.volumes
    }

    fn bind(&self) -> anyhow::Result<()> {
        let store = open(&self.config())?;
        let mut rows = BTreeMap::new();
        let mut builder = TreeBuilder::new();
        for number in 1..=self.objects {
            builder.update(&[0]);
            let binding = Binding {
                digest: builder.clone().finish().digest(),
                length: u64::from(number),
                last_modified: 1_700_000_000,
                rank: number,
            };
            let key = Key::parse(key(number).as_bytes());
            rows.insert(key.context("a key is no key")?, binding);
            if number % KEYS_AT_ONCE == 0 || number == self.objects {
                store.bind(&rows)?;
                rows.clear();
            }
        }
        store.stop();
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let disks = self.config().disks;
        std::thread::scope(|scope| {
            for disk in disks {
                // What stays is named by nobody: the directory as a whole is removed next.
                scope.spawn(move || fs::remove_dir_all(disk.path).ok());
            }
        });
    }
}

/// Of a title of 600 segments, as players ask for them.
pub(crate) fn key(number: u32) -> String {
    let (title, segment) = (number / 600, number % 600);
    format!("title-{title:05}/v7-1080p/segment-{segment:05}.m4s")
}

pub(crate) fn config(dir: &Path, volumes: usize) -> store::Config {
    let disk = |number: usize| DiskConfig {
        path: dir.join(format!("disk{number}")),
        class: DiskClass::Ssd,
        zone: oca::store::Zone::None,
        plain_directory: true,
    };
    store::Config {
        disks: (0..volumes).map(disk).collect(),
        state_dir: dir.join("state"),
        deadline: PATIENCE,
        upkeep: store::Upkeep::default(),
    }
}

/// Opens a store and waits until it is ready.
pub(crate) fn open(config: &store::Config) -> anyhow::Result<store::Handle> {
    for disk in &config.disks {
        fs::create_dir_all(&disk.path)?;
    }
    let store = store::start(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(store.ready());
    Ok(store)
}

/// Every object of one volume.
fn lay_down(disk: &Path, objects: u32, volumes: usize, own: usize) -> anyhow::Result<()> {
    let mut builder = TreeBuilder::new();
    for number in 1..=objects {
        builder.update(&[0]);
        if number as usize % volumes != own {
            continue;
        }
        let tree = builder.clone().finish();
        let directory = directory(disk, tree.digest());
        let sidecar = directory.join(format!("{}.meta", tree.digest()));
        let bytes = store::encode_sidecar(&tree);
        if fs::write(&sidecar, &bytes).is_err() {
            fs::create_dir_all(&directory)?;
            fs::write(&sidecar, &bytes)?;
        }
        let object = File::create_new(directory.join(tree.digest().to_string()))?;
        object.set_len(u64::from(number))?;
    }
    Ok(())
}

fn directory(disk: &Path, digest: Digest) -> PathBuf {
    let hex = digest.to_string();
    disk.join("objects").join(&hex[..2]).join(&hex[2..4])
}
