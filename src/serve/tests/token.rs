//! Tokens at the door of a whole server: modes, reasons, hosts, the clock, rotation, a closing box.

use super::super::tests_support::Response;
use super::super::tests_support::Viewer;
use super::super::tests_support::World;
use super::super::tests_support::limits;
use crate::clock;
use crate::gate::Gate;
use crate::gate::Reason;
use crate::serve::Config;
use crate::serve::TokenMode;
use crate::serve::TokensConfig;
use crate::tls::token;
use crate::tls::token::Claim;
use crate::tls::token::FleetKey;
use crate::tls::token::HostKey;
use crate::tls::token::KeyId;
use crate::tls::token::Keyring;
use crate::tls::token::Scope;
use crate::tls::token::Secret;
use crate::units::BytesPerSecond;
use std::time::Duration;

const HOST: &str = "c001-lhr001-ix.oca.example.net";
const OTHER: &str = "c002-lhr001-ix.oca.example.net";

const NOW: u64 = 1_767_226_000;

fn fleet_key(id: &str) -> FleetKey {
    FleetKey {
        id: KeyId::parse(id).unwrap(),
        from: NOW - 10_000,
        until: NOW + 1_000_000,
        secret: Secret::from_bytes([7; 32]),
    }
}

fn host_key(id: &str, host: &str) -> HostKey {
    fleet_key(id).host_key(host).unwrap()
}

fn directory(issued: u64) -> Claim<'static> {
    Claim {
        scope: Scope::Directory("title"),
        issued,
        expires: NOW + 100_000,
        session: None,
        client: None,
        rate: None,
    }
}

fn path(key: &HostKey, claim: &Claim<'_>) -> String {
    format!("/t/{}/title/a", token::sign(key, claim).unwrap().0)
}

fn good() -> String {
    path(&host_key("a1", HOST), &directory(NOW - 5))
}

/// A box with two objects and the keys of its name, on a clock that is set.
fn world(mode: TokenMode) -> World {
    clock::pin_wall(clock::Wall::from_second(i64::try_from(NOW).unwrap()).unwrap());
    let world = World::new(limits(), &[("title/a", b"hello"), ("title/b", b"world")]);
    world.tokens.clock_is_sane(true);
    world
        .tokens
        .deliver(Keyring::new(vec![host_key("a1", HOST)]));
    switch(&world, mode, None);
    world
}

fn switch(world: &World, mode: TokenMode, key_file: Option<std::path::PathBuf>) {
    let config = Config {
        tokens: TokensConfig { mode, key_file },
        ..world.config.clone()
    };
    world.handle.prepare(&config).unwrap().commit();
}

async fn get_at(viewer: &mut Viewer, host: &str, path: &str) -> Response {
    viewer
        .say(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    viewer.hear(true).await.unwrap()
}

async fn get(viewer: &mut Viewer, path: &str) -> Response {
    get_at(viewer, HOST, path).await
}

fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_box_that_requires_tokens_serves_good_ones_in_both_forms_and_nobody_else() {
    let world = world(TokenMode::Required);
    let mut viewer = world.viewer("192.0.2.7").await;
    let good = good();
    let answer = get(&mut viewer, &good).await;
    assert_eq!((answer.status, text(&answer)), (200, "hello"));
    // What a playlist names relatively, a range in the path, another name's case and port.
    let beside = good.replace("/title/a", "/title/b");
    assert_eq!(text(&get(&mut viewer, &beside).await), "world");
    let part = get(&mut viewer, &format!("{good}/range/1-2")).await;
    assert_eq!((part.status, text(&part)), (206, "el"));
    let port = get_at(&mut viewer, &format!("{}:8443", HOST.to_uppercase()), &good).await;
    assert_eq!(port.status, 200);
    let one = Claim {
        scope: Scope::Key("title/a"),
        ..directory(NOW - 5)
    };
    let query = token::sign(&host_key("a1", HOST), &one).unwrap().0;
    let query = format!("/title/a?CMCD=br%3D100&{query}&x=1");
    assert_eq!(get(&mut viewer, &query).await.status, 200);
    assert_eq!(
        get(&mut viewer, &query.replace("title/a", "title/b"))
            .await
            .status,
        403
    );
    let none = get(&mut viewer, "/title/a").await;
    assert_eq!(none.status, 403);
    assert!(text(&none).contains("a token is needed"), "{}", text(&none));
    assert_eq!(none.field("access-control-allow-origin"), Some("*"));
    assert_eq!(none.field("cache-control"), Some("no-store"));
    assert!(!none.closes());
    // An unknown key is told to those with a token alone, a preflight to anybody.
    assert_eq!(get(&mut viewer, "/title/c").await.status, 403);
    assert_eq!(
        get(&mut viewer, &good.replace("title/a", "title/c"))
            .await
            .status,
        404
    );
    viewer
        .say(&format!(
            "OPTIONS /title/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        ))
        .await;
    assert_eq!(viewer.hear(true).await.unwrap().status, 204);
    assert_eq!(world.refused("token-missing"), 2);
    assert_eq!(world.refused("token-mac"), 1);
    assert_eq!(world.handle.view().statuses[&403], 3);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_says_why_in_words_and_is_counted() {
    let world = world(TokenMode::Required);
    let key = host_key("a1", HOST);
    let network = token::ClientPrefix::new("198.51.100.0/24".parse().unwrap());
    let signed = |claim: Claim<'_>| path(&key, &claim);
    let base = directory(NOW - 5);
    let deep = Claim {
        scope: Scope::Directory("title/a"),
        ..base
    };
    let cases = [
        (
            signed(Claim {
                expires: NOW,
                ..base
            }),
            "expired",
            "expired",
        ),
        (signed(directory(NOW + 61)), "early", "not valid yet"),
        (
            signed(Claim {
                client: Some(network),
                ..base
            }),
            "client",
            "wrong client",
        ),
        (
            path(&host_key("b2", HOST), &base),
            "key-id",
            "unknown key id",
        ),
        (signed(deep), "scope", "wrong key"),
        (
            good().replacen("i=", "i=0", 1),
            "malformed",
            "malformed token",
        ),
        (good().replace("/title", "/other"), "mac", "bad MAC"),
    ];
    let mut viewer = world.viewer("192.0.2.7").await;
    for (path, reason, words) in cases {
        let answer = get(&mut viewer, &path).await;
        assert_eq!(answer.status, 403, "{reason}");
        assert!(text(&answer).starts_with(words), "{}", text(&answer));
        assert_eq!(world.refused(&format!("token-{reason}")), 1, "{reason}");
    }
    let answer = get_at(&mut viewer, OTHER, &good()).await;
    assert_eq!(answer.status, 403);
    assert!(text(&answer).starts_with("wrong host"));
}

#[tokio::test(start_paused = true)]
async fn the_secrets_of_one_box_forge_nothing_for_another() {
    let world = world(TokenMode::Required);
    let mut viewer = world.viewer("192.0.2.7").await;
    // Whoever stole box two's key signs for box one's name with it.
    let stolen = host_key("a1", OTHER);
    let renamed = HostKey {
        host: HOST.to_owned(),
        ..stolen.clone()
    };
    for (host, forged) in [
        (HOST, path(&renamed, &directory(NOW - 5))),
        (HOST, path(&stolen, &directory(NOW - 5))),
    ] {
        let answer = get_at(&mut viewer, host, &forged).await;
        assert_eq!(answer.status, 403);
        assert!(text(&answer).starts_with("bad MAC"), "{}", text(&answer));
    }
    let answer = get_at(&mut viewer, OTHER, &path(&stolen, &directory(NOW - 5))).await;
    assert!(text(&answer).starts_with("wrong host"), "{}", text(&answer));
    assert_eq!(world.handle.view().statuses.get(&200), None);
}

#[tokio::test(start_paused = true)]
async fn a_box_with_tokens_off_serves_whatever_the_token_is_and_an_optional_one_judges_it() {
    let world = world(TokenMode::Off);
    let mut viewer = world.viewer("192.0.2.7").await;
    for path in ["/title/a", "/t/nonsense/title/a", "/title/a?t=123", &good()] {
        assert_eq!(get(&mut viewer, path).await.status, 200, "{path}");
    }
    switch(&world, TokenMode::Optional, None);
    for (path, status) in [
        ("/title/a", 200),
        ("/title/a?e=1&k=other", 200),
        (&good(), 200),
        ("/t/nonsense/title/a", 403),
        ("/title/a?t=123", 403),
        (&good().replace("k=a1", "k=a2"), 403),
    ] {
        assert_eq!(get(&mut viewer, path).await.status, status, "{path}");
    }
    assert_eq!(world.handle.view().tokens.mode, TokenMode::Optional);
}

#[tokio::test(start_paused = true)]
async fn without_a_clock_nobody_is_admitted_where_a_token_is_required() {
    let world = world(TokenMode::Required);
    world.tokens.clock_is_sane(false);
    let mut viewer = world.viewer("192.0.2.7").await;
    let answer = get(&mut viewer, &good()).await;
    assert_eq!(
        (answer.status, answer.field("retry-after")),
        (503, Some("30"))
    );
    assert!(text(&answer).contains("clock is not set"));
    assert_eq!(world.refused("token-clock"), 1);
    assert_eq!(get(&mut viewer, "/title/a").await.status, 403);
    // Where those without one are served, its times keep nobody away, and its MAC does.
    switch(&world, TokenMode::Optional, None);
    let ended = path(
        &host_key("a1", HOST),
        &Claim {
            expires: NOW,
            ..directory(NOW - 5)
        },
    );
    assert_eq!(get(&mut viewer, &ended).await.status, 200);
    assert_eq!(
        get(&mut viewer, &ended.replace("i=1", "i=2")).await.status,
        403
    );
    world.tokens.clock_is_sane(true);
    assert_eq!(get(&mut viewer, &ended).await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn keys_rotate_under_a_running_viewer_and_a_key_file_is_read_by_a_reload() {
    let world = world(TokenMode::Required);
    let (old, young) = (host_key("a1", HOST), host_key("b2", HOST));
    let mut viewer = world.viewer("192.0.2.7").await;
    let [by_old, by_young] = [&old, &young].map(|key| path(key, &directory(NOW - 5)));
    assert_eq!(get(&mut viewer, &by_old).await.status, 200);
    assert_eq!(get(&mut viewer, &by_young).await.status, 403);
    world
        .tokens
        .deliver(Keyring::new(vec![old.clone(), young.clone()]));
    assert_eq!(get(&mut viewer, &by_old).await.status, 200);
    assert_eq!(get(&mut viewer, &by_young).await.status, 200);
    world.tokens.deliver(Keyring::new(vec![young]));
    assert_eq!(get(&mut viewer, &by_old).await.status, 403);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    token::save_host(&file, &[old]).unwrap();
    switch(&world, TokenMode::Required, Some(file.clone()));
    assert_eq!(get(&mut viewer, &by_old).await.status, 200);
    assert_eq!(get(&mut viewer, &by_young).await.status, 200);
    let view = world.handle.view();
    assert_eq!(view.connections.total, 1);
    assert_eq!(view.tokens.keys.len(), 2);
    // A file that cannot be believed refuses the reload, and the old one goes on.
    std::fs::write(&file, "nonsense\n").unwrap();
    let config = Config {
        tokens: TokensConfig {
            mode: TokenMode::Required,
            key_file: Some(file),
        },
        ..world.config.clone()
    };
    let error = world.handle.prepare(&config).unwrap_err().to_string();
    assert!(
        error.contains("key_file") && error.contains("line 1"),
        "{error}"
    );
    assert_eq!(get(&mut viewer, &by_old).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_closing_box_serves_tokens_from_before_it_closed_and_sessions_that_play() {
    let world = world(TokenMode::Required);
    let key = host_key("a1", HOST);
    let sent = |issued, session| {
        path(
            &key,
            &Claim {
                session,
                ..directory(issued)
            },
        )
    };
    let mut viewer = world.viewer("192.0.2.7").await;
    assert_eq!(
        get(&mut viewer, &sent(NOW - 5, Some("plays"))).await.status,
        200
    );
    tokio::time::advance(Duration::from_secs(5)).await;
    world.gate.send_replace(Gate::Closed(vec![Reason::Drained]));
    // The worker hears of it.
    clock::sleep(Duration::from_millis(1)).await;
    tokio::time::advance(Duration::from_secs(300)).await;
    // Closed at NOW + 5; a minute is what steering may be late. From any address.
    let cases = [
        (sent(NOW + 65, None), 200),
        (sent(NOW + 66, None), 503),
        (sent(NOW + 200, Some("plays")), 200),
        (sent(NOW + 200, Some("new")), 503),
        (good().replace("i=", "i=1"), 503),
        ("/title/a".to_owned(), 503),
    ];
    for ((path, status), number) in cases.into_iter().zip(1..) {
        let mut other = world.viewer(&format!("198.51.100.{number}")).await;
        let answer = get(&mut other, &path).await;
        assert_eq!(answer.status, status, "{path}");
        if status == 503 {
            assert!(text(&answer).contains("drained"), "{}", text(&answer));
        }
    }
    // The address that fetched lately does not stand for a token, nor make a late one early.
    let mut same = world.viewer("192.0.2.7").await;
    assert_eq!(get(&mut same, "/title/a").await.status, 403);
    assert_eq!(get(&mut same, &sent(NOW + 200, None)).await.status, 503);
    // A preflight of one who may fetch.
    let early = sent(NOW, None);
    let mut other = world.viewer("198.51.100.9").await;
    other
        .say(&format!("OPTIONS {early} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    assert_eq!(other.hear(true).await.unwrap().status, 204);
    // A session that stopped playing is no running viewer, and the limit ends everything.
    tokio::time::advance(Duration::from_secs(601)).await;
    let mut late = world.viewer("198.51.100.9").await;
    assert_eq!(
        get(&mut late, &sent(NOW + 200, Some("plays"))).await.status,
        503
    );
    let mut late = world.viewer("198.51.100.9").await;
    assert_eq!(get(&mut late, &early).await.status, 200);
    tokio::time::advance(Duration::from_secs(7_200 - 901)).await;
    let mut late = world.viewer("198.51.100.9").await;
    assert_eq!(get(&mut late, &early).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn an_optional_closing_box_still_serves_addresses_that_came_without_a_token() {
    let world = world(TokenMode::Optional);
    let mut viewer = world.viewer("192.0.2.7").await;
    assert_eq!(get(&mut viewer, "/title/a").await.status, 200);
    world
        .gate
        .send_replace(Gate::Closed(vec![Reason::LeaseExpired]));
    assert_eq!(get(&mut viewer, "/title/a").await.status, 200);
    let mut other = world.viewer("198.51.100.9").await;
    assert_eq!(get(&mut other, &good()).await.status, 200);
    let mut stranger = world.viewer("198.51.100.10").await;
    assert_eq!(get(&mut stranger, "/title/a").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn the_access_log_has_session_and_rate_and_nothing_to_fetch_with() {
    let world = world(TokenMode::Required);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let config = Config {
        access_log: Some(log.clone()),
        tokens: TokensConfig {
            mode: TokenMode::Required,
            key_file: None,
        },
        ..world.config.clone()
    };
    world.handle.prepare(&config).unwrap().commit();
    let claim = Claim {
        session: Some("viewer-9"),
        rate: Some(BytesPerSecond(1_250_000)),
        ..directory(NOW - 5)
    };
    let path = path(&host_key("a1", HOST), &claim);
    let mut viewer = world.viewer("192.0.2.7").await;
    assert_eq!(get(&mut viewer, &path).await.status, 200);
    // The log's thread lives in real time.
    let written = |_: &u32| {
        clock::block_for(Duration::from_millis(1));
        std::fs::read_to_string(&log).unwrap().ends_with('\n')
    };
    assert!((0..5_000).any(|turn| written(&turn)), "no line after 5 s");
    let line = std::fs::read_to_string(&log).unwrap();
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["path"], "/t/-/title/a");
    assert_eq!(value["session"], "viewer-9");
    assert_eq!(value["token_rate"], 1_250_000);
    assert!(!line.contains("t="), "{line}");
}

/// Its body was not read: taken for a request it would be another's.
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_refused_for_its_token_ends_the_connection() {
    for (mode, query) in [(TokenMode::Optional, "?t=x"), (TokenMode::Required, "")] {
        let world = world(mode);
        let mut viewer = world.viewer("192.0.2.1").await;
        let body = format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", good());
        let length = body.len();
        let head = format!(
            "POST /speedtest{query} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n"
        );
        viewer.say(&(head + &body)).await;
        let got = viewer.hear(true).await.unwrap();
        assert_eq!((got.status, got.closes()), (403, true), "{mode}");
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut viewer.stream, &mut rest)
            .await
            .unwrap();
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}
