//! Small values that several tests build: partners, sites, boxes, keys. Documentation names only.

use oca::clock::Wall;
use oca::control::model::Appliance;
use oca::control::model::Approval;
use oca::control::model::Cluster;
use oca::control::model::FILL_CLUSTER;
use oca::control::model::Partner;
use oca::control::model::Site;
use oca::control::model::SiteFill;
use oca::control::store::ControlStore;
use oca::control::store::ControlStoreError;
use oca::control::store::ImportedKey;
use oca::ids::BoxId;
use oca::ids::Profile;
use oca::ids::SiteName;
use oca::key::Key;
use oca::object::Digest;
use oca::route::Asn;

pub(crate) fn partner(name: &str) -> Partner {
    Partner {
        name: name.to_owned(),
        title: format!("{name} of example.net"),
        approvals: Vec::new(),
    }
}

pub(crate) fn prefix(text: &str) -> Approval {
    Approval::Prefix(text.parse().unwrap())
}

pub(crate) fn origin(number: u32) -> Approval {
    Approval::Origin(Asn(number))
}

pub(crate) fn site(name: &str, partner: &str) -> Site {
    Site {
        name: SiteName::parse(name).unwrap(),
        partner: partner.to_owned(),
        latitude: 43.629,
        longitude: 1.3638,
        timezone: "Europe/Paris".to_owned(),
        open: false,
        fill: SiteFill::default(),
    }
}

pub(crate) fn cluster(name: &str) -> Cluster {
    let name = name.to_owned();
    Cluster {
        name,
        fill_cluster: FILL_CLUSTER.to_owned(),
    }
}

pub(crate) fn id(text: &str) -> BoxId {
    BoxId::parse(text).unwrap()
}

/// At `TLS001.example.ISP`, in cluster `south`.
pub(crate) fn appliance(number: u8) -> Appliance {
    Appliance {
        id: id(&format!("c{number:03}-tls001-example-isp")),
        site: "tls001-example-isp".to_owned(),
        cluster: "south".to_owned(),
        profile: Profile::Flash,
        ipv4: Some(std::net::Ipv4Addr::new(192, 0, 2, number)),
        ipv6: None,
        https_port: 443,
        peer_port: 7443,
        capacity: 1 << 40,
        enabled: false,
        quarantined: None,
        revoked: false,
        key_fingerprint: None,
        certificate_ends: None,
    }
}

/// A partner, a site, a cluster and boxes 1 and 2.
pub(crate) async fn furnish(store: &dyn ControlStore) {
    store.put_partner(partner("example")).await.unwrap();
    let site = site("TLS001.example.ISP", "example");
    store.put_site(site).await.unwrap();
    store.put_cluster(cluster("south")).await.unwrap();
    for number in 1..=2 {
        store.put_appliance(appliance(number)).await.unwrap();
    }
}

/// A key whose bytes are `bytes`.
pub(crate) fn key(path: &str, bytes: &str) -> ImportedKey {
    ImportedKey {
        key: Key::parse(path.as_bytes()).unwrap(),
        digest: Digest::of(bytes.as_bytes()),
        length: bytes.len() as u64,
        last_modified: 1_790_000_000,
        tree: None,
    }
}

pub(crate) fn at(text: &str) -> Wall {
    text.parse().unwrap()
}

/// The sentence of a refusal.
pub(crate) fn refusal<T>(outcome: Result<T, ControlStoreError>) -> String {
    match outcome {
        Err(ControlStoreError::Refused(message)) => message,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was done"),
    }
}

/// What does not exist, as the error says it.
pub(crate) fn missing<T>(outcome: Result<T, ControlStoreError>) -> String {
    match outcome {
        Err(ControlStoreError::NotFound(what)) => what,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was done"),
    }
}
