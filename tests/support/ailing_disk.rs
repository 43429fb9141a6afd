//! A disk that falls ill on purpose: ext4 on a loop device on a file of a FUSE file system of ours.
//!
//! This kernel may have no device-mapper, and `fsfreeze` stops writes alone. Here each read, write
//! and flush of the block device is a request to a thread of this process, which answers, keeps
//! silent ([`AilingDisk::hang`]), answers with EIO for ever ([`AilingDisk::pull`]) or for some
//! blocks ([`AilingDisk::spoil`]). The cable put back ([`AilingDisk::put_back`]) is another device
//! with the same bytes, mounted at the same place, as a real one would be.
//!
//! Used by `#[path = "../support/ailing_disk.rs"] mod ailing_disk;`. Needs root and `/dev/fuse`;
//! what is missing is a failure that says so. The process itself must not touch a disk that hangs.
//!
//! I/O: a FUSE server of a few threads, loop devices, mounts; dropping a disk removes all but the
//! image.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "support code of tests is a test"
)]

use super::loop_disk::run;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::time::Duration;

/// `FUSE_MIN_READ_BUFFER` and the largest write with its head.
const REQUEST_BYTES: usize = 512 << 10;
const TRANSFER_BYTES: u32 = 128 << 10;

const HEAD_BYTES: usize = 40;

/// Of a small ext4.
const BLOCK_BYTES: usize = 1024;

/// A request that hangs keeps its thread; the kernel asks no more than so many at a time.
const THREADS: usize = 8;

/// The directory; behind it the devices, one for each time the cable was put in.
const ROOT: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Silent,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    /// Node of the device that is connected; those before it are gone.
    connected: u64,
    /// Blocks of the medium that cannot be read.
    spoilt: Vec<u64>,
}

#[derive(Debug)]
struct Server {
    channel: File,
    image: File,
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// A mounted disk that does as it is told.
#[derive(Debug)]
pub(crate) struct AilingDisk {
    server: Arc<Server>,
    fuse: PathBuf,
    place: PathBuf,
    devices: Vec<PathBuf>,
}

/// `errno` instead of an answer.
type Answer = Result<Vec<u8>, i32>;

impl AilingDisk {
    /// Makes the file `image`, and mounts what is in it at the directory `place`.
    pub(crate) fn mount(image: &Path, place: &Path, megabytes: u64) -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(image)
            .unwrap();
        let bytes = megabytes << 20;
        file.set_len(bytes).unwrap();
        // With a journal: what comes back after a pull is as after a power cut.
        run("mkfs.ext4", &["-q", "-F", text(image)]);
        let fuse = image.with_extension("fuse");
        std::fs::create_dir_all(&fuse).unwrap();
        let channel = File::options().read(true).write(true).open("/dev/fuse");
        let channel = channel.unwrap_or_else(|error| {
            panic!("/dev/fuse: {error}; this test needs root and a kernel with CONFIG_FUSE_FS")
        });
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other,max_read=131072";
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", options, "ailing", text(&fuse)])
            .stdin(Stdio::from(channel.try_clone().unwrap()))
            .status()
            .unwrap();
        assert!(mounted.success(), "mount -t fuse: {mounted}");
        let server = Arc::new(Server {
            channel,
            image: file,
            bytes,
            state: Mutex::new(State {
                mood: Mood::Well,
                connected: ROOT,
                spoilt: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        for _ in 0..THREADS {
            let server = Arc::clone(&server);
            std::thread::spawn(move || server.run());
        }
        let mut disk = Self {
            server,
            fuse,
            place: place.to_owned(),
            devices: Vec::new(),
        };
        disk.connect();
        disk
    }

    /// Directories are not in memory either, once the kernel has dropped its names.
    pub(crate) fn forget_names(&self) {
        for device in &self.devices {
            run("blockdev", &["--flushbufs", text(device)]);
        }
    }

    /// No request is answered from here on, until [`AilingDisk::recover`].
    pub(crate) fn hang(&self) {
        self.server.become_of(|state| state.mood = Mood::Silent);
    }

    /// What was asked meanwhile is answered.
    pub(crate) fn recover(&self) {
        self.server.become_of(|state| state.mood = Mood::Well);
    }

    /// Every block of the medium that has these bytes cannot be read any more.
    pub(crate) fn spoil(&self, needle: &[u8]) {
        let mut image = vec![0; usize::try_from(self.server.bytes).unwrap()];
        self.server.image.read_exact_at(&mut image, 0).unwrap();
        let blocks = image.chunks(BLOCK_BYTES).zip(0..);
        let has = |block: &[u8]| block.windows(needle.len()).any(|bytes| bytes == needle);
        let found = blocks.filter(|(block, _)| has(block));
        let found: Vec<u64> = found.map(|(_, number)| number).collect();
        assert!(!found.is_empty(), "it is not on the medium");
        self.server.become_of(|state| state.spoilt = found);
    }

    /// They can be read again.
    pub(crate) fn heal(&self) {
        self.server.become_of(|state| state.spoilt.clear());
    }

    /// As a file system does that found an error.
    pub(crate) fn turn_read_only(&self) {
        run("mount", &["-o", "remount,ro", text(&self.place)]);
    }

    /// The device is gone for good: every request is an error.
    pub(crate) fn pull(&self) {
        self.server.become_of(|state| state.connected += 1);
    }

    /// The disk is back under another name, and mounted again.
    pub(crate) fn put_back(&mut self) {
        // Whoever has files of it open goes on having them.
        run("umount", &["--lazy", text(&self.place)]);
        self.connect();
    }

    /// Unmounted when nobody uses it any more, and mounted again: nothing of it is in memory, and
    /// its journal is not needed.
    pub(crate) fn mount_again(&mut self) {
        let is_unmounted = |_| {
            let output = Command::new("umount").arg(&self.place).output().unwrap();
            // Threads of a store that was stopped may have it open for a moment.
            oca::clock::block_for(Duration::from_millis(10));
            output.status.success()
        };
        assert!((0..1_000).any(is_unmounted), "it is in use");
        self.connect();
    }

    fn connect(&mut self) {
        let node = self.devices.len() as u64 + ROOT + 1;
        self.server.become_of(|state| state.connected = node);
        let file = self.fuse.join(node.to_string());
        let device = run("losetup", &["--find", "--show", text(&file)]);
        // First, so that it is given back where it cannot be mounted.
        self.devices.push(device.clone().into());
        // A flush of this disk need not wait for the machine's: no test here cuts the power.
        run("mount", &["-o", "barrier=0", &device, text(&self.place)]);
    }
}

impl Drop for AilingDisk {
    fn drop(&mut self) {
        self.recover();
        let quietly = |program: &str, arguments: &[&str]| {
            let _ = Command::new(program).args(arguments).output();
        };
        // Lazily: a test that failed may have left it in use.
        quietly("umount", &["--lazy", text(&self.place)]);
        for device in &self.devices {
            quietly("losetup", &["--detach", text(device)]);
        }
        quietly("umount", &["--lazy", text(&self.fuse)]);
    }
}

impl Server {
    fn become_of(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Until the file system is unmounted.
    fn run(&self) {
        let mut request = vec![0; REQUEST_BYTES];
        loop {
            let length = match (&self.channel).read(&mut request) {
                Ok(length) if length >= HEAD_BYTES => length,
                // ENOENT: the request was interrupted before anybody read it.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => return,
            };
            let unique = number(&request, 8);
            let Some(answer) = self.answer(&request[..length]) else {
                continue;
            };
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(errno) => (-errno, Vec::new()),
            };
            let length = u32::try_from(16 + body.len()).unwrap();
            let mut reply = Vec::with_capacity(16 + body.len());
            reply.extend_from_slice(&length.to_ne_bytes());
            reply.extend_from_slice(&error.to_ne_bytes());
            reply.extend_from_slice(&unique.to_ne_bytes());
            reply.extend_from_slice(&body);
            // Whoever asked may have been killed meanwhile.
            let _ = (&self.channel).write(&reply);
        }
    }

    /// `include/uapi/linux/fuse.h`. `None`: no answer is expected.
    fn answer(&self, request: &[u8]) -> Option<Answer> {
        let (node, body) = (number(request, 16), &request[HEAD_BYTES..]);
        Some(match short(request, 4) {
            // LOOKUP
            1 => Ok(self.entry(body)),
            // FORGET, INTERRUPT, BATCH_FORGET
            2 | 36 | 42 => return None,
            // GETATTR, SETATTR
            3 | 4 => Ok(words(&[1, 0], &[])
                .into_iter()
                .chain(self.attributes(node))
                .collect()),
            // OPEN: every read and write comes here (FOPEN_DIRECT_IO).
            14 => Ok(words(&[0], &[1, 0])),
            // READ
            15 => self.allowed(node).and_then(|()| {
                let mut piece = vec![0; short(body, 16) as usize];
                let offset = number(body, 8);
                if self.is_spoilt(offset, piece.len() as u64) {
                    return Err(libc::EIO);
                }
                let read = self.image.read_at(&mut piece, offset);
                read.map_err(|_| libc::EIO)
                    .map(|length| piece[..length].to_vec())
            }),
            // WRITE
            16 => self.allowed(node).and_then(|()| {
                let length = short(body, 16);
                let data = &body[40..40 + length as usize];
                let written = self.image.write_all_at(data, number(body, 8));
                written
                    .map_err(|_| libc::EIO)
                    .map(|()| words(&[], &[length, 0]))
            }),
            // STATFS
            17 => Ok(words(
                &[1 << 20, 1 << 20, 1 << 20, 16, 16],
                &[4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0],
            )),
            // FSYNC
            20 => self.allowed(node).map(|()| Vec::new()),
            // RELEASE, FLUSH, OPENDIR's end, ACCESS
            18 | 25 | 29 | 34 => Ok(Vec::new()),
            // INIT: ASYNC_READ, BIG_WRITES, ASYNC_DIO and MAX_PAGES of version 7.31.
            26 => {
                let flags = 1 | 1 << 5 | 1 << 15 | 1 << 22;
                let halves = [16_u16, 12].map(u16::to_ne_bytes).concat();
                let mut reply = words(&[], &[7, 31, TRANSFER_BYTES, flags]);
                reply.extend_from_slice(&halves);
                reply.extend_from_slice(&words(&[], &[TRANSFER_BYTES, 1]));
                reply.extend_from_slice(&[32_u16, 0].map(u16::to_ne_bytes).concat());
                reply.extend_from_slice(&words(&[], &[0; 8]));
                Ok(reply)
            }
            _ => Err(libc::ENOSYS),
        })
    }

    fn is_spoilt(&self, offset: u64, length: u64) -> bool {
        let blocks = offset / BLOCK_BYTES as u64..(offset + length).div_ceil(BLOCK_BYTES as u64);
        let state = self.state.lock().unwrap();
        state.spoilt.iter().any(|number| blocks.contains(number))
    }

    /// Waits while the disk hangs.
    fn allowed(&self, node: u64) -> Result<(), i32> {
        let state = self.state.lock().unwrap();
        let gone = |state: &State| node != state.connected;
        let state = self
            .changed
            .wait_while(state, |state| state.mood == Mood::Silent && !gone(state))
            .unwrap();
        if gone(&state) { Err(libc::EIO) } else { Ok(()) }
    }

    /// Any name that is a number is a device.
    fn entry(&self, name: &[u8]) -> Vec<u8> {
        let name = std::str::from_utf8(name).unwrap_or_default();
        let node = name.trim_end_matches('\0').parse().unwrap_or(ROOT);
        let mut entry = words(&[node, 0, 1, 1], &[0, 0]);
        entry.extend(self.attributes(node));
        entry
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let (mode, size) = match node {
            ROOT => (libc::S_IFDIR | 0o700, 0),
            _ => (libc::S_IFREG | 0o600, self.bytes),
        };
        words(
            &[node, size, size / 512, 0, 0, 0],
            &[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0],
        )
    }
}

fn words(long: &[u64], short: &[u32]) -> Vec<u8> {
    let long = long.iter().flat_map(|word| word.to_ne_bytes());
    long.chain(short.iter().flat_map(|word| word.to_ne_bytes()))
        .collect()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn short(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
