//! What every reply tells a box of the fill: its site's window and rate, what is urgent, and an
//! operator's leave to delete.
//!
//! Made and signed whenever the registry, the library or a manifest's position changes, so that a
//! reply only copies it. `parts` keeps it; `fleet` reads it. Pure.

use crate::clock;
use crate::clock::Wall;
use crate::control::model::Grant;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::control::model::Site;
use crate::ids::BoxId;
use crate::link::manifest::Signer;
use crate::link::message::DeletionOverride;
use crate::link::message::FillOrders;
use crate::link::message::Position;
use crate::window::Window;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Immutable; swapped whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FillBook {
    /// By site label, with everything but the override.
    sites: BTreeMap<String, FillOrders>,
    overrides: BTreeMap<BoxId, DeletionOverride>,
    prefilling: BTreeSet<BoxId>,
    /// When the first of what has an end ends.
    due: Option<Wall>,
}

/// What the book is made from.
#[derive(Debug)]
pub struct Ground<'a> {
    pub registry: &'a Registry,
    pub library: &'a Library,
    /// Of the published manifests.
    pub positions: &'a BTreeMap<BoxId, Position>,
    pub signer: &'a Signer,
    /// Titles that may be urgent at a time: every reply carries them.
    pub urgent_max: usize,
}

impl FillBook {
    /// `before`: the last book. A grant that it has signed keeps its text, so that a box that has
    /// begun to use it goes on with the same one.
    pub fn new(ground: &Ground<'_>, before: &Self, now: Wall) -> Self {
        let mut book = Self {
            prefilling: ground.registry.prefilling.clone(),
            ..Self::default()
        };
        let urgent = book.urgent(ground, now);
        for (label, site) in &ground.registry.sites {
            if let Some(orders) = orders(site, &urgent) {
                book.sites.insert(label.clone(), orders);
            }
        }
        for (id, grant) in &ground.registry.grants {
            let position = ground.positions.get(id);
            let Some(position) = position.filter(|_| grant.expires > now) else {
                continue;
            };
            book.ends(grant.expires);
            let kept = before.overrides.get(id);
            let kept = kept.filter(|kept| is_of(kept, grant, *position));
            let permit = kept.cloned().unwrap_or_else(|| {
                let issued = clock::unix_seconds(grant.issued);
                let expires = clock::unix_seconds(grant.expires);
                let signer = ground.signer;
                signer.permit(id, *position, grant.bytes, issued, expires)
            });
            book.overrides.insert(id.clone(), permit);
        }
        book
    }

    /// For a reply to a box at `site` (its label).
    pub fn orders(&self, id: &BoxId, site: &str) -> Option<FillOrders> {
        let mut orders = self.sites.get(site)?.clone();
        orders.deletion_override = self.overrides.get(id).cloned();
        orders.prefilling = self.prefilling.contains(id);
        Some(orders)
    }

    /// When the book is to be made again although nothing changed.
    pub fn due(&self) -> Option<Wall> {
        self.due
    }

    /// Titles to be fetched at any hour; the first by name, if there are too many.
    fn urgent(&mut self, ground: &Ground<'_>, now: Wall) -> Vec<String> {
        let mut urgent = Vec::new();
        for (title, state) in &ground.library.titles {
            let Some(until) = state.urgent_until.filter(|until| *until > now) else {
                continue;
            };
            if !state.withdrawn && urgent.len() < ground.urgent_max {
                urgent.push(title.clone());
                self.ends(until);
            }
        }
        urgent
    }

    fn ends(&mut self, at: Wall) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// `None` for a zone that this machine's database lacks: the box's own configuration stands.
fn orders(site: &Site, urgent: &[String]) -> Option<FillOrders> {
    let window = Window::new(&site.timezone, site.fill.start_s, site.fill.length).ok()?;
    Some(FillOrders {
        window_start: window.start(),
        window_s: window.length().as_secs(),
        timezone: window.zone().to_owned(),
        rate_limit_bps: site.fill.rate_limit_bps,
        urgent: urgent.to_vec(),
        deletion_override: None,
        prefilling: false,
    })
}

/// Does it say what the grant says, and hold for the manifest at `position`?
fn is_of(permit: &DeletionOverride, grant: &Grant, position: Position) -> bool {
    let said = (permit.bytes, permit.issued, permit.expires);
    let issued = clock::unix_seconds(grant.issued);
    said == (grant.bytes, issued, clock::unix_seconds(grant.expires))
        && permit.position.epoch == position.epoch
        && permit.position <= position
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::TitleState;
    use crate::control::steer::testing::World;
    use crate::link::manifest::Verifier;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Stage {
        registry: Registry,
        library: Library,
        positions: BTreeMap<BoxId, Position>,
        signer: Signer,
        id: BoxId,
        now: Wall,
    }

    impl Stage {
        fn new() -> Self {
            let mut world = World::new();
            let site = world.site("TLS001.isp", "isp", (43.6, 1.4));
            let id = world.appliance(1, &site, Vec::new());
            let now: Wall = "2026-06-01T20:00:00Z".parse().unwrap();
            let grant = Grant {
                bytes: 2_000,
                issued: now,
                expires: now + HOUR,
            };
            let mut registry = world.registry.clone();
            registry.grants.insert(id.clone(), grant);
            for site in registry.sites.values_mut() {
                site.timezone = "Europe/Paris".to_owned();
                site.fill.start_s = 2 * 3600 + 1800;
                site.fill.rate_limit_bps = Some(400_000_000);
            }
            Self {
                registry,
                library: Library::default(),
                positions: BTreeMap::from([(id.clone(), at(7, 3))]),
                signer: Signer::generate().unwrap(),
                id,
                now,
            }
        }

        fn book(&self, before: &FillBook, now: Wall) -> FillBook {
            let ground = Ground {
                registry: &self.registry,
                library: &self.library,
                positions: &self.positions,
                signer: &self.signer,
                urgent_max: 2,
            };
            FillBook::new(&ground, before, now)
        }

        fn orders(&self, book: &FillBook) -> FillOrders {
            let site = &self.registry.appliances[&self.id].site;
            book.orders(&self.id, site).unwrap()
        }

        fn urgent(&mut self, title: &str, withdrawn: bool, until: Wall) {
            let state = TitleState {
                withdrawn,
                urgent_until: Some(until),
            };
            self.library.titles.insert(title.to_owned(), state);
        }
    }

    fn at(epoch: u64, generation: u64) -> Position {
        Position { epoch, generation }
    }

    #[test]
    fn a_box_is_told_its_sites_window_rate_and_what_is_urgent_while_it_is() {
        let mut stage = Stage::new();
        stage.urgent("news", false, stage.now + HOUR / 2);
        stage.urgent("gone", true, stage.now + HOUR);
        stage.urgent("old", false, stage.now);
        let book = stage.book(&FillBook::default(), stage.now);
        let told = stage.orders(&book);
        assert_eq!(
            (&*told.window_start, told.window_s, &*told.timezone),
            ("02:30", 43_200, "Europe/Paris")
        );
        assert_eq!(told.rate_limit_bps, Some(400_000_000));
        assert_eq!(told.urgent, ["news"]);
        assert_eq!(book.due(), Some(stage.now + HOUR / 2));
        assert_eq!(book.orders(&stage.id, "lhr001-isp"), None);
        let later = stage.book(&book, stage.now + HOUR / 2);
        assert!(stage.orders(&later).urgent.is_empty());
        assert_eq!(later.due(), Some(stage.now + HOUR));
    }

    #[test]
    fn a_box_that_is_filled_before_it_is_shipped_is_told_so_and_no_other() {
        let mut stage = Stage::new();
        let book = stage.book(&FillBook::default(), stage.now);
        assert!(!stage.orders(&book).prefilling);
        stage.registry.prefilling.insert(stage.id.clone());
        let book = stage.book(&book, stage.now);
        assert!(stage.orders(&book).prefilling);
        let site = &stage.registry.appliances[&stage.id].site;
        let other = BoxId::parse("c777-tls001-isp").unwrap();
        assert!(!book.orders(&other, site).unwrap().prefilling);
    }

    #[test]
    fn replies_carry_a_bounded_number_of_urgent_titles() {
        let mut stage = Stage::new();
        for title in ["a", "b", "c"] {
            stage.urgent(title, false, stage.now + HOUR);
        }
        let book = stage.book(&FillBook::default(), stage.now);
        assert_eq!(stage.orders(&book).urgent, ["a", "b"]);
    }

    #[test]
    fn a_grant_is_signed_for_one_box_and_place_and_is_gone_when_it_ends() {
        let stage = Stage::new();
        let book = stage.book(&FillBook::default(), stage.now);
        let permit = stage.orders(&book).deletion_override.unwrap();
        assert_eq!((permit.position, permit.bytes), (at(7, 3), 2_000));
        let verifier = Verifier::new(&[stage.signer.public_hex()]).unwrap();
        assert_eq!(verifier.permit(&permit, &stage.id, stage.now), Ok(()));
        let ended = stage.book(&book, stage.now + HOUR);
        assert_eq!(stage.orders(&ended).deletion_override, None);
        assert_eq!(ended.due(), None);
    }

    #[test]
    fn a_signed_grant_keeps_its_text_until_the_epoch_or_the_grant_changes() {
        let mut stage = Stage::new();
        let first = stage.book(&FillBook::default(), stage.now);
        stage.positions.insert(stage.id.clone(), at(7, 9));
        let second = stage.book(&first, stage.now);
        assert_eq!(second, first);
        stage.positions.insert(stage.id.clone(), at(8, 1));
        let third = stage.book(&second, stage.now);
        let permit = stage.orders(&third).deletion_override.unwrap();
        assert_eq!(permit.position, at(8, 1));
        let grant = stage.registry.grants.get_mut(&stage.id).unwrap();
        grant.bytes = 3_000;
        let fourth = stage.book(&third, stage.now);
        let permit = stage.orders(&fourth).deletion_override.unwrap();
        assert_eq!(permit.bytes, 3_000);
    }

    #[test]
    fn a_box_without_a_manifest_gets_no_leave_to_delete() {
        let mut stage = Stage::new();
        stage.positions.clear();
        let book = stage.book(&FillBook::default(), stage.now);
        assert_eq!(stage.orders(&book).deletion_override, None);
    }
}
