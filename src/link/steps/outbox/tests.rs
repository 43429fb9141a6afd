//! A box whose set moves, a control plane that forgets, a wire that loses replies: in the end both
//! have the same set.

use super::*;
use crate::link::message::Code;
use crate::link::steps::Place;
use crate::link::steps::Step;
use crate::link::steps::take_catalogue;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

type Set = BTreeSet<u8>;

fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

fn hash_of(set: &Set) -> SetHash {
    SetHash::of(set.iter().map(|number| digest(*number).0))
}

/// A store: every generation it ever had, and a journal that goes back so far.
#[derive(Debug, Default)]
struct Shelf {
    history: RefCell<Vec<Set>>,
    depth: usize,
    /// Toggled while all items are collected.
    racing: RefCell<Vec<u8>>,
    lies: Lies,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lies {
    #[default]
    None,
    /// Leaves this one out, whatever happens to it.
    Hides(u8),
    /// Says that this one was added, each time that something was.
    Repeats(u8),
}

impl Shelf {
    fn new(depth: usize) -> Self {
        Self {
            history: RefCell::new(vec![Set::new()]),
            depth,
            ..Self::default()
        }
    }

    fn generation(&self) -> usize {
        self.history.borrow().len() - 1
    }

    fn set(&self) -> Set {
        self.history.borrow().last().unwrap().clone()
    }

    fn toggle(&self, number: u8) {
        let mut set = self.set();
        if !set.remove(&number) {
            set.insert(number);
        }
        self.history.borrow_mut().push(set);
    }

    /// Something that viewers notice and the set does not.
    fn bump(&self) {
        let set = self.set();
        self.history.borrow_mut().push(set);
    }
}

impl Holdings for Shelf {
    fn all(&self) -> (u64, Vec<Digest>) {
        let generation = self.generation();
        // The lower half is looked at before, the upper half after what happens meanwhile.
        let before = self.set();
        for number in self.racing.borrow_mut().drain(..) {
            self.toggle(number);
        }
        let after = self.set();
        let seen = before.range(..8).chain(after.range(8..));
        (
            generation as u64,
            seen.map(|number| digest(*number)).collect(),
        )
    }

    fn since(&self, generation: u64) -> Option<CatalogueChanges> {
        let here = self.generation();
        let from = usize::try_from(generation).unwrap();
        if from > here || here - from > self.depth {
            return None;
        }
        let (before, after) = (self.history.borrow()[from].clone(), self.set());
        let mut added: Set = after.difference(&before).copied().collect();
        let mut removed: Set = before.difference(&after).copied().collect();
        match self.lies {
            Lies::None => {}
            Lies::Hides(number) => {
                added.remove(&number);
                removed.remove(&number);
            }
            Lies::Repeats(number) if !added.is_empty() => {
                added.insert(number);
            }
            Lies::Repeats(_) => {}
        }
        let digests = |set: Set| set.into_iter().map(digest).collect();
        Some(CatalogueChanges {
            generation: here as u64,
            added: digests(added),
            removed: digests(removed),
        })
    }
}

/// The receiver, as `control::fleet` is one: items once, steps checked, all or nothing.
#[derive(Debug, Default)]
struct Plane {
    place: Option<Place>,
    items: BTreeSet<Digest>,
    wholes: usize,
}

impl Plane {
    fn take(&mut self, step: &Catalogue) -> Result<Acked, Code> {
        let taken = take_catalogue(self.place.as_ref(), step).map_err(|error| error.code())?;
        match taken {
            Step::Same => {}
            Step::Whole { place, items } => {
                self.wholes += 1;
                self.items = items.into_iter().collect();
                self.place = Some(place);
            }
            Step::Change {
                place,
                added,
                removed,
            } => {
                let mut items = self.items.clone();
                let fits = removed.iter().all(|item| items.remove(item))
                    && added.iter().all(|item| items.insert(*item));
                if !fits {
                    return Err(Code::WrongDigest);
                }
                (self.items, self.place) = (items, Some(place));
            }
        }
        Ok(self.acked())
    }

    fn acked(&self) -> Acked {
        Acked {
            catalogue: self.place.map(|place| place.ack),
            routes: None,
        }
    }
}

/// What becomes of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Fine,
    /// The control plane takes it, and the box never hears.
    ReplyLost,
    RequestLost,
}

/// One report; was the control plane's word for it heard, and was it yes?
fn report(shelf: &Shelf, outbox: &mut Outbox, plane: &mut Plane, wire: Wire) -> bool {
    let step = outbox.catalogue_of(shelf.generation() as u64, shelf);
    if wire == Wire::RequestLost {
        outbox.unanswered();
        return false;
    }
    match (plane.take(&step), wire) {
        (Ok(acked), Wire::Fine) => {
            outbox.acknowledge(acked);
            true
        }
        (Err(_), Wire::Fine) => {
            let whole = step.from == 0;
            assert_eq!(outbox.refused(), !whole, "{step:?}");
            assert!(!whole, "everything is never refused: {step:?}");
            false
        }
        (_, Wire::ReplyLost | Wire::RequestLost) => {
            outbox.unanswered();
            false
        }
    }
}

#[test]
fn what_is_acknowledged_is_not_sent_again_and_a_change_alone_is() {
    let (shelf, mut outbox, mut plane) = (Shelf::new(100), Outbox::new(9), Plane::default());
    for number in 0..10 {
        shelf.toggle(number);
    }
    let mut tell = || {
        let step = outbox.catalogue_of(shelf.generation() as u64, &shelf);
        outbox.acknowledge(plane.take(&step).unwrap());
        step
    };
    let first = tell();
    assert_eq!((first.from, first.to, first.added.len()), (0, 11, 10));
    let same = tell();
    assert_eq!((same.from, same.to, same.count), (11, 11, 10));
    shelf.toggle(3);
    shelf.toggle(77);
    let step = tell();
    assert_eq!((step.from, step.to, step.count), (11, 13, 10));
    assert_eq!(step.added, [digest(77)]);
    assert_eq!(step.removed, [digest(3)]);
    shelf.bump();
    let moved = tell();
    assert_eq!((moved.from, moved.to), (13, 14));
    assert!(moved.added.is_empty() && moved.removed.is_empty());
    // A disk went, with nearly everything: that is shorter said whole.
    for number in (0..10).filter(|number| *number != 3) {
        shelf.toggle(number);
    }
    let whole = tell();
    assert_eq!((whole.from, whole.count), (0, 1));
    assert_eq!(plane.wholes, 2);
}

#[test]
fn a_lost_reply_costs_one_more_report_and_never_everything() {
    for wire in [Wire::ReplyLost, Wire::RequestLost] {
        let (shelf, mut outbox, mut plane) = (Shelf::new(100), Outbox::new(9), Plane::default());
        for number in 0..10 {
            shelf.toggle(number);
        }
        assert!(report(&shelf, &mut outbox, &mut plane, Wire::Fine));
        shelf.toggle(20);
        assert!(!report(&shelf, &mut outbox, &mut plane, wire));
        // The silence goes on, and the box with it.
        for number in 21..25 {
            shelf.toggle(number);
            assert!(!report(&shelf, &mut outbox, &mut plane, Wire::RequestLost));
        }
        let mut tries = 1;
        while !report(&shelf, &mut outbox, &mut plane, Wire::Fine) {
            tries += 1;
        }
        assert!(tries <= 3, "{wire:?}: {tries} reports");
        assert_eq!(plane.wholes, 1, "{wire:?}");
        assert_eq!(plane.place.unwrap().hash, hash_of(&shelf.set()));
    }
}

#[test]
fn a_control_plane_that_restarted_gets_everything_after_one_refusal() {
    let (shelf, mut outbox) = (Shelf::new(100), Outbox::new(9));
    shelf.toggle(1);
    assert!(report(
        &shelf,
        &mut outbox,
        &mut Plane::default(),
        Wire::Fine
    ));
    let mut reborn = Plane::default();
    assert!(!report(&shelf, &mut outbox, &mut reborn, Wire::Fine));
    assert!(report(&shelf, &mut outbox, &mut reborn, Wire::Fine));
    assert_eq!(reborn.place.unwrap().hash, hash_of(&shelf.set()));
}

#[test]
fn a_journal_that_does_not_go_back_so_far_leads_to_everything() {
    let (shelf, mut outbox, mut plane) = (Shelf::new(2), Outbox::new(9), Plane::default());
    shelf.toggle(1);
    assert!(report(&shelf, &mut outbox, &mut plane, Wire::Fine));
    for number in 2..6 {
        shelf.toggle(number);
    }
    let step = outbox.catalogue_of(shelf.generation() as u64, &shelf);
    assert_eq!((step.from, step.count), (0, 5));
    outbox.acknowledge(plane.take(&step).unwrap());
    // Without any journal at all nothing is sent twice either.
    let bare = Shelf::new(0);
    let mut outbox = Outbox::new(9);
    let mut plane = Plane::default();
    bare.toggle(1);
    assert!(report(&bare, &mut outbox, &mut plane, Wire::Fine));
    assert!(report(&bare, &mut outbox, &mut plane, Wire::Fine));
    assert_eq!(plane.wholes, 1);
}

#[test]
fn a_journal_that_lies_is_caught_by_the_set_itself() {
    for lies in [Lies::Hides(30), Lies::Repeats(0)] {
        let (mut shelf, mut outbox, mut plane) =
            (Shelf::new(1_000), Outbox::new(9), Plane::default());
        for number in 0..20 {
            shelf.toggle(number);
        }
        assert!(report(&shelf, &mut outbox, &mut plane, Wire::Fine));
        shelf.lies = lies;
        shelf.toggle(30);
        for _ in 0..=AUDIT_EVERY {
            shelf.toggle(40);
            // A refusal is followed at once by everything.
            while !report(&shelf, &mut outbox, &mut plane, Wire::Fine) {}
        }
        let own: BTreeSet<Digest> = shelf.set().into_iter().map(digest).collect();
        assert_eq!(plane.items, own, "{lies:?}");
        assert!(plane.wholes >= 2, "{lies:?}");
    }
}

#[derive(Clone, Debug)]
enum Event {
    Toggle(u8),
    Bump,
    Report(Wire),
    /// Of the box: its set stays, its generations start over.
    BoxRestarts,
    PlaneRestarts,
    /// Happens while the next full catalogue is collected.
    Race(u8),
}

fn any_event() -> impl Strategy<Value = Event> {
    let wire = prop::sample::select(vec![
        Wire::Fine,
        Wire::Fine,
        Wire::ReplyLost,
        Wire::RequestLost,
    ]);
    prop_oneof![
        8 => (0..16_u8).prop_map(Event::Toggle),
        1 => Just(Event::Bump),
        8 => wire.prop_map(Event::Report),
        1 => Just(Event::BoxRestarts),
        1 => Just(Event::PlaneRestarts),
        1 => (0..16_u8).prop_map(Event::Race),
    ]
}

proptest! {
    #[test]
    fn whatever_is_lost_and_whoever_restarts_both_end_with_the_same_set(
        events in prop::collection::vec(any_event(), 0..120),
        depth in prop::sample::select(vec![0_usize, 1, 3, 10, 1_000]),
    ) {
        let (mut shelf, mut outbox, mut plane) =
            (Shelf::new(depth), Outbox::new(1), Plane::default());
        let mut epoch = 1;
        // What each position of each epoch was.
        let mut sets: BTreeMap<(u64, u64), Set> = BTreeMap::new();
        for event in events {
            match event {
                Event::Toggle(number) => shelf.toggle(number),
                Event::Bump => shelf.bump(),
                Event::Report(wire) => {
                    report(&shelf, &mut outbox, &mut plane, wire);
                }
                Event::BoxRestarts => {
                    epoch += 1;
                    let set = shelf.set();
                    shelf = Shelf::new(depth);
                    *shelf.history.borrow_mut() = vec![set];
                    outbox = Outbox::new(epoch);
                }
                Event::PlaneRestarts => plane = Plane::default(),
                Event::Race(number) => shelf.racing.borrow_mut().push(number),
            }
            let history = shelf.history.borrow();
            let places = history.iter().enumerate();
            for (generation, set) in places.skip(history.len().saturating_sub(4)) {
                sets.insert((epoch, generation as u64 + 1), set.clone());
            }
            // What it has been told is a set that was, and its hash is that set's: but for a
            // catalogue that was collected while it moved and that no journal could mend.
            if let Some(place) = plane.place {
                let hash = SetHash::of(plane.items.iter().map(|item| item.0));
                prop_assert_eq!(place.hash, hash);
                prop_assert_eq!(place.count, plane.items.len() as u64);
                if depth == 1_000
                    && let Some(set) = sets.get(&(place.ack.epoch, place.ack.position))
                {
                    prop_assert_eq!(place.hash, hash_of(set));
                }
            }
        }
        shelf.racing.borrow_mut().clear();
        // A set that was collected while it moved is followed by another generation.
        let mut tries = 0;
        while !report(&shelf, &mut outbox, &mut plane, Wire::Fine) {
            tries += 1;
            prop_assert!(tries <= 4);
        }
        let place = plane.place.unwrap();
        prop_assert_eq!(place.hash, hash_of(&shelf.set()));
        prop_assert_eq!(place.count, shelf.set().len() as u64);
    }
}
