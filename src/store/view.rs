//! The store as others see it: [`View`] and the rows of the catalogue.

use super::CatalogueRow;
use super::DiskView;
use super::ManifestView;
use super::View;
use super::core::Shared;
use super::manifest::Manifest;
use super::volume::Volume;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Keys with a wrong length that are named; more are counted.
const CONFLICTS_SHOWN: u64 = 10;

/// Builds the view of this moment and tells everybody.
pub(super) fn publish(shared: &Shared) {
    let lock = &shared.view_builder;
    let _one_builder = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = shared.changes.load(Ordering::Acquire);
    // Asked first: once it is true, the manifest read after it is the one that was loaded.
    let manifest_loaded = shared.manifest_loaded.load(Ordering::Acquire);
    let manifest = shared.manifest.load();
    let mut view = View {
        generation,
        manifest_loaded,
        disks: shared.volumes.iter().map(|volume| disk(volume)).collect(),
        moves: shared.mover.view(),
        ..View::default()
    };
    if let Some(manifest) = manifest.as_deref() {
        count(shared, manifest, &mut view);
    }
    shared.view.send_replace(Arc::new(view));
}

/// The view once more, with its disks as they are at this moment: what they hold for viewers is as
/// it was, and counting millions of keys takes its time.
pub(super) fn refresh_disks(shared: &Shared) {
    let lock = &shared.view_builder;
    let _one_builder = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let mut view = View::clone(&shared.view.borrow());
    view.disks = shared.volumes.iter().map(|volume| disk(volume)).collect();
    view.moves = shared.mover.view();
    shared.view.send_replace(Arc::new(view));
}

fn count(shared: &Shared, manifest: &Manifest, view: &mut View) {
    let mut seen = vec![0_u64; shared.index.len() as usize / 64 + 1];
    let mut missing = 0;
    for (_, row) in manifest.rows() {
        let Some(entry) = row.finding(&shared.index).entry() else {
            missing += 1;
            continue;
        };
        view.objects += 1;
        // Several keys may name one object, whose bytes are there once.
        let bit = 1 << (row.object % 64);
        if let Some(word) = seen.get_mut(row.object as usize / 64)
            && *word & bit == 0
        {
            *word |= bit;
            view.bytes += entry.length;
        }
    }
    view.manifest = Some(ManifestView {
        epoch: manifest.position.epoch,
        generation: manifest.position.generation,
        keys: u64::try_from(manifest.len()).unwrap_or(u64::MAX),
        missing,
    });
}

/// Keys whose object is not as long as the manifest says, though a sidecar vouches for it.
pub(super) fn name_conflicts(shared: &Shared) {
    let manifest = shared.manifest.load();
    let rows = manifest.iter().flat_map(|manifest| manifest.rows());
    let index = &shared.index;
    let rows = rows.filter(|(_, row)| index.is_vouched(row.object));
    let conflicts = rows.filter_map(|(key, row)| Some((key, row, row.conflict(index)?)));
    let mut count = 0_u64;
    for (key, row, found) in conflicts {
        count += 1;
        if count <= CONFLICTS_SHOWN {
            let claimed = row.length();
            tracing::error!(
                key,
                "key `{key}` is not served: the manifest says {claimed} bytes and its object has \
                 {found}; prefill the file again to correct the manifest"
            );
        }
    }
    if count > CONFLICTS_SHOWN {
        tracing::error!(
            count,
            "{count} keys are not served: the manifest's lengths are wrong"
        );
    }
}

fn disk(volume: &Volume) -> DiskView {
    let status = volume.status();
    let tally = &volume.tally;
    let reason = match volume.damaged.told() {
        None => status.reason,
        Some(damaged) => Some(match status.reason {
            None => damaged,
            Some(reason) => format!("{reason}; {damaged}"),
        }),
    };
    DiskView {
        path: volume.config.path.clone(),
        uuid: volume.home().map(|home| home.uuid.clone()),
        class: volume.config.class,
        zone: volume.config.zone,
        state: status.state.as_str(),
        reason,
        since: status.since.to_string(),
        objects: tally.objects.load(Ordering::Relaxed),
        bytes: tally.bytes.load(Ordering::Relaxed),
        free: tally.free.load(Ordering::Relaxed),
        quarantined: tally.quarantined.load(Ordering::Relaxed),
        writes: volume.writes.name(),
        quarantined_bytes: tally.quarantined_bytes.load(Ordering::Relaxed),
        cold: volume.fills.view(),
        scrub: volume.scrub.view(),
        scan: volume.census.view(),
        retire: volume.retire_view(),
    }
}

/// Rows in key order: those whose key starts with `prefix` and is greater than `after`.
pub(super) fn catalogue(
    shared: &Shared,
    prefix: &str,
    after: Option<&str>,
    most: usize,
) -> Vec<CatalogueRow> {
    let manifest = shared.manifest.load();
    let Some(manifest) = manifest.as_deref() else {
        return Vec::new();
    };
    manifest
        .page(prefix, after)
        .filter_map(|(key, row)| {
            let binding = manifest.binding(row, &shared.index)?;
            let readable = shared.index.readable(row.object).iter().next();
            let disk = readable.and_then(|number| shared.volume(number));
            Some(CatalogueRow {
                key: key.to_owned(),
                digest: binding.digest,
                bytes: binding.length,
                disk: disk.map(|volume| volume.config.path.clone()),
                rank: row.rank,
            })
        })
        .take(most)
        .collect()
}
