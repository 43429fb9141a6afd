//! The library, read whole: one pass over each table, kept compact.
//!
//! Called at start and after each import; a library has millions of keys.

use super::fault::Fault;
use super::fill_rows;
use super::registry_rows::LIBRARY;
use super::registry_rows::revision;
use super::rows;
use crate::control::model::Bundle;
use crate::control::model::BundleKey;
use crate::control::model::Library;
use crate::control::model::Object;
use crate::object::Digest;
use futures_util::TryStreamExt as _;
use sqlx::AnyConnection;
use sqlx::Row as _;
use std::collections::BTreeSet;

pub(super) async fn load(connection: &mut AnyConnection) -> Result<Library, Fault> {
    let mut library = Library {
        revision: revision(connection, LIBRARY).await?,
        ..Library::default()
    };
    objects(connection, &mut library).await?;
    bundles(connection, &mut library).await?;
    keys(connection, &mut library).await?;
    library.titles = fill_rows::titles(connection).await?;
    for bundle in library.bundles.iter_mut().flatten() {
        // Databases sort text by their own rules; ours is by bytes.
        bundle.keys.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        bundle.keys.shrink_to_fit();
        let distinct: BTreeSet<u32> = bundle.keys.iter().map(|key| key.object).collect();
        let lengths = distinct.iter().filter_map(|number| {
            let object = library.objects.get(usize::try_from(*number).ok()?)?;
            Some(object.length)
        });
        bundle.bytes = lengths.fold(0, u64::saturating_add);
    }
    Ok(library)
}

async fn objects(connection: &mut AnyConnection, library: &mut Library) -> Result<(), Fault> {
    let question = "SELECT number, digest, length FROM object ORDER BY number";
    let mut found = sqlx::query(question).fetch(connection);
    while let Some(row) = found.try_next().await? {
        let number: u32 = rows::number(&row, 0)?;
        let object = Object {
            digest: rows::digest(&row, 1)?,
            length: rows::number(&row, 2)?,
        };
        // A number whose row an operator deleted by hand stays without an object.
        while (library.objects.len() as u64) < u64::from(number) {
            library.objects.push(NOTHING);
        }
        library.objects.push(object);
        library.object_numbers.insert(object.digest, number);
    }
    Ok(())
}

/// No bytes hash to it.
const NOTHING: Object = Object {
    digest: Digest([0; 32]),
    length: 0,
};

async fn bundles(connection: &mut AnyConnection, library: &mut Library) -> Result<(), Fault> {
    let question = "SELECT number, directory, popularity FROM bundle ORDER BY number";
    let mut found = sqlx::query(question).fetch(connection);
    while let Some(row) = found.try_next().await? {
        let number: u32 = rows::number(&row, 0)?;
        let directory = rows::text(&row, 1)?;
        let title = directory.split('/').next().unwrap_or_default().to_owned();
        while (library.bundles.len() as u64) < u64::from(number) {
            library.bundles.push(None);
        }
        library.bundle_numbers.insert(directory.clone(), number);
        library.bundles.push(Some(Bundle {
            number,
            directory,
            title,
            keys: Vec::new(),
            bytes: 0,
            popularity: row.try_get(2)?,
        }));
    }
    Ok(())
}

async fn keys(connection: &mut AnyConnection, library: &mut Library) -> Result<(), Fault> {
    let question = "SELECT bundle, name, object, last_modified FROM content";
    let mut found = sqlx::query(question).fetch(connection);
    while let Some(row) = found.try_next().await? {
        let bundle: usize = rows::number(&row, 0)?;
        let Some(Some(bundle)) = library.bundles.get_mut(bundle) else {
            return Err(rows::broken("a key without its bundle"));
        };
        bundle.keys.push(BundleKey {
            name: rows::text(&row, 1)?,
            object: rows::number(&row, 2)?,
            last_modified: rows::number(&row, 3)?,
        });
    }
    Ok(())
}
