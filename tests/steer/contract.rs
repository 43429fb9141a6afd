//! The form of answers, and what the listener is for its clients.

use crate::stage::Fleet;
use crate::stage::KEY;
use crate::stage::Reply;
use crate::stage::Stage;
use crate::stage::converse;
use crate::stage::names;
use crate::stage::route;
use oca::control::api::public::Limits;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::net::TcpStream;

fn fleet() -> Fleet {
    let heard = ["192.0.2.0/24", "2001:db8::/32", "127.0.0.0/8"];
    let heard = heard.map(|prefix| route(prefix, "64500", 0)).to_vec();
    Fleet::new(heard.clone(), heard)
}

#[tokio::test]
async fn an_answer_has_the_documented_members_and_names_of_the_client_s_family() {
    let stage = Stage::of(&fleet());
    let reply = stage
        .get(&format!("/v1/steer?client=192.0.2.7&key={KEY}&n=2"))
        .await;
    assert_eq!(reply.status, 200);
    let answer = reply.json();
    assert_eq!(answer["v"], 1);
    assert_eq!(answer["generation"], 1);
    assert!(answer["server_time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(answer["client"], "192.0.2.7");
    assert_eq!(answer["key"], KEY);
    let boxes = answer["boxes"].as_array().unwrap();
    assert_eq!(boxes.len(), 2);
    for (row, rank) in boxes.iter().zip(1..) {
        let name = row["box"].as_str().unwrap();
        assert_eq!(row["rank"], rank);
        let dual = format!("https://{name}.oca.example.net/{KEY}");
        let of_family = dual.replace("//", "//ipv4-");
        assert_eq!(row["urls"], serde_json::json!([of_family, dual]));
    }
    let reply = stage.get("/v1/steer?client=2001:db8::7").await;
    let url = reply.json()["boxes"][0]["urls"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        url.starts_with("https://ipv6-c00") && url.ends_with(".oca.example.net/"),
        "{url}"
    );
}

#[tokio::test]
async fn the_peer_is_the_client_when_none_is_named() {
    let stage = Stage::of(&fleet());
    let answer = stage.get(&format!("/v1/steer?key={KEY}")).await.json();
    assert_eq!(answer["client"], "127.0.0.1");
    assert_eq!(names(&answer).0.len(), 3);
}

#[tokio::test]
async fn several_keys_are_answered_in_their_order() {
    let stage = Stage::of(&fleet());
    let body = format!("[\"{KEY}\",\"film/v1/hd/none.m4s\",\"film/v1/hd\"]");
    let reply = stage
        .post("/v1/steer?client=192.0.2.7&n=1", body.as_bytes())
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let json = reply.json();
    let answers = json["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 3);
    assert_eq!(names(&answers[0]).0.len(), 1);
    assert_eq!(answers[1]["empty"]["reason"], "unknown-key");
    assert_eq!(answers[0]["boxes"][0]["box"], answers[2]["boxes"][0]["box"]);
}

#[tokio::test]
async fn pages_of_any_origin_may_ask_and_nothing_is_kept() {
    let stage = Stage::of(&fleet());
    let good = stage.get("/v1/steer?client=192.0.2.7").await;
    let bad = stage.get("/v1/steer?client=nobody").await;
    let lost = stage.get("/").await;
    for reply in [&good, &bad, &lost] {
        assert!(
            reply.head.contains("access-control-allow-origin: *"),
            "{reply:?}"
        );
        assert!(reply.head.contains("cache-control: no-store"), "{reply:?}");
        assert!(
            reply.head.contains("content-type: application/json"),
            "{reply:?}"
        );
    }
    assert_eq!((good.status, bad.status, lost.status), (200, 400, 404));
    let ask = b"OPTIONS /v1/steer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let reply = converse(stage.connect().await, ask).await;
    assert_eq!(reply.status, 204);
    assert!(
        reply
            .head
            .contains("access-control-allow-methods: get, head, post")
    );
    let ask = b"DELETE /v1/steer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let reply = converse(stage.connect().await, ask).await;
    assert_eq!(reply.status, 405);
    assert!(reply.head.contains("allow: get, head, post"), "{reply:?}");
}

#[tokio::test]
async fn health_says_whether_there_is_anything_to_steer_by() {
    let stage = Stage::without_fleet(Limits::default());
    assert_eq!(stage.get("/v1/health").await.status, 503);
    stage.steering.refresh(fleet().inputs());
    let reply = stage.get("/v1/health").await;
    assert_eq!(reply.status, 200);
    let health = reply.json();
    assert_eq!((&health["boxes"], &health["open"]), (&3.into(), &3.into()));
}

#[tokio::test]
async fn answers_are_counted_by_what_decided_and_by_why_they_are_empty() {
    let stage = Stage::of(&fleet());
    stage.get("/v1/steer?client=192.0.2.7").await;
    stage.get("/v1/steer?client=203.0.113.1").await;
    stage.get("/v1/steer?client=203.0.113.1&key=no/such").await;
    stage.get("/v1/steer?client=x").await;
    let page = stage.metrics.render();
    for line in [
        "oca_steer_answers_total{decided_by=\"hash\"} 1",
        "oca_steer_empty_total{reason=\"no-route\"} 1",
        "oca_steer_empty_total{reason=\"unknown-key\"} 1",
        "oca_public_requests_total 4",
        "oca_public_refused_total 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn one_connection_asks_again_and_again() {
    let stage = Stage::of(&fleet());
    let ask = "GET /v1/steer?client=192.0.2.7 HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = ask.replace("Host: x", "Host: x\r\nConnection: close");
    let asks = [ask, ask, &last].concat();
    let reply = converse(stage.connect().await, asks.as_bytes()).await;
    assert_eq!(reply.body.matches("HTTP/1.1 200").count(), 2);
}

/// A certificate for `localhost` and its files.
fn certificate(directory: &std::path::Path) -> (oca::tls::Config, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (directory.join("chain.pem"), directory.join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let certificates = vec![oca::tls::CertificateConfig { chain, key }];
    (oca::tls::Config { certificates }, made.cert.der().clone())
}

#[tokio::test]
async fn https_answers_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, root) = certificate(directory.path());
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let stage = Stage::with(Limits::default(), listen, tls);
    stage.steering.refresh(fleet().inputs());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = stage.handle.secure_addresses()[0];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    let ask = b"GET /v1/steer?client=192.0.2.7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let reply = converse(stream, ask).await;
    assert_eq!(reply.status, 200);
    let plain = stage.get("/v1/steer?client=192.0.2.7").await;
    assert_eq!(reply.json()["boxes"], plain.json()["boxes"]);
}

#[tokio::test]
async fn a_door_serves_streams_that_are_no_sockets() {
    let stage = Stage::of(&fleet());
    let door = stage.handle.door();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let peer = "[::ffff:192.0.2.7]:1000".parse().unwrap();
    let serving = tokio::spawn(async move { door.serve_connection(far, peer).await });
    let ask = b"GET /v1/steer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let reply: Reply = converse(near, ask).await;
    assert_eq!(reply.json()["client"], "192.0.2.7");
    serving.await.unwrap();
}

#[tokio::test]
async fn clients_of_a_site_are_spread_and_each_stays() {
    let stage = Stage::of(&fleet());
    let mut firsts = BTreeSet::new();
    for third in 0..40 {
        let target = format!("/v1/steer?client=127.0.{third}.1&key={KEY}");
        let first = names(&stage.get(&target).await.json()).0[0].clone();
        let neighbour = target.replace(".1&", ".250&");
        assert_eq!(names(&stage.get(&neighbour).await.json()).0[0], first);
        firsts.insert(first);
    }
    assert_eq!(firsts.len(), 3);
}

#[tokio::test]
async fn urls_are_signed_for_their_host_and_the_bundle_s_directory_with_the_session() {
    use oca::control::signing::Signing;
    use oca::tls::token;
    use oca::tls::token::Asked;
    use oca::tls::token::FleetKey;
    use oca::tls::token::FleetSecret;
    use oca::tls::token::Keyring;
    use oca::tls::token::Presented;
    let now = oca::clock::unix_seconds(oca::clock::wall());
    let secret = FleetSecret::new(vec![FleetKey {
        id: token::KeyId::parse("a1").unwrap(),
        from: now - 10,
        until: now + 100_000,
        secret: token::Secret::random().unwrap(),
    }]);
    let signing = Signing {
        secret: secret.unwrap(),
        lifetime: std::time::Duration::from_secs(600),
        domain: "oca.example.net".to_owned(),
    };
    let stage = Stage::of(&fleet());
    let signing = Arc::new(signing);
    stage.steering.sign_with(Some(Arc::clone(&signing)));
    let ask = format!("/v1/steer?client=192.0.2.7&key={KEY}&n=1&session=viewer-1");
    let answer = stage.get(&ask).await.json();
    let row = &answer["boxes"][0];
    assert!(row["urls_expire"].as_str().unwrap().ends_with('Z'), "{row}");
    let urls = row["urls"].as_array().unwrap();
    assert_eq!(urls.len(), 2);
    for url in urls {
        let rest = url.as_str().unwrap().strip_prefix("https://").unwrap();
        let (host, rest) = rest.split_once("/t/").unwrap();
        let (token, key) = rest.split_once('/').unwrap();
        assert_eq!(key, KEY);
        let keys = signing.secret.host_keys(&[host.to_owned()], now).unwrap();
        let (directory, _) = KEY.rsplit_once('/').unwrap();
        let asked = |key| Asked {
            host: Some(host.as_bytes()),
            key,
            client: "192.0.2.7".parse().unwrap(),
            now: Some(now),
        };
        let presented = Presented::from_path(token).unwrap();
        let ring = Keyring::new(keys);
        let beside = format!("{directory}/another.m4s");
        let pass = token::check(&[&ring], &presented, &asked(&beside)).unwrap();
        assert_eq!(pass.session.as_deref(), Some("viewer-1"));
        assert_eq!(pass.expires - pass.issued, 600);
        let above = format!("{directory}x/another.m4s");
        assert!(token::check(&[&ring], &presented, &asked(&above)).is_err());
    }
    // A directory is signed as one; a question without a key has nothing to admit to.
    let (directory, _) = KEY.rsplit_once('/').unwrap();
    let ask = format!("/v1/steer?client=192.0.2.7&key={directory}&n=1");
    let answer = stage.get(&ask).await.json();
    let url = answer["boxes"][0]["urls"][0].as_str().unwrap();
    let depth = directory.split('/').count();
    assert!(
        url.contains(&format!("/t/d={depth},")) && url.ends_with(directory),
        "{url}"
    );
    let answer = stage.get("/v1/steer?client=192.0.2.7").await.json();
    assert!(!answer.to_string().contains("/t/"), "{answer}");
    let refused = stage.get("/v1/steer?client=192.0.2.7&session=a%20b").await;
    assert_eq!(refused.status, 400);
    assert!(refused.error().contains("session id"));
}
