//! The ledger's book as bytes, and where it is kept: checksummed; of all copies the highest serial
//! wins, and copies of one serial are merged by their maximum.
//!
//! [`super::pace`] loads it once and keeps it before a reservation is used. A copy that is damaged,
//! or of a version that is not known here, is none; before the first write it gets a name of its
//! own, so that the release that wrote it can still be asked. What a box received under a later
//! release is not known, and counts as all that it may.
//!
//! I/O: [`ContentKeeper`] waits for the disks.

use super::Content;
use super::ledger::Account;
use super::ledger::Book;
use super::ledger::SLOTS_MAX;
use super::nights::NIGHTS_MAX;
use super::nights::Nights;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Its name in the store's small state.
const NAME: &str = "ledger";

/// Text, version and what follows: the BLAKE3 digest of the rest.
const MAGIC: &[u8] = b"oca fill ledger 1\n";

/// What every version begins with, and the one that is written.
const KIND: &[u8] = b"oca fill ledger ";
const VERSION: u64 = 1;

/// Of a version's number: more is no number of ours.
const DIGITS_MAX: usize = 10;

/// Two accounts full of slots and a quarter of nights are less than half of it.
const BYTES_MAX: usize = 1 << 20;

/// No real sum of a day comes near: a sum of such numbers fits its type.
const COUNT_MAX: u64 = 1 << 48;

/// Where the ledger is durable.
pub trait KeepLedger: Send + Sync + Debug {
    /// Durable on return. Blocks. `Err`: in words.
    fn keep(&self, book: &Book) -> Result<(), String>;

    /// What was kept last.
    fn kept(&self) -> Option<Book>;

    /// Keeping takes no time, and may be done where nothing may block.
    fn is_instant(&self) -> bool {
        false
    }
}

/// Name and bytes of a copy that cannot be read here.
type Foreign = (String, Vec<u8>);

/// In the store's small state, beside the manifest. Clones share it.
#[derive(Clone, Debug)]
pub struct ContentKeeper {
    content: Arc<dyn Content>,
    /// Until they are kept aside.
    aside: Arc<Mutex<Vec<Foreign>>>,
}

/// For worlds, whose disks are memory too. Clones share it: it outlives a simulated crash.
#[derive(Clone, Debug, Default)]
pub struct MemoryKeeper(Arc<Mutex<Option<Book>>>);

impl ContentKeeper {
    pub fn new(content: Arc<dyn Content>) -> Self {
        let aside = Arc::default();
        Self { content, aside }
    }

    /// What is not to be lost, before its place is written.
    fn put_aside(&self) -> Result<(), String> {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((name, bytes)) = aside.last() {
            let kept = self.content.keep(name, bytes);
            kept.map_err(|error| format!("the ledger there cannot be kept as {name}: {error}"))?;
            tracing::warn!("the fill ledger there cannot be read here and is kept as {name}");
            aside.pop();
        }
        Ok(())
    }
}

impl KeepLedger for ContentKeeper {
    fn keep(&self, book: &Book) -> Result<(), String> {
        self.put_aside()?;
        let kept = self.content.keep(NAME, &encode(book));
        kept.map_err(|error| error.to_string())
    }

    fn kept(&self) -> Option<Book> {
        let copies = self.content.kept(NAME);
        let book = merge(copies.iter().filter_map(|bytes| decode(bytes)));
        *self.aside.lock().unwrap_or_else(PoisonError::into_inner) =
            unread(&copies, book.is_some());
        // The copy that was written last is the first.
        let is_later = copies.first().is_some_and(|bytes| is_other(bytes));
        if is_later || (book.is_none() && !copies.is_empty()) {
            let why = match is_later {
                true => "the fill ledger was written by another release",
                false => "no copy of the fill ledger can be read",
            };
            tracing::warn!("{why}: everything counts as spent for 24 h");
            let last = book.unwrap_or_default();
            return Some(Book {
                // Above every copy that is left somewhere.
                serial: last.serial,
                nights: last.nights,
                ..Book::spent()
            });
        }
        book
    }
}

impl KeepLedger for MemoryKeeper {
    fn keep(&self, book: &Book) -> Result<(), String> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(book.clone());
        Ok(())
    }

    fn kept(&self) -> Option<Book> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_instant(&self) -> bool {
        true
    }
}

/// The version that a copy claims.
fn version(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(KIND)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = rest.get(..digits.min(DIGITS_MAX))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn is_other(bytes: &[u8]) -> bool {
    version(bytes).is_some_and(|version| version != VERSION)
}

/// Copies that this release cannot read and that are worth keeping, with their names: the last one
/// of each other version, and a damaged one if there is none that is whole.
fn unread(copies: &[Vec<u8>], has_whole: bool) -> Vec<(String, Vec<u8>)> {
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for bytes in copies {
        let name = match version(bytes).filter(|version| *version != VERSION) {
            Some(version) => format!("{NAME}-v{version}"),
            None if has_whole => continue,
            None => format!("{NAME}-damaged"),
        };
        found.entry(name).or_insert_with(|| bytes.clone());
    }
    found.into_iter().collect()
}

fn merge(copies: impl Iterator<Item = Book>) -> Option<Book> {
    copies.reduce(|one, other| match one.serial.cmp(&other.serial) {
        std::cmp::Ordering::Less => other,
        std::cmp::Ordering::Greater => one,
        std::cmp::Ordering::Equal => maximum(one, &other),
    })
}

/// Two histories under one serial: what either counts is counted, the slower clock holds.
fn maximum(one: Book, other: &Book) -> Book {
    Book {
        serial: one.serial,
        time_ms: one.time_ms.min(other.time_ms),
        wall_ms: one.wall_ms.max(other.wall_ms),
        boot_ms: one.boot_ms.max(other.boot_ms),
        night: account_maximum(&one.night, &other.night),
        urgent: account_maximum(&one.urgent, &other.urgent),
        nights: one.nights,
    }
}

fn account_maximum(one: &Account, other: &Account) -> Account {
    let mut slots: BTreeMap<u64, u64> = one.slots().iter().copied().collect();
    for (slot, bytes) in other.slots() {
        let most = slots.entry(*slot).or_default();
        *most = (*most).max(*bytes);
    }
    Account::new(
        one.reserved.max(other.reserved),
        slots.into_iter().collect(),
    )
}

/// Everything after the digest: numbers of eight bytes, little end first; then the nights in JSON.
fn encode(book: &Book) -> Vec<u8> {
    let mut body = Vec::with_capacity(4096);
    let mut put = |number: u64| body.extend_from_slice(&number.to_le_bytes());
    for number in [book.serial, book.time_ms, book.wall_ms, book.boot_ms] {
        put(number);
    }
    for account in [&book.night, &book.urgent] {
        put(account.reserved);
        put(account.slots().len() as u64);
        for (slot, bytes) in account.slots() {
            put(*slot);
            put(*bytes);
        }
    }
    body.extend(serde_json::to_vec(&book.nights).unwrap_or_default());
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(blake3::hash(&body).as_bytes());
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Book> {
    if bytes.len() > BYTES_MAX {
        return None;
    }
    let (digest, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if blake3::hash(body).as_bytes() != digest {
        return None;
    }
    let mut rest = body;
    let book = Book {
        serial: number(&mut rest)?,
        time_ms: number(&mut rest)?,
        wall_ms: number(&mut rest)?,
        boot_ms: number(&mut rest)?,
        night: account(&mut rest)?,
        urgent: account(&mut rest)?,
        nights: serde_json::from_slice::<Nights>(rest).ok()?,
    };
    (book.nights.len() <= NIGHTS_MAX).then_some(book)
}

fn account(rest: &mut &[u8]) -> Option<Account> {
    let reserved = number(rest)?;
    let count = usize::try_from(number(rest)?).ok()?;
    if count > SLOTS_MAX {
        return None;
    }
    let mut slots: VecDeque<(u64, u64)> = VecDeque::with_capacity(count);
    for _ in 0..count {
        let (slot, bytes) = (number(rest)?, number(rest)?);
        if slots.back().is_some_and(|(last, _)| *last >= slot) {
            return None;
        }
        slots.push_back((slot, bytes));
    }
    Some(Account::new(reserved, slots))
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (first, others) = rest.split_first_chunk::<8>()?;
    *rest = others;
    Some(u64::from_le_bytes(*first)).filter(|number| *number < COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::message::SourceKind;
    use jiff::civil::Date;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn slots() -> impl Strategy<Value = VecDeque<(u64, u64)>> {
        vec((1_u64..50, 0_u64..1 << 40), 0..40).prop_map(|steps| {
            let mut slot = 0;
            let add = |(step, bytes)| {
                slot += step;
                (slot, bytes)
            };
            steps.into_iter().map(add).collect()
        })
    }

    fn account() -> impl Strategy<Value = Account> {
        (0_u64..1 << 40, slots()).prop_map(|(reserved, slots)| Account::new(reserved, slots))
    }

    fn book() -> impl Strategy<Value = Book> {
        let clocks = (0_u64..1 << 40, 0_u64..1 << 40, 0_u64..1 << 40);
        let nights = vec((1_i16..28, 0_u64..1 << 50), 0..5);
        (0_u64..1 << 40, clocks, account(), account(), nights).prop_map(
            |(serial, clocks, night, urgent, nights)| {
                let mut book = Book {
                    serial,
                    time_ms: clocks.0,
                    wall_ms: clocks.1,
                    boot_ms: clocks.2,
                    night,
                    urgent,
                    nights: Nights::default(),
                };
                for (day, bytes) in nights {
                    let date = Date::constant(2026, 3, i8::try_from(day).unwrap());
                    book.nights.entry(date).bytes.add(SourceKind::Tier, bytes);
                }
                book
            },
        )
    }

    proptest! {
        #[test]
        fn a_book_is_read_as_it_was_written(book in book()) {
            prop_assert_eq!(decode(&encode(&book)), Some(book));
        }

        #[test]
        fn a_damaged_copy_is_none(book in book(), at in any::<usize>(), bit in 0_u8..8) {
            let mut bytes = encode(&book);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode(&bytes), None);
            bytes[at] ^= 1 << bit;
            bytes.truncate(at);
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300)) {
            let mut signed = MAGIC.to_vec();
            signed.extend_from_slice(blake3::hash(&bytes).as_bytes());
            signed.extend(&bytes);
            let _ = (decode(&bytes), decode(&signed));
        }

        #[test]
        fn copies_are_merged_by_serial_then_by_maximum(one in book(), mut other in book()) {
            let newest = one.serial.max(other.serial);
            let merged = merge([one.clone(), other.clone()].into_iter()).unwrap();
            prop_assert_eq!(merged.serial, newest);
            other.serial = one.serial;
            let merged = merge([one.clone(), other.clone()].into_iter()).unwrap();
            for copy in [&one, &other] {
                prop_assert!(merged.night.reserved >= copy.night.reserved);
                for (slot, bytes) in copy.night.slots() {
                    let mut kept = merged.night.slots().iter();
                    prop_assert!(kept.any(|(at, most)| at == slot && most >= bytes));
                }
            }
        }
    }

    #[test]
    fn a_full_ledger_fits_and_a_quarter_of_nights_is_kept() {
        let full: VecDeque<(u64, u64)> = (1..=8_641).map(|slot| (slot, 1 << 40)).collect();
        let mut book = Book {
            night: Account::new(0, full.clone()),
            urgent: Account::new(0, full),
            ..Book::default()
        };
        let mut date = Date::constant(2026, 1, 1);
        for _ in 0..120 {
            let night = book.nights.entry(date);
            night.done = u64::MAX;
            night.carried_over_bytes = u64::MAX;
            date = date.tomorrow().unwrap();
        }
        assert_eq!(book.nights.len(), NIGHTS_MAX);
        let oldest = book.nights.latest_first().last().unwrap().0;
        assert_eq!(oldest, Date::constant(2026, 1, 31));
        let bytes = encode(&book);
        assert!(bytes.len() < BYTES_MAX / 2, "{}", bytes.len());
        assert_eq!(decode(&bytes), Some(book));
    }
}
