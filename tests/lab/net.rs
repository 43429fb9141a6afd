//! Network namespaces around a switch, and the counters of its ports.
//!
//! Needs root, `ip`, `tc` (iproute2) and `ethtool`. Namespaces are named after this process and
//! removed with their [`Net`].
//!
//! I/O: runs `ip` and `tc`, reads counters from a child process.

use crate::harness::Host;
use crate::harness::PATIENCE;
use crate::harness::until;
use std::io::BufRead as _;
use std::io::BufReader;
use std::net::Ipv4Addr;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// A switch and hosts around it, each in a namespace.
#[derive(Debug)]
pub(crate) struct Net {
    names: Vec<String>,
}

impl Net {
    /// Host `n` has 10.77.0.(n + 1); the link to each is shaped to 2 Gbit/s, and no packet is
    /// larger than the wire's, so that counters count what a real interface would. The receiving
    /// side puts segments together as every network card's driver does (GRO), behind the counters.
    /// A test at 1.2 Gbit/s wants frames of 9,000 bytes: with 1,500 it would measure the two cores
    /// that carry every host's packets, one by one.
    pub(crate) fn make(hosts: usize, frame_bytes: u32) -> Self {
        // Tests of one process have networks of their own.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = format!("oca{}n{number}", std::process::id());
        let mut net = Self { names: Vec::new() };
        net.add(&format!("{base}s"));
        // A switch that shows each frame to a firewall costs as much as all the rest.
        net.inside(
            0,
            "for hook in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $hook ] || echo 0 > \
             $hook; done; ip link add br0 type bridge && ip link set br0 up && ip link set lo up",
        );
        for host in 0..hosts {
            net.add(&format!("{base}h{host}"));
            let (own, switch) = (&net.names[host + 1], &net.names[0]);
            run(&format!(
                "ip link add eth0 netns {own} type veth peer name port{host} netns {switch}"
            ));
            net.inside(
                host + 1,
                &format!(
                    "ip link set lo up && ip link set eth0 mtu {frame_bytes} gso_max_segs 1 && \
                     ethtool -K eth0 gro on && ip link set eth0 up && ip addr add \
                     10.77.0.{address}/24 dev eth0 && ip route replace 10.77.0.0/24 dev eth0 \
                     congctl cubic",
                    address = host + 1
                ),
            );
            net.inside(
                0,
                &format!(
                    "ip link set port{host} mtu {frame_bytes} gso_max_segs 1 master br0 up && tc \
                     qdisc add dev port{host} root tbf rate 2gbit burst 4mb latency 20ms"
                ),
            );
        }
        net
    }

    fn add(&mut self, name: &str) {
        run(&format!("ip netns add {name}"));
        self.names.push(name.to_owned());
    }

    fn inside(&self, index: usize, script: &str) {
        run(&format!(
            "ip netns exec {} sh -c '{script}'",
            self.names[index]
        ));
    }

    pub(crate) fn host(&self, number: usize) -> Host {
        Host {
            address: Ipv4Addr::new(10, 77, 0, u8::try_from(number + 1).unwrap()),
            namespace: Some(self.names[number + 1].clone()),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}; this test needs root and: apt-get install iproute2 ethtool",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Reads what the switch's port has sent to a host, some three hundred times a second: a burst that
/// is a tenth of the bound is not hidden by the silence before it.
#[derive(Debug)]
pub(crate) struct Counter {
    child: Child,
    samples: Arc<Mutex<Vec<Sample>>>,
}

/// Bytes so far, read at some moment between the two: a busy machine comes late, and says so.
#[derive(Clone, Copy, Debug)]
struct Sample {
    from: f64,
    bytes: f64,
    to: f64,
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        // Locales differ in the decimal point of the shell's clock.
        let mut fields = line.split(' ').map(|field| field.replace(',', ".").parse());
        let mut field = || fields.next()?.ok();
        Some(Self {
            from: field()?,
            bytes: field()?,
            to: field()?,
        })
    }
}

impl Counter {
    pub(crate) fn start(net: &Net, host: usize) -> Self {
        let file = format!("/sys/class/net/port{host}/statistics/tx_bytes");
        // Waits for what a pipe of its own never says: no process is started for it.
        let script = format!(
            "exec {{pipe}}<> <(:); while from=$EPOCHREALTIME && read bytes < {file}; do echo $from \
             $bytes $EPOCHREALTIME; read -t 0.003 -u $pipe; done"
        );
        let mut child = Command::new("ip")
            .args(["netns", "exec", &net.names[0], "bash", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let (kept, lines) = (
            Arc::clone(&samples),
            BufReader::new(child.stdout.take().unwrap()),
        );
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let (Some(sample), Ok(mut kept)) = (Sample::parse(&line), kept.lock()) {
                    kept.push(sample);
                }
            }
        });
        let counter = Self { child, samples };
        let some = || counter.samples.lock().unwrap().len();
        until("the interface's counters", PATIENCE, some, |count| {
            *count > 2
        });
        counter
    }

    /// The most bytes that any interval has carried, of whatever length, beyond `rate` times its
    /// length; and when that interval began and ended, in seconds after the first sample.
    pub(crate) fn excess(&self, rate: f64) -> (f64, f64, f64) {
        let samples = self.samples.lock().unwrap();
        let start = samples[0].from;
        let above = |sample: &Sample, at: f64| sample.bytes - rate * (at - start);
        let (mut worst, mut lowest) = ((0.0, 0.0, 0.0), samples[0]);
        for sample in samples.iter() {
            let excess = above(sample, sample.to) - above(&lowest, lowest.from);
            if excess > worst.0 {
                worst = (excess, lowest.from - start, sample.to - start);
            }
            if above(sample, sample.from) < above(&lowest, lowest.from) {
                lowest = *sample;
            }
        }
        worst
    }

    /// The longest time, in seconds, about which the samples do not tell.
    pub(crate) fn gap(&self) -> f64 {
        let samples = self.samples.lock().unwrap();
        let pairs = samples.windows(2);
        let gaps = pairs.map(|pair| pair[1].to - pair[0].from);
        gaps.fold(0.0, f64::max)
    }

    pub(crate) fn total(&self) -> f64 {
        let samples = self.samples.lock().unwrap();
        samples.last().map_or(0.0, |sample| sample.bytes)
    }

    /// Bytes of the worst second, and bytes a second between the first and the last tenth of what
    /// was carried: ramps at either end are not the full rate.
    pub(crate) fn judge(&self) -> (f64, f64) {
        let samples = self.samples.lock().unwrap();
        let mut worst: f64 = 0.0;
        let mut end = 0;
        for sample in samples.iter() {
            while end + 1 < samples.len() && samples[end + 1].to - sample.from <= 1.0 {
                end += 1;
            }
            let last = samples[end.max(1)];
            // A sample that came late is judged by its own length.
            let length = (last.to - sample.from).max(1.0);
            worst = worst.max((last.bytes - sample.bytes) / length);
        }
        let first = samples[0].bytes;
        let all = samples.last().unwrap().bytes - first;
        let at = |share: f64| {
            let level = first + all * share;
            *samples.iter().find(|one| one.bytes >= level).unwrap()
        };
        let (first, last) = (at(0.1), at(0.9));
        (worst, (last.bytes - first.bytes) / (last.to - first.from))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
