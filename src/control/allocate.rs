//! What a box is to hold: the most popular bundles that fit. A pure function; `publish` calls it.
//!
//! The simple allocation: every box of a cluster holds everything that fits, by rank. The feed's
//! score is bytes streamed divided by size, so that rank order is the order of gain a byte.

use crate::control::fleet::Bitmap;
use crate::control::model::Bundle;
use crate::control::model::Library;
use std::cmp::Ordering;
use std::collections::HashSet;

/// What a published manifest lists: one value for all boxes with the same content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    bundles: Bitmap,
    /// Numbers from here on were not given when the manifest was made.
    end: u32,
}

impl Listed {
    pub fn new(library: &Library, chosen: &[u32]) -> Self {
        let mut bundles = Bitmap::default();
        for number in chosen {
            bundles.insert(*number);
        }
        Self {
            bundles,
            end: u32::try_from(library.bundles.len()).unwrap_or(u32::MAX),
        }
    }

    /// A box that holds it has been told to let it go. What the manifest could not know of is
    /// not leaving.
    pub fn is_leaving(&self, bundle: u32) -> bool {
        bundle < self.end && !self.bundles.contains(bundle)
    }
}

/// Numbers of the bundles for a box of `capacity` bytes, the most popular first: a bundle's place
/// is its rank. A bundle that does not fit is passed over, so that one that grows past the end of
/// the disk costs itself and not everything behind it. An object that several bundles name counts
/// once, as it does on the disk. Bundles of withdrawn titles are nobody's.
pub fn allocate(library: &Library, capacity: u64) -> Vec<u32> {
    let bundles = library.bundles.iter().flatten();
    let mut bundles: Vec<&Bundle> = bundles
        .filter(|bundle| !library.is_withdrawn(bundle))
        .collect();
    bundles.sort_by(|a, b| by_rank(a, b));
    let mut held: HashSet<u32> = HashSet::new();
    let mut room = capacity;
    let mut chosen = Vec::new();
    for bundle in bundles {
        let mut objects: Vec<u32> = bundle.keys.iter().map(|key| key.object).collect();
        objects.sort_unstable();
        objects.dedup();
        objects.retain(|object| !held.contains(object));
        let bytes = objects
            .iter()
            .filter_map(|object| library.object(*object))
            .fold(0_u64, |sum, object| sum.saturating_add(object.length));
        if bytes <= room {
            room -= bytes;
            held.extend(objects);
            chosen.push(bundle.number);
        }
    }
    chosen
}

/// By popularity, then directory: the order does not depend on when something was imported.
fn by_rank(a: &Bundle, b: &Bundle) -> Ordering {
    // A feed that divided by zero must not put anything first.
    let score = |bundle: &Bundle| {
        let score = bundle.popularity;
        if score.is_finite() { score } else { 0.0 }
    };
    score(b)
        .total_cmp(&score(a))
        .then_with(|| a.directory.cmp(&b.directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::BundleKey;
    use crate::control::model::Object;
    use crate::object::Digest;
    use proptest::prelude::*;

    /// Directory, popularity, objects; object `n` has `n` bytes.
    fn library(bundles: &[(&str, f64, &[u32])]) -> Library {
        let mut library = Library::default();
        for length in 0..1000 {
            let digest = Digest([0; 32]);
            library.objects.push(Object { digest, length });
        }
        for (number, (directory, popularity, objects)) in (0..).zip(bundles) {
            let keys = objects.iter().map(|object| BundleKey {
                name: format!("{object}"),
                object: *object,
                last_modified: 0,
            });
            library.bundles.push(Some(Bundle {
                number,
                directory: (*directory).to_owned(),
                title: String::new(),
                keys: keys.collect(),
                bytes: 0,
                popularity: *popularity,
            }));
        }
        library
    }

    #[test]
    fn the_most_popular_come_first_and_equals_by_directory() {
        let library = library(&[
            ("c", 1.0, &[1]),
            ("b", 1.0, &[2]),
            ("a", 9.0, &[3]),
            ("nan", f64::NAN, &[4]),
            ("infinite", f64::INFINITY, &[5]),
        ]);
        assert_eq!(allocate(&library, 100), [2, 1, 0, 4, 3]);
    }

    #[test]
    fn what_does_not_fit_is_passed_over_and_smaller_ones_follow() {
        let library = library(&[
            ("a", 3.0, &[50, 10]),
            ("b", 2.0, &[100]),
            ("c", 1.0, &[39]),
            ("d", 0.5, &[1]),
        ]);
        assert_eq!(allocate(&library, 100), [0, 2, 3]);
        assert_eq!(allocate(&library, 60), [0]);
        assert_eq!(allocate(&library, 0), [0_u32; 0]);
    }

    #[test]
    fn a_shared_object_is_counted_once() {
        let library = library(&[("a", 2.0, &[60, 60]), ("b", 1.0, &[60, 40])]);
        assert_eq!(allocate(&library, 100), [0, 1]);
        assert_eq!(allocate(&library, 99), [0]);
    }

    #[test]
    fn a_withdrawn_title_makes_room_for_the_next() {
        let mut library = library(&[("a", 2.0, &[60]), ("b", 1.0, &[70])]);
        for (bundle, title) in library.bundles.iter_mut().flatten().zip(["film", "other"]) {
            title.clone_into(&mut bundle.title);
        }
        assert_eq!(allocate(&library, 100), [0]);
        let withdrawn = crate::control::model::TitleState {
            withdrawn: true,
            urgent_until: None,
        };
        library.titles.insert("film".to_owned(), withdrawn);
        assert_eq!(allocate(&library, 100), [1]);
    }

    proptest! {
        #[test]
        fn one_more_unpopular_bundle_moves_nothing(
            sizes in proptest::collection::vec((1_u32..200, 1_u32..9), 1..20),
            capacity in 0_u64..1500,
            fresh in 1_u32..200,
        ) {
            let objects: Vec<[u32; 1]> = sizes.iter().map(|(size, _)| [*size]).collect();
            let names: Vec<String> = (0..sizes.len()).map(|n| format!("b{n:03}")).collect();
            let rows = names.iter().zip(&sizes).zip(&objects);
            let mut bundles: Vec<(&str, f64, &[u32])> = rows
                .map(|((name, (_, score)), object)| {
                    (name.as_str(), f64::from(*score), &object[..])
                })
                .collect();
            let before = allocate(&library(&bundles), capacity);
            let object = [fresh];
            bundles.push(("z", 0.0, &object));
            let mut after = allocate(&library(&bundles), capacity);
            after.retain(|number| *number < u32::try_from(sizes.len()).unwrap());
            prop_assert_eq!(before, after);
        }
    }
}
