//! What systemd is told: ready, reloading, stopping, and that every scheduler still turns.
//!
//! Called by `appliance`. Without `$NOTIFY_SOCKET` every call is silent. The watchdog asks only
//! [`Heartbeat`]s, never a disk or the network: a dead disk must not restart the box.
//!
//! I/O: sends datagrams to the service manager, sleeps.

use crate::clock;
use crate::clock::Instant;
use crate::task::Heartbeat;
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

/// A service manager that does not read must not hold a runtime longer than this.
const SEND_TIME: Duration = Duration::from_millis(200);

/// The way to the service manager. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Arc<UnixDatagram>>);

impl Notifier {
    /// The socket of `$NOTIFY_SOCKET`; silent when there is none.
    pub fn from_env() -> io::Result<Self> {
        std::env::var_os("NOTIFY_SOCKET")
            .filter(|name| !name.is_empty())
            .map_or_else(|| Ok(Self::default()), |name| Self::to(&name))
    }

    /// A path, or `@name` in the abstract namespace.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SEND_TIME))?;
        Ok(Self(Some(Arc::new(socket))))
    }

    /// Start-up, or a reload, has ended well.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
    }

    /// A reload begins; [`Notifier::ready`] ends it, also when it was rejected. The time goes into
    /// the same message, which `Type=notify-reload` (systemd 253 and later) insists on.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(time) => self.send(&[NotifyState::Reloading, time]),
            Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
        }
    }

    /// The daemon stops, and may take this long.
    pub fn stopping(&self, most: Duration) {
        self.send(&[NotifyState::Stopping, extension(most)]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&[NotifyState::Status(&line(text))]);
    }

    /// Start-up or shutdown needs this much longer from here on; repeat while it lasts.
    pub fn extend_timeout(&self, by: Duration) {
        self.send(&[extension(by)]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.0 else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, "systemd does not take notifications");
        }
    }
}

/// The watchdog's period that systemd asks for, if it watches this process.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Feeds the watchdog at a third of its period while every scheduler turns; never returns. Spawn
/// it where it is itself one of the watched.
pub async fn watchdog(notifier: Notifier, heartbeats: Vec<Heartbeat>, period: Duration) {
    let mut were_stuck = Vec::new();
    loop {
        let stuck = stuck(clock::now(), &heartbeats);
        if stuck.is_empty() {
            notifier.send(&[NotifyState::Watchdog]);
        }
        if stuck != were_stuck {
            match stuck.as_slice() {
                [] => tracing::info!("every scheduler turns again"),
                _ => tracing::error!(?stuck, "schedulers do not turn; systemd will restart oca"),
            }
            were_stuck = stuck.into_iter().map(str::to_owned).collect();
        }
        clock::sleep(period / 3).await;
    }
}

/// Names of the schedulers that do not turn. The watchdog is fed only when there are none.
pub fn stuck(now: Instant, heartbeats: &[Heartbeat]) -> Vec<&str> {
    heartbeats
        .iter()
        .filter(|heart| !heart.is_alive(now))
        .map(Heartbeat::name)
        .collect()
}

fn extension(by: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))
}

/// A line break in a status would begin another assignment.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::heartbeat::STUCK_AFTER;

    fn manager() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        (dir, socket, notifier)
    }

    fn told(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 1024];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()))
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
    }

    #[test]
    fn systemd_hears_each_step_in_one_message_each() {
        let (_dir, socket, notifier) = manager();
        notifier.extend_timeout(Duration::from_secs(30));
        notifier.ready("serving\nWATCHDOG=trigger");
        notifier.reloading();
        notifier.stopping(Duration::from_secs(1));
        let told = told(&socket);
        assert_eq!(told[0], "EXTEND_TIMEOUT_USEC=30000000\n");
        assert_eq!(told[1], "READY=1\nSTATUS=serving WATCHDOG=trigger\n");
        let micros = told[2]
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(micros.trim_end().parse::<u64>().unwrap() > 0);
        assert_eq!(told[3], "STOPPING=1\nEXTEND_TIMEOUT_USEC=1000000\n");
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn an_abstract_socket_works_and_no_socket_is_silence() {
        let name = format!("oca-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::to(OsStr::new(&format!("@{name}")))
            .unwrap()
            .status("here");
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=here\n");
        Notifier::default().ready("nobody listens");
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_for_long() {
        let (_dir, _socket, notifier) = manager();
        let begun = clock::now();
        for _ in 0..2_000 {
            notifier.status("x");
            if clock::now() - begun > Duration::from_secs(2) {
                break;
            }
        }
        // The queue fills after a few hundred; each send after that gives up in its time.
        assert!(clock::now() - begun < Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_until_one_scheduler_stops_turning() {
        let (_dir, socket, notifier) = manager();
        let here = Heartbeat::new("control", clock::now());
        let there = Heartbeat::new("worker 0", clock::now());
        let hearts = vec![here.clone(), there.clone()];
        let beating = tokio::spawn(here.run());
        let turning = tokio::spawn(there.run());
        let period = Duration::from_secs(30);
        let fed = tokio::spawn(watchdog(notifier, hearts.clone(), period));
        for _ in 0..60 {
            clock::sleep(Duration::from_secs(1)).await;
        }
        assert!((6..=7).contains(&told(&socket).len()));
        turning.abort();
        clock::sleep(STUCK_AFTER).await;
        told(&socket);
        for _ in 0..60 {
            clock::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(told(&socket), Vec::<String>::new());
        assert_eq!(stuck(clock::now(), &hearts), ["worker 0"]);
        beating.abort();
        fed.abort();
    }
}
