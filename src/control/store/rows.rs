//! Columns to values and back, and statements of many rows.
//!
//! The portable subset has neither booleans nor unsigned numbers nor times: this file is the one
//! place that turns them into what it has.

use super::fault::Fault;
use crate::clock::Wall;
use crate::object::Digest;
use sqlx::AssertSqlSafe;
use sqlx::Row as _;
use sqlx::any::AnyArguments;
use sqlx::any::AnyRow;
use sqlx::query::Query;
use std::fmt::Write as _;
use std::time::Duration;

/// Rows of one statement. SQLite takes 32,766 arguments and PostgreSQL 65,535; beyond some
/// hundred rows a larger statement is no faster.
pub(super) const ROWS_MAX: usize = 500;

/// A statement with its arguments.
pub(super) type Statement<'q> = Query<'q, sqlx::Any, AnyArguments>;

/// `head ($1, $2), ($3, $4) tail` for `rows` rows.
pub(super) fn values(head: &str, rows: usize, columns: usize, tail: &str) -> String {
    let mut text = format!("{head} ");
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        list(&mut text, row * columns, columns);
        text.push(')');
    }
    let _ = write!(text, " {tail}");
    text
}

/// `head ($1, $2, …)` for `count` arguments.
pub(super) fn any_of(head: &str, count: usize) -> String {
    let mut text = format!("{head} (");
    list(&mut text, 0, count);
    text.push(')');
    text
}

fn list(text: &mut String, after: usize, count: usize) {
    for column in 1..=count {
        let comma = if column == 1 { "" } else { ", " };
        let _ = write!(text, "{comma}${}", after + column);
    }
}

/// A statement whose text this file made: it holds placeholders and no value.
pub(super) fn statement<'q>(text: String) -> Statement<'q> {
    sqlx::query(AssertSqlSafe(text))
}

pub(super) fn text(row: &AnyRow, column: usize) -> Result<String, sqlx::Error> {
    row.try_get(column)
}

pub(super) fn flag(row: &AnyRow, column: usize) -> Result<bool, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

pub(super) fn number<T: TryFrom<i64>>(row: &AnyRow, column: usize) -> Result<T, Fault> {
    let value: i64 = row.try_get(column)?;
    T::try_from(value).map_err(|_| broken(format!("{value} is out of range")))
}

/// `None` for NULL.
pub(super) fn optional<T: TryFrom<i64>>(row: &AnyRow, column: usize) -> Result<Option<T>, Fault> {
    let value: Option<i64> = row.try_get(column)?;
    value.map(|_| number(row, column)).transpose()
}

/// Microseconds; `None` for NULL.
pub(super) fn duration(row: &AnyRow, column: usize) -> Result<Option<Duration>, Fault> {
    Ok(optional(row, column)?.map(Duration::from_micros))
}

pub(super) fn digest(row: &AnyRow, column: usize) -> Result<Digest, Fault> {
    let bytes: Vec<u8> = row.try_get(column)?;
    let digest = bytes.as_slice().try_into().map(Digest);
    digest.map_err(|_| broken(format!("a digest of {} bytes", bytes.len())))
}

pub(super) fn wall(row: &AnyRow, column: usize) -> Result<Option<Wall>, Fault> {
    let at: Option<i64> = row.try_get(column)?;
    let wall = |at| Wall::from_microsecond(at).map_err(|error| broken(error.to_string()));
    at.map(wall).transpose()
}

/// Text that parses, or a broken row.
pub(super) fn parsed<T>(row: &AnyRow, column: usize) -> Result<T, Fault>
where
    T: TryFrom<String>,
    T::Error: std::fmt::Display,
{
    T::try_from(text(row, column)?).map_err(|error| broken(error.to_string()))
}

pub(super) fn broken(problem: impl Into<String>) -> Fault {
    let problem = problem.into();
    Fault::Row { problem }
}

/// Unsigned as the database has it; what does not fit was refused before.
pub(super) fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

pub(super) fn micros(duration: Duration) -> i64 {
    signed(duration.as_micros())
}

pub(super) fn bit(holds: bool) -> i64 {
    i64::from(holds)
}
