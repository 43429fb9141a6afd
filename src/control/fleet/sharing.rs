//! Boxes of a cluster hold the same objects, and boxes of a site learn the same routes: each is
//! kept once. Sans-IO; [`super::machine`] asks it whenever a set has changed.

use super::held::Content;
use super::held::Held;
use super::routes::RouteSet;
use crate::object::Digest;
use crate::route::Route;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Weak;

/// Found by set hash, and compared in full before they are shared: nobody's set is another's
/// because somebody made the hashes collide.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    contents: BTreeMap<Digest, Weak<Content>>,
    routes: BTreeMap<Digest, Weak<[Route]>>,
}

impl Sharing {
    pub(super) fn held(&mut self, held: &mut Held) {
        let digest = held.place.hash.digest();
        let other = self.contents.get(&digest).and_then(Weak::upgrade);
        match other.filter(|other| *other == held.content) {
            Some(other) => held.content = other,
            None => {
                let content = Arc::downgrade(&held.content);
                self.contents.insert(digest, content);
            }
        }
    }

    pub(super) fn routes(&mut self, set: &mut RouteSet) {
        let digest = set.place.hash.digest();
        let other = self.routes.get(&digest).and_then(Weak::upgrade);
        match other.filter(|other| *other == set.routes) {
            Some(other) => set.routes = other,
            None => {
                let routes = Arc::downgrade(&set.routes);
                self.routes.insert(digest, routes);
            }
        }
    }

    /// Drops what no box has, once it could be more than what some box has.
    pub(super) fn forget_unused(&mut self, boxes: usize) {
        if self.contents.len() > 2 * boxes + 16 {
            self.contents
                .retain(|_, content| content.strong_count() > 0);
        }
        if self.routes.len() > 2 * boxes + 16 {
            self.routes.retain(|_, routes| routes.strong_count() > 0);
        }
    }
}
