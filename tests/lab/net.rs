//! Network namespaces around a switch; [`crate::counter`] reads what its ports have carried.
//!
//! Needs root, `ip`, `tc` (iproute2) and `ethtool`. Namespaces are named after this process and
//! removed with their [`Net`].
//!
//! I/O: runs `ip` and `tc`.

use crate::harness::Host;
use std::net::Ipv4Addr;
use std::process::Command;
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

    /// The namespace of the switch, which has a `port<host>` for each host.
    pub(crate) fn switch(&self) -> &str {
        &self.names[0]
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
