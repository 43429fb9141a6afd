//! The two that receive: this program's speaker and BIRD 2, each in a process of its own, watched
//! from outside in the same way.
//!
//! I/O: starts processes, reads /proc.

use anyhow::Context as _;
use oca::clock;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::Instant;

/// A process that used no CPU for so long is through with what it was given. Longer than anything
/// waits in between: snapshots are at most two seconds apart.
const QUIET: Duration = Duration::from_millis(2_500);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);

/// Beyond this something hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// Sessions that either of them takes.
pub(crate) const SESSIONS: u8 = 3;

/// Where the routers of the bench are.
pub(crate) fn router(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 10 + number)
}

/// A receiver as the bench sees it.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    child: Child,
    console: Console,
}

#[derive(Debug)]
enum Console {
    Ours(ChildStdin, BufReader<ChildStdout>),
    Bird(tempfile::TempDir),
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
}

impl Receiver {
    /// This very program, as `receive` runs it.
    pub(crate) fn ours(hold: u16) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--receive", &hold.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let mut output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.trim().parse().context("our receiver did not start")?;
        Ok(Self {
            address,
            child,
            console: Console::Ours(input, output),
        })
    }

    pub(crate) fn bird(hold: u16) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let config = dir.path().join("bird.conf");
        fs::write(&config, bird_config(port, hold))?;
        let child = Command::new("bird")
            .arg("-f")
            .arg("-c")
            .arg(&config)
            .arg("-s")
            .arg(dir.path().join("ctl"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("bird does not start; apt-get install bird2")?;
        let receiver = Self {
            address,
            child,
            console: Console::Bird(dir),
        };
        let begun = oca::clock::now();
        while receiver.birdc("show status").is_err() {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "BIRD does not answer");
            clock::block_for(LOOK);
        }
        // A passive protocol listens a moment later.
        clock::block_for(Duration::from_millis(500));
        Ok(receiver)
    }

    /// Routes in its tables.
    pub(crate) fn routes(&mut self) -> anyhow::Result<usize> {
        if let Console::Ours(..) = self.console {
            return Ok(self.ask("count")?.parse()?);
        }
        let text = self.birdc("show route count")?;
        let number = |line: &str| line.split_whitespace().next()?.parse::<usize>().ok();
        // `1220000 of 1220000 routes for 1220000 networks in table master4`, one line a table.
        let of = |line: &&str| line.contains(" in table ");
        let text = text.replace("1007-", "");
        Ok(text
            .lines()
            .map(str::trim)
            .filter(of)
            .filter_map(number)
            .sum())
    }

    /// One line to ours, and its answer.
    pub(crate) fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        let Console::Ours(input, output) = &mut self.console else {
            anyhow::bail!("only ours answers questions");
        };
        writeln!(input, "{question}")?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Waits until it is through, from `begun` on; how long that took, without the quiet.
    pub(crate) fn settle(&self, begun: Instant) -> anyhow::Result<Duration> {
        let (mut last, mut at) = (self.used()?.cpu, oca::clock::now());
        loop {
            clock::block_for(LOOK);
            let (cpu, now) = (self.used()?.cpu, oca::clock::now());
            // A tick now and then is a timer's.
            if cpu > last {
                (last, at) = (cpu, now);
            }
            if now - at > QUIET {
                return Ok(at - begun);
            }
            anyhow::ensure!(now - begun < PATIENCE, "it does not come to rest");
        }
    }

    pub(crate) fn used(&self) -> anyhow::Result<Used> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = fs::read_to_string(proc.join("stat"))?;
        // Behind the name, which may have anything in it: field 3 is the state.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<u64> = fields
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let ticks = fields
            .get(11)
            .zip(fields.get(12))
            .context("no times in stat")?;
        let status = fs::read_to_string(proc.join("status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kilobytes: u64 = resident.context("no VmRSS")?.trim().parse()?;
        Ok(Used {
            // USER_HZ is 100 wherever Linux runs.
            cpu: Duration::from_millis(10 * (ticks.0 + ticks.1)),
            resident_bytes: 1024 * kilobytes,
        })
    }

    fn birdc(&self, command: &str) -> anyhow::Result<String> {
        let Console::Bird(dir) = &self.console else {
            anyhow::bail!("not BIRD");
        };
        let output = Command::new("birdc")
            .arg("-s")
            .arg(dir.path().join("ctl"))
            .args(command.split(' '))
            .output()?;
        anyhow::ensure!(output.status.success(), "birdc {command} failed");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bird_config(port: u16, hold: u16) -> String {
    let mut text = "router id 192.0.2.2;\nprotocol device {}\n".to_owned();
    for number in 0..SESSIONS {
        let neighbour = router(number);
        text.push_str(&format!(
            "protocol bgp r{number} {{\n\
                 local 127.0.0.1 port {port} as 64510; strict bind yes;\n\
                 neighbor {neighbour} as 64500; passive; multihop 2; hold time {hold};\n\
                 ipv4 {{ import all; export none; }};\n\
                 ipv6 {{ import all; export none; }};\n\
             }}\n"
        ));
    }
    text
}
