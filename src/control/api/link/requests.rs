//! What a box asks, whether it may, and who answers.
//!
//! I/O: reads bodies, waits for the fleet and the enrolment.

use super::OriginAsk;
use super::OriginRefusal;
use super::answer;
use super::answer::Answer;
use super::bodies;
use super::limits::Kind;
use super::listener::Shared;
use super::listener::may_log;
use super::metrics::Counters;
use super::peer::Peer;
use crate::clock;
use crate::control::fleet::Prepared;
use crate::control::fleet::Refused;
use crate::help;
use crate::link::message::Code;
use crate::link::message::Enrol;
use crate::link::message::FillSourcesRequest;
use crate::link::message::Heartbeat;
use crate::link::message::Renew;
use crate::link::message::Report;
use crate::object::Digest;
use hyper::Method;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// When somebody who found no place for an enrolment is to come again.
const ENROL_RETRY: Duration = Duration::from_secs(10);

/// Objects and complaints of one question: a thousand lines of JSON.
const FILL_BODY_MAX: u64 = 512 * 1024;

/// What is after it is a digest.
const ORIGIN_PREFIX: &str = "/v1/origin/";

/// A path of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Report,
    Heartbeat,
    Renew,
    Enrol,
    Manifest,
    FillSources,
    Origin(Digest),
}

/// Answers one request; refusals are counted and logged with who asked.
pub(super) async fn answer(
    shared: &Shared,
    address: SocketAddr,
    peer: Option<&Peer>,
    request: Request<Incoming>,
) -> Answer {
    Counters::add(&shared.counters.requests);
    match dispatch(shared, peer, request).await {
        Ok(answer) => answer,
        Err(Told::ByFleet(refused)) => answer::refusal(&refused),
        Err(Told::Here(refused)) => {
            shared.deps.fleet.counters().refuse(refused.code);
            if let Some(left_out) = may_log(&shared.logs.requests) {
                let id = peer.map_or("nobody", |peer| peer.id.as_str());
                let (code, message) = (refused.code, &refused.message);
                tracing::warn!(%address, id, ?code, left_out, "link: refused: {message}");
            }
            answer::refusal(&refused)
        }
    }
}

/// A refusal, and who has counted and logged it.
enum Told {
    ByFleet(Refused),
    Here(Refused),
}

impl From<Refused> for Told {
    fn from(refused: Refused) -> Self {
        Self::Here(refused)
    }
}

async fn dispatch(
    shared: &Shared,
    peer: Option<&Peer>,
    request: Request<Incoming>,
) -> Result<Answer, Told> {
    let path = path(&request)?;
    if path == Path::Enrol {
        return Ok(enrol(shared, request).await?);
    }
    let Some(peer) = peer else {
        let message = "no certificate was shown; enrol first";
        return Err(Refused::new(Code::Identity, message).into());
    };
    peer.must_be_known(&shared.deps.registry.borrow())?;
    match path {
        Path::Renew => peer.must_be_renewable(clock::wall())?,
        Path::Report
        | Path::Heartbeat
        | Path::Enrol
        | Path::Manifest
        | Path::FillSources
        | Path::Origin(_) => {
            peer.must_be_valid(clock::wall())?;
        }
    }
    let kind = match path {
        Path::Report => Kind::Report,
        Path::FillSources => Kind::Fill,
        Path::Origin(_) => Kind::Origin,
        Path::Heartbeat | Path::Renew | Path::Enrol | Path::Manifest => Kind::Other,
    };
    let limits = &shared.deps.limits;
    shared.rates.admit(clock::now(), &peer.id, kind, limits)?;
    match path {
        Path::Report => report(shared, peer, request).await,
        Path::Heartbeat => heartbeat(shared, peer, request).await,
        Path::Renew => Ok(renew(shared, peer, request).await?),
        Path::Manifest => Ok(manifest(shared, peer, &request)?),
        Path::FillSources => Ok(fill_sources(shared, peer, request).await?),
        Path::Origin(digest) => Ok(origin(shared, peer, digest, &request).await?),
        Path::Enrol => Err(Refused::new(Code::Internal, "enrolment went astray").into()),
    }
}

fn path(request: &Request<Incoming>) -> Result<Path, Refused> {
    let (method, text) = (request.method(), request.uri().path());
    let found = match text {
        "/v1/report" => (Method::POST, Path::Report),
        "/v1/heartbeat" => (Method::POST, Path::Heartbeat),
        "/v1/renew" => (Method::POST, Path::Renew),
        "/v1/enrol" => (Method::POST, Path::Enrol),
        "/v1/manifest" => (Method::GET, Path::Manifest),
        "/v1/fill-sources" => (Method::POST, Path::FillSources),
        _ if text.starts_with(ORIGIN_PREFIX) => {
            let digest = text.strip_prefix(ORIGIN_PREFIX).unwrap_or_default();
            let digest = digest.parse::<Digest>();
            let digest = digest.map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
            (Method::GET, Path::Origin(digest))
        }
        "/v1/catalogue" | "/v1/routes" => {
            let message = "this control plane takes full sets with a report, as steps from 0";
            return Err(Refused::new(Code::NotFound, message));
        }
        _ => {
            let text = help::printable(text.as_bytes(), 80);
            return Err(Refused::new(
                Code::NotFound,
                format!("{text} is not known here"),
            ));
        }
    };
    if *method == found.0 {
        return Ok(found.1);
    }
    let method = help::printable(method.as_str().as_bytes(), 20);
    let message = format!("{text} is asked with {}, not {method}", found.0);
    Err(Refused::new(Code::BadRequest, message))
}

async fn report(shared: &Shared, peer: &Peer, request: Request<Incoming>) -> Result<Answer, Told> {
    let arrived = clock::now();
    let packed = bodies::read(shared, &peer.id, request, shared.deps.bodies.compressed).await?;
    let library = Arc::clone(&shared.deps.library.borrow());
    let make = move |report: Report| Prepared::new(report, &library, arrived);
    let prepared = bodies::unpack(shared, &peer.id, packed, make).await?;
    let reply = shared.deps.fleet.report(peer.id.clone(), prepared).await;
    Ok(answer::json(&reply.map_err(Told::ByFleet)?))
}

async fn heartbeat(
    shared: &Shared,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Answer, Told> {
    let packed = bodies::read_tiny(request).await?;
    let beat: Heartbeat = bodies::tiny(&packed)?;
    let reply = shared.deps.fleet.heartbeat(peer.id.clone(), beat).await;
    Ok(answer::json(&reply.map_err(Told::ByFleet)?))
}

async fn enrol(shared: &Shared, request: Request<Incoming>) -> Result<Answer, Refused> {
    let packed = bodies::read_tiny(request).await?;
    let enrol: Enrol = bodies::tiny(&packed)?;
    // After the body: strangers who send slowly must not keep boxes out.
    let Ok(_place) = shared.enrolments.try_acquire() else {
        return Err(Refused::busy("others enrol at the moment", ENROL_RETRY));
    };
    let issued = shared.deps.enrolment.enrol(clock::wall(), enrol).await;
    let issued = issued.map_err(|(code, message)| Refused::new(code, message))?;
    Ok(answer::json(&issued))
}

async fn renew(
    shared: &Shared,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Answer, Refused> {
    let packed = bodies::read_tiny(request).await?;
    let renew: Renew = bodies::tiny(&packed)?;
    let (id, certificate) = (peer.id.clone(), peer.certificate.clone());
    let enrolment = &shared.deps.enrolment;
    let issued = enrolment.renew(clock::wall(), id, certificate, renew).await;
    let issued = issued.map_err(|(code, message)| Refused::new(code, message))?;
    Ok(answer::json(&issued))
}

async fn fill_sources(
    shared: &Shared,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Answer, Refused> {
    let packed = bodies::read(shared, &peer.id, request, FILL_BODY_MAX).await?;
    let make = |request: FillSourcesRequest| Ok(request);
    let request = bodies::unpack(shared, &peer.id, packed, make).await?;
    let sources = &shared.deps.sources;
    let found = sources.fill_sources(peer.id.clone(), request).await?;
    Ok(answer::json(&found))
}

async fn origin(
    shared: &Shared,
    peer: &Peer,
    digest: Digest,
    request: &Request<Incoming>,
) -> Result<Answer, Refused> {
    let value = |name| request.headers().get(name);
    let bytes = |name| value(name).map(|value| value.as_bytes().to_vec());
    let authorization = value(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let ask = OriginAsk {
        digest,
        authorization: authorization.map(str::to_owned),
        range: bytes(header::RANGE),
        if_match: bytes(header::IF_MATCH),
    };
    match shared.deps.origin.open(peer.id.clone(), ask).await {
        Ok(body) => Ok(answer::origin(body)),
        Err(OriginRefusal::Refused(refused)) => Err(refused),
        Err(OriginRefusal::Changed) => Ok(answer::changed()),
        Err(OriginRefusal::Unsatisfiable { length }) => Ok(answer::unsatisfiable(length)),
    }
}

fn manifest(shared: &Shared, peer: &Peer, request: &Request<Incoming>) -> Result<Answer, Refused> {
    let Some(found) = shared.deps.manifests.manifest(&peer.id) else {
        let message = "there is no manifest for this box yet";
        return Err(Refused::new(Code::NotFound, message));
    };
    let has = request.headers().get(header::IF_NONE_MATCH);
    Ok(answer::manifest(found, has))
}
