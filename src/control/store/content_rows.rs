//! Objects, bundles and keys as rows, with their dense numbers; popularity.
//!
//! Imports bring hundreds of thousands of keys at once, and a library has millions: everything
//! here works in statements of many rows, and reading streams.

use super::ImportedKey;
use super::fault::Fault;
use super::registry_rows::LIBRARY;
use super::registry_rows::raise;
use super::rows;
use super::rows::ROWS_MAX;
use super::tree_rows;
use crate::object::Digest;
use sqlx::AnyConnection;
use sqlx::Row as _;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

/// Conflicts named in a refusal; the rest is counted.
const NAMED_MAX: usize = 5;

/// A key cut into its bundle's directory and its own name.
fn cut(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// What one call adds, sorted and each once.
struct Import<'a> {
    /// Directory → name → key.
    bundles: BTreeMap<&'a str, BTreeMap<&'a str, &'a ImportedKey>>,
    /// Digest → length.
    objects: BTreeMap<Digest, u64>,
    conflicts: Vec<String>,
}

/// A row of `content`: bundle, name, object, last modified.
type Content<'a> = (i64, &'a str, i64, i64);

pub(super) async fn put_keys(
    connection: &mut AnyConnection,
    keys: &[ImportedKey],
) -> Result<u64, Fault> {
    let mut import = Import::of(keys)?;
    let known = numbers(connection, &import.objects).await?;
    let bundles = bundles(connection, import.bundles.keys().copied()).await?;
    let mut added = import.new_keys(connection, &known, &bundles).await?;
    import.refuse_conflicts()?;
    tree_rows::put_imported(connection, keys).await?;
    if added.is_empty() {
        return Ok(0);
    }
    let objects = add_objects(connection, &import.objects, known).await?;
    let bundles = add_bundles(connection, &import.bundles, bundles).await?;
    let mut content: Vec<Content<'_>> = Vec::with_capacity(added.len());
    for (directory, name, key) in added.drain(..) {
        let pair = bundles.get(directory).zip(objects.get(&key.digest));
        let (bundle, object) = pair.ok_or_else(|| rows::broken("a number was not given"))?;
        content.push((*bundle, name, *object, rows::signed(key.last_modified)));
    }
    for part in content.chunks(ROWS_MAX) {
        let head = "INSERT INTO content (bundle, name, object, last_modified) VALUES";
        let mut insert = rows::statement(rows::values(head, part.len(), 4, ""));
        for (bundle, name, object, last_modified) in part {
            insert = insert.bind(*bundle).bind(*name);
            insert = insert.bind(*object).bind(*last_modified);
        }
        insert.execute(&mut *connection).await?;
    }
    raise(connection, LIBRARY).await?;
    Ok(content.len() as u64)
}

impl<'a> Import<'a> {
    fn of(keys: &'a [ImportedKey]) -> Result<Self, Fault> {
        let mut import = Self {
            bundles: BTreeMap::new(),
            objects: BTreeMap::new(),
            conflicts: Vec::new(),
        };
        for key in keys {
            if i64::try_from(key.length).is_err() {
                let length = key.length;
                return Err(Fault::refused(format!("{}: {length} bytes", key.key)));
            }
            if import.objects.insert(key.digest, key.length) != Some(key.length)
                && import.objects.get(&key.digest) != Some(&key.length)
            {
                return Err(two_lengths(key.digest));
            }
            let (directory, name) = cut(key.key.as_str());
            let bundle = import.bundles.entry(directory).or_default();
            if let Some(before) = bundle.insert(name, key)
                && before.digest != key.digest
            {
                import.conflicts.push(key.key.to_string());
            }
        }
        Ok(import)
    }

    /// Keys that the store does not have; those that it has with another digest are conflicts.
    async fn new_keys(
        &mut self,
        connection: &mut AnyConnection,
        objects: &HashMap<Digest, i64>,
        bundles: &HashMap<String, i64>,
    ) -> Result<Vec<(&'a str, &'a str, &'a ImportedKey)>, Fault> {
        let directories: BTreeMap<i64, &'a str> = self
            .bundles
            .keys()
            .filter_map(|directory| Some((*bundles.get(*directory)?, *directory)))
            .collect();
        let numbers: Vec<i64> = directories.keys().copied().collect();
        let mut held = BTreeSet::new();
        for part in numbers.chunks(ROWS_MAX) {
            let head = "SELECT bundle, name, object FROM content WHERE bundle IN";
            let mut question = rows::statement(rows::any_of(head, part.len()));
            for number in part {
                question = question.bind(*number);
            }
            for row in question.fetch_all(&mut *connection).await? {
                let Some(directory) = directories.get(&row.try_get::<i64, _>(0)?) else {
                    continue;
                };
                let name: String = row.try_get(1)?;
                let wanted = self
                    .bundles
                    .get(directory)
                    .and_then(|b| b.get(name.as_str()));
                let Some(key) = wanted else { continue };
                if objects.get(&key.digest) == Some(&row.try_get::<i64, _>(2)?) {
                    held.insert(key.key.as_str());
                } else {
                    self.conflicts.push(key.key.to_string());
                }
            }
        }
        let all = self.bundles.iter().flat_map(|(directory, names)| {
            let rows = names.iter();
            rows.map(move |(name, key)| (*directory, *name, *key))
        });
        Ok(all
            .filter(|(_, _, key)| !held.contains(key.key.as_str()))
            .collect())
    }

    fn refuse_conflicts(&mut self) -> Result<(), Fault> {
        if self.conflicts.is_empty() {
            return Ok(());
        }
        self.conflicts.sort_unstable();
        self.conflicts.dedup();
        let more = self.conflicts.len().saturating_sub(NAMED_MAX);
        let named = self.conflicts[..self.conflicts.len() - more].join(", ");
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(Fault::refused(format!(
            "a key keeps its bytes for ever, and these have others than before: {named}{more}; \
             give the changed files another path (a version directory) and import again"
        )))
    }
}

fn two_lengths(digest: Digest) -> Fault {
    Fault::refused(format!(
        "object {digest} comes with two lengths: one of its files or `.b3` digests is wrong"
    ))
}

/// Numbers of those objects that are known; a length that differs is refused.
async fn numbers(
    connection: &mut AnyConnection,
    objects: &BTreeMap<Digest, u64>,
) -> Result<HashMap<Digest, i64>, Fault> {
    let digests: Vec<Digest> = objects.keys().copied().collect();
    let mut numbers = HashMap::with_capacity(digests.len());
    for part in digests.chunks(ROWS_MAX) {
        let head = "SELECT digest, number, length FROM object WHERE digest IN";
        let mut question = rows::statement(rows::any_of(head, part.len()));
        for digest in part {
            question = question.bind(digest.0.to_vec());
        }
        for row in question.fetch_all(&mut *connection).await? {
            let digest = rows::digest(&row, 0)?;
            if objects.get(&digest) != Some(&rows::number(&row, 2)?) {
                return Err(two_lengths(digest));
            }
            numbers.insert(digest, row.try_get(1)?);
        }
    }
    Ok(numbers)
}

/// Numbers of those directories that are known.
async fn bundles(
    connection: &mut AnyConnection,
    directories: impl Iterator<Item = &str>,
) -> Result<HashMap<String, i64>, Fault> {
    let directories: Vec<&str> = directories.collect();
    let mut numbers = HashMap::with_capacity(directories.len());
    for part in directories.chunks(ROWS_MAX) {
        let head = "SELECT directory, number FROM bundle WHERE directory IN";
        let mut question = rows::statement(rows::any_of(head, part.len()));
        for directory in part {
            question = question.bind(*directory);
        }
        for row in question.fetch_all(&mut *connection).await? {
            numbers.insert(rows::text(&row, 0)?, row.try_get(1)?);
        }
    }
    Ok(numbers)
}

async fn add_objects(
    connection: &mut AnyConnection,
    objects: &BTreeMap<Digest, u64>,
    mut numbers: HashMap<Digest, i64>,
) -> Result<HashMap<Digest, i64>, Fault> {
    let added: Vec<(Digest, u64)> = objects
        .iter()
        .filter(|(digest, _)| !numbers.contains_key(digest))
        .map(|(digest, length)| (*digest, *length))
        .collect();
    let mut next = take_numbers(connection, "object", added.len()).await?;
    for part in added.chunks(ROWS_MAX) {
        let head = "INSERT INTO object (number, digest, length) VALUES";
        let mut insert = rows::statement(rows::values(head, part.len(), 3, ""));
        for (digest, length) in part {
            numbers.insert(*digest, next);
            insert = insert.bind(next).bind(digest.0.to_vec());
            insert = insert.bind(rows::signed(*length));
            next += 1;
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(numbers)
}

async fn add_bundles<T>(
    connection: &mut AnyConnection,
    bundles: &BTreeMap<&str, T>,
    mut numbers: HashMap<String, i64>,
) -> Result<HashMap<String, i64>, Fault> {
    let added: Vec<&str> = bundles
        .keys()
        .copied()
        .filter(|directory| !numbers.contains_key(*directory))
        .collect();
    let mut next = take_numbers(connection, "bundle", added.len()).await?;
    for part in added.chunks(ROWS_MAX) {
        let head = "INSERT INTO bundle (number, directory, popularity) VALUES";
        let mut insert = rows::statement(rows::values(head, part.len(), 3, ""));
        for directory in part {
            numbers.insert((*directory).to_owned(), next);
            insert = insert.bind(next).bind(*directory).bind(0.0_f64);
            next += 1;
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(numbers)
}

/// The first of `count` numbers that nobody else has or had. Numbers are 32 bits wide outside.
async fn take_numbers(
    connection: &mut AnyConnection,
    counter: &str,
    count: usize,
) -> Result<i64, Fault> {
    let next = "UPDATE counter SET value = value + $1 WHERE name = $2 RETURNING value";
    let row = sqlx::query(next)
        .bind(rows::signed(count))
        .bind(counter)
        .fetch_one(connection)
        .await?;
    let end: i64 = row.try_get(0)?;
    if end > i64::from(u32::MAX) {
        let message = format!(
            "the database is full: it can number {} {counter}s",
            u32::MAX
        );
        return Err(Fault::refused(message));
    }
    Ok(end - rows::signed(count))
}

pub(super) async fn put_popularity(
    connection: &mut AnyConnection,
    feed: &BTreeMap<String, f64>,
) -> Result<u64, Fault> {
    let bad = |value: &f64| !value.is_finite() || *value < 0.0;
    if let Some((directory, value)) = feed.iter().find(|(_, value)| bad(value)) {
        let directory = crate::help::printable(directory.as_bytes(), 80);
        return Err(Fault::refused(format!(
            "popularity {value} of `{directory}`: write a number that is not negative"
        )));
    }
    let numbers = bundles(connection, feed.keys().map(String::as_str)).await?;
    sqlx::query("UPDATE bundle SET popularity = $1 WHERE popularity <> $1")
        .bind(0.0_f64)
        .execute(&mut *connection)
        .await?;
    let known: Vec<(i64, &str, f64)> = feed
        .iter()
        .filter_map(|(directory, value)| Some((*numbers.get(directory)?, &**directory, *value)))
        .collect();
    for part in known.chunks(ROWS_MAX) {
        // Every row exists: the insert is how many rows are updated by one portable statement.
        let head = "INSERT INTO bundle (number, directory, popularity) VALUES";
        let tail = "ON CONFLICT (number) DO UPDATE SET popularity = excluded.popularity";
        let mut update = rows::statement(rows::values(head, part.len(), 3, tail));
        for (number, directory, value) in part {
            update = update.bind(*number).bind(*directory).bind(*value);
        }
        update.execute(&mut *connection).await?;
    }
    raise(connection, LIBRARY).await?;
    Ok((feed.len() - known.len()) as u64)
}
