//! Which ready objects get the free streams, and how many each.
//!
//! A large object is fetched from several boxes at a time, a stream each; all that run together
//! never have more streams than the rate allows (`Share`).

use super::Action;
use super::Machine;
use super::Now;
use super::READY_WAIT_MAX;
use crate::fill::Class;
use crate::fill::Job;
use crate::fill::Offer;
use crate::fill::places::Object;
use crate::fill::places::Place;
use crate::fill::sources::Pick;

/// An object is large enough for several sources: two seconds of one stream at the highest cap. A
/// smaller one is there before what it costs to part it has paid off.
const LARGE_BYTES: u64 = 32 << 20;

/// Sources beyond those that are asked at a time, in case some fail.
const SPARES_MAX: usize = 2;

/// A transfer to begin.
struct Chosen {
    number: usize,
    source: usize,
    others: Vec<usize>,
    streams: usize,
}

impl Machine {
    /// Gives free streams to ready objects: the urgent ones first, then in order. The night's make
    /// room for what is urgent, whose turns come before theirs in any case.
    pub(super) fn begin(&mut self, now: Now, actions: &mut Vec<Action>) {
        let mut free = self.streams.saturating_sub(self.queue.streams_busy());
        let (mut chosen, mut away) = (Vec::new(), Vec::new());
        let mut urgent_left = 0;
        for class in [Class::Urgent, Class::Night] {
            if !self.may_pay(class, now.at) {
                continue;
            }
            for (number, object) in self.queue.ready().filter(|(_, one)| one.class == class) {
                if free == 0 && (class == Class::Night || urgent_left >= self.streams) {
                    break;
                }
                let Some(candidates) = &object.candidates else {
                    away.push((number, Pick::Nobody));
                    continue;
                };
                match candidates.pick(now.at, &self.sources) {
                    Pick::Use(_) if free == 0 => urgent_left += 1,
                    Pick::Use(source) => {
                        let one = self.choose(now, (number, object), source, free);
                        free -= one.streams;
                        chosen.push(one);
                    }
                    Pick::At(from) if from <= now.at + READY_WAIT_MAX => {}
                    pick @ (Pick::At(_) | Pick::Stale | Pick::Nobody) => away.push((number, pick)),
                }
            }
        }
        for (number, pick) in away {
            self.wait(now, number, pick);
        }
        for one in chosen {
            self.transfer(one, actions);
        }
        self.make_room(urgent_left, actions);
    }

    /// `source` is the first to ask; `free` is not zero.
    fn choose(
        &self,
        now: Now,
        (number, object): (usize, &Object),
        source: usize,
        free: usize,
    ) -> Chosen {
        let at_once = self.config.sources_at_once.min(free).max(1);
        let is_large = object.want.length >= LARGE_BYTES;
        let candidates = object
            .candidates
            .as_ref()
            .filter(|_| is_large && at_once > 1);
        let mut others = candidates.map_or_else(Vec::new, |candidates| {
            candidates.beside(now.at, &self.sources, source)
        });
        others.truncate(at_once - 1 + SPARES_MAX);
        Chosen {
            number,
            source,
            streams: at_once.min(1 + others.len()),
            others,
        }
    }

    /// Stops transfers of the night until so many streams are free, the last begun first; those
    /// that are being stopped make room as well.
    fn make_room(&mut self, wanted: usize, actions: &mut Vec<Action>) {
        let mut wanted = wanted;
        let running = self.queue.running();
        let mut night = Vec::new();
        for (id, object) in running {
            if self.stopping.contains(&id) {
                wanted = wanted.saturating_sub(object.streams);
            } else if object.class == Class::Night {
                night.push((id, object.streams));
            }
        }
        wanted = wanted.saturating_sub(self.queue.streams_of_orphans());
        for (id, streams) in night.into_iter().rev() {
            if wanted == 0 {
                return;
            }
            wanted = wanted.saturating_sub(streams);
            self.stop(id, actions);
        }
    }

    fn transfer(&mut self, chosen: Chosen, actions: &mut Vec<Action>) {
        let Chosen {
            number,
            source,
            others,
            streams,
        } = chosen;
        let Some(object) = self.queue.get(number) else {
            return;
        };
        let Some(candidates) = &object.candidates else {
            return;
        };
        let Some((from, ticket)) = candidates.source(source) else {
            return;
        };
        let offers = others.iter().filter_map(|other| {
            let (source, ticket) = candidates.source(*other)?;
            let source = source.clone();
            Some(Offer { source, ticket })
        });
        let job = Box::new(Job {
            want: object.want,
            class: object.class,
            tree: candidates.tree.clone(),
            source: from.clone(),
            ticket,
            others: offers.collect(),
            streams,
            share: self.share,
        });
        let id = self.next_id;
        self.next_id += 1;
        if let Some(object) = self.queue.get_mut(number) {
            (object.source, object.others, object.streams) = (source, others, streams);
        }
        self.queue.put(number, Place::Running(id));
        actions.push(Action::Transfer { id, job });
    }
}
