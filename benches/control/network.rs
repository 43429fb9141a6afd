//! A made-up network of the size of a real one: providers with boxes inside, exchanges beside them.
//!
//! 1,950 providers have three sites of three boxes each, that learn the provider's own prefixes
//! with different AS paths and MEDs; 50 exchanges have nine boxes each, that learn the prefixes of
//! 400 providers as peering routes. In all 18,000 boxes. The addresses are private ones:
//! documentation has too few.

use oca::control::fleet::Bitmap;
use oca::control::fleet::BoxView;
use oca::control::fleet::View;
use oca::control::model::Appliance;
use oca::control::model::Approval;
use oca::control::model::Bundle;
use oca::control::model::Library;
use oca::control::model::Partner;
use oca::control::model::Registry;
use oca::control::model::Site;
use oca::control::model::SiteFill;
use oca::ids::BoxId;
use oca::ids::Profile;
use oca::ids::SiteName;
use oca::link::message::Load;
use oca::prefix::Prefix;
use oca::route::AsPath;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Class;
use oca::route::Route;
use oca::route::Segment;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;

pub(crate) const PROVIDERS: u32 = 1_950;
pub(crate) const BUNDLES: u32 = 5_000;
const SITES_OF_PROVIDER: u32 = 3;
const BOXES_OF_SITE: u32 = 3;
const EXCHANGES: u32 = 50;
const BOXES_OF_EXCHANGE: u32 = 9;
const MEMBERS_OF_EXCHANGE: u32 = 400;

/// Private use (RFC 6996).
const FIRST_ASN: u32 = 4_200_000_000;

/// /24s of a provider's /19, /40s of its /32.
const IPV4_PARTS: u32 = 32;
const IPV6_PARTS: u32 = 8;

/// Registry, library and the fleet's view.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) registry: Registry,
    pub(crate) library: Library,
    pub(crate) view: View,
}

impl Network {
    pub(crate) fn new() -> Self {
        let mut network = Self::default();
        network.bundles();
        let owned: Vec<Vec<Prefix>> = (0..PROVIDERS).map(prefixes).collect();
        for (provider, own) in (0..).zip(&owned) {
            network.provider(provider, own);
        }
        for exchange in 0..EXCHANGES {
            network.exchange(exchange, &owned);
        }
        network.view.generation = 1;
        network
    }

    fn bundles(&mut self) {
        for number in 0..BUNDLES {
            let directory = format!("title-{}/r{}", number / 5, number % 5);
            let title = format!("title-{}", number / 5);
            self.library
                .bundle_numbers
                .insert(directory.clone(), number);
            self.library.bundles.push(Some(Bundle {
                number,
                directory,
                title,
                keys: Vec::new(),
                bytes: 1 << 30,
                popularity: 0.0,
            }));
        }
    }

    fn provider(&mut self, provider: u32, own: &[Prefix]) {
        let name = format!("isp{provider}");
        // The aggregates cover the rest.
        let approvals = [own[0], own[33]].map(Approval::Prefix);
        self.partner(&name, approvals.to_vec());
        for site in 0..SITES_OF_PROVIDER {
            let label = self.site(&name, provider * SITES_OF_PROVIDER + site, "isp");
            // The first two are equal for half of the clients: distance and hash decide.
            let hops = 1 + site / 2;
            let med = site * 10;
            let routes = routes(own, FIRST_ASN + provider, hops, med, Class::Embedded);
            let cluster = provider % 40;
            self.boxes(&label, BOXES_OF_SITE, &routes.into(), cluster);
        }
    }

    fn exchange(&mut self, exchange: u32, owned: &[Vec<Prefix>]) {
        let name = format!("ixp{exchange}");
        let members = (0..MEMBERS_OF_EXCHANGE)
            .map(|member| (exchange * 39 + member * (1 + exchange % 4)) % PROVIDERS);
        let (mut approvals, mut learned) = (Vec::new(), Vec::new());
        for member in members {
            let own = &owned[member as usize];
            approvals.extend([own[0], own[33]].map(Approval::Prefix));
            let asn = FIRST_ASN + member;
            learned.extend(routes(own, asn, 1, 0, Class::Peering));
        }
        self.partner(&name, approvals);
        let label = self.site(&name, PROVIDERS * SITES_OF_PROVIDER + exchange, "ix");
        learned.sort();
        learned.dedup();
        self.boxes(&label, BOXES_OF_EXCHANGE, &learned.into(), exchange % 40);
    }

    fn partner(&mut self, name: &str, approvals: Vec<Approval>) {
        let partner = Partner {
            name: name.to_owned(),
            title: name.to_owned(),
            approvals,
        };
        self.registry.partners.insert(name.to_owned(), partner);
    }

    fn site(&mut self, partner: &str, number: u32, kind: &str) -> String {
        let letter = |place: u32| char::from(b'a' + u8::try_from(place % 26).unwrap_or(0));
        let iata: String = [number / 676, number / 26, number]
            .into_iter()
            .map(letter)
            .collect();
        let name = format!("{iata}001.{partner}.{kind}");
        #[allow(
            clippy::expect_used,
            reason = "the letters and digits above make a name"
        )]
        let name = SiteName::parse(&name).expect("a site name");
        let label = name.label();
        let site = Site {
            name,
            partner: partner.to_owned(),
            latitude: f64::from(number % 120) - 55.0,
            longitude: f64::from(number * 7 % 360) - 180.0,
            timezone: "UTC".to_owned(),
            open: false,
            fill: SiteFill::default(),
        };
        self.registry.sites.insert(label.clone(), site);
        label
    }

    /// Boxes of one site hold the same two bundles of three and learn the same routes. One in fifty
    /// is closed.
    fn boxes(&mut self, site: &str, count: u32, routes: &Arc<[Route]>, cluster: u32) {
        let mut held = Bitmap::default();
        let kept = (0..BUNDLES).filter(|bundle| !(bundle + cluster).is_multiple_of(3));
        kept.for_each(|bundle| held.insert(bundle));
        let bundles = Arc::new(held);
        for number in 1..=count {
            #[allow(clippy::expect_used, reason = "made of a site's own label")]
            let id = BoxId::parse(&format!("c{number:03}-{site}")).expect("a box name");
            let is_closed = self.registry.appliances.len() % 50 == 17;
            let view = BoxView {
                open: if is_closed {
                    Err(oca::control::fleet::Shut::Silent)
                } else {
                    Ok(())
                },
                bundles: bundles.clone(),
                objects: u64::from(BUNDLES),
                known: Arc::default(),
                interfaces: Arc::default(),
                fill: None,
                quality: None,
                routes: routes.clone(),
                gate: None,
                load: Load::default(),
                boot_id: None,
                manifest: None,
                last_report: None,
                last_heartbeat: None,
                version: None,
            };
            self.view.boxes.insert(id.clone(), Arc::new(view));
            self.registry
                .appliances
                .insert(id.clone(), appliance(id, site, cluster));
        }
    }
}

pub(crate) fn appliance(id: BoxId, site: &str, cluster: u32) -> Appliance {
    Appliance {
        id,
        site: site.to_owned(),
        cluster: format!("cluster-{cluster}"),
        profile: Profile::Storage,
        ipv4: Some(Ipv4Addr::new(192, 0, 2, 9)),
        ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)),
        https_port: 443,
        peer_port: 7443,
        capacity: 1 << 47,
        enabled: true,
        quarantined: None,
        revoked: false,
        key_fingerprint: None,
        certificate_ends: None,
    }
}

/// A /19 and its /24s, then a /32 and some /40s.
fn prefixes(provider: u32) -> Vec<Prefix> {
    let ipv4 = |part: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (provider << 13) + (part << 8)));
    let ipv6 = |part: u32| {
        let bits = 0xfd00 << 112 | u128::from(provider) << 96 | u128::from(part) << 88;
        IpAddr::V6(Ipv6Addr::from(bits))
    };
    let longer4 = (0..IPV4_PARTS).map(|part| (ipv4(part), 24));
    let longer6 = (0..IPV6_PARTS).map(|part| (ipv6(part), 40));
    std::iter::once((ipv4(0), 19))
        .chain(longer4)
        .chain(std::iter::once((ipv6(0), 32)))
        .chain(longer6)
        .filter_map(|(address, length)| Prefix::new(address, length).ok())
        .collect()
}

/// `own` as one neighbour announces it, sorted.
fn routes(own: &[Prefix], asn: u32, hops: u32, med: u32, class: Class) -> Vec<Route> {
    let path = vec![Asn(asn); hops as usize];
    let attributes = Arc::new(Attributes {
        med: Some(med),
        ..Attributes::new(
            AsPath(vec![Segment::Sequence(path)]),
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        )
    });
    let neighbour: Arc<str> = "edge-1".into();
    let mut routes: Vec<Route> = own
        .iter()
        .map(|prefix| Route {
            prefix: *prefix,
            neighbour: neighbour.clone(),
            path_id: 0,
            class,
            attributes: attributes.clone(),
            filtered: None,
        })
        .collect();
    routes.sort();
    routes
}
