//! The objects of a plan, each in one place: to be asked for, asked, waiting, ready or running.
//!
//! The machine owns one [`Places`]. A number is an object's place in the plan's order; it changes
//! with the next plan, the object's place does not. Sans-IO.

use super::Class;
use super::Want;
use super::sources::Candidates;
use crate::clock::Instant;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct Places {
    objects: Vec<Option<Object>>,
    numbers: BTreeMap<Digest, usize>,
    queued: BTreeSet<usize>,
    waiting: BTreeSet<(Instant, usize)>,
    ready: BTreeSet<usize>,
    running: BTreeMap<u64, usize>,
    /// Runs, and is not planned any more: its end is awaited. With its streams.
    orphans: BTreeMap<u64, usize>,
}

/// One object of the plan.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) want: Want,
    pub(super) class: Class,
    pub(super) place: Place,
    /// Who has it, once the control plane has answered.
    pub(super) candidates: Option<Candidates>,
    /// The candidate that the transfer asks, while one runs.
    pub(super) source: usize,
    /// Those that it may ask beside, and the streams that it has.
    pub(super) others: Vec<usize>,
    pub(super) streams: usize,
    /// When to ask again if no source is left.
    pub(super) ask_again: Option<Instant>,
    /// Times that all sources were exhausted, and that our own disks failed.
    pub(super) misses: u32,
    pub(super) store_faults: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To be asked for.
    Queued,
    Asked,
    /// To be asked for from then on.
    Waiting(Instant),
    /// Its sources are known.
    Ready,
    Running(u64),
}

impl Places {
    /// Puts another plan in place of this one. What both have keeps its place; the transfers of
    /// what is not planned any more, or in another class, are returned, to be stopped.
    pub(super) fn replace(&mut self, plan: Vec<(Want, Class)>) -> Vec<u64> {
        let mut old = std::mem::take(self);
        let mut stopped = Vec::new();
        for (want, class) in plan {
            if self.numbers.contains_key(&want.digest) {
                continue;
            }
            let known = old.numbers.get(&want.digest);
            let known = known.and_then(|number| old.objects.get_mut(*number)?.take());
            let mut object = match known {
                Some(known) if known.want.length == want.length => known,
                Some(_) | None => Object::new(want, class),
            };
            if let (Place::Running(id), true) = (object.place, object.class != class) {
                // It ends and begins again, in the budget that the plan gives it.
                stopped.push(id);
            }
            (object.want, object.class) = (want, class);
            let (number, place) = (self.objects.len(), object.place);
            self.numbers.insert(want.digest, number);
            self.objects.push(Some(object));
            self.enter(number, place);
        }
        let streams = |number: usize| {
            let object = old.objects.get(number)?.as_ref()?;
            Some(object.streams)
        };
        let left = old.running.iter();
        let left = left.map(|(id, number)| (*id, streams(*number).unwrap_or(1)));
        let orphans = old.orphans.iter().map(|(id, streams)| (*id, *streams));
        for (id, streams) in left.chain(orphans) {
            if !self.running.contains_key(&id) {
                self.orphans.insert(id, streams);
                stopped.push(id);
            }
        }
        stopped
    }

    pub(super) fn get(&self, number: usize) -> Option<&Object> {
        self.objects.get(number)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Object> {
        self.objects.get_mut(number)?.as_mut()
    }

    pub(super) fn number(&self, digest: &Digest) -> Option<usize> {
        self.numbers.get(digest).copied()
    }

    /// Of those that are planned.
    pub(super) fn numbers<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Vec<usize> {
        let digests = digests.into_iter();
        digests.filter_map(|digest| self.number(digest)).collect()
    }

    /// Moves an object to another place.
    pub(super) fn put(&mut self, number: usize, place: Place) {
        self.leave(number);
        if let Some(object) = self.get_mut(number) {
            object.place = place;
            self.enter(number, place);
        }
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<Object> {
        self.leave(number);
        let object = self.objects.get_mut(number)?.take()?;
        self.numbers.remove(&object.want.digest);
        Some(object)
    }

    /// A transfer has ended: the object that it was for, if that is still planned.
    pub(super) fn ended(&mut self, id: u64) -> Option<usize> {
        self.orphans.remove(&id);
        self.running.get(&id).copied()
    }

    /// To be asked for, in order.
    pub(super) fn queued(&self) -> impl Iterator<Item = (usize, &Object)> {
        self.queued
            .iter()
            .filter_map(|number| Some((*number, self.get(*number)?)))
    }

    /// With known sources, in order.
    pub(super) fn ready(&self) -> impl Iterator<Item = (usize, &Object)> {
        self.ready
            .iter()
            .filter_map(|number| Some((*number, self.get(*number)?)))
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (u64, &Object)> {
        self.running
            .iter()
            .filter_map(|(id, number)| Some((*id, self.get(*number)?)))
    }

    pub(super) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Of all transfers; those that wait for their end count too.
    pub(super) fn streams_busy(&self) -> usize {
        let running = self.running().map(|(_, object)| object.streams);
        running.sum::<usize>() + self.streams_of_orphans()
    }

    pub(super) fn streams_of_orphans(&self) -> usize {
        self.orphans.values().sum()
    }

    /// All objects that are not done.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The first end of a wait.
    pub(super) fn next_wait(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Those whose wait is over are to be asked for.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((at, number)) = self.waiting.first().copied()
            && at <= now
        {
            self.put(number, Place::Queued);
        }
    }

    fn leave(&mut self, number: usize) {
        let Some(place) = self.get(number).map(|object| object.place) else {
            return;
        };
        match place {
            Place::Queued => {
                self.queued.remove(&number);
            }
            Place::Asked => {}
            Place::Waiting(at) => {
                self.waiting.remove(&(at, number));
            }
            Place::Ready => {
                self.ready.remove(&number);
            }
            Place::Running(id) => {
                self.running.remove(&id);
            }
        }
    }

    fn enter(&mut self, number: usize, place: Place) {
        match place {
            Place::Queued => {
                self.queued.insert(number);
            }
            Place::Asked => {}
            Place::Waiting(at) => {
                self.waiting.insert((at, number));
            }
            Place::Ready => {
                self.ready.insert(number);
            }
            Place::Running(id) => {
                self.running.insert(id, number);
            }
        }
    }
}

impl Object {
    fn new(want: Want, class: Class) -> Self {
        Self {
            want,
            class,
            place: Place::Queued,
            candidates: None,
            source: 0,
            others: Vec::new(),
            streams: 1,
            ask_again: None,
            misses: 0,
            store_faults: 0,
        }
    }
}
