//! Is a volume fit to be read and written? One small machine a volume.
//!
//! ```text
//! scanning ─→ online ─→ read-only          suspect ends when somebody looked at the disk, or it
//!    │  │       │ │        │ │             was mounted anew; refused, once it can be used
//!    │  └───────┴─┼────────┴─┼→ suspect
//!    └→ refused   └──────────┴→ isolated ─→ back, once the disk answers again
//! ```
//! `volume` reports what it saw and performs what [`Health::step`] answers. The rule for `suspect`:
//! any failed fsync or unreadable directory, or failed reads of [`FAILED_OBJECTS_MAX`] different
//! objects within [`FAILURE_WINDOW`]. One bad sector costs one object, not a disk.

use crate::clock::Instant;
use crate::object::Digest;
use std::time::Duration;

/// Different objects whose reading may fail within the window before the whole disk is doubted.
pub const FAILED_OBJECTS_MAX: usize = 3;

/// Failures older than this say nothing about the disk today.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Identified or about to be; its objects are not all known.
    Scanning,
    Online,
    /// Mounted read-only, or made so by its file system; goes on serving.
    ReadOnly,
    /// It loses data: out of service until somebody looks.
    Suspect,
    /// A call did not return in time: out of service until it answers.
    Isolated,
    /// Not ours to use; the reason says what to do.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Refused,
    /// A disk that was refused or suspect can be used after all, and will be scanned.
    Returned,
    Scanned {
        read_only: bool,
    },
    /// A write was answered with `EROFS`, or `statvfs` says so.
    TurnedReadOnly,
    ObjectFailed(Digest),
    /// A failed fsync, or a directory that cannot be read.
    Broken,
    /// A call is over its deadline.
    Hung,
    /// Every call of an isolated volume has returned.
    Answers,
}

/// One volume's health. Owned by its volume, under a lock.
#[derive(Debug)]
pub(super) struct Health {
    state: State,
    scanned: bool,
    read_only: bool,
    failures: Vec<(Instant, Digest)>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: State::Scanning,
            scanned: false,
            read_only: false,
            failures: Vec::new(),
        }
    }
}

impl Health {
    /// Moves by one event; tells the state entered, if it is another one.
    pub(super) fn step(&mut self, now: Instant, event: Event) -> Option<State> {
        use Event::*;
        use State::*;
        let next = match (self.state, event) {
            (Scanning, Event::Refused) => State::Refused,
            (Scanning | Isolated, Scanned { read_only }) => {
                self.scanned = true;
                self.read_only |= read_only;
                if self.state == Isolated { Isolated } else { self.in_service() }
            }
            (Online | ReadOnly | Scanning | Isolated, TurnedReadOnly) => {
                self.read_only = true;
                if self.state == Online { ReadOnly } else { self.state }
            }
            (Scanning | Online | ReadOnly | Isolated, ObjectFailed(digest)) => {
                self.failed(now, digest)
            }
            (Scanning | Online | ReadOnly | Isolated, Broken) => Suspect,
            (Scanning | Online | ReadOnly, Hung) => Isolated,
            (Isolated, Answers) => self.in_service(),
            (State::Refused, Returned) => Scanning,
            (Suspect, Returned) => {
                *self = Self::default();
                // Told below as the way from one to the other.
                self.state = Suspect;
                Scanning
            }
            // A scan is done once; a disk that answers was not missed; a second refusal, or one of
            // a volume that was accepted, cannot happen.
            (Online | ReadOnly, Scanned { .. } | Answers | Event::Refused | Returned)
            | (Scanning, Answers | Returned)
            | (Isolated, Hung | Event::Refused | Returned)
            // Late news about a volume already out of service.
            | (
                Suspect | State::Refused,
                Event::Refused
                | Scanned { .. }
                | TurnedReadOnly
                | ObjectFailed(_)
                | Broken
                | Hung
                | Answers,
            ) => self.state,
        };
        (std::mem::replace(&mut self.state, next) != next).then_some(next)
    }

    /// Objects whose reading failed lately.
    pub(super) fn failures(&self) -> impl Iterator<Item = Digest> + '_ {
        self.failures.iter().map(|(_, digest)| *digest)
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> State {
        self.state
    }

    fn in_service(&self) -> State {
        match (self.scanned, self.read_only) {
            (false, _) => State::Scanning,
            (true, false) => State::Online,
            (true, true) => State::ReadOnly,
        }
    }

    fn failed(&mut self, now: Instant, digest: Digest) -> State {
        self.failures.retain(|(at, known)| {
            *known != digest && now.saturating_duration_since(*at) < FAILURE_WINDOW
        });
        self.failures.push((now, digest));
        if self.failures.len() >= FAILED_OBJECTS_MAX {
            State::Suspect
        } else {
            self.state
        }
    }
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Scanning => "scanning",
            Self::Online => "online",
            Self::ReadOnly => "read-only",
            Self::Suspect => "suspect",
            Self::Isolated => "isolated",
            Self::Refused => "refused",
        }
    }

    pub(super) fn is_readable(self) -> bool {
        matches!(self, Self::Online | Self::ReadOnly)
    }

    pub(super) fn is_writable(self) -> bool {
        self == Self::Online
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn online() -> Health {
        let mut health = Health::default();
        let entered = health.step(clock::now(), Event::Scanned { read_only: false });
        assert_eq!(entered, Some(State::Online));
        health
    }

    #[test]
    fn three_different_failed_objects_make_a_disk_suspect_and_one_object_never_does() {
        let (mut health, now) = (online(), clock::now());
        for _ in 0..10 {
            assert_eq!(
                health.step(now, Event::ObjectFailed(Digest::of(b"1"))),
                None
            );
        }
        assert_eq!(
            health.step(now, Event::ObjectFailed(Digest::of(b"2"))),
            None
        );
        let entered = health.step(now, Event::ObjectFailed(Digest::of(b"3")));
        assert_eq!(entered, Some(State::Suspect));
        assert_eq!(health.step(now, Event::Answers), None);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let (mut health, mut now) = (online(), clock::now());
        for n in 0..20_u8 {
            assert_eq!(
                health.step(now, Event::ObjectFailed(Digest::of(&[n]))),
                None
            );
            now += FAILURE_WINDOW / 2;
        }
        assert_eq!(health.state(), State::Online);
    }

    #[test]
    fn a_failed_fsync_is_final() {
        let (mut health, now) = (online(), clock::now());
        assert_eq!(health.step(now, Event::Broken), Some(State::Suspect));
        for event in [
            Event::Answers,
            Event::Hung,
            Event::Scanned { read_only: false },
        ] {
            assert_eq!(health.step(now, event), None);
        }
    }

    #[test]
    fn a_suspect_disk_that_was_looked_at_is_scanned_anew_and_its_failures_are_forgotten() {
        let (mut health, now) = (online(), clock::now());
        for n in 0..3_u8 {
            let _ = health.step(now, Event::ObjectFailed(Digest::of(&[n])));
        }
        assert_eq!(health.failures().count(), 3);
        assert_eq!(health.step(now, Event::Returned), Some(State::Scanning));
        assert_eq!(
            health.step(now, Event::ObjectFailed(Digest::of(b"4"))),
            None
        );
        let scanned = Event::Scanned { read_only: false };
        assert_eq!(health.step(now, scanned), Some(State::Online));
    }

    #[test]
    fn a_hung_disk_comes_back_as_what_it_was() {
        let now = clock::now();
        let mut health = Health::default();
        assert_eq!(health.step(now, Event::Hung), Some(State::Isolated));
        assert_eq!(health.step(now, Event::Answers), Some(State::Scanning));
        assert_eq!(health.step(now, Event::Hung), Some(State::Isolated));
        assert_eq!(health.step(now, Event::Scanned { read_only: true }), None);
        assert_eq!(health.step(now, Event::Answers), Some(State::ReadOnly));
        assert!(State::ReadOnly.is_readable() && !State::ReadOnly.is_writable());
    }
}
