//! The calls of the control link, each with all it needs: no state of `task` is borrowed while one
//! waits.
//!
//! What is CPU-bound or touches a disk (the report of millions of objects, the signature of a
//! manifest, the token file) runs on blocking threads; the control runtime only waits.
//!
//! I/O: the network through [`Client`], files and the store through what it is given.

use super::handle::AdoptFn;
use super::handle::ChangesFn;
use super::handle::FillFn;
use super::handle::HeldFn;
use super::handle::InterfacesFn;
use super::handle::QualityFn;
use super::handle::ServeFn;
use super::handle::SignedManifest;
use super::quality;
use super::report;
use super::report::Moment;
use super::schedule::Call;
use super::schedule::Fault;
use crate::bgp;
use crate::clock;
use crate::clock::Boot;
use crate::clock::Wall;
use crate::gate::Gate;
use crate::ids::BoxId;
use crate::link;
use crate::link::body::Pay;
use crate::link::client::Client;
use crate::link::client::LinkError;
use crate::link::dial::Dial;
use crate::link::identity::Identity;
use crate::link::manifest::ManifestError;
use crate::link::message::Code;
use crate::link::message::GateState;
use crate::link::message::Heartbeat;
use crate::link::message::HeartbeatReply;
use crate::link::message::Position;
use crate::link::message::ReportReply;
use crate::link::message::VERSION;
use crate::link::steps::CatalogueChanges;
use crate::link::steps::Holdings;
use crate::link::steps::Outbox;
use crate::object::Digest;
use crate::store;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A token is some fifty characters; a longer file is not one.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// What became of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    Opened(Result<Arc<Client>, CallError>),
    Enrolled(Result<(), CallError>),
    Renewed(Result<(), CallError>),
    Reported {
        asked: Boot,
        outbox: Box<Outbox>,
        gate: GateState,
        /// As the report told it.
        manifest: Option<Position>,
        result: Result<ReportReply, CallError>,
    },
    Beaten {
        asked: Boot,
        gate: GateState,
        result: Result<HeartbeatReply, CallError>,
    },
    /// `None`: the control plane has none that is newer.
    Manifest(Result<Option<store::Adopted>, CallError>),
}

/// Why a call came to nothing, in words for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(
        "this box is not enrolled and [control] token_file is not set; write the one-time token \
         of `oca control appliance enrol` into a file and name it there"
    )]
    NoToken,
    #[error("{path}: {problem}; put this box's one-time token there, in one line")]
    Token { path: PathBuf, problem: String },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Adopt(#[from] store::AdoptError),
    #[error("a fault of oca ended the work: {0}; the log has the panic")]
    Panicked(String),
}

impl CallError {
    /// What the schedule makes of it.
    pub(super) fn fault(&self) -> Fault {
        let retry_after = match self {
            Self::Link(error) => error.retry_after(),
            Self::NoToken
            | Self::Token { .. }
            | Self::Manifest(_)
            | Self::Adopt(_)
            | Self::Panicked(_) => None,
        };
        if self.is_out_of_step() {
            // What the outbox makes of it, only its owner knows.
            Fault::OutOfStep { again: false }
        } else if self.is_passing() {
            Fault::Passing { retry_after }
        } else {
            Fault::Refused { retry_after }
        }
    }

    /// Nobody answered who could be believed: the outage of a lease.
    pub(super) fn is_silence(&self) -> bool {
        let Self::Link(error) = self else {
            return false;
        };
        match error {
            LinkError::Unreachable { .. }
            | LinkError::Authority { .. }
            | LinkError::Certificate { .. }
            | LinkError::Protocol { .. } => true,
            LinkError::Url(_)
            | LinkError::Refused { .. }
            | LinkError::Rejected { .. }
            | LinkError::NotEnrolled
            | LinkError::Identity(_)
            | LinkError::Body(_) => false,
        }
    }

    /// The manifest is signed with a key that only a renewal brings.
    pub(super) fn is_unknown_key(&self) -> bool {
        matches!(self, Self::Manifest(ManifestError::UnknownKey(_)))
    }

    /// The control plane wants nothing from this box until an operator has acted.
    pub(super) fn is_banishment(&self) -> bool {
        let Self::Link(error) = self else {
            return false;
        };
        match error.code() {
            Some(Code::Identity | Code::Token | Code::Quarantined) => true,
            Some(
                Code::BadRequest
                | Code::TooLarge
                | Code::WrongDigest
                | Code::WrongPosition
                | Code::NotFound
                | Code::Busy
                | Code::Internal,
            ) => false,
            None => matches!(error, LinkError::Rejected { .. }),
        }
    }

    pub(super) fn is_out_of_step(&self) -> bool {
        matches!(
            self,
            Self::Link(LinkError::Refused {
                code: Code::WrongDigest | Code::WrongPosition,
                ..
            })
        )
    }

    fn is_passing(&self) -> bool {
        match self {
            Self::Link(error) => is_passing(error),
            Self::Panicked(_) => true,
            Self::NoToken | Self::Token { .. } | Self::Manifest(_) => false,
            Self::Adopt(error) => error.is_passing(),
        }
    }
}

fn is_passing(error: &LinkError) -> bool {
    match error {
        LinkError::Refused { code, .. } => match code {
            Code::Busy | Code::Internal | Code::WrongDigest | Code::WrongPosition => true,
            Code::BadRequest
            | Code::TooLarge
            | Code::Identity
            | Code::Token
            | Code::Quarantined
            | Code::NotFound => false,
        },
        // A certificate may be not valid yet on a box whose clock is not set yet.
        LinkError::Unreachable { .. }
        | LinkError::Certificate { .. }
        | LinkError::Protocol { .. } => true,
        LinkError::Url(_)
        | LinkError::Authority { .. }
        | LinkError::Rejected { .. }
        | LinkError::NotEnrolled
        | LinkError::Identity(_)
        | LinkError::Body(_) => false,
    }
}

impl Outcome {
    /// A call whose task panicked.
    pub(super) fn panicked(call: Option<Call>, asked: Boot, outbox: Outbox, problem: &str) -> Self {
        let error = CallError::Panicked(problem.to_owned());
        let gate = super::report::gate_state(&Gate::Serving);
        match call {
            None => Self::Opened(Err(error)),
            Some(Call::Enrol) => Self::Enrolled(Err(error)),
            Some(Call::Renew) => Self::Renewed(Err(error)),
            Some(Call::Report) => Self::Reported {
                asked,
                outbox: Box::new(outbox),
                gate,
                manifest: None,
                result: Err(error),
            },
            Some(Call::Heartbeat) => Self::Beaten {
                asked,
                gate,
                result: Err(error),
            },
            Some(Call::Manifest) => Self::Manifest(Err(error)),
        }
    }
}

/// Loads (or makes) the box's key and certificate.
pub(super) async fn open(config: link::Config, dial: Arc<dyn Dial>, pay: Arc<dyn Pay>) -> Outcome {
    let opened = blocking(move || {
        let identity = Identity::open(&config).map_err(LinkError::from)?;
        let client = Client::new(&config, identity, dial)?;
        Ok(Arc::new(client.paid_by(pay)))
    });
    Outcome::Opened(opened.await)
}

pub(super) async fn enrol(client: Arc<Client>, token_file: Option<PathBuf>) -> Outcome {
    let enrolled = async {
        let path = token_file.ok_or(CallError::NoToken)?;
        let token = blocking(move || token(path)).await?;
        Ok(client.enrol(&token).await?)
    };
    Outcome::Enrolled(enrolled.await)
}

pub(super) async fn renew(client: Arc<Client>) -> Outcome {
    Outcome::Renewed(client.renew().await.map_err(CallError::from))
}

/// What a report is made of.
pub(super) struct ReportJob {
    pub(super) client: Arc<Client>,
    pub(super) outbox: Outbox,
    pub(super) boot_id: String,
    pub(super) sequence: u64,
    /// Read by the caller: blocking threads may have another calendar in tests.
    pub(super) sent_at: Wall,
    /// Read when the rest is ready: composing takes seconds, and a heartbeat may have told of a
    /// later gate by then.
    pub(super) gate: watch::Receiver<Gate>,
    pub(super) store: Arc<store::View>,
    pub(super) bgp: Option<Arc<bgp::Snapshot>>,
    pub(super) serve: ServeFn,
    pub(super) quality: QualityFn,
    pub(super) interfaces: InterfacesFn,
    pub(super) shelves: Shelves,
    pub(super) fill: FillFn,
}

/// The store's catalogue, as the outbox asks for it.
pub(super) struct Shelves {
    pub(super) held: HeldFn,
    pub(super) changes: ChangesFn,
}

impl Holdings for Shelves {
    fn all(&self) -> (u64, Vec<Digest>) {
        let held = (self.held)();
        (held.generation, held.digests)
    }

    fn since(&self, generation: u64) -> Option<CatalogueChanges> {
        (self.changes)(generation)
    }
}

impl ReportJob {
    pub(super) async fn run(self) -> Outcome {
        let (client, gates) = (Arc::clone(&self.client), self.gate.clone());
        let spare = self.outbox.clone();
        let composed = blocking(move || Ok(self.compose())).await;
        let gate = report::gate_state(&gates.borrow());
        // The lease counts from here: composing a catalogue of millions takes its time.
        let asked = clock::boot();
        let (mut report, outbox) = match composed {
            Ok(composed) => composed,
            Err(error) => {
                return Outcome::Reported {
                    asked,
                    outbox: Box::new(spare),
                    gate,
                    manifest: None,
                    result: Err(error),
                };
            }
        };
        report.gate = gate.clone();
        let manifest = report.manifest;
        let result = client.report(Arc::new(report)).await;
        let result = result.map_err(CallError::from);
        Outcome::Reported {
            asked,
            outbox: Box::new(outbox),
            gate,
            manifest,
            result,
        }
    }

    fn compose(mut self) -> (link::message::Report, Outbox) {
        let gate = self.gate.borrow().clone();
        let moment = Moment {
            boot_id: &self.boot_id,
            sequence: self.sequence,
            sent_at: self.sent_at,
            gate: &gate,
            store: &self.store,
            bgp: self.bgp.as_deref(),
            load: report::load(&(self.serve)()),
            interfaces: (self.interfaces)(),
            fill: (self.fill)(),
            quality: quality::quality(&(self.quality)()),
        };
        let report = report::compose(moment, &mut self.outbox, &self.shelves);
        (report, self.outbox)
    }
}

pub(super) async fn heartbeat(
    client: Arc<Client>,
    boot_id: String,
    sequence: u64,
    gate: Gate,
    serve: ServeFn,
) -> Outcome {
    let asked = clock::boot();
    let gate = report::gate_state(&gate);
    let beat = Heartbeat {
        v: VERSION,
        boot_id,
        sequence,
        gate: gate.clone(),
        load: report::load(&serve()),
    };
    Outcome::Beaten {
        asked,
        gate,
        result: client.heartbeat(&beat).await.map_err(CallError::from),
    }
}

/// Fetches, believes and adopts what is newer than `held`.
pub(super) async fn manifest(
    client: Arc<Client>,
    id: BoxId,
    held: Option<Position>,
    adopt: AdoptFn,
) -> Outcome {
    let adopted = async {
        let Some(body) = client.manifest(held).await? else {
            return Ok(None);
        };
        let verifier = client.verifier()?;
        let now = clock::wall();
        let adopted = blocking(move || {
            let verified = verifier.verify(&body, &id, now, held)?;
            drop(body);
            Ok(adopt(SignedManifest::from(verified))?)
        });
        adopted.await.map(Some)
    };
    Outcome::Manifest(adopted.await)
}

fn token(path: PathBuf) -> Result<String, CallError> {
    let mut text = String::new();
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text));
    let problem = match read {
        Err(error) => error.to_string(),
        Ok(_) if text.trim().is_empty() => "the file is empty".to_owned(),
        Ok(_) => return Ok(text.trim().to_owned()),
    };
    Err(CallError::Token { path, problem })
}

/// Runs `work` on a blocking thread, with its panic as an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(CallError::Panicked(error.to_string())))
}

/// Between tries to open the identity: a file system that is full or read-only may be mended.
pub(super) const OPEN_AGAIN: Duration = Duration::from_secs(30);
