//! The share of the cores and of the disks that a thread gets when others want them too.
//!
//! I/O: one system call that never waits.

use std::io;

/// The calling thread stands behind those of the default priority from here on: `nice` from 1 (a
/// little) to 19 (last). There is no way back without privileges.
pub fn stand_back(nice: i32) -> io::Result<()> {
    // SAFETY: takes three numbers and no memory. Linux applies it to the calling thread alone where
    // the number of the process is 0.
    let outcome = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice.clamp(1, 19)) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The last of the best-effort level: `idle` could wait for ever behind a busy disk, and would look
/// like one that hangs. ioprio_set(2).
const LAST_BEST_EFFORT: libc::c_int = (2 << 13) | 7;
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// The calling thread's reads and writes stand behind everybody's from here on, where the disk's
/// scheduler asks for that.
pub fn stand_back_at_disks() -> io::Result<()> {
    // SAFETY: takes three numbers and no memory; 0 is the calling thread.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0,
            LAST_BEST_EFFORT,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the calling thread: field 19 of its `stat` (proc(5)).
    fn nice() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(16).unwrap().to_owned()
    }

    #[test]
    fn one_thread_stands_back_and_no_other() {
        let before = nice();
        let behind = std::thread::spawn(|| {
            stand_back(10).unwrap();
            stand_back_at_disks().unwrap();
            nice()
        });
        assert_eq!(behind.join().unwrap(), "10");
        assert_eq!(nice(), before);
    }
}
