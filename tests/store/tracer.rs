//! Stops another process at each system call that changes a disk: kills it there, or lets the call
//! fail.
//!
//! [`Tracee::run`] attaches to every thread of a child and counts such calls in the order in which
//! the kernel gets them, of all threads together. Used by `boundaries`. The registers are those of
//! x86-64.
//!
//! I/O: ptrace of a child of its own; blocks until that has ended.

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::ptrace::Options;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// A child has less to do than a second's work.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens at the call with a given number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed before the call is done.
    Kill,
    /// The call is not done and says this.
    Fails(i32),
}

/// How the process ended, and what it called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traced {
    pub was_killed: bool,
    pub code: Option<i32>,
    /// A fault was to be, and was.
    pub was_struck: bool,
    /// Names of the counted calls that were begun.
    pub calls: Vec<&'static str>,
}

/// A child whose threads wait for a word from here.
#[derive(Debug)]
pub(crate) struct Tracee {
    leader: Pid,
    /// Only files below it count.
    below: PathBuf,
    threads: BTreeMap<Pid, Thread>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Thread {
    is_in_call: bool,
    /// What the call that it is in is to return.
    answer: Option<i32>,
}

impl Tracee {
    /// Attaches to all threads that there are, and so to all that come.
    pub(crate) fn attach(process: u32, below: &Path) -> Self {
        let leader = Pid::from_raw(i32::try_from(process).unwrap());
        let options = Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL;
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{leader}/task")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let thread = Pid::from_raw(name.parse().unwrap());
            match ptrace::seize(thread, options) {
                Ok(()) => match ptrace::interrupt(thread) {
                    Ok(()) => {
                        threads.insert(thread, Thread::default());
                    }
                    // It has just ended.
                    Err(Errno::ESRCH) => {}
                    Err(error) => panic!("ptrace of {thread}: {error}"),
                },
                // A thread of the kernel's own for io_uring, or one that has just ended.
                Err(Errno::EPERM | Errno::ESRCH) if thread != leader => {}
                Err(error) => panic!("ptrace of {thread}: {error}; run the tests as root"),
            }
        }
        let below = below.canonicalize().unwrap();
        Self {
            leader,
            below,
            threads,
        }
    }

    /// Lets it run to its end, with a fault at the `at`th of those calls that `meets` it, the first
    /// being 1. `begin` is called once it may go on.
    pub(crate) fn run(
        mut self,
        at: Option<(usize, Fault)>,
        meets: impl Fn(&str) -> bool,
        begin: impl FnOnce(),
    ) -> Traced {
        let (mut traced, mut met) = (Traced::default(), 0);
        let mut begin = Some(begin);
        let mut waiting: BTreeSet<Pid> = self.threads.keys().copied().collect();
        let bound = Bound::new(self.leader);
        loop {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let thread = match waitpid(None, Some(flags)).unwrap() {
                WaitStatus::PtraceSyscall(thread) => {
                    if let Some(name) = self.turn(thread) {
                        traced.calls.push(name);
                        let is_one = meets(name);
                        met += usize::from(is_one);
                        if let Some((_, fault)) = at.filter(|(at, _)| is_one && *at == met) {
                            self.strike(thread, fault);
                            traced.was_struck = true;
                        }
                    }
                    Some(thread)
                }
                WaitStatus::PtraceEvent(thread, ..) => {
                    waiting.remove(&thread);
                    Some(thread)
                }
                WaitStatus::Stopped(thread, signal) => {
                    resume(thread, Some(signal));
                    continue;
                }
                WaitStatus::Exited(thread, code) => {
                    if thread == self.leader {
                        bound.end();
                        traced.code = Some(code);
                        return traced;
                    }
                    // It may have ended before it stopped.
                    waiting.remove(&thread);
                    None
                }
                WaitStatus::Signaled(thread, signal, _) => {
                    if thread == self.leader {
                        bound.end();
                        traced.was_killed = signal == Signal::SIGKILL;
                        return traced;
                    }
                    waiting.remove(&thread);
                    None
                }
                WaitStatus::Continued(_) | WaitStatus::StillAlive => continue,
            };
            if let Some(thread) = thread {
                resume(thread, None);
            }
            if waiting.is_empty()
                && let Some(begin) = begin.take()
            {
                begin();
            }
        }
    }

    /// A thread enters a call or leaves one. The name of the call, if it is one to count.
    fn turn(&mut self, thread: Pid) -> Option<&'static str> {
        let state = self.threads.entry(thread).or_default();
        state.is_in_call = !state.is_in_call;
        let is_entry = state.is_in_call;
        let mut registers = ptrace::getregs(thread).ok()?;
        if is_entry {
            return self.name(thread, &registers);
        }
        if let Some(answer) = state.answer.take() {
            registers.rax = i64::from(-answer).cast_unsigned();
            ptrace::setregs(thread, registers).unwrap();
        }
        None
    }

    fn strike(&mut self, thread: Pid, fault: Fault) {
        match fault {
            Fault::Kill => nix::sys::signal::kill(self.leader, Signal::SIGKILL).unwrap(),
            Fault::Fails(code) => {
                let mut registers = ptrace::getregs(thread).unwrap();
                // No call has this number: the kernel does nothing.
                registers.orig_rax = u64::MAX;
                ptrace::setregs(thread, registers).unwrap();
                self.threads.entry(thread).or_default().answer = Some(code);
            }
        }
    }

    /// Calls that change what is on a disk, on files below the directory where that can be told.
    fn name(&self, thread: Pid, registers: &libc::user_regs_struct) -> Option<&'static str> {
        let creates = |flags: u64| flags & u64::from(libc::O_CREAT.cast_unsigned()) != 0;
        let ours = |name| self.is_ours(registers.rdi).then_some(name);
        match i64::try_from(registers.orig_rax).ok()? {
            libc::SYS_write => ours("write"),
            libc::SYS_pwrite64 => ours("pwrite64"),
            libc::SYS_writev => ours("writev"),
            libc::SYS_pwritev => ours("pwritev"),
            libc::SYS_pwritev2 => ours("pwritev2"),
            libc::SYS_sync_file_range => ours("sync_file_range"),
            libc::SYS_syncfs => ours("syncfs"),
            // The third argument is the file that is written.
            libc::SYS_copy_file_range => {
                let is_ours = self.is_ours(registers.rdx);
                is_ours.then_some("copy_file_range")
            }
            libc::SYS_fsync => ours("fsync"),
            libc::SYS_fdatasync => ours("fdatasync"),
            libc::SYS_ftruncate => ours("ftruncate"),
            libc::SYS_fallocate => ours("fallocate"),
            libc::SYS_sync => Some("sync"),
            libc::SYS_truncate => Some("truncate"),
            libc::SYS_link => Some("link"),
            libc::SYS_linkat => Some("linkat"),
            libc::SYS_symlinkat => Some("symlinkat"),
            libc::SYS_mknodat => Some("mknodat"),
            libc::SYS_creat => Some("creat"),
            libc::SYS_rename => Some("rename"),
            libc::SYS_renameat => Some("renameat"),
            libc::SYS_renameat2 => Some("renameat2"),
            libc::SYS_mkdir => Some("mkdir"),
            libc::SYS_mkdirat => Some("mkdirat"),
            libc::SYS_unlink => Some("unlink"),
            libc::SYS_unlinkat => Some("unlinkat"),
            libc::SYS_openat => creates(registers.rdx).then_some("openat"),
            libc::SYS_openat2 => {
                // The first field of what the third argument points to.
                let how = registers.rdx as ptrace::AddressType;
                let flags = ptrace::read(thread, how).ok()?;
                creates(flags.cast_unsigned()).then_some("openat2")
            }
            // What is submitted is written.
            libc::SYS_io_uring_enter => (registers.rsi > 0).then_some("io_uring_enter"),
            _ => None,
        }
    }

    fn is_ours(&self, descriptor: u64) -> bool {
        let link = format!("/proc/{}/fd/{descriptor}", self.leader);
        // A file without a name changes nothing: the store tries in one what a disk can do, when a
        // disk's thread comes to it.
        std::fs::read_link(link).is_ok_and(|path| {
            path.starts_with(&self.below) && !path.as_os_str().as_bytes().ends_with(b" (deleted)")
        })
    }
}

/// Kills a child that does not end.
struct Bound {
    end: SyncSender<()>,
    killer: JoinHandle<bool>,
}

impl Bound {
    fn new(leader: Pid) -> Self {
        let (end, ended) = sync_channel(1);
        let killer = std::thread::spawn(move || {
            let is_late = ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            is_late && nix::sys::signal::kill(leader, Signal::SIGKILL).is_ok()
        });
        Self { end, killer }
    }

    fn end(self) {
        drop(self.end);
        let was_killed = self.killer.join().unwrap();
        assert!(!was_killed, "the child did not end within {PATIENCE:?}");
    }
}

/// One that has been killed meanwhile does not go on.
fn resume(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("ptrace of {thread}: {error}"),
    }
}
