//! Every system call of the box, as strace saw it, and what of a file it brought to user space.
//!
//! With `-y` a call shows the path behind each descriptor, so that whatever touches an object is
//! found, however and whenever it was opened. Calls that nobody thought of are failures.
//!
//! I/O: attaches strace to a process, ends it by process id.

use crate::stage::PATIENCE;
use crate::stage::until;
use crate::support::peer;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use oca::clock;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

/// What became of the bytes of objects, and what user space gave to sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Object to socket, inside the kernel.
    pub in_kernel: u64,
    /// Object to user space: read or mapped.
    pub to_user_space: u64,
    /// Single bytes of an object that were read: to bring their page, or to see whether it is
    /// there.
    pub probes: u64,
    /// User space to any socket.
    pub from_user_space: u64,
}

/// Looks are a matter of time: the slower a machine, the more a body has. More than one for so many
/// bytes, and they would be read after all.
pub(crate) const BYTES_A_PROBE: u64 = 512;

/// strace at work.
pub(crate) struct Trace {
    child: Child,
    file: PathBuf,
}

impl Trace {
    /// Follows all threads of a process; returns once it does.
    pub(crate) fn start(process: u32, dir: &Path) -> Self {
        let (file, said) = (dir.join("strace.out"), dir.join("strace.said"));
        let stderr = fs::File::create(&said).unwrap();
        let mut command = peer("strace", "strace");
        command.args(["-f", "-y", "-s", "0", "-p", &process.to_string(), "-o"]);
        let child = command.arg(&file).stderr(stderr).spawn().unwrap();
        until("strace", || {
            let said = fs::read_to_string(&said).unwrap();
            if said.contains("attached") {
                Ok(())
            } else {
                Err(said)
            }
        });
        Self { child, file }
    }

    /// Lets go of the process and reads what was seen.
    pub(crate) fn stop(mut self, objects: &Path) -> Account {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), Signal::SIGINT).unwrap();
        let deadline = clock::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(clock::now() < deadline, "strace does not end");
            clock::block_for(Duration::from_millis(5));
        }
        let text = fs::read_to_string(&self.file).unwrap();
        account(&text, objects.to_str().unwrap())
    }
}

impl Drop for Trace {
    /// A process that is traced by nobody's leave cannot be traced again.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It ends in between, or it is killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Adds up a trace. Objects are the files below a directory.
pub(crate) fn account(trace: &str, objects: &str) -> Account {
    let mut account = Account::default();
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    for line in trace.lines() {
        let (thread, rest) = line.split_once(' ').unwrap_or_default();
        let rest = rest.trim_start();
        // A call during which another thread's was seen stands on two lines.
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start.to_owned());
        } else if rest.starts_with("<... ") {
            let end = rest.split_once(" resumed>").map_or("", |(_, end)| end);
            let start = begun.remove(thread).unwrap_or_default();
            account.add(&(start + end), objects);
        } else {
            account.add(rest, objects);
        }
    }
    account
}

impl Account {
    fn add(&mut self, call: &str, objects: &str) {
        let Some((name, rest)) = call.split_once('(') else {
            return;
        };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else {
            return;
        };
        let result = result.split([' ', '<']).next().unwrap_or_default();
        let moved: u64 = result.parse().unwrap_or(0);
        let touches_object = arguments.contains(&format!("<{objects}/"));
        let touches_socket = ["<socket:", "<TCP", "<UNIX"]
            .iter()
            .any(|kind| arguments.contains(kind));
        match name {
            "sendfile" | "splice" if touches_object && touches_socket => self.in_kernel += moved,
            "read" | "pread64" | "readv" | "preadv" | "preadv2" if touches_object => match moved {
                1 => self.probes += 1,
                _ => self.to_user_space += moved,
            },
            "mmap" if touches_object => {
                let length = arguments.split(", ").nth(1).unwrap_or_default();
                self.to_user_space += length.parse::<u64>().unwrap_or(u64::MAX);
            }
            "write" | "writev" | "pwritev2" | "send" | "sendto" | "sendmsg" if touches_socket => {
                self.from_user_space += moved;
            }
            _ if touches_object => assert!(
                METADATA.contains(&name),
                "a call that is not accounted for touches an object: {call}"
            ),
            _ => assert!(!name.starts_with("io_uring"), "bytes move unseen: {call}"),
        }
    }
}

/// Calls with an object's descriptor that move none of its bytes.
const METADATA: &[&str] = &[
    "close",
    "fadvise64",
    "fcntl",
    "flock",
    "fstat",
    "getdents64",
    "lseek",
    "newfstatat",
    "openat",
    "openat2",
    "readahead",
    "statx",
    "cachestat",
    "syscall_0x1c3",
];

#[test]
fn a_trace_is_added_up_over_threads_and_lines() {
    let trace = "\
        7 sendfile(9<socket:[5]>, 8</d/disk1/o/ab>, [0] => [70000], 524288) = 70000\n\
        8 pread64(8</d/disk1/o/ab>,  <unfinished ...>\n\
        7 sendto(9<socket:[5]>, \"\"..., 300, MSG_MORE, NULL, 0) = 300\n\
        8 <... pread64 resumed>\"\"..., 131072, 0) = 131072\n\
        7 preadv2(8</d/disk1/o/ab>, [{\"\"..., 1}], 1, 0, RWF_NOWAIT) = 1\n\
        7 preadv2(8</d/disk1/o/ab>, [{\"\"..., 9}], 1, 0, RWF_NOWAIT) = 9\n\
        7 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 8</d/disk1/o/ab>, 0) = 0x7f0000000000\n\
        7 read(4</etc/hosts>, \"\"..., 99) = 99\n\
        7 write(5<anon_inode:[eventfd]>, \"\"..., 8) = 8\n\
        7 sendfile(9<socket:[5]>, 8</d/disk1/o/ab>, [7], 5) = -1 EAGAIN (try again)\n\
        7 close(8</d/disk1/o/ab>) = 0\n";
    let expected = Account {
        in_kernel: 70_000,
        to_user_space: 131_072 + 9 + 4096,
        probes: 1,
        from_user_space: 300,
    };
    assert_eq!(account(trace, "/d/disk1"), expected);
}

#[test]
#[should_panic(expected = "not accounted for")]
fn a_call_nobody_thought_of_is_a_failure() {
    account("7 vmsplice_file(8</d/disk1/o/ab>, 1) = 1\n", "/d/disk1");
}
