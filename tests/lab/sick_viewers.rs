//! Viewers of a box whose disks fail: what those of the sound disk wait, and that the others get
//! right bytes or an honest end.
//!
//! I/O: blocking sockets, a thread for each viewer.

use crate::harness::Box;
use oca::clock;
use oca::object::Digest;
use oca::sys::page_cache;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

/// A box that answers nothing for so long has failed its viewer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Viewers of the sound disk, of each kind, and of each sick one.
const SOUND_VIEWERS: usize = 2;
const SICK_VIEWERS: usize = 12;

/// Objects that are asked for again and again.
const HOT: usize = 8;

const PAUSE: Duration = Duration::from_millis(4);

/// Viewers of sick disks load the box as much before as during the faults.
const SICK_PAUSE: Duration = Duration::from_millis(150);

/// A viewer of a sick disk who was refused comes back: a player's own retry.
const RETRY: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Hot,
    Cold,
    Sick,
    /// Of the disk that will hang; in memory.
    Held,
    /// No viewer: reads files of the sound disk past the box, as cold ones are read. What it waits,
    /// the machine and its disk take from everybody.
    Direct,
}

/// From its hang on until the box knows that a disk may hang, and nothing waits for what leaves
/// memory: a question, a look after it, and a busy machine.
const KNOWN_AFTER: Duration = Duration::from_secs(1);

/// Between two objects that the kernel is made to forget.
const SQUEEZE_EVERY: Duration = Duration::from_millis(80);

/// Objects of the hanging disk that are asked for all the time and are forgotten so, their viewers,
/// and what these pause: each object is asked for within the time that the box trusts its pages.
const HELD: usize = 16;
const HELD_VIEWERS: usize = 6;
const HELD_PAUSE: Duration = Duration::from_millis(8);

/// What all viewers share.
#[derive(Debug)]
pub(crate) struct Stage {
    address: SocketAddr,
    /// Keys of the sound disk, with their files; of the sick ones.
    sound: Vec<(String, PathBuf)>,
    sick: Vec<String>,
    held: Vec<String>,
    next_sick: AtomicUsize,
    pub is_faulty: AtomicBool,
    pub stop: AtomicBool,
    pub wrongs: Mutex<Vec<String>>,
    times: Mutex<BTreeMap<(Kind, bool), Vec<Duration>>>,
    refused: AtomicU64,
    cut: AtomicU64,
    whole: AtomicU64,
}

/// How long requests took, by kind, and whether disks were sick.
#[derive(Debug)]
pub(crate) struct Times(BTreeMap<(Kind, bool), Vec<Duration>>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub count: usize,
    pub median: Duration,
    pub p99: Duration,
    pub worst: Duration,
}

enum End {
    Whole,
    Refused,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let (median, p99, worst) = (ms(self.median), ms(self.p99), ms(self.worst));
        let count = self.count;
        write!(
            f,
            "{median:.2} ms median, {p99:.2} ms p99, {worst:.2} ms worst of {count}"
        )
    }
}

impl Times {
    pub(crate) fn before(&self, kind: Kind) -> Spread {
        self.spread(kind, false)
    }

    pub(crate) fn during(&self, kind: Kind) -> Spread {
        self.spread(kind, true)
    }

    fn spread(&self, kind: Kind, is_faulty: bool) -> Spread {
        let mut all = self.0.get(&(kind, is_faulty)).cloned().unwrap_or_default();
        all.sort_unstable();
        let at = |hundredths: usize| {
            let at = all.len() * hundredths / 100;
            all.get(at.min(all.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        Spread {
            count: all.len(),
            median: at(50),
            p99: at(99),
            worst: at(100),
        }
    }
}

impl Kind {
    /// May be refused and cut.
    fn is_sick(self) -> bool {
        matches!(self, Self::Sick | Self::Held)
    }
}

impl Stage {
    /// `place`: where the sound disk is mounted, or its directory.
    pub(crate) fn new(it: &Box, place: &Path, keys: &BTreeMap<usize, Vec<String>>) -> Self {
        let digests: BTreeMap<String, String> = it.held().into_iter().collect();
        let file = |key: &String| (key.clone(), place.join(path(&digests[key])));
        let sick: Vec<String> = { keys.iter() }
            .filter(|(disk, _)| **disk != 0)
            .flat_map(|(_, keys)| keys.clone())
            .collect();
        Self {
            held: Vec::new(),
            address: SocketAddr::new(it.host.address.into(), it.plain),
            sound: keys[&0].iter().map(file).collect(),
            sick,
            next_sick: AtomicUsize::new(0),
            is_faulty: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wrongs: Mutex::default(),
            times: Mutex::default(),
            refused: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            whole: AtomicU64::new(0),
        }
    }

    /// Names the objects of the disk that will hang.
    pub(crate) fn hold(mut self, keys: &[String]) -> Self {
        let watched = &self.sick[..self.sick.len() / 2];
        let held = keys.iter().filter(|key| watched.contains(key));
        self.held = held.take(HELD).cloned().collect();
        self
    }

    /// What was measured before everybody had begun says nothing.
    pub(crate) fn forget_times(&self) {
        self.times.lock().unwrap().clear();
    }

    pub(crate) fn times(&self) -> Times {
        Times(self.times.lock().unwrap().clone())
    }

    pub(crate) fn told(&self) -> String {
        format!(
            "viewers of sick disks: {} whole, {} refused, {} cut",
            self.whole.load(Relaxed),
            self.refused.load(Relaxed),
            self.cut.load(Relaxed)
        )
    }

    fn wrong(&self, what: String) {
        let mut wrongs = self.wrongs.lock().unwrap();
        if wrongs.len() < 20 {
            wrongs.push(what);
        }
    }

    /// One viewer, until [`Stage::stop`].
    pub(crate) fn view(&self, kind: Kind, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut stream = None;
        while !self.stop.load(Relaxed) {
            let key = self.choose(kind, &mut random);
            let is_faulty = self.is_faulty.load(Relaxed);
            let begun = clock::now();
            let end = match kind {
                Kind::Direct => self.read_directly(&key),
                Kind::Hot | Kind::Cold | Kind::Sick | Kind::Held => {
                    self.exchange(&mut stream, &key)
                }
            };
            match end {
                Ok(End::Whole) => {
                    let took = clock::now() - begun;
                    if kind.is_sick() {
                        self.whole.fetch_add(1, Relaxed);
                    }
                    let mut times = self.times.lock().unwrap();
                    times.entry((kind, is_faulty)).or_default().push(took);
                    drop(times);
                    clock::block_for(match kind {
                        Kind::Hot | Kind::Cold | Kind::Direct => PAUSE,
                        Kind::Sick => SICK_PAUSE,
                        Kind::Held => HELD_PAUSE,
                    });
                }
                Ok(End::Refused) if kind.is_sick() => {
                    self.refused.fetch_add(1, Relaxed);
                    clock::block_for(RETRY);
                }
                Err(_) if kind.is_sick() && self.is_faulty.load(Relaxed) => {
                    self.cut.fetch_add(1, Relaxed);
                    stream = None;
                    clock::block_for(RETRY);
                }
                Ok(End::Refused) => self.wrong(format!("{kind:?} {key}: refused")),
                Err(error) => {
                    stream = None;
                    self.wrong(format!("{kind:?} {key}: {error}"));
                }
            }
        }
    }

    fn choose(&self, kind: Kind, random: &mut fastrand::Rng) -> String {
        match kind {
            Kind::Hot => self.sound[random.usize(..HOT)].0.clone(),
            Kind::Cold | Kind::Direct => {
                // Each its own: one would bring into memory what the other wants from the disk.
                let its = match kind == Kind::Direct {
                    true => HOT..2 * HOT,
                    false => 2 * HOT..self.sound.len(),
                };
                let (key, file) = &self.sound[random.usize(its)];
                let file = File::open(file).unwrap();
                page_cache::drop_cached(&file, 0, 0).unwrap();
                key.clone()
            }
            Kind::Held => self.held[random.usize(..self.held.len())].clone(),
            // Each once before any comes again, half of them only after the fault: what is in
            // memory needs no disk.
            Kind::Sick => {
                let count = match self.is_faulty.load(Relaxed) {
                    true => self.sick.len(),
                    false => self.sick.len() / 2,
                };
                let next = self.next_sick.fetch_add(1, Relaxed);
                // Stepping by an odd number visits every disk.
                self.sick[next * 7 % count].clone()
            }
        }
    }

    fn read_directly(&self, key: &str) -> io::Result<End> {
        let mut files = self.sound.iter();
        let (_, file) = files.find(|(known, _)| known == key).unwrap();
        std::fs::read(file).map(|_| End::Whole)
    }

    /// One request; the connection is kept.
    fn exchange(&self, kept: &mut Option<TcpStream>, key: &str) -> io::Result<End> {
        let stream = match kept {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                kept.insert(stream)
            }
        };
        let head = format!("GET /{key} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut bytes = Vec::new();
        let mut piece = vec![0; 64 << 10];
        let (mut end, mut length, mut is_last) = (None, 0, false);
        while end.is_none_or(|end| bytes.len() < end + length) {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&piece[..count]);
            if end.is_none()
                && let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
            {
                end = Some(at + 4);
                let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
                let told = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                length = told.and_then(|told| told.parse().ok()).unwrap_or(0);
                is_last = head.contains("connection: close");
            }
        }
        if is_last {
            *kept = None;
        }
        let body = &bytes[end.unwrap_or(0)..];
        match bytes.get(9..12) {
            Some(b"200") => {
                // Its name stands at its beginning, the rest is zeros.
                let is_right = body
                    .windows(key.len())
                    .take(200)
                    .any(|at| at == key.as_bytes())
                    && body[1000..].iter().all(|byte| *byte == 0);
                if !is_right {
                    self.wrong(format!("{key}: wrong bytes"));
                }
                Ok(End::Whole)
            }
            Some(b"503") => Ok(End::Refused),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }
}

/// Of an object on its disk.
fn path(digest: &str) -> PathBuf {
    let hex = digest.parse::<Digest>().unwrap().to_string();
    format!("objects/{}/{}/{hex}", &hex[..2], &hex[2..4]).into()
}

/// Of the objects in memory, open: while their disk hangs, no name of it is looked up.
pub(crate) fn open_held(stage: &Stage, it: &Box, place: &Path) -> Vec<File> {
    let digests: BTreeMap<String, String> = it.held().into_iter().collect();
    let open = |key: &String| File::open(place.join(path(&digests[key]))).unwrap();
    stage.held.iter().map(open).collect()
}

/// The kernel takes memory back, also what was read a moment ago; until [`Stage::stop`].
pub(crate) fn squeeze(stage: &Arc<Stage>, files: Vec<File>) -> JoinHandle<()> {
    let stage = Arc::clone(stage);
    std::thread::spawn(move || {
        clock::block_for(KNOWN_AFTER);
        for file in files.iter().cycle() {
            if stage.stop.load(Relaxed) {
                return;
            }
            page_cache::drop_cached(file, 0, 0).unwrap();
            clock::block_for(SQUEEZE_EVERY);
        }
    })
}

/// Everybody begins; they end with [`Stage::stop`].
pub(crate) fn start(stage: &Arc<Stage>) -> Vec<JoinHandle<()>> {
    let each = [
        (Kind::Hot, SOUND_VIEWERS),
        (Kind::Cold, SOUND_VIEWERS),
        (Kind::Direct, 1),
        (Kind::Sick, 3 * SICK_VIEWERS),
        (Kind::Held, HELD_VIEWERS.min(stage.held.len())),
    ];
    let kinds = each
        .iter()
        .flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
    (0_u64..)
        .zip(kinds)
        .map(|(seed, kind)| {
            let stage = Arc::clone(stage);
            std::thread::spawn(move || stage.view(kind, seed))
        })
        .collect()
}
