//! A whole server in memory whose "kernel" seals: what viewers get, and what is told of it.

use super::certified;
use crate::clock;
use crate::gate::Gate;
use crate::serve::Config;
use crate::serve::Content;
use crate::serve::Deps;
use crate::serve::Handle;
use crate::serve::Limits;
use crate::serve::Offload;
use crate::serve::Pacing;
use crate::serve::Seams;
use crate::serve::TokenFeed;
use crate::serve::TokensConfig;
use crate::serve::kernel::tests_support::KernelNet;
use crate::serve::kernel::tests_support::Manners;
use crate::serve::memory::MemoryNet;
use crate::serve::memory::TaskWorkers;
use crate::serve::tests_support::Files;
use crate::serve::tests_support::address;
use crate::serve::tests_support::limits;
use crate::serve::tests_support::speedtest;
use crate::task::PhaseTx;
use crate::task::phase;
use crate::tls;
use rustls::ClientConfig;
use rustls::SupportedProtocolVersion;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::version::TLS12;
use rustls::version::TLS13;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const LARGE: usize = 300_000;
const SMALL: usize = 1000;

fn bytes(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

struct World {
    net: KernelNet,
    handle: Handle,
    config: Config,
    _gate: watch::Sender<Gate>,
    phase: PhaseTx,
    _keys: tempfile::TempDir,
}

struct Viewer(TlsStream<DuplexStream>);

impl World {
    fn new(manners: Manners, tls_offload: Offload, limits: Limits) -> Self {
        let net = KernelNet {
            net: MemoryNet::default(),
            manners,
            sealed: Arc::new(Mutex::new(0)),
        };
        let keys = tempfile::tempdir().unwrap();
        let pem = |tag: &str, der: &[u8]| {
            let path = keys.path().join(tag.replace(' ', "-"));
            let text: String = crate::serve::kernel::tests_support::pem(tag, der);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = certified();
        let pair = tls::CertificateConfig {
            chain: pem("CERTIFICATE", certificate),
            key: pem("PRIVATE KEY", key),
        };
        let config = Config {
            listen: vec![address("192.0.2.80:443")],
            plain_listen: Vec::new(),
            workers: 1,
            access_log: None,
            access_log_sample: 1,
            drop_behind: false,
            pacing: Pacing {
                rate_limit: None,
                cmcd: false,
            },
            tokens: TokensConfig::default(),
            speedtest: speedtest(),
            limits,
            tls: tls::Config {
                certificates: vec![pair],
            },
            tls_offload,
        };
        let files = Files::new(&[("large", &bytes(LARGE)), ("small", &bytes(SMALL))]);
        let (gate, gate_seen) = watch::channel(Gate::Serving);
        let (phase, phase_seen) = phase::channel();
        let deps = Deps {
            content: Arc::new(files) as Arc<dyn Content>,
            speedtest_file: None,
            tokens: TokenFeed::default(),
            gate: gate_seen,
            phase: phase_seen,
        };
        let seams = Seams {
            bind: Arc::new(net.clone()),
            spawn: Arc::new(TaskWorkers),
        };
        let handle = crate::serve::start(&config, deps, seams).unwrap();
        Self {
            net,
            handle,
            config,
            _gate: gate,
            phase,
            _keys: keys,
        }
    }

    fn plain(manners: Manners) -> Self {
        Self::new(manners, Offload::Auto, limits())
    }

    async fn viewer(&self, version: &'static SupportedProtocolVersion) -> Viewer {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certified().0.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (from, to) = (address("192.0.2.1:4000"), address("192.0.2.80:443"));
        let stream = self.net.net.connect(from, to).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        Viewer(connector.connect(name, stream).await.unwrap())
    }

    fn sealed(&self) -> u64 {
        *self.net.sealed.lock().unwrap()
    }

    fn path(&self) -> String {
        self.handle.connections(1)[0].tls_path.clone()
    }

    fn refused(&self) -> u64 {
        self.handle.view().refusals["tls-offload"]
    }
}

impl Viewer {
    async fn say(&mut self, path: &str) {
        let text = format!("GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n");
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The head and body of a response, or `None` if the connection ended first.
    async fn hear(&mut self, length: usize) -> Option<(String, Vec<u8>)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some((String::from_utf8(head).unwrap(), body))
    }

    async fn get(&mut self, path: &str) -> Option<String> {
        let length = match path {
            "large" => LARGE,
            _ => SMALL,
        };
        self.say(path).await;
        let (head, body) = self.hear(length).await?;
        assert!(body == bytes(length), "{path} differs");
        Some(head)
    }

    /// True after a close_notify; a cut stream is an error.
    async fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]).await, Ok(0))
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_large_body_goes_to_the_kernel_and_all_that_follows() {
    for version in [&TLS13, &TLS12] {
        let world = World::plain(Manners::default());
        let mut viewer = world.viewer(version).await;
        viewer.get("small").await.unwrap();
        assert_eq!(
            (world.sealed(), world.path().as_str()),
            (0, "user-space (small)")
        );
        viewer.get("large").await.unwrap();
        assert_eq!(world.path(), "kernel");
        let after = world.sealed();
        assert!(after > LARGE as u64, "head and body");
        for _ in 0..3 {
            viewer.get("small").await.unwrap();
            viewer.get("large").await.unwrap();
        }
        assert!(world.sealed() > 4 * LARGE as u64 + 3 * SMALL as u64);
        let view = world.handle.view();
        assert_eq!((view.tls.path, view.tls.offload.kernel), ("kernel", 1));
        assert_eq!(view.tls.offload.user_space["small"], 0);
        world.phase.drain(clock::now() + Duration::from_secs(30));
        assert!(
            viewer
                .get("large")
                .await
                .unwrap()
                .contains("Connection: close")
        );
        assert!(viewer.is_closed().await);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_are_answered_in_order_across_the_handover() {
    let world = World::plain(Manners::default());
    let mut viewer = world.viewer(&TLS13).await;
    let text = "GET /small HTTP/1.1\r\nHost: h\r\n\r\nGET /large HTTP/1.1\r\nHost: h\r\n\r\n";
    viewer.0.write_all(text.repeat(3).as_bytes()).await.unwrap();
    for _ in 0..3 {
        assert!(viewer.hear(SMALL).await.unwrap().1 == bytes(SMALL));
        assert!(viewer.hear(LARGE).await.unwrap().1 == bytes(LARGE));
    }
    assert_eq!(world.path(), "kernel");
}

#[tokio::test(start_paused = true)]
async fn key_updates_are_answered_where_the_kernel_can_and_end_the_connection_elsewhere() {
    for rekeys in [true, false] {
        let manners = Manners {
            rekeys,
            ..Manners::default()
        };
        let world = World::plain(manners);
        let mut viewer = world.viewer(&TLS13).await;
        viewer.get("large").await.unwrap();
        for _ in 0..3 {
            viewer.0.get_mut().1.refresh_traffic_keys().unwrap();
            let head = viewer.get("large").await.unwrap();
            assert_eq!(head.contains("Connection: close"), !rekeys);
            if !rekeys {
                assert!(viewer.is_closed().await);
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_viewer_is_served_from_user_space() {
    let manners = Manners {
        half_closed: true,
        ..Manners::default()
    };
    let world = World::plain(manners);
    let mut viewer = world.viewer(&TLS13).await;
    viewer.get("large").await.unwrap();
    viewer.get("large").await.unwrap();
    assert_eq!(
        (world.sealed(), world.path().as_str()),
        (0, "user-space (half-closed)")
    );
    // Counted once, however many bodies follow.
    assert_eq!(world.handle.view().tls.offload.user_space["half-closed"], 1);
    assert_eq!(world.refused(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_lost_on_its_way_is_closed_and_counted_and_nothing_is_sent_in_clear() {
    let manners = Manners {
        full: true,
        ..Manners::default()
    };
    let world = World::plain(manners);
    let mut viewer = world.viewer(&TLS13).await;
    viewer.get("small").await.unwrap();
    assert!(viewer.get("large").await.is_none());
    assert_eq!(
        (world.handle.view().tls.offload.lost, world.refused()),
        (1, 1)
    );
    assert_eq!(world.handle.view().connections.open, 0);
}

#[tokio::test(start_paused = true)]
async fn require_cuts_off_what_the_kernel_does_not_take_and_serves_small_bodies() {
    let manners = Manners {
        half_closed: true,
        ..Manners::default()
    };
    let world = World::new(manners, Offload::Require, limits());
    let mut viewer = world.viewer(&TLS13).await;
    viewer.get("small").await.unwrap();
    assert!(viewer.get("large").await.is_none());
    assert_eq!(world.refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn off_and_a_reload_to_it_leave_sessions_where_they_are() {
    let world = World::plain(Manners::default());
    let mut first = world.viewer(&TLS13).await;
    first.get("large").await.unwrap();
    let off = Config {
        tls_offload: Offload::Off,
        ..world.config.clone()
    };
    world.handle.prepare(&off).unwrap().commit();
    let mut second = world.viewer(&TLS13).await;
    let before = world.sealed();
    second.get("large").await.unwrap();
    assert_eq!(world.sealed(), before);
    first.get("large").await.unwrap();
    assert!(world.sealed() > before);
    let view = world.handle.view().tls;
    assert_eq!(
        (view.path, view.offload.user_space["off"]),
        ("user-space", 1)
    );
}

#[tokio::test(start_paused = true)]
async fn garbage_after_the_handover_is_answered_with_an_alert() {
    let world = World::plain(Manners::default());
    let mut viewer = world.viewer(&TLS13).await;
    viewer.get("large").await.unwrap();
    let record = [&[23, 3, 3, 0, 40][..], &[9; 40]].concat();
    viewer.0.get_mut().0.write_all(&record).await.unwrap();
    let error = viewer.0.read(&mut [0; 1]).await.unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert_eq!(world.handle.view().panics, 0);
}

#[tokio::test(start_paused = true)]
async fn the_request_limit_and_silence_end_with_a_close_notify() {
    let limits = Limits {
        requests: 2,
        ..limits()
    };
    let world = World::new(Manners::default(), Offload::Auto, limits);
    let mut viewer = world.viewer(&TLS12).await;
    viewer.get("large").await.unwrap();
    viewer.get("large").await.unwrap();
    assert!(viewer.is_closed().await);
    let mut viewer = world.viewer(&TLS12).await;
    viewer.get("large").await.unwrap();
    assert!(viewer.is_closed().await, "after the idle time");
}
