//! The origin's gateway with real files: what a ticket opens, and all that it does not.

use super::yard;
use super::yard::Yard;
use futures_util::StreamExt;
use oca::clock;
use oca::control::api::link::OriginAsk;
use oca::control::api::link::OriginBody;
use oca::control::api::link::OriginGateway;
use oca::control::api::link::OriginRefusal;
use oca::control::model::FillCluster;
use oca::ids::BoxId;
use oca::link::message::Code;
use oca::link::message::FillSourcesRequest;
use oca::tree::StableFile;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// More than is read ahead.
const LENGTH: u32 = 4_000_000;

struct Lab {
    yard: Yard,
    dir: tempfile::TempDir,
    ticket: String,
}

fn content(object: u32) -> Vec<u8> {
    let bytes = (0..LENGTH / 4).flat_map(|at| (at ^ object).to_le_bytes());
    bytes.collect()
}

/// A box alone in its region, with the ticket for all four objects that it was given.
async fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let mut tags = BTreeMap::new();
    for object in 0..4 {
        let path = dir.path().join(yard::digest(object).to_string());
        std::fs::write(&path, content(object)).unwrap();
        let tag = StableFile::open(&path).unwrap().modified_ns().to_string();
        tags.insert(yard::digest(object), tag);
    }
    let registry = yard::registry(1, &["default"], vec![FillCluster::named("default")]);
    let library = yard::library(1, 4, LENGTH.into());
    let yard = Yard::with(registry, library, dir.path(), tags);
    let request = FillSourcesRequest {
        v: 1,
        wanted: (0..4).map(yard::digest).collect(),
        complaints: Vec::new(),
    };
    let (now, wall) = (clock::now(), clock::wall());
    let id = yard::id(0);
    let answer = yard.sources.answer(&id, request, now, wall).await;
    let answer = answer.unwrap();
    for object in &answer.objects {
        let [source] = &object.sources[..] else {
            panic!("{object:?}");
        };
        assert_eq!(source.id, "origin");
        assert_eq!(source.urls, [format!("/v1/origin/{}", object.digest)]);
        assert_eq!(object.tree.len(), 16 * 64);
        assert!(source.etag.is_some() && source.ticket == Some(0));
    }
    assert_eq!(answer.tickets.len(), 1);
    let ticket = answer.tickets[0].clone();
    Lab { yard, dir, ticket }
}

impl Lab {
    fn ask(&self, object: u32) -> OriginAsk {
        OriginAsk {
            digest: yard::digest(object),
            authorization: Some(format!("OCA-Ticket {}", self.ticket)),
            range: None,
            if_match: None,
        }
    }

    async fn open(&self, id: &BoxId, ask: OriginAsk) -> Result<OriginBody, OriginRefusal> {
        self.yard.sources.open(id.clone(), ask).await
    }

    async fn code(&self, id: &BoxId, ask: OriginAsk) -> Code {
        match self.open(id, ask).await {
            Err(OriginRefusal::Refused(refused)) => refused.code,
            other => panic!("{other:?}"),
        }
    }

    fn path(&self, object: u32) -> PathBuf {
        self.dir.path().join(yard::digest(object).to_string())
    }
}

async fn read(body: OriginBody) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut pieces = body.pieces;
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

#[tokio::test]
async fn a_ticket_opens_its_objects_whole_and_in_part_and_what_is_sent_is_counted() {
    let lab = lab().await;
    let id = yard::id(0);
    let body = lab.open(&id, lab.ask(1)).await.unwrap();
    assert_eq!((body.length, body.part), (LENGTH.into(), None));
    let etag = body.etag.clone();
    assert_eq!(read(body).await, content(1));
    let part = OriginAsk {
        range: Some(b"bytes=500000-500009".to_vec()),
        if_match: Some(etag.into_bytes()),
        ..lab.ask(1)
    };
    let body = lab.open(&id, part).await.unwrap();
    assert_eq!(body.part, Some((500_000, 500_009)));
    assert_eq!(read(body).await, content(1)[500_000..500_010]);
    let behind = OriginAsk {
        range: Some(b"bytes=4000000-".to_vec()),
        ..lab.ask(1)
    };
    let length = LENGTH.into();
    assert_eq!(
        lab.open(&id, behind).await.unwrap_err(),
        OriginRefusal::Unsatisfiable { length }
    );
    let sent = lab.yard.sources.gateway_bytes();
    assert_eq!(sent, [(yard::digest(1), 4_000_010)].into());
    let page = lab.yard.metrics.render();
    let line = "oca_control_origin_bytes_total{way=\"gateway\"} 4000010.0";
    assert!(page.contains(line), "{page}");
}

#[tokio::test]
async fn nobody_else_nothing_else_and_no_forgery_is_served() {
    let lab = lab().await;
    let id = yard::id(0);
    assert_eq!(
        lab.code(&yard::id(1), lab.ask(1)).await,
        Code::Token,
        "a third box"
    );
    assert_eq!(
        lab.code(&id, lab.ask(99)).await,
        Code::Token,
        "another object"
    );
    for authorization in [
        None,
        Some(lab.ticket.clone()),
        Some("OCA-Ticket".to_owned()),
        Some(format!("Bearer {}", lab.ticket)),
        Some(format!("OCA-Ticket {}0", lab.ticket)),
        Some(format!("OCA-Ticket 00{}", &lab.ticket[2..])),
    ] {
        let ask = OriginAsk {
            authorization,
            ..lab.ask(1)
        };
        assert_eq!(lab.code(&id, ask).await, Code::Token);
    }
    assert!(lab.yard.sources.gateway_bytes().is_empty());
}

#[tokio::test]
async fn a_ticket_is_spent_by_its_bytes_and_not_by_what_was_given_up() {
    let lab = lab().await;
    let id = yard::id(0);
    // Two lengths and a MiB for each of four objects: nine whole objects and a bit.
    let started = clock::now();
    let mut given_up = 0;
    while given_up < 30 {
        // What was dropped is given back once its reader has noticed.
        match lab.open(&id, lab.ask(2)).await {
            Ok(body) => {
                drop(body);
                given_up += 1;
            }
            Err(refused) => assert!(started.elapsed().as_secs() < 10, "{refused:?}"),
        }
        tokio::task::yield_now().await;
    }
    let mut whole = 0;
    loop {
        match lab.open(&id, lab.ask(2)).await {
            Ok(body) => {
                assert_eq!(read(body).await.len(), LENGTH as usize);
                whole += 1;
            }
            Err(_) if whole < 9 && started.elapsed().as_secs() < 10 => {
                tokio::task::yield_now().await;
            }
            Err(OriginRefusal::Refused(refused)) => {
                assert_eq!((whole, refused.code), (9, Code::Token), "{refused}");
                break;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_the_imported_one_is_not_given_out() {
    let lab = lab().await;
    let id = yard::id(0);
    let stale = OriginAsk {
        if_match: Some(b"\"1\"".to_vec()),
        ..lab.ask(0)
    };
    assert_eq!(
        lab.open(&id, stale).await.unwrap_err(),
        OriginRefusal::Changed
    );
    std::fs::write(lab.path(0), b"other bytes").unwrap();
    assert_eq!(
        lab.open(&id, lab.ask(0)).await.unwrap_err(),
        OriginRefusal::Changed
    );
    std::fs::remove_file(lab.path(1)).unwrap();
    assert_eq!(lab.code(&id, lab.ask(1)).await, Code::NotFound);
    std::fs::remove_file(lab.path(2)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", lab.path(2)).unwrap();
    assert_eq!(lab.code(&id, lab.ask(2)).await, Code::Internal, "a link");
    // Replaced while it is being read: what was begun breaks off.
    let mut body = lab.open(&id, lab.ask(3)).await.unwrap();
    let first = body.pieces.next().await.unwrap().unwrap();
    std::fs::write(lab.path(3), content(0)).unwrap();
    let mut ends = Vec::new();
    while let Some(piece) = body.pieces.next().await {
        ends.push(piece);
    }
    assert!(!first.is_empty());
    assert!(
        ends.last().unwrap().is_err(),
        "the last piece is never sent"
    );
}
