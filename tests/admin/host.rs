//! A daemon's admin room without the daemon: views and commands that tests control.

use oca::admin;
use oca::admin::Deps;
use oca::admin::Views;
use oca::bgp;
use oca::cli::client::Client;
use oca::clock;
use oca::command::Command;
use oca::command::Refusal;
use oca::command::Request;
use oca::gate::Gate;
use oca::ids::BoxId;
use oca::ids::Identity;
use oca::ids::Profile;
use oca::ids::SiteName;
use oca::object::Digest;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Class;
use oca::route::Filtered;
use oca::route::Route;
use oca::store;
use oca::task::Heartbeat;
use oca::telemetry;
use serde_json::Value;
use serde_json::json;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

pub(crate) const KEYS: usize = 2_500;

/// A daemon's admin room without the daemon.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) gate: watch::Sender<Gate>,
    pub(crate) commands: mpsc::Receiver<Request>,
    pub(crate) room: Option<admin::Handle>,
}

impl Host {
    pub(crate) fn start(queue: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (gate, _) = watch::channel(Gate::Serving);
        let (sender, commands) = mpsc::channel(queue);
        let room = admin::start(&config(dir.path()), deps(&gate, sender)).unwrap();
        let room = Some(room);
        Self {
            dir,
            gate,
            commands,
            room,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("oca.sock")
    }

    pub(crate) fn read_only(&self) -> PathBuf {
        self.dir.path().join("oca-ro.sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.socket()).unwrap()
    }

    /// Answers every command in the background as a daemon would.
    pub(crate) fn answer_commands(&mut self, answer: fn(&Command) -> Result<Value, Refusal>) {
        let (_, empty) = mpsc::channel(1);
        let mut commands = std::mem::replace(&mut self.commands, empty);
        std::thread::spawn(move || {
            while let Some(request) = commands.blocking_recv() {
                let _ = request.reply.send(answer(&request.command));
            }
        });
    }

    /// Runs the binary against this box.
    pub(crate) fn oca(&self, args: &[&str]) -> Output {
        std::process::Command::new(env!("CARGO_BIN_EXE_oca"))
            .args(args)
            .arg("--socket")
            .arg(self.socket())
            .output()
            .unwrap()
    }
}

pub(crate) fn config(dir: &Path) -> admin::Config {
    admin::Config {
        socket: dir.join("oca.sock"),
        read_only_socket: dir.join("oca-ro.sock"),
        metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
    }
}

pub(crate) fn deps(gate: &watch::Sender<Gate>, commands: mpsc::Sender<Request>) -> Deps {
    let started = clock::now();
    Deps {
        commands,
        views: views(gate),
        metrics: telemetry::Registry::new("9.9.9", started),
        heartbeats: vec![Heartbeat::new("control", started)],
        reply_time: Duration::from_millis(300),
    }
}

fn views(gate: &watch::Sender<Gate>) -> Views {
    let site = SiteName::parse("TLS001.example.ISP").unwrap();
    let id = BoxId::parse("c009-tls001-example-isp").unwrap();
    Views {
        identity: Identity {
            id,
            site,
            profile: Profile::Storage,
            timezone: "Europe/Paris".to_owned(),
        },
        version: "9.9.9",
        started: clock::now(),
        gate: gate.subscribe(),
        drain: Arc::new(|| json!({"drained": false, "until": null})),
        store: Arc::new(|| Arc::new(store_view())),
        catalogue: Arc::new(catalogue),
        bgp: Arc::new(|| Arc::new(bgp_snapshot())),
        bgp_detail: Arc::new(|| {
            json!([{"history": [], "dropped": 0}, {"history": [{"at": "2026-01-01T00:00:00.000Z",
                "to": "down", "why": "sent 4/0 hold timer expired"}], "dropped": 7, "kernel_routes": [
                {"prefix": "0.0.0.0/0", "problem": null}, {"prefix": "::/0", "problem": "no way"}]}])
        }),
        bgp_table: Arc::new(|| None),
        bgp_tap: Arc::new(|after: Option<u64>| {
            // Three records in all.
            let bytes = after.filter(|after| *after < 3).map_or("", |_| "mrt");
            Some(bgp::TapPage {
                next: after.map_or(0, |after| after + 1),
                lost: 2,
                bytes: bytes.into(),
            })
        }),
        serve: Arc::new(|| json!({"connections": {"open": 3}, "listeners": []})),
        viewers: Arc::new(|| json!([{"peer": "192.0.2.7:4711", "tls": true}])),
        quality: Arc::new(|| json!({"networks": 1, "rows": [{"prefix": "192.0.2.0/24"}]})),
        tls: Arc::new(|| json!({"certificates": [{"names": ["box.example"]}]})),
        config: Arc::new(|| {
            json!({"config": {"serve": {"workers": 2}}, "settings": [
                {"key": "serve.workers", "value": "2", "origin": {"file": "a\u{1b}[31m\u{9b}b\n",
                    "line": 7, "column": 1}, "reload": true},
                {"key": "gate.require", "value": "[]", "origin": null, "reload": true},
            ]})
        }),
        control: Arc::new(
            || json!({"state": "outage", "summary": "the control plane is silent", "enabled": true}),
        ),
        prefill: Arc::new(|| panic!("a view that panics")),
        fill: Arc::new(fill_view),
    }
}

/// Two neighbours; the second one's session is down. Nested prefixes, a default route, and many
/// more than a page holds.
pub(crate) fn bgp_snapshot() -> bgp::Snapshot {
    let route = |prefix: &str, neighbour: &str, filtered| Route {
        prefix: prefix.parse().unwrap(),
        neighbour: neighbour.into(),
        path_id: 0,
        class: Class::Peering,
        attributes: Arc::new(Attributes {
            med: Some(20),
            communities: vec!["64500:1".parse().unwrap(), "64500:2".parse().unwrap()],
            ..Attributes::new(
                "64500 64501 {64502 64503}".parse().unwrap(),
                "198.51.100.1".parse().unwrap(),
            )
        }),
        filtered,
    };
    let mut routes = vec![
        route("0.0.0.0/0", "edge-1", Some(Filtered::DefaultRoute)),
        route("203.0.113.0/24", "edge-1", None),
        route("203.0.113.0/24", "edge-2", None),
        route("203.0.113.0/25", "edge-1", None),
        route("203.0.113.128/25", "edge-1", None),
        route("2001:db8::/32", "edge-1", None),
    ];
    let many = (0..2_500).map(|n| route(&format!("2001:db8:{n:x}::/48"), "edge-2", None));
    routes.extend(many.skip(1));
    routes.sort();
    let neighbour = |name: &str, state, error: Option<&str>| bgp::NeighbourView {
        name: name.to_owned(),
        address: "192.0.2.1".parse().unwrap(),
        asn: Asn(64500),
        class: Class::Peering,
        state,
        routes: 5,
        filtered: 1,
        uptime_s: error.is_none().then_some(60),
        last_error: error.map(str::to_owned),
        session: bgp::SessionFacts::default(),
    };
    bgp::Snapshot {
        generation: 3,
        steerable: routes.len() - 1,
        routes: routes.into_iter().collect(),
        neighbours: vec![
            neighbour("edge-1", "established", None),
            neighbour("edge-2", "active", Some("connect: refused")),
        ],
        ..bgp::Snapshot::default()
    }
}

/// A night under way, with one transfer and one night of history.
fn fill_view() -> Value {
    let digest = Digest::of(b"film");
    json!({
        "window": {"open": true, "opens": "2026-03-01T01:00:00Z", "closes":
            "2026-03-01T13:00:00Z", "start": "02:00", "timezone": "Europe/Paris"},
        "paused": false, "reason": null, "problem": "the source is\u{1b}[2J busy",
        "cap_bps": 1_200_000_000_u64, "rate_bps": 1_100_000_000_u64,
        "bytes": {"peer": 10, "tier": 0, "network": 0, "origin": 5_000_000},
        "window_bytes": 5_000_010, "wanted": 4, "wanted_bytes": 8_000_000, "done": 2,
        "done_bytes": 9, "carried_over": 1, "carried_over_bytes": 1_000_000,
        "leaving": 3, "leaving_bytes": 300, "transfers": [{"digest": digest, "rank": 7,
            "class": "night", "source": "origin", "kind": "origin", "bytes": 2_000_000,
            "bytes_done": 500_000, "seconds": 3}],
        "nights": [{"date": "2026-02-28", "bytes": {"peer": 1, "tier": 2, "network": 3,
            "origin": 6_480_000_000_000_u64}, "urgent_bytes": 0, "done": 9, "wanted": 10,
            "carried_over": 1, "carried_over_bytes": 77}],
    })
}

fn store_view() -> store::View {
    let disk = |path: &str, state, reason: Option<&str>| store::DiskView {
        writes: None,
        path: path.into(),
        uuid: None,
        class: store::DiskClass::Nvme,
        zone: oca::store::Zone::None,
        state,
        reason: reason.map(str::to_owned),
        since: "2026-01-01T00:00:00Z".to_owned(),
        objects: 7,
        bytes: 1_500_000,
        free: 9,
        quarantined: 1,
        quarantined_bytes: 0,
        cold: store::ColdView::default(),
        scrub: store::ScrubView::default(),
        scan: store::ScanView::default(),
        retire: None,
    };
    store::View {
        moves: store::MovesView::default(),
        generation: 5,
        manifest_loaded: true,
        objects: 7,
        bytes: 1_500_000,
        manifest: Some(store::ManifestView {
            epoch: 1,
            generation: 2,
            keys: 8,
            missing: 1,
        }),
        disks: vec![
            disk("/srv/oca/disk1", "online", None),
            disk("/srv/oca/disk2", "refused", Some("wrong\u{1b}[2J uuid")),
        ],
    }
}

/// The rows `k0000` … in key order, as the store lists them.
fn catalogue(prefix: &str, after: Option<&str>, most: usize) -> Vec<store::CatalogueRow> {
    (0..KEYS)
        .map(|n| format!("k{n:04}"))
        .filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after))
        .take(most)
        .map(|key| store::CatalogueRow {
            digest: Digest::of(key.as_bytes()),
            key,
            bytes: 4,
            disk: Some("/srv/oca/disk1".into()),
            rank: 1,
        })
        .collect()
}

/// Sends bytes as they are and reads until the peer closes or the time is over.
pub(crate) fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // The peer may close before it has read everything; its answer is what counts.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
