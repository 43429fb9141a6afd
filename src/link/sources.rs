//! The answer to `POST /v1/fill-sources`, bounded: what the fill may rely on without looking again.
//!
//! [`super::client`] calls [`accept`] once for each reply. An answer outside the bounds is refused
//! whole: it is a fault of the control plane that somebody should see. Only an object whose chunk
//! tree is not its own is left without sources, beside the others. Never asks anybody; whether an
//! address may be dialled is the fetch's to judge.

use super::body::BodyError;
use super::body::Limits;
use super::message::FILL_WANTED_MAX;
use super::message::FillSource;
use super::message::FillSources;
use super::message::FillSourcesRequest;
use super::message::ObjectSources;
use super::message::VERSION;
use super::ticket;
use crate::help::printable;
use crate::ids::BoxId;
use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::object::OBJECT_BYTES_MAX;
use crate::object::TreeError;
use std::collections::BTreeSet;

/// 256 objects of 256 MiB have 64 KiB of tree each, in hexadecimal; tickets and URLs are a few MiB.
pub const LIMITS: Limits = Limits {
    compressed: 16 << 20,
    decompressed: 64 << 20,
};

/// A box tries a few, and asks again.
pub const SOURCES_MAX: usize = 16;

/// Addresses of one source: a name and an address of each family, and one to spare.
pub const URLS_MAX: usize = 4;

/// Two for each object that can be asked for.
pub const TICKETS_MAX: usize = 512;

/// A presigned URL with session credentials has some 2,000 characters.
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// RFC 9110 section 8.8.3 has no limit; a digest in quotes has 66.
pub const ETAG_BYTES_MAX: usize = 256;

/// A sentence for people.
const PROBLEM_BYTES_MAX: usize = 400;

/// A box that has nothing left to fetch asks hourly at least.
const ASK_AGAIN_SECONDS_MAX: u64 = 3_600;

/// Complaints in one question.
pub const COMPLAINTS_MAX: usize = 256;

/// The source that is no box.
pub const ORIGIN: &str = "origin";

/// The control plane's own gateway; a digest follows.
pub const ORIGIN_PATH: &str = "/v1/origin/";

/// Is the question one that a control plane must answer?
pub fn check_request(request: &FillSourcesRequest) -> Result<(), BodyError> {
    let (wanted, complaints) = (request.wanted.len(), request.complaints.len());
    if wanted > FILL_WANTED_MAX {
        let problem = format!("{wanted} objects are wanted; {FILL_WANTED_MAX} may be asked for");
        return Err(BodyError::Json(problem));
    }
    if complaints > COMPLAINTS_MAX {
        let problem = format!("{complaints} complaints; {COMPLAINTS_MAX} may be made");
        return Err(BodyError::Json(problem));
    }
    Ok(())
}

/// The answer to that question, within every bound. `Err` says where it is not.
pub fn accept(request: &FillSourcesRequest, mut reply: FillSources) -> Result<FillSources, String> {
    if reply.v != VERSION {
        let v = reply.v;
        return Err(format!("version {v} in a reply; this box speaks {VERSION}"));
    }
    at_most("tickets", reply.tickets.len(), TICKETS_MAX)?;
    let fits = |ticket: &String| is_word(ticket, ticket::TEXT_BYTES_MAX);
    if !reply.tickets.iter().all(fits) {
        return Err("a ticket is too long, or is none".to_owned());
    }
    let mut open: BTreeSet<Digest> = request.wanted.iter().copied().collect();
    for object in &mut reply.objects {
        let digest = object.digest;
        if !open.remove(&digest) {
            return Err(format!(
                "object {digest} was not asked for, or answered twice"
            ));
        }
        object_is_good(object, reply.tickets.len())
            .map_err(|problem| format!("object {digest}: {problem}"))?;
        let problem = object.problem.take();
        object.problem = problem.map(|text| printable(text.as_bytes(), PROBLEM_BYTES_MAX));
        if !object.sources.is_empty() && object.chunk_tree().is_err() {
            object.sources.clear();
            object.problem = Some(format!(
                "the control plane's answer is of no use: {TreeError}"
            ));
        }
    }
    reply.ask_again_s = reply.ask_again_s.clamp(1, ASK_AGAIN_SECONDS_MAX);
    Ok(reply)
}

fn object_is_good(object: &ObjectSources, tickets: usize) -> Result<(), String> {
    let length = object.length;
    if length > OBJECT_BYTES_MAX {
        return Err(format!(
            "its length is {length}; {OBJECT_BYTES_MAX} is the most"
        ));
    }
    at_most("sources", object.sources.len(), SOURCES_MAX)?;
    for source in &object.sources {
        let id = printable(source.id.as_bytes(), 100);
        source_is_good(object.digest, source, tickets)
            .map_err(|problem| format!("source {id}: {problem}"))?;
    }
    Ok(())
}

fn source_is_good(digest: Digest, source: &FillSource, tickets: usize) -> Result<(), String> {
    if source.id != ORIGIN && BoxId::parse(&source.id).is_err() {
        return Err(format!("its id is neither a box's nor `{ORIGIN}`"));
    }
    at_most("URLs", source.urls.len(), URLS_MAX)?;
    for url in &source.urls {
        if !is_url(url, digest) {
            return Err(format!(
                "`{}` is no URL that it could be fetched from",
                printable(url.as_bytes(), 200)
            ));
        }
    }
    if source.ticket.is_some_and(|ticket| ticket >= tickets) {
        return Err("its ticket is not in the list".to_owned());
    }
    if source
        .etag
        .as_ref()
        .is_some_and(|etag| !is_word(etag, ETAG_BYTES_MAX))
    {
        return Err("its ETag cannot stand in a header".to_owned());
    }
    Ok(())
}

/// A path of the link for this object, or an absolute URL without user or fragment.
fn is_url(url: &str, digest: Digest) -> bool {
    if !is_word(url, URL_BYTES_MAX) {
        return false;
    }
    if let Some(asked) = url.strip_prefix(ORIGIN_PATH) {
        return asked == digest.to_string();
    }
    let Ok(uri) = url.parse::<hyper::Uri>() else {
        return false;
    };
    // Whether plain HTTP will do is for the box's configuration to say.
    matches!(uri.scheme_str(), Some("https" | "http"))
        && uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'))
        && !url.contains('#')
}

/// Visible ASCII: it goes into request heads and logs.
fn is_word(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn at_most(what: &str, count: usize, most: usize) -> Result<(), String> {
    if count > most {
        return Err(format!("it has {count} {what}; {most} are allowed"));
    }
    Ok(())
}

impl ObjectSources {
    /// The tree that verifies its chunks, if it belongs to the digest.
    pub fn chunk_tree(&self) -> Result<ChunkTree, TreeError> {
        let digits = self.tree.as_bytes();
        let chunks = self.length.div_ceil(CHUNK_BYTES);
        // Before anything is decoded: a length of its own costs nothing to claim.
        if digits.len() as u64 > chunks.saturating_mul(64) || !digits.len().is_multiple_of(64) {
            return Err(TreeError);
        }
        let values: Option<Vec<[u8; 32]>> = digits
            .chunks_exact(64)
            .map(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                super::hex::decode::<32>(digits)
            })
            .collect();
        ChunkTree::verified(self.digest, self.length, values.ok_or(TreeError)?)
    }

    /// The text of a tree's chaining values, as the answer has it.
    pub fn tree_text(tree: &ChunkTree) -> String {
        let values = tree.chunks().iter();
        values.map(|value| super::hex::encode(value)).collect()
    }
}

#[cfg(test)]
mod tests;
