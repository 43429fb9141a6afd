//! Which addresses are connected to: those that were checked, and no others (SAFETY: fill).

use crate::lab::config;
use crate::proxy::Behind;
use crate::proxy::Proxy;
use crate::world::Names;
use crate::world::Shelf;
use crate::world::Till;
use crate::world::bytes;
use crate::world::job;
use oca::fill::Fault;
use oca::fill::Fetch as _;
use oca::fill::FetchConfig;
use oca::fill::Fetcher;
use oca::fill::Outcome;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

struct Scene {
    proxy: Proxy,
    content: bytes::Bytes,
}

impl Scene {
    async fn new() -> Self {
        let content = bytes(1, 1_000);
        Self {
            proxy: Proxy::start(Behind::Object(content.clone())).await,
            content,
        }
    }

    async fn fetch(&self, names: &Names, private_sources: bool) -> Outcome {
        let mut config = FetchConfig {
            private_sources,
            ..config()
        };
        config.limits.connect = Duration::from_millis(500);
        let fetcher = Fetcher::new(
            config,
            Arc::new(|_| Err("no certificate in this test".into())),
            Arc::new(names.clone()),
            Arc::new(Shelf::default()),
        );
        let url = format!("http://films.example.net:{}/x", self.proxy.port);
        fetcher.fetch(job(&self.content, url), Till::open()).await
    }
}

fn outside() -> SocketAddr {
    "192.0.2.1:1".parse().unwrap()
}

#[tokio::test]
async fn a_name_leads_to_its_address_and_to_the_port_of_the_url() {
    let scene = Scene::new().await;
    let names = Names::of(&[&["127.0.0.1:1".parse().unwrap()]]);
    assert_eq!(scene.fetch(&names, true).await.end, Ok(()));
    assert_eq!(names.asked(), 1);
    let host = &scene.proxy.asked()[0].head;
    let expected = format!("host: films.example.net:{}", scene.proxy.port);
    assert!(host.to_lowercase().contains(&expected), "{host}");
}

#[tokio::test]
async fn one_address_from_inside_is_enough_to_refuse_the_name() {
    let scene = Scene::new().await;
    let inside: SocketAddr = scene.proxy.address();
    for answer in [
        &[inside][..],
        &[outside(), inside],
        &[
            outside(),
            outside(),
            outside(),
            outside(),
            outside(),
            inside,
        ],
        &["[::ffff:127.0.0.1]:1".parse().unwrap()],
        &["169.254.169.254:80".parse().unwrap()],
        &["0.0.0.0:80".parse().unwrap()],
    ] {
        let outcome = scene.fetch(&Names::of(&[answer]), false).await;
        let refused = matches!(outcome.end, Err(Fault::Refused(_)));
        assert!(refused, "{answer:?}: {outcome:?}");
    }
    assert_eq!(scene.proxy.connections(), 0);
}

#[tokio::test]
async fn a_resolver_that_changes_its_mind_after_the_check_leads_nowhere_else() {
    let scene = Scene::new().await;
    let names = Names::of(&[&[outside()], &[scene.proxy.address()]]);
    let outcome = scene.fetch(&names, false).await;
    assert!(matches!(outcome.end, Err(Fault::Broken(_))), "{outcome:?}");
    assert_eq!(names.asked(), 1, "asked once for a connection");
    // The next connection is checked again.
    let outcome = scene.fetch(&names, false).await;
    assert!(matches!(outcome.end, Err(Fault::Refused(_))), "{outcome:?}");
    assert_eq!(scene.proxy.connections(), 0);
}

#[tokio::test]
async fn addresses_in_disguise_are_resolved_and_then_seen() {
    let scene = Scene::new().await;
    let fetcher = Fetcher::new(
        FetchConfig {
            private_sources: false,
            ..config()
        },
        Arc::new(|_| Err("no certificate in this test".into())),
        Arc::new(oca::fill::SystemResolver),
        Arc::new(Shelf::default()),
    );
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:7f00:1]",
    ] {
        let url = format!("http://{host}:{}/x", scene.proxy.port);
        let outcome = fetcher.fetch(job(&scene.content, url), Till::open()).await;
        let end = outcome.end.unwrap_err();
        let fine = matches!(end, Fault::Refused(_) | Fault::Broken(_));
        assert!(fine, "{host}: {end}");
    }
    assert_eq!(scene.proxy.connections(), 0);
}

#[tokio::test]
async fn plain_http_is_for_an_origin_and_only_when_it_is_configured() {
    let scene = Scene::new().await;
    let names = Names::of(&[&[scene.proxy.address()]]);
    let fetcher = Fetcher::new(
        FetchConfig {
            plain_origin: false,
            ..config()
        },
        Arc::new(|_| Err("no certificate in this test".into())),
        Arc::new(names.clone()),
        Arc::new(Shelf::default()),
    );
    let url = format!("http://films.example.net:{}/x", scene.proxy.port);
    let outcome = fetcher.fetch(job(&scene.content, url), Till::open()).await;
    assert!(matches!(outcome.end, Err(Fault::Refused(_))), "{outcome:?}");
    assert_eq!(names.asked(), 0);
}
