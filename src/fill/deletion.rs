//! What leaves the box, and when: announced, kept through its grace, deleted at a bounded pace.
//!
//! The `survey` owns it, asks [`Deletion::due`] and keeps [`Deletion::seal`] before it deletes. The
//! grace and the pace count wall time and accumulated uptime, and both must have passed: a jump of
//! the calendar shortens neither, and neither does a restart (SAFETY: deletion and manifests).

use super::Moment;
use crate::clock;
use crate::clock::Boot;
use crate::link::message::DeletionOverride;
use crate::link::message::Position;
use crate::object::Digest;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// Announced at a time: more than twenty-four hours' pace of three million objects, in 6 MB.
pub(super) const LEAVING_MAX: usize = 65_536;

/// Deleted between two looks at the store.
const BATCH_MAX: usize = 1_024;

const DAY_S: u64 = 24 * 3_600;

/// Deletions within this time are one entry of the pace: at most 96 entries a day.
const SPENT_STEP_S: u64 = 900;

/// Overrides whose use is remembered until they end.
const OVERRIDES_MAX: usize = 32;

/// A durable record of more bytes is not ours.
const RECORD_BYTES_MAX: usize = 32 << 20;

/// Everything that is leaving.
#[derive(Debug)]
pub(super) struct Deletion {
    grace_s: u64,
    share_percent: u64,
    record: Record,
    /// When `record.uptime_s` was true.
    since: Boot,
    dirty: bool,
    /// There was a record, and nobody can read it: the pace may have been used up just before.
    is_lost: bool,
}

/// What the store and the control plane say at one moment.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) manifest: Option<Position>,
    pub(super) acknowledged: Option<Position>,
    pub(super) surplus: &'a [(Digest, u64)],
    pub(super) held: u64,
    /// Verified: signed, for this box, in its time.
    pub(super) permit: Option<&'a DeletionOverride>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Of the copies the highest counts.
    sequence: u64,
    uptime_s: u64,
    /// The epoch in which the box's own pace is enough.
    epoch: Option<u64>,
    batches: Vec<Batch>,
    spent: Vec<Spent>,
    overrides: Vec<Used>,
}

/// Objects that were announced together.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Batch {
    position: Position,
    announced: Both,
    acknowledged: Option<Both>,
    objects: Vec<(Digest, u64)>,
}

/// One moment in both counts, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Both {
    wall: u64,
    uptime: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Spent {
    /// The first deletion of the entry, and the last: it leaves a day after that.
    #[serde(default)]
    since: Both,
    at: Both,
    bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Used {
    /// Of the signature.
    name: Digest,
    expires: u64,
    bytes: u64,
}

impl Both {
    /// Has `seconds` passed in both counts?
    fn is_past(self, now: Self, seconds: u64) -> bool {
        now.wall.saturating_sub(self.wall) >= seconds
            && now.uptime.saturating_sub(self.uptime) >= seconds
    }
}

impl Deletion {
    /// From every copy that was kept; one that is torn or damaged counts as absent. If all are, the
    /// pace counts as used up.
    pub(super) fn restore(copies: &[Vec<u8>], grace: Duration, share: u32, boot: Boot) -> Self {
        let records = copies.iter().filter_map(|copy| {
            let body = unseal(copy)?;
            serde_json::from_slice::<Record>(body).ok()
        });
        let record = records.max_by_key(|record| record.sequence);
        let is_lost = record.is_none() && !copies.is_empty();
        if is_lost {
            tracing::warn!("no copy of the deletion record can be read: nothing goes for 24 h");
        }
        Self {
            grace_s: grace
                .as_secs()
                .saturating_add(u64::from(grace.subsec_nanos() > 0)),
            share_percent: share.into(),
            record: record.unwrap_or_default(),
            since: boot,
            dirty: false,
            is_lost,
        }
    }

    /// Takes in what is seen: forgets what is listed again, starts the grace of what the control
    /// plane knows of, and believes another epoch if an override names it.
    pub(super) fn look(&mut self, now: Moment, seen: &Seen<'_>) {
        let Some(manifest) = signed(seen.manifest) else {
            return;
        };
        let both = self.both(now);
        if std::mem::take(&mut self.is_lost) {
            self.count(both, seen.held);
        }
        if self.record.epoch.is_none() || permits(seen.permit, manifest) {
            self.dirty |= self.record.epoch != Some(manifest.epoch);
            self.record.epoch = Some(manifest.epoch);
        }
        let surplus: BTreeSet<Digest> = seen.surplus.iter().map(|(digest, _)| *digest).collect();
        for batch in &mut self.record.batches {
            let before = batch.objects.len();
            batch.objects.retain(|(digest, _)| surplus.contains(digest));
            self.dirty |= batch.objects.len() < before;
            let told = seen.acknowledged.is_some_and(|told| told >= batch.position);
            if told && batch.acknowledged.is_none() {
                batch.acknowledged = Some(both);
                self.dirty = true;
            }
        }
        self.record
            .batches
            .retain(|batch| !batch.objects.is_empty());
        self.record
            .spent
            .retain(|spent| !spent.at.is_past(both, DAY_S));
        self.record
            .overrides
            .retain(|used| used.expires > both.wall);
    }

    /// What may be deleted at this moment, the longest announced first.
    pub(super) fn due(&self, now: Moment, seen: &Seen<'_>) -> Vec<Digest> {
        let Some(manifest) = signed(seen.manifest) else {
            return Vec::new();
        };
        let both = self.both(now);
        let mut left = self.pace_left(manifest, seen.held);
        left = left.saturating_add(self.permit_left(manifest, seen.permit));
        let ripe = self.record.batches.iter().filter(|batch| {
            let since = batch.acknowledged;
            since.is_some_and(|since| since.is_past(both, self.grace_s))
        });
        let mut due = Vec::new();
        for (digest, length) in ripe.flat_map(|batch| &batch.objects) {
            if *length <= left && due.len() < BATCH_MAX {
                left -= length;
                due.push(*digest);
            }
        }
        due
    }

    /// Said to whoever looks from here on; what is too much is announced when there is room.
    pub(super) fn announce(&mut self, now: Moment, position: Position, objects: &[(Digest, u64)]) {
        let (leaving, _) = self.leaving();
        let room = LEAVING_MAX.saturating_sub(usize::try_from(leaving).unwrap_or(LEAVING_MAX));
        let objects = &objects[..objects.len().min(room)];
        if objects.is_empty() {
            return;
        }
        self.record.batches.push(Batch {
            position,
            announced: self.both(now),
            acknowledged: None,
            objects: objects.to_vec(),
        });
        self.dirty = true;
    }

    /// Counts a deletion, before it happens: a crash in between counts as done.
    pub(super) fn spend(&mut self, now: Moment, seen: &Seen<'_>, digests: &[Digest]) {
        let Some(manifest) = signed(seen.manifest).filter(|_| !digests.is_empty()) else {
            return;
        };
        let lengths: BTreeMap<Digest, u64> = seen.surplus.iter().copied().collect();
        let bytes = digests
            .iter()
            .filter_map(|digest| lengths.get(digest))
            .sum();
        let own = self.pace_left(manifest, seen.held).min(bytes);
        let at = self.both(now);
        self.count(at, own);
        if let Some(permit) = seen.permit.filter(|_| bytes > own) {
            self.use_permit(permit, bytes - own);
        }
    }

    fn count(&mut self, at: Both, bytes: u64) {
        match self.record.spent.last_mut() {
            // An entry that each deletion kept young would never leave.
            Some(last) if !last.since.is_past(at, SPENT_STEP_S) => {
                last.at = at;
                last.bytes = last.bytes.saturating_add(bytes);
            }
            Some(_) | None => self.record.spent.push(Spent {
                since: at,
                at,
                bytes,
            }),
        }
        self.dirty = true;
    }

    /// The announced objects and their bytes.
    pub(super) fn leaving(&self) -> (u64, u64) {
        let objects = self.record.batches.iter().flat_map(|batch| &batch.objects);
        objects.fold((0, 0), |(count, bytes), (_, length)| {
            (count + 1, bytes + length)
        })
    }

    pub(super) fn announced(&self) -> BTreeSet<Digest> {
        let objects = self.record.batches.iter().flat_map(|batch| &batch.objects);
        objects.map(|(digest, _)| *digest).collect()
    }

    /// Is there something that a restart must not forget?
    pub(super) fn is_dirty(&self, now: Moment) -> bool {
        /// What a restart may add to a grace.
        const UPTIME_LOST_MAX: Duration = Duration::from_secs(300);
        let old = now.boot.saturating_since(self.since) >= UPTIME_LOST_MAX;
        self.dirty || (old && !(self.record.batches.is_empty() && self.record.spent.is_empty()))
    }

    /// The durable form of this moment. [`Deletion::kept`] says that it is durable.
    pub(super) fn seal(&mut self, now: Moment) -> Vec<u8> {
        self.record.uptime_s = self.both(now).uptime;
        self.since = now.boot;
        self.record.sequence += 1;
        self.dirty = true;
        seal(&serde_json::to_vec(&self.record).unwrap_or_default())
    }

    pub(super) fn kept(&mut self) {
        self.dirty = false;
    }

    fn both(&self, now: Moment) -> Both {
        let elapsed = now.boot.saturating_since(self.since).as_secs();
        Both {
            wall: clock::unix_seconds(now.wall),
            uptime: self.record.uptime_s.saturating_add(elapsed),
        }
    }

    /// Bytes that the box's own pace leaves: a share of what it held a day ago.
    fn pace_left(&self, manifest: Position, held: u64) -> u64 {
        if self.record.epoch != Some(manifest.epoch) {
            return 0;
        }
        let recent: u64 = self.record.spent.iter().map(|spent| spent.bytes).sum();
        let base = u128::from(held) + u128::from(recent);
        let pace = base * u128::from(self.share_percent) / 100;
        u64::try_from(pace)
            .unwrap_or(u64::MAX)
            .saturating_sub(recent)
    }

    fn permit_left(&self, manifest: Position, permit: Option<&DeletionOverride>) -> u64 {
        let Some(permit) = permit.filter(|permit| permits(Some(permit), manifest)) else {
            return 0;
        };
        let name = name_of(permit);
        let used = self.record.overrides.iter().find(|used| used.name == name);
        match used {
            Some(used) => permit.bytes.saturating_sub(used.bytes),
            // Its use could not be remembered, so it permits nothing.
            None if self.record.overrides.len() >= OVERRIDES_MAX => 0,
            None => permit.bytes,
        }
    }

    fn use_permit(&mut self, permit: &DeletionOverride, bytes: u64) {
        let name = name_of(permit);
        match self
            .record
            .overrides
            .iter_mut()
            .find(|used| used.name == name)
        {
            Some(used) => used.bytes = used.bytes.saturating_add(bytes),
            None => self.record.overrides.push(Used {
                name,
                expires: permit.expires,
                bytes,
            }),
        }
    }
}

/// Epoch 0 is the box's own manifest, which nobody signed: it deletes nothing.
fn signed(manifest: Option<Position>) -> Option<Position> {
    manifest.filter(|position| position.epoch > 0)
}

fn permits(permit: Option<&DeletionOverride>, manifest: Position) -> bool {
    permit.is_some_and(|permit| {
        permit.position.epoch == manifest.epoch && manifest >= permit.position
    })
}

fn name_of(permit: &DeletionOverride) -> Digest {
    // One permission has one text, whoever copies it in whichever letters.
    Digest::of(permit.signed_text().as_bytes())
}

/// A body with its checksum in front.
pub(super) fn seal(body: &[u8]) -> Vec<u8> {
    let mut sealed = Digest::of(body).0.to_vec();
    sealed.extend_from_slice(body);
    sealed
}

/// The body, if it is whole.
pub(super) fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (sum, body) = sealed.split_first_chunk::<32>()?;
    (body.len() <= RECORD_BYTES_MAX && Digest::of(body).0 == *sum).then_some(body)
}

#[cfg(test)]
mod tests;
