//! Two network namespaces with a wire between them: a router's and a box's.
//!
//! Needs root and `ip`. Namespaces are named after this process and removed with their [`Pair`].
//!
//! I/O: runs `ip`.

use crate::harness::Host;
use crate::support;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// The other family, and the addresses that only the wire knows.
pub(crate) const ROUTER_V6: &str = "2001:db8:77::1";
pub(crate) const OURS_V6: &str = "2001:db8:77::2";
pub(crate) const ROUTER_LINK_LOCAL: &str = "fe80::1";
pub(crate) const OURS_LINK_LOCAL: &str = "fe80::2";

#[derive(Debug)]
pub(crate) struct Pair {
    name: String,
}

impl Pair {
    pub(crate) fn make() -> Self {
        // Tests of one process have wires of their own.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pair = Self {
            name: format!("ocar{}n{number}", std::process::id()),
        };
        let (router, ours) = (pair.namespace("r"), pair.namespace("o"));
        let side = |namespace: &str, v4: Ipv4Addr, v6: &str, link: &str| {
            format!(
                "ip -n {namespace} link set lo up && ip -n {namespace} link set eth0 addrgenmode \
                 none && ip -n {namespace} link set eth0 up && ip -n {namespace} addr add {v4}/24 \
                 dev eth0 && ip -n {namespace} addr add {v6}/64 dev eth0 nodad && ip -n \
                 {namespace} addr add {link}/64 dev eth0 nodad"
            )
        };
        run(&format!(
            "ip netns add {router} && ip netns add {ours} && ip link add eth0 netns {router} type \
             veth peer name eth0 netns {ours} && {} && {}",
            side(&router, ROUTER, ROUTER_V6, ROUTER_LINK_LOCAL),
            side(&ours, OURS, OURS_V6, OURS_LINK_LOCAL),
        ));
        pair
    }

    fn namespace(&self, side: &str) -> String {
        format!("{}{side}", self.name)
    }

    pub(crate) fn router(&self) -> Host {
        self.host("r", ROUTER)
    }

    pub(crate) fn ours(&self) -> Host {
        self.host("o", OURS)
    }

    fn host(&self, side: &str, address: Ipv4Addr) -> Host {
        Host {
            address,
            namespace: Some(self.namespace(side)),
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for side in ["r", "o"] {
            let _ = support::peer("ip", "iproute2")
                .args(["netns", "del", &self.namespace(side)])
                .status();
        }
    }
}

fn run(script: &str) {
    let output = support::peer("sh", "dash")
        .args(["-c", script])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}: {}; this test needs root and: apt-get install iproute2",
        String::from_utf8_lossy(&output.stderr)
    );
}
