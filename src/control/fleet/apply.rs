//! How the steps of a report, and a new library, change what is known of boxes: both sets of a
//! report or none. Sans-IO, part of [`super::machine`].

use super::Fleet;
use super::Refused;
use super::held::Change;
use super::held::Content;
use super::held::Held;
use super::held::Needs;
use super::prepared::CatalogueStep;
use super::prepared::RoutesStep;
use super::routes::RouteSet;
use crate::clock::Instant;
use crate::control::model::Library;
use crate::ids::BoxId;
use crate::link::message::Catalogue;
use crate::link::message::Code;
use crate::link::message::Routes;
use crate::link::steps;
use crate::link::steps::Step;
use crate::link::steps::StepError;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Fleet {
    /// Takes what there is to hold. Boxes are judged anew where it makes a difference to them.
    pub fn library(&mut self, library: Arc<Library>) {
        let change = Change::between(&self.library, &library);
        self.library = library;
        if change.is_nothing(&self.library) {
            return;
        }
        self.needs = Needs::of_library(&self.library);
        // Contents are shared: each is judged once.
        let mut judged: BTreeMap<*const Content, Option<Arc<Content>>> = BTreeMap::new();
        for record in self.records.values_mut() {
            let Some(held) = &mut record.catalogue else {
                continue;
            };
            if change.is_another {
                record.catalogue = None;
                record.is_changed = true;
                continue;
            }
            let key = Arc::as_ptr(&held.content);
            let outcome = judged
                .entry(key)
                .or_insert_with(|| held.content.resolved(&self.library, &change).map(Arc::new));
            let has_forgotten = held.content.has_forgotten();
            if let Some(content) = outcome {
                held.content = Arc::clone(content);
                record.is_changed = true;
            }
            if has_forgotten {
                // What it holds stays; the next report brings all of it.
                held.place.ack.position = 0;
            }
        }
        self.is_dirty = true;
    }

    /// The box's sets with the report's steps applied; nothing of the record is touched.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        id: &BoxId,
        catalogue: CatalogueStep,
        routes: RoutesStep,
    ) -> Result<(Held, RouteSet), Refused> {
        let mut held = match catalogue {
            CatalogueStep::Whole { held, revision, .. } if revision == self.library.revision => {
                held
            }
            CatalogueStep::Whole { held, items, .. } => {
                Held::whole(held.place, &items.added, &self.library)?
            }
            CatalogueStep::Change(step) => self.change_catalogue(now, id, &step)?,
        };
        let mut routes = match routes {
            RoutesStep::Whole(routes) => routes,
            RoutesStep::Change(step) => self.change_routes(now, id, &step)?,
        };
        self.sharing.held(&mut held);
        self.sharing.routes(&mut routes);
        Ok((held, routes))
    }

    fn change_catalogue(
        &mut self,
        now: Instant,
        id: &BoxId,
        step: &Catalogue,
    ) -> Result<Held, Refused> {
        let held = self
            .records
            .get(id)
            .and_then(|record| record.catalogue.clone());
        let place = held.as_ref().map(|held| &held.place);
        let taken = steps::take_catalogue(place, step);
        let taken = taken.map_err(|error| self.out_of_step(now, id, error))?;
        match (held, taken) {
            (Some(held), Step::Same) => Ok(held),
            (
                Some(held),
                Step::Change {
                    place,
                    added,
                    removed,
                },
            ) => Ok(held.changed(place, &added, &removed, &self.library, &self.needs)?),
            (_, Step::Whole { place, items }) => Ok(Held::whole(place, &items, &self.library)?),
            (None, Step::Same | Step::Change { .. }) => Err(nothing_to_change()),
        }
    }

    fn change_routes(
        &mut self,
        now: Instant,
        id: &BoxId,
        step: &Routes,
    ) -> Result<RouteSet, Refused> {
        let set = self
            .records
            .get(id)
            .and_then(|record| record.routes.clone());
        let place = set.as_ref().map(|set| &set.place);
        let taken = steps::take_routes(place, step);
        let taken = taken.map_err(|error| self.out_of_step(now, id, error))?;
        match (set, taken) {
            (Some(set), Step::Same) => Ok(set),
            (
                Some(set),
                Step::Change {
                    place,
                    added,
                    removed,
                },
            ) => Ok(set.changed(place, added, removed)?),
            (_, Step::Whole { place, items }) => Ok(RouteSet::whole(place, items)?),
            (None, Step::Same | Step::Change { .. }) => Err(nothing_to_change()),
        }
    }

    /// A box that has lost step is to send everything, when it is its turn.
    fn out_of_step(&mut self, now: Instant, id: &BoxId, error: StepError) -> Refused {
        match self.may_resync(now, id) {
            Ok(()) => error.into(),
            Err(busy) => busy,
        }
    }
}

fn nothing_to_change() -> Refused {
    let message = "nothing is known of this box yet; send a step from 0";
    Refused::new(Code::WrongPosition, message)
}
