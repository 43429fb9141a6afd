//! The routes of a box at one position: sorted, each once.
//!
//! [`super::machine`] applies checked steps here, on values that are replaced and never changed.
//! Sans-IO.

use crate::link::steps::Place;
use crate::route::Route;
use std::cmp::Ordering;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct RouteSet {
    pub(super) place: Place,
    pub(super) routes: Arc<[Route]>,
}

/// The step does not fit the set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the route for {0} is {1}; send a step from 0")]
pub(super) struct RouteSetError(String, &'static str);

impl RouteSet {
    /// Every route of a box. `place` was checked against `routes`.
    pub(super) fn whole(place: Place, mut routes: Vec<Route>) -> Result<Self, RouteSetError> {
        sort(&mut routes)?;
        Ok(Self {
            place,
            routes: routes.into(),
        })
    }

    /// This with a step applied. `place` was checked against the step.
    pub(super) fn changed(
        &self,
        place: Place,
        mut added: Vec<Route>,
        mut removed: Vec<Route>,
    ) -> Result<Self, RouteSetError> {
        sort(&mut added)?;
        sort(&mut removed)?;
        let mut routes = Vec::with_capacity(self.routes.len() + added.len());
        let mut added = added.into_iter().peekable();
        let mut removed = removed.iter().peekable();
        for route in self.routes.iter() {
            if removed.next_if(|gone| *gone == route).is_some() {
                continue;
            }
            while let Some(new) = added.next_if(|new| new < route) {
                routes.push(new);
            }
            if added.peek() == Some(route) {
                return Err(RouteSetError(line(route), "there already"));
            }
            routes.push(route.clone());
        }
        routes.extend(added);
        if let Some(missing) = removed.next() {
            return Err(RouteSetError(line(missing), "not there to be removed"));
        }
        Ok(Self {
            place,
            routes: routes.into(),
        })
    }
}

/// For messages.
fn line(route: &Route) -> String {
    format!("{} of {}", route.prefix, route.neighbour)
}

fn sort(routes: &mut [Route]) -> Result<(), RouteSetError> {
    routes.sort_unstable();
    let twice = routes
        .windows(2)
        .find(|pair| pair[0].cmp(&pair[1]) == Ordering::Equal);
    match twice {
        Some(pair) => Err(RouteSetError(line(&pair[0]), "there twice")),
        None => Ok(()),
    }
}
