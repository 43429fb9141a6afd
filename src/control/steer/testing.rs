//! Small worlds for the tests of this folder: a registry, routes, a library and boxes in few words.

use super::Inputs;
use super::Locator;
use crate::control::fleet::Bitmap;
use crate::control::fleet::BoxView;
use crate::control::fleet::Shut;
use crate::control::fleet::View;
use crate::control::model::Appliance;
use crate::control::model::Approval;
use crate::control::model::Bundle;
use crate::control::model::BundleKey;
use crate::control::model::Library;
use crate::control::model::Partner;
use crate::control::model::Registry;
use crate::control::model::Site;
use crate::control::model::SiteFill;
use crate::ids::BoxId;
use crate::ids::Profile;
use crate::ids::SiteName;
use crate::link::message::Load;
use crate::prefix::Prefix;
use crate::route::Asn;
use crate::route::Attributes;
use crate::route::Class;
use crate::route::Route;
use std::sync::Arc;

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) fn partner(name: &str, approvals: Vec<Approval>) -> Partner {
    Partner {
        name: name.to_owned(),
        title: name.to_uppercase(),
        approvals,
    }
}

/// An embedded route.
pub(crate) fn route(announced: &str, neighbour: &str, path: &str, med: u32) -> Route {
    Route {
        prefix: prefix(announced),
        neighbour: neighbour.into(),
        path_id: 0,
        class: Class::Embedded,
        attributes: Arc::new(Attributes {
            med: (med > 0).then_some(med),
            ..Attributes::new(
                path.to_owned().try_into().unwrap(),
                "192.0.2.254".parse().unwrap(),
            )
        }),
        filtered: None,
    }
}

pub(crate) fn of_class(class: Class, route: Route) -> Route {
    Route { class, ..route }
}

/// A world under construction; parts are shared when it is done.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) library: Library,
    pub(crate) view: View,
    pub(crate) locator: Locator,
}

impl World {
    /// One partner `isp`, approved for what AS 64500 and AS 64501 originate; bundles `film/hd` (0)
    /// and `film/sd` (1) with keys `init.mp4` and `seg-1.m4s`.
    pub(crate) fn new() -> Self {
        let mut world = Self {
            registry: Registry::default(),
            library: Library::default(),
            view: View::default(),
            locator: Locator::new(),
        };
        let approvals = [64500, 64501].map(|asn| Approval::Origin(Asn(asn)));
        world.partner("isp", approvals.to_vec());
        world.bundle("film/hd");
        world.bundle("film/sd");
        world
    }

    pub(crate) fn partner(&mut self, name: &str, approvals: Vec<Approval>) {
        let partner = partner(name, approvals);
        self.registry.partners.insert(name.to_owned(), partner);
    }

    pub(crate) fn bundle(&mut self, directory: &str) {
        let number = u32::try_from(self.library.bundles.len()).unwrap();
        let keys = ["init.mp4", "seg-1.m4s"].map(|name| BundleKey {
            name: name.to_owned(),
            object: 0,
            last_modified: 0,
        });
        let directory = directory.to_owned();
        self.library
            .bundle_numbers
            .insert(directory.clone(), number);
        self.library.bundles.push(Some(Bundle {
            number,
            title: directory.split('/').next().unwrap().to_owned(),
            directory,
            keys: keys.to_vec(),
            bytes: 1,
            popularity: 0.0,
        }));
    }

    /// A site of `partner`; returns its label.
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

    /// A box that is open and holds both bundles.
    pub(crate) fn appliance(&mut self, number: u32, site: &str, routes: Vec<Route>) -> BoxId {
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
            capacity: 1_000_000,
            enabled: true,
            quarantined: None,
            revoked: false,
            key_fingerprint: None,
            certificate_ends: None,
        };
        self.registry.appliances.insert(id.clone(), appliance);
        let mut bundles = Bitmap::default();
        bundles.insert(0);
        bundles.insert(1);
        let seen = BoxView {
            open: Ok(()),
            bundles: Arc::new(bundles),
            objects: 0,
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
        self.view.boxes.insert(id.clone(), Arc::new(seen));
        id
    }

    pub(crate) fn shut(&mut self, id: &BoxId, shut: Shut) {
        Arc::make_mut(self.view.boxes.get_mut(id).unwrap()).open = Err(shut);
    }

    /// Leaves the box without any bundle.
    pub(crate) fn empty(&mut self, id: &BoxId) {
        Arc::make_mut(self.view.boxes.get_mut(id).unwrap()).bundles = Arc::default();
    }

    pub(crate) fn inputs(&self) -> Inputs {
        Inputs {
            registry: Arc::new(self.registry.clone()),
            library: Arc::new(self.library.clone()),
            view: Arc::new(self.view.clone()),
            locator: Arc::new(self.locator.clone()),
            ..Inputs::default()
        }
    }
}
