//! The edge of HTTP: ranges, preconditions, unknown keys, other origins, both TLS versions.
//!
//! Each function is one step of [`super::proof`]; the largest file is asked about.

use super::content::Content;
use super::content::Source;
use super::play::same;
use super::report::Outcome;
use super::viewer::Answer;
use super::viewer::Viewer;
use crate::object::Digest;
use anyhow::Context as _;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderName;

/// Single, suffix, open and path ranges, and one beyond the end.
pub(super) async fn ranges(viewer: &mut Viewer, content: &Content) -> Outcome {
    let (key, source) = content.largest().context("there is no file")?;
    let length = source.length;
    anyhow::ensure!(
        length > 2,
        "{key} is too short to be asked for a part of it"
    );
    let few = (length / 2).min(100);
    let asked = [
        (format!("bytes=0-{}", few - 1), 0, few),
        (format!("bytes=1-{few}"), 1, few),
        (format!("bytes=-{few}"), length - few, few),
        (format!("bytes={}-", length - few), length - few, few),
        // RFC 9110 section 14.1.2: a last position beyond the end means the end.
        (
            format!("bytes={}-{}", length - few, length),
            length - few,
            few,
        ),
    ];
    for (range, first, few) in &asked {
        let answer = viewer.get(key, &[("Range", range)]).await?;
        part(key, source, &answer, *first, *few).with_context(|| format!("Range: {range}"))?;
        let expected = format!("bytes {first}-{}/{length}", first + few - 1);
        has(&answer, &header::CONTENT_RANGE, &expected)?;
    }
    let by_path = format!("{key}/range/1-{few}");
    let answer = viewer.get(&by_path, &[]).await?;
    let digest = Digest::of(&source.slice(1, few)?);
    same(&by_path, &answer, answer.status, few, digest)?;
    anyhow::ensure!(answer.status.is_success(), "{by_path}: {}", answer.status);

    let beyond = format!("bytes={length}-");
    let answer = viewer.get(key, &[("Range", &beyond)]).await?;
    status(&answer, StatusCode::RANGE_NOT_SATISFIABLE)?;
    has(
        &answer,
        &header::CONTENT_RANGE,
        &format!("bytes */{length}"),
    )?;
    let count = asked.len();
    Ok((
        true,
        format!("{count} ranges by header, 1 by path: equal bytes; beyond the end: 416"),
    ))
}

/// `If-None-Match` and `If-Modified-Since`.
pub(super) async fn conditional(viewer: &mut Viewer, content: &Content) -> Outcome {
    let (key, source) = content.largest().context("there is no file")?;
    let first = viewer.get(key, &[]).await?;
    same(key, &first, StatusCode::OK, source.length, source.digest)?;
    let tag = value(&first, &header::ETAG)?.to_owned();
    let date = value(&first, &header::LAST_MODIFIED)?.to_owned();
    for condition in [
        ("If-None-Match", tag.as_str()),
        ("If-Modified-Since", &date),
    ] {
        let answer = viewer.get(key, &[condition]).await?;
        status(&answer, StatusCode::NOT_MODIFIED).context(condition.0)?;
        anyhow::ensure!(answer.length == 0, "a 304 with a body");
    }
    let answer = viewer.get(key, &[("If-None-Match", "\"another\"")]).await?;
    same(key, &answer, StatusCode::OK, source.length, source.digest)?;
    let quoted: String = tag.chars().take(14).collect();
    Ok((
        true,
        format!("ETag {quoted}… and {date}: 304 without a body; another tag: 200"),
    ))
}

/// A key that the manifest does not have.
pub(super) async fn unknown(viewer: &mut Viewer) -> Outcome {
    let answer = viewer.get("no/such/title.m4s", &[]).await?;
    status(&answer, StatusCode::NOT_FOUND)?;
    has(&answer, &header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")?;
    Ok((true, "404, readable by players of other origins".to_owned()))
}

/// One file over a connection that speaks only one TLS version.
pub(super) async fn whole(viewer: &mut Viewer, content: &Content) -> anyhow::Result<u64> {
    let (key, source) = content.largest().context("there is no file")?;
    let answer = viewer
        .get(key, &[("Origin", "https://player.example")])
        .await?;
    same(key, &answer, StatusCode::OK, source.length, source.digest)?;
    has(&answer, &header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")?;
    Ok(answer.length)
}

fn part(key: &str, source: &Source, answer: &Answer, first: u64, few: u64) -> anyhow::Result<()> {
    let digest = Digest::of(&source.slice(first, few)?);
    same(key, answer, StatusCode::PARTIAL_CONTENT, few, digest)
}

pub(super) fn status(answer: &Answer, expected: StatusCode) -> anyhow::Result<()> {
    anyhow::ensure!(
        answer.status == expected,
        "answered with {} instead of {expected}",
        answer.status
    );
    Ok(())
}

pub(super) fn value<'a>(answer: &'a Answer, name: &HeaderName) -> anyhow::Result<&'a str> {
    answer
        .headers
        .get(name)
        .with_context(|| format!("the answer has no {name}"))?
        .to_str()
        .with_context(|| format!("{name} is not text"))
}

fn has(answer: &Answer, name: &HeaderName, expected: &str) -> anyhow::Result<()> {
    let found = value(answer, name)?;
    anyhow::ensure!(
        found == expected,
        "{name} is `{found}` instead of `{expected}`"
    );
    Ok(())
}
