//! What came in over the box's interfaces and what it gave, for the history of the fill.
//!
//! I/O: reads `/proc/net/dev` and `/sys/class/net`, which never wait.

use crate::fill::Counters;
use crate::fill::CountersFn;
use crate::peer;
use crate::serve;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Counters of the kernel and of the listeners. `peer`: other boxes fetch from it.
pub(super) fn counters(serve: &serve::Handle, peer: Option<&peer::Handle>) -> CountersFn {
    let (serve, peer) = (serve.clone(), peer.cloned());
    Arc::new(move || {
        let given = peer.as_ref().map_or(0, |peer| peer.view().bytes_sent);
        Counters {
            inbound: inbound(),
            egress: serve.view().bytes_sent.saturating_add(given),
        }
    })
}

/// Nothing where it cannot be read: then the fill is all that is known to have come in.
fn inbound() -> u64 {
    let table = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let is_hardware = |name: &str| {
        Path::new("/sys/class/net")
            .join(name)
            .join("device")
            .exists()
    };
    received(&table, is_hardware)
}

/// Bonds, bridges and VLANs count what their hardware has counted; without any hardware (a network
/// namespace) all of them count but the loopback.
fn received(table: &str, is_hardware: impl Fn(&str) -> bool) -> u64 {
    let lines = table.lines().filter_map(|line| line.split_once(':'));
    let rows = lines.filter_map(|(name, counts)| {
        let bytes: u64 = counts.split_whitespace().next()?.parse().ok()?;
        Some((name.trim(), bytes))
    });
    let rows: Vec<(&str, u64)> = rows.filter(|(name, _)| *name != "lo").collect();
    let any = rows.iter().any(|(name, _)| is_hardware(name));
    let counted = rows.iter().filter(|(name, _)| !any || is_hardware(name));
    counted.fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets
    lo: 1000000    100    0    0    0     0          0         0  1000000     100
  eth0: 700 1 0 0 0 0 0 0 5 1
  eth1:  30 1 0 0 0 0 0 0 5 1
 bond0: 730 2 0 0 0 0 0 0 5 1
";

    #[test]
    fn a_bond_is_not_counted_twice_and_the_loopback_never() {
        assert_eq!(received(TABLE, |name| name.starts_with("eth")), 730);
        assert_eq!(received(TABLE, |_| false), 1_460);
        assert_eq!(received("nonsense\n: :\nx: y", |_| true), 0);
    }
}
