//! Playing: follow the playlists, fetch every piece, compare each with its source file.
//!
//! A viewer without a player: nothing is decoded, but every byte a player would fetch is fetched
//! in the order a player would fetch it, and hashed.

use super::content::Content;
use super::playlist;
use super::playlist::Piece;
use super::playlist::Playlist;
use super::viewer::Answer;
use super::viewer::Viewer;
use crate::object::Digest;
use anyhow::Context as _;
use hyper::StatusCode;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// What there is to play, in order, each piece once.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Bit rates: variants of the masters, or lone media playlists.
    pub renditions: usize,
    pub playlists: usize,
    pub pieces: Vec<Piece>,
}

/// What was fetched and found equal to its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub pieces: usize,
    pub bytes: u64,
}

/// Fetches the playlists as a player does and lists what they name. Content without playlists is
/// played file by file.
pub(super) async fn plan(viewer: &mut Viewer, content: &Content) -> anyhow::Result<Plan> {
    let mut plan = Plan::default();
    let mut media = Vec::new();
    for key in &content.playlists {
        match fetch_playlist(viewer, content, key).await? {
            Playlist::Master { variants, others } => {
                plan.renditions += variants.len();
                plan.playlists += 1;
                media.extend(variants.into_iter().chain(others));
            }
            Playlist::Media { .. } => {
                plan.renditions += 1;
                media.push(key.clone());
            }
        }
    }
    let mut seen = BTreeSet::new();
    media.retain(|key| seen.insert(key.clone()));
    let mut seen = BTreeSet::new();
    for key in media {
        let Playlist::Media { pieces } = fetch_playlist(viewer, content, &key).await? else {
            anyhow::bail!("{key} is a master playlist where a media playlist is expected");
        };
        plan.playlists += 1;
        let fresh = pieces
            .into_iter()
            .filter(|piece| seen.insert(piece.clone()));
        plan.pieces.extend(fresh);
    }
    if content.playlists.is_empty() {
        let whole = |key: &String| Piece {
            key: key.clone(),
            range: None,
        };
        plan.pieces = content.files.keys().map(whole).collect();
    }
    Ok(plan)
}

/// Fetches each piece and compares it; the first difference is the error.
pub(super) async fn play(
    viewer: &mut Viewer,
    content: &Content,
    pieces: &[Piece],
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for piece in pieces {
        tally.bytes += fetch(viewer, content, piece).await?;
        tally.pieces += 1;
    }
    Ok(tally)
}

/// Plays the title over and over until a fetch fails. Returns the failed piece's place in the
/// title, and why it failed; counts every piece played in `played`.
pub(super) async fn play_until_cut(
    viewer: &mut Viewer,
    content: &Content,
    pieces: &[Piece],
    played: &AtomicUsize,
) -> (usize, anyhow::Error) {
    loop {
        for (place, piece) in pieces.iter().enumerate() {
            if let Err(error) = fetch(viewer, content, piece).await {
                return (place, error);
            }
            played.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Fetches every file whole.
pub(super) async fn fetch_all(viewer: &mut Viewer, content: &Content) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for (key, source) in &content.files {
        let answer = viewer.get(key, &[]).await?;
        same(key, &answer, StatusCode::OK, source.length, source.digest)?;
        tally.bytes += answer.length;
        tally.pieces += 1;
    }
    Ok(tally)
}

async fn fetch_playlist(
    viewer: &mut Viewer,
    content: &Content,
    key: &str,
) -> anyhow::Result<Playlist> {
    let source = content
        .files
        .get(key)
        .with_context(|| format!("a playlist names {key}, which is not below the directory"))?;
    let answer = viewer.get(key, &[]).await?;
    same(key, &answer, StatusCode::OK, source.length, source.digest)?;
    let text = std::str::from_utf8(&answer.body).with_context(|| format!("{key} is not text"))?;
    playlist::parse(key, text).with_context(|| format!("the playlist {key}"))
}

async fn fetch(viewer: &mut Viewer, content: &Content, piece: &Piece) -> anyhow::Result<u64> {
    let key = &piece.key;
    let source = content
        .files
        .get(key)
        .with_context(|| format!("a playlist names {key}, which is not below the directory"))?;
    let Some((first, length)) = piece.range else {
        let answer = viewer.get(key, &[]).await?;
        same(key, &answer, StatusCode::OK, source.length, source.digest)?;
        return Ok(answer.length);
    };
    anyhow::ensure!(
        first.saturating_add(length) <= source.length,
        "a playlist names bytes {first}+{length} of {key}, which has {} bytes",
        source.length
    );
    let range = format!("bytes={first}-{}", first + length - 1);
    let answer = viewer.get(key, &[("Range", &range)]).await?;
    let digest = Digest::of(&source.slice(first, length)?);
    same(key, &answer, StatusCode::PARTIAL_CONTENT, length, digest)?;
    Ok(answer.length)
}

/// Is the answer what the source file says?
pub(super) fn same(
    key: &str,
    answer: &Answer,
    status: StatusCode,
    length: u64,
    digest: Digest,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        answer.status == status,
        "{key} was answered with {} instead of {status}",
        answer.status
    );
    anyhow::ensure!(
        answer.length == length && answer.digest == digest,
        "{key}: {} bytes with digest {} were served, the file has {length} with {digest}",
        answer.length,
        answer.digest
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderMap;

    #[test]
    fn an_answer_that_differs_in_status_length_or_one_byte_is_refused() {
        let answer = |status, body: &[u8]| Answer {
            status,
            headers: HeaderMap::new(),
            length: body.len() as u64,
            digest: Digest::of(body),
            body: body.to_vec(),
        };
        let check = |answer: &Answer| same("k", answer, StatusCode::OK, 4, Digest::of(b"film"));
        assert!(check(&answer(StatusCode::OK, b"film")).is_ok());
        for (status, body) in [
            (StatusCode::NOT_FOUND, b"film".as_slice()),
            (StatusCode::OK, b"filn"),
            (StatusCode::OK, b"fil"),
            (StatusCode::OK, b""),
        ] {
            assert!(check(&answer(status, body)).is_err(), "{status} {body:?}");
        }
    }
}
