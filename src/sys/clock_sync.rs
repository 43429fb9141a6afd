//! Is the system clock synchronised? Asked of the kernel, whoever disciplines it (chrony,
//! systemd-timesyncd, ntpd, PTP). Called by `appliance` for the gate's facts.
//!
//! I/O: one system call that never waits and changes nothing.

use std::io;

/// `adjtimex(2)`: false while the kernel's clock state is unsynchronised.
///
/// An error (a sandbox that filters the call) must be read as not synchronised.
pub fn is_synchronised() -> io::Result<bool> {
    // SAFETY: `timex` is plain integers, for which zero is a valid value; with `modes` zero the
    // kernel only writes into it.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers_without_privileges() {
        assert!(super::is_synchronised().is_ok());
    }
}
