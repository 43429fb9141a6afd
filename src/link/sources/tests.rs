//! Answers within the bounds, at each of them, and one beyond.

use super::*;
use crate::link::message::SourceKind;
use crate::object::TreeBuilder;
use proptest::prelude::*;

fn request(count: u8) -> FillSourcesRequest {
    FillSourcesRequest {
        v: VERSION,
        wanted: (0..count).map(|number| Digest::of(&[number])).collect(),
        complaints: Vec::new(),
    }
}

fn source(digest: Digest) -> FillSource {
    FillSource {
        id: "c010-tls001-example-isp".to_owned(),
        kind: SourceKind::Peer,
        urls: vec![format!("https://192.0.2.10:7443/fill/{digest}")],
        not_before_s: 0,
        ticket: Some(0),
        etag: None,
        expires_s: 600,
    }
}

/// One object of one byte, from one peer.
fn reply() -> FillSources {
    let digest = Digest::of(&[0]);
    FillSources {
        v: VERSION,
        objects: vec![ObjectSources {
            digest,
            length: 1,
            tree: String::new(),
            sources: vec![source(digest)],
            problem: None,
        }],
        tickets: vec!["00.00".to_owned()],
        ask_again_s: 30,
    }
}

fn refused(change: impl FnOnce(&mut FillSources)) -> String {
    let mut reply = reply();
    change(&mut reply);
    accept(&request(2), reply).unwrap_err()
}

fn taken(change: impl FnOnce(&mut FillSources)) -> FillSources {
    let mut reply = reply();
    change(&mut reply);
    accept(&request(2), reply).unwrap()
}

#[test]
fn an_answer_within_the_bounds_is_taken_as_it_is() {
    assert_eq!(taken(|_| {}), reply());
    let at_the_bounds = taken(|reply| {
        reply.tickets = vec!["x".repeat(ticket::TEXT_BYTES_MAX); TICKETS_MAX];
        let object = &mut reply.objects[0];
        object.sources = vec![source(object.digest); SOURCES_MAX];
        let last = &mut object.sources[SOURCES_MAX - 1];
        let url = format!("https://192.0.2.10/{}", "x".repeat(URL_BYTES_MAX - 19));
        assert_eq!(url.len(), URL_BYTES_MAX);
        last.urls = vec![url; URLS_MAX];
        last.ticket = Some(TICKETS_MAX - 1);
        last.etag = Some("x".repeat(ETAG_BYTES_MAX));
    });
    assert_eq!(at_the_bounds.objects[0].sources.len(), SOURCES_MAX);
    let later = taken(|reply| reply.objects[0].sources[0].urls.clear());
    assert_eq!(later.objects[0].sources.len(), 1, "not before its time");
    let unknown = taken(|reply| {
        reply.objects[0].sources.clear();
        reply.objects[0].problem = Some("nobody\u{1b}[2J has it".to_owned());
    });
    let problem = unknown.objects[0].problem.as_deref().unwrap();
    assert_eq!(problem, "nobody\\x1b[2J has it");
    assert_eq!(taken(|reply| reply.ask_again_s = 0).ask_again_s, 1);
    let never = taken(|reply| reply.ask_again_s = u64::MAX);
    assert_eq!(never.ask_again_s, ASK_AGAIN_SECONDS_MAX);
}

#[test]
fn what_is_beyond_a_bound_is_refused_and_says_where() {
    let says = |text: String, word: &str| assert!(text.contains(word), "{text}");
    says(refused(|reply| reply.v = 2), "version 2");
    says(
        refused(|reply| reply.tickets = vec!["x".to_owned(); TICKETS_MAX + 1]),
        "513 tickets",
    );
    let long = "x".repeat(ticket::TEXT_BYTES_MAX + 1);
    for bad in [long.as_str(), "", "a b", "a\r\nHost: b", "é"] {
        says(
            refused(|reply| reply.tickets[0] = bad.to_owned()),
            "a ticket",
        );
    }
    says(
        refused(|reply| reply.objects[0].digest = Digest::of(b"another")),
        "not asked for",
    );
    says(
        refused(|reply| reply.objects.push(reply.objects[0].clone())),
        "answered twice",
    );
    says(
        refused(|reply| reply.objects[0].length = OBJECT_BYTES_MAX + 1),
        "its length",
    );
    says(
        refused(|reply| {
            let digest = reply.objects[0].digest;
            reply.objects[0].sources = vec![source(digest); SOURCES_MAX + 1];
        }),
        "17 sources",
    );
}

#[test]
fn a_source_that_could_not_be_asked_is_refused() {
    fn with(change: impl FnOnce(&mut FillSource)) -> String {
        refused(|reply| change(&mut reply.objects[0].sources[0]))
    }
    assert!(with(|source| source.id = "nobody".to_owned()).contains("its id"));
    assert!(with(|source| source.ticket = Some(1)).contains("its ticket"));
    assert!(with(|source| source.etag = Some("a\nb".to_owned())).contains("its ETag"));
    let urls = with(|source| source.urls = vec![source.urls[0].clone(); URLS_MAX + 1]);
    assert!(urls.contains("5 URLs"), "{urls}");
    let other = Digest::of(b"another");
    let long = format!("https://192.0.2.10/{}", "x".repeat(URL_BYTES_MAX));
    for bad in [
        "",
        "192.0.2.10/fill",
        "ftp://192.0.2.10/fill",
        "file:///etc/passwd",
        "https://user@192.0.2.10/fill",
        "https://192.0.2.10/a b",
        "https://192.0.2.10/\r\nx",
        "https://192.0.2.10/#x",
        "/v1/report",
        "/v1/origin/../report",
        format!("{ORIGIN_PATH}{other}").as_str(),
        long.as_str(),
    ] {
        let problem = with(|source| source.urls = vec![bad.to_owned()]);
        assert!(problem.contains("no URL"), "{bad}: {problem}");
    }
    let good = taken(|reply| {
        let digest = reply.objects[0].digest;
        let source = &mut reply.objects[0].sources[0];
        source.id = ORIGIN.to_owned();
        source.kind = SourceKind::Origin;
        source.ticket = None;
        source.urls = vec![
            format!("{ORIGIN_PATH}{digest}"),
            "https://store.example.net/b/k?X-Amz-Signature=0%20f&x=1".to_owned(),
            "http://[2001:db8::1]:9000/b/k".to_owned(),
        ];
    });
    assert_eq!(good.objects[0].sources[0].urls.len(), 3);
}

#[test]
fn an_object_with_a_foreign_tree_is_left_without_sources_and_the_others_are_not() {
    let bytes = vec![7; usize::try_from(CHUNK_BYTES).unwrap() + 1];
    let mut builder = TreeBuilder::new();
    builder.update(&bytes);
    let tree = builder.finish();
    let mut asked = request(2);
    asked.wanted.push(tree.digest());
    let mut reply = reply();
    reply.objects.push(ObjectSources {
        digest: tree.digest(),
        length: tree.length(),
        tree: ObjectSources::tree_text(&tree),
        sources: vec![source(tree.digest())],
        problem: None,
    });
    let good = accept(&asked, reply.clone()).unwrap();
    assert_eq!(good, reply);
    assert_eq!(good.objects[1].chunk_tree().as_ref(), Ok(&tree));
    for (length, text) in [
        (tree.length(), String::new()),
        (tree.length(), "0".repeat(128)),
        (tree.length(), "é".repeat(64)),
        (tree.length(), reply.objects[1].tree[1..].to_owned()),
        (tree.length() + CHUNK_BYTES, reply.objects[1].tree.clone()),
        (1, reply.objects[1].tree.clone()),
        (OBJECT_BYTES_MAX, reply.objects[1].tree.clone()),
    ] {
        let mut lying = reply.clone();
        (lying.objects[1].length, lying.objects[1].tree) = (length, text);
        let accepted = accept(&asked, lying).unwrap();
        assert_eq!(accepted.objects[0].sources.len(), 1);
        assert!(accepted.objects[1].sources.is_empty());
        let problem = accepted.objects[1].problem.as_deref().unwrap();
        assert!(problem.contains("chunk tree"), "{problem}");
    }
}

#[test]
fn a_question_beyond_what_may_be_asked_is_not_sent() {
    let mut asked = request(1);
    asked.wanted = vec![Digest::of(b"x"); FILL_WANTED_MAX];
    assert_eq!(check_request(&asked), Ok(()));
    asked.wanted.push(Digest::of(b"y"));
    assert!(check_request(&asked).is_err());
    let mut asked = request(1);
    let complaint = crate::link::message::Complaint {
        source: ORIGIN.to_owned(),
        digest: Digest::of(b"x"),
        problem: "slow".to_owned(),
    };
    asked.complaints = vec![complaint; COMPLAINTS_MAX + 1];
    assert!(check_request(&asked).is_err());
}

proptest! {
    #[test]
    fn any_text_as_url_ticket_tree_or_name_is_read_without_a_panic(
        texts in prop::collection::vec(".{0,80}", 5),
        length in any::<u64>(),
        ticket in any::<usize>(),
    ) {
        let mut reply = reply();
        reply.tickets = vec![texts[0].clone()];
        let object = &mut reply.objects[0];
        (object.tree, object.length) = (texts[1].clone(), length);
        let source = &mut object.sources[0];
        (source.id, source.urls) = (texts[2].clone(), vec![texts[3].clone()]);
        (source.etag, source.ticket) = (Some(texts[4].clone()), Some(ticket));
        let _ = accept(&request(1), reply);
    }
}
