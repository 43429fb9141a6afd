//! What tests of this room share.

use super::Config;
use super::DiskClass;
use super::DiskConfig;
use super::Handle;
use super::Upkeep;
use super::Zone;
use crate::clock;
use std::path::Path;
use std::time::Duration;

/// A store with the one disk `dir/disk`, which it makes if it is not there; ready.
pub(super) fn store_of_one(dir: &Path) -> Handle {
    store_of(dir, &["disk"], Upkeep::default())
}

/// As [`store_of_one`], with these disks below `dir`.
pub(super) fn store_of(dir: &Path, disks: &[&str], upkeep: Upkeep) -> Handle {
    let disk = |name: &&str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        DiskConfig {
            path,
            class: DiskClass::Ssd,
            zone: Zone::None,
            plain_directory: true,
        }
    };
    let config = Config {
        disks: disks.iter().map(disk).collect(),
        state_dir: dir.join("state"),
        deadline: Duration::from_secs(10),
        upkeep,
    };
    let store = super::start(&config).unwrap();
    until(|| store.is_ready());
    store
}

/// Blocks until it holds; a test that waits in vain fails.
pub(super) fn until(mut holds: impl FnMut() -> bool) {
    let end = clock::now() + Duration::from_secs(30);
    while !holds() {
        assert!(clock::now() < end, "waited in vain");
        clock::block_for(Duration::from_millis(5));
    }
}
