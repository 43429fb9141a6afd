//! A small fleet, a real listener before it, and a client that writes bytes.

use oca::control::PublicConfig;
use oca::control::api::public;
use oca::control::api::public::Deps;
use oca::control::api::public::Limits;
use oca::control::fleet::Bitmap;
use oca::control::fleet::BoxView;
use oca::control::fleet::Shut;
use oca::control::fleet::View;
use oca::control::liveness::Facts;
use oca::control::liveness::Liveness;
use oca::control::model::Appliance;
use oca::control::model::Approval;
use oca::control::model::Bundle;
use oca::control::model::BundleKey;
use oca::control::model::Library;
use oca::control::model::Partner;
use oca::control::model::Registry;
use oca::control::model::Site;
use oca::control::model::SiteFill;
use oca::control::steer::Config;
use oca::control::steer::Inputs;
use oca::control::steer::Steering;
use oca::ids::BoxId;
use oca::ids::Profile;
use oca::ids::SiteName;
use oca::link::message::Load;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Class;
use oca::route::Route;
use oca::telemetry;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The key that the fleet holds.
pub(crate) const KEY: &str = "film/v1/hd/seg-1.m4s";

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two sites of partner `isp` (AS 64500): Toulouse with boxes 1 and 2, London with box 1.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) registry: Registry,
    pub(crate) library: Library,
    pub(crate) view: View,
}

/// A fleet with its listener.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) steering: Arc<Steering>,
    pub(crate) metrics: telemetry::Registry,
    facts: Arc<Mutex<Facts>>,
    pub(crate) handle: public::Handle,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// An embedded route.
pub(crate) fn route(prefix: &str, path: &str, med: u32) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        neighbour: "edge1".into(),
        path_id: 0,
        class: Class::Embedded,
        attributes: Arc::new(Attributes {
            med: Some(med),
            ..Attributes::new(
                path.to_owned().try_into().unwrap(),
                "192.0.2.254".parse().unwrap(),
            )
        }),
        filtered: None,
    }
}

impl Fleet {
    pub(crate) fn new(toulouse: Vec<Route>, london: Vec<Route>) -> Self {
        let mut fleet = Self {
            registry: Registry::default(),
            library: Library::default(),
            view: View::default(),
        };
        fleet.partner("isp", vec![Approval::Origin(Asn(64500))]);
        let directory = "film/v1/hd".to_owned();
        let key = BundleKey {
            name: "seg-1.m4s".to_owned(),
            object: 0,
            last_modified: 0,
        };
        fleet.library.bundle_numbers.insert(directory.clone(), 0);
        fleet.library.bundles.push(Some(Bundle {
            number: 0,
            directory,
            title: "film".to_owned(),
            keys: vec![key],
            bytes: 1,
            popularity: 0.0,
        }));
        let site = fleet.site("TLS001.isp", "isp", (43.6291, 1.3638));
        fleet.appliance(1, &site, toulouse.clone());
        fleet.appliance(2, &site, toulouse);
        let site = fleet.site("LHR001.isp", "isp", (51.4706, -0.4619));
        fleet.appliance(1, &site, london);
        fleet
    }

    pub(crate) fn partner(&mut self, name: &str, approvals: Vec<Approval>) {
        let partner = Partner {
            name: name.to_owned(),
            title: name.to_owned(),
            approvals,
        };
        self.registry.partners.insert(name.to_owned(), partner);
    }

    pub(crate) fn site(&mut self, name: &str, partner: &str, at: (f64, f64)) -> String {
        let name = SiteName::parse(name).unwrap();
        let label = name.label();
        let site = Site {
            name,
            partner: partner.to_owned(),
            latitude: at.0,
            longitude: at.1,
            timezone: "UTC".to_owned(),
            open: false,
            fill: SiteFill::default(),
        };
        self.registry.sites.insert(label.clone(), site);
        label
    }

    pub(crate) fn appliance(&mut self, number: u32, site: &str, routes: Vec<Route>) {
        let id = BoxId::parse(&format!("c{number:03}-{site}")).unwrap();
        let appliance = Appliance {
            id: id.clone(),
            site: site.to_owned(),
            cluster: site.to_owned(),
            profile: Profile::Storage,
            ipv4: Some("192.0.2.10".parse().unwrap()),
            ipv6: Some("2001:db8::10".parse().unwrap()),
            https_port: 443,
            peer_port: 7443,
            capacity: 1,
            enabled: true,
            quarantined: None,
            revoked: false,
            key_fingerprint: None,
            certificate_ends: None,
        };
        self.registry.appliances.insert(id.clone(), appliance);
        let mut bundles = Bitmap::default();
        bundles.insert(0);
        let view = BoxView {
            open: Ok(()),
            bundles: Arc::new(bundles),
            objects: 1,
            known: Arc::default(),
            interfaces: Arc::default(),
            fill: None,
            quality: None,
            routes: routes.into_iter().collect(),
            gate: None,
            load: Load::default(),
            boot_id: None,
            manifest: None,
            last_report: None,
            last_heartbeat: None,
            version: None,
        };
        self.view.boxes.insert(id, Arc::new(view));
    }

    pub(crate) fn shut(&mut self, id: &str) {
        let id = BoxId::parse(id).unwrap();
        let view = self.view.boxes.get_mut(&id).unwrap();
        Arc::make_mut(view).open = Err(Shut::Silent);
    }

    pub(crate) fn inputs(&self) -> Inputs {
        Inputs {
            registry: Arc::new(self.registry.clone()),
            library: Arc::new(self.library.clone()),
            view: Arc::new(self.view.clone()),
            ..Inputs::default()
        }
    }
}

impl Stage {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let stage = Self::without_fleet(Limits::default());
        stage.take(fleet.inputs());
        stage
    }

    /// What the wiring does when something changes.
    pub(crate) fn take(&self, inputs: Inputs) {
        *self.facts.lock().unwrap() = Facts {
            registry: inputs.registry.clone(),
            library: inputs.library.clone(),
            view: inputs.view.clone(),
            listed: inputs.listed.clone(),
        };
        self.steering.refresh(inputs);
    }

    pub(crate) fn without_fleet(limits: Limits) -> Self {
        let tls = oca::tls::Config {
            certificates: Vec::new(),
        };
        Self::with(limits, Vec::new(), tls)
    }

    pub(crate) fn with(limits: Limits, listen: Vec<SocketAddr>, tls: oca::tls::Config) -> Self {
        let steering = Arc::new(Steering::new(Config {
            domain: "oca.example.net".to_owned(),
            answers: 3,
        }));
        let metrics = telemetry::Registry::new("test", oca::clock::now());
        let facts = Arc::<Mutex<Facts>>::default();
        let shared = facts.clone();
        let deps = Deps {
            steering: steering.clone(),
            liveness: Arc::new(Liveness::new(move || shared.lock().unwrap().clone())),
            limits,
            metrics: metrics.clone(),
        };
        let config = PublicConfig {
            listen,
            plain_listen: vec!["127.0.0.1:0".parse().unwrap()],
            tls,
            answers: 3,
        };
        let handle = public::start(&config, deps).unwrap();
        Self {
            steering,
            metrics,
            facts,
            handle,
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let address = self.handle.plain_addresses()[0];
        TcpStream::connect(address).await.unwrap()
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        converse(self.connect().await, head.as_bytes()).await
    }

    pub(crate) async fn post(&self, target: &str, body: &[u8]) -> Reply {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        converse(self.connect().await, &request).await
    }
}

/// Writes, then reads to the end. A side that closes early is an answer too.
pub(crate) async fn converse<S>(stream: S, request: &[u8]) -> Reply
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let asking = async {
        let _ = writer.write_all(request).await;
        let _ = writer.flush().await;
        std::future::pending::<()>().await;
    };
    let mut bytes = Vec::new();
    let reading = async {
        let _ = reader.read_to_end(&mut bytes).await;
    };
    let both = async {
        tokio::select! {
            () = asking => {}
            () = reading => {}
        }
    };
    oca::clock::within(PATIENCE, both).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).unwrap_or("0");
    Reply {
        status: status.parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Of a refusal: a sentence for whoever wrote the client.
    pub(crate) fn error(&self) -> String {
        let json = self.json();
        assert_eq!(json["v"], 1);
        json["error"].as_str().unwrap().to_owned()
    }
}

/// Names in order, and what decided the first place.
pub(crate) fn names(answer: &Value) -> (Vec<String>, String) {
    let boxes = answer["boxes"].as_array().unwrap();
    let name = |row: &Value| row["box"].as_str().unwrap().to_owned();
    let decided_by = &answer["boxes"][0]["reason"]["decided_by"];
    (
        boxes.iter().map(name).collect(),
        decided_by.as_str().unwrap_or_default().to_owned(),
    )
}
