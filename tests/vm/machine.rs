//! A kernel of its own: boots User-Mode Linux on this machine's root and collects what was said.
//!
//! [`super::guest`] gives it a [`Job`]: shell lines that run as process 1 of the guest and print
//! [`super::mark`]s. The root is the host's, read-only over hostfs, so that every program here is
//! there too; only the guest's own tmpfs can be written. Nothing needs root on the host.
//!
//! I/O: writes below a temporary directory, starts `linux.uml`, ends it by its process group.

use crate::mark;
use crate::mark::Mark;
use crate::support::peer;
use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use oca::clock;
use oca::demo::Scratch;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// The Debian package that has the kernel and, apart from it, its modules.
const PACKAGE: &str = "user-mode-linux";

/// The modules of that kernel.
const MODULES: &str = "/usr/lib/uml/modules";

/// How often it is looked whether the guest has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// On the kernel's command line, before the number of the boot.
pub(crate) const BOOT_KEY: &str = "oca.boot=";

/// Where a guest's job finds `lib/modules` for `modprobe -d`.
pub(crate) const MODULES_VARIABLE: &str = "OCA_VM_MODULES";

/// What the guest does once its file systems are mounted and loopback is up.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Shell lines. When they are through, the guest powers itself off.
    pub script: String,
    pub memory_mib: u32,
    /// Longer is a failure; the guest is killed.
    pub patience: Duration,
}

/// What became of a [`Job`].
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Of this boot, in order. The kernel always exits with 0: only marks tell.
    pub marks: Vec<Mark>,
    pub console: String,
    /// It powered itself off in time.
    pub is_complete: bool,
    pub took: Duration,
}

/// Fails, with the command that helps, if this machine cannot boot a guest.
pub(crate) fn require_peers() {
    peer("linux.uml", PACKAGE);
    peer("modprobe", "kmod");
    peer("cc", "gcc");
    assert!(
        Path::new(MODULES).is_dir(),
        "{MODULES} is missing; install it with: apt-get install {PACKAGE}"
    );
}

/// Boots, waits for the end, and leaves no process.
pub(crate) fn boot(job: &Job) -> io::Result<Outcome> {
    let scratch = Scratch::new("ov").map_err(io::Error::other)?;
    let boot = format!("{:016x}", fastrand::u64(..));
    let init = prepare(scratch.path(), job)?;
    let whole_state = compile(scratch.path())?;
    let console = scratch.path().join("console");
    let file = File::create(&console)?;
    let begun = clock::now();
    let child = peer("linux.uml", PACKAGE)
        .arg(format!("mem={}M", job.memory_mib))
        .args(["root=none", "rootfstype=hostfs", "rootflags=/", "ro"])
        .arg(format!("init={}", init.display()))
        .arg(format!("{BOOT_KEY}{boot}"))
        .args(["con0=fd:0,fd:1", "con=null", "quiet"])
        .env("LD_PRELOAD", whole_state)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()?;
    let mut guest = Guest(child);
    let is_complete = guest.ends_within(job.patience)?;
    drop(guest);
    let console = String::from_utf8_lossy(&fs::read(console)?).into_owned();
    Ok(Outcome {
        marks: mark::all(&console, &boot),
        is_complete,
        took: begun.elapsed(),
        console,
    })
}

/// What this kernel's `ptrace` needs on processors younger than it, as a library; its path.
fn compile(scratch: &Path) -> io::Result<PathBuf> {
    let library = scratch.join("xstate.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/xstate.c");
    let output = peer("cc", "gcc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}: {said}", source.display())));
    }
    Ok(library)
}

/// Writes process 1 and what it needs; returns its path.
fn prepare(scratch: &Path, job: &Job) -> io::Result<PathBuf> {
    let own = scratch.join("g");
    fs::create_dir(&own)?;
    fs::create_dir(scratch.join("lib"))?;
    symlink(MODULES, scratch.join("lib/modules"))?;
    let (scratch_text, own) = (scratch.display(), own.display());
    let script = &job.script;
    let text = format!(
        "#!/bin/sh\n\
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
         export TMPDIR='{own}' {MODULES_VARIABLE}='{scratch_text}'\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev 2>/dev/null\n\
         mount -t tmpfs tmpfs '{own}'\n\
         ip link set lo up\n\
         {script}\n\
         echo o >/proc/sysrq-trigger\n\
         sleep 60\n"
    );
    let init = scratch.join("init");
    fs::write(&init, text)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(init)
}

/// The kernel and its processes, which are processes of this machine. They go with their owner.
struct Guest(Child);

impl Guest {
    fn ends_within(&mut self, patience: Duration) -> io::Result<bool> {
        let deadline = clock::now() + patience;
        while clock::now() < deadline {
            if self.0.try_wait()?.is_some() {
                return Ok(true);
            }
            clock::block_for(LOOK_EVERY);
        }
        Ok(false)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The group is this guest's own: the kernel's helper processes are in it too.
        if let Ok(group) = i32::try_from(self.0.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// A command as somebody would type it, for the host's peers that the guest uses.
pub(crate) fn need(programs: &[(&str, &str)]) {
    for (program, package) in programs {
        let _: Command = peer(program, package);
    }
}
