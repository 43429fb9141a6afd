//! A control plane that keeps the contract and does what a test tells it: the link tests' listener
//! with the golden replies, changed to the occasion.

use crate::golden;
use crate::lab;
use crate::lab::Asked;
use crate::lab::Authority;
use crate::lab::BOX;
use crate::lab::Lab;
use crate::lab::Reply;
use futures_util::future::BoxFuture;
use oca::ids::BoxId;
use oca::link::body;
use oca::link::body::Encoding;
use oca::link::body::Limits;
use oca::link::body::Pay;
use oca::link::dial::Dial;
use oca::link::dial::Dialling;
use oca::link::manifest::Signer;
use oca::link::message::Ack;
use oca::link::message::Acked;
use oca::link::message::Code;
use oca::link::message::Enrol;
use oca::link::message::FillOrders;
use oca::link::message::FillSources;
use oca::link::message::Heartbeat;
use oca::link::message::HeartbeatReply;
use oca::link::message::Orders;
use oca::link::message::Position;
use oca::link::message::Refusal;
use oca::link::message::Renew;
use oca::link::message::Report;
use oca::link::message::ReportReply;
use oca::link::message::Row;
use oca::link::message::ViewerKeys;
use oca::link::steps;
use oca::link::steps::Place;
use oca::link::steps::Step;
use oca::object::Digest;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

pub(crate) const TOKEN: &str = "the-token-of-c009";

const LIMITS: Limits = Limits {
    compressed: 1 << 20,
    decompressed: 1 << 24,
};

/// What the control plane answers, and what it was told.
pub(crate) struct Mind {
    pub enabled: bool,
    pub lease_s: u64,
    pub report_now: bool,
    pub next_report_s: u64,
    pub manifest: Option<(Position, Vec<Row>)>,
    /// The manifest that is delivered, whatever is announced.
    pub delivers: Option<Position>,
    /// Refuses everything but the enrolment.
    pub refuses: Option<(Code, Option<u64>)>,
    /// Does not answer the telephone.
    pub down: bool,
    pub reports: Vec<Report>,
    pub beats: Vec<Heartbeat>,
    pub enrolments: usize,
    pub fetches: usize,
    /// Forgets what was acknowledged: a control plane that restarted.
    pub forgets: bool,
    /// So many answers to reports are lost: what they answer was taken.
    pub loses: usize,
    pub fill: Option<FillOrders>,
    pub viewer_keys: Option<ViewerKeys>,
    /// Its clock is ahead by so much.
    pub ahead: Duration,
    /// What it has of the box's catalogue.
    pub place: Option<Place>,
    pub items: BTreeSet<Digest>,
    /// Boot id and sequence of the last report that was taken.
    taken: Option<(String, u64)>,
    /// Reports that were out of step.
    pub out_of_step: usize,
    /// A renewal is wished for with the next reply.
    pub renew: bool,
    pub renewals: usize,
    /// Of manifests, as they came.
    pub paid: Vec<u64>,
    /// Bytes that may come before they are paid for.
    pub expected: u64,
    /// Nobody reads on until this is over.
    pub waits: Duration,
}

/// The listener behind a switch.
pub(crate) struct Plane {
    lab: Arc<Lab>,
    mind: Arc<Mutex<Mind>>,
    pub pin: String,
}

impl Plane {
    pub(crate) fn new() -> Arc<Self> {
        // Leases and certificates live on the paused clock.
        oca::clock::pin_wall("2026-03-01T01:00:00Z".parse().unwrap());
        let authority = Arc::new(Authority::new());
        let mind = Arc::new(Mutex::new(Mind {
            enabled: true,
            lease_s: 1_800,
            report_now: false,
            next_report_s: 300,
            manifest: None,
            delivers: None,
            refuses: None,
            down: false,
            reports: Vec::new(),
            beats: Vec::new(),
            enrolments: 0,
            fetches: 0,
            forgets: false,
            loses: 0,
            fill: None,
            viewer_keys: None,
            ahead: Duration::ZERO,
            place: None,
            items: BTreeSet::new(),
            taken: None,
            out_of_step: 0,
            renew: false,
            renewals: 0,
            paid: Vec::new(),
            expected: 0,
            waits: Duration::ZERO,
        }));
        let (signer, pin) = (Signer::generate().unwrap(), authority.pin());
        let (own, issuer) = (Arc::clone(&mind), Arc::clone(&authority));
        let lab = Lab::right(&authority, move |asked| {
            answer(&mut own.lock().unwrap(), &issuer, &signer, asked)
        });
        Arc::new(Self { lab, mind, pin })
    }

    /// Reports and heartbeats that came.
    pub(crate) fn asked(&self) -> (usize, usize) {
        let mind = self.mind();
        (mind.reports.len(), mind.beats.len())
    }

    pub(crate) fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap()
    }
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plane")
    }
}

impl Pay for Plane {
    fn pay(&self, bytes: u64) -> BoxFuture<'_, ()> {
        let mut mind = self.mind();
        mind.paid.push(bytes);
        Box::pin(oca::clock::sleep(mind.waits))
    }

    fn expect(&self, bytes: u64) {
        self.mind().expected += bytes;
    }

    fn expect_no_more(&self, bytes: u64) {
        self.mind().expected -= bytes;
    }
}

impl Dial for Plane {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        if self.mind().down {
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            return Box::pin(std::future::ready(Err(refused)));
        }
        self.lab.dial(host, port)
    }
}

fn answer(mind: &mut Mind, authority: &Authority, signer: &Signer, asked: &Asked) -> Reply {
    if mind.down {
        return Reply::SendAndClose(Vec::new());
    }
    if asked.line == "POST /v1/enrol" {
        let enrol: Enrol = serde_json::from_slice(&asked.body).unwrap();
        mind.enrolments += 1;
        if enrol.token != TOKEN {
            return refuse(Code::Token, None);
        }
        let mut enrolled = authority.issue(&enrol.csr);
        enrolled.manifest_keys = vec![signer.public_hex()];
        return lab::json(200, &enrolled);
    }
    assert!(asked.peer.is_some(), "{} without a certificate", asked.line);
    match asked.line.as_str() {
        "POST /v1/heartbeat" => {
            mind.beats
                .push(serde_json::from_slice(&asked.body).unwrap());
            if let Some((code, after)) = mind.refuses {
                return refuse(code, after);
            }
            let golden: HeartbeatReply = golden::read("heartbeat-reply");
            lab::json(
                200,
                &HeartbeatReply {
                    orders: orders(mind),
                    ..golden
                },
            )
        }
        "POST /v1/report" => report(mind, asked),
        "POST /v1/renew" => {
            let renew: Renew = serde_json::from_slice(&asked.body).unwrap();
            mind.renewals += 1;
            let mut enrolled = authority.issue(&renew.csr);
            enrolled.manifest_keys = vec![signer.public_hex()];
            lab::json(200, &enrolled)
        }
        "POST /v1/fill-sources" => lab::json(200, &golden::read::<FillSources>("fill-sources")),
        "GET /v1/manifest" => {
            mind.fetches += 1;
            let id = BoxId::parse(BOX).unwrap();
            let (position, rows) = mind.manifest.clone().unwrap();
            let position = mind.delivers.unwrap_or(position);
            let now = oca::clock::unix_seconds(oca::clock::wall());
            let body = signer.sign(&id, position, now, now + 86_400, rows).unwrap();
            Reply::Send(lab::response(200, "", &body))
        }
        other => panic!("{other} is not expected"),
    }
}

fn report(mind: &mut Mind, asked: &Asked) -> Reply {
    assert!(asked.head.contains("content-encoding: zstd"));
    let report: Report = body::decode(&asked.body, Encoding::Zstd, LIMITS).unwrap();
    if let Some((code, after)) = mind.refuses {
        mind.reports.push(report);
        return refuse(code, after);
    }
    if std::mem::take(&mut mind.forgets) {
        (mind.place, mind.taken) = (None, None);
        mind.items.clear();
    }
    let place = Some((report.boot_id.clone(), report.sequence));
    if mind.taken != place {
        let code = take(mind, &report);
        mind.reports.push(report.clone());
        if let Err(code) = code {
            mind.out_of_step += 1;
            return refuse(code, None);
        }
        mind.taken = place;
    }
    if mind.loses > 0 {
        mind.loses -= 1;
        return Reply::SendAndClose(Vec::new());
    }
    let (epoch, position) = (report.routes.epoch, report.routes.to);
    let golden: ReportReply = golden::read("report-reply");
    let reply = ReportReply {
        acked: Acked {
            catalogue: mind.place.map(|place| place.ack),
            routes: Some(Ack { epoch, position }),
        },
        orders: orders(mind),
        next_report_s: mind.next_report_s,
        viewer_keys: mind.viewer_keys.clone(),
        ..golden
    };
    lab::json(200, &reply)
}

/// As `control::fleet` does it: a step that does not fit changes nothing.
fn take(mind: &mut Mind, report: &Report) -> Result<(), Code> {
    let step = steps::take_catalogue(mind.place.as_ref(), &report.catalogue);
    match step.map_err(|error| error.code())? {
        Step::Same => {}
        Step::Whole { place, items } => {
            mind.items = items.into_iter().collect();
            mind.place = Some(place);
        }
        Step::Change {
            place,
            added,
            removed,
        } => {
            let mut items = mind.items.clone();
            let fits = removed.iter().all(|item| items.remove(item))
                && added.iter().all(|item| items.insert(*item));
            if !fits {
                return Err(Code::WrongDigest);
            }
            (mind.items, mind.place) = (items, Some(place));
        }
    }
    Ok(())
}

fn orders(mind: &mut Mind) -> Orders {
    Orders {
        enabled: mind.enabled,
        lease_s: mind.lease_s,
        manifest: mind.manifest.as_ref().map(|(position, _)| *position),
        renew: std::mem::take(&mut mind.renew),
        report_now: std::mem::take(&mut mind.report_now),
        server_time: (oca::clock::wall() + mind.ahead).to_string(),
        fill: mind.fill.clone(),
    }
}

fn refuse(code: Code, after: Option<u64>) -> Reply {
    let mut refusal: Refusal = golden::read("refusal-busy");
    refusal.error.code = code;
    let header = after.map_or_else(String::new, |after| format!("retry-after: {after}\r\n"));
    let body = serde_json::to_vec(&refusal).unwrap();
    Reply::Send(lab::response(503, &header, &body))
}
