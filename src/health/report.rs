//! What the box says of itself: the views of the other rooms as one [`Report`].
//!
//! Called by `task`. [`compose`] is CPU-bound, seconds for millions of objects: not for a runtime's
//! thread.
//!
//! I/O: [`interfaces`] asks the kernel for the box's addresses.

use crate::bgp;
use crate::clock::Wall;
use crate::gate::Gate;
use crate::link::message::BgpSession;
use crate::link::message::Disk;
use crate::link::message::FillProgress;
use crate::link::message::GateState;
use crate::link::message::Load;
use crate::link::message::Position;
use crate::link::message::Quality;
use crate::link::message::Report;
use crate::link::message::VERSION;
use crate::link::steps::Holdings;
use crate::link::steps::Outbox;
use crate::prefix::Prefix;
use crate::serve;
use crate::store;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

/// A box has a handful; a container host may have thousands, which say nothing about clients.
const INTERFACES_MAX: usize = 256;

/// One moment of the box.
#[derive(Clone, Debug)]
pub struct Moment<'a> {
    pub boot_id: &'a str,
    pub sequence: u64,
    pub sent_at: Wall,
    pub gate: &'a Gate,
    pub store: &'a store::View,
    pub bgp: Option<&'a bgp::Snapshot>,
    pub load: Load,
    pub interfaces: Vec<Prefix>,
    pub fill: Option<FillProgress>,
    pub quality: Option<Quality>,
}

/// The report of a moment. All of `holdings` is asked for only when the control plane does not have
/// what they were, or to see that both still agree.
pub fn compose(moment: Moment<'_>, outbox: &mut Outbox, holdings: &dyn Holdings) -> Report {
    let nothing = bgp::Snapshot::default();
    let (bgp, store) = (moment.bgp.unwrap_or(&nothing), moment.store);
    let catalogue = outbox.catalogue_of(store.generation, holdings);
    let routes = outbox.routes(bgp.generation, &bgp.hash, &bgp.routes);
    Report {
        v: VERSION,
        boot_id: moment.boot_id.to_owned(),
        sequence: moment.sequence,
        sent_at: moment.sent_at.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gate: gate_state(moment.gate),
        catalogue,
        routes,
        interfaces: moment.interfaces,
        bgp: bgp.neighbours.iter().map(session).collect(),
        disks: store.disks.iter().map(disk).collect(),
        load: moment.load,
        manifest: manifest(store),
        fill: moment.fill,
        quality: moment.quality,
    }
}

pub fn gate_state(gate: &Gate) -> GateState {
    GateState {
        state: gate.state().to_owned(),
        reasons: gate.reasons().to_vec(),
    }
}

pub fn load(view: &serve::View) -> Load {
    Load {
        connections: view.connections.open,
        requests_total: view.requests.values().sum(),
        sent_bytes_total: view.bytes_sent,
    }
}

/// The signed manifest in effect. Epoch 0 is the box's own and means nothing to anybody else.
pub fn manifest(store: &store::View) -> Option<Position> {
    let manifest = store
        .manifest
        .as_ref()
        .filter(|manifest| manifest.epoch > 0)?;
    Some(Position {
        epoch: manifest.epoch,
        generation: manifest.generation,
    })
}

/// Networks of the interfaces that are up, without those that end at the box or its wire.
pub fn interfaces() -> io::Result<Vec<Prefix>> {
    let mut found = BTreeSet::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let up = interface
            .flags
            .contains(nix::net::if_::InterfaceFlags::IFF_UP);
        let address = interface.address.as_ref().and_then(address);
        let mask = interface.netmask.as_ref().and_then(mask_length);
        if let (true, Some(address), Some(length)) = (up, address, mask)
            && found.len() < INTERFACES_MAX
            && is_of_use(address)
            && let Ok(prefix) = Prefix::new(network(address, length), length)
        {
            found.insert(prefix);
        }
    }
    Ok(found.into_iter().collect())
}

fn address(storage: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|address| IpAddr::V6(address.ip()))
    })
}

fn mask_length(storage: &nix::sys::socket::SockaddrStorage) -> Option<u8> {
    let ones = match address(storage)? {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(ones).ok()
}

fn network(address: IpAddr, length: u8) -> IpAddr {
    let shift = u32::from(length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shr(shift).map_or(u32::MAX, |host| !host);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shr(shift).map_or(u128::MAX, |host| !host);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Loopback and link-local networks have no clients in them that anybody could send here.
fn is_of_use(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

fn session(neighbour: &bgp::NeighbourView) -> BgpSession {
    BgpSession {
        neighbour: neighbour.name.clone(),
        address: neighbour.address,
        asn: neighbour.asn.0,
        class: neighbour.class,
        state: neighbour.state.to_owned(),
        routes: number(neighbour.routes),
        filtered: number(neighbour.filtered),
        uptime_s: neighbour.uptime_s,
        last_error: neighbour.last_error.clone(),
    }
}

fn disk(disk: &store::DiskView) -> Disk {
    let class = match disk.class {
        store::DiskClass::Nvme => "nvme",
        store::DiskClass::Ssd => "ssd",
        store::DiskClass::Hdd => "hdd",
    };
    Disk {
        path: disk.path.display().to_string(),
        uuid: disk.uuid.clone(),
        class: class.to_owned(),
        state: disk.state.to_owned(),
        reason: disk.reason.clone(),
        objects: disk.objects,
        bytes: disk.bytes,
        free: disk.free,
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Reason;
    use crate::link::message::Ack;
    use crate::link::message::Acked;
    use crate::link::steps::CatalogueChanges;
    use crate::object::Digest;
    use crate::route::Asn;
    use crate::route::Attributes;
    use crate::route::Class;
    use crate::route::Route;
    use crate::set_hash::SetHash;
    use std::sync::Arc;

    /// A store without a journal; `None`: it has the catalogue already.
    struct Shelf(Option<Vec<Digest>>);

    impl Holdings for Shelf {
        fn all(&self) -> (u64, Vec<Digest>) {
            (9, self.0.clone().expect("it has the catalogue"))
        }

        fn since(&self, _: u64) -> Option<CatalogueChanges> {
            None
        }
    }

    fn snapshot() -> bgp::Snapshot {
        let route = Route {
            prefix: "192.0.2.0/24".parse().unwrap(),
            neighbour: "edge-1".into(),
            path_id: 0,
            class: Class::Embedded,
            attributes: Arc::new(Attributes::new(
                "64500".parse().unwrap(),
                "198.51.100.1".parse().unwrap(),
            )),
            filtered: None,
        };
        bgp::Snapshot {
            generation: 4,
            hash: SetHash::of([route.item()]),
            routes: [route].into_iter().collect(),
            steerable: 1,
            neighbours: vec![bgp::NeighbourView {
                name: "edge-1".to_owned(),
                address: "198.51.100.1".parse().unwrap(),
                asn: Asn(64500),
                class: Class::Embedded,
                state: "established",
                routes: 1,
                filtered: 0,
                uptime_s: Some(5),
                last_error: None,
                session: bgp::SessionFacts::default(),
            }],
        }
    }

    fn store(epoch: u64) -> store::View {
        store::View {
            generation: 9,
            manifest: Some(store::ManifestView {
                epoch,
                generation: 3,
                keys: 1,
                missing: 0,
            }),
            ..store::View::default()
        }
    }

    #[test]
    fn a_report_says_what_the_views_say_and_leaves_out_what_is_acknowledged() {
        let (bgp, gate) = (snapshot(), Gate::Closed(vec![Reason::Drained]));
        let mut outbox = Outbox::new(77);
        let store = store(2);
        let moment = Moment {
            boot_id: "00ff",
            sequence: 5,
            sent_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            gate: &gate,
            store: &store,
            bgp: Some(&bgp),
            load: Load::default(),
            interfaces: vec!["203.0.113.0/24".parse().unwrap()],
            fill: None,
            quality: None,
        };
        let items = || vec![Digest::of(b"a"), Digest::of(b"b")];
        let report = compose(moment.clone(), &mut outbox, &Shelf(Some(items())));
        assert_eq!(report.gate.state, "closed");
        assert_eq!((report.boot_id.as_str(), report.sequence), ("00ff", 5));
        let place = Position {
            epoch: 2,
            generation: 3,
        };
        assert_eq!(report.manifest, Some(place));
        assert_eq!((report.catalogue.from, report.catalogue.count), (0, 2));
        let hash = SetHash::of(items().iter().map(|digest| digest.0));
        assert_eq!(report.catalogue.digest, hash.digest());
        assert_eq!(
            (report.routes.count, report.routes.digest),
            (1, bgp.hash.digest())
        );
        assert_eq!(report.bgp[0].asn, 64_500);

        let ack = |position| {
            Some(Ack {
                epoch: 77,
                position,
            })
        };
        outbox.acknowledge(Acked {
            catalogue: ack(report.catalogue.to),
            routes: ack(report.routes.to),
        });
        let report = compose(moment, &mut outbox, &Shelf(None));
        assert_eq!(report.catalogue.from, report.catalogue.to);
        assert!(report.catalogue.added.is_empty() && report.routes.added.is_empty());
        assert_eq!(report.catalogue.digest, hash.digest());
    }

    #[test]
    fn the_boxs_own_manifest_is_nobody_elses_business() {
        assert_eq!(manifest(&store(0)), None);
        assert_eq!(manifest(&store::View::default()), None);
    }

    #[test]
    fn interfaces_are_networks_and_never_loopback() {
        for prefix in interfaces().unwrap() {
            assert!(is_of_use(prefix.address()), "{prefix}");
        }
        let cases = [
            ("192.0.2.77", 24, "192.0.2.0"),
            ("192.0.2.77", 32, "192.0.2.77"),
            ("192.0.2.77", 0, "0.0.0.0"),
            ("2001:db8::7", 64, "2001:db8::"),
            ("2001:db8::7", 128, "2001:db8::7"),
        ];
        for (address, length, expected) in cases {
            let found = network(address.parse().unwrap(), length);
            assert_eq!(
                found,
                expected.parse::<IpAddr>().unwrap(),
                "{address}/{length}"
            );
        }
    }
}
